"""The daily work on the box, and what is said when the line breaks in the middle of it."""

import json
import os
import re
import shutil
import subprocess
import sys
import time

import pytest

from ops.box import access, facts, file_sync, remote_jobs, training
from ops.core import ssh
from ops.core.errors import OpsError
from ops.core.paths import ROOT
from ops.datasets import manifest
from ops.jobs import spec
from tests.conftest import HOME, until


@pytest.fixture(scope="module")
def cli(make_stack):
    made = make_stack("daily")
    made("iam.apply", "net.up", "ec2.up", "data.up")
    return made


def ident(cli):
    return facts.read(cli.account).instance_id


def connection(cli):
    return access.open_box_connection(cli.account, facts.read(cli.account))


def test_fetch_copies_files_and_overwrites_nothing(cli, tmp_path):
    """A file and a folder are fetched; nothing that is here already is overwritten."""
    cli(
        "ec2.run",
        "mkdir -p 'a folder/deep' && echo one > 'a folder/deep/1' && ln -s deep/1 'a folder/link' && echo two > 2",
    )
    assert cli("ec2.fetch", "a folder", "--to", str(tmp_path)).out.startswith(str(tmp_path / "a folder"))
    assert (tmp_path / "a folder" / "deep" / "1").read_text() == "one\n"
    assert (tmp_path / "a folder" / "link").read_text() == "one\n"
    cli("ec2.fetch", "./2", "--to", str(tmp_path))
    assert (tmp_path / "2").read_text() == "two\n"
    again = cli("ec2.fetch", "2", "--to", str(tmp_path), ok=False)
    assert "already exists. Nothing was downloaded" in again.err
    assert "There is no nothing on the box" in cli("ec2.fetch", "nothing", "--to", str(tmp_path), ok=False).err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["2", "a folder"]
    assert "would download" in cli("--dry", "ec2.fetch", "3", "--to", str(tmp_path)).err


def test_fetch_rejects_a_link_out_of_the_folder(cli, tmp_path):
    cli("ec2.run", "mkdir -p bad && ln -sf /etc/passwd bad/out")
    refused = cli("ec2.fetch", "bad", "--to", str(tmp_path), ok=False)
    assert refused.code == 1
    assert "leads out of" in refused.err
    assert [*tmp_path.iterdir()] == []


SOCKETS = """
import os, socket, sys
os.chdir(sys.argv[1])
for name in ("agent.sock", "a/tb.sock", "z/q.sock"):
    socket.socket(socket.AF_UNIX).bind(name)
os.mkfifo("a/queue")
"""


def root_of(cli):
    """The folder that the box sees as /."""
    return HOME / "sandbox" / "boxes" / ident(cli)


def home_of(cli):
    return root_of(cli) / "home" / cli.settings.ec2.user


def make_folder(cli, name):
    folder = home_of(cli) / name
    for part in ("a", "z"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    return folder


def plant_job(cli, name, **status):
    """Write a job's files as the box's runner does, and make it the newest."""
    folder = home_of(cli) / "kennel" / "jobs" / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "status.json").write_text(json.dumps({"pid": 0, **status}))
    (folder / "log").write_text("epoch 1\n")
    newest = folder.parent / "newest"
    newest.unlink(missing_ok=True)
    newest.symlink_to(name)
    return folder


def test_fetch_brings_every_file_and_names_sockets(cli, tmp_path):
    """What has no content is left out and named; nothing else is lost, and the size printed is the size that came."""
    folder = make_folder(cli, "run")
    for number in range(60):
        (folder / "az"[number % 2] / f"{number}.bin").write_bytes(os.urandom(20_000))
    subprocess.run([sys.executable, "-c", SOCKETS, folder], check=True)
    fetched = cli("ec2.fetch", "run", "--to", str(tmp_path))
    arrived = {path.relative_to(tmp_path): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert arrived == {path.relative_to(folder.parent): path.read_bytes() for path in folder.rglob("*.bin")}
    first, second = fetched.out.splitlines()
    assert first == f"{tmp_path / 'run'}: 60 files, 1.2 MB"
    assert set(second.removeprefix("Left out, because they have no content: ").split(", ")) == {
        "run/agent.sock (socket)",
        "run/a/tb.sock (socket)",
        "run/z/q.sock (socket)",
        "run/a/queue (fifo)",
    }
    alone = cli("ec2.fetch", "run/agent.sock", "--to", str(tmp_path), ok=False)
    assert "run/agent.sock on the box is a socket, which has no content to download" in alone.err


@pytest.mark.parametrize(
    ("tar", "words"),
    [
        ('exec /bin/tar --exclude=2.bin "$@"', "2.bin"),
        ('/bin/tar "$@" | head -c 40000', "is not a whole archive"),
        ("echo 'tar: x: file changed as we read it' >&2; exit 1", "Copy what a job still writes"),
    ],
    ids=["lost", "cut", "changed"],
)
def test_fetch_keeps_nothing_of_a_bad_archive(cli, tmp_path, tar, words):
    folder = make_folder(cli, "part")
    for number in range(3):
        (folder / f"{number}.bin").write_bytes(os.urandom(20_000))
    program = root_of(cli) / "bin" / "tar"
    program.write_text(f"#!/bin/sh\n{tar}\n")
    program.chmod(0o755)
    try:
        refused = cli("ec2.fetch", "part", "--to", str(tmp_path), ok=False)
    finally:
        program.unlink()
    assert refused.code == 1
    assert words in refused.err
    assert "Nothing was downloaded" in refused.err
    assert [*tmp_path.iterdir()] == []


def test_run_says_why_it_waits(cli):
    ran = cli("ec2.run", "echo begun; sleep 6 &")
    assert ran.out == "begun\n"
    assert "a program that it started still writes to this terminal" in ran.err
    assert "nohup PROGRAM > FILE" in ran.err
    assert cli("ec2.run", "sleep 6 > /dev/null 2>&1 < /dev/null &").err == ""


@pytest.mark.parametrize(
    ("command", "begun", "left"),
    [
        (["ec2.run", "echo begun; sleep 30"], "begun", "The command may have ended or may still run"),
        (["ec2.fetch", "big"], "Fetching big", "The partial download was deleted"),
        (["ec2.sync"], "Sending the code", "Complete files on the box are kept"),
    ],
    ids=["run", "fetch", "sync"],
)
def test_broken_connection_reports_what_was_left(cli, inject_fault, tmp_path, pictures, command, begun, left):
    if command == ["ec2.fetch", "big"]:
        cli("ec2.run", "truncate -s 3G big")  # a fast machine has fetched 400 MB before anything is cut
        command = [*command, "--to", str(tmp_path / "here")]
    if command == ["ec2.sync"]:
        cli("data.push", "--dir", str(pictures))
        cli(
            "ec2.run",
            "mkdir -p bin && printf '#!/bin/sh\\nsleep 20\\n' > $BOX_ROOT/bin/tar && chmod +x $BOX_ROOT/bin/tar",
        )
    running = cli.background(*command)
    until(running, begun)
    time.sleep(0.3)  # both streams have a part of what they carry
    inject_fault("box", instance=ident(cli), cut=True)
    said, _ = running.communicate(timeout=60)
    assert running.returncode == 1, said
    assert "The connection to the box was lost" in said
    assert left in said
    assert "Traceback" not in said
    assert not (tmp_path / "here").exists() or [*(tmp_path / "here").iterdir()] == []
    cli("ec2.run", "rm -f $BOX_ROOT/bin/tar big")


def test_sync_sends_code_once_and_data_through_the_bucket(cli, pictures):
    cli("data.push", "--dir", str(pictures))
    first = cli("ec2.sync")
    assert "was sent; its SHA-256 is verified. 6 shards of the data set are on the box, checked by SHA-256" in first.out
    second = cli("ec2.sync")
    assert "was already there; its SHA-256 is verified" in second.out
    assert "; 0 were downloaded" in second.out
    assert "Sending" not in second.err


def test_sync_repairs_files_lost_on_the_disk(cli, pictures):
    """Not what a note says counts, but what is on the disk."""
    cli("data.push", "--dir", str(pictures))
    cli("ec2.sync")
    shard = manifest.read_current(cli.account).shards[0].sha256
    cli("ec2.run", f"printf x >> kennel/shards/{shard}.tar; printf x >> kennel/code/*/train.py")
    again = cli("ec2.sync")
    assert "was sent; its SHA-256 is verified" in again.out
    assert "; 1 were downloaded" in again.out


def test_corrupt_shard_is_not_copied_to_the_box(cli, pictures):
    cli("data.push", "--dir", str(pictures))
    shard = manifest.read_current(cli.account).shards[0].sha256
    key = f"shards/{shard}.tar"
    s3, bucket = cli.account.client("s3"), cli.settings.bucket
    whole = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
    cli("ec2.run", f"rm -f kennel/{key}")
    s3.put_object(Bucket=bucket, Key=key, Body=b"corrupt")
    refused = cli("ec2.sync", ok=False)
    s3.put_object(Bucket=bucket, Key=key, Body=whole)
    assert "is missing or corrupt. Run: invoke data.verify" in refused.err
    assert cli("ec2.run", f"ls kennel/{key}", ok=False).code != 0


def test_interrupted_upload_keeps_the_complete_files(cli, tmp_path, monkeypatch):
    """Files that are still arriving never replace complete ones."""
    folder = tmp_path / "folder"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "a").write_text("one")
    with connection(cli) as link:
        assert file_sync.send_files(link, file_sync.build_file_set(folder), "kept", "a folder")
        assert not file_sync.send_files(link, file_sync.build_file_set(folder), "kept", "a folder")
        (folder / "sub" / "a").write_text("two")
        with monkeypatch.context() as torn:  # what arrives is not what was promised
            torn.setattr(file_sync, "format_sum_line", lambda name, data: f"{'0' * 64}  {name}\n")
            with pytest.raises(OpsError, match=r"(?s)Cannot install a folder on the box.*What was there is unchanged"):
                file_sync.send_files(link, file_sync.build_file_set(folder), "kept", "a folder")
        assert ssh.run(link, "cat kept/sub/a") == "one"
        assert file_sync.send_files(link, file_sync.build_file_set(folder), "kept", "a folder")
        assert ssh.run(link, "cat kept/sub/a; ls").startswith("two")


def test_disk_names_the_file_that_fills_it(cli, inject_fault):
    """A file outside Kennel's folder: ec2.clean does not help, and is not the advice."""
    cli("ec2.run", "mkdir -p results && fallocate -l 300M results/core.bin")
    inject_fault("box", instance=ident(cli), disk_mib=400)
    try:
        found = cli("ec2.disk", ok=False)
        refused = cli("ec2.sync", ok=False)
    finally:
        inject_fault("box", instance=ident(cli), disk_mib=100 << 10)
        cli("ec2.run", "rm -r results")
    assert found.code == 7
    rows = {line.split("  ")[0]: float(line.split()[-1]) for line in found.out.splitlines() if line[-1].isdigit()}
    assert rows["results/core.bin"] == 0.315
    assert 0.31 < rows["outside kennel"] < 0.33
    assert "Next: copy what you need of the paths below" in found.out
    assert refused.err.splitlines()[-1].startswith("The box could not fetch the dataset: No space left on device")
    assert refused.err.rstrip().endswith("invoke ec2.disk shows with what. See runbooks/box-disk-full.md")


def test_clean_lists_asks_and_keeps_what_is_needed(cli, pictures):
    cli("data.push", "--dir", str(pictures))
    cli("ec2.sync")
    cli(
        "ec2.run",
        "cd kennel && rm -rf code/*.part && mkdir -p jobs/old/opt-ml code/older && echo log > jobs/old/log && echo x > shards/gone.tar && touch -d 2020-01-01 code/older",
    )
    dry = cli("--dry", "ec2.clean")
    assert {line.split()[1] for line in dry.err.splitlines() if line.startswith("~")} == {
        "jobs/old/opt-ml",
        "shards/gone.tar",
        "code/older",
    }
    assert "Cannot ask for confirmation without a terminal" in cli("ec2.clean", ok=False).err
    assert "were deleted" in cli("ec2.clean", "--yes").out
    left = cli("ec2.run", "cd kennel && ls jobs/old shards code | sort").out.split()
    assert "log" in left
    assert "opt-ml" not in left
    assert "gone.tar" not in left
    assert len([name for name in left if name.endswith(".tar")]) == 6
    cli("ec2.run", "setsid -f flock -x kennel/trainer.lock sleep 6 > /dev/null 2>&1 < /dev/null; sleep 0.5")
    assert "A job is training on the box" in cli("ec2.clean", "--yes", ok=False).err


def test_disk_prints_json(cli):
    found = json.loads(cli("ec2.disk", "--json").out)
    assert found["total_gb"] == pytest.approx(107.4, abs=0.1)
    assert found["full"] is False


def test_progress_is_a_bar_on_a_tty_and_a_line_in_logs(tmp_path):
    """In a terminal of its own: the bar is drawn, and gone when it is done."""
    code = "from ops.core.output import show_progress\nwith show_progress('Sending', 1000) as advance:\n    advance(500)\n    import time; time.sleep(0.3)\n"
    plain = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert plain.stderr == "Sending: 0.0 MB ...\n"
    leader, follower = os.openpty()
    drawn = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stderr=follower)
    os.close(follower)
    said = b""
    while True:
        try:
            piece = os.read(leader, 4096)
        except OSError:
            break
        if not piece:
            break
        said += piece
    assert drawn.wait() == 0
    assert b"500/1000" in said.replace(b" ", b"").replace(b"bytes", b"") or "━".encode() in said


def test_job_folders_are_below_the_home(cli):
    assert remote_jobs.locate_folders(cli.settings).job("j") == "kennel/jobs/j"


def test_logs_come_from_the_bucket_while_cut_off(cli, inject_fault):
    """What a running job reported last can be read while the box cannot be reached."""
    name = "kennel-daily-box1-faraway"
    for file, text in (("status.json", '{"state": "Training", "pid": 7}'), ("log", "epoch 1\nepoch 2\n")):
        cli.account.bucket.put(f"jobs/{name}/output/{file}", text.encode())
    assert cli("ec2.logs", "--job", name).out == "epoch 1\nepoch 2\n"  # of a box before this one
    inject_fault("box", instance=ident(cli), partition=True)
    try:
        logs, listed, reached = cli("ec2.logs", "--lines", "1"), cli("ec2.ps"), cli("ec2.reach", ok=False)
        attached, stopped = cli("ec2.attach", ok=False), cli("ec2.stop", ok=False)
    finally:
        inject_fault("box", instance=ident(cli), partition=False)
    assert logs.out == "epoch 2\n"
    assert re.search(
        rf"This log is from the bucket. {name}: Training at 2\d\d\d-.* UTC, when it last reported", logs.err
    )
    assert re.search(rf"{name} +Training +at 2\d\d\d-.* UTC", listed.out)
    assert "The box cannot be reached; these jobs are in the bucket." in listed.out
    assert "timed out. Next: wait 5 minutes, then invoke ec2.reach" in reached.out
    assert "A running job trains on until then; its log: invoke ec2.logs" in reached.out
    assert reached.out.index("wait 5 minutes") < reached.out.index("invoke ec2.stop")
    assert "A running job trains on; its log is in the bucket: invoke ec2.logs" in attached.err
    assert "Could not check for a running job: The tunnel was refused (504)" in stopped.err
    assert "Cannot ask for confirmation without a terminal; pass --yes" in stopped.err


@pytest.fixture
def talkative(cli):
    """A login whose shell prints a line on both streams before each command, as a ~/.bashrc may."""
    shell = root_of(cli) / "bin" / "bash"
    shell.write_text('#!/bin/sh\necho Welcome. Disk 12% full.; echo Be careful. >&2\nexec /bin/bash "$@"\n')
    shell.chmod(0o755)
    yield shell
    shell.unlink()


def test_a_login_that_prints_changes_no_answer(cli, talkative, pictures, tmp_path):
    cli("data.push", "--dir", str(pictures))
    cli("ec2.sync")
    assert "was already there" in cli("ec2.sync").out
    job = plant_job(cli, "kennel-daily-box1-spoken", state="Completed", artefact="s3://b/k")
    assert [one["state"] for one in json.loads(cli("ec2.ps", "--json").out) if one["job"] == job.name] == ["Completed"]
    assert json.loads(cli("ec2.status", "--json").out)["newest_job"] == job.name
    assert cli("ec2.logs").out == "epoch 1\n"
    assert cli("ec2.attach").out == f"{job.name}: Completed: s3://b/k\n"
    assert json.loads(cli("ec2.disk", "--json").out)["full"] is False
    cli("ec2.fetch", f"kennel/jobs/{job.name}/log", "--to", str(tmp_path))
    assert (tmp_path / "log").read_text() == "epoch 1\n"
    assert cli("ec2.clean", "--yes").code == 0
    assert cli("ec2.reach").code == 0


def test_train_joins_under_a_login_that_prints(cli, talkative, pictures):
    """It must not start a second job beside the running one."""
    cli("data.push", "--dir", str(pictures))
    job = spec.build_spec_from_settings(cli.account, "box")
    folder = plant_job(cli, job.name, state="Training", pid=os.getpid())
    try:
        assert training.start_or_join(cli.account, facts.read(cli.account), job, again=False) == job.name
    finally:
        (folder.parent / "newest").unlink()
        shutil.rmtree(folder)


def test_a_login_that_ends_is_named(cli, talkative):
    talkative.write_text("#!/bin/sh\necho This account is closed.\nexit 1\n")
    said = cli("ec2.ps", ok=False)
    assert said.code == 1
    assert "The login on the box prints 'This account is closed.' and ends with exit code 1" in said.err
    assert "~/.bashrc" in said.err
    reached = cli("ec2.reach", ok=False)
    assert "The path fails at login" in reached.out
    assert "ec2.stop" not in reached.out

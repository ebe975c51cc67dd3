"""The daily work on the box, and what is said when the line breaks in the middle of it."""

import json
import os
import subprocess
import sys
import time

import pytest

from ops.box import access, facts, file_sync, remote_jobs
from ops.core import ssh
from ops.core.errors import OpsError
from ops.core.paths import ROOT
from ops.datasets import manifest


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


@pytest.mark.parametrize(
    ("command", "left"),
    [
        (["ec2.run", "echo begun; sleep 30"], "The command may have ended or may still run"),
        (["ec2.fetch", "big"], "The partial download was deleted"),
        (["ec2.sync"], "Complete files on the box are kept"),
    ],
    ids=["run", "fetch", "sync"],
)
def test_broken_connection_reports_what_was_left(cli, inject_fault, tmp_path, pictures, command, left):
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
    time.sleep(2.5)
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
    assert "Nobody is here to agree" in cli("ec2.clean", ok=False).err
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

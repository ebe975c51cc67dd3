"""What went wrong once, or was made to go wrong: each case is one that an operator may meet at 3 a.m."""

import json
import os
import re
import shutil
import subprocess
import sys

import pytest

from ops.box import facts
from ops.core.paths import ROOT
from tests.conftest import until


def ident(cli):
    return facts.read(cli.account).instance_id


def boxes(cli):
    found = [i for r in cli.account.list_tagged("describe_instances", "Reservations") for i in r["Instances"]]
    return [i["InstanceId"] for i in found if i["State"]["Name"] != "terminated"]


@pytest.fixture(scope="module")
def cli(make_stack, pictures_once):
    made = make_stack("failures", "train: {epochs: 40, batch: 4, pixels: 16}\n")
    made("iam.apply", "net.up", "ec2.up", "data.up")
    made("data.push", "--dir", str(pictures_once))
    return made


@pytest.fixture(scope="module")
def pictures_once(tmp_path_factory):
    from bench.resume import write_noise_pictures

    return write_noise_pictures(tmp_path_factory.mktemp("noise"))


def test_up_after_down_starts_another_box(make_stack):
    cli = make_stack("updown")
    cli("iam.apply", "net.up", "ec2.up")
    first = ident(cli)
    cli("ec2.down", "--yes")
    cli("ec2.up")
    assert ident(cli) != first
    # It was terminated in the console: its launch token is spent, and its alarm watches nothing.
    cli.account.client("ec2").terminate_instances(InstanceIds=[ident(cli)])
    again = cli("ec2.up")
    assert "delete_key_pair: delete the old box's key pair" in again.err
    assert len(boxes(cli)) == 1
    assert "0 made" in cli("ec2.up").out


def test_two_operators_at_once_start_one_box(make_stack, tmp_path):
    """Each with keys and notes of their own."""
    cli = make_stack("twoups")
    cli("iam.apply", "net.up")
    argv = [sys.executable, "-m", "invoke", "-f", str(cli.file), "ec2.up"]
    running = [
        subprocess.Popen(
            argv, cwd=ROOT, env=os.environ | {"KENNEL_WORK": str(tmp_path / name)}, stderr=subprocess.PIPE, text=True
        )
        for name in ("ana", "ben")
    ]
    said = [(process.communicate(timeout=90)[1], process.returncode) for process in running]
    assert sorted(code for _, code in said) in ([0, 0], [0, 1]), said
    assert all(code == 0 or "Another operator is launching the box right now" in text for text, code in said), said
    assert len(boxes(cli)) == 1
    for name in ("ana", "ben"):  # and both get in, whichever of them started it
        assert cli.typed("ec2.run", "echo in", env={"KENNEL_WORK": str(tmp_path / name)}).out == "in\n"
    # After a stop and a start the console has other words on it, and a third operator still learns the host's key.
    cli("ec2.stop")
    cli("ec2.start")
    assert cli.typed("ec2.run", "echo in", env={"KENNEL_WORK": str(tmp_path / "cem")}).out == "in\n"


def test_several_boxes_are_named_and_deleted(make_stack):
    cli = make_stack("severalbox")
    cli("iam.apply", "net.up", "ec2.up")
    ec2, (first,) = cli.account.client("ec2"), boxes(cli)
    tags = [{"ResourceType": "instance", "Tags": cli.settings.tags("kennel-severalbox-box")}]
    box = facts.read(cli.account).box
    ec2.run_instances(
        ImageId=box["ImageId"],
        InstanceType="g4dn.xlarge",
        MinCount=1,
        MaxCount=1,
        SubnetId=box["SubnetId"],
        TagSpecifications=tags,
    )
    refused = cli("ec2.status", ok=False)
    assert "This stack has 2 boxes, and should have one" in refused.err
    assert "Terminate all: invoke ec2.down" in refused.err
    assert first in cli("ec2.down", ok=False).err  # asks, and names them
    cli("ec2.down", "--yes")
    assert boxes(cli) == []
    cli("net.down", "--yes")


def test_orphaned_spot_request_is_found_and_cancelled(make_stack):
    cli = make_stack("orphan")
    cli("iam.apply", "net.up")
    cli("ec2.up", "--spot")
    cli.account.client("ec2").terminate_instances(InstanceIds=[ident(cli)])
    assert facts.read(cli.account).spot_requests
    down = cli("ec2.down", "--yes")
    assert "cancel_spot_instance_requests" in down.err
    assert facts.read(cli.account).spot_requests == ()


@pytest.mark.timeout(240)
def test_two_trains_at_once_follow_one_job(cli):
    both = [cli.background("ec2.train", "--again") for _ in range(2)]
    said = ["".join(until(process, "epoch 2/")) for process in both]
    names = {
        re.search(r"Starting (kennel-failures-box1-[\w-]+);", text)[1] for text in said if "Starting kennel" in text
    }
    jobs = json.loads(cli("ec2.ps", "--json").out)
    assert [job["state"] for job in jobs if job["alive"]] == ["Training"]
    assert len(names) <= 2
    newest = next(job["job"] for job in jobs if job["alive"])
    cli("ec2.stop", "--yes")
    for process in both:
        process.communicate(timeout=60)
    cli("ec2.start")
    states = {job["job"]: job["state"] for job in json.loads(cli("ec2.ps", "--json").out)}
    assert states[newest] == "Stopped"


@pytest.mark.timeout(300)
def test_stop_works_although_a_job_hangs(cli, monkeypatch):
    """A job that hangs does not keep the box from being stopped."""
    training = cli.background("ec2.train", "--again")
    until(training, "epoch 2/")
    cli("ec2.run", "pkill -STOP -f '[b]oxside.box_runner .*/kennel-failures-box'")
    code = "from ops.box import remote_jobs; remote_jobs.GRACE_S = 3\nfrom invoke.main import program; program.run()"
    argv = [sys.executable, "-c", code, "-f", str(cli.file), "ec2.stop", "--yes"]
    stopped = subprocess.run(
        argv, cwd=ROOT, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=90, check=False
    )
    assert stopped.returncode == 0, stopped.stderr
    assert "has not ended after" in stopped.stderr
    assert facts.read(cli.account).state == "stopped"
    training.communicate(timeout=60)
    cli("ec2.start")


def test_unreadable_job_status_is_reported_as_unknown(cli):
    """A job's status that cannot be read is reported and stops no command."""
    cli(
        "ec2.run",
        "mkdir -p kennel/jobs/torn && printf '{\"sta' > kennel/jobs/torn/status.json && ln -sfn torn kennel/jobs/newest",
    )
    assert {"job": "torn", "state": "Unknown"}.items() <= json.loads(cli("ec2.ps", "--json").out)[0].items()
    attached = cli("ec2.attach", ok=False)
    assert "torn unknown: its status.json cannot be read" in attached.err
    assert "Traceback" not in attached.err
    assert "is stopped" in cli("ec2.stop", "--yes").out
    cli("ec2.start")


def test_local_errors_are_not_blamed_on_the_connection(cli):
    full = subprocess.run(
        f"{sys.executable} -m invoke -f {cli.file} ec2.run 'echo hi' > /dev/full", shell=True, cwd=ROOT, capture_output=True, text=True, check=False
    )  # fmt: skip
    assert full.returncode == 1
    assert "A disk of this machine is full" in full.stderr
    head = subprocess.run(
        f"{sys.executable} -m invoke -f {cli.file} ec2.run yes | head -n 1", shell=True, cwd=ROOT, capture_output=True, text=True, check=False
    )  # fmt: skip
    assert head.stdout == "y\n"
    assert head.stderr == ""


def test_known_hosts_that_are_not_text_are_reported(cli, tmp_path):
    work = {"KENNEL_WORK": str(tmp_path)}
    cli.typed("ec2.run", "true", env=work)
    known = tmp_path / "ssh" / "known_hosts"
    known.write_bytes(b"\xff\xfe\n  \n" + known.read_bytes())
    ran = cli.typed("ec2.run", "echo in", env=work, ok=False)
    assert "Traceback" not in ran.err
    assert ran.out == "in\n" or "Cannot read" in ran.err


def test_dry_launch_writes_no_local_file(make_stack, tmp_path):
    """Nothing but the session of the role, which the next command uses too."""
    cli = make_stack("drykeys")
    cli("iam.apply", "net.up")
    cli.typed("--dry", "ec2.up", env={"KENNEL_WORK": str(tmp_path / "new")})
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["sessions"]


def test_lock_replaces_a_withdrawn_image(make_stack):
    cli = make_stack("withdrawn", "ec2:\n  ami: ami-0deadbeefdeadbeef\n")
    assert "Pin the newest: invoke ec2.ami --lock" in cli("ec2.ami", ok=False).err
    cli("ec2.ami", "--lock")
    assert cli.settings.ec2.ami == "ami-0f0e0d0c0b0a09080"


def test_ssh_config_keeps_settings_of_the_environment(cli, tmp_path):
    block = cli("ec2.ssh-config", env={"INVOKE_EC2_DISK_GIB": "91"}).out
    assert f"KENNEL_WORK={os.environ['KENNEL_WORK']}" in block
    assert "INVOKE_EC2_DISK_GIB=91" in block
    if not shutil.which("ssh"):
        pytest.skip("OpenSSH's client is not installed")
    (tmp_path / "config").write_text(block)
    bare = {name: value for name, value in os.environ.items() if name != "KENNEL_WORK"}
    argv = ["ssh", "-F", str(tmp_path / "config"), "kennel-failures-box", "echo in"]
    ran = subprocess.run(argv, cwd=tmp_path, env=bare, capture_output=True, text=True, timeout=60, check=False)
    assert ran.stdout == "in\n", ran.stderr


def test_zones_can_be_reordered_and_added(make_stack):
    cli = make_stack("zones")
    cli("net.up")
    more = type(cli)(cli.file.with_name("zonesmore.yaml"))
    more.file.write_text(cli.file.read_text() + "net: {zones: [us-east-1c, us-east-1b, us-east-1a]}\n")
    assert "create a private subnet in us-east-1c" in more("net.up").err
    assert "0 made" in more("net.up").out
    assert [zone for _, zone in facts.read(more.account).subnets] == ["us-east-1c", "us-east-1b", "us-east-1a"]
    fewer = type(cli)(cli.file.with_name("zonesfewer.yaml"))
    fewer.file.write_text(cli.file.read_text() + "net: {zones: [us-east-1a, us-east-1b]}\n")
    assert [zone for _, zone in facts.read(fewer.account).subnets] == ["us-east-1a", "us-east-1b"]
    more("net.down", "--yes")


@pytest.mark.parametrize("job", ["nosuch", "../x", "$(touch pwned)"])
def test_unknown_job_is_rejected(cli, job):
    for command, said in (
        ("ec2.logs", "is not a job of this stack's box"),
        ("ec2.attach", "was never started on this box"),
    ):
        refused = cli(command, "--job", job, ok=False)
        assert refused.code == 1
        assert said in refused.err
    assert cli("ec2.run", "ls pwned", ok=False).code != 0
    assert "--lines must be 1 or more" in cli("ec2.logs", "--lines", "0", ok=False).err


def with_more(cli, name, more):
    made = type(cli)(cli.file.with_name(f"{name}.yaml"))
    made.file.write_text(cli.file.read_text() + more)
    return made


def test_malformed_proxy_command_is_named(cli):
    """A proxy command that does not parse, or fails, is named as the cause."""
    torn = with_more(cli, "quotes", 'ec2: {way: command, proxy_command: "nc \'a"}\n')
    assert "ec2.proxy_command cannot be split into words: No closing quotation" in torn("ec2.run", "true", ok=False).err
    nothing = with_more(cli, "nothing", "ec2: {way: command, proxy_command: 'false'}\n")
    said = nothing("ec2.reach", ok=False).out
    assert "Next: run ec2.proxy_command yourself: false" in said
    assert "ec2.stop" not in said


def test_wrong_user_of_the_image_is_named(cli):
    said = with_more(cli, "user", "ec2: {user: ec2-user}\n")("ec2.reach", ok=False).out
    assert "The path fails at authentication" in said
    assert "Next: set ec2.user to ubuntu" in said


def test_key_paths_stay_below_the_folder(cli):
    escaped = with_more(cli, "escape", "ec2: {key: ../../key}\n")("ec2.status", ok=False)
    assert "ec2.key" in escaped.err


def test_fetch_follows_links_inside_the_home(cli, tmp_path):
    cli("ec2.run", "mkdir -p real && echo here > real/file && ln -sfn real alias && ln -sfn real/file one")
    cli("ec2.fetch", "alias", "--to", str(tmp_path))
    assert (tmp_path / "alias" / "file").read_text() == "here\n"
    cli("ec2.fetch", "one", "--to", str(tmp_path))
    assert (tmp_path / "one").read_text() == "here\n"
    for path, words in (
        ("./-rf", "There is no"),
        ("no\nline", "There is no"),
        ("../..", "does not name a file or folder"),
        ("/", "does not name a file or folder"),
    ):
        refused = cli("ec2.fetch", path, "--to", str(tmp_path), ok=False)
        assert refused.code == 1
        assert words in refused.err


def test_instance_type_of_an_existing_box_is_reported(cli):
    """--instance-type is not ignored silently when the box exists already."""
    assert "--instance-type only applies to a new box" in cli("ec2.up", "--instance-type", "g5.xlarge").err

"""The box as people use it: real SSH through the real tunnel, and what it refuses."""

import subprocess
import sys

import psutil
import pytest

from ops.box import facts
from ops.core.paths import ROOT
from sandbox import request_log
from tests.conftest import HOME


@pytest.fixture(scope="module")
def box_stack(make_stack):
    cli = make_stack("box")
    cli("iam.apply", "net.up", "ec2.up")
    return cli


def test_second_up_makes_no_change(box_stack):
    assert "0 made" in box_stack("ec2.up").out


def test_dry_up_prices_the_box_and_starts_none(make_stack):
    cli = make_stack("boxdry")
    assert "The private network for the box is missing. Create it: invoke net.up" in cli("ec2.up", ok=False).err
    cli("iam.apply", "net.up")
    dry = cli("--dry", "ec2.up")
    assert dry.err == (ROOT / "tests" / "golden" / "ec2-up.txt").read_text()
    assert facts.read(cli.account).box is None


def test_dry_stop_makes_no_changing_call(box_stack, sandbox):
    before = len(request_log.read(sandbox / "calls.jsonl"))
    dry = box_stack("--dry", "ec2.stop")
    assert "~ ec2.stop_instances" in dry.err
    assert [one["operation"] for one in request_log.read(sandbox / "calls.jsonl")[before:] if one["changes"]] == []


def test_run_returns_output_and_exit_code(box_stack):
    ran = box_stack("ec2.run", "echo out; echo err >&2; exit 3", ok=False)
    assert (ran.code, ran.out.split()) == (3, ["out", "err"])


def test_box_has_its_role_and_no_operator_keys(box_stack):
    code = "import boto3; print(boto3.client('sts').get_caller_identity()['Arn'])"
    assert ":assumed-role/kennel-box-ec2-box/i-" in box_stack("ec2.run", f'python3 -c "{code}"').out
    assert "AWS_ACCESS_KEY" not in box_stack("ec2.run", "env").out


def test_metadata_requires_a_token(box_stack):
    code = "curl -s -o /dev/null -w '%{http_code}' ${AWS_EC2_METADATA_SERVICE_ENDPOINT}latest/meta-data/iam/security-credentials/"
    assert box_stack("ec2.run", code).out == "401"


def test_run_streams_any_output_in_bounded_memory(box_stack):
    """Invoke's own capture is quadratic, and holds everything."""
    size = 200_000_000
    argv = [sys.executable, "-m", "invoke", "-f", str(box_stack.file), "ec2.run", f"head -c {size} /dev/zero"]
    running = subprocess.Popen(argv, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    came, most = 0, 0
    while piece := running.stdout.read(1 << 20):
        came += len(piece)
        most = max(most, psutil.Process(running.pid).memory_info().rss)
    assert (came, running.wait()) == (size, 0)
    assert most < 150e6  # the SDK alone takes 90


def test_changed_host_key_is_rejected_with_the_fix(box_stack):
    known = HOME / "work" / "ssh" / "known_hosts"
    box_stack("ec2.run", "true")
    kept = known.read_text()
    ident = facts.read(box_stack.account).box["InstanceId"]
    other = "AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl"
    try:
        known.write_text(f"{ident} ssh-ed25519 {other}\n")
        refused = box_stack("ec2.run", "true", ok=False)
    finally:
        known.write_text(kept)
    assert refused.code == 1
    assert "is not the one pinned" in refused.err
    assert "Traceback" not in refused.err


def test_stopped_box_is_rejected_with_the_start_command(box_stack, few_digits):
    """Commands that need a running box name the command that starts it."""
    account = box_stack.account
    ident = facts.read(account).box["InstanceId"]
    box_stack("data.up", "data.push", "--dir", str(few_digits))
    account.client("ec2").stop_instances(InstanceIds=[ident])
    try:
        for command in (("ec2.train",), ("ec2.run", "true"), ("ec2.attach",)):
            refused = box_stack(*command, ok=False)
            assert refused.code == 1
            assert f"The box {ident} is stop" in refused.err
            assert "Start it: invoke ec2.start" in refused.err
    finally:
        again = box_stack("ec2.start")
    assert ident in again.out
    assert box_stack("ec2.status").code == 0


def test_down_asks_and_deletes_the_disk(make_stack):
    cli = make_stack("boxdown")
    cli("iam.apply", "net.up", "ec2.up")
    cli("ec2.run", "echo mine > file")
    assert "Cannot ask for confirmation without a terminal; pass --yes." in cli("ec2.down", ok=False).err
    refused = cli("net.down", "--yes", ok=False)
    assert "The network is in use by i-" in refused.err
    cli("ec2.down", "--yes")
    assert facts.read(cli.account).box is None
    assert "There is no box." in cli("ec2.down", "--yes").out
    assert "Start one: invoke ec2.up" in cli("ec2.run", "true", ok=False).err
    cli("net.down", "--yes")


def test_invalid_launch_is_rejected_before_any_change(make_stack):
    """What EC2 would reject is rejected before anything is started."""
    cli = make_stack("boxrefused")
    cli("iam.apply", "net.up")
    for more, words in (
        ("instance_types: [g9.huge]", "EC2 has no instance type 'g9.huge' in us-east-1."),
        ("instance_types: [g4dn.xlage]", "Did you mean g4dn.xlarge?"),
        ("instance_types: [t3.medium]", "runs on g4dn, g5, g6, gr6, g6e, p4d, p4de, p5, p5e, p5en, p6-b200, not on t3"),
        ("ami: ami-0c0c0c0c0c0c0c0c0", "is for arm64, but g4dn.xlarge is x86_64"),
        ("ami: ami-0000000000000000f", "There is no image ami-0000000000000000f in us-east-1"),
        ("disk_gib: 20", "ec2.disk_gib is 20, but ami-0f0e0d0c0b0a09080 has a snapshot of 75 GiB"),
    ):
        refused = type(cli)(cli.file.with_name("boxrefused2.yaml"))
        refused.file.write_text(cli.file.read_text() + f"ec2: {{{more}}}\n")
        ran = refused("ec2.up", ok=False)
        assert ran.code == 1
        assert words in ran.err
        assert "Traceback" not in ran.err
    assert facts.read(cli.account).box is None


def test_box_of_another_stack_is_named_and_left_alone(box_stack, make_stack):
    ident = facts.read(box_stack.account).instance_id
    other = make_stack("boxother")
    for command in (("ec2.run", "true"), ("ec2.train",), ("ec2.reach",)):
        said = other(*command, ok=False).said
        assert f"{ident} of box" in said or "There is no dataset" in said
    for command in (("ec2.down", "--yes"), ("ec2.status",)):  # boxes of other tests may stand beside it
        assert f"{ident} of box" in other(*command).out.split("not changed: ")[1]
    assert facts.read(box_stack.account).state == "running"


def test_status_shows_cost_countdown_and_expiry(box_stack):
    import json

    found = json.loads(box_stack("ec2.status", "--json").out)
    assert found["dollars_per_hour"] == pytest.approx(0.526 + 100 * 0.08 / 730, abs=1e-3)
    assert 0 < found["dollars_so_far"] < 0.1
    assert 1700 < found["stops_in_s"] <= 1800
    assert found["expires"]
    assert "It stops by itself in 29 min" in box_stack("ec2.status").out


def test_no_tagged_resource_is_left(make_stack):
    """net.up, ec2.up, ec2.down, net.down: nothing of the stack stands afterwards, by EC2's tags and by each service's own list."""
    cli = make_stack("boxleft")
    cli("iam.apply", "net.up", "ec2.up")
    cli("ec2.run", "true")
    cli("ec2.down", "--yes")
    cli("net.down", "--yes")
    ec2, ours = cli.account.client("ec2"), [{"Name": "tag:kennel:stack", "Values": ["boxleft"]}]
    assert [
        tag for tag in ec2.describe_tags()["Tags"] if (tag["Key"], tag["Value"]) == ("kennel:stack", "boxleft")
    ] == []
    for call, key in (
        ("describe_vpcs", "Vpcs"), ("describe_volumes", "Volumes"), ("describe_key_pairs", "KeyPairs"),
        ("describe_network_interfaces", "NetworkInterfaces"), ("describe_security_groups", "SecurityGroups"),
        ("describe_instance_connect_endpoints", "InstanceConnectEndpoints"), ("describe_spot_instance_requests", "SpotInstanceRequests"),
    ):  # fmt: skip
        assert getattr(ec2, call)(Filters=ours)[key] == [], call
    assert ec2.describe_instances(Filters=ours)["Reservations"] == []
    tagging = cli.account.client("resourcegroupstaggingapi")
    found = tagging.get_resources(TagFilters=[{"Key": "kennel:stack", "Values": ["boxleft"]}])
    assert found["ResourceTagMappingList"] == []
    alarms = cli.account.client("cloudwatch").describe_alarms(AlarmNamePrefix="kennel-boxleft")["MetricAlarms"]
    assert alarms == []


def test_lost_response_starts_no_second_box(make_stack, inject_fault):
    cli = make_stack("boxlost")
    cli("iam.apply", "net.up")
    inject_fault("fault", operation="RunInstances", do="lost")
    cli("ec2.up")
    assert len(cli.account.list_tagged("describe_instances", "Reservations")) == 1


OFF = """
import botocore.auth as auth
from datetime import timedelta
real = auth.get_current_datetime
auth.get_current_datetime = lambda *a, **k: real(*a, **k) + timedelta(minutes=20)
from invoke.main import program
program.run()
"""


@pytest.mark.parametrize("command", ["ec2.status", "data.up", "iam.apply"])  # EC2, S3, and one that asks STS first
def test_wrong_clock_is_reported_as_the_cause(make_stack, command):
    argv = [sys.executable, "-c", OFF, "-f", str(make_stack("boxclock").file), command]
    refused = subprocess.run(
        argv, cwd=ROOT, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60, check=False
    )
    assert refused.returncode == 1
    assert "This machine's clock is wrong" in refused.stderr
    assert "timedatectl" in refused.stderr

"""Spot, capacity and quota, on a real box: what is asked for, what is taken away, and what comes back."""

import json
import time

import pytest

from ops.box import facts


def until(wanted, seconds=60):
    deadline = time.monotonic() + seconds
    while not wanted():
        assert time.monotonic() < deadline
        time.sleep(0.3)


def state(cli):
    return facts.read(cli.account).state


def test_missing_capacity_tries_zones_then_types(make_stack, inject_fault):
    cli = make_stack("capacity")
    cli("iam.apply", "net.up")
    inject_fault("capacity", instance_type="g4dn.xlarge")
    inject_fault("capacity", instance_type="g5.xlarge/us-east-1a")
    up = cli("ec2.up")
    assert "is running" in up.out
    assert " g5.xlarge " in up.out
    asked = [line for line in up.err.splitlines() if line.startswith("+ ec2.run_instances")]
    assert [line.split("one ")[1].split("  ")[0] for line in asked] == [
        "g4dn.xlarge in us-east-1a", "g4dn.xlarge in us-east-1b", "g5.xlarge in us-east-1a", "g5.xlarge in us-east-1b",
    ]  # fmt: skip


def test_stopped_box_is_kept_when_its_type_has_no_capacity(make_stack, inject_fault):
    """A stopped box is not given up when its instance type has no capacity."""
    cli = make_stack("wake")
    cli("iam.apply", "net.up", "ec2.up")
    cli("ec2.run", "echo mine > kept")
    ident = facts.read(cli.account).instance_id
    cli("ec2.stop")
    for kind in ("g4dn.xlarge", "g5.xlarge", "g6.xlarge"):
        inject_fault("capacity", instance_type=kind)
    refused = cli("ec2.start", ok=False)
    assert "The box is kept, and costs its disk only" in refused.err
    assert (facts.read(cli.account).instance_id, state(cli)) == (ident, "stopped")
    inject_fault("capacity", instance_type="g5.xlarge", short=False)
    assert " g5.xlarge " in cli("ec2.start").out
    assert facts.read(cli.account).instance_id == ident
    assert cli("ec2.run", "cat kept").out == "mine\n"


def test_quota_error_names_the_quota(make_stack, inject_fault):
    cli = make_stack("quota")
    cli("iam.apply", "net.up")
    words = "You have requested more vCPU capacity than your current vCPU limit of 0 allows."
    inject_fault("fault", operation="RunInstances", do="error", code="VcpuLimitExceeded", message=words)
    refused = cli("ec2.up", ok=False)
    assert "L-DB2E81BA" in refused.err
    assert refused.err.count("+ ec2.run_instances") == 1  # no other zone was asked
    assert facts.read(cli.account).box is None


@pytest.mark.timeout(300)
def test_spot_notice_saves_the_job_which_resumes_later(make_stack, inject_fault, few_digits):
    """The box notices a spot interruption, and the job resumes after it."""
    cli = make_stack("spotbox", "train: {epochs: 30}\n")
    cli("iam.apply", "net.up", "data.up")
    cli("data.push", "--dir", str(few_digits))
    assert "on spot: at most  $0.537/h" in cli("ec2.up", "--spot").err
    ident = facts.read(cli.account).instance_id
    assert json.loads(cli("ec2.status", "--json").out)["market"] == "spot"
    training = cli.background("ec2.train")
    for line in training.stdout:
        if "epoch 2/" in line:
            break
    inject_fault("clock", speed=10)  # two minutes' notice in twelve seconds
    inject_fault("interrupt", instance=ident)
    said, _ = training.communicate(timeout=90)
    assert training.returncode == 1
    assert "spot interruption at" in said
    assert "its checkpoint is kept (in the bucket and on the box)" in said
    until(lambda: state(cli) == "stopped")
    inject_fault("clock", speed=1)
    status = cli("ec2.status", ok=False)
    assert status.code == 7
    assert "took back its spot capacity" in status.out
    refused = cli("ec2.start", ok=False)  # only EC2 may start what spot took
    assert "EC2 starts it again" in refused.err
    assert facts.read(cli.account).instance_id == ident
    # Another box, on demand: it has nothing but what is in the bucket.
    cli("ec2.down", "--yes")
    assert cli.account.client("ec2").describe_spot_instance_requests()["SpotInstanceRequests"] == []
    inject_fault("faults/clear")
    cli("ec2.up")
    again = cli.background("ec2.train")
    said = []
    for line in again.stdout:
        said.append(line)
        if "epoch 4/" in line:
            break
    again.terminate()
    assert "downloaded the checkpoint of an earlier box" in "".join(said)
    assert "resuming at epoch" in "".join(said)
    assert "epoch 1/30" not in "".join(said)
    cli("ec2.down", "--yes")


def test_ec2_restarts_an_interrupted_spot_box(make_stack, inject_fault):
    cli = make_stack("spotback")
    cli("iam.apply", "net.up")
    cli("ec2.up", "--spot")
    ident = facts.read(cli.account).instance_id
    cli("ec2.run", "echo mine > kept")
    inject_fault("clock", speed=120)
    inject_fault("interrupt", instance=ident)
    until(lambda: state(cli) == "stopped")
    inject_fault("clock", speed=1)
    inject_fault("capacity", instance_type="spot:g4dn.xlarge", short=False)
    until(lambda: state(cli) == "running")
    assert cli("ec2.run", "cat kept").out == "mine\n"
    assert cli("ec2.status").code == 0
    # One that people stopped is theirs to start.
    cli("ec2.stop")
    cli("ec2.start")
    assert facts.read(cli.account).instance_id == ident
    cli("ec2.down", "--yes")


def test_spot_falls_back_to_on_demand(make_stack, inject_fault):
    cli = make_stack("spotnone", "ec2: {instance_types: [g4dn.xlarge]}\n")
    cli("iam.apply", "net.up")
    inject_fault("capacity", instance_type="spot:g4dn.xlarge")
    cli("ec2.up", "--spot")
    assert json.loads(cli("ec2.status", "--json").out)["market"] == "on demand"

"""Incident pages, followed: the fault is made, Confirm sees it, Verify fails, Mitigate is run, Verify passes."""

import json
import re
import shlex
import time

import pytest

from bench.resume import write_noise_pictures
from ops.box import facts as ec2_facts
from ops.core.paths import ROOT
from ops.datasets import manifest
from ops.network import facts, plan
from sandbox import state
from sandbox.client import send_control_request

FENCE = re.compile(r"^```console \{#([\w-]+) (.*?)\}\n\$ invoke (.+?)\n", re.M)


class Page:
    """The steps of an incident page by their ids, run as they stand."""

    def __init__(self, name, cli, **inputs):
        self.text, self.cli, self.inputs = (ROOT / "runbooks" / f"{name}.md").read_text(), cli, inputs
        self.steps = {ident: (attributes, command) for ident, attributes, command in FENCE.findall(self.text)}

    def of(self, heading):
        part = re.search(rf"^## {heading}\n(.*?)(?=^## |\Z)", self.text, re.M | re.S)[1]
        return [ident for ident, _, _ in FENCE.findall(part)]

    def works(self, ident):
        """Whether a step ends as the page says: its exit code, and its words in the output."""
        attributes, command = self.steps[ident]
        code = int(found[1]) if (found := re.search(r"exit=(\d+)", attributes)) else 0
        words = re.search(r'expect="(.*?)"', attributes)[1]
        ran = self.cli(*shlex.split(command.format(**self.inputs)), ok=False)
        print(
            f"{ident}: exit {ran.code} ({code} on the page), {words!r} {'said' if words in ran.said else 'not said'}:"
        )
        print(ran.said)  # pytest shows it where the test fails
        return ran.code == code and words in ran.said

    def confirmed(self):
        return all(self.works(ident) for ident in self.of("Confirm"))

    def verified(self):
        return all(self.works(ident) for ident in self.of("Verify"))


@pytest.fixture(scope="module")
def stack_with_box(make_stack):
    cli = make_stack("incident")
    cli("iam.apply", "net.up", "ec2.up")
    return cli


def test_box_unreachable_page_restores_a_removed_rule(stack_with_box):
    page = Page("box-unreachable", stack_with_box)
    assert page.verified()
    assert not page.confirmed()  # a healthy box must not look like this incident
    have = facts.read(stack_with_box.account)
    ids = {name: group.id for name, group in have.groups.items()}
    (rule,) = have.groups["box"].ingress
    stack_with_box.account.client("ec2").revoke_security_group_ingress(
        GroupId=ids["box"], IpPermissions=[plan.build_ip_permission(rule, ids, have.s3_list)]
    )
    assert page.confirmed()
    assert not page.verified()  # it does not repair itself
    assert page.works("repair")
    assert page.verified()
    assert not page.confirmed()


def test_box_unreachable_page_restarts_a_hung_box(stack_with_box, inject_fault):
    page = Page("box-unreachable", stack_with_box)
    inject_fault("box", instance=ec2_facts.read(stack_with_box.account).instance_id, sshd="down")
    assert page.confirmed()
    assert "The path fails at TCP" in stack_with_box("ec2.reach", ok=False).out
    assert not page.verified()
    assert page.works("stop")
    assert page.confirmed()  # stopped, it is not reached either, and the page says so
    assert page.works("start")
    assert page.verified()


def test_no_capacity_page_gets_a_box(make_stack, inject_fault):
    cli = make_stack("incidentnone")
    cli("iam.apply", "net.up")
    page = Page("no-capacity", cli, kind="m5.large")
    assert not page.confirmed()  # no box yet, and none was asked for
    for kind in cli.settings.ec2.instance_types:
        inject_fault("capacity", instance_type=kind)
    refused = cli("ec2.up", ok=False)
    assert "EC2 has no capacity" in refused.err
    assert "runbooks/no-capacity.md" in refused.err
    assert page.confirmed()
    assert not page.verified()
    page.inputs["kind"] = "g4dn.2xlarge"
    assert page.works("up")
    assert page.verified()
    assert not page.confirmed()


@pytest.mark.timeout(300)
def test_spot_interruption_page_resumes_the_job(make_stack, inject_fault, few_digits):
    cli = make_stack("incidentspot", "train: {epochs: 14}\nec2: {instance_types: [g4dn.xlarge]}")
    cli("iam.apply", "net.up", "data.up")
    cli("data.push", "--dir", str(few_digits))
    cli("ec2.up", "--spot")
    page = Page("spot-interruption", cli)
    assert not page.confirmed()
    training = cli.background("ec2.train")
    said = []
    for line in training.stdout:
        said.append(line)
        if "epoch 2/" in line:
            break
    page.inputs["job"] = re.search(r"Starting (kennel-incidentspot-box1-\w+);", "".join(said))[1]
    inject_fault("clock", speed=15)
    inject_fault("interrupt", instance=ec2_facts.read(cli.account).instance_id)
    training.communicate(timeout=90)
    deadline = time.monotonic() + 60
    while not page.confirmed():
        assert time.monotonic() < deadline
    inject_fault("clock", speed=1)
    assert not page.verified()
    assert page.works("down")
    assert page.works("up")
    assert not page.verified()
    page.inputs["job"] += "-2"
    assert page.works("train")
    assert page.verified()
    assert not page.confirmed()


def test_box_disk_full_page_frees_the_disk(make_stack, inject_fault, pictures):
    cli = make_stack("incidentdisk", "train: {epochs: 1, batch: 4}")
    cli("iam.apply", "net.up", "ec2.up", "data.up")
    cli("data.push", "--dir", str(pictures))
    page = Page("box-disk-full", cli)
    assert not page.confirmed()
    cli("ec2.run", "mkdir -p kennel/jobs/long-ago/opt-ml && fallocate -l 1500M kennel/jobs/long-ago/opt-ml/model")
    inject_fault("box", instance=ec2_facts.read(cli.account).instance_id, disk_mib=2048)
    assert page.confirmed()
    refused = cli("ec2.train", ok=False)
    assert refused.code == 1
    assert "Traceback" not in refused.err
    assert "No space left on device" in refused.err.splitlines()[-1]
    assert refused.err.rstrip().endswith("See runbooks/box-disk-full.md")
    assert not page.works("room")
    assert page.works("clean")
    assert page.verified()
    assert not page.confirmed()


@pytest.mark.timeout(300)
def test_endpoint_5xx_page_rolls_back(demo_stack, sandbox, digits):
    picture = str(next((digits / "test" / "7").iterdir()))
    page = Page("endpoint-5xx", demo_stack, picture=picture)
    assert page.verified()
    send_control_request(state.read(sandbox), "POST", "break", {"endpoint": "kennel-whole"})
    for _ in range(7):
        failed = demo_stack("sm.invoke", picture, ok=False)
        assert failed.code == 1
        assert "ModelError" in failed.err
    assert page.confirmed()
    assert not page.verified()
    assert page.works("back")
    assert page.verified()
    # Afterwards: the newer release is packaged again, and is live again
    again = demo_stack("sm.deploy", "--instances", "2")
    assert "Packaging the model" in again.err
    assert page.verified()


class Training:
    """A stack with a data set that takes a while to train on, and the names of the attempts at it."""

    def __init__(self, make_stack, name, data, epochs):
        self.cli = make_stack(name, f"train: {{epochs: {epochs}, batch: 8, pixels: 16}}")
        self.data = data
        self.cli("iam.apply", "data.up", "net.up")
        self.cli("data.push", "--dir", str(data))

    def start(self, *more):
        return json.loads(self.cli("sm.train", "--no-wait", "--json", *more).out)["job"]

    def until(self, job, line, seconds=60):
        """Once a line of its log speaks of this."""
        deadline = time.monotonic() + seconds
        while line not in (said := self.cli("sm.logs", "--job", job).out):
            assert time.monotonic() < deadline, said
            time.sleep(0.3)


def test_training_failed_page_repairs_the_data(make_stack, pictures):
    job = Training(make_stack, "failingjob", pictures, 1)
    shard = manifest.read_current(job.cli.account).shards[0].sha256
    job.cli.account.client("s3").put_object(Bucket=job.cli.settings.bucket, Key=f"shards/{shard}.tar", Body=b"corrupt")
    name = job.start()
    page = Page("training-failed", job.cli, job=name, again=f"{name}-2", dir=str(pictures))
    job.cli("sm.attach", name, ok=False)
    assert page.confirmed()
    assert "missing or corrupt" in job.cli("sm.explain", name, ok=False).out
    assert not page.verified()
    assert not page.works("again")  # the data are still corrupt
    page.inputs["again"] = f"{name}-3"
    assert page.works("verify-data")
    assert page.works("push")
    assert page.works("again")
    assert page.verified()


def test_training_stuck_page_restarts_the_job(make_stack, sandbox, tmp_path):
    job = Training(make_stack, "stuckjob", write_noise_pictures(tmp_path / "noise"), 20)
    name = job.start("--instances", "2")
    page = Page("training-stuck", job.cli, job=name, again=f"{name}-2", quiet="4")
    job.until(name, "epoch 2/20")
    assert not page.confirmed()  # a job that moves must not look like this incident
    send_control_request(state.read(sandbox), "POST", "freeze", {"job": name, "host": 2})
    deadline = time.monotonic() + 60
    while not page.confirmed():  # after `quiet` seconds without a line
        assert time.monotonic() < deadline
    assert not page.verified()
    send_control_request(
        state.read(sandbox), "POST", "clock", {"speed": 60}
    )  # SageMaker gives it two minutes to end by itself
    assert page.works("stop")
    send_control_request(state.read(sandbox), "POST", "clock", {"speed": 1})
    assert not page.verified()
    assert page.works("resume")
    assert page.verified()
    assert "resuming at epoch" in job.cli("sm.logs", "--job", f"{name}-2").out

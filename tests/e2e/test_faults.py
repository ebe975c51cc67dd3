"""Each fault of `sandbox.fault`: injected by the command, seen, and ended as the command says. Real processes, no torch."""

import re
import time
from urllib.error import HTTPError

import pytest
from botocore.exceptions import ClientError

from ops.box import facts as ec2_facts
from ops.core.errors import AwsError
from sandbox import drills, state
from sandbox.client import read_refusal, send_control_request
from tests.any_endpoint import serve_anything, upload_model
from tests.conftest import Cli, plant_roles, write_settings
from tests.e2e.test_jobs import COUNTS, Jobs, spot
from tests.sandbox.test_incidents_iam import signing


class Drill:
    """A stack with a spot box, an endpoint and jobs, in a sandbox of its own."""

    def __init__(self, cli, folder):
        self.cli, self.folder, self.account = cli, folder, cli.account
        self.jobs = Jobs(cli, state.read(folder))

    def inject(self, name, **values):
        words = [word for key, value in values.items() for word in ("--set", f"{key}={value}")]
        return self.cli("sandbox.fault", name, *words).out

    def ends_with(self, said):
        """Run the command that an injected fault names as its end."""
        self.cli(*re.search(r"To end it: invoke (.*?)\.?\n", said)[1].split())

    def health(self):
        return send_control_request(state.read(self.folder), "GET", "health")

    def invoke(self):
        began, name = time.monotonic(), self.cli.settings.endpoint_name
        self.account.call(
            "sagemaker-runtime", "invoke_endpoint", EndpointName=name, Body=b"x", ContentType="application/x-image"
        )
        return time.monotonic() - began

    def resize(self, count):
        name = self.cli.settings.endpoint_name
        wanted = [{"VariantName": "all", "DesiredInstanceCount": count}]
        self.account.call(
            "sagemaker", "update_endpoint_weights_and_capacities",
            EndpointName=name, DesiredWeightsAndCapacities=wanted,
        )  # fmt: skip
        soon(lambda: self.describe()["EndpointStatus"] == "InService")
        return self.describe()

    def describe(self):
        return self.account.call("sagemaker", "describe_endpoint", EndpointName=self.cli.settings.endpoint_name)

    @property
    def box(self):
        return ec2_facts.read(self.account)


def soon(check, seconds=60):
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.fixture(scope="module")
def drill(tmp_path_factory):
    folder = tmp_path_factory.mktemp("faults")
    cli = Cli(write_settings(folder / "own.yaml", folder / "box", "faults"))
    cli.typed("sandbox.up")
    plant_roles(cli, state.read(folder / "box"))
    cli("data.up", "net.up")
    cli("ec2.up", "--spot")
    serve_anything(cli, folder / "box", "faults")
    yield Drill(cli, folder / "box")
    cli.typed("sandbox.down")


def check_call(drill):
    said = drill.inject("call", operation="ListRoles", code="ServiceFailure", message="no", times=99)
    with pytest.raises(AwsError, match="ServiceFailure: no"):
        drill.account.call("iam", "list_roles")
    drill.ends_with(said)
    drill.inject("call", operation="ListRoles", do="delay", seconds=0.5)
    began = time.monotonic()
    drill.account.call("iam", "list_roles")
    assert time.monotonic() - began >= 0.5
    refused = drill.cli("sandbox.fault", "call", "--set", "operation=ListRols", ok=False)
    assert "there is no operation 'ListRols'. Did you mean ListRoles?" in refused.err


def check_clear(drill):
    drill.inject("call", operation="ListRoles", times=5)
    drill.inject("capacity", instance_type="m5.large")
    assert "have ended: calls ListRoles, capacity m5.large. The others end" in drill.inject("clear")
    assert "have ended: calls none, capacity none. The others end" in drill.inject("clear")
    drill.account.call("iam", "list_roles")


def check_lag(drill):
    said = drill.inject("lag", seconds=60)
    vpc = drill.account.client("ec2").create_vpc(CidrBlock="10.9.0.0/16")["Vpc"]["VpcId"]
    with pytest.raises(ClientError, match=r"InvalidVpcID\.NotFound"):
        drill.account.client("ec2").delete_vpc(VpcId=vpc)
    drill.ends_with(said)
    drill.account.client("ec2").delete_vpc(VpcId=vpc)


def check_logins(drill):
    drill.inject("logins")
    assert "[profile mfa-role]" in (drill.folder / "aws" / "config").read_text()


def check_clock(drill):
    said = drill.inject("clock", speed=7)
    assert drill.health()["speed"] == 7
    drill.ends_with(said)
    assert drill.health()["speed"] == 1


def check_break(drill):
    url = drill.inject("break")
    assert "corrupt s3://" in url
    with pytest.raises(AwsError, match="no healthy instance|did not answer"):
        drill.invoke()
    upload_model(drill.cli)  # a roll-back would take another release
    soon(lambda: is_answering(drill))


def is_answering(drill):
    try:
        drill.invoke()
    except AwsError:
        return False
    return True


def check_hang(drill):
    said = drill.inject("hang")
    drill.inject("clock", speed=200)  # SageMaker's four minutes
    assert drill.resize(3)["ProductionVariants"][0]["DesiredInstanceCount"] == 2
    assert "did not pass the ping health check" in drill.describe()["FailureReason"]
    drill.ends_with(said)
    drill.inject("clock", speed=1)
    assert drill.resize(3)["ProductionVariants"][0]["CurrentInstanceCount"] == 3
    drill.resize(2)


def check_slow(drill):
    said = drill.inject("slow", seconds=0.5)
    assert drill.invoke() >= 0.5
    drill.ends_with(said)
    assert drill.invoke() < 0.5


def check_capacity(drill):
    said = drill.inject("capacity", instance_type="ml.c5.xlarge")
    name = drill.jobs.create("short", COUNTS, **of_type("ml.c5.xlarge"))
    assert "CapacityError" in drill.jobs.until(name, "Failed")["FailureReason"]
    drill.ends_with(said)
    name = drill.jobs.create("enough", COUNTS, **of_type("ml.c5.xlarge"))
    drill.jobs.until(name, "Training")
    drill.account.call("sagemaker", "stop_training_job", TrainingJobName=name)
    refused = drill.cli("sandbox.fault", "capacity", "--set", "instance_type=large", ok=False)
    assert "instance_type is TYPE, TYPE/ZONE or spot:TYPE" in refused.err


def of_type(kind):
    return {"ResourceConfig": {"InstanceType": kind, "InstanceCount": 1, "VolumeSizeInGB": 1}}


def check_box(drill):
    box, cli = drill.box.instance_id, drill.cli
    assert cli("ec2.reach", ok=False).code == 0
    said = drill.inject("box", instance=box, sshd="down")
    assert cli("ec2.reach", ok=False).code == 7
    drill.inject("box", instance=box, sshd="up")
    assert cli("ec2.reach", ok=False).code == 0
    drill.inject("box", instance=box, keys="false")
    assert cli("ec2.run", "true", ok=False).code == 1
    drill.inject("box", instance=box, keys="true")
    drill.inject("box", instance=box, disk_mib=2048)
    assert "2097152" in cli("ec2.run", "df -Pk .").out
    drill.inject("box", instance=box, checks="impaired")
    status = drill.account.call("ec2", "describe_instance_status", InstanceIds=[box])["InstanceStatuses"][0]
    assert status["InstanceStatus"]["Status"] == "impaired"
    drill.ends_with(said)
    status = drill.account.call("ec2", "describe_instance_status", InstanceIds=[box])["InstanceStatuses"][0]
    assert status["InstanceStatus"]["Status"] == "ok"
    assert cli("ec2.reach", ok=False).code == 0
    assert "there is no box i-0" in cli("sandbox.fault", "box", "--set", "instance=i-0", ok=False).err


def check_interrupt_box(drill):
    soon(lambda: drill.box.state == "running")
    said = drill.inject("interrupt-box", instance=drill.box.instance_id)
    drill.inject("clock", speed=100)
    soon(lambda: drill.box.state == "stopped")
    drill.inject("clock", speed=1)
    drill.ends_with(said)
    soon(lambda: drill.box.state == "running")


def check_interrupt_job(drill):
    name = drill.jobs.create("reclaimed", COUNTS, **spot())
    drill.jobs.until(name, "Training")
    drill.inject("interrupt-job", job=name)
    soon(lambda: any(s["Status"] == "Interrupted" for s in drill.jobs.describe(name)["SecondaryStatusTransitions"]))
    drill.jobs.until(name, "Training")
    drill.account.call("sagemaker", "stop_training_job", TrainingJobName=name)
    refused = drill.cli("sandbox.fault", "interrupt-job", "--set", "job=none-such", ok=False)
    assert "The sandbox refused fault interrupt-job: there is no training job none-such\n" in refused.err


def check_freeze(drill):
    name = drill.jobs.create("frozen", COUNTS)
    drill.jobs.until(name, "Training")
    said = drill.inject("freeze", job=name)
    assert "processes " in said
    assert "processes 0" not in said
    assert (
        "has hosts 1 to 1, not 2"
        in drill.cli("sandbox.fault", "freeze", "--set", f"job={name}", "--set", "host=2", ok=False).err
    )
    drill.inject("clock", speed=200)
    drill.account.call("sagemaker", "stop_training_job", TrainingJobName=name)
    drill.jobs.until(name, "Stopped")
    drill.inject("clock", speed=1)


def check_kill(drill):
    name = drill.jobs.create("killed", COUNTS)
    drill.jobs.until(name, "Training")
    drill.inject("kill", job=name)
    assert "exit code: 137" in drill.jobs.until(name, "Failed")["FailureReason"]


def check_age(drill):
    role = drill.cli.settings.build_role_name("operator")
    drill.inject("age", role=role, days=200)
    created = drill.account.call("iam", "get_role", RoleName=role)["Role"]["CreateDate"]
    assert 199 < (time.time() - created.timestamp()) / 86_400 < 201
    assert (
        "there is no role none-such"
        in drill.cli("sandbox.fault", "age", "--set", "role=none-such", "--set", "days=1", ok=False).err
    )


def check_expire(drill):
    wanted = {"RoleArn": drill.cli.settings.role_arn("operator"), "RoleSessionName": "short"}
    keys = drill.account.call("sts", "assume_role", **wanted)["Credentials"]
    caller = signing(drill.cli, keys["AccessKeyId"], keys["SecretAccessKey"], keys["SessionToken"])
    caller.get_caller_identity()
    drill.inject("expire", key=keys["AccessKeyId"])
    with pytest.raises(ClientError, match="ExpiredToken"):
        caller.get_caller_identity()
    refused = drill.cli("sandbox.fault", "expire", "--set", "key=AKIA0", ok=False)
    assert "the key AKIA0 belongs to no role session" in refused.err


@pytest.mark.parametrize("name", sorted(drills.FAULTS))
def test_fault_is_injected_seen_and_ended(drill, name):
    globals()[f"check_{name.replace('-', '_')}"](drill)


@pytest.mark.parametrize(
    ("action", "body", "said"),
    [
        ("clock", {"speed": 0}, "speed is a number from 0.01 to 10000, not 0."),
        ("fault", {"operation": "ListRoles", "do": "error", "times": 0}, "times is a whole number from 1 to"),
        ("interrupt", {}, "interrupt needs instance or job."),
        ("clock", {}, "clock needs speed."),
        ("nothing", {}, "there is no POST nothing"),
        (
            "fault",
            {"operation": "ListRoles", "do": "error", "tims": 1},
            "fault has no parameter 'tims'. Did you mean times?",
        ),
    ],
)
def test_control_request_out_of_range_is_refused(drill, action, body, said):
    with pytest.raises(HTTPError) as refused:
        send_control_request(state.read(drill.folder), "POST", action, body)
    assert refused.value.code == 400
    assert said in read_refusal(refused.value) + "."

"""Starting, waking, halting the box: plans by equality, refusals in EC2's own words."""

import json
from datetime import UTC, date, datetime, timedelta

import pytest

from ops.box import facts, launch, plan, user_data
from ops.box.facts import Facts
from ops.box.images import Image, InstanceTypeInfo
from ops.box.launch import LaunchOptions
from ops.core import plan as change
from ops.core.errors import AwsError, OpsError
from ops.core.plan import Change, Wait
from tests.conftest import settings_of

SETTINGS = settings_of()
DLAMI = Image("ami-1", "PyTorch 2.12", "x86_64", ("g4dn", "g5"), 75, "/dev/xvda", date(2026, 11, 1), None)
KINDS, ZONES = ("g4dn.xlarge", "g5.xlarge"), ("us-east-1a", "us-east-1b")
NETWORK = {
    "subnets": tuple((f"subnet-{zone[-1]}", zone) for zone in ZONES),
    "group": "sg-1",
    "key_pair": "key-1",
    "public_key": "ssh-ed25519 AAAA kennel",
    "instance_types": {kind: InstanceTypeInfo(("x86_64",), 4) for kind in KINDS},
    "image": DLAMI,
    "offered": frozenset((kind, zone) for kind in KINDS for zone in ZONES),
}
ORDER, ON_SPOT = LaunchOptions(KINDS), LaunchOptions(KINDS, spot=True)


def instance(state, **more):
    placed = {"Placement": {"AvailabilityZone": "us-east-1a"}, "Architecture": "x86_64"}
    return {"InstanceId": "i-1", "InstanceType": "g4dn.xlarge", "State": {"Name": state}, **placed, **more}


def planned(order=ORDER, **have):
    return [
        (s.call if isinstance(s, Change) else s.what)
        for s in change.preview(plan.steps(Facts(**{**NETWORK, **have}), order, SETTINGS))
    ]


@pytest.mark.parametrize(
    ("state", "steps"),
    [
        ("running", []),
        ("stopped", ["start_instances", "box i-1"]),
        ("stopping", ["box i-1", "start_instances", "box i-1"]),
        ("pending", ["box i-1"]),
    ],
)
def test_existing_box_is_never_replaced(state, steps):
    assert planned(box=instance(state), alarm=plan.build_idle_alarm("i-1", 4, SETTINGS)) == steps


def test_new_box_gets_its_alarm_before_the_wait():
    assert planned() == ["run_instances", "put_metric_alarm", "box <InstanceId>"]


def test_box_without_an_alarm_gets_one():
    assert planned(box=instance("running")) == ["put_metric_alarm"]
    assert planned(box=instance("running"), alarm=plan.build_idle_alarm("i-0", 4, SETTINGS)) == [
        "put_metric_alarm"
    ]  # an older box's


def test_alarm_follows_the_settings():
    patient = settings_of(text="ec2: {idle_minutes: 60}")
    have = Facts(**{**NETWORK, "box": instance("running"), "alarm": plan.build_idle_alarm("i-1", 4, patient)})
    assert [s.call for s in change.preview(plan.steps(have, ORDER, SETTINGS))] == ["put_metric_alarm"]
    assert change.preview(plan.steps(have, ORDER, patient)) == []
    never = settings_of(text="ec2: {idle_minutes: 0}")
    assert [s.call for s in change.preview(plan.steps(have, ORDER, never))] == ["delete_alarms"]


def test_team_shares_one_token_per_box():
    """The key pair's id is what all see, and new for each box: ec2.down deletes the pair."""
    assert planned(key_pair=None)[:2] == ["import_key_pair", "run_instances"]
    assert request(key="key-1")["ClientToken"] == request(key="key-1", public_key="another operator's")["ClientToken"]
    assert request(key="key-1")["ClientToken"] != request(key="key-2")["ClientToken"]


def test_simultaneous_launch_says_to_wait():
    with pytest.raises(OpsError, match="Another operator is launching the box"):
        walked(["InvalidKeyPair.Duplicate"], key_pair=None)


def test_spent_token_is_replaced_with_its_key_pair():
    """A launch token whose box is terminated is replaced, together with its key pair."""
    assert walked(["IdempotentInstanceTerminated", None, None, None]) == [
        "demand g4dn.xlarge subnet-a", "delete_key_pair", "import_key_pair", "demand g4dn.xlarge subnet-a",
    ]  # fmt: skip


def test_missing_role_names_the_command():
    with pytest.raises(OpsError, match="invoke iam.apply"):
        walked(
            [
                (
                    "InvalidParameterValue",
                    "Value (x) for parameter iamInstanceProfile.name is invalid. Invalid IAM Instance Profile name",
                )
            ]
        )


def test_orphaned_spot_request_is_cancelled_first():
    assert planned(spot_requests=("sir-9",))[0] == "cancel_spot_instance_requests"


def request(spot=False, settings=SETTINGS, key="key-1", **more):
    place = launch.LaunchTarget("g4dn.xlarge", "subnet-a", "us-east-1a", spot)
    return launch.build_launch_request(Facts(**{**NETWORK, **more}), place, key, settings)


def test_new_box_is_hardened_tagged_and_idempotent():
    asked = request()
    assert asked["MetadataOptions"]["HttpTokens"] == "required"
    assert asked["NetworkInterfaces"] == [
        {"DeviceIndex": 0, "SubnetId": "subnet-a", "Groups": ["sg-1"], "AssociatePublicIpAddress": False}
    ]
    assert asked["BlockDeviceMappings"] == [
        {
            "DeviceName": "/dev/xvda",  # the image's own: another name would be a second, empty disk
            "Ebs": {"VolumeType": "gp3", "VolumeSize": 100, "Encrypted": True, "DeleteOnTermination": True},
        }
    ]
    assert asked["InstanceInitiatedShutdownBehavior"] == "stop"
    assert asked["IamInstanceProfile"] == {"Name": "kennel-demo-ec2-box"}
    assert {s["ResourceType"] for s in asked["TagSpecifications"]} == {"instance", "volume", "network-interface"}
    assert asked["ClientToken"] == request()["ClientToken"]
    assert "InstanceMarketOptions" not in asked


def test_spot_box_can_be_stopped_and_keeps_its_disk():
    asked = request(spot=True)
    options = {"SpotInstanceType": "persistent", "InstanceInterruptionBehavior": "stop"}
    assert asked["InstanceMarketOptions"] == {"MarketType": "spot", "SpotOptions": options}
    assert {"spot-instances-request"} < {s["ResourceType"] for s in asked["TagSpecifications"]}
    assert asked["ClientToken"] != request()["ClientToken"]


def test_watchdog_starts_first_and_fits_into_user_data():
    """The watchdog is armed before anything else, and fits into the user data."""
    data = request()["UserData"]
    assert data.startswith("#cloud-boothook\n#!/bin/sh\n")
    assert user_data.WATCHDOG.read_text() in data
    assert "idle_watchdog.py 30 $root/home\n" in data
    assert len(data.encode()) < user_data.MOST
    assert "idle_watchdog.py" not in request(settings=settings_of(text="ec2: {idle_minutes: 0}"))["UserData"]


def test_alarm_waits_longer_than_the_watchdog():
    asked = plan.build_idle_alarm("i-1", 4, SETTINGS)
    assert asked["Period"] * asked["EvaluationPeriods"] == 2 * 30 * 60
    assert asked["Threshold"] == 3.75
    assert (
        plan.build_idle_alarm("i-1", 48, SETTINGS)["Threshold"] < 100 / 48
    )  # one core that works is work, on any type
    long = plan.build_idle_alarm("i-1", 4, settings_of(text="ec2: {idle_minutes: 5040}"))
    assert (long["Period"], long["EvaluationPeriods"]) == (3600, 168)  # a week, which is what CloudWatch takes
    assert asked["AlarmActions"] == ["arn:aws:automate:us-east-1:ec2:stop"]
    assert asked["Dimensions"] == [{"Name": "InstanceId", "Value": "i-1"}]


def walked(refusals, order=ORDER, **have):
    """What was asked for, when each request is answered by the next of `refusals` (None: it works)."""
    asked, answers = [], iter(refusals)

    def answer(step):
        if isinstance(step, Wait) or step.service == "cloudwatch":
            return None
        if step.call == "run_instances":
            market = "spot" if "InstanceMarketOptions" in step.args else "demand"
            subnet = step.args["NetworkInterfaces"][0]["SubnetId"]
            asked.append(f"{market} {step.args['InstanceType']} {subnet}")
        elif step.call == "modify_instance_attribute":
            asked.append(f"as {step.args['InstanceType']['Value']}")
            return None
        else:
            asked.append(step.call)
        if code := next(answers):
            raise AwsError(step.call, *(code if isinstance(code, tuple) else (code, "sorry.")))
        return {"Instances": [{"InstanceId": "i-9"}], "KeyPairId": "key-2"}

    list(change.walk_steps(plan.steps(Facts(**{**NETWORK, **have}), order, SETTINGS), answer))
    return asked


NONE = "InsufficientInstanceCapacity"


def test_missing_capacity_tries_zones_then_types():
    """Without capacity the next zone is tried, then the next type."""
    assert walked([NONE, NONE, None]) == [
        "demand g4dn.xlarge subnet-a", "demand g4dn.xlarge subnet-b", "demand g5.xlarge subnet-a",
    ]  # fmt: skip


def test_spot_is_requested_before_on_demand():
    assert walked([NONE] * 4 + [None], ON_SPOT)[-2:] == ["spot g5.xlarge subnet-b", "demand g4dn.xlarge subnet-a"]


def test_spot_price_above_on_demand_counts_as_no_capacity():
    assert walked(["SpotMaxPriceTooLow"] * 4 + [None], ON_SPOT)[-1] == "demand g4dn.xlarge subnet-a"


def test_zone_without_the_type_is_skipped():
    offered = frozenset({("g4dn.xlarge", "us-east-1b")})
    assert walked([None], offered=offered) == ["demand g4dn.xlarge subnet-b"]
    with pytest.raises(OpsError, match=r"None of g4dn\.xlarge, g5\.xlarge is offered in us-east-1a, us-east-1b"):
        walked([], offered=frozenset())


def test_no_capacity_anywhere_lists_attempts_and_next_steps():
    with pytest.raises(
        OpsError, match=r"g4dn.xlarge in us-east-1a; .*g5.xlarge in us-east-1b.*--instance-type TYPE.*no-capacity.md"
    ):
        walked([NONE] * 4)


@pytest.mark.parametrize(
    ("code", "order", "kind", "quota"),
    [
        ("VcpuLimitExceeded", ORDER, "g4dn.xlarge", "L-DB2E81BA"),
        ("MaxSpotInstanceCountExceeded", ON_SPOT, "g4dn.xlarge", "L-3819A6DF"),
        ("VcpuLimitExceeded", LaunchOptions(("p4d.24xlarge",)), "p4d.24xlarge", "L-417A185B"),
        ("VcpuLimitExceeded", LaunchOptions(("m5.large",)), "m5.large", "L-1216C47A"),
    ],
)
def test_quota_error_stops_and_names_the_quota(code, order, kind, quota, monkeypatch):
    monkeypatch.setattr("ops.core.pricing.price_instances", lambda *_: 1.0)
    with pytest.raises(OpsError, match=rf"quota for {kind}.* is too small.*{quota} .*--quota-code {quota} "):
        walked([code], order, offered=frozenset({(kind, "us-east-1a")}))


def test_other_errors_stop_with_the_message_of_aws():
    with pytest.raises(AwsError, match="UnauthorizedOperation"):
        walked(["UnauthorizedOperation"])


def test_stopped_box_changes_type_and_keeps_its_disk():
    """A stopped box takes its disk into another type, and is never replaced."""
    stopped = instance("stopped")
    assert walked([NONE, None], box=stopped) == ["start_instances", "as g5.xlarge", "start_instances"]
    elsewhere = frozenset({("g5.xlarge", "us-east-1b")})
    with pytest.raises(OpsError, match="in us-east-1a"):
        walked([NONE], box=stopped, offered=elsewhere)  # its disk is in us-east-1a
    arm = {**NETWORK["instance_types"], "g5.xlarge": InstanceTypeInfo(("arm64",), 4)}
    with pytest.raises(OpsError, match="The box is kept"):
        walked([NONE], box=stopped, instance_types=arm)
    with pytest.raises(OpsError, match="The box is kept, and costs its disk only"):
        walked([NONE, NONE], box=stopped)


def test_stopped_spot_box_keeps_its_type():
    stopped = instance("stopped", SpotInstanceRequestId="sir-1")
    with pytest.raises(OpsError, match="The box is kept"):
        walked([NONE], box=stopped)


def test_interrupted_spot_box_is_started_by_ec2_only():
    taken = instance(
        "stopped", SpotInstanceRequestId="sir-1", StateReason={"Code": "Server.SpotInstanceShutdown", "Message": "x"}
    )
    with pytest.raises(OpsError, match="EC2 starts it again.*resumes from the checkpoint"):
        walked([], box=taken)
    with pytest.raises(OpsError, match="EC2 starts it again"):
        walked(["IncorrectSpotRequestState"], box=instance("stopped", SpotInstanceRequestId="sir-1"))


def calls(steps):
    return [s.call if isinstance(s, Change) else s.what for s in change.preview(steps)]


def test_stop_plan_stops_and_waits():
    assert calls(plan.stop_box_steps(Facts(box=instance("running")))) == ["stop_instances", "box i-1"]
    assert calls(plan.stop_box_steps(Facts(box=instance("stopping")))) == ["box i-1"]
    assert calls(plan.stop_box_steps(Facts(box=instance("stopped")))) == []


def test_removal_cancels_the_spot_request_first():
    """Removal cancels the spot request first, and leaves nothing."""
    have = Facts(box=instance("running"), alarm={"AlarmName": "x"}, key_pair="key-1", spot_requests=("sir-1",))
    assert calls(plan.remove_box_steps(have, SETTINGS)) == [
        "cancel_spot_instance_requests", "terminate_instances", "box i-1", "delete_alarms", "delete_key_pair",
    ]  # fmt: skip
    assert calls(plan.remove_box_steps(Facts(alarm={"AlarmName": "x"}), SETTINGS)) == [
        "delete_alarms"
    ]  # what a crash left
    two = Facts(box=instance("running"), extra=("i-2",))
    assert calls(plan.remove_box_steps(two, SETTINGS)) == [
        "terminate_instances",
        "terminate_instances",
        "box i-1",
        "box i-2",
    ]


def test_box_terminated_during_boot_says_why():
    class Account:
        def call_or_none(self, *_, **__):
            reason = {"Message": "Server.InsufficientInstanceCapacity: none left"}
            return {"Reservations": [{"Instances": [{**instance("terminated"), "StateReason": reason}]}]}

        call = call_or_none

    with pytest.raises(OpsError, match="was terminated while it booted: Server.InsufficientInstanceCapacity"):
        plan.build_readiness_probe("i-1")(Account())


def refusal(hours, **more):
    when = (datetime.now(UTC) - timedelta(hours=hours)).isoformat()
    line = {
        "call": "ec2.run_instances",
        "stack": "demo",
        "time": when,
        "why": "start one",
        "outcome": "failed: InsufficientInstanceCapacity",
    }
    return json.dumps(line | more)


def test_recent_capacity_failures_come_from_the_audit_log(tmp_path, monkeypatch):
    monkeypatch.setattr(facts, "WORK", tmp_path)

    class Account:
        settings = SETTINGS

    assert facts.list_capacity_failures(Account) == []
    log = tmp_path / "audit.jsonl"
    log.write_text(
        "\n".join([refusal(1), refusal(1, stack="prod"), refusal(1, outcome="begin"), refusal(40), '{"call": "ec2.ru'])
    )
    assert [line.split(" ", 1)[1] for line in facts.list_capacity_failures(Account)] == ["start one"]
    log.write_text("\n".join([refusal(2), refusal(1, outcome="done")]))
    assert facts.list_capacity_failures(Account) == []

"""Scaling in the sandbox: its rules as tables, then real instances of a real endpoint under load, with the clock turned up."""

import itertools
import threading
import time
from datetime import UTC, datetime, timedelta

import pytest

from ops.core.errors import AwsError
from ops.endpoint import scaling

AAS = "application-autoscaling"


def test_invalid_scalable_target_is_rejected(demo_stack):
    account, where = demo_stack.account, scaling.identify_resource(demo_stack.settings)
    nothing = {**where, "ResourceId": "endpoint/none/variant/AllTraffic"}
    for args, words in (
        ({**nothing, "MinCapacity": 1, "MaxCapacity": 2}, "not in service"),
        ({**where, "MinCapacity": 3, "MaxCapacity": 2}, "Maximum capacity cannot be less"),
        ({**where, "MinCapacity": 0, "MaxCapacity": 2}, "cannot be less than 1"),
        ({**where, "ResourceId": where["ResourceId"] + "2"}, "are required to register"),
        ({**where, "ResourceId": where["ResourceId"] + "2", "MinCapacity": 1, "MaxCapacity": 2}, "has no variant AllTraffic2"),
    ):  # fmt: skip
        with pytest.raises(AwsError, match=words):
            account.call(AAS, "register_scalable_target", **args)
    policy = {
        "PolicyType": "TargetTrackingScaling",
        "TargetTrackingScalingPolicyConfiguration": scaling.build_policy_config(demo_stack.settings),
    }
    action = {"ScheduledActionName": "x", "Schedule": "rate(1 day)"}
    for call, args in (
        ("put_scaling_policy", {"PolicyName": "p", **policy}),
        ("put_scheduled_action", action),
        ("deregister_scalable_target", {}),
    ):
        with pytest.raises(AwsError, match="ObjectNotFoundException"):
            account.call(AAS, call, **nothing, **args)
    with pytest.raises(AwsError, match="ValidationException: Invalid schedule"):
        account.call(AAS, "put_scheduled_action", **where, **action | {"Schedule": "daily"})
    with pytest.raises(AwsError, match="ObjectNotFoundException"):
        account.call(AAS, "delete_scheduled_action", **where, ScheduledActionName="none")


class Load:
    """Requests to an endpoint, so many a pause of 0.2 s, from a thread of its own."""

    def __init__(self, account, name, body):
        self.runtime, self.name, self.body = account.client("sagemaker-runtime", "inference"), name, body
        self.each, self.sent, self.failed, self.over = 0, 0, [], threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)

    def run(self):
        while not self.over.wait(0.2):
            for _ in range(self.each):
                try:
                    self.runtime.invoke_endpoint(EndpointName=self.name, Body=self.body, ContentType="image/png")
                except Exception as error:
                    self.failed.append(error)
                self.sent += 1

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()


@pytest.fixture
def load(scaling_stack, digits):
    body = next((digits / "test" / "1").iterdir()).read_bytes()
    with Load(scaling_stack.account, scaling_stack.settings.endpoint_name, body) as load:
        yield load
    assert load.failed == []


def capacity(cli):
    """(running, desired)"""
    found = cli.account.call("sagemaker", "describe_endpoint", EndpointName=cli.settings.endpoint_name)
    variant = found["ProductionVariants"][0]
    return variant["CurrentInstanceCount"], variant["DesiredInstanceCount"]


def until(condition, seconds=90):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def alarms(cli):
    """The states of the policy's alarms: high, low."""
    prefix = f"TargetTracking-endpoint/{cli.settings.endpoint_name}/"
    found = cli.account.list_all("cloudwatch", "describe_alarms", "MetricAlarms", AlarmNamePrefix=prefix)
    return [alarm["StateValue"] for alarm in sorted(found, key=lambda alarm: alarm["EvaluationPeriods"])]


def activities(cli, **more):
    where = scaling.identify_resource(cli.settings)
    return cli.account.call(AAS, "describe_scaling_activities", **where, **more)["ScalingActivities"]


@pytest.mark.timeout(300)
def test_load_scales_out_and_quiet_scales_in(scaling_stack, inject_fault, load):
    """Load adds an instance; a quarter of an hour without load removes it."""
    scaling_stack("sm.autoscale")
    load.each = 1  # other tests on this stack may have left two
    inject_fault("clock", speed=60)
    until(lambda: capacity(scaling_stack) == (1, 1), 120)
    inject_fault("clock", speed=8)  # a minute is eight seconds, so that a boot of three can be seen on a busy machine
    load.each = 15
    until(lambda: capacity(scaling_stack)[1] == 2, 120)
    assert capacity(scaling_stack) == (1, 2)
    assert "1 of 2 instances are starting" in scaling_stack("sm.autoscale", "--explain", ok=False).out
    inject_fault("clock", speed=20)
    until(lambda: capacity(scaling_stack) == (2, 2))
    until(lambda: "NotScaledReasons" in activities(scaling_stack, IncludeNotScaledActivities=True)[0])
    explained = scaling_stack("sm.autoscale", "--explain", ok=False)
    assert explained.code == 7
    assert "! It has its maximum of 2 instances, and is above its target." in explained.out
    assert "not scaled: it has its maximum of instances" in explained.out
    done = activities(scaling_stack)[0]
    assert done["Description"] == "Setting desired instance count to 2."
    assert done["StatusCode"] == "Successful"
    load.each = 1  # still some in each minute: without, there is no point
    until(lambda: capacity(scaling_stack) == (1, 1), 120)
    assert "AlarmLow" in activities(scaling_stack)[0]["Cause"]
    assert activities(scaling_stack)[0]["Description"] == "Setting desired instance count to 1."
    sums = points(scaling_stack, 600)
    assert [point["Sum"] > 0 for point in sums[-3:]] == [True] * 3
    assert {(b["Timestamp"] - a["Timestamp"]).seconds for a, b in itertools.pairwise(sums)} == {60}


def points(cli, seconds):
    where = [
        {"Name": "EndpointName", "Value": cli.settings.endpoint_name},
        {"Name": "VariantName", "Value": "AllTraffic"},
    ]
    now = datetime.now(UTC)
    found = cli.account.call(
        "cloudwatch", "get_metric_statistics", Namespace="AWS/SageMaker", MetricName="InvocationsPerInstance",
        Dimensions=where, StartTime=now - timedelta(seconds=seconds), EndTime=now, Period=60, Statistics=["Sum"],
    )["Datapoints"]  # fmt: skip
    return sorted(found, key=lambda point: point["Timestamp"])


@pytest.mark.timeout(300)
def test_registration_and_schedule_change_capacity_at_once(scaling_stack, inject_fault):
    account, where = scaling_stack.account, scaling.identify_resource(scaling_stack.settings)
    scaling_stack("sm.autoscale")
    inject_fault("clock", speed=60)
    until(lambda: capacity(scaling_stack) == (1, 1))
    assert "start 1 more at once" in scaling_stack("sm.autoscale", "--min-instances", "2").err
    assert capacity(scaling_stack)[1] == 2
    until(lambda: capacity(scaling_stack) == (2, 2))
    assert (
        "Its bounds are 2 to 2 instances, the settings say 1 to 2"
        in scaling_stack("sm.autoscale", "--explain", ok=False).out
    )
    # what is not given stays; suspended, the schedule does nothing
    suspended = {"ScheduledScalingSuspended": True}
    account.call(AAS, "register_scalable_target", **where, SuspendedState=suspended)
    (target,) = account.list_all(
        AAS,
        "describe_scalable_targets",
        "ScalableTargets",
        ServiceNamespace="sagemaker",
        ResourceIds=[where["ResourceId"]],
    )
    assert (target["MinCapacity"], target["MaxCapacity"]) == (2, 2)
    assert target["SuspendedState"] == {**scaling.RESUMED, **suspended}
    action = {"MinCapacity": 1, "MaxCapacity": 1}
    account.call(
        AAS,
        "put_scheduled_action",
        **where,
        ScheduledActionName="x",
        Schedule="rate(1 minute)",
        ScalableTargetAction=action,
    )
    time.sleep(2)  # two minutes
    assert capacity(scaling_stack) == (2, 2)
    account.call(AAS, "register_scalable_target", **where, SuspendedState=scaling.RESUMED)
    until(lambda: capacity(scaling_stack) == (1, 1))
    assert activities(scaling_stack)[0]["Cause"] == "scheduled action name x was triggered"
    account.call(AAS, "delete_scheduled_action", **where, ScheduledActionName="x")
    inject_fault("clock", speed=1)
    assert "scale between 1 and 2 instances" in scaling_stack("sm.autoscale").err


@pytest.mark.timeout(300)
def test_concurrency_metric_scales_within_half_a_minute(scaling_stack, inject_fault, load):
    scaling_stack("sm.autoscale")
    inject_fault("clock", speed=20)
    until(lambda: capacity(scaling_stack)[0] == capacity(scaling_stack)[1])
    scaling_stack("sm.autoscale", "--max-instances", "1")
    until(lambda: capacity(scaling_stack) == (1, 1))
    fast = type(scaling_stack)(scaling_stack.file.with_name("wholefast.yaml"))
    more = "max_instances: 2, scaling_metric: concurrency, concurrency_per_instance: 0.2"
    fast.file.write_text(scaling_stack.file.read_text().replace("max_instances: 2", more))
    fast("sm.autoscale")
    inject_fault("slow", endpoint=scaling_stack.settings.endpoint_name, seconds=0.4)
    load.each = 2  # one is nearly always under way, and few come in a minute of the sandbox's: by invocations nothing would happen
    until(lambda: capacity(scaling_stack)[1] == 2, 20)
    assert "triggered policy kennel-whole-concurrency" in activities(scaling_stack)[0]["Cause"]
    load.each = 0
    inject_fault("slow", endpoint=scaling_stack.settings.endpoint_name, seconds=0)
    until(lambda: capacity(scaling_stack) == (2, 2))
    scaling_stack("sm.autoscale", "--max-instances", "1")
    until(lambda: capacity(scaling_stack) == (1, 1))
    scaling_stack("sm.autoscale")

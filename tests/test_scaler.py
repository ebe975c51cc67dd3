"""Scaling: the rule as a table, then real instances of a real endpoint under load, with the clock turned up."""

import time

import pytest

from ops.sm import scaling
from sandbox import state
from sandbox.scaler import decide
from sandbox.tasks import ask


@pytest.mark.parametrize(
    ("points", "count", "wanted"),
    [
        ([25, 25], 1, 1),
        ([25, 25, 25], 1, 2),
        ([25, 20, 25], 1, 1),
        ([None, 25, 25, 90], 1, 4),
        ([25, None, 25, 25], 1, 1),
        ([500, 500, 500], 1, 4),
        ([5] * 14, 4, 4),
        ([5] * 15, 4, 1),
        ([12] * 15, 4, 3),
        ([19] * 15, 4, 4),
        ([5] * 7 + [None] + [5] * 7, 4, 4),
        ([], 9, 4),
    ],
)
def test_three_points_above_grow_it_and_fifteen_below_shrink_it(points, count, wanted):
    assert decide(points, count, least=1, most=4, target=20) == wanted


def test_autoscale_wants_an_endpoint_and_the_policy_a_target(whole):
    from ops.errors import Refused

    account, where = whole.account, scaling.resource(whole.settings)
    nothing = {**where, "ResourceId": "endpoint/none/variant/AllTraffic"}
    with pytest.raises(Refused, match="not in service"):
        account.call("application-autoscaling", "register_scalable_target", **nothing, MinCapacity=1, MaxCapacity=2)
    with pytest.raises(Refused, match="ObjectNotFoundException"):
        account.call(
            "application-autoscaling", "put_scaling_policy", **nothing, PolicyName="p", PolicyType="TargetTrackingScaling",
            TargetTrackingScalingPolicyConfiguration=scaling.wanted(whole.settings),
        )  # fmt: skip


@pytest.mark.timeout(200)
def test_load_starts_a_second_instance_that_answers(whole, sandbox, digits):
    running, account, name = state.read(sandbox), whole.account, whole.settings.endpoint_name
    body = next((digits / "test" / "1").iterdir()).read_bytes()
    alarms = account.pages(
        "cloudwatch", "describe_alarms", "MetricAlarms", AlarmNamePrefix=f"TargetTracking-endpoint/{name}/"
    )
    assert [alarm["EvaluationPeriods"] for alarm in sorted(alarms, key=lambda a: a["AlarmName"])] == [3, 15]
    runtime = account.client("sagemaker-runtime", "inference")
    ask(running, "POST", "clock", {"speed": 20})  # a minute is three seconds
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            for _ in range(15):
                assert (
                    runtime.invoke_endpoint(EndpointName=name, Body=body, ContentType="image/png")["ContentType"]
                    == "application/json"
                )
            time.sleep(0.2)
            found = account.call("sagemaker", "describe_endpoint", EndpointName=name)
            if found["ProductionVariants"][0]["CurrentInstanceCount"] == 2:
                break
    finally:
        ask(running, "POST", "clock", {"speed": 1})
    assert found["ProductionVariants"][0]["CurrentInstanceCount"] == 2
    activities = account.call(
        "application-autoscaling", "describe_scaling_activities", **scaling.resource(whole.settings)
    )["ScalingActivities"]
    assert activities[0]["Description"] == "Setting desired instance count to 2."
    assert "x 2 of 2" in whole("sm.status", "--minutes", "1", ok=False).out  # other tests may have left errors
    assert account.call("sagemaker-runtime", "invoke_endpoint", EndpointName=name, Body=body, ContentType="image/png")

"""sm.autoscale: plans by equality, what it explains by table, and both for real on a deployed endpoint."""

from datetime import UTC, datetime

import pytest

from ops.core import plan as change
from ops.core.errors import AwsError, OpsError
from ops.core.finding import Finding
from ops.core.paths import ROOT
from ops.endpoint import plan as endpoint
from ops.endpoint import scaling, scaling_diagnosis, teardown
from ops.endpoint.scaling_diagnosis import Alarm, ScalingState
from tests.conftest import settings_of

SCHEDULE = """endpoint:
  schedule:
    - {name: morning, when: "cron(45 7 ? * MON-FRI *)", timezone: Europe/Berlin, min_instances: 2, max_instances: 6}
    - {name: launch, when: "at(2026-12-01T09:00:00)", timezone: UTC, min_instances: 4, max_instances: 4}
"""


def changed(**endpoint):
    """The original's settings, with others of the endpoint."""
    return PLAIN.model_copy(update={"endpoint": PLAIN.endpoint.model_copy(update=endpoint)})


PLAIN = settings_of(ROOT / "original.example.yaml")
CLOCKED = changed(schedule=settings_of(text=SCHEDULE).endpoint.schedule)
BY_CONCURRENCY = changed(scaling_metric="concurrency", concurrency_per_instance=3)
NOW = datetime(2026, 11, 22, tzinfo=UTC)
WHERE = {
    "ServiceNamespace": "sagemaker",
    "ResourceId": "endpoint/kennel-demo/variant/AllTraffic",
    "ScalableDimension": "sagemaker:variant:DesiredInstanceCount",
}
RIGHT = {"kennel-demo-invocations": scaling.build_policy_config(PLAIN)}
ACTIONS = scaling.build_schedule(CLOCKED, NOW)


def plan(have, settings=PLAIN, bounds=None, now=NOW):
    return change.preview(scaling.steps(have, settings, bounds, now))


def calls(*given, **more):
    return [step.call for step in plan(*given, **more)]


def test_bare_endpoint_gets_bounds_and_a_policy():
    register, policy = plan(scaling.Facts())
    assert register == change.Change(
        "application-autoscaling",
        "register_scalable_target",
        {
            **WHERE,
            "MinCapacity": 1,
            "MaxCapacity": 2,
            "SuspendedState": {
                "DynamicScalingInSuspended": False,
                "DynamicScalingOutSuspended": False,
                "ScheduledScalingSuspended": False,
            },
        },
        why="scale between 1 and 2 instances; adds up to",
        dollars_per_hour=0.115,
    )
    assert policy == change.Change(
        "application-autoscaling",
        "put_scaling_policy",
        {
            **WHERE,
            "PolicyName": "kennel-demo-invocations",
            "PolicyType": "TargetTrackingScaling",
            "TargetTrackingScalingPolicyConfiguration": {
                "TargetValue": 20.0,
                "PredefinedMetricSpecification": {"PredefinedMetricType": "SageMakerVariantInvocationsPerInstance"},
                "ScaleOutCooldown": 20,
                "ScaleInCooldown": 20,
            },
        },
        why="track 20 invocations per instance and minute",
    )


@pytest.mark.parametrize(
    ("have", "settings", "bounds", "expected"),
    [
        (scaling.Facts((1, 2), RIGHT), PLAIN, None, []),
        (scaling.Facts((1, 4), RIGHT), PLAIN, None, ["register_scalable_target"]),
        (scaling.Facts((1, 4), RIGHT), PLAIN, (1, 4), []),
        (scaling.Facts((1, 2), RIGHT), PLAIN, (2, 2), ["register_scalable_target"]),
        (scaling.Facts((1, 2), RIGHT, ("DynamicScalingInSuspended",)), PLAIN, None, ["register_scalable_target"]),
        (scaling.Facts((1, 2), RIGHT, deleted_alarms=1), PLAIN, None, ["put_scaling_policy"]),
        (scaling.Facts((1, 2), {"kennel-demo-invocations": {}}), PLAIN, None, ["put_scaling_policy"]),
        (scaling.Facts((1, 2), RIGHT | {"theirs": {}}), PLAIN, None, []),
        (scaling.Facts((1, 2), RIGHT), BY_CONCURRENCY, None, ["put_scaling_policy", "delete_scaling_policy"]),
        (scaling.Facts((1, 2), RIGHT), CLOCKED, None, ["put_scheduled_action", "put_scheduled_action"]),
        (scaling.Facts((1, 2), RIGHT, schedule=ACTIONS), CLOCKED, None, []),
        (scaling.Facts((2, 6), RIGHT, schedule=ACTIONS), CLOCKED, None, []),  # the morning has come
        (scaling.Facts((4, 4), RIGHT, schedule=ACTIONS), CLOCKED, None, ["register_scalable_target"]),
        (scaling.Facts((2, 6), RIGHT), PLAIN, None, ["register_scalable_target"]),
        (scaling.Facts((1, 2), RIGHT, schedule=ACTIONS | {"theirs": {}}), PLAIN, None, ["delete_scheduled_action"] * 2),
    ],
    ids=[
        "all is right", "wider than the settings", "as wide as asked", "two at least", "suspended", "an alarm is gone",
        "another target", "foreign policy stays", "another metric", "a schedule", "scheduled already", "in its morning",
        "a single action does not stay", "no schedule explains it", "no schedule any more",
    ],
)  # fmt: skip
def test_autoscale_plan_follows_facts_and_settings(have, settings, bounds, expected):
    assert calls(have, settings, bounds) == expected


def test_new_metric_is_put_before_the_old_is_deleted():
    put, delete = plan(scaling.Facts((1, 2), RIGHT), BY_CONCURRENCY)
    assert (
        put.args["TargetTrackingScalingPolicyConfiguration"]
        == scaling.build_policy_config(BY_CONCURRENCY)
        == {
            "TargetValue": 3.0,
            "PredefinedMetricSpecification": {
                "PredefinedMetricType": "SageMakerVariantConcurrentRequestsPerModelHighResolution"
            },
            "ScaleOutCooldown": 20,
            "ScaleInCooldown": 20,
        }
    )
    assert put.why == "track 3 requests at once per instance"
    assert delete.args == {**WHERE, "PolicyName": "kennel-demo-invocations"}
    assert delete.why == "scale by concurrency instead of invocations"


def test_schedule_has_the_name_of_the_stack_and_its_price():
    morning, launch = plan(scaling.Facts((1, 2), RIGHT), CLOCKED)
    assert morning.args == {
        **WHERE,
        "ScheduledActionName": "kennel-demo-morning",
        "Schedule": "cron(45 7 ? * MON-FRI *)",
        "Timezone": "Europe/Berlin",
        "ScalableTargetAction": {"MinCapacity": 2, "MaxCapacity": 6},
    }
    assert morning.why == "scale between 2 and 6 instances from cron(45 7 ? * MON-FRI *) Europe/Berlin; adds up to"
    assert morning.dollars_per_hour == pytest.approx(4 * 0.115)  # beyond the two that are priced already
    assert launch.dollars_per_hour == 0
    later = datetime(2026, 12, 2, tzinfo=UTC)
    assert calls(scaling.Facts((1, 2), RIGHT), CLOCKED, now=later) == ["put_scheduled_action"]
    (gone,) = plan(scaling.Facts((1, 2), RIGHT, schedule=ACTIONS), CLOCKED, now=later)
    assert (gone.call, gone.args["ScheduledActionName"]) == ("delete_scheduled_action", "kennel-demo-launch")


@pytest.mark.parametrize(
    ("have", "bounds", "why", "dollars"),
    [
        (scaling.Facts((1, 2), RIGHT), (3, 6), "scale between 3 and 6 instances, start 2 more at once; adds up to", 0.575),
        (scaling.Facts((1, 4), RIGHT, instances=4), None, "scale between 1 and 2 instances, remove 2 at once", 0),
        (scaling.Facts((1, 2), RIGHT, ("DynamicScalingOutSuspended",)), None, "resume scaling out; adds up to", 0.115),
        (
            scaling.Facts((1, 9), RIGHT, ("DynamicScalingOutSuspended", "ScheduledScalingSuspended")), None,
            "resume scaling out and the schedule, scale between 1 and 2 instances; adds up to", 0.115,
        ),
    ],
)  # fmt: skip
def test_registration_states_its_effect_and_highest_price(have, bounds, why, dollars):
    """Registering states what happens at once, and the most that it costs."""
    (register,) = plan(have, bounds=bounds)
    assert (register.why, register.dollars_per_hour) == (why, pytest.approx(dollars))


def test_resuming_keeps_the_bounds_of_the_schedule():
    (register,) = plan(scaling.Facts((2, 6), RIGHT, ("DynamicScalingInSuspended",), ACTIONS), CLOCKED)
    assert (register.args["MinCapacity"], register.args["MaxCapacity"]) == (2, 6)


def test_concurrent_update_says_to_wait():
    steps = scaling.steps(scaling.Facts(), PLAIN)
    next(steps)
    with pytest.raises(OpsError, match=r"ConcurrentUpdateException(.|\n)*Wait until invoke sm.status says InService"):
        steps.throw(AwsError("RegisterScalableTarget", "ConcurrentUpdateException", "an update is pending"))


def test_invalid_bounds_and_burstable_types_are_rejected():
    """Bounds without room, and burstable types, are rejected before any call."""
    assert scaling.resolve_bounds(PLAIN, 2, 4) == (2, 4)
    with pytest.raises(OpsError, match="--min-instances 4 --max-instances 4"):
        scaling.resolve_bounds(PLAIN, 4)
    with pytest.raises(OpsError, match="at least 1, not -1"):
        scaling.resolve_bounds(PLAIN, -1)
    with pytest.raises(OpsError, match=r"ml\.t2\.medium: AWS does not scale burstable types"):
        scaling.refuse_burstable("ml.t2.medium")


def test_teardown_names_the_scheduled_actions():
    have = (endpoint.Facts(), scaling.Facts((1, 2), RIGHT, schedule=ACTIONS))
    (deregister,) = change.preview(teardown.steps(have, CLOCKED))
    assert deregister.why.endswith("with its policy and its scheduled actions")


HIGH = Alarm("out", "h", "OK", 20.0, 3, 60, (4.0, 12.0, 25.0))
FIRING = Alarm("out", "h", "ALARM", 20.0, 3, 60, (24.0, 32.0, 25.0))
LOW = Alarm("in", "l", "OK", 18.0, 15, 60, (4.0,) * 15)
GAPS = Alarm("in", "l", "INSUFFICIENT_DATA", 18.0, 15, 60, (4.0,) * 6 + (None,) * 9)
QUIET = changed(scale_out_cooldown_s=300, scale_in_cooldown_s=300)
OURS = {"kennel-demo-invocations": scaling.build_policy_config(QUIET)}
FULL = "It has its maximum of 2 instances"


def seen(have, status="InService", running=1, alarms=(HIGH, LOW), activities=()):
    return ScalingState(status, running, have, alarms, activities, NOW)


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        (seen(scaling.Facts((1, 2), OURS)), []),
        (seen(scaling.Facts(None)), [("error", "No scalable target is registered: the number of instances stays at 1.")]),
        (seen(scaling.Facts((1, 2))), [("error", "It has no scaling policy for invocations.")]),
        (
            seen(scaling.Facts((1, 2), OURS, ("DynamicScalingOutSuspended", "ScheduledScalingSuspended"))),
            [("error", "Scaling out is suspended."), ("error", "The schedule is suspended.")],
        ),
        (seen(scaling.Facts((1, 8), OURS)), [("error", "Its bounds are 1 to 8 instances, the settings say 1 to 2.")]),
        (
            seen(scaling.Facts((1, 2), {"kennel-demo-invocations": {**scaling.build_policy_config(QUIET), "TargetValue": 900.0}})),
            [("error", "Its policy has TargetValue 900.0, the settings say 20.0.")],
        ),
        (seen(scaling.Facts((1, 2), OURS, deleted_alarms=1)), [("error", "An alarm of its policy was deleted.")]),
        (seen(scaling.Facts((1, 2), OURS | {"x": {}})), [("note", "There is a second policy, x, not created by Kennel.")]),
        (
            seen(scaling.Facts((1, 2), OURS | {"kennel-demo-concurrency": {}})),
            [("error", "There is a second policy, kennel-demo-concurrency, left from another metric")],
        ),
        (seen(scaling.Facts((1, 2), OURS, instances=2), running=2), [("note", FULL + ": more load adds none.")]),
        (
            seen(scaling.Facts((1, 2), OURS, instances=2), running=2, alarms=(FIRING, LOW)),
            [("error", FULL + ", and is above its target. Raise the maximum for now: invoke sm.autoscale --max-instances 4")],
        ),
        (seen(scaling.Facts((1, 2), OURS), alarms=(FIRING, LOW)), []),
        (seen(scaling.Facts((1, 3), OURS, instances=2), alarms=(HIGH, LOW)), [
            ("error", "Its bounds are 1 to 3 instances"), ("note", "1 of 2 instances are starting: 3 to 7 minutes each."),
        ]),
        (
            seen(scaling.Facts((1, 2), OURS, instances=2), running=2, alarms=(HIGH, GAPS)),
            [("note", FULL), ("note", "No instance is removed yet: 9 of the last 15 minutes had no request, and so no data point;")],
        ),
        (seen(scaling.Facts((1, 2), OURS), status="Updating"), [("note", "The endpoint is Updating: its instances are not")]),
        (seen(scaling.Facts((1, 2), OURS), status="Failed"), [("error", "The endpoint has failed")]),
        (
            seen(scaling.Facts((1, 2), OURS), activities=({"StatusCode": "Failed", "Description": "x", "StatusMessage": "No quota."},)),
            [("error", "The last scaling activity Failed: No quota. Check the quota of ml.m5.large; if it is not reached, AWS lacks capacity: try again later")],
        ),
        (
            seen(scaling.Facts((1, 2), OURS), activities=(
                {"StatusCode": "NotScaled", "Description": "x", "NotScaledReasons": [{"Code": "AlreadyAtMaxCapacity"}]},
                {"StatusCode": "Successful", "Description": "x"},
            )),
            [],
        ),
        (
            seen(scaling.Facts((1, 2), OURS, schedule={"kennel-demo-old": {"Schedule": "rate(1 day)"}, "x": {"Schedule": "rate(1 day)"}})),
            [("error", "The scheduled action kennel-demo-old, rate(1 day), is not in the settings"), ("note", "The scheduled action x,")],
        ),
    ],
    ids=[
        "well", "unregistered", "no policy", "suspended", "other bounds", "another target", "no alarm", "foreign policy",
        "an old policy", "full and idle", "full and busy", "busy", "starting", "no requests", "updating", "failed", "no quota",
        "not scaled", "old actions",
    ],
)  # fmt: skip
def test_scaling_problems_are_findings(facts, expected):
    found = scaling_diagnosis.findings(facts, QUIET)
    assert len(found) == len(expected), found
    for one, (severity, words) in zip(found, expected, strict=True):
        assert one.severity == severity, one
        assert scaling_diagnosis.describe_finding(one)[2:].startswith(words), one


def test_missing_schedules_and_useless_cooldowns_are_findings():
    """A schedule that is missing, and cooldowns without effect, are findings."""
    found = scaling_diagnosis.findings(seen(scaling.Facts((1, 2), RIGHT)), CLOCKED)
    assert [(one.severity, one.message.split(":")[0], one.fix) for one in found] == [
        ("error", "The scheduled action kennel-demo-morning is missing.", "invoke sm.autoscale"),
        ("error", "The scheduled action kennel-demo-launch is missing.", "invoke sm.autoscale"),
        ("note", "endpoint.scale_out_cooldown_s 20 has no effect", ""),
        ("note", "endpoint.scale_in_cooldown_s 20 has no effect", ""),
    ]


def test_shipped_scaling_has_no_finding():
    """Its cooldowns have an effect, with either metric."""
    for metric in scaling.METRICS:
        shipped = settings_of(text=f"endpoint: {{scaling_metric: {metric}}}")
        policies = {scaling.derive_policy_name(shipped): scaling.build_policy_config(shipped)}
        facts = scaling.Facts(scaling.resolve_bounds(shipped), policies)
        assert list(scaling_diagnosis.findings(seen(facts), shipped)) == []


@pytest.mark.parametrize(
    ("finding", "line"),
    [
        (Finding("note", "It starts."), "- It starts."),
        (Finding("error", "It is away.", "invoke a.b"), "! It is away. Next: invoke a.b"),
        (Finding("error", "It is off.", "Resume it: invoke a.b"), "! It is off. Resume it: invoke a.b"),
        (Finding("error", "One is too many: invoke a.b.", "invoke a.b"), "! One is too many: invoke a.b."),
    ],
)
def test_finding_is_one_line_with_its_fix(finding, line):
    assert scaling_diagnosis.describe_finding(finding) == line


@pytest.mark.parametrize(
    ("values", "points"),
    [
        ({1: 5.0, 2: 4.0, 3: 3.0, 4: 2.0}, (3.0, 4.0, 5.0)),
        ({0: 9.0, 1: 5.0, 3: 3.0}, (3.0, None, 5.0)),  # 0 is not over
        ({2: 4.0, 3: 3.0, 4: 2.0}, (2.0, 3.0, 4.0)),  # CloudWatch is late
        ({4: 2.0}, (None, None, None)),
        ({}, (None, None, None)),
    ],
)
def test_last_points_of_an_alarm_are_selected(values, points):
    assert scaling_diagnosis.select_last_points(values, 3) == points


def test_explanation_is_plain_text():
    facts = seen(
        scaling.Facts((1, 2), OURS, instances=2),
        running=2,
        alarms=(FIRING, GAPS),
        activities=(
            {
                "StartTime": NOW, "StatusCode": "NotScaled", "Description": "x", "Cause": "monitor alarm h",
                "NotScaledReasons": [{"Code": "AlreadyAtMaxCapacity", "MaxCapacity": 2}],
            },
        ),
    )  # fmt: skip
    lines = scaling_diagnosis.describe_diagnosis(facts, scaling_diagnosis.findings(facts, QUIET), QUIET).splitlines()
    assert lines[0] == "kennel-demo does not scale as the settings say:"
    assert lines[1].startswith("! It has its maximum of 2 instances, and is above its target.")
    assert lines[-4:] == [
        "Adds instances after 3 one-minute points in a row above 20 requests a minute each; latest points: 24, 32, 25. Alarm state: ALARM",
        "Removes instances after 15 one-minute points in a row below 18 requests a minute each; latest points: "
        + "4, " * 6 + "none, " * 8 + "none. Alarm state: INSUFFICIENT_DATA",
        "Latest scaling activities:",
        "  2026-11-22 00:00:00Z  not scaled: it has its maximum of instances (monitor alarm h)",
    ]  # fmt: skip

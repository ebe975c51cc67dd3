"""Scaling in the sandbox: its rules as tables, then real instances of a real endpoint under load, with the clock turned up."""

from datetime import UTC, datetime, timedelta

import pytest

from sandbox.autoscaling import schedules, tracking


@pytest.mark.parametrize(
    ("way", "points", "before", "expected"),
    [
        ("out", [25, 25, 25], "OK", "ALARM"),
        ("out", [25, 20, 25], "ALARM", "OK"),
        ("out", [None, 25, 25], "INSUFFICIENT_DATA", "INSUFFICIENT_DATA"),
        ("out", [25, None, 25], "OK", "OK"),
        ("out", [25, None, 25], "ALARM", "ALARM"),  # too few to tell: it stays
        ("out", [None, None, 5], "INSUFFICIENT_DATA", "OK"),
        ("out", [None, None, None], "ALARM", "INSUFFICIENT_DATA"),
        ("in", [5] * 15, "OK", "ALARM"),
        ("in", [5] * 14 + [20], "ALARM", "OK"),
        ("in", [5] * 7 + [None] + [5] * 7, "OK", "OK"),
    ],
)
def test_alarm_state_follows_from_its_points(way, points, before, expected):
    assert tracking.derive_alarm_state(way, points, 20, before) == expected


@pytest.mark.parametrize(
    ("way", "point", "count", "expected"),
    [
        ("out", 25, 1, (2, "")),
        ("out", 90, 1, (4, "")),
        ("out", 500, 1, (4, "")),
        ("out", 25, 4, (4, "AlreadyAtMaxCapacity")),
        ("out", 25, 9, (9, "AlreadyAtMaxCapacity")),
        ("in", 5, 4, (1, "")),
        ("in", 12, 4, (3, "")),
        ("in", 17, 2, (2, "AlreadyAtDesiredCapacity")),
        ("in", 5, 1, (1, "AlreadyAtMinCapacity")),
    ],
)
def test_alarm_decides_the_instance_count(way, point, count, expected):
    assert tracking.decide_instance_count(way, point, count, (1, 4), 20) == expected


def test_policy_has_two_alarms_or_one_without_scale_in():
    """A policy has two alarms, or one if scaling in is disabled."""
    policy = {"TargetValue": 20.0, "PredefinedMetricSpecification": {}}
    kind = policy["PredefinedMetricSpecification"]
    kind["PredefinedMetricType"] = "SageMakerVariantInvocationsPerInstance"
    high, low = tracking.build_alarm_parameters(policy)
    assert (high["metric_name"], high["period"], high["evaluation_periods"]) == ("InvocationsPerInstance", 60, 3)
    assert (low["threshold"], low["period"], low["evaluation_periods"]) == (18.0, 60, 15)
    kind["PredefinedMetricType"] = "SageMakerVariantConcurrentRequestsPerModelHighResolution"
    high, low = tracking.build_alarm_parameters(policy)
    assert (high["metric_name"], high["period"], high["evaluation_periods"]) == ("ConcurrentRequestsPerModel", 10, 3)
    assert low["period"] == 60
    assert len(tracking.build_alarm_parameters({**policy, "DisableScaleIn": True})) == 1


def test_suspensions_stop_one_direction_each():
    state = {"DynamicScalingOutSuspended": True, "DynamicScalingInSuspended": False}
    assert [tracking.is_scaling_suspended(state, way) for way in ("out", "in", "schedule")] == [True, False, False]
    assert not tracking.is_scaling_suspended(None, "out")


def moment(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


BEGUN = moment("2026-11-20T00:00:30")


@pytest.mark.parametrize(
    ("schedule", "zone", "until", "expected"),
    [
        ("at(2026-11-23T08:00:00)", None, "2026-11-23T08:00:00", True),
        ("at(2026-11-23T08:00:00)", None, "2026-11-23T07:59:59", False),
        ("at(2026-11-23T08:00:00)", "Europe/Berlin", "2026-11-23T07:00:05", True),
        ("rate(5 minutes)", None, "2026-11-23T08:00:31", True),
        ("rate(5 minutes)", None, "2026-11-23T08:00:29", False),
        ("rate(1 day)", None, "2026-11-23T00:00:30", True),
        ("cron(0 8 * * ? *)", None, "2026-11-23T08:00:02", True),
        ("cron(0 8 * * ? *)", None, "2026-11-23T08:01:02", False),
        ("cron(0 8 ? * MON-FRI *)", "Europe/Berlin", "2026-11-23T07:00:02", True),  # a Monday
        ("cron(0 8 ? * MON-FRI *)", "Europe/Berlin", "2026-11-22T07:00:02", False),
        ("cron(0/15 8-10 ? NOV,DEC 1 2026)", None, "2026-11-22T09:45:02", True),  # 1 is Sunday
        ("cron(0/15 8-10 ? NOV,DEC 1 2027)", None, "2026-11-22T09:45:02", False),
    ],
)
def test_scheduled_actions_are_due_on_time(schedule, zone, until, expected):
    until = moment(until)
    assert schedules.is_schedule_due(schedule, zone, BEGUN, until - timedelta(seconds=10), until) is expected


@pytest.mark.parametrize(
    "schedule", ["0 8 * * *", "cron(0 8 * * *)", "cron(0 8 * * * *)", "cron(0 8 L * ? *)", "cron(99 8 * * ? *)", "rate(0 days)", "at(noon)"]
)  # fmt: skip
def test_invalid_schedule_is_rejected(schedule):
    with pytest.raises(ValueError, match="."):
        schedules.validate_schedule(schedule, "UTC")
    with pytest.raises(KeyError):
        schedules.validate_schedule("at(2026-11-23T08:00:00)", "Middle/Earth")

"""Target tracking's decisions: the state of its two alarms from their points, and the resulting number of instances.

The high alarm fires after three points above the target, the low one after fifteen below nine tenths of it. A period without a
request has no point, so an endpoint without callers is not scaled in, as on AWS.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

OUT_POINTS, IN_POINTS = 3, 15
IN_SHARE = 0.9  # the low alarm's threshold as a share of the target
SUSPENSIONS = ("DynamicScalingInSuspended", "DynamicScalingOutSuspended", "ScheduledScalingSuspended")


@dataclass(frozen=True)
class Metric:
    """A predefined metric as CloudWatch has it. `period` is the seconds of one point of the high alarm."""

    name: str
    statistic: str
    period: int


METRICS = {
    "SageMakerVariantInvocationsPerInstance": Metric("InvocationsPerInstance", "Sum", 60),
    "SageMakerVariantConcurrentRequestsPerModelHighResolution": Metric("ConcurrentRequestsPerModel", "Average", 10),
}


def build_alarm_parameters(configuration: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the alarm parameters that follow from a policy's configuration. Raises KeyError for an unknown metric."""
    metric = METRICS[configuration["PredefinedMetricSpecification"]["PredefinedMetricType"]]
    target = configuration["TargetValue"]
    common = {"metric_name": metric.name, "statistic": metric.statistic}
    high = {
        "comparison_operator": "GreaterThanThreshold", "evaluation_periods": OUT_POINTS, "period": metric.period,
        "threshold": target, **common,
    }  # fmt: skip
    low = {
        "comparison_operator": "LessThanThreshold", "evaluation_periods": IN_POINTS, "period": 60,
        "threshold": target * IN_SHARE, **common,
    }  # fmt: skip
    return [high] if configuration.get("DisableScaleIn") else [high, low]


def is_breaching_point(direction: str, point: float, threshold: float) -> bool:
    """Return whether a point calls for scaling in `direction`, "out" or "in"."""
    return point > threshold if direction == "out" else point < threshold


def derive_alarm_state(direction: str, points: Sequence[float | None], threshold: float, before: str) -> str:
    """Return an alarm's state from the points of its periods (None: no point); `before` when too few points decide."""
    known_points = [point for point in points if point is not None]
    if not known_points:
        return "INSUFFICIENT_DATA"
    if not all(is_breaching_point(direction, point, threshold) for point in known_points):
        return "OK"
    return "ALARM" if len(known_points) == len(points) else before


def decide_instance_count(
    direction: str, point: float, count: int, bounds: tuple[int, int], target: float
) -> tuple[int, str]:
    """Return (wanted instances, "") for an alarm that fired, or (current ones, AWS's reason code for not scaling)."""
    least, most = bounds
    if direction == "out" and count >= most:
        return count, "AlreadyAtMaxCapacity"
    if direction == "in" and count <= least:
        return count, "AlreadyAtMinCapacity"
    wanted = math.ceil(count * point / target)
    wanted = min(most, max(count, wanted)) if direction == "out" else max(least, min(count, wanted))
    return wanted, "" if wanted != count else "AlreadyAtDesiredCapacity"


def clamp_count(count: int, bounds: tuple[int, int]) -> int:
    least, most = bounds
    return min(most, max(least, count))


def is_scaling_suspended(suspended: dict[str, bool] | None, direction: str) -> bool:
    """Return whether a target's SuspendedState stops scaling `out`, `in`, or by `schedule`."""
    names = dict(zip(("in", "out", "schedule"), SUSPENSIONS, strict=True))
    return bool((suspended or {}).get(names[direction]))

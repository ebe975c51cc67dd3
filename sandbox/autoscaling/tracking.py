"""What target tracking decides: the state of its two alarms from their points, and the number of instances that follows.

The high alarm fires after three points above the target, the low one after fifteen below nine tenths of it. A period without a
request has no point, so an endpoint that nobody calls is not scaled in, as on AWS.
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
    """What a predefined metric is in CloudWatch, and how many seconds a point of the high alarm stands for."""

    name: str
    statistic: str
    period: int


METRICS = {
    "SageMakerVariantInvocationsPerInstance": Metric("InvocationsPerInstance", "Sum", 60),
    "SageMakerVariantConcurrentRequestsPerModelHighResolution": Metric("ConcurrentRequestsPerModel", "Average", 10),
}


def build_alarm_parameters(configuration: dict[str, Any]) -> list[dict[str, Any]]:
    """The alarms of a policy, as far as they follow from it. Raises KeyError for a metric that is not known here."""
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


def is_breaching_point(way: str, point: float, threshold: float) -> bool:
    """Whether a point calls for scaling `out` or `in`."""
    return point > threshold if way == "out" else point < threshold


def derive_alarm_state(way: str, points: Sequence[float | None], threshold: float, before: str) -> str:
    """An alarm's state from the points of its periods, None where there is none; with too few to tell, the one before."""
    there = [point for point in points if point is not None]
    if not there:
        return "INSUFFICIENT_DATA"
    if not all(is_breaching_point(way, point, threshold) for point in there):
        return "OK"
    return "ALARM" if len(there) == len(points) else before


def decide_instance_count(
    way: str, point: float, count: int, bounds: tuple[int, int], target: float
) -> tuple[int, str]:
    """(instances there should be, "") when an alarm has fired, or (those there are, AWS's code of the reason why not)."""
    least, most = bounds
    if way == "out" and count >= most:
        return count, "AlreadyAtMaxCapacity"
    if way == "in" and count <= least:
        return count, "AlreadyAtMinCapacity"
    wanted = math.ceil(count * point / target)
    wanted = min(most, max(count, wanted)) if way == "out" else max(least, min(count, wanted))
    return wanted, "" if wanted != count else "AlreadyAtDesiredCapacity"


def clamp_count(count: int, bounds: tuple[int, int]) -> int:
    least, most = bounds
    return min(most, max(least, count))


def is_scaling_suspended(suspended: dict[str, bool] | None, way: str) -> bool:
    """Whether a target's SuspendedState stops scaling `out`, `in`, or by `schedule`."""
    names = dict(zip(("in", "out", "schedule"), SUSPENSIONS, strict=True))
    return bool((suspended or {}).get(names[way]))

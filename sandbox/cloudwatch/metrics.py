"""CloudWatch metrics: put as the services themselves do, and read on the sandbox's own clock.

Points are stamped with the sandbox's clock. A caller's times are shifted by its offset from wall time, so the last fifteen
minutes are always fifteen minutes of the sandbox, at any speed.
"""

from __future__ import annotations

import math
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from typing import Any

from moto.cloudwatch.exceptions import ValidationError
from moto.cloudwatch.responses import CloudWatchResponse
from moto.core.responses import ActionResult

from sandbox.cloudwatch.metric_index import Metric, make_aware
from sandbox.world import World, get_world

NEW_ALARM_S = 5.0  # seconds of the sandbox's clock before a new alarm is evaluated; on AWS up to a minute


def put_metrics(
    world: World,
    namespace: str,
    dimensions: dict[str, str],
    at: datetime | None = None,
    **values: tuple[float, str],
) -> None:
    """Put one datum for each NAME=(value, unit), stamped `at` or with the sandbox's current time."""
    stamp = make_naive(at or world.clock.utc())
    named = [{"Name": name, "Value": value} for name, value in dimensions.items()]
    data = [
        {"MetricName": name, "Value": value, "Unit": unit, "Dimensions": named, "Timestamp": stamp}
        for name, (value, unit) in values.items()
    ]
    world.backend("cloudwatch").put_metric_data(namespace, data)


def read_metric_values(world: World, metric: Metric, since: float, until: float) -> list[float]:
    """Return the values of metric (namespace, name, dimensions) in [since, until), in seconds since 1970."""
    return [
        value for _, value in world.metrics.find_points(world.backend("cloudwatch").metric_data, metric, since, until)
    ]


def group_values_by_period(
    world: World, metric: Metric, since: float, until: float, period: int
) -> dict[int, list[float]]:
    """Return the values in [since, until) by the number of their period since 1970; empty periods have no entry."""
    found: dict[int, list[float]] = defaultdict(list)
    for moment, value in world.metrics.find_points(world.backend("cloudwatch").metric_data, metric, since, until):
        found[int(moment // period)].append(value)
    return found


def read_alarm_points(world: World, alarm: Any, slot: int) -> list[float | None]:
    """Return an alarm's points: one per period before number `slot`, newest last; None without data."""
    dimensions = {d.name: d.value for d in alarm.dimensions}
    first, period = slot - alarm.evaluation_periods, alarm.period
    found = group_values_by_period(
        world, (alarm.namespace, alarm.metric_name, dimensions), first * period, slot * period, period
    )
    return [compute_statistic(alarm.statistic, found[n]) if n in found else None for n in range(first, slot)]


def compute_statistic(name: str, numbers: list[float]) -> float:
    if name.startswith("p"):
        ordered = sorted(numbers)
        return ordered[min(len(ordered) - 1, int(len(ordered) * float(name[1:]) / 100))]
    return {
        "Sum": math.fsum(numbers), "Average": math.fsum(numbers) / len(numbers), "Maximum": max(numbers),
        "Minimum": min(numbers), "SampleCount": float(len(numbers)),
    }[name]  # fmt: skip


class Metrics(CloudWatchResponse):
    def put_metric_alarm(self) -> ActionResult:
        """Create an alarm, which has no data yet, or change one, which keeps its state."""
        validate_alarm(self.params)
        alarms, name = self.cloudwatch_backend.alarms, self.params["AlarmName"]
        before = alarms.get(name)
        answer = super().put_metric_alarm()
        alarms[name].state_value = before.state_value if before else "INSUFFICIENT_DATA"
        if before is None:
            alarms[name].evaluated_from = get_world().clock.now() + NEW_ALARM_S  # type: ignore[attr-defined]
        return answer

    def describe_alarms(self) -> ActionResult:
        for alarm in self.cloudwatch_backend.alarms.values():
            alarm.state_transitioned_timestamp = alarm.state_updated_timestamp  # type: ignore[attr-defined]
        return super().describe_alarms()

    def put_metric_data(self) -> ActionResult:
        for datum in self.params.get("MetricData", []):
            timestamp = datum.get("Timestamp")
            datum["Timestamp"] = (
                make_naive(timestamp) + compute_clock_offset() if timestamp else make_naive(get_world().clock.utc())
            )
        return super().put_metric_data()

    def get_metric_statistics(self) -> ActionResult:
        """Return statistics by periods that begin at multiples of their length, as on AWS, not at the first datum."""
        params, shift = self.params, compute_clock_offset()
        plain, extended = params.get("Statistics", []), params.get("ExtendedStatistics", [])
        since, until = (make_aware(make_naive(params[name]) + shift).timestamp() for name in ("StartTime", "EndTime"))
        if not (plain or extended) or since >= until:
            return super().get_metric_statistics()  # moto has the error messages
        period = int(params["Period"])
        dimensions = {d["Name"]: d["Value"] for d in params.get("Dimensions", [])}
        metric = (params["Namespace"], params["MetricName"], dimensions)
        found = group_values_by_period(get_world(), metric, since // period * period, until, period)
        points = []
        for slot in sorted(found):
            point: dict[str, Any] = {"Timestamp": make_naive(datetime.fromtimestamp(slot * period, UTC)) - shift}
            point |= {name: compute_statistic(name, found[slot]) for name in plain}
            if extended:
                point["ExtendedStatistics"] = {name: compute_statistic(name, found[slot]) for name in extended}
            points.append(point)
        return ActionResult({"Label": params["MetricName"], "Datapoints": points})

    def get_metric_data(self) -> ActionResult:
        """Return plain statistics and percentiles; queries with expressions are left to moto, which supports a few."""
        params, shift = self.params, compute_clock_offset()
        span = [make_aware(make_naive(params[name]) + shift).timestamp() for name in ("StartTime", "EndTime")]
        if any("MetricStat" not in query for query in params["MetricDataQueries"]):
            return super().get_metric_data()
        results = []
        for query in params["MetricDataQueries"]:
            stat = query["MetricStat"]
            requested, period = stat["Metric"], int(stat["Period"])
            dimensions = {d["Name"]: d["Value"] for d in requested.get("Dimensions", [])}
            metric = (requested["Namespace"], requested["MetricName"], dimensions)
            found = group_values_by_period(get_world(), metric, span[0] // period * period, span[1], period)
            slots = sorted(found, reverse=params.get("ScanBy") != "TimestampAscending")
            results.append(
                {
                    "Id": query["Id"],
                    "Label": query.get("Label", requested["MetricName"]),
                    "StatusCode": "Complete",
                    "Timestamps": [make_naive(datetime.fromtimestamp(slot * period, UTC)) - shift for slot in slots],
                    "Values": [compute_statistic(stat["Stat"], found[slot]) for slot in slots],
                }
            )
        return ActionResult({"MetricDataResults": results})


def validate_alarm(params: dict[str, Any]) -> None:
    """Raise ValidationError for a period, a span or a statistic that AWS refuses."""
    if "MetricName" not in params:
        return  # an alarm on an expression
    period, periods = int(params.get("Period", 0)), int(params.get("EvaluationPeriods", 1))
    if period not in (10, 20, 30) and (period <= 0 or period % 60):
        raise ValidationError("Period must be 10, 20, 30 or a multiple of 60")
    longest, span = (86_400, "a day") if period < 3600 else (604_800, "seven days")
    if period * periods > longest:
        raise ValidationError(
            f"Metrics cannot be checked across more than {span} (EvaluationPeriods * Period must be <= {longest})"
        )
    if bool(params.get("Statistic")) == bool(params.get("ExtendedStatistic")):
        raise ValidationError("Exactly one of the parameters Statistic and ExtendedStatistic must be specified")


def compute_clock_offset() -> timedelta:
    """Return the offset that turns a caller's time into the sandbox's."""
    return timedelta(seconds=get_world().clock.get_offset())


def make_naive(moment: datetime) -> datetime:
    """Return the moment in UTC without a timezone, as moto stores it."""
    return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment

"""The endpoint's alarms, which roll a bad release back, its logs, which expire, and its error counts."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from ops.core import metrics, pricing
from ops.core.aws.account import Account
from ops.core.log_groups import log_group_steps
from ops.core.plan import Change, Steps
from ops.core.settings import Settings


def log_group(settings: Settings) -> str:
    return f"/aws/sagemaker/Endpoints/{settings.endpoint_name}"


def build_endpoint_alarms(settings: Settings) -> list[dict[str, Any]]:
    """Return the alarms of the endpoint, for any config: 5XX answers and the p99 of latency, which CloudWatch gives in microseconds."""
    where = build_dimensions(settings)
    return [
        build_5xx_alarm(settings, f"{settings.prefix}-5xx", where),
        build_latency_alarm(settings, f"{settings.prefix}-p99", where, 3),
    ]


def build_guard_alarms(settings: Settings, config: str) -> list[dict[str, Any]]:
    """Return the same alarms for one config: they watch a new fleet only, so that an old fleet's errors do not end an update.

    There are none if `endpoint.bake_s` is 0: AWS would have no time to watch them.
    """
    if not settings.endpoint.bake_s:
        return []
    where = [*build_dimensions(settings), {"Name": "EndpointConfigName", "Value": config}]
    return [build_5xx_alarm(settings, f"{config}-5xx", where), build_latency_alarm(settings, f"{config}-p99", where, 2)]


def build_dimensions(settings: Settings) -> list[dict[str, str]]:
    return [
        {"Name": "EndpointName", "Value": settings.endpoint_name},
        {"Name": "VariantName", "Value": settings.endpoint.variant},
    ]


def build_5xx_alarm(settings: Settings, name: str, where: list[dict[str, str]]) -> dict[str, Any]:
    most = float(settings.endpoint.errors_5xx_per_minute)
    return {**build_alarm(name, where, 1, most), "MetricName": "Invocation5XXErrors", "Statistic": "Sum"}


def build_latency_alarm(settings: Settings, name: str, where: list[dict[str, str]], minutes: int) -> dict[str, Any]:
    most = settings.endpoint.p99_ms * 1000.0
    return {**build_alarm(name, where, minutes, most), "MetricName": "ModelLatency", "ExtendedStatistic": "p99"}


def build_alarm(name: str, where: list[dict[str, str]], minutes: int, threshold: float) -> dict[str, Any]:
    return {
        "AlarmName": name,
        "Namespace": "AWS/SageMaker",
        "Dimensions": where,
        "Period": 60,
        "EvaluationPeriods": minutes,
        "Threshold": threshold,
        "ComparisonOperator": "GreaterThanThreshold",
        "TreatMissingData": "notBreaching",
    }


def guard_steps(settings: Settings, config: str) -> Steps:
    """Yield the alarms that watch a fleet while it is new."""
    for guard in build_guard_alarms(settings, config):
        args = {**guard, "Tags": settings.tags(guard["AlarmName"])}
        why = f"alarm on the new fleet's {guard['MetricName']}; if it fires, AWS rolls back"
        yield Change("cloudwatch", "put_metric_alarm", args, why, dollars_per_hour=pricing.price_alarm())


def remove_guard_steps(names: Iterable[str]) -> Steps:
    if names := sorted(names):
        saved = -pricing.price_alarm() * len(names)
        why = "remove the rollout's temporary alarms"
        yield Change("cloudwatch", "delete_alarms", {"AlarmNames": names}, why, dollars_per_hour=saved)


def steps(have_alarms: dict[str, float], have_log_group: bool, settings: Settings) -> Steps:
    for alarm in build_endpoint_alarms(settings):
        if have_alarms.get(alarm["AlarmName"]) != alarm["Threshold"]:
            args = {**alarm, "Tags": settings.tags(alarm["AlarmName"])}
            yield Change(
                "cloudwatch",
                "put_metric_alarm",
                args,
                why=f"create or update alarm {alarm['AlarmName']}",
                dollars_per_hour=pricing.price_alarm(),
            )
    if not have_log_group:
        yield from log_group_steps(log_group(settings), settings.endpoint.log_days, "create the endpoint's log group")


def count_requests_and_errors(account: Account, minutes: int) -> tuple[int, int]:
    """Return (requests, 5XX answers) of the last minutes."""
    found = read_minute_metrics(
        account, {"requests": ("Invocations", "Sum"), "failed": ("Invocation5XXErrors", "Sum")}, minutes
    )
    return round(sum(found["requests"].values())), round(sum(found["failed"].values()))


def read_minute_metrics(
    account: Account, wanted: dict[str, tuple[str, str]], minutes: int
) -> dict[str, dict[datetime, float]]:
    """Return some of the endpoint's metrics by minute, the oldest first; minutes without a data point are left out.

    `wanted` maps a name of our own to a metric and its statistic: Sum, Average, Maximum, or a percentile such as p99.
    """
    where = build_dimensions(account.settings)
    return metrics.read_minute_metrics(account, "AWS/SageMaker", where, wanted, minutes)

"""What watches the endpoint: alarms that roll a bad release back, logs that do not stay for ever, its errors."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from ops import price
from ops.aws import Account
from ops.change import Change, Steps
from ops.config import Settings
from ops.errors import Refused


def log_group(settings: Settings) -> str:
    return f"/aws/sagemaker/Endpoints/{settings.endpoint_name}"


def alarms(settings: Settings) -> list[dict[str, Any]]:
    """5XX answers and the 99th percentile of latency, which CloudWatch has in microseconds."""
    where = [
        {"Name": "EndpointName", "Value": settings.endpoint_name},
        {"Name": "VariantName", "Value": settings.endpoint.variant},
    ]
    common = {
        "Namespace": "AWS/SageMaker",
        "Dimensions": where,
        "Period": 60,
        "ComparisonOperator": "GreaterThanThreshold",
        "TreatMissingData": "notBreaching",
    }
    return [
        {
            "AlarmName": f"{settings.prefix}-5xx",
            "MetricName": "Invocation5XXErrors",
            "Statistic": "Sum",
            "EvaluationPeriods": 1,
            "Threshold": float(settings.endpoint.errors_5xx_per_minute),
            **common,
        },
        {
            "AlarmName": f"{settings.prefix}-p99",
            "MetricName": "ModelLatency",
            "ExtendedStatistic": "p99",
            "EvaluationPeriods": 3,
            "Threshold": settings.endpoint.p99_ms * 1000.0,
            **common,
        },
    ]


def steps(have_alarms: dict[str, float], have_log_groups: tuple[str, ...], settings: Settings) -> Steps:
    for alarm in alarms(settings):
        if have_alarms.get(alarm["AlarmName"]) != alarm["Threshold"]:
            args = {**alarm, "Tags": settings.tags(alarm["AlarmName"])}
            yield Change(
                "cloudwatch",
                "put_metric_alarm",
                args,
                why=f"alarm {alarm['AlarmName']} is missing or differs",
                dollars_per_hour=price.alarm(),
            )
    if log_group(settings) not in have_log_groups:
        try:
            yield Change(
                "logs",
                "create_log_group",
                {"logGroupName": log_group(settings)},
                why="the endpoint's logs need a group",
            )
        except Refused as error:
            if not error.says("ResourceAlreadyExists"):
                raise
        args = {"logGroupName": log_group(settings), "retentionInDays": settings.endpoint.log_days}
        yield Change(
            "logs",
            "put_retention_policy",
            args,
            why=f"logs would be kept for ever; {settings.endpoint.log_days} days are asked for",
        )


def errors(account: Account, minutes: int) -> tuple[int, int]:
    """(requests, 5XX answers) of the last minutes."""
    settings = account.settings
    where = [
        {"Name": "EndpointName", "Value": settings.endpoint_name},
        {"Name": "VariantName", "Value": settings.endpoint.variant},
    ]
    now = datetime.now(UTC)

    def total(metric: str) -> int:
        points = account.call(
            "cloudwatch", "get_metric_statistics", Namespace="AWS/SageMaker", MetricName=metric, Dimensions=where,
            StartTime=now - timedelta(minutes=minutes), EndTime=now + timedelta(seconds=1), Period=60, Statistics=["Sum"],
        )["Datapoints"]  # fmt: skip
        return round(sum(point["Sum"] for point in points))

    return total("Invocations"), total("Invocation5XXErrors")

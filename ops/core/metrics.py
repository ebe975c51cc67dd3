"""CloudWatch metrics by minute."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ops.core.aws.account import Account


def read_minute_metrics(
    account: Account,
    namespace: str,
    dimensions: Sequence[Mapping[str, str]],
    wanted: Mapping[str, tuple[str, str]],
    minutes: float,
) -> dict[str, dict[datetime, float]]:
    """Return metrics by minute, the oldest first; minutes without a data point are left out.

    `wanted` maps a name of our own to a metric and its statistic: Sum, Average, Maximum, or a percentile such as p99.
    """
    now = datetime.now(UTC)
    where = {"Namespace": namespace, "Dimensions": list(dimensions)}
    queries = [
        {"Id": name, "MetricStat": {"Metric": {**where, "MetricName": metric}, "Period": 60, "Stat": statistic}}
        for name, (metric, statistic) in wanted.items()
    ]
    span = {"StartTime": now - timedelta(minutes=minutes), "EndTime": now + timedelta(seconds=1)}
    args = {"MetricDataQueries": queries, **span, "ScanBy": "TimestampAscending"}
    found: dict[str, dict[datetime, float]] = {name: {} for name in wanted}
    for result in account.list_all("cloudwatch", "get_metric_data", "MetricDataResults", **args):
        found[result["Id"]] |= dict(zip(result["Timestamps"], result["Values"], strict=True))
    return found

"""The function's calls, errors, throttles, durations and concurrency, by minute."""

from __future__ import annotations

from typing import Any

from ops.core import metrics
from ops.core.aws.account import Account
from ops.core.output import format_table

METRICS = {  # our name, CloudWatch's, statistic
    "invocations": ("Invocations", "Sum"),
    "errors": ("Errors", "Sum"),
    "throttles": ("Throttles", "Sum"),
    "p50_ms": ("Duration", "p50"),
    "p99_ms": ("Duration", "p99"),
    "concurrent": ("ConcurrentExecutions", "Maximum"),
}


def read_metrics(account: Account, minutes: int) -> tuple[list[dict[str, Any]], list[str]]:
    """Return one row for each minute with a call or a throttle, and the minutes with errors or throttles.

    A throttled call is not an invocation. An error is a call that ended in a function error, unlike an answer 4xx or 5xx of the handler.
    """
    where = [{"Name": "FunctionName", "Value": account.settings.function_name}]
    series = metrics.read_minute_metrics(account, "AWS/Lambda", where, METRICS, minutes)
    moments = sorted({at for name in ("invocations", "throttles") for at in series[name]})
    points: list[dict[str, Any]] = [
        {"minute": f"{at:%H:%M}"} | {name: round(series[name].get(at, 0.0), 1) for name in METRICS} for at in moments
    ]
    return points, [one["minute"] for one in points if one["errors"] or one["throttles"]]


def describe_metrics(points: list[dict[str, Any]]) -> str:
    columns = ("minute", "invocations", "errors", "throttles", "p50 ms", "p99 ms", "concurrent")
    text = format_table(columns, [(one["minute"], *(f"{one[name]:g}" for name in METRICS)) for one in points])
    counts = {name: round(sum(one[name] for one in points)) for name in ("errors", "throttles")}
    if counts["throttles"]:
        text += f"\nThrottles: {counts['throttles']}. See what the limits admit: invoke lambda.concurrency"
    if counts["errors"]:
        text += f"\nErrors: {counts['errors']}. Find the cause: invoke lambda.logs --errors"
    return text

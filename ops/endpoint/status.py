"""The endpoint's status: its current state and price, its requests by the minute and its log."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from ops.core import log_events, pricing
from ops.core.aws.account import Account, iterate_poll_intervals
from ops.core.output import format_table
from ops.endpoint import alarms, plan, probe

WATCH_S = 5.0  # the longest pause between two looks


@dataclass(frozen=True)
class Status:
    """The status of the endpoint. `requests` and `errors_5xx` are of the last `minutes`; `expires` is "" without such a tag.

    The dollars are None when ops/core/pricing.toml has no price for the instance type.
    """

    endpoint: str
    status: str
    config: str
    instances: int
    desired: int
    instance_type: str
    requests: int
    errors_5xx: int
    minutes: int
    dollars_per_hour: float | None
    dollars_so_far: float | None
    expires: str
    since: str
    in_state_minutes: int

    def is_unhealthy(self) -> bool:
        return self.status != "InService" or self.errors_5xx > 0


def read_status(account: Account, minutes: int) -> tuple[Status, str]:
    """Return the endpoint's status, and AWS's reason for its last failure or "". Raises OpsError without an endpoint."""
    found = probe.require_endpoint(account)
    variant = (found.get("ProductionVariants") or [{}])[0]  # an endpoint that never started has none
    requests, failed = alarms.count_requests_and_errors(account, minutes)
    count = variant.get("CurrentInstanceCount", 0)
    instance_type = plan.read_instance_type(account, found["EndpointConfigName"])
    hourly = pricing.price_instances("sagemaker", instance_type, count) if instance_type else 0.0
    now = datetime.now(UTC)
    seen = Status(
        endpoint=found["EndpointName"],
        status=found["EndpointStatus"],
        config=found["EndpointConfigName"],
        instances=count,
        desired=variant.get("DesiredInstanceCount", 0),
        instance_type=instance_type,
        requests=requests,
        errors_5xx=failed,
        minutes=minutes,
        dollars_per_hour=pricing.round_price(hourly, 6),
        dollars_so_far=pricing.round_price(hourly * (now - found["CreationTime"]).total_seconds() / 3600, 2),
        expires=read_expiry(account, found["EndpointArn"]),
        since=f"{found['CreationTime']:%Y-%m-%dT%H:%MZ}",
        in_state_minutes=round((now - found["LastModifiedTime"]).total_seconds() / 60),
    )
    return seen, found.get("FailureReason", "")


def read_expiry(account: Account, arn: str) -> str:
    """Return when the endpoint expires, from its tag kennel:expires; "" without that tag."""
    tags = account.list_all("sagemaker", "list_tags", "Tags", ResourceArn=arn)
    return next((tag["Value"] for tag in tags if tag["Key"] == "kennel:expires"), "")


def format_cost(amount: float | None, digits: int) -> str:
    return "?" if amount is None else f"{amount:.{digits}f}"


def describe_status(seen: Status, failure: str) -> str:
    row = (
        seen.endpoint, seen.status, f"{seen.instance_type} x {seen.instances} of {seen.desired}", f"{seen.errors_5xx} of {seen.requests}",
        format_cost(seen.dollars_per_hour, 3), format_cost(seen.dollars_so_far, 2), seen.expires or "never", seen.config,
    )  # fmt: skip
    columns = ("endpoint", "status", "instances", f"5xx in {seen.minutes} min", "$/h", "$ so far", "expires", "config")
    text = format_table(columns, [row])
    if seen.status in plan.MOVING:
        text += f"\nin state {seen.status} for {seen.in_state_minutes} minutes"
    if failure:
        text += f"\nlast failure: {failure}"
    return f"{text}\nFind the cause: invoke sm.logs --errors" if failure or seen.errors_5xx else text


def watch_status(account: Account, minutes: int) -> Iterator[tuple[str, str]]:
    """Yield the endpoint's status again and again, as a table and as a line; the line leaves out what changes with each request."""
    for pause in iterate_poll_intervals():
        seen, failure = read_status(account, minutes)
        line = (
            f"{seen.endpoint}  {seen.status}  {seen.instances} of {seen.desired} instances  "
            f"{seen.errors_5xx} x 5xx in {minutes} min  {seen.config}{failure and f'  last failure: {failure}'}"
        )
        yield describe_status(seen, failure), line
        time.sleep(min(pause, WATCH_S))


def read_log(account: Account, minutes: int, errors: bool, follow: bool = False) -> Iterator[tuple[str, str]]:
    """Yield (stream, line) of the endpoint's log; with `errors`, only the lines that mention one; with `follow`, without end."""
    probe.require_endpoint(account)
    group = alarms.log_group(account.settings)
    missing = (
        f"The log group {group} is missing: it was deleted, or never created. "
        "Create it, with the job that sm.releases shows as LIVE: invoke sm.deploy --job JOB. See: invoke runbook.show logs-missing"
    )
    lines = log_events.read_lines(account, group, minutes, follow, missing)
    return ((stream, line) for stream, line in lines if not errors or "error" in line.lower())


METRICS = {  # our name, CloudWatch's, statistic
    "requests": ("Invocations", "Sum"),
    "each": ("InvocationsPerInstance", "Sum"),
    "errors_4xx": ("Invocation4XXErrors", "Sum"),
    "errors_5xx": ("Invocation5XXErrors", "Sum"),
    "p50_ms": ("ModelLatency", "p50"),
    "p99_ms": ("ModelLatency", "p99"),
}


def read_metrics(account: Account, minutes: int) -> tuple[list[dict[str, Any]], list[str]]:
    """Return requests, errors and latency (ms), one row per minute, and the minutes that are above an alarm's threshold."""
    probe.require_endpoint(account)
    bounds = account.settings.endpoint
    series = alarms.read_minute_metrics(account, METRICS, minutes)
    points: list[dict[str, Any]] = [
        {"minute": f"{at:%H:%M}"}
        | {name: round(series[name].get(at, 0.0) / (1000 if name.endswith("ms") else 1), 1) for name in METRICS}
        for at in series["requests"]
    ]
    over = [
        p["minute"] for p in points if p["p99_ms"] > bounds.p99_ms or p["errors_5xx"] > bounds.errors_5xx_per_minute
    ]
    return points, over


def describe_metrics(account: Account, points: list[dict[str, Any]], over: list[str]) -> str:
    bounds = account.settings.endpoint
    columns = ("minute", "requests", "per instance", "4xx", "5xx", "p50 ms", "p99 ms")
    text = format_table(columns, [(p["minute"], *(f"{p[name]:g}" for name in METRICS)) for p in points])
    if over:
        text += f"\nabove {bounds.p99_ms} ms (p99), or {bounds.errors_5xx_per_minute} 5xx a minute: {', '.join(over)}"
        page = (
            "endpoint-5xx"
            if any(p["errors_5xx"] > bounds.errors_5xx_per_minute for p in points)
            else "endpoint-latency"
        )
        text += f". Why: invoke runbook.show {page}"
    refused, requests = (sum(p[name] for p in points) for name in ("errors_4xx", "requests"))
    why = ". Why: invoke runbook.show endpoint-4xx" if refused else ""
    return f"{text}\nrefused (4xx): {refused:g} of {requests:g} requests{why}"

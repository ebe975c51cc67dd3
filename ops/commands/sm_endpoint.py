"""What the endpoint does: its state and price, its answers, its logs, its numbers."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ops.commands import sm_training
from ops.core.aws.account import Account
from ops.core.errors import FINDINGS, OpsError
from ops.core.output import table
from ops.core.task import Result, task
from ops.core.text import escape_control_characters


@task(help={"minutes": "How far back errors count.", "json": "Print it as JSON."})
def status(c, minutes=15, json=False):
    """Show what is live, what it costs and since when, and its errors; exit 7 when something is wrong."""
    from ops.core import pricing
    from ops.endpoint import alarms, plan, probe

    account = Account.from_context(c)
    found = probe.existing(account)
    variant = (found.get("ProductionVariants") or [{}])[0]  # one that never came up has none
    requests, failed = alarms.errors(account, minutes)
    count = variant.get("CurrentInstanceCount", 0)
    kind = plan.kind_of(account, found["EndpointConfigName"])
    hourly = pricing.hourly("sagemaker", kind, count) if kind else 0.0
    hours = (datetime.now(UTC) - found["CreationTime"]).total_seconds() / 3600
    data = {
        "endpoint": found["EndpointName"], "status": found["EndpointStatus"], "config": found["EndpointConfigName"],
        "instances": count, "desired": variant.get("DesiredInstanceCount", 0), "instance_type": kind,
        "requests": requests, "errors_5xx": failed, "minutes": minutes, "dollars_per_hour": hourly,
        "dollars_so_far": round(hourly * hours, 2), "expires": expiry(account, found["EndpointArn"]),
        "since": f"{found['CreationTime']:%Y-%m-%dT%H:%MZ}", "in_state_minutes": state_minutes(found),
    }  # fmt: skip
    row = (
        data["endpoint"], data["status"], f"{kind} x {count} of {data['desired']}", f"{failed} of {requests}",
        f"{hourly:.3f}", f"{data['dollars_so_far']:.2f}", data["expires"] or "never", data["config"],
    )  # fmt: skip
    text = table(
        ("endpoint", "status", "instances", f"5xx in {minutes} min", "$/h", "$ so far", "expires", "config"), [row]
    )
    if found["EndpointStatus"] in plan.MOVING:
        text += f"\n{found['EndpointStatus']} for {data['in_state_minutes']} minutes"
    if found.get("FailureReason"):
        text += f"\nlast failure: {found['FailureReason']}"
    wrong = found["EndpointStatus"] != "InService" or failed > 0
    return Result(data, text, code=FINDINGS if wrong else 0)


def expiry(account: Account, arn: str) -> str:
    """When the endpoint may be deleted, as its tag says; "" without one."""
    tags = account.list_all("sagemaker", "list_tags", "Tags", ResourceArn=arn)
    return next((tag["Value"] for tag in tags if tag["Key"] == "kennel:expires"), "")


def state_minutes(found: dict[str, Any]) -> int:
    return round((datetime.now(UTC) - found["LastModifiedTime"]).total_seconds() / 60)


@task(
    help={
        "job": "A training job's name; without it, the endpoint's log.",
        "minutes": "Of the endpoint's log: how far back.",
        "errors": "Only lines that speak of an error.",
    }
)
def logs(c, job="", minutes=15, errors=False):
    """Print a training job's log, or the endpoint's."""
    from ops.endpoint import alarms, probe
    from ops.jobs import follow

    account = Account.from_context(c)
    if job:
        sm_training.existing(account, job)
        for stream, lines in follow.Tail(account, f"{job}/").new().items():
            for line in lines:
                print(escape_control_characters(f"{follow.host_of(stream)}  {line}"))
        return
    probe.existing(account)
    since = int((time.time() - minutes * 60) * 1000)
    args = {"logGroupName": alarms.log_group(account.settings), "startTime": since}
    for event in account.list_all("logs", "filter_log_events", "events", **args):
        if not errors or "error" in event["message"].lower():
            print(escape_control_characters(f"{event['logStreamName'].rsplit('/', 1)[-1]}  {event['message']}"))


@task(help={"picture": "A JPEG or PNG file.", "json": "Print the whole answer as JSON."})
def invoke(c, picture, json=False):
    """Send one picture to the endpoint."""
    from ops.endpoint import probe

    account = Account.from_context(c)
    path = Path(picture)
    if not path.is_file():
        raise OpsError(f"There is no file {picture}.")
    probe.existing(account)
    answer = probe.invoke(account, path.read_bytes())
    best = max(answer["probabilities"])
    return Result(answer, f"{answer['best']}  {best:.3f}  release {answer['release'][:12]}")


@task(help={"json": "Print it as JSON."})
def smoke(c, json=False):
    """Ask the endpoint its release's golden pictures; exit 7 when an answer is not the trained model's."""
    from ops.endpoint import probe

    account = Account.from_context(c)
    release = probe.release(account)
    began = time.monotonic()
    wrong = probe.smoke(account, release)
    took = time.monotonic() - began
    data = {"release": release.digest, "job": release.job, "wrong": wrong, "seconds": round(took, 2)}
    text = (
        "\n".join(wrong) + "\nGo back: invoke sm.rollback"
        if wrong
        else f"release {release.short} gives its golden answers, in {took:.1f} s"
    )
    return Result(data, text, code=FINDINGS if wrong else 0)


@task(help={"minutes": "How far back.", "json": "Print it as JSON."})
def metrics(c, minutes=15, json=False):
    """Show requests, errors and latency by the minute; exit 7 when one is above its alarm's bound."""
    from ops.endpoint import alarms, probe

    account = Account.from_context(c)
    probe.existing(account)
    bounds = account.settings.endpoint
    wanted = {"requests": ("Invocations", "Sum"), "each": ("InvocationsPerInstance", "Sum"), "errors_4xx": ("Invocation4XXErrors", "Sum"),
              "errors_5xx": ("Invocation5XXErrors", "Sum"), "p50_ms": ("ModelLatency", "p50"), "p99_ms": ("ModelLatency", "p99")}  # fmt: skip
    series = alarms.by_minute(account, wanted, minutes)
    points: list[dict[str, Any]] = [
        {"minute": f"{at:%H:%M}"}
        | {name: round(series[name].get(at, 0.0) / (1000 if name.endswith("ms") else 1), 1) for name in wanted}
        for at in series["requests"]
    ]
    over = [
        p["minute"] for p in points if p["p99_ms"] > bounds.p99_ms or p["errors_5xx"] > bounds.errors_5xx_per_minute
    ]
    if not points:
        return Result({"points": [], "over": []}, f"Nobody called in the last {minutes} minutes.")
    columns = ("minute", "requests", "per instance", "4xx", "5xx", "p50 ms", "p99 ms")
    text = table(columns, [(p["minute"], *(f"{p[name]:g}" for name in wanted)) for p in points])
    if over:
        text += f"\nabove {bounds.p99_ms} ms (p99), or {bounds.errors_5xx_per_minute} 5xx a minute: {', '.join(over)}"
    return Result({"points": points, "over": over}, text, code=FINDINGS if over else 0)

"""The commands that show the endpoint: its state and price, its answers, its logs, its numbers."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path

from invoke import Context

from ops.core.errors import FINDINGS, OpsError
from ops.core.task import Result, task
from ops.core.text import escape_control_characters


@task(help={"minutes": "How far back errors count.", "json": "Print it as JSON."})
def status(c: Context, minutes: int = 15, json: bool = False) -> Result:
    """Show what is live, what it costs and since when, and its errors; exit 7 when something is wrong."""
    from ops.core.aws.account import Account
    from ops.endpoint.status import describe_status, read_status

    seen, failure = read_status(Account.from_context(c), minutes)
    return Result(asdict(seen), describe_status(seen, failure), code=FINDINGS if seen.is_unhealthy() else 0)


@task(
    help={
        "job": "A training job's name; without it, the endpoint's log.",
        "minutes": "Of the endpoint's log: how far back.",
        "errors": "Only lines that speak of an error.",
    }
)
def logs(c: Context, job: str = "", minutes: int = 15, errors: bool = False) -> None:
    """Print a training job's log, or the endpoint's."""
    from ops.core.aws.account import Account
    from ops.endpoint.status import read_log
    from ops.jobs.follow import read_log as read_job_log

    account = Account.from_context(c)
    lines = read_job_log(account, job) if job else read_log(account, minutes, errors)
    for source, line in lines:
        print(escape_control_characters(f"{source}  {line}"))


@task(help={"picture": "A JPEG or PNG file.", "json": "Print the whole answer as JSON."})
def invoke(c: Context, picture: str, json: bool = False) -> Result:
    """Send one picture to the endpoint."""
    from ops.core.aws.account import Account
    from ops.endpoint import probe

    account = Account.from_context(c)
    path = Path(picture)
    if not path.is_file():
        raise OpsError(f"There is no file {picture}.")
    probe.require_endpoint(account)
    answer = probe.invoke_once(account, path.read_bytes())
    best = max(answer["probabilities"])
    return Result(answer, f"{answer['best']}  {best:.3f}  release {answer['release'][:12]}")


@task(help={"json": "Print it as JSON."})
def smoke(c: Context, json: bool = False) -> Result:
    """Ask the endpoint its release's golden pictures; exit 7 when an answer is not the trained model's."""
    from ops.core.aws.account import Account
    from ops.endpoint import probe

    account = Account.from_context(c)
    release = probe.find_live_release(account)
    began = time.monotonic()
    wrong = probe.smoke_test_endpoint(account, release)
    took = time.monotonic() - began
    data = {"release": release.digest, "job": release.job, "wrong": wrong, "seconds": round(took, 2)}
    text = (
        "\n".join(wrong) + "\nGo back: invoke sm.rollback"
        if wrong
        else f"release {release.short} gives its golden answers, in {took:.1f} s"
    )
    return Result(data, text, code=FINDINGS if wrong else 0)


@task(help={"minutes": "How far back.", "json": "Print it as JSON."})
def metrics(c: Context, minutes: int = 15, json: bool = False) -> Result:
    """Show requests, errors and latency by the minute; exit 7 when one is above its alarm's bound."""
    from ops.core.aws.account import Account
    from ops.endpoint.status import describe_metrics, read_metrics

    account = Account.from_context(c)
    points, over = read_metrics(account, minutes)
    if not points:
        return Result({"points": [], "over": []}, f"Nobody called in the last {minutes} minutes.")
    text = describe_metrics(account, points, over)
    return Result({"points": points, "over": over}, text, code=FINDINGS if over else 0)

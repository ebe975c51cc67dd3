"""Commands that read the endpoint: status, logs, predictions, smoke test and metrics."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path

from invoke import Context

from ops.core.errors import FINDINGS, OpsError, end_on_interrupt
from ops.core.output import say, show_changes
from ops.core.task import Result, task
from ops.core.text import escape_control_characters


@task(
    help={
        "minutes": "Minutes to count errors over (default: 15).",
        "watch": "Show it again and again until Ctrl-C; in a pipe, a line for each change.",
        "json": "Print the result as JSON.",
    }
)
def status(c: Context, minutes: int = 15, watch: bool = False, json: bool = False) -> Result:
    """Show the endpoint: its state, live release, cost and errors.

    Exit code 7 if it is not in service or had 5xx errors.

    Example: invoke sm.status --minutes 60
    """
    from ops.core.aws.account import Account
    from ops.endpoint.status import describe_status, read_status, watch_status

    if watch and json:
        raise OpsError("--watch prints no JSON. Give either --watch or --json.")
    account = Account.from_context(c)
    if watch:
        with end_on_interrupt(f"Stopped watching {account.settings.endpoint_name}; it goes on."):
            show_changes(watch_status(account, minutes))
    seen, failure = read_status(account, minutes)
    return Result(asdict(seen), describe_status(seen, failure), code=FINDINGS if seen.is_unhealthy() else 0)


@task(
    optional=["job"],
    help={
        "job": "Print the log of this training job; without a name, of the newest one.",
        "minutes": "Minutes of the endpoint's log to print (default: 15).",
        "errors": 'Only lines of the endpoint\'s log that contain "error".',
        "follow": "Go on with new lines until the job has ended, or until Ctrl-C.",
    },
)
def logs(c: Context, job: str | bool = "", minutes: int = 15, errors: bool = False, follow: bool = False) -> None:
    """Print the log of the endpoint, or of a training job with --job.

    Example: invoke sm.logs --minutes 60 --errors
    """
    from ops.core.aws.account import Account
    from ops.endpoint.status import read_log
    from ops.jobs.follow import read_log as read_job_log
    from ops.jobs.training_jobs import name_job

    account = Account.from_context(c)
    if job:
        subject = name_job(account, "" if job is True else str(job))
        lines = read_job_log(account, subject, follow)
    else:
        subject = account.settings.endpoint_name
        lines = read_log(account, minutes, errors, follow)
    again = "invoke sm.logs --follow" + (f" --job {subject}" if job else "")
    with end_on_interrupt(f"Stopped following the log of {subject}; it goes on. Follow it again: {again}"):
        count = 0
        for source, line in lines:
            count += 1
            print(escape_control_characters(f"{source}  {line}"), flush=follow)
    if not count:
        which = f"of {subject}" if job else f"of the last {minutes} minutes"
        say(
            f"There is no line{' with an error' if errors and not job else ''} in the log {which}. See: invoke runbook.show logs-missing"
        )


@task(help={"picture": "JPEG or PNG file.", "json": "Print the result as JSON."})
def invoke(c: Context, picture: str, json: bool = False) -> Result:
    """Send one picture to the endpoint and print the predicted class.

    Example: invoke sm.invoke PICTURE
    """
    from ops.core.aws.account import Account
    from ops.endpoint import probe

    account = Account.from_context(c)
    path = Path(picture)
    if not path.is_file():
        raise OpsError(f"The file {picture} does not exist. Give a JPEG or PNG file: invoke sm.invoke PICTURE")
    probe.require_endpoint(account)
    answer = probe.invoke_once(account, path.read_bytes())
    best = max(answer["probabilities"])
    return Result(answer, f"{answer['best']}  {best:.3f}  release {answer['release'][:12]}")


@task(help={"json": "Print the result as JSON."})
def smoke(c: Context, json: bool = False) -> Result:
    """Send the golden pictures to the endpoint and compare the answers.

    Exit code 7 if an answer differs from the trained model's.

    Example: invoke sm.smoke
    """
    from ops.core.aws.account import Account
    from ops.endpoint import probe

    account = Account.from_context(c)
    release = probe.find_live_release(account)
    began = time.monotonic()
    wrong = probe.smoke_test_endpoint(account, release)
    took = time.monotonic() - began
    data = {"release": release.digest, "job": release.job, "wrong": wrong, "seconds": round(took, 2)}
    text = (
        "\n".join(wrong) + "\nRoll back: invoke sm.rollback"
        if wrong
        else f"Release {release.short} gives all golden answers ({took:.1f} s)."
    )
    return Result(data, text, code=FINDINGS if wrong else 0)


@task(help={"minutes": "Minutes to show (default: 15).", "json": "Print the result as JSON."})
def metrics(c: Context, minutes: int = 15, json: bool = False) -> Result:
    """Show requests, errors and latency of the endpoint for each minute.

    Exit code 7 if a value is above the threshold of its alarm.

    Example: invoke sm.metrics --minutes 60
    """
    from ops.core.aws.account import Account
    from ops.endpoint.status import describe_metrics, read_metrics

    account = Account.from_context(c)
    points, over = read_metrics(account, minutes)
    if not points:
        return Result({"points": [], "over": []}, f"No requests in the last {minutes} minutes.")
    text = describe_metrics(account, points, over)
    return Result({"points": points, "over": over}, text, code=FINDINGS if over else 0)

"""The command sm.capacity: the scaling target, instance counts and costs for a load, and what the function may send."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from invoke import Context

from ops.core.errors import FINDINGS, OpsError
from ops.core.output import say
from ops.core.task import Result, task

if TYPE_CHECKING:
    from ops.capacity.model import Option, Plan
    from ops.core.settings import Settings
    from ops.releases.load_test import LoadTestResult

LEAST, MOST = 0.001, 1e6  # bounds of a number given by flag; a number outside is a typo
EXAMPLE = "invoke sm.capacity --rps 11 --latency-ms 1269"


@task(
    help={
        "traffic": "Peak load in requests per minute (default: the maximum that the function lets through).",
        "rps": "Requests per second of one instance, in place of the preflight's measurement.",
        "latency-ms": "Duration of one call of the function in milliseconds; required with --rps.",
        "out": "PNG file to draw the plan to.",
        "json": "Print the result as JSON.",
    }
)
def capacity(
    c: Context, traffic: str = "", rps: str = "", latency_ms: str = "", out: str = "", json: bool = False
) -> Result:
    """Calculate scaling target, instance counts and costs for a load.

    Uses the preflight's measurement of the live release, or --rps and
    --latency-ms, which need no AWS. Exit code 7 with findings.

    Example: invoke sm.capacity --rps 11 --latency-ms 1269 --traffic 400
    """
    from ops.capacity import model, summary

    peak = parse_rate_or_time("--traffic", traffic) if traffic else None
    path = check_picture(out) if out else None
    settings, measured = choose_measurement(c, rps, latency_ms)
    plan = model.plan(measured, settings, peak)
    options, found = model.list_type_options(plan, measured), list(model.findings(plan, measured))
    if path and c.config.run.dry:
        say(f"would draw {path}")
    elif path:
        draw_capacity_plan(plan, options, summary.describe_source(plan, measured), path)
    text = summary.describe_plan(plan, measured, options, found)
    return Result(summary.as_data(plan, measured, options, found), text, code=FINDINGS if found else 0)


def choose_measurement(c: Context, rps: str, latency_ms: str) -> tuple[Settings, LoadTestResult]:
    """Return (settings, load test of one instance): from the flags, or as measured with the live release. Raises OpsError."""
    from ops.capacity import model
    from ops.core import settings as config
    from ops.core.aws.account import Account
    from ops.endpoint import probe
    from ops.releases import build

    if not (rps or latency_ms):
        account = Account.from_context(c)
        return account.settings, build.read_load_test(account, probe.find_live_release(account))
    if not (rps and latency_ms):
        raise OpsError(f"--rps and --latency-ms must be given together. For example: {EXAMPLE}")
    rate, latency = parse_rate_or_time("--rps", rps), parse_rate_or_time("--latency-ms", latency_ms)
    settings = config.load(c.config)
    return settings, model.from_flags(rate, latency, settings.endpoint.instance_type)


def parse_rate_or_time(flag: str, text: str) -> float:
    """Return the flag's number. Raises OpsError for text that is not a number, or a number out of range."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not LEAST <= value <= MOST:
        raise OpsError(f"{flag} must be a number from {LEAST} to {MOST:,.0f}, not {text!r}. For example: {EXAMPLE}")
    return value


def check_picture(out: str) -> Path:
    """Return the path of the PNG to draw. Raises OpsError for another suffix, or a missing folder."""
    path = Path(out).expanduser()
    if path.suffix.lower() != ".png":
        raise OpsError(f"--out must be a file that ends in .png, not {out!r}.")
    if not path.parent.is_dir():
        raise OpsError(f"--out: the folder {path.parent} does not exist. Create it: mkdir -p {path.parent}")
    return path


def draw_capacity_plan(plan: Plan, options: list[Option], source: str, path: Path) -> None:
    from ops.reports import drawing

    try:
        drawing.draw_capacity(plan, options, source, path)
    except OSError as error:
        raise OpsError(f"--out: cannot write {path}: {error.strerror}. Choose another file.") from error
    say(f"Wrote {path}.")

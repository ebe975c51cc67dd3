"""Capacity of the endpoint: which scaling target, how many instances, for how much, and whether the function sends too much."""

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

LEAST, MOST = 0.001, 1e6  # bounds of a number given by flag: anything outside is a typo
EXAMPLE = "invoke sm.capacity --rps 11 --latency-ms 1269"


@task(
    help={
        "traffic": "Requests a minute at the peak; without it, what the function lets through.",
        "rps": "Requests a second that one instance can do, instead of a measurement; asks AWS nothing.",
        "latency-ms": "With --rps: how long one call of the function takes.",
        "out": "A PNG file to draw.",
        "json": "Print every number as JSON.",
    }
)
def capacity(
    c: Context, traffic: str = "", rps: str = "", latency_ms: str = "", out: str = "", json: bool = False
) -> Result:
    """Plan scaling target, instances and dollars from a measurement; exit 7 with findings."""
    from ops.capacity import model, summary

    peak = parse_rate_or_time("--traffic", traffic) if traffic else None
    path = check_picture(out) if out else None
    settings, measured = choose_measurement(c, rps, latency_ms)
    plan = model.plan(measured, settings, peak)
    options, found = model.list_type_options(plan, measured), list(model.findings(plan, measured))
    if path and c.config.run.dry:
        say(f"This would draw {path}.")
    elif path:
        draw_capacity_plan(plan, options, summary.describe_source(plan, measured), path)
    text = summary.describe_plan(plan, measured, options, found)
    return Result(summary.as_data(plan, measured, options, found), text, code=FINDINGS if found else 0)


def choose_measurement(c: Context, rps: str, latency_ms: str) -> tuple[Settings, LoadTestResult]:
    """Return the settings, and one instance's load: from the flags, or as measured with the live release. Raises OpsError."""
    from ops.capacity import model
    from ops.core import settings as config
    from ops.core.aws.account import Account
    from ops.endpoint import probe
    from ops.releases import build

    if not (rps or latency_ms):
        account = Account.from_context(c)
        return account.settings, build.read_load_test(account, probe.find_live_release(account))
    if not (rps and latency_ms):
        raise OpsError(f"--rps and --latency-ms go together: {EXAMPLE}")
    each, took = parse_rate_or_time("--rps", rps), parse_rate_or_time("--latency-ms", latency_ms)
    settings = config.load(c.config)
    return settings, model.from_flags(each, took, settings.endpoint.instance_type)


def parse_rate_or_time(flag: str, text: str) -> float:
    """Return the flag's number. Raises OpsError for text that is not a number, or a number out of range."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not LEAST <= value <= MOST:
        raise OpsError(f"{flag} is a number from {LEAST} to {MOST:,.0f}, not {text!r}. For example: {EXAMPLE}")
    return value


def check_picture(out: str) -> Path:
    """Return the path of the PNG to draw. Raises OpsError for another suffix, or a missing folder."""
    path = Path(out).expanduser()
    if path.suffix.lower() != ".png":
        raise OpsError(f"--out is a file that ends in .png, not {out!r}.")
    if not path.parent.is_dir():
        raise OpsError(f"--out: there is no folder {path.parent}. Make it: mkdir -p {path.parent}")
    return path


def draw_capacity_plan(plan: Plan, options: list[Option], source: str, path: Path) -> None:
    from ops.reports import drawing

    try:
        drawing.draw_capacity(plan, options, source, path)
    except OSError as error:
        raise OpsError(f"--out: {path} cannot be written: {error.strerror}. Name another file.") from error
    say(f"Drawn: {path}")

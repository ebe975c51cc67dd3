"""Capacity of the endpoint: which scaling target, how many instances, for how much, and whether the function sends too much."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ops.core.aws.account import Account
from ops.core.errors import FINDINGS, OpsError
from ops.core.output import say, table
from ops.core.task import Result, task

if TYPE_CHECKING:
    from ops.capacity.model import Finding, Option, Plan
    from ops.core.settings import Settings
    from ops.releases.load_test import Measured

LEAST, MOST = 0.001, 1e6  # of a number said by hand: what is outside is a slip
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
def capacity(c, traffic="", rps="", latency_ms="", out="", json=False):
    """Plan scaling target, instances and dollars from a measurement; exit 7 with findings."""
    from ops.capacity import model

    peak = number("--traffic", traffic) if traffic else None
    path = picture(out) if out else None
    settings, measured = basis(c, rps, latency_ms)
    plan = model.plan(measured, settings, peak)
    options, found = model.options(plan, measured), list(model.findings(plan, measured))
    if path:
        drawn(path, plan, options, source(plan, measured), c.config.run.dry)
    text = "\n\n".join(told(plan, measured, options, found))
    return Result(data(plan, measured, options, found), text, code=FINDINGS if found else 0)


def basis(c: Any, rps: str, latency_ms: str) -> tuple[Settings, Measured]:
    """The settings, and what one instance does: as said by hand, or as measured with the live release. Raises OpsError."""
    from ops.capacity import model
    from ops.core import settings as config

    if rps or latency_ms:
        if not (rps and latency_ms):
            raise OpsError(f"--rps and --latency-ms go together: {EXAMPLE}")
        each, took = number("--rps", rps), number("--latency-ms", latency_ms)
        settings = config.load(c.config)
        return settings, model.given(each, took, settings.endpoint.instance_type)
    from ops.endpoint import probe
    from ops.releases import load_test

    account = Account.from_context(c)
    return account.settings, load_test.of(account, probe.release(account))


def number(flag: str, text: str) -> float:
    """Raises OpsError for what is no number, or nonsense as a rate or a time."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not LEAST <= value <= MOST:
        raise OpsError(f"{flag} is a number from {LEAST} to {MOST:,.0f}, not {text!r}. For example: {EXAMPLE}")
    return value


def picture(out: str) -> Path:
    path = Path(out).expanduser()
    if path.suffix.lower() != ".png":
        raise OpsError(f"--out is a file that ends in .png, not {out!r}.")
    if not path.parent.is_dir():
        raise OpsError(f"--out: there is no folder {path.parent}. Make it: mkdir -p {path.parent}")
    return path


def drawn(path: Path, plan: Plan, options: list[Option], where_from: str, dry: bool) -> None:
    from ops.capacity import chart

    if dry:
        say(f"This would draw {path}.")
        return
    try:
        chart.draw(plan, options, where_from, path)
    except OSError as error:
        raise OpsError(f"--out: {path} cannot be written: {error.strerror}. Name another file.") from error
    say(f"Drawn: {path}")


def source(plan: Plan, measured: Measured) -> str:
    """Where the figures are from, in a sentence."""
    from ops.capacity import model

    if measured.release == model.GIVEN:
        return (
            f"As given by hand, not measured: {plan.rps:g} requests a second for one {plan.instance_type}, "
            f"{plan.duration_ms:,.0f} ms for a call of the function."
        )
    rps, _ = model.carried(measured, plan.instance_type)
    guess = (
        f"What one {plan.instance_type} does is not known: the figures are as if it were such a machine."
        if rps is None
        else f"By vCPUs, one {plan.instance_type} does {rps:.3g} a second (an estimate)."
    )
    return (
        f"Release {measured.release[:12]}, measured {measured.date}: {measured.requests_per_second:.3g} requests a second, p50 "
        f"{measured.p50_ms:.3g} ms, p99 {measured.p99_ms:.3g} ms with {measured.concurrency} callers, in {measured.precision} on "
        f"{measured.vcpus} vCPUs of {measured.cpu}. "
        f"{guess} A call of the function takes {plan.duration_ms:,.0f} ms, of which {model.OVERHEAD_MS:.0f} are assumed."
    )


def told(plan: Plan, measured: Measured, options: list[Option], found: list[Finding]) -> list[str]:
    """The plan for people, part by part."""
    parts = [source(plan, measured), rates(plan), sentences(plan), prices(plan, options)]
    warned = [f"! {each.text}\n  {each.next}" for each in found]
    return [*parts, *(warned or ["Nothing is wrong between function, scaling and instances."])]


def rates(plan: Plan) -> str:
    from ops.capacity.model import calls, shown

    def row(what: str, each: float) -> tuple[str, ...]:
        return (what, shown(each), between(plan, each), f"{100 * each / plan.limit:.0f} %")

    fleet = f"{plan.least} to {plan.most} instances" if plan.least < plan.most else f"{plan.most} instances"
    rows = [
        row("scaling target, as set", plan.as_set),
        row("scaling target, advised", plan.target),
        row("limit", plan.limit),
        (f"the function admits: {calls(plan)}", "", shown(plan.admitted), ""),
    ]
    return table(("requests a minute", "one instance", fleet, "of the limit"), rows)


def between(plan: Plan, each: float) -> str:
    """What the smallest and the largest fleet take: `20 to 40`."""
    from ops.capacity.model import shown

    low, high = shown(plan.least * each), shown(plan.most * each)
    return high if plan.least == plan.most else f"{low} to {high}"


def sentences(plan: Plan) -> str:
    """How many instances the traffic wants, and what a spike meets."""
    from ops.capacity.model import shown, spike

    wanted, as_set = plan.instances(plan.target), plan.instances(plan.as_set)
    over = f" (endpoint.max_instances is {plan.most})" if max(wanted, as_set) > plan.most else ""
    why = "" if plan.asked else ", all that the function admits,"
    peak = spike(plan)
    (soon, late), (few, many) = peak["minutes"], peak["unanswered"]
    meanwhile = f"too little: {shown(few)} to {shown(many)} wait or are refused" if many else "enough"
    fleet = f"{plan.least} instance{'s' if plan.least > 1 else ''}"
    return (
        f"Traffic of {shown(plan.traffic)} a minute{why} wants {wanted:,} instances at the advised target, "
        f"{as_set:,} at the target as set{over}.\n"
        f"A spike to it: 3 points of one minute, 1 to 2 minutes until they are seen, 3 to 7 to start. Until one more answers, "
        f"after {soon} to {late} minutes, {fleet} can take {shown(peak['taken_per_minute'])} a minute: {meanwhile}."
    )


def prices(plan: Plan, options: list[Option]) -> str:
    from ops.core import pricing

    heads = ("type", "vCPU", "AMX", "requests/s", "instances", "$/month", "$/1,000", "$/1,000 full", "requests/s is")
    rows = []
    for each in options:
        head = (each.instance_type, each.vcpus or "?", "yes" if each.amx else "no")
        if each.requests_per_second is None:
            rows.append((*head, "?", "?", "?", "?", "?", each.note))
            continue
        costs = (f"{each.dollars_per_month:,.2f}", f"{each.dollars_per_1000:.4f}", f"{each.dollars_per_1000_full:.4f}")
        rows.append((*head, f"{each.requests_per_second:.3g}", f"{each.instances:,}", *costs, each.note))
    note = (
        f"List prices of {pricing.prices()['dated']}, {pricing.HOURS_A_MONTH} hours; $/1,000 pictures at this traffic, and full: at the "
        "advised target, both all month. Estimates are by vCPUs alone."
    )
    return table(heads, rows) + "\n" + note


def data(plan: Plan, measured: Measured, options: list[Option], found: list[Finding]) -> dict[str, Any]:
    """All of it for --json, rounded to what the figures are worth."""
    from dataclasses import asdict

    from ops.capacity import model

    peak = model.spike(plan)
    return {
        "measured": asdict(measured),
        "instance_type": plan.instance_type,
        "requests_per_second": round(plan.rps, 3),
        "limit_per_minute": round(plan.limit, 1),
        "target": {
            "advised": plan.target,
            "as_set": plan.as_set,
            "as_set_share_of_limit": round(plan.as_set / plan.limit, 4),
        },
        "instances": {
            "min": plan.least,
            "max": plan.most,
            "advised": plan.instances(plan.target),
            "as_set": plan.instances(plan.as_set),
        },
        "function": {
            "concurrent": plan.slots,
            "duration_ms": round(plan.duration_ms, 1),
            "admitted_per_minute": model.whole(plan.admitted),
        },
        "covered_per_minute": {
            "as_set": plan.covered,
            "advised": plan.most * plan.target,
            "limit": round(plan.most * plan.limit, 1),
        },
        "traffic_per_minute": plan.traffic,
        "spike": {name: value if name == "minutes" else rounded(value, 1) for name, value in peak.items()},
        "types": [{name: rounded(value, 4) for name, value in asdict(each).items()} for each in options],
        "findings": [asdict(each) for each in found],
    }


def rounded(value: Any, digits: int) -> Any:
    if isinstance(value, tuple):
        return [rounded(each, digits) for each in value]
    return round(value, digits) if isinstance(value, float) else value

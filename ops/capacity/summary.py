"""Present the capacity plan as text, as tables and as data for --json."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from ops.capacity.model import (
    GIVEN,
    OVERHEAD_MS,
    Option,
    Plan,
    describe_call_limit,
    estimate_spike,
    format_rate,
    round_down,
    scale_to_instance_type,
)
from ops.core import pricing
from ops.core.finding import Finding
from ops.core.output import format_table
from ops.releases.load_test import LoadTestResult


def describe_source(plan: Plan, measured: LoadTestResult) -> str:
    """Return a sentence on where the figures are from."""
    if measured.release == GIVEN:
        return (
            f"Given by flags, not measured: {plan.rps:g} requests a second for one {plan.instance_type}, "
            f"{plan.duration_ms:,.0f} ms for a call of the function."
        )
    rps, _ = scale_to_instance_type(measured, plan.instance_type)
    guess = (
        f"There is no measurement for {plan.instance_type}: the figures assume the measured machine."
        if rps is None
        else f"By vCPUs, one {plan.instance_type} does {format_rate(rps)} a second (an estimate)."
    )
    return (
        f"Release {measured.release[:12]}, measured {measured.date}: {format_rate(measured.requests_per_second)} requests a second, p50 "
        f"{measured.p50_ms:.3g} ms, p99 {measured.p99_ms:.3g} ms with {measured.concurrency} callers, in {measured.precision} on "
        f"{measured.vcpus} vCPUs of {measured.cpu}. "
        f"{guess} A call of the function takes {plan.duration_ms:,.0f} ms, of which {OVERHEAD_MS:.0f} are assumed."
    )


def describe_plan(plan: Plan, measured: LoadTestResult, options: list[Option], found: list[Finding]) -> str:
    """Return the plan as text, part by part."""
    parts = [
        describe_source(plan, measured),
        format_rates_table(plan),
        describe_traffic(plan),
        format_prices_table(plan, options),
    ]
    warned = [f"! {each.message}\n  {each.fix}" for each in found]
    return "\n\n".join([*parts, *(warned or ["Function, scaling and instances agree."])])


def format_rates_table(plan: Plan) -> str:
    def row(what: str, each: float) -> tuple[str, ...]:
        return (what, format_rate(each), format_fleet_range(plan, each), f"{100 * each / plan.limit:.0f} %")

    fleet = f"{plan.least} to {plan.most} instances" if plan.least < plan.most else f"{plan.most} instances"
    rows = [
        row("scaling target, current", plan.as_set),
        row("scaling target, advised", plan.target),
        row("limit", plan.limit),
        (f"the function admits: {describe_call_limit(plan)}", "", format_rate(plan.admitted), ""),
    ]
    return format_table(("requests a minute", "one instance", fleet, "of the limit"), rows)


def format_fleet_range(plan: Plan, each: float) -> str:
    """Return what the smallest and the largest fleet can handle, such as `20 to 40`."""
    low, high = format_rate(plan.least * each), format_rate(plan.most * each)
    return high if plan.least == plan.most else f"{low} to {high}"


def describe_traffic(plan: Plan) -> str:
    """Return sentences on how many instances the traffic needs, and on what happens in a spike."""
    wanted, as_set = plan.instances(plan.target), plan.instances(plan.as_set)
    over = f" (endpoint.max_instances is {plan.most})" if max(wanted, as_set) > plan.most else ""
    why = "" if plan.traffic_given else ", all that the function admits,"
    peak = estimate_spike(plan)
    (soon, late), (few, many) = peak.minutes, peak.unanswered
    meanwhile = f"too few: {format_rate(few)} to {format_rate(many)} requests wait or are refused" if many else "enough"
    fleet = f"{plan.least} instance{'s' if plan.least > 1 else ''}"
    return (
        f"Traffic of {format_rate(plan.traffic)} a minute{why} needs {wanted:,} instance{'s' if wanted > 1 else ''} at the advised target, "
        f"{as_set:,} at the current target{over}.\n"
        f"A spike to it: the alarm takes 3 points of one minute, which arrive 1 to 2 minutes late; an instance starts in 3 to 7. "
        f"Until one more answers, after {soon} to {late} minutes, {fleet} can handle {format_rate(peak.taken_per_minute)} "
        f"a minute: {meanwhile}."
    )


def format_prices_table(plan: Plan, options: list[Option]) -> str:
    heads = (
        "type",
        "vCPU",
        "AMX",
        "requests/s",
        "instances",
        "$/month",
        "$/1,000",
        "$/1,000 full",
        "source of requests/s",
    )
    rows: list[tuple[object, ...]] = []
    for each in options:
        head = (each.instance_type, each.vcpus or "?", "yes" if each.amx else "no")
        if each.requests_per_second is None:
            rows.append((*head, "?", "?", "?", "?", "?", each.note))
            continue
        amounts = ((each.dollars_per_month, 2), (each.dollars_per_1000, 4), (each.dollars_per_1000_full, 4))
        costs = ["?" if amount is None else f"{amount:,.{digits}f}" for amount, digits in amounts]
        rows.append((*head, format_rate(each.requests_per_second), f"{each.instances:,}", *costs, each.note))
    note = (
        f"List prices of {pricing.read_prices()['dated']}, {pricing.HOURS_A_MONTH} hours a month. $/1,000: pictures at this traffic all "
        "month; $/1,000 full: at the advised target all month. Requests/s marked as estimates are scaled by vCPUs alone."
    )
    return format_table(heads, rows) + "\n" + note


def as_data(plan: Plan, measured: LoadTestResult, options: list[Option], found: list[Finding]) -> dict[str, Any]:
    """Return the whole plan for --json, rounded to the precision of the figures."""
    peak = estimate_spike(plan)
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
            "admitted_per_minute": round_down(plan.admitted),
        },
        "covered_per_minute": {
            "as_set": plan.covered,
            "advised": plan.most * plan.target,
            "limit": round(plan.most * plan.limit, 1),
        },
        "traffic_per_minute": plan.traffic,
        "spike": {
            "minutes": peak.minutes,
            "taken_per_minute": round_values(peak.taken_per_minute, 1),
            "unanswered": round_values(peak.unanswered, 1),
        },
        "types": [{name: round_values(value, 4) for name, value in asdict(each).items()} for each in options],
        "findings": [asdict(each) for each in found],
    }


def round_values(value: Any, digits: int) -> Any:
    if isinstance(value, tuple):
        return [round_values(each, digits) for each in value]
    return round(value, digits) if isinstance(value, float) else value

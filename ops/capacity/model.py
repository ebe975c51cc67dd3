"""Compute from one measurement how many requests the endpoint and the function in front of it can handle, and what that costs.

Rates are requests a minute unless a name says otherwise, because SageMaker's scaling metric counts by the minute.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from ops.core import pricing
from ops.core.errors import OpsError
from ops.core.finding import Finding
from ops.core.settings import Settings
from ops.releases.cpu_types import find_cpu_type
from ops.releases.load_test import LoadTestResult

SAFETY = (
    0.5  # AWS's first value, in "Load testing your auto scaling configuration": target = RPS of one instance x 0.5 x 60
)
CALLS_A_SECOND = 10  # of one Lambda environment, AWS's quota, however short a call is
ACCOUNT_CONCURRENCY = 1000  # of a whole account, AWS's default quota; new accounts have less
OVERHEAD_MS = 50.0  # assumed: the warm function's own time, with reading the picture from S3
POINTS, LAG, START = (
    3,
    (1, 2),
    (3, 7),
)  # minutes of a spike: the alarm's points, the metric's lateness, an instance's start
GIVEN = "given"  # the release of a measurement that was given by flags


@dataclass(frozen=True)
class Option:
    """The cost of the traffic on one instance type. Numbers are None where the measurement does not apply to its CPU."""

    instance_type: str
    vcpus: int | None
    amx: bool
    requests_per_second: float | None
    instances: int | None
    dollars_per_month: float | None
    dollars_per_1000: float | None  # at the traffic, as if it were the peak all month
    dollars_per_1000_full: float | None  # at the advised target, all month
    note: str


@dataclass(frozen=True)
class Plan:
    """The capacity plan: `rps` is what one instance can do, `duration_ms` what a function call takes, `slots` how many run at once."""

    instance_type: str
    rps: float
    duration_ms: float
    slots: int
    as_set: int
    least: int
    most: int
    traffic: float
    traffic_given: bool = False  # else the traffic is what the function admits
    concurrency: float = 0.0  # target of simultaneous requests per instance; 0 where scaling counts requests a minute

    @property
    def limit(self) -> float:
        return self.rps * 60

    @property
    def target(self) -> int:
        return compute_target(self.rps)

    @property
    def admitted(self) -> float:
        return compute_function_throughput(self.slots, self.duration_ms)

    @property
    def covered(self) -> int:
        """Return the requests a minute that the current scaling target plans for."""
        return self.most * self.as_set

    @property
    def exceeds(self) -> bool:
        return round_down(self.admitted) > self.covered

    @property
    def usable(self) -> int:
        """Return the current target, if that is between the advised one and the limit; else the advised one."""
        return self.as_set if self.target <= self.as_set < self.limit else self.target

    def instances(self, each: float) -> int:
        return compute_instances(self.traffic, each, self.least)


def compute_target(rps: float) -> int:
    """Return SageMakerVariantInvocationsPerInstance for an instance that can do `rps`; a whole number, as the setting is."""
    return max(1, math.floor(round(rps * SAFETY * 60, 6)))


def compute_function_throughput(slots: int, duration_ms: float) -> float:
    """Return calls a minute: slots divided by the time of a call (Little's law), at most ten a second for each environment."""
    return slots * min(60_000 / duration_ms, CALLS_A_SECOND * 60)


def compute_instances(traffic: float, each: float, least: int = 1) -> int:
    return max(least, math.ceil(round(traffic / each, 6)))


def estimate_call_duration(measured: LoadTestResult) -> float:
    """Return the ms of a call without queueing: with more callers than vCPUs, the p50 contains their wait for each other."""
    return measured.p50_ms * min(1.0, measured.vcpus / measured.concurrency) + OVERHEAD_MS


def from_flags(rps: float, latency_ms: float, instance_type: str) -> LoadTestResult:
    """Return figures given by flags, as if they had been measured on that type. On a CPU that has bf16 they count as bf16."""
    there = find_cpu_type(instance_type)
    return LoadTestResult(
        release=GIVEN, vcpus=there.vcpus if there else 0, cpu=instance_type,
        precision="bf16" if there and there.amx else "fp32",
        requests_per_second=rps, p50_ms=latency_ms, p99_ms=latency_ms, concurrency=1, date="",
    )  # fmt: skip


def scale_to_instance_type(measured: LoadTestResult, instance_type: str) -> tuple[float | None, str]:
    """Return requests a second on another type, estimated by vCPUs, and a note on the estimate; clock and cache differ."""
    if measured.cpu == instance_type:
        return measured.requests_per_second, "as given"
    there = find_cpu_type(instance_type)
    if there is None or not measured.vcpus:
        return None, "not comparable: measure there"
    if measured.precision == "bf16" and not there.amx:
        return None, "not comparable, no bf16: measure there"
    more = "; bf16 may do more" if there.amx and measured.precision == "fp32" else ""
    return measured.requests_per_second * there.vcpus / measured.vcpus, "estimate" + more


def plan(measured: LoadTestResult, settings: Settings, traffic: float | None = None) -> Plan:
    """Return the plan for `traffic`, by default for what the function admits. Raises OpsError when it admits nothing."""
    slots = ACCOUNT_CONCURRENCY if settings.fn.reserved is None else settings.fn.reserved
    if traffic is None and not slots:
        raise OpsError(
            "fn.reserved is 0: the function admits no calls. Give the traffic to plan for: invoke sm.capacity --traffic 600"
        )
    duration = measured.p50_ms if measured.release == GIVEN else estimate_call_duration(measured)
    endpoint = settings.endpoint
    rps, _ = scale_to_instance_type(measured, endpoint.instance_type)
    there = find_cpu_type(endpoint.instance_type)
    ratio = there.vcpus / measured.vcpus if there and measured.vcpus else 1.0
    return Plan(
        instance_type=endpoint.instance_type,
        rps=measured.requests_per_second * ratio if rps is None else rps,
        duration_ms=duration,
        slots=slots,
        as_set=endpoint.invocations_per_instance,
        least=endpoint.min_instances,
        most=max(endpoint.min_instances, endpoint.max_instances),
        traffic=max(1, round_down(compute_function_throughput(slots, duration))) if traffic is None else traffic,
        traffic_given=traffic is not None,
        concurrency=endpoint.concurrency_per_instance if endpoint.scaling_metric == "concurrency" else 0.0,
    )


def list_type_options(plan: Plan, measured: LoadTestResult) -> list[Option]:
    """Return the endpoint's own type, then the CPU types of ops/core/pricing.toml by monthly cost; unknown ones last."""
    known = [name for name in pricing.read_prices()["sagemaker"] if find_cpu_type(name) and name != plan.instance_type]
    own, *rest = (price_option(plan, measured, name) for name in (plan.instance_type, *known))
    return [
        own,
        *sorted(
            rest,
            key=lambda each: (
                math.inf if each.dollars_per_month is None else each.dollars_per_month,
                each.instance_type,
            ),
        ),
    ]


def price_option(plan: Plan, measured: LoadTestResult, instance_type: str) -> Option:
    rps, note = scale_to_instance_type(measured, instance_type)
    there, hourly = find_cpu_type(instance_type), pricing.price_instances("sagemaker", instance_type)
    vcpus, amx = (there.vcpus, there.amx) if there else (None, False)
    if rps is None:
        return Option(instance_type, vcpus, amx, None, None, None, None, None, note)
    each = compute_target(rps)
    count = plan.instances(each)
    return Option(
        instance_type, vcpus, amx, rps, count, pricing.find_known(count * hourly * pricing.HOURS_A_MONTH),
        pricing.find_known(count * hourly / (plan.traffic * 60) * 1000), pricing.find_known(hourly / (each * 60) * 1000), note,
    )  # fmt: skip


@dataclass(frozen=True)
class Spike:
    """A spike that meets the smallest fleet, until one more instance answers: minutes and unanswered requests (soonest, latest)."""

    minutes: tuple[int, int]
    taken_per_minute: float
    unanswered: tuple[float, float]


def estimate_spike(plan: Plan) -> Spike:
    soonest, latest = (POINTS + lag + start for lag, start in zip(LAG, START, strict=True))
    takes = plan.least * plan.limit
    over = max(0.0, plan.traffic - takes)
    return Spike((soonest, latest), takes, (over * soonest, over * latest))


def findings(plan: Plan, measured: LoadTestResult) -> Iterator[Finding]:
    """Yield where function, scaling and instances do not fit each other, and what to set instead."""
    if scale_to_instance_type(measured, plan.instance_type)[0] is None:
        yield Finding(
            "warning",
            f"A measurement in {measured.precision} on {measured.cpu} says little about {plan.instance_type}: the figures assume "
            "the measured machine.",
            f"Measure one {plan.instance_type}, then: invoke sm.capacity --rps RPS --latency-ms MS",
        )
    yield from compare_limits(plan)
    yield from check_traffic(plan)


def compare_limits(plan: Plan) -> Iterator[Finding]:
    """Yield where the function admits more than the endpoint scales for, or can do, and where its target is out of reach."""
    if plan.concurrency:
        yield from compare_concurrency(plan)
        return
    if plan.exceeds:
        yield Finding(
            "warning",
            f"The function admits {format_rate(plan.admitted)} requests a minute; the endpoint's scaling target covers "
            f"{plan.covered:,} ({plan.most} x {plan.as_set:,}). That is {format_ratio(plan.admitted / plan.covered)} times as many; "
            f"at that target an instance uses {100 * plan.as_set / plan.limit:.0f} % of its limit.",
            suggest_settings(plan, plan.usable),
        )
    if round_down(plan.admitted) > plan.most * plan.limit:
        wait = plan.slots / (plan.most * plan.rps)
        yield Finding(
            "warning",
            f"The function admits {format_rate(plan.admitted)} requests a minute; {plan.most} instances can handle "
            f"{format_rate(plan.most * plan.limit)}. With {plan.slots:,} concurrent calls each waits about {wait:.1f} s.",
            suggest_settings(plan, plan.target),
        )
    if plan.as_set >= plan.limit:
        yield Finding(
            "warning",
            f"One instance can handle {format_rate(plan.limit)} requests a minute, and the scaling target of {plan.as_set:,} is not "
            "below that: the endpoint is full before it scales out.",
            f"Set endpoint.invocations_per_instance to {plan.target}; then: invoke sm.autoscale",
        )


def compare_concurrency(plan: Plan) -> Iterator[Finding]:
    """Yield where the function runs more calls at once than the endpoint scales for, by the metric `concurrency`."""
    covered = plan.most * plan.concurrency
    if plan.slots > covered:
        most, least = math.ceil(round(plan.slots / plan.concurrency, 6)), math.floor(covered)
        less = f" (or fn.reserved to {least:,}, then invoke lambda.deploy)" if least else ""
        yield Finding(
            "warning",
            f"The function runs {plan.slots:,} calls at once; the endpoint's scaling target covers {covered:g} "
            f"({plan.most} x {plan.concurrency:g}).",
            f"Set endpoint.max_instances to {most:,}{less}; then: invoke sm.autoscale",
        )


def check_traffic(plan: Plan) -> Iterator[Finding]:
    """Yield where a given traffic exceeds function or instances; `findings` judges what the function admits."""
    if plan.traffic_given and plan.traffic > plan.admitted:
        slots = math.ceil(round(plan.traffic / compute_function_throughput(1, plan.duration_ms), 6))
        yield Finding(
            "warning",
            f"{format_rate(plan.traffic)} requests a minute are more than the function admits ({format_rate(plan.admitted)}): "
            "the others are refused with 429.",
            f"Set fn.reserved to {slots}; then: invoke lambda.deploy",
        )
    if plan.traffic_given and plan.instances(plan.target) > plan.most:
        yield Finding(
            "warning",
            f"{format_rate(plan.traffic)} requests a minute need {plan.instances(plan.target):,} instances at the advised target, and "
            f"endpoint.max_instances is {plan.most}.",
            f"Set endpoint.max_instances to {plan.instances(plan.target)}; then: invoke sm.autoscale",
        )


def suggest_settings(plan: Plan, each: int) -> str:
    """Return what to set so that the function admits no more than the instances cover at `each`."""
    sets = [] if each == plan.as_set else [f"endpoint.invocations_per_instance to {each}"]
    if plan.admitted > plan.most * each:
        slots = math.floor(plan.most * each / compute_function_throughput(1, plan.duration_ms))
        less = f" (or fn.reserved to {slots}, then invoke lambda.deploy)" if slots else ""
        sets.append(f"endpoint.max_instances to {compute_instances(plan.admitted, each)}{less}")
    return f"Set {' and '.join(sets)}; then: invoke sm.autoscale"


def round_down(number: float) -> int:
    return math.floor(round(number, 6))


def format_rate(number: float) -> str:
    """Format a rate for people, never rounded up; small rates keep decimals."""
    return f"{round_down(number):,}" if number >= 10 else f"{number:.3g}"


def describe_call_limit(plan: Plan) -> str:
    """Return what limits the function, such as `10 at a time, 1.27 s a call`."""
    if plan.duration_ms < 1000 / CALLS_A_SECOND:
        return f"{plan.slots:,} at a time, each at most {CALLS_A_SECOND} a second"
    return f"{plan.slots:,} at a time, {plan.duration_ms / 1000:.3g} s a call"


def format_ratio(ratio: float) -> str:
    return f"{ratio:,.0f}" if ratio >= 9.5 else f"{ratio:.1f}"

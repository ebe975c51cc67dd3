"""Diagnose why the endpoint does, or does not, scale with its load: its registration, its alarms, its latest scaling activities."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from ops.core.aws.account import Account
from ops.core.finding import SEVERITIES, Finding
from ops.core.settings import Settings
from ops.endpoint import alarms, plan, probe, scaling

LAG_POINTS = 2  # CloudWatch publishes a minute's data point one or two minutes later
BOOT_S = 180  # an instance takes 3 to 7 minutes to start, and nothing is scaled meanwhile
RECENT = 5
PERIODS = {10: "ten-second", 60: "one-minute"}
WHY_NOT = {
    "AlreadyAtMaxCapacity": "it has its maximum of instances",
    "AlreadyAtMinCapacity": "it has its minimum of instances",
    "AlreadyAtDesiredCapacity": "it has the desired number of instances",
    "AutoScalingAnticipatedFlapping": "the next change would undo this one",
    "TargetServicePutResourceAsUnscalable": "SageMaker says that the endpoint cannot be scaled now",
}


@dataclass(frozen=True)
class Alarm:
    """An alarm of the policy. `way` is out or in; `points` has a value for each period, the newest last, None for a missing one."""

    way: str
    name: str
    state: str
    threshold: float
    needs: int
    period: int
    points: tuple[float | None, ...] = ()

    @property
    def fires(self) -> bool:
        return self.state == "ALARM"


@dataclass(frozen=True)
class ScalingState:
    status: str
    running: int
    have: scaling.Facts
    alarms: tuple[Alarm, ...] = ()
    activities: tuple[dict[str, Any], ...] = ()
    now: datetime = datetime(2026, 1, 1, tzinfo=UTC)


def inspect_scaling(account: Account) -> ScalingState:
    found = probe.require_endpoint(account)
    variant = (found.get("ProductionVariants") or [{}])[0]
    have = scaling.facts(account, variant.get("DesiredInstanceCount", 0))
    answer = account.call(
        scaling.SERVICE, "describe_scaling_activities", IncludeNotScaledActivities=True, MaxResults=RECENT,
        **scaling.identify_resource(account.settings),
    )  # fmt: skip
    now = datetime.now(UTC)
    return ScalingState(
        found["EndpointStatus"],
        variant.get("CurrentInstanceCount", 0),
        have,
        tuple(read_alarm(account, alarm, now) for alarm in have.alarms),
        tuple(answer["ScalingActivities"]),
        now,
    )


def read_alarm(account: Account, alarm: dict[str, Any], now: datetime) -> Alarm:
    """Read an alarm with the data points that it has evaluated, or is about to."""
    metric = scaling.METRICS[account.settings.endpoint.scaling_metric]
    period, needs = alarm.get("Period", metric.period), alarm["EvaluationPeriods"]
    statistic = alarm.get("Statistic", metric.statistic)
    found = account.call(
        "cloudwatch", "get_metric_statistics", Namespace="AWS/SageMaker", MetricName=alarm.get("MetricName", metric.name),
        Dimensions=alarm.get("Dimensions") or alarms.build_dimensions(account.settings),
        StartTime=now - timedelta(seconds=period * (needs + LAG_POINTS + 1)), EndTime=now, Period=period, Statistics=[statistic],
    )["Datapoints"]  # fmt: skip
    values = {int((now - point["Timestamp"]).total_seconds() // period): point[statistic] for point in found}
    way = "out" if alarm["ComparisonOperator"].startswith("Greater") else "in"
    return Alarm(
        way,
        alarm["AlarmName"],
        alarm["StateValue"],
        alarm["Threshold"],
        needs,
        period,
        select_last_points(values, needs),
    )


def select_last_points(values: dict[int, float], needs: int) -> tuple[float | None, ...]:
    """Return the last `needs` points; `values` maps periods ago to a value. The running period 0 and late points do not count."""
    newest = next((ago for ago in range(1, LAG_POINTS + 1) if ago in values), 1)
    return tuple(values.get(ago) for ago in range(newest + needs - 1, newest - 1, -1))


def findings(seen: ScalingState, settings: Settings) -> list[Finding]:
    """Return the findings, errors first. An error keeps the endpoint from scaling with its load; a note only explains."""
    found = [*diagnose_registration(seen, settings), *diagnose_load(seen, settings), *diagnose_settings(seen, settings)]
    return sorted(found, key=lambda finding: SEVERITIES.index(finding.severity))


def diagnose_registration(seen: ScalingState, settings: Settings) -> Iterator[Finding]:
    have = seen.have
    if seen.status == "Failed":
        yield Finding("error", "The endpoint has failed, and is not scaled.", "Read its log: invoke sm.logs --errors")
    elif seen.status in plan.MOVING:
        yield Finding("note", f"The endpoint is {seen.status}: its instances are not scaled until it is InService.")
    if have.bounds is None:
        message = f"No scalable target is registered: the number of instances stays at {have.instances}."
        yield Finding("error", message, "invoke sm.autoscale")
        return
    if have.bounds not in scaling.list_acceptable_bounds(have, settings):
        least, most = scaling.resolve_bounds(settings)
        yield Finding(
            "error",
            f"Its bounds are {have.bounds[0]} to {have.bounds[1]} instances, the settings say {least} to {most}.",
            "Restore them: invoke sm.autoscale",
        )
    for name in have.suspended:
        message = f"{scaling.SUSPENSIONS[name].capitalize()} is suspended."
        yield Finding("error", message, "Resume it: invoke sm.autoscale")
    policy = have.policies.get(scaling.derive_policy_name(settings))
    if policy is None:
        yield Finding(
            "error", f"It has no scaling policy for {settings.endpoint.scaling_metric}.", "invoke sm.autoscale"
        )
    elif policy != scaling.build_policy_config(settings):
        yield Finding(
            "error",
            f"Its policy {describe_differences(policy, scaling.build_policy_config(settings))}.",
            "invoke sm.autoscale",
        )
    ours = {scaling.derive_policy_name(settings, metric) for metric in scaling.METRICS}
    for name in have.policies.keys() - {scaling.derive_policy_name(settings)}:
        whose = "left from another metric: invoke sm.autoscale" if name in ours else "not created by Kennel"
        message = f"There is a second policy, {name}, {whose}. AWS follows the one that asks for more instances."
        yield Finding("error", message, "invoke sm.autoscale") if name in ours else Finding("note", message)


def describe_differences(have: dict[str, Any], want: dict[str, Any]) -> str:
    names = [name for name in {**want, **have} if have.get(name) != want.get(name)]
    return ", ".join(f"has {name} {have.get(name)}, the settings say {want.get(name)}" for name in names)


def diagnose_load(seen: ScalingState, settings: Settings) -> Iterator[Finding]:
    have = seen.have
    if have.bounds is None:
        return
    high = next((alarm for alarm in seen.alarms if alarm.way == "out"), None)
    low = next((alarm for alarm in seen.alarms if alarm.way == "in"), None)
    if have.instances >= have.bounds[1]:
        if high and high.fires:
            more = f"invoke sm.autoscale --max-instances {2 * have.bounds[1]}"
            yield Finding(
                "error",
                f"It has its maximum of {have.bounds[1]} instances, and is above its target.",
                f"Raise the maximum for now: {more}; for good: endpoint.max_instances",
            )
        else:
            yield Finding("note", f"It has its maximum of {have.bounds[1]} instances: more load adds none.")
    if seen.running < have.instances:
        starting = f"{have.instances - seen.running} of {have.instances} instances are starting: 3 to 7 minutes each."
        yield Finding("note", starting)
    if have.deleted_alarms:
        yield Finding("error", "An alarm of its policy was deleted.", "Create it again: invoke sm.autoscale")
    if low and None in low.points and not low.fires and have.instances > have.bounds[0]:
        gaps = low.points.count(None)
        yield Finding(
            "note",
            f"No instance is removed yet: {gaps} of the last {low.needs} minutes had no request, and so no data point; "
            f"removing one takes {low.needs} points in a row, each below {low.threshold:g}.",
        )
    done = [activity for activity in seen.activities if not activity.get("NotScaledReasons")]
    if done and done[0]["StatusCode"] in ("Failed", "Unfulfilled"):
        words = done[0].get("StatusMessage", done[0]["Description"])
        yield Finding(
            "error",
            f"The last scaling activity {done[0]['StatusCode']}: {words}",
            f"Check the quota of {settings.endpoint.instance_type}; if it is not reached, AWS lacks capacity: try again later",
        )


def diagnose_settings(seen: ScalingState, settings: Settings) -> Iterator[Finding]:
    if seen.have.bounds is None:
        return
    have, wanted = seen.have.schedule, scaling.build_schedule(settings, seen.now)
    for name, action in wanted.items():
        if have.get(name) != action:
            message = f"The scheduled action {name} {'differs' if name in have else 'is missing'}."
            yield Finding("error", message, "invoke sm.autoscale")
    unwanted = set(scaling.list_unwanted_actions(seen.have, settings, seen.now))
    for name in have.keys() - wanted.keys():
        whose = "is not in the settings: invoke sm.autoscale" if name in unwanted else "was not created by Kennel"
        message = f"The scheduled action {name}, {have[name]['Schedule']}, {whose}."
        yield Finding("error", message, "invoke sm.autoscale") if name in unwanted else Finding("note", message)
    cool, metric = settings.endpoint, scaling.METRICS[settings.endpoint.scaling_metric]
    if 0 < cool.scale_out_cooldown_s < BOOT_S:
        yield Finding(
            "note",
            f"endpoint.scale_out_cooldown_s {cool.scale_out_cooldown_s} has no effect: an instance takes longer to start, "
            "and AWS does not scale meanwhile.",
        )
    if 0 < cool.scale_in_cooldown_s < 60:
        yield Finding(
            "note",
            f"endpoint.scale_in_cooldown_s {cool.scale_in_cooldown_s} has no effect: AWS evaluates {metric.name} once a minute.",
        )


def as_data(seen: ScalingState, found: list[Finding]) -> dict[str, Any]:
    """Return the diagnosis for --json."""
    have = seen.have
    return {
        "status": seen.status, "running": seen.running, "desired": have.instances, "bounds": have.bounds,
        "suspended": have.suspended, "policies": have.policies, "schedule": have.schedule,
        "alarms": [asdict(alarm) for alarm in seen.alarms], "activities": seen.activities,
        "findings": [asdict(one) for one in found],
    }  # fmt: skip


def describe_diagnosis(seen: ScalingState, found: list[Finding], settings: Settings) -> str:
    name, have = settings.endpoint_name, seen.have
    if any(one.severity == "error" for one in found):
        head = f"{name} does not scale as the settings say:"
    else:
        least, most = have.bounds or (0, 0)
        head = f"{name} scales with its load: {seen.running} now, {least} to {most} instances by {settings.endpoint.scaling_metric}."
    lines = [head, *map(describe_finding, found)]
    lines += [describe_alarm(alarm, settings) for alarm in seen.alarms]
    if seen.activities:
        lines += ["Latest scaling activities:", *(f"  {describe_activity(one)}" for one in seen.activities)]
    return "\n".join(lines)


def describe_finding(one: Finding) -> str:
    """Return a finding as a line. A fix that the message contains is not repeated; a bare command is introduced by "Next:"."""
    mark = "!" if one.severity == "error" else "-"
    if not one.fix or one.fix in one.message:
        return f"{mark} {one.message}"
    return f"{mark} {one.message} {'Next: ' if one.fix.startswith('invoke ') else ''}{one.fix}"


def describe_alarm(alarm: Alarm, settings: Settings) -> str:
    unit = scaling.METRICS[settings.endpoint.scaling_metric].unit
    points = ", ".join("none" if point is None else f"{point:.4g}" for point in alarm.points)
    verb, side = ("Adds instances", "above") if alarm.way == "out" else ("Removes instances", "below")
    period = PERIODS.get(alarm.period, f"{alarm.period} s")
    condition = f"{verb} after {alarm.needs} {period} points in a row {side} {alarm.threshold:g} {unit} each"
    return f"{condition}; latest points: {points}. Alarm state: {alarm.state}"


def describe_activity(one: dict[str, Any]) -> str:
    reasons = one.get("NotScaledReasons", [])
    why = "; ".join(WHY_NOT.get(reason["Code"], reason["Code"]) for reason in reasons)
    words = f"not scaled: {why}" if why else f"{one['StatusCode']}: {one.get('StatusMessage') or one['Description']}"
    return f"{one['StartTime'].astimezone(UTC):%Y-%m-%d %H:%M:%SZ}  {words.rstrip('.')} ({one['Cause']})"

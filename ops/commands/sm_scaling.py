"""Scaling from the command line: let the endpoint follow its load, or tell why it does not."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC
from typing import TYPE_CHECKING, Any

from ops.core.aws.account import Account
from ops.core.errors import FINDINGS, OpsError
from ops.core.output import say
from ops.core.task import Result, carry_out, task

if TYPE_CHECKING:
    from ops.core.settings import Settings
    from ops.endpoint.scaling_diagnosis import Alarm, Finding, Seen

BURSTABLE = "ml.t2."  # AWS refuses to scale these
PERIODS = {10: "ten-second", 60: "one-minute"}
WHY_NOT = {
    "AlreadyAtMaxCapacity": "it has the most instances that it may have",
    "AlreadyAtMinCapacity": "it has the fewest instances that it may have",
    "AlreadyAtDesiredCapacity": "the number of instances is right already",
    "AutoScalingAnticipatedFlapping": "the next change would undo this one",
    "TargetServicePutResourceAsUnscalable": "SageMaker says that the endpoint cannot be scaled now",
}


@task(
    help={
        "min-instances": "At least so many for now, instead of endpoint.min_instances: they start at once.",
        "max-instances": "At most so many for now, instead of endpoint.max_instances.",
        "explain": "Change nothing; tell whether it follows its load, and why not; exit 7 when something stops it.",
        "json": "Print it as JSON.",
    }
)
def autoscale(c, min_instances=0, max_instances=0, explain=False, json=False):
    """Let the number of instances follow the load; with --explain, tell why it does or does not."""
    from ops.endpoint import plan, probe, scaling

    account = Account.from_context(c)
    settings = account.settings
    refuse_burstable(settings)
    bounds = scaling.wanted_bounds(settings, min_instances, max_instances)
    probe.existing(account)
    if explain:
        return explained(account)
    account.guard()
    if not c.config.run.dry:
        plan.rest(account)  # AWS takes no change of scaling while the endpoint itself changes
    found = probe.existing(account)
    if found["EndpointStatus"] == "Failed":
        raise OpsError(
            f"The endpoint {settings.endpoint_name} has failed: nothing scales it. Why: invoke sm.logs --errors"
        )
    have = scaling.facts(account, found["ProductionVariants"][0]["DesiredInstanceCount"])
    own = bounds if min_instances or max_instances else None
    done = carry_out(c, account, scaling.steps(have, settings, own))
    say(how(settings))
    return Result(done.data, f"{bounds[0]} to {bounds[1]} instances. {done.text}", changes=done.changes)


def explained(account: Account) -> Result:
    from ops.endpoint import scaling_diagnosis

    seen = scaling_diagnosis.look(account)
    found = scaling_diagnosis.findings(seen, account.settings)
    code = FINDINGS if any(one.stops for one in found) else 0
    return Result(told(seen, found), text(seen, found, account.settings), code=code)


def refuse_burstable(settings: Settings) -> None:
    if settings.endpoint.instance_type.startswith(BURSTABLE):
        raise OpsError(
            f"endpoint.instance_type is {settings.endpoint.instance_type}: AWS does not scale burstable types. "
            "Take another, such as ml.m5.large, then: invoke sm.deploy"
        )


def how(settings: Settings) -> str:
    """What to expect of the settings."""
    from ops.endpoint import scaling

    endpoint, target = settings.endpoint, f"{scaling.target_value(settings):g}"
    if endpoint.scaling_metric == "concurrency":
        out = f"thirty seconds above {target} requests at once each"
    else:
        out = (
            f"three minutes above {target} requests a minute each ({scaling.target_value(settings) / 60:.2f} a second)"
        )
    return (
        f"AWS adds instances after {out}, which take 3 to 7 minutes more to start, and takes some away after fifteen minutes "
        "below. Is it so? invoke sm.autoscale --explain"
    )


def told(seen: Seen, found: list[Finding]) -> dict[str, Any]:
    have = seen.have
    return {
        "status": seen.status, "running": seen.running, "desired": have.instances, "bounds": have.bounds,
        "suspended": have.suspended, "policies": have.policies, "schedule": have.schedule,
        "alarms": [asdict(alarm) for alarm in seen.alarms], "activities": seen.activities,
        "findings": [asdict(one) for one in found],
    }  # fmt: skip


def text(seen: Seen, found: list[Finding], settings: Settings) -> str:
    name, have = settings.endpoint_name, seen.have
    if any(one.stops for one in found):
        head = f"{name} does not follow its load as the settings want:"
    else:
        least, most = have.bounds or (0, 0)
        head = f"{name} follows its load: {seen.running} now, {least} to {most} instances by {settings.endpoint.scaling_metric}."
    lines = [head, *(f"{'!' if one.stops else '-'} {one.says}" for one in found)]
    lines += [shown(alarm, settings) for alarm in seen.alarms]
    if seen.activities:
        lines += ["The last that was done, or not:", *(f"  {activity(one)}" for one in seen.activities)]
    return "\n".join(lines)


def shown(alarm: Alarm, settings: Settings) -> str:
    from ops.endpoint import scaling

    unit = scaling.METRICS[settings.endpoint.scaling_metric].unit
    points = ", ".join("none" if point is None else f"{point:.4g}" for point in alarm.points)
    verb, side = ("Adds", "above") if alarm.way == "out" else ("Takes away", "below")
    period = PERIODS.get(alarm.period, f"{alarm.period} s")
    return f"{verb} after {alarm.needs} {period} points in a row {side} {alarm.threshold:g} {unit} each; the last: {points}. {alarm.state}"


def activity(one: dict[str, Any]) -> str:
    reasons = one.get("NotScaledReasons", [])
    why = "; ".join(WHY_NOT.get(reason["Code"], reason["Code"]) for reason in reasons)
    words = f"not scaled: {why}" if why else f"{one['StatusCode']}: {one.get('StatusMessage') or one['Description']}"
    return f"{one['StartTime'].astimezone(UTC):%Y-%m-%d %H:%M:%SZ}  {words.rstrip('.')} ({one['Cause']})"

"""The scaling of the endpoint's instances: bounds, a target tracking policy, and scheduled actions that change the bounds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from ops.core import pricing
from ops.core.aws.account import Account
from ops.core.errors import AwsError, OpsError
from ops.core.plan import Change, Steps
from ops.core.settings import Settings

SERVICE = "application-autoscaling"
DIMENSION = "sagemaker:variant:DesiredInstanceCount"
SUSPENSIONS = {
    "DynamicScalingOutSuspended": "scaling out",
    "DynamicScalingInSuspended": "scaling in",
    "ScheduledScalingSuspended": "the schedule",
}
BURSTABLE = "ml.t2."  # AWS refuses to scale these
RESUMED = dict.fromkeys(SUSPENSIONS, False)
Bounds = tuple[int, int]


@dataclass(frozen=True)
class Metric:
    """A predefined metric of target tracking, its name in CloudWatch, and the period in seconds of its high alarm."""

    predefined: str
    name: str
    statistic: str
    period: int
    unit: str


METRICS = {
    "invocations": Metric(
        "SageMakerVariantInvocationsPerInstance", "InvocationsPerInstance", "Sum", 60, "requests a minute"
    ),
    "concurrency": Metric(
        "SageMakerVariantConcurrentRequestsPerModelHighResolution",
        "ConcurrentRequestsPerModel",
        "Average",
        10,
        "requests at once",
    ),
}


@dataclass(frozen=True)
class Facts:
    """The registered scaling: bounds (None without a target), policies and scheduled actions by name, what is suspended.

    `instances` is how many the endpoint should have now. `alarms` are those of our policy, as AWS describes them, and
    `deleted_alarms` counts those that are missing.
    """

    bounds: Bounds | None = None
    policies: dict[str, dict[str, Any]] = field(default_factory=dict)
    suspended: tuple[str, ...] = ()
    schedule: dict[str, dict[str, Any]] = field(default_factory=dict)
    instances: int = 1
    alarms: tuple[dict[str, Any], ...] = ()
    deleted_alarms: int = 0


def identify_resource(settings: Settings) -> dict[str, str]:
    where = f"endpoint/{settings.endpoint_name}/variant/{settings.endpoint.variant}"
    return {"ServiceNamespace": "sagemaker", "ResourceId": where, "ScalableDimension": DIMENSION}


def facts(account: Account, instances: int = 1) -> Facts:
    """Read the registered scaling. `instances` is the endpoint's DesiredInstanceCount, from its own description."""
    where = identify_resource(account.settings)
    targets = account.list_all(
        SERVICE, "describe_scalable_targets", "ScalableTargets",
        ServiceNamespace="sagemaker", ResourceIds=[where["ResourceId"]], ScalableDimension=DIMENSION,
    )  # fmt: skip
    policies = account.list_all(SERVICE, "describe_scaling_policies", "ScalingPolicies", **where)
    actions = account.list_all(SERVICE, "describe_scheduled_actions", "ScheduledActions", **where)
    suspended = targets[0].get("SuspendedState", {}) if targets else {}
    ours = [policy for policy in policies if policy["PolicyName"] == derive_policy_name(account.settings)]
    names = [alarm["AlarmName"] for policy in ours for alarm in policy.get("Alarms", [])]
    alarms = account.list_all("cloudwatch", "describe_alarms", "MetricAlarms", AlarmNames=names) if names else []
    return Facts(
        (targets[0]["MinCapacity"], targets[0]["MaxCapacity"]) if targets else None,
        {policy["PolicyName"]: extract_policy_config(policy) for policy in policies},
        tuple(name for name in SUSPENSIONS if suspended.get(name)),
        {action["ScheduledActionName"]: extract_schedule(action) for action in actions},
        instances,
        tuple(alarms),
        len(names) - len(alarms),
    )


def extract_policy_config(policy: dict[str, Any]) -> dict[str, Any]:
    """Return a policy's configuration as requested, without a default that AWS may add."""
    found = dict(policy.get("TargetTrackingScalingPolicyConfiguration", {}))
    if not found.get("DisableScaleIn"):
        found.pop("DisableScaleIn", None)
    return found


def extract_schedule(action: dict[str, Any]) -> dict[str, Any]:
    parts = ("Schedule", "Timezone", "ScalableTargetAction")
    return {name: action[name] for name in parts if action.get(name)}


def derive_policy_name(settings: Settings, metric: str = "") -> str:
    return f"{settings.prefix}-{metric or settings.endpoint.scaling_metric}"


def select_target_value(settings: Settings) -> float:
    endpoint = settings.endpoint
    per_minute = endpoint.scaling_metric == "invocations"
    return float(endpoint.invocations_per_instance if per_minute else endpoint.concurrency_per_instance)


def build_policy_config(settings: Settings) -> dict[str, Any]:
    endpoint = settings.endpoint
    return {
        "TargetValue": select_target_value(settings),
        "PredefinedMetricSpecification": {"PredefinedMetricType": METRICS[endpoint.scaling_metric].predefined},
        "ScaleOutCooldown": endpoint.scale_out_cooldown_s,
        "ScaleInCooldown": endpoint.scale_in_cooldown_s,
    }


def refuse_burstable(instance_type: str) -> None:
    """Raise OpsError for an instance type that AWS does not scale."""
    if instance_type.startswith(BURSTABLE):
        raise OpsError(
            f"The endpoint's instance type is {instance_type}: AWS does not scale burstable types. Nothing was changed. "
            "Set another endpoint.instance_type, such as ml.m5.large, then: invoke sm.deploy"
        )


def describe_expectation(settings: Settings) -> str:
    """Return a sentence on when AWS will add and remove instances with these settings."""
    target = select_target_value(settings)
    if settings.endpoint.scaling_metric == "concurrency":
        out = f"thirty seconds above {target:g} requests at once each"
    else:
        out = f"three minutes above {target:g} requests a minute each ({target / 60:.2f} a second)"
    return (
        f"AWS adds instances after {out}; they take 3 to 7 minutes more to start. It removes instances after fifteen minutes "
        "below. Check: invoke sm.autoscale --explain"
    )


def resolve_bounds(settings: Settings, least: int = 0, most: int = 0) -> Bounds:
    """Return the settings' bounds, or those given for this run. Raises OpsError for negative ones and for a minimum above the maximum."""
    for flag, given in (("--min-instances", least), ("--max-instances", most)):
        if given < 0:
            raise OpsError(f"{flag} must be at least 1, not {given}.")
    bounds = (least or settings.endpoint.min_instances, most or settings.endpoint.max_instances)
    if bounds[0] > bounds[1]:
        raise OpsError(
            f"The minimum of {bounds[0]} instances is above the maximum of {bounds[1]}. Give both: "
            f"invoke sm.autoscale --min-instances {bounds[0]} --max-instances {max(bounds)}"
        )
    return bounds


def build_schedule(settings: Settings, now: datetime) -> dict[str, dict[str, Any]]:
    """Return the wanted scheduled actions by name, without one-time actions that have passed."""
    return {
        f"{settings.prefix}-{action.name}": {
            "Schedule": action.when,
            # A rate counts from when it was put, and has no time zone.
            **({} if action.when.startswith("rate") else {"Timezone": action.timezone}),
            "ScalableTargetAction": {"MinCapacity": action.min_instances, "MaxCapacity": action.max_instances},
        }
        for action in settings.endpoint.schedule
        if not is_past(action.when, action.timezone, now)
    }


def is_past(when: str, timezone: str, now: datetime) -> bool:
    if not when.startswith("at("):
        return False
    return datetime.fromisoformat(when[3:-1]).replace(tzinfo=ZoneInfo(timezone)) <= now


def is_complete(have: Facts, settings: Settings) -> bool:
    """Return whether the target, the settings' policy and all scheduled actions are registered, with whatever bounds."""
    planned = build_schedule(settings, datetime.now(UTC)).keys()
    return have.bounds is not None and derive_policy_name(settings) in have.policies and planned <= have.schedule.keys()


def list_acceptable_bounds(have: Facts, settings: Settings) -> set[Bounds]:
    """Return the bounds that agree with the settings: their own, and those of recurring scheduled actions, which may have run last."""
    want = build_schedule(settings, datetime.now(UTC))
    recurring = [
        action["ScalableTargetAction"]
        for name, action in have.schedule.items()
        if action == want.get(name) and not action["Schedule"].startswith("at(")
    ]
    return {resolve_bounds(settings), *((bounds["MinCapacity"], bounds["MaxCapacity"]) for bounds in recurring)}


def steps(have: Facts, settings: Settings, bounds: Bounds | None = None, now: datetime | None = None) -> Steps:
    """Yield the changes to the scaling. `bounds` are for this run; by default those of the settings or their schedule apply."""
    yield from register_target_steps(have, settings, bounds)
    yield from put_policy_steps(have, settings)
    yield from schedule_steps(have, settings, now or datetime.now(UTC))


def register_target_steps(have: Facts, settings: Settings, bounds: Bounds | None) -> Steps:
    acceptable = {bounds} if bounds else list_acceptable_bounds(have, settings)
    is_acceptable = have.bounds in acceptable
    if is_acceptable and not have.suspended:
        return
    least, most = have.bounds if is_acceptable and have.bounds else bounds or resolve_bounds(settings)
    words = [f"resume {' and '.join(SUSPENSIONS[name] for name in have.suspended)}"] if have.suspended else []
    if not is_acceptable:
        words.append(f"scale between {least} and {most} instances")
    if have.instances < least:
        words.append(f"start {least - have.instances} more at once")
    if have.instances > most:
        words.append(f"remove {have.instances - most} at once")
    args = {**identify_resource(settings), "MinCapacity": least, "MaxCapacity": most, "SuspendedState": RESUMED}
    extra = compute_extra_rate(settings, most - have.instances)
    yield from request_change(
        Change(
            SERVICE,
            "register_scalable_target",
            args,
            why=f"{', '.join(words)}{'; adds up to' if extra else ''}",
            dollars_per_hour=extra,
        )
    )


def compute_extra_rate(settings: Settings, instances: int) -> float:
    """Return dollars an hour for so many instances beyond those that are paid for already."""
    return pricing.price_instances("sagemaker", settings.endpoint.instance_type, instances) if instances > 0 else 0.0


def put_policy_steps(have: Facts, settings: Settings) -> Steps:
    """Yield the new policy first: between the two calls both apply, and AWS follows the one that asks for more instances."""
    name, metric = derive_policy_name(settings), METRICS[settings.endpoint.scaling_metric]
    if have.policies.get(name) != build_policy_config(settings) or have.deleted_alarms:
        args = {
            **identify_resource(settings),
            "PolicyName": name,
            "PolicyType": "TargetTrackingScaling",
            "TargetTrackingScalingPolicyConfiguration": build_policy_config(settings),
        }
        target = f"{select_target_value(settings):g}"
        what = "invocations per instance and minute" if metric.period == 60 else "requests at once per instance"
        repair = "; recreate its deleted alarms" if have.deleted_alarms else ""
        yield from request_change(Change(SERVICE, "put_scaling_policy", args, why=f"track {target} {what}{repair}"))
    for other in METRICS:
        if (old := derive_policy_name(settings, other)) != name and old in have.policies:
            args = {**identify_resource(settings), "PolicyName": old}
            why = f"scale by {settings.endpoint.scaling_metric} instead of {other}"
            yield from request_change(Change(SERVICE, "delete_scaling_policy", args, why=why))


def schedule_steps(have: Facts, settings: Settings, now: datetime) -> Steps:
    want, top = build_schedule(settings, now), settings.endpoint.max_instances
    for name, action in want.items():
        if have.schedule.get(name) == action:
            continue
        least, most = action["ScalableTargetAction"].values()
        args = {**identify_resource(settings), "ScheduledActionName": name, **action}
        why = f"scale between {least} and {most} instances from {action['Schedule']} {action.get('Timezone', '')}".rstrip()
        extra, top = compute_extra_rate(settings, most - top), max(top, most)
        yield from request_change(
            Change(
                SERVICE,
                "put_scheduled_action",
                args,
                why=f"{why}{'; adds up to' if extra else ''}",
                dollars_per_hour=extra,
            )
        )
    for name in list_unwanted_actions(have, settings, now):
        args = {**identify_resource(settings), "ScheduledActionName": name}
        yield from request_change(
            Change(
                SERVICE,
                "delete_scheduled_action",
                args,
                why="remove an action that is not in endpoint.schedule, or has passed",
            )
        )


def list_unwanted_actions(have: Facts, settings: Settings, now: datetime) -> Iterator[str]:
    """Return scheduled actions with our prefix that are not in the settings; actions without it are left alone."""
    want = build_schedule(settings, now)
    return (name for name in have.schedule if name.startswith(f"{settings.prefix}-") and name not in want)


def request_change(change: Change) -> Steps:
    """Yield the change. Raises OpsError during another one: AWS allows one change of an endpoint at a time, and SDKs do not retry."""
    try:
        return (yield change)
    except AwsError as error:
        if error.says("ConcurrentUpdate"):
            raise OpsError(
                f"{error}\nAnother change of the endpoint's scaling is in progress. Wait until invoke sm.status says "
                "InService, then continue: invoke sm.autoscale"
            ) from error
        raise

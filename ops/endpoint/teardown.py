"""Remove the endpoint in the order that AWS requires: scaling, endpoint, configs, models, alarms."""

from __future__ import annotations

from ops.core import pricing
from ops.core.aws.account import Account
from ops.core.plan import Change, Steps, Wait
from ops.core.settings import Settings
from ops.endpoint import plan, scaling


def facts(account: Account) -> tuple[plan.Facts, scaling.Facts]:
    return plan.facts(account), scaling.facts(account)


def has_resources(have: tuple[plan.Facts, scaling.Facts]) -> bool:
    """Report whether there is something to delete; an interrupted delete may have left everything except the endpoint."""
    there, scaled = have
    return bool(there.endpoint or there.configs or there.models or there.alarms or there.guards or scaled.bounds)


def steps(have: tuple[plan.Facts, scaling.Facts], settings: Settings) -> Steps:
    there, scaled = have
    name = settings.endpoint_name
    if scaled.bounds is not None:
        also = " and its scheduled actions" if scaled.schedule else ""
        yield Change(
            "application-autoscaling",
            "deregister_scalable_target",
            scaling.identify_resource(settings),
            why=f"remove the autoscaling of {name}, with its policy{also}",
        )
    if there.endpoint:
        yield Change(
            "sagemaker",
            "delete_endpoint",
            {"EndpointName": name},
            why=f"delete endpoint {name}",
            dollars_per_hour=-pricing.price_instances("sagemaker", there.instance_type, there.desired),
            danger="callers fail from now on",
        )
        yield Wait(f"endpoint {name}", plan.poll_deletion, why="its role must exist until it is deleted")
    for config in there.configs:
        yield Change(
            "sagemaker", "delete_endpoint_config", {"EndpointConfigName": config}, why=f"delete config {config}"
        )
    for model in there.models:
        yield Change(
            "sagemaker",
            "delete_model",
            {"ModelName": model},
            why=f"delete model {model}; its release stays in the bucket",
        )
    if watching := sorted({*there.alarms, *there.guards}):
        yield Change(
            "cloudwatch",
            "delete_alarms",
            {"AlarmNames": watching},
            why="remove the endpoint's alarms",
            dollars_per_hour=-pricing.price_alarm() * len(watching),
        )

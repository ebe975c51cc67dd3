"""Scaling of the endpoint's instances with its load: target tracking of invocations per instance and minute."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ops import price
from ops.aws import Account
from ops.change import Change, Steps
from ops.config import Settings

DIMENSION = "sagemaker:variant:DesiredInstanceCount"


@dataclass(frozen=True)
class Facts:
    bounds: tuple[int, int] | None = None
    policy: dict[str, Any] | None = None


def resource(settings: Settings) -> dict[str, str]:
    where = f"endpoint/{settings.endpoint_name}/variant/{settings.endpoint.variant}"
    return {"ServiceNamespace": "sagemaker", "ResourceId": where, "ScalableDimension": DIMENSION}


def facts(account: Account) -> Facts:
    where = resource(account.settings)
    targets = account.pages(
        "application-autoscaling", "describe_scalable_targets", "ScalableTargets",
        ServiceNamespace="sagemaker", ResourceIds=[where["ResourceId"]], ScalableDimension=DIMENSION,
    )  # fmt: skip
    policies = account.pages("application-autoscaling", "describe_scaling_policies", "ScalingPolicies", **where)
    mine = [
        p["TargetTrackingScalingPolicyConfiguration"]
        for p in policies
        if p["PolicyName"] == policy_name(account.settings)
    ]
    return Facts((targets[0]["MinCapacity"], targets[0]["MaxCapacity"]) if targets else None, mine[0] if mine else None)


def policy_name(settings: Settings) -> str:
    return f"{settings.prefix}-invocations"


def wanted(settings: Settings) -> dict[str, Any]:
    return {
        "TargetValue": float(settings.endpoint.invocations_per_instance),
        "PredefinedMetricSpecification": {"PredefinedMetricType": "SageMakerVariantInvocationsPerInstance"},
        "ScaleOutCooldown": settings.endpoint.scale_out_cooldown_s,
        "ScaleInCooldown": settings.endpoint.scale_in_cooldown_s,
    }


def steps(have: Facts, settings: Settings) -> Steps:
    where, bounds = resource(settings), (settings.endpoint.min_instances, settings.endpoint.max_instances)
    if have.bounds != bounds:
        extra = (
            price.hourly("sagemaker", settings.endpoint.instance_type, bounds[1] - bounds[0])
            if bounds[1] > bounds[0]
            else 0.0
        )
        args = {**where, "MinCapacity": bounds[0], "MaxCapacity": bounds[1]}
        yield Change(
            "application-autoscaling",
            "register_scalable_target",
            args,
            why=f"let it run {bounds[0]} to {bounds[1]} instances; at the most",
            dollars_per_hour=extra,
        )
    if have.policy != wanted(settings):
        args = {
            **where,
            "PolicyName": policy_name(settings),
            "PolicyType": "TargetTrackingScaling",
            "TargetTrackingScalingPolicyConfiguration": wanted(settings),
        }
        why = f"hold {settings.endpoint.invocations_per_instance} invocations per instance and minute"
        yield Change("application-autoscaling", "put_scaling_policy", args, why=why)

"""Application Auto Scaling that scales: target tracking of invocations per instance, by one-minute points.

Three points above the target add instances, fifteen below nine tenths of it take some away. A minute without a request has
no point, so an endpoint that nobody calls is not scaled in, as on AWS.
"""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from typing import Any

from moto.applicationautoscaling.exceptions import AWSValidationException
from moto.applicationautoscaling.responses import ApplicationAutoScalingResponse
from moto.core.exceptions import JsonRESTError

from sandbox import alarms, endpoints
from sandbox.world import World, world

MINUTE = 60.0
OUT_POINTS, IN_POINTS = 3, 15
IN_SHARE = 0.9  # the low alarm's threshold as a share of the target

_activities: list[dict[str, Any]] = []
_last: dict[tuple[str, str], float] = {}  # (resource, "out" | "in") -> when it was last scaled


class Scaling(ApplicationAutoScalingResponse):
    def register_scalable_target(self) -> str:
        asked = json.loads(self.body)
        if asked.get("MinCapacity", 0) > asked.get("MaxCapacity", 0):
            raise AWSValidationException("Maximum capacity cannot be less than minimum capacity")
        if asked["ServiceNamespace"] == "sagemaker":
            record = world().backend("sagemaker").endpoints.get(asked["ResourceId"].split("/")[1])
            if record is None or record.endpoint_status != "InService":
                raise AWSValidationException(f"Endpoint of {asked['ResourceId']} is not in service")
        return super().register_scalable_target()

    def put_scaling_policy(self) -> str:
        asked = json.loads(self.body)
        targets = self.applicationautoscaling_backend.targets.get(asked["ScalableDimension"], {})
        if asked["ResourceId"] not in targets:
            raise JsonRESTError("ObjectNotFoundException", f"No scalable target registered for {asked['ResourceId']}")
        super().put_scaling_policy()
        backend = self.applicationautoscaling_backend
        policy = next(
            p
            for p in backend.policies.values()
            if p.policy_name == asked["PolicyName"] and p.resource_id == asked["ResourceId"]
        )
        policy.alarms = tracking_alarms(world(), asked)
        found = [{"AlarmName": alarm.name, "AlarmARN": alarm.alarm_arn} for alarm in policy.alarms]
        return json.dumps({"PolicyARN": policy.policy_arn, "Alarms": found})

    def deregister_scalable_target(self) -> str:
        """Its policies and their alarms go with it."""
        asked, backend = json.loads(self.body), self.applicationautoscaling_backend
        for key, policy in list(backend.policies.items()):
            if policy.resource_id == asked["ResourceId"]:
                policy.delete_alarms(policy.account_id, policy.region_name)
                del backend.policies[key]
        return super().deregister_scalable_target()

    def describe_scaling_activities(self) -> str:
        asked = json.loads(self.body)
        found = [a for a in _activities if a["ResourceId"] == asked.get("ResourceId", a["ResourceId"])]
        return json.dumps({"ScalingActivities": list(reversed(found))})


def tracking_alarms(world: World, asked: dict[str, Any]) -> list[Any]:
    """The two alarms that target tracking makes; this module sets their states."""
    _, endpoint, _, variant = asked["ResourceId"].split("/")
    target = asked["TargetTrackingScalingPolicyConfiguration"]["TargetValue"]
    dimensions = [{"Name": "EndpointName", "Value": endpoint}, {"Name": "VariantName", "Value": variant}]
    made = []
    for name, operator, points, threshold in (
        ("AlarmHigh", "GreaterThanThreshold", OUT_POINTS, target),
        ("AlarmLow", "LessThanThreshold", IN_POINTS, target * IN_SHARE),
    ):
        made.append(
            world.backend("cloudwatch").put_metric_alarm(
                name=f"TargetTracking-{asked['ResourceId']}-{name}-{asked['PolicyName']}",
                namespace="AWS/SageMaker",
                metric_name="InvocationsPerInstance",
                comparison_operator=operator,
                evaluation_periods=points,
                period=60,
                threshold=threshold,
                statistic="Sum",
                description="DO NOT EDIT OR DELETE. Made by target tracking.",
                dimensions=dimensions,
                alarm_actions=[],
            )
        )
    return made


def decide(points: list[float | None], count: int, least: int, most: int, target: float) -> int:
    """How many instances there should be. `points`: invocations per instance in the last minutes, newest last."""
    out, low = points[-OUT_POINTS:], points[-IN_POINTS:]
    if len(out) == OUT_POINTS and all(p is not None and p > target for p in out):
        return min(most, max(count, math.ceil(count * (out[-1] or 0) / target)))
    if len(low) == IN_POINTS and all(p is not None and p < target * IN_SHARE for p in low):
        return max(least, min(count, math.ceil(count * (low[-1] or 0) / target)))
    return min(most, max(least, count))


def keep_scaling(world: World) -> None:
    """Once a minute of the sandbox's clock, for every policy; alarms of other kinds are looked at in passing."""
    seen = 0
    while not world.ending.wait(0.2):
        alarms.evaluate(world)
        minute = int(world.clock.now() // MINUTE)
        if minute == seen:
            continue
        seen = minute
        alarms.measure(world)
        for policy in list(world.backend("applicationautoscaling").policies.values()):
            if policy.service_namespace == "sagemaker" and policy.policy_type == "TargetTrackingScaling":
                track(world, policy, minute)


def track(world: World, policy: Any, minute: int) -> None:
    _, endpoint, _, variant = policy.resource_id.split("/")
    live = endpoints.find(endpoint)
    target = world.backend("applicationautoscaling").targets[policy.scalable_dimension].get(policy.resource_id)
    if live is None or target is None or live.record.endpoint_status != "InService":
        return
    settings = policy.target_tracking_scaling_policy_configuration
    points = [live.per_minute.get(m) for m in range(minute - IN_POINTS, minute)]
    count = endpoints.desired(live)
    wanted = decide(points, count, target.min_capacity, target.max_capacity, settings["TargetValue"])
    way = "out" if wanted > count else "in"
    cooldown = settings.get("ScaleOutCooldown" if way == "out" else "ScaleInCooldown", 300)
    now = world.clock.now()
    if wanted == count or now - _last.get((policy.resource_id, way), -math.inf) < cooldown:
        return
    _last[(policy.resource_id, way)] = now
    cause = (
        f"{points[-1]:.0f} invocations per instance and minute, target {settings['TargetValue']:.0f}"
        if points[-1] is not None
        else "the bounds"
    )
    _activities.append(
        {
            "ActivityId": f"{len(_activities):036d}",
            "ServiceNamespace": "sagemaker",
            "ResourceId": policy.resource_id,
            "ScalableDimension": policy.scalable_dimension,
            "Description": f"Setting desired instance count to {wanted}.",
            "Cause": cause,
            "StartTime": datetime.now(UTC).timestamp(),
            "StatusCode": "Successful",
        }
    )
    world.note(f"scaling {endpoint}: {count} -> {wanted}: {cause}")
    endpoints.resize(world, world.backend("sagemaker"), live.record, variant, wanted)

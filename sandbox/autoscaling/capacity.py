"""The capacity of endpoints over time: evaluate scaling alarms and schedules, and carry out their activities."""

from __future__ import annotations

import json
import math
import threading
import time
from collections import defaultdict
from datetime import UTC, datetime
from typing import Any

from sandbox.autoscaling import schedules, tracking
from sandbox.cloudwatch import alarms, metrics
from sandbox.sagemaker import endpoints
from sandbox.sagemaker.validation import MOST_INSTANCES
from sandbox.world import World

MINUTE = 60.0
GAUGE_S = 10  # SageMaker reports concurrent requests every ten seconds
# Seconds on the sandbox's clock until an instance that scaling adds begins to start; on AWS it takes 3 to 7 minutes.
BOOT_S = 180.0
MOVING = ("Creating", "Updating", "SystemUpdating", "RollingBack", "Deleting")


def keep_scaling(world: World) -> None:
    """Evaluate alarms, schedules and policies every 0.2 s until the sandbox ends; put box CPU metrics each minute."""
    minute, since, gauge = 0, world.clock.utc(), Gauge()
    while not world.ending.wait(0.2):
        now = world.clock.utc()
        try:
            run_scaling_pass(world, gauge, since, now)
            if int(world.clock.now() // MINUTE) != minute:
                minute = int(world.clock.now() // MINUTE)
                alarms.put_cpu_metrics(world)
        except Exception as error:  # one faulty alarm or policy must not end the loop
            world.note(f"scaling: {type(error).__name__}: {error}")
        since = now


def run_scaling_pass(world: World, gauge: Gauge, since: datetime, now: datetime) -> None:
    alarms.evaluate_alarms(world)
    gauge.sample_requests(world)
    follow_schedule(world, since, now)
    for policy in list(world.backend("applicationautoscaling").policies.values()):
        if policy.service_namespace == "sagemaker" and policy.policy_type == "TargetTrackingScaling":
            evaluate_tracking_alarms(world, policy)


class Gauge:
    """The requests in progress per instance, sampled often and put to CloudWatch as averages of ten seconds."""

    def __init__(self) -> None:
        self.slot = 0
        self.samples: dict[tuple[str, str], list[float]] = defaultdict(list)

    def sample_requests(self, world: World) -> None:
        slot = int(world.clock.utc().timestamp() // GAUGE_S)
        if slot != self.slot:
            for (endpoint, variant), samples in self.samples.items():
                where = {"EndpointName": endpoint, "VariantName": variant}
                for passed in range(max(self.slot, slot - 90), slot):  # a fast clock skips several
                    at = datetime.fromtimestamp(passed * GAUGE_S, UTC)
                    average = math.fsum(samples) / len(samples)
                    metrics.put_metrics(world, "AWS/SageMaker", where, at, ConcurrentRequestsPerModel=(average, "None"))
            self.samples.clear()
            self.slot = slot
        for name in list(world.backend("sagemaker").endpoints):
            live = world.sagemaker.endpoints.get(name)
            if live is not None and live.fleet is not None and live.fleet.members:
                members = live.fleet.members
                in_progress = sum(member.outstanding for member in members)
                self.samples[name, live.fleet.variant].append(in_progress / len(members))


def evaluate_tracking_alarms(world: World, policy: Any) -> None:
    """Set the states of a policy's alarms from their points, once per period, and scale when one fires."""
    for alarm in list(policy.alarms):
        slot = int(world.clock.utc().timestamp() // alarm.period)
        if world.scaling.periods.get(alarm.alarm_arn) == slot:
            continue
        world.scaling.periods[alarm.alarm_arn] = slot
        points = metrics.read_alarm_points(world, alarm, slot)
        state = tracking.derive_alarm_state(derive_scaling_direction(alarm), points, alarm.threshold, alarm.state_value)
        if state != alarm.state_value:
            data = {"version": "1.0", "period": alarm.period, "recentDatapoints": points, "threshold": alarm.threshold}
            alarm.update_state(f"evaluated {len(points)} data points of {alarm.period} s", json.dumps(data), state)
            world.note(f"alarm {alarm.name}: {state}")
        if state == "ALARM" and points[-1] is not None:
            scale_on_alarm(world, policy, alarm, points[-1])


def derive_scaling_direction(alarm: Any) -> str:
    return "out" if alarm.comparison_operator == "GreaterThanThreshold" else "in"


def scale_on_alarm(world: World, policy: Any, alarm: Any, point: float) -> None:
    """Scale for an alarm that fires, unless scaling is suspended, cooling down, or the endpoint is being changed."""
    resource, direction = policy.resource_id, derive_scaling_direction(alarm)
    live, target = world.sagemaker.endpoints.get(resource.split("/")[1]), find_scalable_target(world, policy)
    if live is None or target is None or tracking.is_scaling_suspended(target.suspended_state, direction):
        return
    if resource in world.scaling.in_progress or live.record.endpoint_status != "InService":
        return
    settings = policy.target_tracking_scaling_policy_configuration
    cooldown = settings.get("ScaleOutCooldown" if direction == "out" else "ScaleInCooldown", 300)
    if world.clock.now() - world.scaling.scaled_at.get((resource, direction), -math.inf) < cooldown:
        return
    if direction == "in" and not all(
        other.state_value == "ALARM"
        for each in world.backend("applicationautoscaling").policies.values()
        if each.resource_id == resource
        for other in each.alarms
        if derive_scaling_direction(other) == "in"
    ):
        return  # all policies have to agree to scale in
    count = endpoints.get_desired_count(live)
    bounds = (target.min_capacity, target.max_capacity)
    wanted, reason = tracking.decide_instance_count(direction, point, count, bounds, settings["TargetValue"])
    cause = f"monitor alarm {alarm.name} in state ALARM triggered policy {policy.policy_name}"
    if reason:
        record_not_scaled(world, resource, cause, reason, count, bounds)
    else:
        change_desired_count(world, resource, wanted, cause)


def find_scalable_target(world: World, record: Any) -> Any:
    """Return the scalable target of a policy or a scheduled action, or None."""
    return world.backend("applicationautoscaling").targets.get(record.scalable_dimension, {}).get(record.resource_id)


def follow_schedule(world: World, since: datetime, until: datetime) -> None:
    """Apply the bounds of each scheduled action that is due to its target; the capacity follows at once."""
    for action in list(world.backend("applicationautoscaling").scheduled_actions):
        target = find_scalable_target(world, action)
        if action.service_namespace != "sagemaker" or target is None:
            continue
        begun = datetime.fromtimestamp(action.begun, UTC)
        if not schedules.is_schedule_due(action.schedule, action.timezone, begun, since, until):
            continue
        if tracking.is_scaling_suspended(target.suspended_state, "schedule"):
            continue
        bounds = action.scalable_target_action
        target.update(bounds.get("MinCapacity"), bounds.get("MaxCapacity"), None)
        cause = f"scheduled action name {action.scheduled_action_name} was triggered"
        message = f"Setting min capacity to {target.min_capacity} and max capacity to {target.max_capacity}"
        activity = record_scaling_activity(world, action.resource_id, message, cause, "Successful")
        activity["EndTime"] = activity["StartTime"]
        world.note(f"schedule {action.resource_id}: {message}")
        clamp_capacity(world, target, cause)


def clamp_capacity(world: World, target: Any, cause: str = "") -> None:
    """Bring the capacity within the target's bounds, as AWS does when a target is registered."""
    live = world.sagemaker.endpoints.get(target.resource_id.split("/")[1])
    if live is None:
        return
    count = endpoints.get_desired_count(live)
    wanted = tracking.clamp_count(count, (target.min_capacity, target.max_capacity))
    if wanted != count:
        bound = "minimum" if wanted > count else "maximum"
        change_desired_count(world, target.resource_id, wanted, cause or f"{bound} capacity was set to {wanted}")


def record_scaling_activity(world: World, resource: str, description: str, cause: str, status: str) -> dict[str, Any]:
    """Record and return a new activity, which DescribeScalingActivities lists from now on."""
    activity = {
        "ActivityId": f"{len(world.scaling.activities):036d}",
        "ServiceNamespace": "sagemaker",
        "ResourceId": resource,
        "ScalableDimension": "sagemaker:variant:DesiredInstanceCount",
        "Description": description,
        "Cause": cause,
        "StartTime": time.time(),
        "StatusCode": status,
    }
    world.scaling.activities.append(activity)
    return activity


def list_scaling_activities(world: World, resource: str | None, not_scaled_too: bool) -> list[dict[str, Any]]:
    """Return the activities of a resource, or of all for None, newest first; NotScaled ones only if requested."""
    found = [a for a in reversed(world.scaling.activities) if resource in (None, a["ResourceId"])]
    return [a for a in found if not_scaled_too or "NotScaledReasons" not in a]


def record_not_scaled(world: World, resource: str, cause: str, code: str, count: int, bounds: tuple[int, int]) -> None:
    """Record why nothing was scaled; the same reason is not recorded twice in a row."""
    more = {"AlreadyAtMaxCapacity": {"MaxCapacity": bounds[1]}, "AlreadyAtMinCapacity": {"MinCapacity": bounds[0]}}
    reason = {"Code": code, **more.get(code, {}), "CurrentCapacity": count}
    last = next(iter(list_scaling_activities(world, resource, True)), {})
    if last.get("NotScaledReasons") != [reason]:
        # AWS's guide documents this status; botocore's list of statuses lacks it.
        activity = record_scaling_activity(
            world, resource, "Attempting to scale due to alarm triggered", cause, "NotScaled"
        )
        activity["NotScaledReasons"] = [reason]


def change_desired_count(world: World, resource: str, wanted: int, cause: str) -> None:
    """Set the desired number of instances; they start after BOOT_S. A later change overrides an earlier one."""
    live = world.sagemaker.endpoints.get(resource.split("/")[1])
    assert live is not None
    if wanted > MOST_INSTANCES:
        record_exceeded_quota(world, resource, wanted, cause)
        return
    world.note(f"scaling {resource}: {endpoints.get_desired_count(live)} -> {wanted}: {cause}")
    live.record.production_variants[0]["DesiredInstanceCount"] = wanted
    activity = world.scaling.in_progress[resource] = record_scaling_activity(
        world, resource, f"Setting desired instance count to {wanted}.", cause, "InProgress"
    )
    threading.Thread(target=run_scaling_activity, args=(world, live, activity, wanted), daemon=True).start()


def record_exceeded_quota(world: World, resource: str, wanted: int, cause: str) -> None:
    """Record that the account's quota forbids a change; the same attempt is not recorded twice in a row."""
    what = f"Setting desired instance count to {wanted}."
    last = next(iter(list_scaling_activities(world, resource, False)), {})
    if last.get("Description") != what:
        activity = record_scaling_activity(world, resource, what, cause, "InProgress")
        end_scaling_activity(
            activity, "Failed", f"Failed to set desired instance count to {wanted}. Reason: ResourceLimitExceeded"
        )


def run_scaling_activity(world: World, live: endpoints.LiveEndpoint, activity: dict[str, Any], wanted: int) -> None:
    resource = activity["ResourceId"]
    _, name, _, variant = resource.split("/")
    before = len(live.fleet.members) if live.fleet else 0
    ready = world.clock.now() + (BOOT_S if wanted > before else 0.0)
    while world.clock.now() < ready or live.record.endpoint_status in MOVING:
        if world.ending.wait(0.05):
            return
        if world.scaling.in_progress.get(resource) is not activity or world.sagemaker.endpoints.get(name) is not live:
            end_scaling_activity(activity, "Overridden", "The capacity was changed again, or the endpoint was deleted.")
            clear_running_activity(world, activity)
            return
    endpoints.resize_fleet(world, world.backend("sagemaker"), live.record, variant, wanted)
    while live.record.endpoint_status in MOVING and not world.ending.wait(0.05):
        pass
    if world.sagemaker.endpoints.get(name) is not live or live.record.endpoint_status != "InService":
        end_scaling_activity(activity, "Failed", f"The endpoint is {live.record.endpoint_status}.")
    else:
        message = f"Successfully set desired instance count to {wanted}. Change successfully fulfilled by sagemaker."
        end_scaling_activity(activity, "Successful", message)
    world.scaling.scaled_at[resource, "out" if wanted > before else "in"] = world.clock.now()
    clear_running_activity(world, activity)


def clear_running_activity(world: World, activity: dict[str, Any]) -> None:
    in_progress = world.scaling.in_progress
    if in_progress.get(activity["ResourceId"]) is activity:
        del in_progress[activity["ResourceId"]]


def end_scaling_activity(activity: dict[str, Any], status: str, message: str) -> None:
    activity.update(StatusCode=status, StatusMessage=message, EndTime=time.time())

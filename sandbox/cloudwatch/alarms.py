"""CloudWatch alarms: evaluate those that moto only stores, and run their actions."""

from __future__ import annotations

import operator
import re
from typing import Any

from sandbox.cloudwatch import metrics
from sandbox.ec2 import instances, lifecycle, spot
from sandbox.world import World

COMPARE = {
    "GreaterThanThreshold": operator.gt,
    "GreaterThanOrEqualToThreshold": operator.ge,
    "LessThanThreshold": operator.lt,
    "LessThanOrEqualToThreshold": operator.le,
}
WATCHED = ("AWS/SageMaker", "AWS/EC2")


def evaluate_alarms(world: World) -> None:
    """Set the state of each alarm on the WATCHED namespaces from its last periods.

    Alarms of target tracking are evaluated in autoscaling/capacity.py.
    """
    now = world.clock.utc().timestamp()
    for alarm in list(world.backend("cloudwatch").alarms.values()):
        if alarm.namespace not in WATCHED or alarm.name.startswith("TargetTracking-") or not can_evaluate_alarm(alarm):
            continue
        if world.clock.now() < getattr(alarm, "evaluated_from", 0.0):  # its first seconds: INSUFFICIENT_DATA
            continue
        metric = (alarm.namespace, alarm.metric_name, {d.name: d.value for d in alarm.dimensions})
        ends = [now - alarm.period * n for n in range(alarm.evaluation_periods)]
        states = [
            has_breached(alarm, metrics.read_metric_values(world, metric, end - alarm.period, end)) for end in ends
        ]
        state = "ALARM" if all(states) else "OK"
        if state != alarm.state_value:
            alarm.update_state(f"evaluated {alarm.evaluation_periods} periods of {alarm.period} s", "{}", state)
            world.note(f"alarm {alarm.name}: {state}")
            if state == "ALARM":
                run_alarm_actions(world, alarm)


def can_evaluate_alarm(alarm: Any) -> bool:
    """Return whether the sandbox can evaluate this alarm; alarms of other types keep their state."""
    statistic = alarm.extended_statistic or alarm.statistic or ""
    percentile = re.fullmatch(r"p\d+(\.\d+)?", statistic)
    return bool(
        alarm.evaluation_periods
        and alarm.comparison_operator in COMPARE
        and (percentile or statistic in ("Sum", "Average", "Maximum", "Minimum", "SampleCount"))
    )


def run_alarm_actions(world: World, alarm: Any) -> None:
    """Run the actions of an alarm that enters ALARM, as on AWS. Only the EC2 stop action is supported."""
    instance_id = next((d.value for d in alarm.dimensions if d.name == "InstanceId"), "")
    stops = any(action.endswith(":ec2:stop") for action in alarm.alarm_actions)
    if stops and lifecycle.find_instance(world, instance_id).state == "running":
        lifecycle.switch_off(world, instance_id, "Client.UserInitiatedShutdown", "User initiated shutdown")
        spot.disable_spot_request(world, instance_id)


def put_cpu_metrics(world: World) -> None:
    """Put one CPUUtilization point per running box: the share of this host's CPUs that it used since the last one."""
    for instance_id, percent in instances.measure_utilisation(world).items():
        metrics.put_metrics(world, "AWS/EC2", {"InstanceId": instance_id}, CPUUtilization=(percent, "Percent"))


def has_breached(alarm: Any, values: list[float]) -> bool:
    """Return whether the values of one period breach. Missing data do not (TreatMissingData notBreaching)."""
    if not values:
        return False
    return bool(
        COMPARE[alarm.comparison_operator](
            metrics.compute_statistic(alarm.extended_statistic or alarm.statistic, values), alarm.threshold
        )
    )

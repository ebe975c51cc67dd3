"""CloudWatch alarms that fire, and what they do then: moto keeps them, and nothing there looks at the numbers."""

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


def evaluate(world: World) -> None:
    """Set the state of each alarm on these numbers from its last `period`s; target tracking has its own."""
    now = world.clock.utc().timestamp()
    for alarm in list(world.backend("cloudwatch").alarms.values()):
        if alarm.namespace not in WATCHED or alarm.name.startswith("TargetTracking-") or not known(alarm):
            continue
        of = (alarm.namespace, alarm.metric_name, {d.name: d.value for d in alarm.dimensions})
        ends = [now - alarm.period * n for n in range(alarm.evaluation_periods)]
        states = [breach(alarm, metrics.between(world, of, end - alarm.period, end)) for end in ends]
        state = "ALARM" if all(states) else "OK"
        if state != alarm.state_value:
            alarm.update_state(f"{alarm.evaluation_periods} x {alarm.period} s looked at", "{}", state)
            world.note(f"alarm {alarm.name}: {state}")
            if state == "ALARM":
                act(world, alarm)


def known(alarm: Any) -> bool:
    """Whether it is of a kind that is evaluated here; others stay as they are."""
    statistic = alarm.extended_statistic or alarm.statistic or ""
    percentile = re.fullmatch(r"p\d+(\.\d+)?", statistic)
    return bool(
        alarm.evaluation_periods
        and alarm.comparison_operator in COMPARE
        and (percentile or statistic in ("Sum", "Average", "Maximum", "Minimum", "SampleCount"))
    )


def act(world: World, alarm: Any) -> None:
    """On the way into ALARM only, as on AWS. Of all actions, those that switch an instance off."""
    ident = next((d.value for d in alarm.dimensions if d.name == "InstanceId"), "")
    stops = any(action.endswith(":ec2:stop") for action in alarm.alarm_actions)
    if stops and lifecycle.instance_of(world, ident).state == "running":
        lifecycle.switch_off(world, ident, "Client.UserInitiatedShutdown", "User initiated shutdown")
        spot.stopped(world, ident)


def measure(world: World) -> None:
    """One point of CPUUtilization for each box that runs: the share of this machine that its processes had since the last."""
    for ident, percent in instances.utilisation(world).items():
        metrics.put(world, "AWS/EC2", {"InstanceId": ident}, CPUUtilization=(percent, "Percent"))


def breach(alarm: Any, values: list[float]) -> bool:
    """Missing data do not breach, as the endpoint's alarms ask (TreatMissingData notBreaching)."""
    if not values:
        return False
    return bool(
        COMPARE[alarm.comparison_operator](
            metrics.statistic(alarm.extended_statistic or alarm.statistic, values), alarm.threshold
        )
    )

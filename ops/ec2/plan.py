"""The box as it should be: one that runs, watched by an alarm; how it is woken, halted and taken away."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from ops import price
from ops.aws import Account
from ops.change import Change, Steps, Wait
from ops.config import Settings
from ops.ec2 import launch
from ops.ec2.facts import Facts
from ops.ec2.launch import NO_CAPACITY, Order
from ops.errors import OpsError, Refused

IDLE_PERCENT, PERIOD_S = 3.0, 300  # of CPUUtilization, which EC2 measures every five minutes


def steps(have: Facts, order: Order, settings: Settings) -> Steps:
    """A box that is stopped is started and never replaced: it may hold work that is nowhere else."""
    if have.box is None:
        answer = yield from launch.steps(have, order, settings)
        ident: Any = answer["Instances"][0]["InstanceId"]
    else:
        ident = have.ident
        if have.state in ("stopping", "stopped"):
            yield from wake(have, order, settings)
    if settings.ec2.idle_minutes and (have.box is None or have.alarm != have.ident):
        yield Change(
            "cloudwatch",
            "put_metric_alarm",
            alarm(ident, settings),
            why="should the box's own watchdog fail, CloudWatch stops an idle box",
            dollars_per_hour=price.alarm(),
        )
    if have.state != "running":
        yield Wait(f"box {ident}", ready(ident), why="it boots")


def wake(have: Facts, order: Order, settings: Settings) -> Steps:
    """Start it as it is; where there is no capacity, as another of the types: its disk comes along. Raises OpsError."""
    ident, kind, on_spot = have.ident, have.box["InstanceType"], have.spot_request is not None  # type: ignore[index]
    if have.interrupted:
        raise OpsError(interrupted(have))
    if have.state == "stopping":
        yield Wait(f"box {ident}", state_of(ident, "stopped"), why="a stopping instance cannot be started")
    kinds = [kind, *(other for other in order.kinds if other != kind and not on_spot)]  # spot's type is its request's
    for wanted in kinds:
        if wanted != kind:
            args = {"InstanceId": ident, "InstanceType": {"Value": wanted}}
            yield Change(
                "ec2", "modify_instance_attribute", args, why=f"no {kind} is free; the same disk in a {wanted}"
            )
            kind = wanted
        try:
            yield Change(
                "ec2",
                "start_instances",
                {"InstanceIds": [ident]},
                why=f"{ident} is stopped",
                dollars_per_hour=price.hourly("ec2", wanted),
            )
            return
        except Refused as error:
            if error.says("IncorrectSpotRequestState"):
                raise OpsError(interrupted(have)) from error
            if not error.says(*NO_CAPACITY):
                raise
    raise OpsError(
        f"EC2 has none free for {ident} where its disk is: {', '.join(kinds)}. It is kept, and costs its disk only. Try again in "
        f"some minutes. To give the disk up and start elsewhere: invoke ec2.down, invoke ec2.up. See {launch.PAGE}"
    )


def interrupted(have: Facts) -> str:
    return (
        f"Spot took the capacity of {have.ident}. It is kept, and EC2 itself starts it again when there is some. Not to wait: "
        "invoke ec2.down, invoke ec2.up, then invoke ec2.train: it carries on from the checkpoint in the bucket. "
        "See runbooks/spot-interruption.md"
    )


def alarm(ident: str, settings: Settings) -> dict[str, Any]:
    """Twice as patient as the watchdog on the box, whose second line it is: training may look idle for minutes."""
    name = f"{settings.prefix}-box-idle"
    return {
        "AlarmName": name,
        "AlarmDescription": "Stops a box that nobody uses (Kennel)",
        "Namespace": "AWS/EC2",
        "MetricName": "CPUUtilization",
        "Dimensions": [{"Name": "InstanceId", "Value": ident}],
        "Statistic": "Average",
        "Period": PERIOD_S,
        "EvaluationPeriods": max(2, math.ceil(2 * settings.ec2.idle_minutes * 60 / PERIOD_S)),
        "Threshold": IDLE_PERCENT,
        "ComparisonOperator": "LessThanThreshold",
        "TreatMissingData": "missing",
        "AlarmActions": [f"arn:aws:automate:{settings.aws.region}:ec2:stop"],
        "Tags": settings.tags(name),
    }


def state_of(ident: str, wanted: str) -> Callable[[Account], str | None]:
    def until(account: Account) -> str | None:
        found = account.find("ec2", "describe_instances", "InvalidInstanceID.NotFound", InstanceIds=[ident])
        state = (
            found["Reservations"][0]["Instances"][0]["State"]["Name"]
            if found and found["Reservations"]
            else "not there yet"
        )
        return None if state == wanted else state

    return until


def ready(ident: str) -> Callable[[Account], str | None]:
    """Running, and both of EC2's status checks passed: before that, SSH answers to nobody."""
    running = state_of(ident, "running")

    def until(account: Account) -> str | None:
        if state := running(account):
            if state in ("terminated", "shutting-down"):
                raise OpsError(
                    f"{ident} was terminated while it booted: {reason_of(account, ident)}. Again: invoke ec2.up"
                )
            return state
        found = account.call("ec2", "describe_instance_status", InstanceIds=[ident])["InstanceStatuses"]
        checks = (
            {found[0]["InstanceStatus"]["Status"], found[0]["SystemStatus"]["Status"]} if found else {"no status yet"}
        )
        return None if checks == {"ok"} else f"running, checks {', '.join(sorted(checks))}"

    return until


def reason_of(account: Account, ident: str) -> str:
    found = account.call("ec2", "describe_instances", InstanceIds=[ident])["Reservations"][0]["Instances"][0]
    return found.get("StateReason", {}).get("Message", "no reason given")


def halting(have: Facts) -> Steps:
    """Stop, which keeps the disk. Nothing here ever turns into a termination."""
    if have.state in ("pending", "running"):
        yield Change("ec2", "stop_instances", {"InstanceIds": [have.ident]}, why="asked for; its disk is kept")
    if have.state in ("pending", "running", "stopping"):
        yield Wait(f"box {have.ident}", state_of(have.ident, "stopped"), why="it writes its disk")


def removal(have: Facts, settings: Settings) -> Steps:
    name = f"{settings.prefix}-box"
    if have.spot_request:
        args = {"SpotInstanceRequestIds": [have.spot_request]}
        yield Change("ec2", "cancel_spot_instance_requests", args, why="spot would start another in its place")
    if have.box is not None:
        danger = "its disk goes too"
        yield Change("ec2", "terminate_instances", {"InstanceIds": [have.ident]}, why="asked for", danger=danger)
        yield Wait(
            f"box {have.ident}", state_of(have.ident, "terminated"), why="its network interface is freed only then"
        )
    if have.alarm is not None:
        yield Change("cloudwatch", "delete_alarms", {"AlarmNames": [f"{name}-idle"]}, why="it watched the box")
    if have.key_pair is not None:
        yield Change("ec2", "delete_key_pair", {"KeyName": name}, why="it was the box's")

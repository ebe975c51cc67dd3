"""The plan for the box: it runs, and an alarm watches it. Other plans stop it, start it again and remove it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from ops.box import launch
from ops.box.facts import Facts
from ops.box.launch import NO_CAPACITY, LaunchOptions
from ops.core import pricing
from ops.core.aws.account import Account
from ops.core.errors import AwsError, OpsError
from ops.core.plan import Change, Steps, Wait
from ops.core.settings import Settings

IDLE_CORES = 0.15  # busy vCPUs below which the box is idle; a trainer keeps one busy, the system alone uses less
DAY_S = 86_400  # the longest time over which a CloudWatch alarm with a period below an hour can look


def steps(have: Facts, options: LaunchOptions, settings: Settings) -> Steps:
    """Yield the changes to a running, watched box. A stopped box is started, never replaced: its disk may have the only copy of work."""
    if have.box is None:
        instance_id, instance_type = yield from launch.steps(have, options, settings)
    else:
        instance_id, instance_type = have.instance_id, have.box["InstanceType"]
        if have.state in ("stopping", "stopped"):
            yield from start_box_steps(have, options, settings)
    yield from watch_steps(have, instance_id, instance_type, settings)
    if have.state != "running":
        yield Wait(f"box {instance_id}", build_readiness_probe(instance_id), why="it must pass EC2's status checks")


def watch_steps(have: Facts, instance_id: Any, instance_type: str, settings: Settings) -> Steps:
    """Yield the change that makes the alarm of this box match the settings."""
    if not settings.ec2.idle_minutes:
        if have.alarm is not None:
            yield Change(
                "cloudwatch",
                "delete_alarms",
                {"AlarmNames": [settings.idle_alarm]},
                why="delete the alarm that stops an idle box: ec2.idle_minutes is 0",
            )
        return
    wanted = build_idle_alarm(instance_id, have.instance_types[instance_type].vcpus, settings)
    if (
        have.box is None
        or have.alarm is None
        or any(have.alarm.get(key) != value for key, value in wanted.items() if key != "Tags")
    ):
        why = "set the alarm that stops an idle box (if its own watchdog fails)"
        yield Change("cloudwatch", "put_metric_alarm", wanted, why=why, dollars_per_hour=pricing.price_alarm())


def start_box_steps(have: Facts, options: LaunchOptions, settings: Settings) -> Steps:
    """Yield the start of the box; without capacity, as an alternative type, which keeps its disk. Raises OpsError."""
    assert have.box is not None
    instance_id, own = have.instance_id, have.box["InstanceType"]
    if have.interrupted:
        raise OpsError(have.describe_interruption())
    if have.state == "stopping":
        yield Wait(
            f"box {instance_id}", build_state_probe(instance_id, "stopped"), why="a stopping instance cannot be started"
        )
    zone, now = have.box.get("Placement", {}).get("AvailabilityZone", ""), own
    for instance_type in [own, *list_alternative_types(have, options, zone)]:
        if instance_type != now:
            args = {"InstanceId": instance_id, "InstanceType": {"Value": instance_type}}
            yield Change(
                "ec2",
                "modify_instance_attribute",
                args,
                why=f"change the box to {instance_type}, since no {now} is free; its disk is kept",
            )
            now = instance_type
        rate = launch.compute_box_rate(instance_type, settings)
        try:
            yield Change(
                "ec2",
                "start_instances",
                {"InstanceIds": [instance_id]},
                why=f"start {instance_id}, a {instance_type}",
                dollars_per_hour=rate,
            )
            return
        except AwsError as error:
            if error.says("IncorrectSpotRequestState"):
                raise OpsError(have.describe_interruption()) from error
            if not error.says(*NO_CAPACITY):
                raise
    if now != own:
        args = {"InstanceId": instance_id, "InstanceType": {"Value": own}}
        yield Change(
            "ec2", "modify_instance_attribute", args, why=f"change the box back to {own}: no other type is free either"
        )
    raise OpsError(
        f"EC2 has no capacity for {instance_id} in {zone}, where its disk is. The box is kept, and costs its disk only. Try again in some "
        f"minutes; or give up the disk and launch another box: invoke ec2.down, invoke ec2.up. See {launch.PAGE}"
    )


def list_alternative_types(have: Facts, options: LaunchOptions, zone: str) -> list[str]:
    """Return types that the box's disk could run in: on demand, offered in its zone, and with its processor architecture."""
    assert have.box is not None
    if have.on_spot:  # a spot request fixes the type
        return []
    processor = have.box.get("Architecture", "x86_64")
    fitting = [
        one
        for one in options.instance_types
        if (one, zone) in have.offered and processor in have.instance_types[one].processors
    ]
    return [one for one in fitting if one != have.box["InstanceType"]]


def build_idle_alarm(instance_id: Any, vcpus: int, settings: Settings) -> dict[str, Any]:
    """Return the alarm behind the box's watchdog: it waits twice as long, and sees only the CPU use, not connections or jobs."""
    patience = 2 * settings.ec2.idle_minutes * 60
    period = 300 if patience <= DAY_S else 3600  # EC2 measures every five minutes
    return {
        "AlarmName": settings.idle_alarm,
        "AlarmDescription": "Stops an idle box (Kennel)",
        "Namespace": "AWS/EC2",
        "MetricName": "CPUUtilization",
        "Dimensions": [{"Name": "InstanceId", "Value": instance_id}],
        "Statistic": "Average",
        "Period": period,
        "EvaluationPeriods": max(2, math.ceil(patience / period)),
        "Threshold": round(100 * IDLE_CORES / vcpus, 3),
        "ComparisonOperator": "LessThanThreshold",
        "TreatMissingData": "missing",
        "AlarmActions": [f"arn:aws:automate:{settings.aws.region}:ec2:stop"],
        "Tags": settings.tags(settings.idle_alarm),
    }


def build_state_probe(instance_id: str, wanted: str) -> Callable[[Account], str | None]:
    def until(account: Account) -> str | None:
        found = account.call_or_none(
            "ec2", "describe_instances", "InvalidInstanceID.NotFound", InstanceIds=[instance_id]
        )
        state = (
            found["Reservations"][0]["Instances"][0]["State"]["Name"]
            if found and found["Reservations"]
            else "not visible yet"
        )
        return None if state == wanted else state

    return until


def build_readiness_probe(instance_id: str) -> Callable[[Account], str | None]:
    """Return a probe for a running box that passed both of EC2's status checks; before that, SSH does not answer."""
    running = build_state_probe(instance_id, "running")

    def until(account: Account) -> str | None:
        if state := running(account):
            if state in ("terminated", "shutting-down"):
                raise OpsError(
                    f"{instance_id} was terminated while it booted: {read_state_reason(account, instance_id)}. Launch it again: invoke ec2.up"
                )
            return state
        found = account.call("ec2", "describe_instance_status", InstanceIds=[instance_id])["InstanceStatuses"]
        checks = (
            {found[0]["InstanceStatus"]["Status"], found[0]["SystemStatus"]["Status"]} if found else {"no status yet"}
        )
        return None if checks == {"ok"} else f"running, checks {', '.join(sorted(checks))}"

    return until


def read_state_reason(account: Account, instance_id: str) -> str:
    found = account.call("ec2", "describe_instances", InstanceIds=[instance_id])["Reservations"][0]["Instances"][0]
    return str(found.get("StateReason", {}).get("Message", "no reason given"))


def stop_box_steps(have: Facts) -> Steps:
    """Yield the stop of the box, which keeps its disk. A stop never turns into a termination."""
    if have.state in ("pending", "running"):
        yield Change(
            "ec2",
            "stop_instances",
            {"InstanceIds": [have.instance_id]},
            why=f"stop {have.instance_id}; its disk is kept",
        )
    if have.state in ("pending", "running", "stopping"):
        yield Wait(f"box {have.instance_id}", build_state_probe(have.instance_id, "stopped"), why="it is shutting down")


def remove_box_steps(have: Facts, settings: Settings) -> Steps:
    """Yield the removal of all boxes of the stack, and of what would launch another one or cost money."""
    instance_ids = [*([have.instance_id] if have.box else []), *have.extra]
    if have.spot_requests:
        args = {"SpotInstanceRequestIds": list(have.spot_requests)}
        yield Change(
            "ec2", "cancel_spot_instance_requests", args, why="cancel the spot request, which would launch another box"
        )
    for instance_id in instance_ids:
        yield Change(
            "ec2",
            "terminate_instances",
            {"InstanceIds": [instance_id]},
            why=f"terminate {instance_id}",
            danger="its disk is deleted",
        )
    for instance_id in instance_ids:
        yield Wait(
            f"box {instance_id}",
            build_state_probe(instance_id, "terminated"),
            why="only then is its network interface free",
        )
    if have.alarm is not None:
        yield Change(
            "cloudwatch", "delete_alarms", {"AlarmNames": [settings.idle_alarm]}, why="delete the alarm of the box"
        )
    if have.key_pair is not None:
        yield Change("ec2", "delete_key_pair", {"KeyName": settings.box_name}, why="delete the key pair of the box")

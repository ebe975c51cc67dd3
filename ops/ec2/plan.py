"""The box: what is there, and what starts one, wakes one, or takes it away."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from ops import WORK, price
from ops.aws import Account
from ops.change import Change, Steps, Wait
from ops.config import Settings
from ops.errors import OpsError, Refused

ALIVE = ("pending", "running", "stopping", "stopped")
NO_CAPACITY = ("InsufficientInstanceCapacity", "Unsupported")


@dataclass(frozen=True)
class Facts:
    """`box` is the instance as EC2 describes it. `nonce`: kept until a box is seen, so that one launch is asked for once."""

    box: dict[str, Any] | None = None
    subnets: tuple[str, ...] = ()
    group: str | None = None
    door: dict[str, Any] | None = field(default=None)
    image: str | None = None
    nonce: str = ""

    @property
    def state(self) -> str:
        return self.box["State"]["Name"] if self.box else "none"


def facts(account: Account, image: bool = False) -> Facts:
    """With `image`, the newest Deep Learning AMI is looked up too; it is only needed for a launch."""
    found = [i for r in account.tagged("describe_instances", "Reservations") for i in r["Instances"]]
    alive = [i for i in found if i["State"]["Name"] in ALIVE]
    if len(alive) > 1:
        raise OpsError(
            f"This stack has {len(alive)} boxes ({', '.join(i['InstanceId'] for i in alive)}); it should have one. Terminate the others by hand."
        )
    groups = account.tagged("describe_security_groups", "SecurityGroups", group_name=f"{account.settings.prefix}-box")
    doors = account.tagged("describe_instance_connect_endpoints", "InstanceConnectEndpoints", state="create-complete")
    subnets = account.tagged("describe_subnets", "Subnets")
    zones = {zone: n for n, zone in enumerate(account.settings.net.zones)}
    ordered = sorted(subnets, key=lambda s: zones.get(s["AvailabilityZone"], 99))
    return Facts(
        alive[0] if alive else None,
        tuple(s["SubnetId"] for s in ordered),
        groups[0]["GroupId"] if groups else None,
        doors[0] if doors else None,
        newest_image(account) if image and not alive else None,
        nonce(account.settings.prefix, seen=bool(alive)) if image else "",
    )


def nonce(prefix: str, seen: bool) -> str:
    """A random word for the next launch. EC2 remembers a token for a day after its box is gone: each box needs a new one."""
    path = WORK / f"{prefix}-launch"
    if seen:
        path.unlink(missing_ok=True)
        return ""
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.write_text(secrets.token_hex(8))
    return path.read_text()


def newest_image(account: Account) -> str:
    name = account.settings.ec2.ami_parameter
    found = account.find("ssm", "get_parameter", "ParameterNotFound", Name=name)
    if found is None:
        raise OpsError(
            f"There is no image parameter {name} in {account.settings.aws.region}. Set ec2.ami_parameter; see aws.example.yaml."
        )
    return found["Parameter"]["Value"]


def steps(have: Facts, settings: Settings) -> Steps:
    """A box that is stopped is started and never replaced: it may hold work that is nowhere else."""
    if have.state == "running":
        return
    rate = price.hourly("ec2", have.box["InstanceType"] if have.box else settings.ec2.instance_type)
    if have.box is not None:
        ident = have.box["InstanceId"]
        if have.state == "stopping":
            yield Wait(f"box {ident}", state_of(ident, "stopped"), why="a stopping instance cannot be started")
        if have.state != "pending":
            yield Change(
                "ec2", "start_instances", {"InstanceIds": [ident]}, why=f"{ident} is stopped", dollars_per_hour=rate
            )
    else:
        answer = yield from launch(have, settings, rate + price.disk(settings.ec2.disk_gib))
        ident = answer["Instances"][0]["InstanceId"]
    yield Wait(f"box {ident}", ready(ident), why="it boots")


def launch(have: Facts, settings: Settings, rate: float) -> Steps:
    """Try each zone in turn: capacity is a matter of the moment. Quota and permission are not, and end it."""
    refusal: Refused | None = None
    for subnet in have.subnets:
        why = f"no box runs; start one {settings.ec2.instance_type} in {subnet}"
        try:
            return (
                yield Change("ec2", "run_instances", request(have, subnet, settings), why=why, dollars_per_hour=rate)
            )
        except Refused as error:
            if not error.says(*NO_CAPACITY):
                raise
            refusal = error
    assert refusal is not None
    raise OpsError(
        f"No zone has a {settings.ec2.instance_type}: {refusal.reason} Try later, or set ec2.instance_type."
    ) from refusal


def request(have: Facts, subnet: str, settings: Settings) -> dict[str, Any]:
    tags = settings.tags(f"{settings.prefix}-box", expires=expires(settings))
    what = [have.nonce, have.image, have.group, settings.ec2.instance_type, settings.ec2.disk_gib, subnet, tags]
    return {
        "ImageId": have.image,
        "InstanceType": settings.ec2.instance_type,
        "MinCount": 1,
        "MaxCount": 1,
        "ClientToken": hashlib.sha256(json.dumps(what).encode()).hexdigest()[:40],  # asked twice, EC2 launches once
        "IamInstanceProfile": {"Name": settings.role_name("ec2-box")},
        "MetadataOptions": {"HttpTokens": "required", "HttpEndpoint": "enabled", "HttpPutResponseHopLimit": 1},
        "NetworkInterfaces": [
            {"DeviceIndex": 0, "SubnetId": subnet, "Groups": [have.group], "AssociatePublicIpAddress": False}
        ],
        "BlockDeviceMappings": [
            {
                "DeviceName": "/dev/sda1",
                "Ebs": {
                    "VolumeType": "gp3",
                    "VolumeSize": settings.ec2.disk_gib,
                    "Encrypted": True,
                    "DeleteOnTermination": True,
                },
            }
        ],
        "InstanceInitiatedShutdownBehavior": "stop",
        "TagSpecifications": [
            {"ResourceType": kind, "Tags": tags} for kind in ("instance", "volume", "network-interface")
        ],
    }


def expires(settings: Settings) -> str:
    """By the day, so that a launch asked for twice is the same request."""
    return (datetime.now(UTC) + timedelta(hours=settings.stack.expires_hours)).strftime("%Y-%m-%d")


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
            if state == "terminated":
                raise OpsError(
                    f"{ident} was terminated while it booted. Why: look at its StateReason; then invoke ec2.up again."
                )
            return state
        found = account.call("ec2", "describe_instance_status", InstanceIds=[ident])["InstanceStatuses"]
        checks = (
            {found[0]["InstanceStatus"]["Status"], found[0]["SystemStatus"]["Status"]} if found else {"no status yet"}
        )
        return None if checks == {"ok"} else f"running, checks {', '.join(sorted(checks))}"

    return until


def removal(have: Facts) -> Steps:
    if have.box is None:
        return
    ident = have.box["InstanceId"]
    yield Change("ec2", "terminate_instances", {"InstanceIds": [ident]}, why="asked for", danger="its disk goes too")
    yield Wait(f"box {ident}", state_of(ident, "terminated"), why="its network interface is freed only then")

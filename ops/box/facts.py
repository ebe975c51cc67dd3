"""The facts about the box: resources found by this stack's tags, and recent launches read from the audit log."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from ops.box import images
from ops.box.images import Image, InstanceTypeInfo
from ops.core import ssh
from ops.core.aws.account import Account
from ops.core.errors import OpsError
from ops.core.paths import WORK
from ops.core.settings import resolve_below_work

ALIVE = ("pending", "running", "stopping", "stopped")
RECENT = timedelta(hours=12)
INTERRUPTED = "Server.SpotInstance"  # how the reasons of a spot interruption begin


@dataclass(frozen=True)
class Facts:
    """The facts about the box: `box` is the instance as EC2 describes it; `subnets` are (id, zone) in the settings' order of zones.

    `key_pair` is the id of the launch's key pair, `alarm` the alarm as CloudWatch describes it. `spot_requests` are live requests,
    of this box or without one; `extra` are boxes beyond the one that should exist, `others` those of other stacks. Only a launch
    needs the rest: `image`, `instance_types` by name, `offered` (instance type, zone) pairs, and our `public_key`.
    """

    box: dict[str, Any] | None = None
    subnets: tuple[tuple[str, str], ...] = ()
    group: str | None = None
    connect_endpoint: dict[str, Any] | None = None
    key_pair: str | None = None
    alarm: dict[str, Any] | None = None
    spot_requests: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    image: Image | None = None
    instance_types: dict[str, InstanceTypeInfo] = field(default_factory=dict)
    offered: frozenset[tuple[str, str]] = frozenset()
    public_key: str = ""

    @property
    def state(self) -> str:
        return str(self.box["State"]["Name"]) if self.box else "none"

    @property
    def instance_id(self) -> str:
        assert self.box is not None
        return str(self.box["InstanceId"])

    @property
    def on_spot(self) -> bool:
        return bool(self.box and self.box.get("SpotInstanceRequestId"))

    @property
    def interrupted(self) -> bool:
        """Report whether a spot interruption stopped the box; then only EC2 may start it again."""
        reason = (self.box or {}).get("StateReason", {}).get("Code", "")
        return self.state in ("stopping", "stopped") and str(reason).startswith(INTERRUPTED)

    def describe_interruption(self) -> str:
        return (
            f"AWS took back the spot capacity of {self.instance_id}. The box is kept, and EC2 starts it again when it has capacity. "
            "To continue now: invoke ec2.down, invoke ec2.up, then invoke ec2.train, which resumes from the checkpoint in the bucket. "
            "See runbooks/spot-interruption.md"
        )


def read(account: Account, several: bool = False) -> Facts:
    """Read the facts about the stack's box. Raises OpsError when there is more than one, unless `several` allows it."""
    found = [i for r in account.list_tagged("describe_instances", "Reservations") for i in r["Instances"]]
    alive = sorted((i for i in found if i["State"]["Name"] in ALIVE), key=lambda i: i["LaunchTime"])
    if len(alive) > 1 and not several:
        ids = ", ".join(i["InstanceId"] for i in alive)
        raise OpsError(
            f"This stack has {len(alive)} boxes, and should have one: {ids}. Fetch what you need from their disks. "
            "Terminate all: invoke ec2.down; or one: aws ec2 terminate-instances --instance-ids ID"
        )
    settings = account.settings
    groups = account.list_tagged("describe_security_groups", "SecurityGroups", group_name=f"{settings.prefix}-box")
    endpoints = account.list_tagged(
        "describe_instance_connect_endpoints", "InstanceConnectEndpoints", state="create-complete"
    )
    order = {zone: n for n, zone in enumerate(settings.net.zones)}
    subnets = [s for s in account.list_tagged("describe_subnets", "Subnets") if s["AvailabilityZone"] in order]
    if groups:
        subnets = [s for s in subnets if s["VpcId"] == groups[0]["VpcId"]]
    named = {"KeyNames": [settings.box_name]}
    pairs = account.call_or_none("ec2", "describe_key_pairs", "InvalidKeyPair.NotFound", **named)
    alarms = account.list_all("cloudwatch", "describe_alarms", "MetricAlarms", AlarmNames=[settings.idle_alarm])
    requests = account.list_tagged("describe_spot_instance_requests", "SpotInstanceRequests")
    return Facts(
        alive[0] if alive else None,
        tuple(
            (s["SubnetId"], s["AvailabilityZone"]) for s in sorted(subnets, key=lambda s: order[s["AvailabilityZone"]])
        ),
        groups[0]["GroupId"] if groups else None,
        endpoints[0] if endpoints else None,
        pairs["KeyPairs"][0]["KeyPairId"] if pairs else None,
        alarms[0] if alarms else None,
        tuple(r["SpotInstanceRequestId"] for r in requests if r["State"] in ("open", "active", "disabled")),
        tuple(i["InstanceId"] for i in alive[1:]),
        () if alive else list_foreign_boxes(account),
    )


def read_for_launch(account: Account, have: Facts, instance_types: list[str], dry: bool = False) -> Facts:
    """Return `have` with the facts that only a launch or a start needs. With `dry`, no key pair is created on this machine.

    Raises OpsError for an instance type, image or disk that EC2 would refuse.
    """
    own = [have.box["InstanceType"]] if have.box else []
    more: dict[str, Any] = {
        "instance_types": images.describe_instance_types(account, list(dict.fromkeys([*own, *instance_types])))
    }
    offers = account.list_all(
        "ec2",
        "describe_instance_type_offerings",
        "InstanceTypeOfferings",
        LocationType="availability-zone",
        Filters=[{"Name": "instance-type", "Values": instance_types}],
    )
    more["offered"] = frozenset((offer["InstanceType"], offer["Location"]) for offer in offers)
    if have.box is None:
        more["image"] = chosen = images.choose_image(account, instance_types[0])
        images.check(account, chosen, more["instance_types"])
        key = resolve_below_work(account.settings.ec2.key)
        more["public_key"] = "" if dry and not key.exists() else ssh.ensure_key_pair(key)
    return Facts(**(vars(have) | more))


def list_foreign_boxes(account: Account) -> tuple[str, ...]:
    """Return boxes of other stacks in this account, as `i-1 of prod`; commands name them when ours is missing, and never touch them."""
    filters = [{"Name": "tag-key", "Values": ["kennel:stack"]}, {"Name": "instance-state-name", "Values": list(ALIVE)}]
    found = account.list_all("ec2", "describe_instances", "Reservations", Filters=filters)
    stacks = {
        i["InstanceId"]: t["Value"]
        for r in found
        for i in r["Instances"]
        for t in i["Tags"]
        if t["Key"] == "kennel:stack"
    }
    return tuple(
        f"{instance_id} of {stack}"
        for instance_id, stack in sorted(stacks.items())
        if stack != account.settings.stack.name
    )


def list_capacity_failures(account: Account) -> list[str]:
    """Return the `why` of recent launches from this machine that failed for lack of capacity since the last success."""
    path, found = WORK / "audit.jsonl", list[str]()
    since = (datetime.now(UTC) - RECENT).isoformat()
    for text in path.read_text().splitlines()[-200:] if path.exists() else []:
        try:
            line = json.loads(text)
        except ValueError:  # a crash in the middle of a line
            continue
        if (line["call"], line["stack"]) != ("ec2.run_instances", account.settings.stack.name) or line["time"] < since:
            continue
        if line["outcome"] == "done":
            found.clear()
        elif "InsufficientInstanceCapacity" in line["outcome"]:
            found.append(f"{line['time'][:16]} {line['why']}")
    return found

"""What there is of the box: found by this stack's tags, and the little that is known from before."""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from ops import WORK, box
from ops.aws import Account
from ops.config import in_work
from ops.ec2 import image
from ops.ec2.image import Image
from ops.errors import OpsError

ALIVE = ("pending", "running", "stopping", "stopped")
LATELY = timedelta(hours=12)
INTERRUPTED = "Server.SpotInstance"  # how the reasons of a spot interruption begin


@dataclass(frozen=True)
class Facts:
    """`box` is the instance as EC2 describes it; `subnets` are (id, zone) in the settings' order of zones.

    Only for a launch: `image`; `offered`, (instance type, zone) pairs; `public_key`, ours; and `nonce`, kept until a box is
    seen, so that one launch is asked for once. `key_pair` is (name's public key); `alarm` the instance it watches.
    """

    box: dict[str, Any] | None = None
    subnets: tuple[tuple[str, str], ...] = ()
    group: str | None = None
    door: dict[str, Any] | None = field(default=None)
    key_pair: str | None = None
    alarm: str | None = None
    image: Image | None = None
    offered: frozenset[tuple[str, str]] = frozenset()
    public_key: str = ""
    nonce: str = ""
    others: tuple[str, ...] = ()

    @property
    def state(self) -> str:
        return self.box["State"]["Name"] if self.box else "none"

    @property
    def ident(self) -> str:
        assert self.box is not None
        return self.box["InstanceId"]

    @property
    def spot_request(self) -> str | None:
        return self.box.get("SpotInstanceRequestId") if self.box else None

    @property
    def interrupted(self) -> bool:
        """Whether spot took it: then only EC2 may start it again."""
        reason = (self.box or {}).get("StateReason", {}).get("Code", "")
        return self.state in ("stopping", "stopped") and reason.startswith(INTERRUPTED)


def read(account: Account) -> Facts:
    """Raises OpsError when the stack has more than one box."""
    found = [i for r in account.tagged("describe_instances", "Reservations") for i in r["Instances"]]
    alive = [i for i in found if i["State"]["Name"] in ALIVE]
    if len(alive) > 1:
        raise OpsError(
            f"This stack has {len(alive)} boxes ({', '.join(i['InstanceId'] for i in alive)}); it should have one. Terminate the others by hand."
        )
    settings = account.settings
    groups = account.tagged("describe_security_groups", "SecurityGroups", group_name=f"{settings.prefix}-box")
    doors = account.tagged("describe_instance_connect_endpoints", "InstanceConnectEndpoints", state="create-complete")
    order = {zone: n for n, zone in enumerate(settings.net.zones)}
    subnets = [(s["SubnetId"], s["AvailabilityZone"]) for s in account.tagged("describe_subnets", "Subnets")]
    pairs = account.find(
        "ec2", "describe_key_pairs", "InvalidKeyPair.NotFound", KeyNames=[pair_name(account)], IncludePublicKey=True
    )
    alarms = account.pages("cloudwatch", "describe_alarms", "MetricAlarms", AlarmNames=[alarm_name(account)])
    return Facts(
        alive[0] if alive else None,
        tuple(sorted(subnets, key=lambda s: order.get(s[1], 99))),
        groups[0]["GroupId"] if groups else None,
        doors[0] if doors else None,
        pairs["KeyPairs"][0].get("PublicKey", "").strip() if pairs else None,
        next((d["Value"] for a in alarms for d in a["Dimensions"] if d["Name"] == "InstanceId"), None),
        others=() if alive else boxes_of_others(account),
    )


def for_launch(account: Account, have: Facts, kinds: list[str]) -> Facts:
    """With what only a launch needs. Raises OpsError for an instance type, image or disk that EC2 would refuse."""
    seen = have.box is not None
    word = nonce(account.settings.prefix, seen)
    if seen:
        return have
    chosen = image.choose(account)
    image.check(account, chosen, kinds)
    offers = account.pages(
        "ec2",
        "describe_instance_type_offerings",
        "InstanceTypeOfferings",
        LocationType="availability-zone",
        Filters=[{"Name": "instance-type", "Values": kinds}],
    )
    offered = frozenset((offer["InstanceType"], offer["Location"]) for offer in offers)
    more = {
        "image": chosen,
        "offered": offered,
        "public_key": box.key_pair(in_work(account.settings.ec2.key)),
        "nonce": word,
    }
    return Facts(**(vars(have) | more))


def pair_name(account: Account) -> str:
    return f"{account.settings.prefix}-box"


def alarm_name(account: Account) -> str:
    return f"{account.settings.prefix}-box-idle"


def boxes_of_others(account: Account) -> tuple[str, ...]:
    """Boxes of other stacks in this account, as `i-1 of prod`: said where ours is missing, and never touched."""
    kept = [{"Name": "tag-key", "Values": ["kennel:stack"]}, {"Name": "instance-state-name", "Values": list(ALIVE)}]
    found = account.pages("ec2", "describe_instances", "Reservations", Filters=kept)
    stacks = {
        i["InstanceId"]: t["Value"]
        for r in found
        for i in r["Instances"]
        for t in i["Tags"]
        if t["Key"] == "kennel:stack"
    }
    return tuple(
        f"{ident} of {stack}" for ident, stack in sorted(stacks.items()) if stack != account.settings.stack.name
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


def last_refusals(account: Account) -> list[str]:
    """Of the launches that this machine asked for lately: each `why` that ended for want of capacity; none since one went well."""
    path, found = WORK / "audit.jsonl", list[str]()
    since = (datetime.now(UTC) - LATELY).isoformat()
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

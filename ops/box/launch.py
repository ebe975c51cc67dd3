"""Launch a box: the requests to EC2, their order, and the errors that end the attempt."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from ops.box import user_data
from ops.box.facts import Facts
from ops.core import pricing
from ops.core.errors import AwsError, OpsError
from ops.core.plan import Change, Steps
from ops.core.settings import Settings

# The last: the spot price is above the on-demand price, which is the most that a request without a price pays.
NO_CAPACITY = ("InsufficientInstanceCapacity", "InsufficientHostCapacity", "Unsupported", "SpotMaxPriceTooLow")
QUOTAS = ("VcpuLimitExceeded", "InstanceLimitExceeded", "MaxSpotInstanceCountExceeded")
PAGE = "runbooks/no-capacity.md"
# These are quota codes of Service Quotas, in vCPUs, by the first letters of the instance type: (on demand, spot).
QUOTA_CODES = {
    "g": ("L-DB2E81BA", "L-3819A6DF"), "vt": ("L-DB2E81BA", "L-3819A6DF"), "p": ("L-417A185B", "L-7212CCBC"),
    **dict.fromkeys(("a", "c", "d", "h", "i", "m", "r", "t", "z"), ("L-1216C47A", "L-34B43A08")),
}  # fmt: skip


@dataclass(frozen=True)
class LaunchOptions:
    """The instance types to try, in this order. With `spot`, all are tried on spot first, and then on demand."""

    instance_types: tuple[str, ...]
    spot: bool = False


@dataclass(frozen=True)
class LaunchTarget:
    instance_type: str
    subnet: str
    zone: str
    spot: bool = False


def steps(have: Facts, options: LaunchOptions, settings: Settings) -> Steps:
    """Yield launch requests for each market, type and zone until one succeeds; a quota or permission error ends the attempt.

    Return the box's id, and its type. Raises OpsError when none has capacity.
    """
    if have.spot_requests:
        args = {"SpotInstanceRequestIds": list(have.spot_requests)}
        yield Change(
            "ec2",
            "cancel_spot_instance_requests",
            args,
            why="cancel the spot request without a box: it would launch another one",
        )
    key: Any = have.key_pair
    if key is None:
        key = yield from pair_steps(have, settings)
    places = [
        (instance_type, subnet, zone)
        for instance_type in options.instance_types
        for subnet, zone in have.subnets
        if (instance_type, zone) in have.offered
    ]
    tried = []
    for spot in (True, False) if options.spot else (False,):
        for instance_type, subnet, zone in places:
            try:
                answer = yield from request_instance(
                    have, settings, LaunchTarget(instance_type, subnet, zone, spot), key
                )
                return answer["Instances"][0]["InstanceId"], instance_type
            except AwsError as error:
                if not error.says(*NO_CAPACITY):
                    raise
                tried.append(f"{instance_type} in {zone}{' on spot' if spot else ''}")
    raise OpsError(describe_no_capacity(options, tried, settings))


def request_instance(have: Facts, settings: Settings, target: LaunchTarget, key: Any) -> Steps:
    """Yield one launch request. Its token depends on the key pair's id, which a team shares, so EC2 launches a repeated request once.

    Raises OpsError for an error that no other target would avoid, and AwsError.
    """
    rate = compute_box_rate(target.instance_type, settings)
    why = f"launch one {target.instance_type} in {target.zone}" + (", on spot: at most" if target.spot else "")
    for is_repeat in (False, True):
        args = build_launch_request(have, target, key, settings)
        try:
            return (yield Change("ec2", "run_instances", args, why=why, dollars_per_hour=rate))
        except AwsError as error:
            if error.says("IdempotentInstanceTerminated") and not is_repeat:
                # The box of that launch was terminated without ec2.down; with another key pair, this counts as another launch.
                yield Change(
                    "ec2", "delete_key_pair", {"KeyName": settings.box_name}, why="delete the old box's key pair"
                )
                key = yield from pair_steps(have, settings)
            elif error.says(*QUOTAS):
                raise OpsError(describe_quota_error(target.instance_type, target.spot, error)) from error
            elif error.says("nstance Profile", "nstance profile"):
                raise OpsError(
                    f"The box's role is missing, or new to EC2: {error.reason} Run invoke iam.apply; 10 s later: invoke ec2.up"
                ) from error
            else:
                raise
    return None


def pair_steps(have: Facts, settings: Settings) -> Steps:
    """Yield the import of our public key; return the pair's id. Raises OpsError while another operator starts the box."""
    name = settings.box_name
    args = {
        "KeyName": name,
        "PublicKeyMaterial": have.public_key.encode(),
        "TagSpecifications": [{"ResourceType": "key-pair", "Tags": settings.tags(name)}],
    }
    try:
        answer = yield Change(
            "ec2", "import_key_pair", args, why="import our public key (for logins when Instance Connect fails)"
        )
    except AwsError as error:
        if not error.says("InvalidKeyPair.Duplicate"):
            raise
        raise OpsError(
            "Another operator is launching the box right now. Wait for it, then run: invoke ec2.up"
        ) from error
    return answer["KeyPairId"]


def compute_box_rate(instance_type: str, settings: Settings) -> float:
    """Return dollars an hour of a running box: list prices, with its disk and, with ec2.way public, its address."""
    public = pricing.price_public_address() if settings.ec2.way == "public" else 0.0
    return pricing.price_instances("ec2", instance_type) + pricing.price_disk(settings.ec2.disk_gib) + public


def describe_no_capacity(options: LaunchOptions, tried: list[str], settings: Settings) -> str:
    if not tried:
        return (
            f"None of {', '.join(options.instance_types)} is offered in {', '.join(settings.net.zones)}. Nothing was started. "
            "Change ec2.instance_types or net.zones."
        )
    return (
        f"EC2 has no capacity: {'; '.join(tried)}. Nothing was started. Try again in some minutes, or try another type: "
        f"invoke ec2.up --instance-type TYPE. See {PAGE}"
    )


def describe_quota_error(instance_type: str, spot: bool, error: AwsError) -> str:
    letters = "".join(c for c in instance_type.split(".")[0] if c.isalpha())
    family = next((name for name in ("vt", letters[:1]) if letters.startswith(name)), "")
    codes = QUOTA_CODES.get(family)
    which = f" {codes[spot]}" if codes else ""
    return (
        f"The quota for {instance_type}{' on spot' if spot else ''} is too small, and another zone would not help: {error.reason} "
        f"Nothing was started. Request a higher quota{which} (vCPUs): aws service-quotas request-service-quota-increase "
        f"--service-code ec2 --quota-code{which or ' CODE'} --desired-value N"
    )


def build_launch_request(have: Facts, target: LaunchTarget, key: Any, settings: Settings) -> dict[str, Any]:
    assert have.image is not None
    tags = settings.tags(settings.box_name, expires=settings.expires("%Y-%m-%d"))
    data = user_data.build_user_data(settings)
    public = settings.ec2.way == "public"
    token_parts = [
        str(key),
        target.instance_type,
        target.subnet,
        target.spot,
        have.image.image_id,
        have.group,
        settings.ec2.disk_gib,
        tags,
        data,
        public,
    ]
    disk = {"VolumeType": "gp3", "VolumeSize": settings.ec2.disk_gib, "Encrypted": True, "DeleteOnTermination": True}
    tagged_types = ["instance", "volume", "network-interface"] + (["spot-instances-request"] if target.spot else [])
    request: dict[str, Any] = {
        "ImageId": have.image.image_id,
        "InstanceType": target.instance_type,
        "MinCount": 1,
        "MaxCount": 1,
        "ClientToken": hashlib.sha256(json.dumps(token_parts).encode()).hexdigest()[
            :40
        ],  # EC2 launches a repeated request once
        "KeyName": settings.box_name,
        "IamInstanceProfile": {"Name": settings.build_role_name("ec2-box")},
        "MetadataOptions": {"HttpTokens": "required", "HttpEndpoint": "enabled", "HttpPutResponseHopLimit": 1},
        "NetworkInterfaces": [
            {"DeviceIndex": 0, "SubnetId": target.subnet, "Groups": [have.group], "AssociatePublicIpAddress": public}
        ],
        "BlockDeviceMappings": [{"DeviceName": have.image.root, "Ebs": disk}],
        "InstanceInitiatedShutdownBehavior": "stop",
        "UserData": data,
        "TagSpecifications": [{"ResourceType": one, "Tags": tags} for one in tagged_types],
    }
    if target.spot:
        # Persistent, since a one-time request cannot be stopped: an idle stop or an interruption would delete the disk.
        options = {"SpotInstanceType": "persistent", "InstanceInterruptionBehavior": "stop"}
        request["InstanceMarketOptions"] = {"MarketType": "spot", "SpotOptions": options}
    return request

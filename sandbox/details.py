"""Permissions that no template tells: ARNs that have to be looked up, and roles that are passed without being a parameter."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from sandbox import power
from sandbox.state import ACCOUNT, REGION
from sandbox.world import World

Params = dict[str, Any]
More = Iterator[tuple[str, str, dict[str, str | list[str]]]]
EC2 = f"arn:aws:ec2:{REGION}:{ACCOUNT}:"
ROLES = f"arn:aws:iam::{ACCOUNT}:role/"
SERVICE_ROLES = f"arn:aws:iam::{ACCOUNT}:role/aws-service-role/"
# Prefix of an id -> the type in its ARN
KINDS = {
    "acl": "network-acl",
    "eice": "instance-connect-endpoint",
    "eni": "network-interface",
    "i": "instance",
    "igw": "internet-gateway",
    "key": "key-pair",
    "rtb": "route-table",
    "sg": "security-group",
    "sir": "spot-instances-request",
    "subnet": "subnet",
    "vol": "volume",
    "vpc": "vpc",
    "vpce": "vpc-endpoint",
}


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


# Each of these is named in a row of authorize.py.


def object_asked(world: World, asked: Params) -> list[str]:
    return [f"arn:aws:s3:::{asked.get('Bucket', '')}/{asked.get('Key', '')}"]


def function_asked(world: World, asked: Params) -> list[str]:
    """With the version or alias, given beside the name or in it."""
    name, _, inside = str(asked.get("FunctionName", "")).partition(":")
    qualifier = asked.get("Qualifier") or inside
    return [f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{name}" + (f":{qualifier}" if qualifier else "")]


def role_named(world: World, asked: Params) -> list[str]:
    return [named(world.backend_global("iam").roles.values(), asked.get("RoleName"), "role")]


def role_bounds(world: World, asked: Params) -> dict[str, str | list[str]]:
    """The boundary that a role has now, which a change of its policies is decided by too."""
    roles = world.backend_global("iam").roles.values()
    arn = next((one.permissions_boundary_arn for one in roles if one.name == asked.get("RoleName")), None)
    return {"iam:permissionsboundary": arn} if arn else {}


def profile_named(world: World, asked: Params) -> list[str]:
    profiles = world.backend_global("iam").instance_profiles.values()
    return [named(profiles, asked.get("InstanceProfileName"), "instance-profile")]


def user_named(world: World, asked: Params) -> list[str]:
    return [named(world.backend_global("iam").users.values(), asked.get("UserName"), "user")]


def named(known: Any, name: Any, kind: str) -> str:
    """The ARN with its path, which the request does not give; of what is not there, without."""
    return next((one.arn for one in known if one.name == name), f"arn:aws:iam::{ACCOUNT}:{kind}/{name}")


def builds_projects(world: World, asked: Params) -> list[str]:
    """A build's id is PROJECT:UUID."""
    idents = [str(ident) for ident in listed(asked.get("ids", asked.get("id")))]
    return [f"arn:aws:codebuild:{REGION}:{ACCOUNT}:project/{ident.split(':')[0]}" for ident in idents]


def key_pair_named(world: World, asked: Params) -> list[str]:
    known = world.backend("ec2").key_pairs.values()
    ident = asked.get("KeyPairId") or next((key.id for key in known if key.key_name == asked.get("KeyName")), "*")
    return [f"{EC2}key-pair/{ident}"]


def subnet_associated(world: World, asked: Params) -> list[str]:
    for acl in world.backend("ec2").network_acls.values():
        if asked.get("AssociationId") in acl._associations:
            return [f"{EC2}subnet/{acl._associations[asked['AssociationId']].subnet_id}"]
    return [f"{EC2}subnet/*"]


def tagged(world: World, asked: Params) -> list[str]:
    found = [str(ident) for ident in listed(asked.get("Resources"))]
    return [f"{EC2}{KINDS.get(ident.rsplit('-', 1)[0], '*')}/{ident}" for ident in found]


def launched(world: World, asked: Params) -> list[str]:
    """Everything that RunInstances makes or uses; each has to be allowed."""
    interfaces = listed(asked.get("NetworkInterfaces"))
    groups = listed(asked.get("SecurityGroupIds")) + [g for i in interfaces for g in listed(i.get("Groups"))]
    subnets = listed(asked.get("SubnetId")) + [i["SubnetId"] for i in interfaces if "SubnetId" in i]
    found = [f"arn:aws:ec2:{REGION}::image/{asked.get('ImageId', '*')}"]
    found += [f"{EC2}{kind}/*" for kind in ("instance", "volume", "network-interface")]
    found += [f"{EC2}security-group/{ident}" for ident in groups] + [f"{EC2}subnet/{ident}" for ident in subnets]
    if asked.get("KeyName"):
        found += key_pair_named(world, asked)
    if asked.get("InstanceMarketOptions", {}).get("MarketType") == "spot":
        found.append(f"{EC2}spot-instances-request/*")
    return found


ARNS = {
    found.__name__: found
    for found in (object_asked, function_asked, role_named, profile_named, user_named, builds_projects, key_pair_named,
                  subnet_associated, tagged, launched)
}  # fmt: skip


def passing(role: str, service: str, world: World) -> More:
    arn = role if role.startswith("arn:") else named(world.backend_global("iam").roles.values(), role, "role")
    yield "iam:PassRole", arn, {"iam:passedtoservice": service}


def launched_role(world: World, asked: Params) -> More:
    """The role in the instance profile; and, for the first spot request of an account, EC2's own role for them."""
    profile = asked.get("IamInstanceProfile") or {}
    for known in world.backend_global("iam").instance_profiles.values():
        if profile and (known.arn == profile.get("Arn") or known.name == profile.get("Name")):
            for role in known.roles:
                yield from passing(role.arn, "ec2.amazonaws.com", world)
    if asked.get("InstanceMarketOptions", {}).get("MarketType") == "spot":
        yield from service_role(world, "spot.amazonaws.com", "AWSServiceRoleForEC2Spot")


def profile_role(world: World, asked: Params) -> More:
    yield from passing(str(asked.get("RoleName")), "ec2.amazonaws.com", world)


def scaling_role(world: World, asked: Params) -> More:
    name = "AWSServiceRoleForApplicationAutoScaling_SageMakerEndpoint"
    yield from service_role(world, "sagemaker.application-autoscaling.amazonaws.com", name)


def alarm_role(world: World, asked: Params) -> More:
    """An alarm that acts on an instance acts through a role of CloudWatch Events."""
    if any(":ec2:" in str(action) for action in listed(asked.get("AlarmActions"))):
        yield from service_role(world, "events.amazonaws.com", "AWSServiceRoleForCloudWatchEvents")


def service_role(world: World, service: str, name: str) -> More:
    """AWS makes its role in the caller's name when it is not there yet; from then on nobody needs to be allowed to."""
    if name not in {role.name for role in world.backend_global("iam").roles.values()}:
        yield "iam:CreateServiceLinkedRole", f"{SERVICE_ROLES}{service}/{name}", {"iam:awsservicename": service}


def make_service_role(world: World, arn: str) -> None:
    service, _, name = arn.removeprefix(SERVICE_ROLES).partition("/")
    trust = {"Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"}
    world.backend_global("iam").create_role(
        role_name=name,
        assume_role_policy_document=json.dumps({"Version": "2012-10-17", "Statement": [trust]}),
        path=f"/aws-service-role/{service}/",
        permissions_boundary=None,
        description="",
        tags=[],
        max_session_duration=3600,
    )


def copied(world: World, asked: Params) -> More:
    source = str(asked.get("CopySource", "")).lstrip("/").split("?")[0]
    yield "s3:GetObject", f"arn:aws:s3:::{source}", {}


def resource_tags(world: World, arn: str) -> dict[str, str | list[str]]:
    """aws:ResourceTag of an EC2 resource that is there; of other services none are known here."""
    if not arn.startswith(EC2):
        return {}
    kind, _, ident = arn.removeprefix(EC2).partition("/")
    if kind == "instance-connect-endpoint":
        from sandbox.connect import endpoints

        found = {tag["Key"]: tag["Value"] for tag in endpoints.get(ident, {}).get("Tags", [])}
    elif kind == "spot-instances-request":
        from sandbox.spot import requests

        found = {tag["Key"]: tag["Value"] for tag in requests[ident].tags} if ident in requests else {}
    else:
        found = world.backend("ec2").tags.get(ident) or power.parted.get(ident, {})
    both = {f"aws:resourcetag/{key.lower()}": value for key, value in found.items()}
    return both | {key.replace("aws:", "ec2:", 1): value for key, value in both.items()}


def launch_keys(asked: Params, arn: str) -> dict[str, str | list[str]]:
    """What RunInstances says of the instance itself."""
    if ":instance/" not in arn:
        return {}
    found = {
        "ec2:instancetype": asked.get("InstanceType"),
        "ec2:metadatahttptokens": asked.get("MetadataOptions", {}).get("HttpTokens", "optional"),
        "ec2:instanceprofile": (asked.get("IamInstanceProfile") or {}).get("Arn"),
        "ec2:instancemarkettype": asked.get("InstanceMarketOptions", {}).get("MarketType", "on-demand"),
    }
    return {key: value for key, value in found.items() if value}

"""The rows of the permission table, and the lookups that their templates cannot express.

Some ARNs have to be looked up, and some roles are passed without being a parameter.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from iampolicy.policy.document import as_list
from sandbox.state import ACCOUNT, REGION
from sandbox.world import World

Params = dict[str, Any]
Context = dict[str, str | list[str]]
More = Iterator[tuple[str, str, Context]]
EC2 = f"arn:aws:ec2:{REGION}:{ACCOUNT}:"
SERVICE_ROLES = f"arn:aws:iam::{ACCOUNT}:role/aws-service-role/"
# Prefix of an id -> the type in its ARN
RESOURCE_TYPES = {
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


@dataclass(frozen=True)
class Row:
    """The permissions of an operation. `arns` are templates with {Parameter}s, or functions that look ARNs up; all must be allowed.

    `action` is set if it is not the operation's own name, `versioned` if the action is another one with a VersionId. `keys` maps
    a context key to a parameter's path, `context` returns more keys for an ARN; `passes` maps a parameter to the service that
    takes the role named there. `tagging` is the action that tags given at creation also need, `more` yields further permissions.
    """

    arns: tuple[str | Callable[[World, Params], list[str]], ...]
    action: str = ""
    versioned: str = ""
    keys: dict[str, str] = field(default_factory=dict)
    context: Callable[[World, Params, str], Context] | None = None
    passes: dict[str, str] = field(default_factory=dict)
    tagging: str = ""
    more: Callable[[World, Params], More] | None = None


def build_row(*arns: Any, **more: Any) -> Row:
    return Row(arns or ("*",), **more)


def build_rows(names: str, *arns: Any, **more: Any) -> dict[str, Row]:
    """Return the same row for several operations."""
    return dict.fromkeys(names.split(), build_row(*arns, **more))


def derive_request_tags(params: Params, arn: str) -> Context:
    """Return aws:RequestTag and aws:TagKeys of what the call would make at this ARN."""
    resource_type = arn.removeprefix(EC2).partition("/")[0]
    specified = [
        s.get("Tags", [])
        for s in as_list(params.get("TagSpecifications", []))
        if s.get("ResourceType") == resource_type
    ]
    raw = specified[0] if specified else params.get("Tags", params.get("tags")) or []
    if isinstance(raw, dict):
        pairs = list(raw.items())
    else:
        pairs = [
            (tag.get("Key", tag.get("key")), tag.get("Value", tag.get("value"))) for tag in raw if isinstance(tag, dict)
        ]
    found: Context = {f"aws:requesttag/{str(key).lower()}": str(value) for key, value in pairs}
    return found | {"aws:tagkeys": [str(key) for key, _ in pairs]} if pairs else {}


def resolve_function_arn(world: World, params: Params) -> list[str]:
    """Return the function's ARN with the version or alias, given beside the name or in it."""
    name, _, inside = str(params.get("FunctionName", "")).partition(":")
    qualifier = params.get("Qualifier") or inside
    return [f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{name}" + (f":{qualifier}" if qualifier else "")]


def find_iam_arn(known: Any, name: Any, resource_type: str) -> str:
    """Return the ARN with its path, which the request does not give; without a path if the name is unknown."""
    return next((one.arn for one in known if one.name == name), f"arn:aws:iam::{ACCOUNT}:{resource_type}/{name}")


def list_function_statements(world: World, name: str) -> list[dict[str, Any]]:
    """Return the statements that AddPermission made for a function, its versions and aliases, each with the ARN it is for.

    moto appends a qualifier to the ARN of a version, and takes a principal's ARN or account as it was given.
    """
    record = world.backend("lambda")._lambdas._functions.get(name)
    found = []
    every = [record["latest"], *record["versions"]] if record else []
    for policy in {id(function.policy): function.policy for function in every}.values():  # versions may share one
        for one in policy.statements:
            *_, last = parts = str(one["Resource"]).split(":")
            resource = ":".join(parts[:7]) + (f":{last}" if len(parts) > 7 else "")
            principal = one["Principal"]
            if isinstance(principal, str) and principal != "*":
                principal = {"AWS": principal}
            found.append({key: one[key] for key in ("Sid", "Effect", "Action", "Condition") if key in one}
                         | {"Resource": resource, "Principal": principal})  # fmt: skip
    return found


def resolve_project_arns(world: World, params: Params) -> list[str]:
    """Return the ARNs of the builds' projects; a build's id is PROJECT:UUID."""
    idents = [str(ident) for ident in as_list(params.get("ids", params.get("id", [])))]
    return [f"arn:aws:codebuild:{REGION}:{ACCOUNT}:project/{ident.split(':')[0]}" for ident in idents]


def resolve_parameter_arn(world: World, params: Params) -> list[str]:
    """Return the ARN of a parameter given by name or ARN; a version or label may follow after a colon."""
    name = str(params.get("Name", "*"))
    return [":".join(name.split(":")[:6]) if name.startswith("arn:") else format_parameter_arn(name.partition(":")[0])]


def resolve_parameter_path_arn(world: World, params: Params) -> list[str]:
    return [format_parameter_arn(f"{str(params.get('Path', '')).rstrip('/')}/*")]


def format_parameter_arn(name: str) -> str:
    """Return a parameter's ARN; parameters below /aws/ are public, and their ARNs have no account."""
    account = "" if name.startswith("/aws/") else ACCOUNT
    return f"arn:aws:ssm:{REGION}:{account}:parameter/{name.lstrip('/')}"


def resolve_key_pair_arn(world: World, params: Params) -> list[str]:
    known = world.backend("ec2").key_pairs.values()
    ident = params.get("KeyPairId") or next((key.id for key in known if key.key_name == params.get("KeyName")), "*")
    return [f"{EC2}key-pair/{ident}"]


def resolve_acl_subnet_arn(world: World, params: Params) -> list[str]:
    for acl in world.backend("ec2").network_acls.values():
        if params.get("AssociationId") in acl._associations:
            return [f"{EC2}subnet/{acl._associations[params['AssociationId']].subnet_id}"]
    return [f"{EC2}subnet/*"]


def resolve_tagged_arns(world: World, params: Params) -> list[str]:
    found = [str(ident) for ident in as_list(params.get("Resources", []))]
    return [f"{EC2}{RESOURCE_TYPES.get(ident.rsplit('-', 1)[0], '*')}/{ident}" for ident in found]


def resolve_tagged_rule_arns(world: World, params: Params) -> list[str]:
    """Return the ARN of a security group's rules, which are resources of their own only if the request tags them."""
    return [f"{EC2}security-group-rule/*"] if params.get("TagSpecifications") else []


def resolve_launch_arns(world: World, params: Params) -> list[str]:
    """Return the ARNs of everything that RunInstances makes or uses; each must be allowed."""
    interfaces = as_list(params.get("NetworkInterfaces", []))
    groups = as_list(params.get("SecurityGroupIds", [])) + [g for i in interfaces for g in as_list(i.get("Groups", []))]
    subnets = as_list(params.get("SubnetId", [])) + [i["SubnetId"] for i in interfaces if "SubnetId" in i]
    found = [f"arn:aws:ec2:{REGION}::image/{params.get('ImageId', '*')}"]
    found += [f"{EC2}{resource_type}/*" for resource_type in ("instance", "volume", "network-interface")]
    found += [f"{EC2}security-group/{ident}" for ident in groups] + [f"{EC2}subnet/{ident}" for ident in subnets]
    if params.get("KeyName"):
        found += resolve_key_pair_arn(world, params)
    if params.get("InstanceMarketOptions", {}).get("MarketType") == "spot":
        found.append(f"{EC2}spot-instances-request/*")
    return found


def list_pass_role_needs(role: str, service: str, world: World) -> More:
    arn = (
        role if role.startswith("arn:") else find_iam_arn(world.get_global_backend("iam").roles.values(), role, "role")
    )
    yield "iam:PassRole", arn, {"iam:passedtoservice": service}


def list_launch_needs(world: World, params: Params) -> More:
    """Yield the permissions to pass the instance profile's role and, for an account's first spot request, to create EC2's role."""
    if profile := find_instance_profile(world, params):
        for role in profile.roles:
            yield from list_pass_role_needs(role.arn, "ec2.amazonaws.com", world)
    if params.get("InstanceMarketOptions", {}).get("MarketType") == "spot":
        yield from list_service_role_needs(world, "spot.amazonaws.com", "AWSServiceRoleForEC2Spot")


def list_connect_endpoint_needs(world: World, params: Params) -> More:
    """Yield the permissions to create the endpoint's network interface and, for an account's first endpoint, the service's role.

    docs.aws.amazon.com/AWSEC2/latest/UserGuide/permissions-for-ec2-instance-connect-endpoint.html
    """
    yield "ec2:CreateNetworkInterface", f"{EC2}network-interface/*", {}
    inside = [f"subnet/{params.get('SubnetId', '*')}"]
    inside += [f"security-group/{ident}" for ident in as_list(params.get("SecurityGroupIds", []))]
    for place in inside:
        yield "ec2:CreateNetworkInterface", EC2 + place, read_resource_tags(world, EC2 + place)
    yield from list_service_role_needs(
        world, "ec2-instance-connect.amazonaws.com", "AWSServiceRoleForEC2InstanceConnect"
    )


def find_instance_profile(world: World, params: Params) -> Any:
    """Return the instance profile that is given by name or ARN, or None."""
    spec = params.get("IamInstanceProfile") or {}
    known = world.get_global_backend("iam").instance_profiles.values()
    return next((one for one in known if spec and (one.arn == spec.get("Arn") or one.name == spec.get("Name"))), None)


def list_scaling_needs(world: World, params: Params) -> More:
    name = "AWSServiceRoleForApplicationAutoScaling_SageMakerEndpoint"
    yield from list_service_role_needs(world, "sagemaker.application-autoscaling.amazonaws.com", name)


def list_alarm_needs(world: World, params: Params) -> More:
    """Yield the permission to create CloudWatch Events' role, through which an alarm acts on an instance."""
    if any(":ec2:" in str(action) for action in as_list(params.get("AlarmActions", []))):
        yield from list_service_role_needs(world, "events.amazonaws.com", "AWSServiceRoleForCloudWatchEvents")


def list_service_role_needs(world: World, service: str, name: str) -> More:
    """Yield the permission to create a service-linked role; the caller needs it only while the role is missing."""
    if name not in {role.name for role in world.get_global_backend("iam").roles.values()}:
        yield "iam:CreateServiceLinkedRole", f"{SERVICE_ROLES}{service}/{name}", {"iam:awsservicename": service}


SERVICE_ROLE_NAMES = {
    "spot.amazonaws.com": "AWSServiceRoleForEC2Spot",
    "events.amazonaws.com": "AWSServiceRoleForCloudWatchEvents",
    "ec2-instance-connect.amazonaws.com": "AWSServiceRoleForEC2InstanceConnect",
    "sagemaker.application-autoscaling.amazonaws.com": "AWSServiceRoleForApplicationAutoScaling_SageMakerEndpoint",
}


def build_service_role_arn(service: str) -> str:
    """Return the ARN of a service's linked role; AWS derives the names of those that are not listed from the service's."""
    derived = "AWSServiceRoleFor" + service.partition(".")[0].title().replace("-", "")
    return f"{SERVICE_ROLES}{service}/{SERVICE_ROLE_NAMES.get(service, derived)}"


def list_own_service_role(world: World, params: Params) -> list[str]:
    return [build_service_role_arn(str(params.get("AWSServiceName", "")))]


def create_service_linked_role(world: World, arn: str) -> None:
    service, _, name = arn.removeprefix(SERVICE_ROLES).partition("/")
    trust = {"Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"}
    world.get_global_backend("iam").create_role(
        role_name=name,
        assume_role_policy_document=json.dumps({"Version": "2012-10-17", "Statement": [trust]}),
        path=f"/aws-service-role/{service}/",
        permissions_boundary=None,
        description="",
        tags=[],
        max_session_duration=3600,
    )


def read_resource_tags(world: World, arn: str) -> Context:
    """Return aws:ResourceTag and ec2:ResourceTag of an existing EC2 resource; {} for other services."""
    if not arn.startswith(EC2):
        return {}
    resource_type, _, ident = arn.removeprefix(EC2).partition("/")
    if resource_type == "instance-connect-endpoint":
        endpoint = world.ec2.connect_endpoints.get(ident, {})
        found = {tag["Key"]: tag["Value"] for tag in endpoint.get("Tags", [])}
    elif resource_type == "spot-instances-request":
        request = world.ec2.spot_requests.get(ident)
        found = {tag["Key"]: tag["Value"] for tag in request.tags} if request else {}
    else:
        found = world.backend("ec2").tags.get(ident) or world.ec2.tags_of_terminated.get(ident, {})
    both = {f"aws:resourcetag/{key.lower()}": value for key, value in found.items()}
    return both | {key.replace("aws:", "ec2:", 1): value for key, value in both.items()}


def derive_launch_context(world: World, params: Params, arn: str) -> Context:
    """Return the context keys that RunInstances gives for the instance itself; {} for its other resources."""
    if ":instance/" not in arn:
        return {}
    profile = find_instance_profile(world, params)
    found = {
        "ec2:instancetype": params.get("InstanceType"),
        "ec2:metadatahttptokens": params.get("MetadataOptions", {}).get("HttpTokens", "optional"),
        "ec2:instanceprofile": profile.arn if profile else (params.get("IamInstanceProfile") or {}).get("Arn"),
        "ec2:instancemarkettype": params.get("InstanceMarketOptions", {}).get("MarketType", "on-demand"),
    }
    return {key: value for key, value in found.items() if value}

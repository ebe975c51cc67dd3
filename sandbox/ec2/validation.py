"""Validation of EC2's requests: refuse what AWS refuses, in its words, where moto accepts."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterator
from typing import Any

from moto.ec2.exceptions import EC2ClientError, InvalidServiceName, MissingParameterError
from moto.ec2.models.instance_types import INSTANCE_TYPES
from moto.ec2.models.vpcs import AWS_ENDPOINT_SERVICES, COVERED_ENDPOINT_SERVICES

from sandbox.state import REGION
from sandbox.world import get_world

USER_DATA_BYTES = 16_384
# parameter -> (prefix of its ids, code for a malformed one)
IDS = {
    "ImageId": ("ami", "InvalidAMIID.Malformed"),
    "InstanceId": ("i", "InvalidInstanceID.Malformed"),
    "SubnetId": ("subnet", "InvalidSubnetID.Malformed"),
    "VpcId": ("vpc", "InvalidVpcID.Malformed"),
    "GroupId": ("sg", "InvalidGroupId.Malformed"),
}
PORTS_NEEDED = ("6", "17")  # TCP and UDP, by number


def find_malformed_id(params: dict[str, Any]) -> tuple[str, str] | None:
    """Return the error (code, message) for the first id that has not the form of its kind, or None."""
    for name, (prefix, code) in IDS.items():
        given = params.get(name, params.get(f"{name}s"))
        for one in given if isinstance(given, list) else [given]:
            if isinstance(one, str) and not re.fullmatch(rf"{prefix}-([0-9a-f]{{8}}|[0-9a-f]{{17}})", one):
                return code, f'Invalid id: "{one}" (expecting "{prefix}-...")'
    return None


def validate_launch(backend: Any, params: dict[str, Any]) -> None:
    """Validate RunInstances. Raises EC2ClientError."""
    instance_type = params.get("InstanceType", "m1.small")
    if instance_type not in INSTANCE_TYPES:
        raise EC2ClientError("InvalidParameterValue", f"Invalid value '{instance_type}' for InstanceType.")
    image = backend.amis.get(params.get("ImageId"))
    supported = INSTANCE_TYPES[instance_type]["ProcessorInfo"]["SupportedArchitectures"]
    if image is not None and image.architecture not in supported:
        raise EC2ClientError(
            "InvalidParameterValue",
            f"The architecture '{','.join(supported)}' of the specified instance type does not match the architecture "
            f"'{image.architecture}' of the specified AMI. Specify an instance type and an AMI that have matching architectures.",
        )
    validate_user_data(params.get("UserData", ""))
    validate_profile(params.get("IamInstanceProfile", {}))


def validate_user_data(text: str) -> None:
    try:
        length = len(base64.b64decode(text, validate=True))
    except (binascii.Error, ValueError):
        length = len(text)
    if length > USER_DATA_BYTES:
        raise EC2ClientError("InvalidParameterValue", f"User data is limited to {USER_DATA_BYTES} bytes")


def validate_profile(given: dict[str, str]) -> None:
    known = get_world().get_global_backend("iam").instance_profiles.values()
    if given and not any(given.get("Name") == one.name or given.get("Arn") == one.arn for one in known):
        named = given.get("Name") or given.get("Arn")
        raise EC2ClientError(
            "InvalidParameterValue",
            f"Value ({named}) for parameter iamInstanceProfile.name is invalid. Invalid IAM Instance Profile name",
        )


def validate_repeated_launch(token: str, params: dict[str, Any]) -> None:
    """Raise EC2ClientError if a client token comes again with other parameters; remember the first request's."""
    text = json.dumps(params, sort_keys=True, default=str)
    if get_world().ec2.launch_requests.setdefault(token, text) != text:
        raise EC2ClientError(
            "IdempotentParameterMismatch",
            "The client token you have provided is associated with a request that has other parameters.",
        )


def validate_public_key(material: Any) -> None:
    """Raise EC2ClientError unless the material is an OpenSSH public key."""
    text = material.decode(errors="replace") if isinstance(material, bytes) else str(material)
    kind, _, key = text.strip().partition(" ")
    try:
        data = base64.b64decode(key.split(" ")[0], validate=True)
    except (binascii.Error, ValueError, IndexError):
        data = b""
    if kind not in ("ssh-rsa", "ssh-ed25519") or kind.encode() not in data:
        raise EC2ClientError("InvalidKey.Format", "Key is not in valid OpenSSH public key format")


def validate_acl_entry(params: dict[str, Any]) -> None:
    if str(params.get("Protocol")) in PORTS_NEEDED and not params.get("PortRange"):
        raise MissingParameterError("PortRange")


def validate_route(backend: Any, params: dict[str, Any]) -> None:
    """Raise EC2ClientError for a route to an internet gateway that is not attached to the table's network."""
    gateway = backend.internet_gateways.get(params.get("GatewayId"))
    table = backend.route_tables.get(params.get("RouteTableId"))
    if gateway and table and (gateway.vpc is None or gateway.vpc.id != table.vpc_id):
        raise EC2ClientError(
            "InvalidParameterValue",
            f"route table {table.id} and network gateway {gateway.id} belong to different networks",
        )


def validate_vpc_endpoint(backend: Any, params: dict[str, Any]) -> None:
    """Raise EC2ClientError for a service that does not exist, or a second gateway endpoint of a service on a route table."""
    service = params["ServiceName"]
    if service.removeprefix(f"com.amazonaws.{REGION}.") not in (*AWS_ENDPOINT_SERVICES, *COVERED_ENDPOINT_SERVICES):
        raise InvalidServiceName(service)
    tables = set(params.get("RouteTableIds", []))
    for endpoint in backend.vpc_end_points.values():
        taken = tables & set(endpoint.route_table_ids or [])
        if taken and endpoint.service_name == service and endpoint.state.lower() not in ("deleting", "deleted"):
            raise EC2ClientError(
                "RouteAlreadyExists",
                f"route table {min(taken)} already has a route with the destination-prefix-list-id of {service}",
            )


def validate_subnet_removal(backend: Any, subnet: str) -> None:
    if any(interface.subnet.id == subnet for interface in backend.enis.values()):
        raise EC2ClientError("DependencyViolation", f"The subnet '{subnet}' has dependencies and cannot be deleted.")


def validate_group_removal(backend: Any, group: str) -> None:
    """Raise EC2ClientError while an interface or another group's rule names the security group."""
    if group in list_named_groups(backend, group):
        raise EC2ClientError("DependencyViolation", f"resource {group} has a dependent object")


def list_named_groups(backend: Any, besides: str) -> Iterator[str]:
    """Yield every security group that an interface has, or that a rule of a group but `besides` names."""
    for interface in backend.enis.values():
        yield from (group.id for group in interface.group_set)
    for groups in backend.groups.values():
        for group in groups.values():
            for rule in (*group.ingress_rules, *group.egress_rules) if group.id != besides else ():
                yield (rule.source_group or {}).get("GroupId", "")


def validate_state(instance: Any, allowed: tuple[str, ...], message: str) -> None:
    if instance.state not in allowed:
        raise EC2ClientError("IncorrectInstanceState", message)

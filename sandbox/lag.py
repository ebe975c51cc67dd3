"""A fault: what was just created is unknown for a while, as in AWS, whose EC2 and IAM are eventually consistent."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sandbox.http.parsing import Call

Refusal = tuple[int, str, str]  # status, code, message
# Operation of EC2 -> the element of its answer that holds the new id.
NEW_IDS = {
    "CreateVpc": "vpcId",
    "CreateSubnet": "subnetId",
    "CreateSecurityGroup": "groupId",
    "CreateRouteTable": "routeTableId",
    "CreateInternetGateway": "internetGatewayId",
    "CreateNetworkAcl": "networkAclId",
    "RunInstances": "instanceId",
}
# What an id begins with -> (EC2's error code, its words).
UNKNOWN_IDS = {
    "vpc": ("InvalidVpcID.NotFound", "The vpc ID '{}' does not exist"),
    "subnet": ("InvalidSubnetID.NotFound", "The subnet ID '{}' does not exist"),
    "sg": ("InvalidGroup.NotFound", "The security group '{}' does not exist"),
    "rtb": ("InvalidRouteTableID.NotFound", "The routeTable ID '{}' does not exist"),
    "igw": ("InvalidInternetGatewayID.NotFound", "The internetGateway ID '{}' does not exist"),
    "acl": ("InvalidNetworkAclID.NotFound", "The networkAcl ID '{}' does not exist"),
    "i": ("InvalidInstanceID.NotFound", "The instance ID '{}' does not exist"),
}
# Operation of IAM -> the parameter that names the new resource; of a policy, its ARN counts.
NEW_NAMES = {"CreateRole": "RoleName", "CreateInstanceProfile": "InstanceProfileName", "CreatePolicy": "PolicyArn"}
UNKNOWN_NAMES = {
    "RoleName": "The role with name {} cannot be found.",
    "InstanceProfileName": "Instance Profile {} cannot be found.",
    "PolicyArn": "Policy {} was not found.",
    "PermissionsBoundary": "Scope ARN: {} does not exist or is not attachable.",
}
NOT_ASSUMED = (
    "ValidationException",
    "Could not assume role {}. Please ensure that the role exists and allows principal 'sagemaker.amazonaws.com' to assume the role.",
)
# (operation, path of the role's ARN) -> (code, words) of a service that cannot assume a role.
ROLE_TAKERS = {
    ("CreateFunction", "Role"): (
        "InvalidParameterValueException",
        "The role defined for the function cannot be assumed by Lambda.",
    ),
    ("CreateTrainingJob", "RoleArn"): NOT_ASSUMED,
    ("CreateModel", "ExecutionRoleArn"): NOT_ASSUMED,
    ("CreateHyperParameterTuningJob", "TrainingJobDefinition.RoleArn"): NOT_ASSUMED,
    ("CreateProject", "serviceRole"): (
        "InvalidInputException",
        "CodeBuild is not authorized to perform: sts:AssumeRole on {}",
    ),
}


@dataclass
class New:
    """Since when a resource exists, on the sandbox's clock, and how many calls have been refused because of it."""

    since: float
    refused: int = 0


class Lag:
    """The resources that are still unknown: those of the last `seconds`, each also to its first `calls` calls."""

    def __init__(self) -> None:
        self.seconds, self.calls = 0.0, 0
        self._new: dict[str, New] = {}
        self._lock = threading.Lock()

    def set(self, seconds: float = 0.0, calls: int = 0) -> dict[str, float]:
        with self._lock:
            self.seconds, self.calls, self._new = seconds, calls, {}
        return {"seconds": seconds, "calls": calls}

    def note_creation(self, call: Call, params: dict[str, Any], answer: bytes, now: float) -> None:
        """Remember what a call that succeeded has created."""
        if self.seconds or self.calls:
            with self._lock:
                self._new |= {name: New(now) for name in find_created(call, params, answer)}

    def refuse(self, call: Call, params: dict[str, Any], now: float) -> Refusal | None:
        """Return AWS's error for a call that names something which is still unknown, or None."""
        if not self._new:
            return None
        with self._lock:
            for name, refusal in list_named(call, params):
                new = self._new.get(name)
                if new and (now - new.since < self.seconds or new.refused < self.calls):
                    new.refused += 1
                    return refusal
        return None


def find_created(call: Call, params: dict[str, Any], answer: bytes) -> list[str]:
    """Return the ids, names and ARNs of what the call has created."""
    text = answer.decode(errors="replace")
    if call.service == "ec2" and call.operation in NEW_IDS:
        return re.findall(rf"<{NEW_IDS[call.operation]}>([\w-]+)<", text)[:1]
    if call.service == "iam" and call.operation in NEW_NAMES:
        arns = re.findall(r"<Arn>([^<]+)</Arn>", text)[:1]
        return arns + [params[name] for name in (NEW_NAMES[call.operation],) if name in params]
    return []


def list_named(call: Call, params: dict[str, Any]) -> Iterator[tuple[str, Refusal]]:
    """Yield (id, name or ARN, AWS's error if it is unknown) of each resource that the call names. Filters name none."""
    if call.service == "ec2":
        if profile := params.get("IamInstanceProfile", {}).get("Name"):
            words = (
                f"Value ({profile}) for parameter iamInstanceProfile.name is invalid. Invalid IAM Instance Profile name"
            )
            yield profile, (400, "InvalidParameterValue", words)
        for text in walk_texts({key: value for key, value in params.items() if key != "Filters"}):
            code, words = UNKNOWN_IDS.get(text.partition("-")[0], ("", ""))
            if code:
                yield text, (400, code, words.format(text))
    elif call.service == "iam":
        for key, words in UNKNOWN_NAMES.items():
            if key in params and NEW_NAMES.get(call.operation) != key:
                yield params[key], (404, "NoSuchEntity", words.format(params[key]))
    for (operation, path), (code, words) in ROLE_TAKERS.items():
        arn = find(params, path) if call.operation == operation else None
        if arn:
            yield str(arn), (400, code, words.format(arn))


def find(params: Any, path: str) -> Any:
    for name in path.split("."):
        params = params.get(name) if isinstance(params, dict) else None
    return params


def walk_texts(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from walk_texts(item)
    elif isinstance(value, str):
        yield value

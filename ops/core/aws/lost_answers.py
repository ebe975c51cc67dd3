"""Calls whose answer was lost: AWS may have carried them out, and then refuses a second attempt, or does the work twice.

`watch` notes a lost answer of this thread's current call, and stops the SDK from sending a create without a client token again.
`settle` decides what AWS's refusal of a second attempt means.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from botocore import exceptions as sdk
from botocore import xform_name

from ops.core.errors import DENIED, AwsError, OpsError

if TYPE_CHECKING:
    from ops.core.aws.account import Account
    from ops.core.plan import Change

THROTTLED = ("Throttl", "RequestLimitExceeded", "TooManyRequests", "SlowDown", "Bandwidth")
# EC2 makes a second one of these: call -> (the call that lists them, its key, the answer's key, the filters by argument).
CREATED: dict[str, tuple[str, str, str, dict[str, str]]] = {
    "create_vpc": ("describe_vpcs", "Vpcs", "Vpc", {}),
    "create_subnet": (
        "describe_subnets",
        "Subnets",
        "Subnet",
        {"VpcId": "vpc_id", "CidrBlock": "cidr_block"},
    ),
    "create_route_table": ("describe_route_tables", "RouteTables", "RouteTable", {"VpcId": "vpc_id"}),
    "create_network_acl": ("describe_network_acls", "NetworkAcls", "NetworkAcl", {"VpcId": "vpc_id"}),
    "create_internet_gateway": ("describe_internet_gateways", "InternetGateways", "InternetGateway", {}),
    "create_security_group": (
        "describe_security_groups",
        "SecurityGroups",
        "",
        {"VpcId": "vpc_id", "GroupName": "group_name"},
    ),
    "create_vpc_endpoint": (
        "describe_vpc_endpoints",
        "VpcEndpoints",
        "VpcEndpoint",
        {"VpcId": "vpc_id", "ServiceName": "service_name"},
    ),
    "create_instance_connect_endpoint": (
        "describe_instance_connect_endpoints",
        "InstanceConnectEndpoints",
        "InstanceConnectEndpoint",
        {"SubnetId": "subnet_id"},
    ),
    "import_key_pair": ("describe_key_pairs", "KeyPairs", "", {"KeyName": "key_name"}),
}
ENDING = ("deleting", "deleted", "delete-in-progress", "delete-complete")
# AWS's words for what is there already: names of ours, which no one else gives.
ALREADY = (
    "EntityAlreadyExists", "Duplicate", "EntryAlreadyExists", "RouteAlreadyExists", "AlreadyAssociated", "already exist", "AlreadyExists",
    "already existing", "ResourceInUse", "in-progress endpoint", "BucketAlreadyOwnedByYou",
    "InstanceSessionsPerInstanceProfile", "FunctionUrlConfig exists", "An update is in progress",
)  # fmt: skip
FOREIGN = "BucketAlreadyExists"  # another account's
GONE = (
    "NotFound", "NoSuch", "Could not find", "does not exist", "NotAttached", "404", "No scal", "InvalidNetworkAclEntry",
)  # fmt: skip
VISIBLE_S = (0.2, 0.5, 1.0, 2.0, 4.0)  # a new resource may take seconds to be listed
_call = threading.local()


def watch(response: Any, operation: Any, caught_exception: Exception | None, **_: Any) -> None:
    """Answer botocore's event needs-retry. Raises the error of an attempt that must not be repeated."""
    if isinstance(caught_exception, sdk.HTTPClientError):
        lost: Exception = caught_exception
    elif response is not None and response[0].status_code >= 500 and not is_throttled(response[1]):
        lost = sdk.ClientError(response[1], operation.name)
    else:
        return
    if xform_name(operation.name) != getattr(
        _call, "name", ""
    ):  # a call that opens the role's session, or one that reads
        return
    _call.lost = True
    if _call.name in CREATED:
        raise lost


def is_throttled(answer: dict[str, Any]) -> bool:
    return any(word in answer.get("Error", {}).get("Code", "") for word in THROTTLED)


def settle(account: Account, change: Change, send: Callable[[], Any]) -> Any:
    """Send the change; return AWS's answer, or what stands for it when an attempt was carried out whose answer was lost."""
    _call.lost, _call.name = False, change.call
    try:
        return send()
    except (AwsError, sdk.HTTPClientError) as error:
        _call.name = ""
        answer = find_outcome(account, change, error) if _call.lost else None
        if answer is not None:
            return answer
        if _call.lost and (change.call in CREATED or (isinstance(error, AwsError) and error.code == DENIED)):
            raise explain_unknown(change, error) from error
        raise
    finally:
        _call.name = ""


def find_outcome(account: Account, change: Change, error: Exception) -> Any:
    """Return the answer of the attempt that was carried out, {} where AWS's refusal says that it was, None when neither is known."""
    if change.call in CREATED:
        return adopt(account, change)
    if not isinstance(error, AwsError):
        return None
    if change.call == "replace_network_acl_association":  # a new association has taken the old one's place
        filters = [{"Name": "association.association-id", "Values": [change.args["AssociationId"]]}]
        return None if account.list_all("ec2", "describe_network_acls", "NetworkAcls", Filters=filters) else {}
    if change.sign == "-":
        is_gone = error.says(*GONE) or (error.code == DENIED and has_been_deleted(account, change))
        return {} if is_gone else None
    return {} if error.says(*ALREADY) and not error.says(FOREIGN) else None


def adopt(account: Account, change: Change) -> Any:
    """Return what the lost attempt made as its answer would have it: found by the stack's tag. None when it made nothing."""
    call, key, name, filters = CREATED[change.call]
    narrow = {filters[argument]: value for argument, value in change.args.items() if argument in filters}
    for pause in VISIBLE_S:
        found = [one for one in account.list_tagged(call, key, **narrow) if one.get("State") not in ENDING]
        if found:
            return {name: found[0]} if name else found[0]
        time.sleep(pause)
    return None


def has_been_deleted(account: Account, change: Change) -> bool:
    """Return whether EC2 lists the resource no more. A role that may delete by tag is denied what has no tag because it is gone."""
    noun = change.call.partition("_")[2]
    ids = {key: value for key, value in change.args.items() if key.endswith(("Id", "Ids", "Name"))}
    describe = f"describe_{noun.removesuffix('s')}s"
    if change.service != "ec2" or len(ids) != 1 or not hasattr(account.client("ec2"), describe):
        return False
    ((key, value),) = ids.items()
    plural = key if key.endswith("s") else f"{key}s"
    named: dict[str, Any] = {plural: value if isinstance(value, list) else [value]}
    try:
        answer = account.call("ec2", describe, **named)
    except AwsError as error:
        return error.says("NotFound")
    listed = [one for items in answer.values() if isinstance(items, list) for one in items]
    return all(one.get("State") in ENDING for one in listed)


def explain_unknown(change: Change, error: Exception) -> OpsError:
    """Return the error of a call whose outcome is unknown: the next run reads it."""
    return OpsError(
        f"The answer to {change.service}.{change.call} was lost, and AWS may have carried it out: {str(error).rstrip('.')}. "
        "Run the same command again: it goes on from what is there."
    )

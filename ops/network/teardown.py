"""The removal of the network, in the order that AWS requires."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ops.core.aws.account import Account
from ops.core.errors import OpsError
from ops.core.plan import Change, Steps, Wait
from ops.network.facts import Facts, list_network_users, list_parts
from ops.network.plan import build_ip_permission, poll_connect_endpoint_creation


def check_unused(account: Account, have: Facts) -> None:
    """Raise OpsError when something uses one of the networks, and name it."""
    vpcs = [one.vpc for one in (have, *have.surplus_vpcs) if one.vpc]
    if found := sorted({user for vpc in vpcs for user in list_network_users(account, vpc)}):
        raise OpsError(
            f"The network is in use by {', '.join(found)}. First: invoke ec2.down, invoke sm.delete, or wait for the job. Nothing was touched."
        )


def check_removed(account: Account) -> None:
    """Look again at everything with the stack's tag. Raises OpsError with what is still there."""
    if found := [ident for ident, _ in list_parts(account)]:
        raise OpsError(
            f"Still there, with the stack's tag: {', '.join(found)}. Run the same command again; what uses them: invoke net.status"
        )


def steps(have: Facts) -> Steps:
    """Yield the deletions in the order that AWS requires: gateways, endpoints, rules that name other groups, groups, subnets, VPC.

    What the plan has once may be there twice: everything with the stack's tag is deleted.
    """
    for gateway, vpc in (*([have.gateway] if have.gateway else []), *have.surplus_gateways):
        yield from gateway_steps(gateway, vpc)
    for other in have.surplus_vpcs:
        yield from steps(other)
    if have.vpc:
        yield from vpc_steps(have)


def gateway_steps(gateway: str, vpc: str) -> Steps:
    if vpc:
        args = {"InternetGatewayId": gateway, "VpcId": vpc}
        yield Change("ec2", "detach_internet_gateway", args, why="detach the internet gateway from the VPC")
    yield delete("the internet gateway", "delete_internet_gateway", InternetGatewayId=gateway)


def vpc_steps(have: Facts) -> Steps:
    yield from remove_endpoint_steps(have)
    ids = {name: group.id for name, group in have.groups.items()}
    for name, group in have.groups.items():
        for direction, found in (("ingress", group.ingress), ("egress", group.egress)):
            for rule in sorted(found):
                yield delete(
                    f"an {direction} rule of security group {name}",
                    f"revoke_security_group_{direction}",
                    GroupId=group.id,
                    IpPermissions=[build_ip_permission(rule, ids, have.s3_list)],
                )
    for name, group in have.groups.items():
        yield delete(f"security group {name}", "delete_security_group", GroupId=group.id)
    for zone, subnet in have.subnets.items():
        yield delete(f"the subnet in {zone}", "delete_subnet", SubnetId=subnet)
    for acl in filter(None, (have.acl, *have.surplus_acls)):
        yield delete("the network ACL", "delete_network_acl", NetworkAclId=acl)
    for table in filter(None, (have.routes, *have.surplus_tables)):
        yield delete("the route table", "delete_route_table", RouteTableId=table)
    if have.is_ours:
        yield delete("the VPC", "delete_vpc", VpcId=have.vpc)


def delete(what: str, call: str, **args: Any) -> Change:
    return Change("ec2", call, args, why=f"delete {what}")


def remove_endpoint_steps(have: Facts) -> Steps:
    """Yield the deletion of the endpoints, and the wait for their network interfaces."""
    if have.connect_endpoint:
        yield Wait(
            "the Instance Connect Endpoint",
            poll_connect_endpoint_creation,
            why="AWS deletes no endpoint that is being created",
        )
    for endpoint in filter(None, (have.connect_endpoint, *have.failed_connect_endpoints)):
        yield delete(
            "the Instance Connect Endpoint", "delete_instance_connect_endpoint", InstanceConnectEndpointId=endpoint
        )
    ends = [end for end in (have.s3_endpoint, *have.interfaces.values(), *have.surplus_endpoints) if end]
    if ends:
        yield delete("the VPC endpoints", "delete_vpc_endpoints", VpcEndpointIds=ends)
    if have.connect_endpoint or ends:
        yield Wait(
            "network interfaces",
            build_interfaces_poll(str(have.vpc)),
            why="those of the endpoints must be deleted before the security groups",
        )


def build_interfaces_poll(vpc: str) -> Callable[[Account], Any]:
    def until(account: Account) -> Any:
        remaining = account.list_all(
            "ec2", "describe_network_interfaces", "NetworkInterfaces", Filters=[{"Name": "vpc-id", "Values": [vpc]}]
        )
        return (
            f"{len(remaining)} left: {remaining[0].get('Description') or remaining[0]['NetworkInterfaceId']}"
            if remaining
            else None
        )

    return until

"""The removal of what is there twice: a lost answer, or two operators at once, can make a second VPC, route table, ACL or gateway."""

from __future__ import annotations

from ops.core.errors import OpsError
from ops.core.plan import Steps
from ops.core.settings import Settings
from ops.network import plan, teardown
from ops.network.facts import Facts


def steps(have: Facts, settings: Settings) -> Steps:
    """Yield the changes of the network's plan, and the removal of surplus parts that nothing uses.

    Raises OpsError when two VPCs have subnets, before the first change: both may be in use.
    """
    refuse_second_network(have)
    for gateway, vpc in have.surplus_gateways:
        yield from teardown.gateway_steps(gateway, vpc)
    for other in have.surplus_vpcs:
        yield from teardown.vpc_steps(other)
    yield from plan.steps(have, settings)
    for acl in have.surplus_acls:
        yield teardown.delete("a second network ACL", "delete_network_acl", NetworkAclId=acl)
    for table, is_used in have.surplus_tables.items():
        if not is_used:
            yield teardown.delete("a second route table", "delete_route_table", RouteTableId=table)
    if have.surplus_endpoints:
        ends = list(have.surplus_endpoints)
        yield teardown.delete("second VPC endpoints", "delete_vpc_endpoints", VpcEndpointIds=ends)


def refuse_second_network(have: Facts) -> None:
    full = [str(one.vpc) for one in (have, *have.surplus_vpcs) if one.subnets]
    if len(full) > 1:
        raise OpsError(
            f"This stack has {len(full)} VPCs with subnets, and should have one: {', '.join(full)}. Nothing was changed. "
            "Delete all of them, which is refused while one is in use, and make one: invoke net.down net.up"
        )

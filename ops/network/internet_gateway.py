"""The internet gateway. Only ec2.way public has one, with a route to it that only the box's public address can use."""

from __future__ import annotations

from typing import Any

from ops.core.errors import AwsError, OpsError
from ops.core.plan import Change, Steps
from ops.core.settings import Settings
from ops.network.facts import ANYWHERE, Facts, build_tag_specification


def steps(have: Facts, vpc: str, routes: str, settings: Settings) -> Steps:
    if settings.ec2.way == "public":
        yield from plan_gateway_setup(have, vpc, routes, settings)
    else:
        yield from plan_gateway_removal(have)


def plan_gateway_setup(have: Facts, vpc: str, routes: str, settings: Settings) -> Steps:
    own, port = settings.net.own_address, settings.ec2.public_port
    why = f"create an internet gateway; less safe: {own}/32 can reach port {port} of the box from the internet"
    gateway: Any = have.gateway[0] if have.gateway else None
    if gateway is None:
        args = build_tag_specification(settings, "internet-gateway", "public")
        answer = yield Change("ec2", "create_internet_gateway", args, why=why)
        gateway = answer["InternetGateway"]["InternetGatewayId"]
    if have.gateway is None or have.gateway[1] != have.vpc:
        args = {"InternetGatewayId": gateway, "VpcId": vpc}
        yield Change("ec2", "attach_internet_gateway", args, why="attach the internet gateway to the VPC")
    default = have.stray_routes.get(ANYWHERE)
    yield from plan_stray_route_removal(have, {ANYWHERE} if have.gateway and default == have.gateway[0] else set())
    if have.gateway is None or default != have.gateway[0]:
        args = {"RouteTableId": routes, "DestinationCidrBlock": ANYWHERE, "GatewayId": gateway}
        yield Change("ec2", "create_route", args, why="send the box's answers to the internet gateway")


def plan_gateway_removal(have: Facts) -> Steps:
    yield from plan_stray_route_removal(have, set())
    if have.gateway is None:
        return
    gateway, vpc = have.gateway
    why = "the internet gateway: ec2.way is not public"
    if vpc:
        try:
            yield Change(
                "ec2", "detach_internet_gateway", {"InternetGatewayId": gateway, "VpcId": vpc}, why=f"detach {why}"
            )
        except AwsError as error:
            if not error.says("DependencyViolation"):
                raise
            raise OpsError(
                "Cannot detach the internet gateway while a box has a public address. First: invoke ec2.down"
            ) from error
    yield Change("ec2", "delete_internet_gateway", {"InternetGatewayId": gateway}, why=f"delete {why}")


def plan_stray_route_removal(have: Facts, keep: set[str]) -> Steps:
    """Yield the removal of each route that is neither in the plan nor among the destinations `keep`."""
    for destination, target in sorted(have.stray_routes.items()):
        if destination not in keep:
            args = {"RouteTableId": have.routes, "DestinationCidrBlock": destination}
            where = f" to {target}" if target else ""
            why = f"delete the route {destination}{where}: it is not in the plan"
            yield Change("ec2", "delete_route", args, why=why)

"""The internet gateway: none, unless ec2.way is public; then a gateway, and a route that only the box's own address can use."""

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
    cost = f"ec2.way public costs safety: the box is on the internet, though only {own}/32 may knock, on port {port}"
    gateway: Any = have.gateway[0] if have.gateway else None
    if gateway is None:
        args = build_tag_specification(settings, "internet-gateway", "public")
        answer = yield Change("ec2", "create_internet_gateway", args, why=cost)
        gateway = answer["InternetGateway"]["InternetGatewayId"]
    if have.gateway is None or have.gateway[1] != have.vpc:
        args = {"InternetGatewayId": gateway, "VpcId": vpc}
        yield Change("ec2", "attach_internet_gateway", args, why="the gateway is not attached to the network")
    there = have.stray_routes.get(ANYWHERE)
    yield from plan_stray_route_removal(have, {ANYWHERE} if have.gateway and there == have.gateway[0] else set())
    if have.gateway is None or there != have.gateway[0]:
        args = {"RouteTableId": routes, "DestinationCidrBlock": ANYWHERE, "GatewayId": gateway}
        yield Change("ec2", "create_route", args, why="the box's answers have no way back to you")


def plan_gateway_removal(have: Facts) -> Steps:
    yield from plan_stray_route_removal(have, set())
    if have.gateway is None:
        return
    gateway, vpc = have.gateway
    why = "ec2.way is not public: nothing needs a way to the internet"
    if vpc:
        try:
            yield Change("ec2", "detach_internet_gateway", {"InternetGatewayId": gateway, "VpcId": vpc}, why=why)
        except AwsError as error:
            if not error.says("DependencyViolation"):
                raise
            raise OpsError("A box still has a public address, and holds the gateway. First: invoke ec2.down") from error
    yield Change("ec2", "delete_internet_gateway", {"InternetGatewayId": gateway}, why=why)


def plan_stray_route_removal(have: Facts, kept: set[str]) -> Steps:
    """Yield the removal of each stray route not in `kept`: it leads packets elsewhere than the plan says."""
    for destination, target in sorted(have.stray_routes.items()):
        if destination not in kept:
            args = {"RouteTableId": have.routes, "DestinationCidrBlock": destination}
            yield Change(
                "ec2", "delete_route", args, why=f"the route {destination} to {target or 'nowhere'} is not in the plan"
            )

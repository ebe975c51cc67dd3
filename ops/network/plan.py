"""The plan of the network: what should exist, and the changes from what does."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_network
from typing import Any

from ops.core import pricing
from ops.core.aws.account import Account
from ops.core.plan import Change, Steps, Wait
from ops.core.settings import Settings
from ops.network import internet_gateway
from ops.network.facts import ANYWHERE, S3_PEER, Entry, Facts, Group, Rule, build_tag_specification

DEFAULT_EGRESS = Rule("-1", -1, -1, ANYWHERE)  # what EC2 puts into every new group
GROUP_PURPOSES = {
    "door": "SSH enters here",
    "box": "the GPU box",
    "job": "the hosts of training jobs",
    "vpce": "interface endpoints",
}


def define_security_groups(settings: Settings) -> dict[str, tuple[set[Rule], set[Rule]]]:
    """Return name -> (ingress, egress). Only SSH from the group "door" reaches the box, and the box reaches only S3.

    With ec2.way public, one address on the internet may connect too.
    """
    to_s3 = Rule("tcp", 443, 443, S3_PEER)
    groups = {
        "door": (set[Rule](), {Rule("tcp", 22, 22, "@box")}),
        "box": ({Rule("tcp", 22, 22, "@door")}, {to_s3}),
        "job": (
            {Rule("-1", -1, -1, "@job")},
            {Rule("-1", -1, -1, "@job"), to_s3},
        ),  # hosts of one job talk to each other
    }
    if settings.ec2.way == "public":
        port = settings.ec2.public_port
        groups["box"][0].add(Rule("tcp", port, port, f"{settings.net.own_address}/32"))
    if settings.net.interface_endpoints:
        groups["vpce"] = ({Rule("tcp", 443, 443, "@box"), Rule("tcp", 443, 443, "@job")}, set[Rule]())
        for name in ("box", "job"):
            groups[name][1].add(Rule("tcp", 443, 443, "@vpce"))
    return groups


def define_acl_entries(settings: Settings) -> set[Entry]:
    """Return the network ACL's rules. ACLs are stateless, so S3's answers must be allowed in, on ephemeral ports."""
    cidr = settings.net.cidr
    entries = {
        Entry(100, False, "-1", -1, -1, cidr),
        Entry(110, False, "6", 1024, 65535, ANYWHERE),
        Entry(100, True, "-1", -1, -1, cidr),
        Entry(110, True, "6", 443, 443, ANYWHERE),
    }
    if settings.ec2.way == "public":
        own, port = f"{settings.net.own_address}/32", settings.ec2.public_port
        entries |= {Entry(120, False, "6", port, port, own), Entry(120, True, "6", 1024, 65535, own)}
    return entries


def choose_subnet_cidrs(settings: Settings, have: Facts) -> dict[str, str]:
    """Return a free CIDR for each zone that has no subnet yet."""
    parts = (str(part) for part in ip_network(settings.net.cidr).subnets(prefixlen_diff=4))
    free = (part for part in parts if part not in have.taken)
    return dict(zip((zone for zone in settings.net.zones if zone not in have.subnets), free, strict=False))


def steps(have: Facts, settings: Settings) -> Steps:
    vpc: Any = have.vpc
    if vpc is None:
        answer = yield Change(
            "ec2",
            "create_vpc",
            {"CidrBlock": settings.net.cidr, **build_tag_specification(settings, "vpc", "vpc")},
            why=f"create the VPC, {settings.net.cidr}",
        )
        vpc = answer["Vpc"]["VpcId"]
    if not have.hostnames:
        yield Change(
            "ec2",
            "modify_vpc_attribute",
            {"VpcId": vpc, "EnableDnsHostnames": {"Value": True}},
            why="turn on DNS host names (for interface endpoints)",
        )
    subnets: dict[str, Any] = yield from plan_subnets(have, vpc, settings)
    routes = yield from plan_routes(have, vpc, subnets, settings)
    yield from internet_gateway.steps(have, vpc, routes, settings)
    yield from plan_network_acl(have, vpc, subnets, settings)
    groups = yield from plan_security_groups(have, vpc, settings)
    yield from plan_group_rules(have, groups, settings)
    yield from plan_endpoints(have, vpc, subnets, routes, groups, settings)


def plan_subnets(have: Facts, vpc: str, settings: Settings) -> Steps:
    subnets: dict[str, Any] = dict(have.subnets)
    for zone, cidr in choose_subnet_cidrs(settings, have).items():
        args = {
            "VpcId": vpc,
            "AvailabilityZone": zone,
            "CidrBlock": cidr,
            **build_tag_specification(settings, "subnet", zone),
        }
        answer = yield Change("ec2", "create_subnet", args, why=f"create a private subnet in {zone}, {cidr}")
        subnets[zone] = answer["Subnet"]["SubnetId"]
    return subnets


def plan_routes(have: Facts, vpc: str, subnets: dict[str, Any], settings: Settings) -> Steps:
    """Yield the changes for the private route table; return its id. S3's endpoint and internet_gateway add their own routes."""
    routes: Any = have.routes
    if routes is None:
        answer = yield Change(
            "ec2",
            "create_route_table",
            {"VpcId": vpc, **build_tag_specification(settings, "route-table", "private")},
            why="create a private route table (no route to the internet)",
        )
        routes = answer["RouteTable"]["RouteTableId"]
    for zone, subnet in subnets.items():
        if have.subnets.get(zone) is None or have.subnets[zone] not in have.routed:
            yield Change(
                "ec2",
                "associate_route_table",
                {"RouteTableId": routes, "SubnetId": subnet},
                why=f"use the private route table for the subnet in {zone}",
            )
    return routes


def plan_network_acl(have: Facts, vpc: str, subnets: dict[str, Any], settings: Settings) -> Steps:
    acl: Any = have.acl
    if acl is None:
        answer = yield Change(
            "ec2",
            "create_network_acl",
            {"VpcId": vpc, **build_tag_specification(settings, "network-acl", "private")},
            why="create a network ACL (the VPC's default one allows all traffic)",
        )
        acl = answer["NetworkAcl"]["NetworkAclId"]
    wanted = define_acl_entries(settings)
    for old in sorted(have.entries - wanted):
        yield Change(
            "ec2",
            "delete_network_acl_entry",
            {"NetworkAclId": acl, "RuleNumber": old.number, "Egress": old.egress},
            why=f"delete {'outbound' if old.egress else 'inbound'} rule {old.number}: it is not in the plan",
        )
    for new in sorted(wanted - have.entries):
        yield Change(
            "ec2",
            "create_network_acl_entry",
            build_entry_args(acl, new),
            why=f"rule {new.number}: allow {describe_traffic(new, new.cidr, new.egress)}",
        )
    for zone, subnet in subnets.items():
        known = have.associations.get(have.subnets.get(zone, ""))
        if known and known[0] == have.acl:
            continue
        association: Any = known[1] if known else None
        if association is None:
            answer = yield Wait(
                f"the network ACL of {zone}",
                build_association_poll(subnet),
                why="a new subnet starts with the VPC's default ACL",
            )
            association = answer["id"]
        yield Change(
            "ec2",
            "replace_network_acl_association",
            {"AssociationId": association, "NetworkAclId": acl},
            why=f"use the private network ACL for the subnet in {zone}",
        )


def build_entry_args(acl: str, new: Entry) -> dict[str, Any]:
    ports = {} if new.first == -1 else {"PortRange": {"From": new.first, "To": new.last}}
    return {
        "NetworkAclId": acl,
        "RuleNumber": new.number,
        "Egress": new.egress,
        "Protocol": new.protocol,
        "RuleAction": "allow",
        "CidrBlock": new.cidr,
        **ports,
    }


def describe_traffic(rule: Entry | Rule, peer: str, egress: bool) -> str:
    """Return what a rule is about: `port 22 from group door`, `ports 1024-65535 to 0.0.0.0/0`, `all traffic to S3`."""
    ports = f"port {rule.first}" if rule.first == rule.last else f"ports {rule.first}-{rule.last}"
    peer = "S3" if peer == S3_PEER else f"group {peer[1:]}" if peer.startswith("@") else peer
    return f"{'all traffic' if rule.first == -1 else ports} {'to' if egress else 'from'} {peer}"


def build_association_poll(subnet: str) -> Callable[[Account], Any]:
    """Return a poll for a Wait, which ends with {"id": the subnet's association with its ACL} once EC2 knows the subnet."""

    def until(account: Account) -> Any:
        filters = [{"Name": "association.subnet-id", "Values": [subnet]}]
        acls = account.list_all("ec2", "describe_network_acls", "NetworkAcls", Filters=filters)
        found = [a["NetworkAclAssociationId"] for acl in acls for a in acl["Associations"] if a["SubnetId"] == subnet]
        return {"id": found[0]} if found else "not visible yet"

    return until


def plan_security_groups(have: Facts, vpc: str, settings: Settings) -> Steps:
    groups: dict[str, Any] = {name: group.id for name, group in have.groups.items()}
    for name in define_security_groups(settings):
        if name not in groups:
            args = {
                "GroupName": f"{settings.prefix}-{name}",
                "Description": f"Kennel: {name}",
                "VpcId": vpc,
                **build_tag_specification(settings, "security-group", name),
            }
            why = f'create security group "{name}" ({GROUP_PURPOSES[name]})'
            answer = yield Change("ec2", "create_security_group", args, why=why)
            groups[name] = answer["GroupId"]
    return groups


def plan_group_rules(have: Facts, groups: dict[str, Any], settings: Settings) -> Steps:
    for name, (ingress, egress) in define_security_groups(settings).items():
        present = have.groups.get(name, Group("", egress=frozenset({DEFAULT_EGRESS})))
        for direction, wanted, found in (("ingress", ingress, present.ingress), ("egress", egress, present.egress)):
            changes = [("revoke", "no longer allow", rule) for rule in sorted(found - wanted)]
            changes += [("authorize", "allow", rule) for rule in sorted(wanted - found)]
            for call, verb, rule in changes:
                yield Change(
                    "ec2",
                    f"{call}_security_group_{direction}",
                    {"GroupId": groups[name], "IpPermissions": [build_ip_permission(rule, groups, have.s3_list)]},
                    why=f"{name}: {verb} {describe_traffic(rule, rule.peer, direction == 'egress')}",
                )


def build_ip_permission(rule: Rule, groups: dict[str, Any], s3_list: str) -> dict[str, Any]:
    ports = {} if rule.first == -1 else {"FromPort": rule.first, "ToPort": rule.last}
    if rule.peer == S3_PEER:
        peer: dict[str, Any] = {"PrefixListIds": [{"PrefixListId": s3_list}]}
    elif rule.peer.startswith("@"):
        peer = {"UserIdGroupPairs": [{"GroupId": groups[rule.peer[1:]]}]}
    elif rule.peer.startswith(("sg-", "pl-")):
        peer = (
            {"UserIdGroupPairs": [{"GroupId": rule.peer}]}
            if rule.peer.startswith("sg-")
            else {"PrefixListIds": [{"PrefixListId": rule.peer}]}
        )
    else:
        peer = {"Ipv6Ranges": [{"CidrIpv6": rule.peer}]} if ":" in rule.peer else {"IpRanges": [{"CidrIp": rule.peer}]}
    return {"IpProtocol": rule.protocol, **ports, **peer}


def plan_endpoints(
    have: Facts, vpc: str, subnets: dict[str, Any], routes: str, groups: dict[str, Any], settings: Settings
) -> Steps:
    region = settings.aws.region
    if have.s3_endpoint is None:
        args = {
            "VpcId": vpc,
            "VpcEndpointType": "Gateway",
            "ServiceName": f"com.amazonaws.{region}.s3",
            "RouteTableIds": [routes],
            **build_tag_specification(settings, "vpc-endpoint", "s3"),
        }
        yield Change("ec2", "create_vpc_endpoint", args, why="create the gateway endpoint for S3 (free)")
    for service in settings.net.interface_endpoints:
        if service not in have.interfaces:
            args = {
                "VpcId": vpc, "VpcEndpointType": "Interface", "ServiceName": f"com.amazonaws.{region}.{service}", "SubnetIds": list(subnets.values()),
                "SecurityGroupIds": [groups["vpce"]], "PrivateDnsEnabled": True, **build_tag_specification(settings, "vpc-endpoint", service),
            }  # fmt: skip
            yield Change(
                "ec2",
                "create_vpc_endpoint",
                args,
                why=f"create the interface endpoint for {service}",
                dollars_per_hour=pricing.price_interface_endpoint(len(subnets)),
            )
    for failed in have.failed_connect_endpoints:
        yield Change(
            "ec2",
            "delete_instance_connect_endpoint",
            {"InstanceConnectEndpointId": failed},
            why=f"delete the Instance Connect Endpoint {failed}, which AWS failed to create",
        )
    if have.connect_endpoint is None:
        args = {
            "SubnetId": subnets[settings.net.zones[0]],
            "SecurityGroupIds": [groups["door"]],
            "PreserveClientIp": False,
            **build_tag_specification(settings, "instance-connect-endpoint", "door"),
        }
        yield Change(
            "ec2",
            "create_instance_connect_endpoint",
            args,
            why="create the Instance Connect Endpoint, for SSH to the box (free)",
        )
    if have.connect_endpoint is None or have.is_connect_endpoint_pending:
        yield Wait(
            "the Instance Connect Endpoint", poll_connect_endpoint_creation, why="AWS takes minutes to create one"
        )


def poll_connect_endpoint_creation(account: Account) -> str | None:
    found = account.list_tagged("describe_instance_connect_endpoints", "InstanceConnectEndpoints")
    states = [one["State"] for one in found if not one["State"].startswith("delete")]
    return None if "create-complete" in states else (states or ["not visible yet"])[0]

"""Reachability of a box: whether a packet and its answer pass the network's rules, from EC2's describe responses alone.

`ec2.reach` explains a failed connection with it, and the sandbox's tunnel follows it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Any

SSH = 22
EPHEMERAL = (1024, 65535)
TARGETS = (
    "GatewayId",
    "NatGatewayId",
    "NetworkInterfaceId",
    "InstanceId",
    "TransitGatewayId",
    "VpcPeeringConnectionId",
)


@dataclass(frozen=True)
class Rules:
    """The rules of a network: security groups by id; network ACLs and route tables by the subnet they apply to."""

    groups: dict[str, dict[str, Any]]
    acls: dict[str, dict[str, Any]]
    routes: dict[str, list[dict[str, Any]]]


def index_rules(
    groups: list[dict[str, Any]],
    acls: list[dict[str, Any]],
    tables: list[dict[str, Any]],
    subnets: list[dict[str, Any]],
) -> Rules:
    """Return the rules in the describe calls' responses. A subnet without a route table of its own uses its VPC's main one."""
    of_subnet = {a["SubnetId"]: t["Routes"] for t in tables for a in t.get("Associations", []) if "SubnetId" in a}
    main = {t["VpcId"]: t["Routes"] for t in tables if any(a.get("Main") for a in t.get("Associations", []))}
    return Rules(
        {group["GroupId"]: group for group in groups},
        {a["SubnetId"]: acl for acl in acls for a in acl["Associations"]},
        {s["SubnetId"]: of_subnet.get(s["SubnetId"], main.get(s["VpcId"], [])) for s in subnets},
    )


def is_open_in_group(permissions: list[dict[str, Any]], port: int, peer_groups: list[str], peer_address: str) -> bool:
    """Return whether one of a security group's rules allows TCP on `port` to or from this peer."""
    for rule in permissions:
        if rule["IpProtocol"] not in ("tcp", "6", "-1"):
            continue
        if rule["IpProtocol"] != "-1" and not rule.get("FromPort", 0) <= port <= rule.get("ToPort", 65535):
            continue
        if any(pair["GroupId"] in peer_groups for pair in rule.get("UserIdGroupPairs", [])):
            return True
        if any(ip_address(peer_address) in ip_network(entry["CidrIp"]) for entry in rule.get("IpRanges", [])):
            return True
    return False


def is_open_in_acl(entries: list[dict[str, Any]], egress: bool, ports: tuple[int, int], peer_address: str) -> bool:
    """Return whether a network ACL allows TCP on all of `ports`: the first matching rule by number decides; no match denies."""
    for entry in sorted((e for e in entries if e["Egress"] == egress), key=lambda e: e["RuleNumber"]):
        if "CidrBlock" not in entry or ip_address(peer_address) not in ip_network(entry["CidrBlock"]):
            continue
        if entry["Protocol"] not in ("6", "-1"):
            continue
        span = entry.get("PortRange", {"From": 0, "To": 65535})
        if entry["Protocol"] == "-1" or (span["From"] <= ports[0] and ports[1] <= span["To"]):
            return str(entry["RuleAction"]) == "allow"
        if entry["RuleAction"] == "deny" and span["From"] <= ports[1] and ports[0] <= span["To"]:
            return False  # some of the ports are denied before a later rule could allow them all
    return False


def find_route_target(route: dict[str, Any]) -> str:
    """Return where a route leads: local, igw-..., another resource's id; "" when that was deleted."""
    return "" if route.get("State") == "blackhole" else next((route[name] for name in TARGETS if route.get(name)), "")


def find_next_hop(routes: list[dict[str, Any]], address: str) -> str:
    """Return where the most specific route to an address leads; "" without a route."""
    fitting = [
        r
        for r in routes
        if "DestinationCidrBlock" in r and ip_address(address) in ip_network(r["DestinationCidrBlock"])
    ]
    if not fitting:
        return ""
    return find_route_target(max(fitting, key=lambda r: ip_network(r["DestinationCidrBlock"]).prefixlen))


def list_box_groups(box: dict[str, Any]) -> list[str]:
    return [group["GroupId"] for group in box["NetworkInterfaces"][0]["Groups"]]


def derive_endpoint_address(subnet: dict[str, Any]) -> str:
    """Return an address that an Instance Connect Endpoint in the subnet may have; the first four belong to AWS."""
    return str(ip_network(subnet["CidrBlock"])[4])


def trace_from_endpoint(
    box: dict[str, Any], endpoint: dict[str, Any], endpoint_address: str, rules: Rules
) -> Iterator[tuple[str, str]]:
    """Yield each hop from an Instance Connect Endpoint to a box, and what stops the packet there, or ""."""
    address, box_groups, source = box["PrivateIpAddress"], list_box_groups(box), endpoint["SecurityGroupIds"]
    yield "security groups", explain_group_block(rules, source, box_groups, address, endpoint_address)
    to_box, answers = "", ""
    if box["SubnetId"] != endpoint["SubnetId"]:  # network ACLs apply only between subnets
        box_entries, endpoint_entries = (
            rules.acls[box["SubnetId"]]["Entries"],
            rules.acls[endpoint["SubnetId"]]["Entries"],
        )
        if not (
            is_open_in_acl(endpoint_entries, True, (SSH, SSH), address)
            and is_open_in_acl(box_entries, False, (SSH, SSH), endpoint_address)
        ):
            to_box = "a network ACL stops port 22 on the way to the box"
        if not (
            is_open_in_acl(box_entries, True, EPHEMERAL, endpoint_address)
            and is_open_in_acl(endpoint_entries, False, EPHEMERAL, address)
        ):
            answers = "a network ACL stops the answers (ports 1024-65535)"
    yield "network ACLs, to the box", to_box
    yield "network ACLs, answers", answers
    strays = [
        f"the route from {subnet} to {target} leads to {hop or 'no target'}, not through the VPC"
        for subnet, target in ((endpoint["SubnetId"], address), (box["SubnetId"], endpoint_address))
        if (hop := find_next_hop(rules.routes[subnet], target)) != "local"
    ]
    yield "routes", strays[0] if strays else ""


def explain_group_block(
    rules: Rules, source: list[str], box_groups: list[str], address: str, endpoint_address: str
) -> str:
    if not any(is_open_in_group(rules.groups[g]["IpPermissionsEgress"], SSH, box_groups, address) for g in source):
        return "the endpoint's security group does not allow port 22 out to the box"
    if not any(is_open_in_group(rules.groups[g]["IpPermissions"], SSH, source, endpoint_address) for g in box_groups):
        return "the box's security group does not allow port 22 in from the endpoint"
    return ""


def trace_from_internet(box: dict[str, Any], address: str, port: int, rules: Rules) -> Iterator[tuple[str, str]]:
    """Yield each hop from an address outside to a box with a public one, and what stops the packet there, or ""."""
    entries = rules.acls[box["SubnetId"]]["Entries"]
    allowed = any(is_open_in_group(rules.groups[g]["IpPermissions"], port, [], address) for g in list_box_groups(box))
    yield "security groups", "" if allowed else f"the box's security group does not allow port {port} in from {address}"
    open_in = is_open_in_acl(entries, False, (port, port), address)
    yield "network ACLs, to the box", "" if open_in else f"a network ACL stops port {port} on the way to the box"
    open_out = is_open_in_acl(entries, True, EPHEMERAL, address)
    yield "network ACLs, answers", "" if open_out else "a network ACL stops the answers (ports 1024-65535)"
    hop = find_next_hop(rules.routes[box["SubnetId"]], address)
    stray = f"the route from {box['SubnetId']} to {address} leads to {hop or 'no target'}, not to an internet gateway"
    yield "routes", "" if hop.startswith("igw-") else stray

"""Whether a packet gets from the Instance Connect Endpoint to a box, by the rules of the network: pure, over AWS's answers."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import Any

SSH = 22
EPHEMERAL = (1024, 65535)


def open_groups(permissions: list[dict[str, Any]], port: int, peer_groups: list[str], peer_address: str) -> bool:
    """Whether one of a security group's rules lets TCP on `port` pass to or from this peer."""
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


def open_acl(entries: list[dict[str, Any]], egress: bool, ports: tuple[int, int], peer_address: str) -> bool:
    """Whether a network ACL lets TCP on all of `ports` pass: the first matching rule by number decides, none denies."""
    for entry in sorted((e for e in entries if e["Egress"] == egress), key=lambda e: e["RuleNumber"]):
        if "CidrBlock" not in entry or ip_address(peer_address) not in ip_network(entry["CidrBlock"]):
            continue
        if entry["Protocol"] not in ("6", "-1"):
            continue
        span = entry.get("PortRange", {"From": 0, "To": 65535})
        if entry["Protocol"] == "-1" or (span["From"] <= ports[0] and ports[1] <= span["To"]):
            return entry["RuleAction"] == "allow"
    return False


def blocked(
    box: dict[str, Any], endpoint: dict[str, Any], endpoint_address: str, groups: dict[str, Any], acls: dict[str, Any]
) -> str:
    """What stops the packet, or "". `groups` by id and `acls` by subnet id, as the describe calls give them."""
    address = box["PrivateIpAddress"]
    box_groups = [group["GroupId"] for group in box["NetworkInterfaces"][0]["Groups"]]
    door = endpoint["SecurityGroupIds"]
    if not any(open_groups(groups[g]["IpPermissionsEgress"], SSH, box_groups, address) for g in door):
        return "the endpoint's security group lets nothing out to port 22 of the box"
    if not any(open_groups(groups[g]["IpPermissions"], SSH, door, endpoint_address) for g in box_groups):
        return "the box's security group lets nothing in from the endpoint to port 22"
    if box["SubnetId"] == endpoint["SubnetId"]:
        return ""  # network ACLs are asked only between subnets
    there, here = acls[box["SubnetId"]]["Entries"], acls[endpoint["SubnetId"]]["Entries"]
    if not (open_acl(here, True, (SSH, SSH), address) and open_acl(there, False, (SSH, SSH), endpoint_address)):
        return "a network ACL stops port 22 on the way to the box"
    if not (open_acl(there, True, EPHEMERAL, endpoint_address) and open_acl(here, False, EPHEMERAL, address)):
        return "a network ACL stops the answers (ports 1024-65535)"
    return ""

"""Whether a packet passes, by the rules of AWS's networks. tests/sandbox/test_reach.py breaks each hop for real."""

import pytest

from ops.network.reachability import (
    Rules,
    find_next_hop,
    index_rules,
    is_open_in_acl,
    is_open_in_group,
    trace_from_endpoint,
    trace_from_internet,
)

DOOR = {"SecurityGroupIds": ["sg-door"], "SubnetId": "subnet-a"}
BOX = {
    "PrivateIpAddress": "10.20.16.9",
    "SubnetId": "subnet-b",
    "NetworkInterfaces": [{"Groups": [{"GroupId": "sg-box"}]}],
}
PAIR = {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22}
GROUPS = {
    "sg-door": {"IpPermissions": [], "IpPermissionsEgress": [{**PAIR, "UserIdGroupPairs": [{"GroupId": "sg-box"}]}]},
    "sg-box": {"IpPermissions": [{**PAIR, "UserIdGroupPairs": [{"GroupId": "sg-door"}]}], "IpPermissionsEgress": []},
}


def entry(number, egress, first, last, action="allow", cidr="10.20.0.0/16", protocol="6"):
    ports = {"From": first, "To": last}
    return {
        "RuleNumber": number,
        "Egress": egress,
        "Protocol": protocol,
        "RuleAction": action,
        "CidrBlock": cidr,
        "PortRange": ports,
    }


OPEN = [entry(100, True, 0, 65535), entry(100, False, 0, 65535)]


LOCAL = [{"DestinationCidrBlock": "10.20.0.0/16", "GatewayId": "local", "State": "active"}]
TO_THE_WORLD = [*LOCAL, {"DestinationCidrBlock": "0.0.0.0/0", "GatewayId": "igw-1", "State": "active"}]


def stop(groups=GROUPS, here=OPEN, there=OPEN, routes=LOCAL):
    rules = Rules(
        groups, {"subnet-a": {"Entries": here}, "subnet-b": {"Entries": there}}, {"subnet-a": LOCAL, "subnet-b": routes}
    )
    return "".join(why for _, why in trace_from_endpoint(BOX, DOOR, "10.20.0.4", rules))


def from_outside(groups=None, there=None, routes=TO_THE_WORLD, address="203.0.113.7"):
    rule = {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": [{"CidrIp": "203.0.113.7/32"}]}
    rules = Rules(
        groups or {"sg-box": {"IpPermissions": [rule]}},
        {"subnet-b": {"Entries": there or [{**e, "CidrBlock": "0.0.0.0/0"} for e in OPEN]}},
        {"subnet-b": routes},
    )
    return "".join(why for _, why in trace_from_internet(BOX, address, 22, rules))


def test_complete_path_is_open():
    assert stop() == ""


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (
            {"groups": {**GROUPS, "sg-door": {**GROUPS["sg-door"], "IpPermissionsEgress": []}}},
            "does not allow port 22 out",
        ),
        ({"groups": {**GROUPS, "sg-box": {**GROUPS["sg-box"], "IpPermissions": []}}}, "does not allow port 22 in"),
        ({"here": [entry(100, False, 0, 65535)]}, "stops port 22"),
        ({"there": [entry(90, False, 22, 22, "deny"), *OPEN]}, "stops port 22"),
        ({"there": [entry(100, False, 0, 65535), entry(100, True, 443, 443)]}, "stops the answers"),
        ({"here": [entry(100, True, 0, 65535), entry(100, False, 22, 22)]}, "stops the answers"),
        ({"there": [entry(90, True, 5000, 6000, "deny"), *OPEN]}, "stops the answers"),
        (
            {"routes": [*LOCAL, {"DestinationCidrBlock": "10.20.0.0/20", "NetworkInterfaceId": "eni-1"}]},
            "leads to eni-1",
        ),
    ],
    ids=[
        "door out",
        "box in",
        "acl out",
        "acl deny first",
        "answers out",
        "answers in",
        "some answers denied",
        "a stray route",
    ],
)
def test_each_hop_can_block_the_path(kind, words):
    assert words in stop(**kind)


def test_rules_match_by_address_and_port_range():
    rule = [{"IpProtocol": "tcp", "FromPort": 20, "ToPort": 30, "IpRanges": [{"CidrIp": "10.0.0.0/8"}]}]
    assert is_open_in_group(rule, 22, [], "10.9.9.9")
    assert not is_open_in_group(rule, 22, [], "11.9.9.9")
    assert not is_open_in_group(rule, 31, [], "10.9.9.9")
    assert not is_open_in_group([{**rule[0], "IpProtocol": "udp"}], 22, [], "10.9.9.9")


def test_acl_without_rules_denies():
    assert not is_open_in_acl([], False, (22, 22), "10.20.0.4")


def test_path_from_outside_admits_one_address():
    assert from_outside() == ""
    assert "does not allow port 22 in from 203.0.113.8" in from_outside(address="203.0.113.8")
    assert "not to an internet gateway" in from_outside(routes=LOCAL)
    assert "on the way to the box" in from_outside(there=[{**OPEN[0], "CidrBlock": "0.0.0.0/0"}])
    assert "stops the answers" in from_outside(there=[{**OPEN[1], "CidrBlock": "0.0.0.0/0"}])


def test_most_specific_route_wins_unless_it_is_a_blackhole():
    """The most specific route wins, and a blackhole leads nowhere."""
    assert find_next_hop(TO_THE_WORLD, "10.20.1.1") == "local"
    assert find_next_hop(TO_THE_WORLD, "8.8.8.8") == "igw-1"
    assert find_next_hop([{**TO_THE_WORLD[1], "State": "blackhole"}], "8.8.8.8") == ""
    assert find_next_hop([], "8.8.8.8") == ""


def test_subnet_without_a_table_uses_the_main_one():
    tables = [
        {"VpcId": "vpc-1", "Routes": ["main"], "Associations": [{"Main": True}]},
        {"VpcId": "vpc-1", "Routes": ["own"], "Associations": [{"SubnetId": "subnet-a"}]},
    ]
    subnets = [{"SubnetId": name, "VpcId": "vpc-1"} for name in ("subnet-a", "subnet-b")]
    assert index_rules([], [], tables, subnets).routes == {"subnet-a": ["own"], "subnet-b": ["main"]}

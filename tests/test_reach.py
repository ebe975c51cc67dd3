"""The sandbox's network lets a packet through only where AWS's would: each hop is broken for real, and mended."""

import pytest

from ops import change
from ops.net import facts, plan
from sandbox.reach import blocked, open_acl, open_groups

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


def stop(groups=GROUPS, here=OPEN, there=OPEN):
    return blocked(BOX, DOOR, "10.20.0.4", groups, {"subnet-a": {"Entries": here}, "subnet-b": {"Entries": there}})


def test_the_whole_path_is_open():
    assert stop() == ""


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ({"groups": {**GROUPS, "sg-door": {**GROUPS["sg-door"], "IpPermissionsEgress": []}}}, "lets nothing out"),
        ({"groups": {**GROUPS, "sg-box": {**GROUPS["sg-box"], "IpPermissions": []}}}, "lets nothing in"),
        ({"here": [entry(100, False, 0, 65535)]}, "stops port 22"),
        ({"there": [entry(90, False, 22, 22, "deny"), *OPEN]}, "stops port 22"),
        ({"there": [entry(100, False, 0, 65535), entry(100, True, 443, 443)]}, "stops the answers"),
        ({"here": [entry(100, True, 0, 65535), entry(100, False, 22, 22)]}, "stops the answers"),
    ],
    ids=["door out", "box in", "acl out", "acl deny first", "answers out", "answers in"],
)
def test_each_hop_can_stop_it(kind, words):
    assert words in stop(**kind)


def test_rules_by_address_and_by_range():
    rule = [{"IpProtocol": "tcp", "FromPort": 20, "ToPort": 30, "IpRanges": [{"CidrIp": "10.0.0.0/8"}]}]
    assert open_groups(rule, 22, [], "10.9.9.9")
    assert not open_groups(rule, 22, [], "11.9.9.9")
    assert not open_groups(rule, 31, [], "10.9.9.9")
    assert not open_groups([{**rule[0], "IpProtocol": "udp"}], 22, [], "10.9.9.9")


def test_no_rule_of_an_acl_means_no():
    assert not open_acl([], False, (22, 22), "10.20.0.4")


@pytest.mark.parametrize("ways", [("box", "ingress"), ("door", "egress")], ids=["box in", "door out"])
def test_a_rule_taken_away_cuts_the_real_connection_and_net_up_mends_it(stacks, ways):
    cli = stacks("reach")
    cli("iam.apply", "net.up", "ec2.up")
    assert cli("ec2.run", "echo reached").out == "reached\n"
    name, way = ways
    have = facts.read(cli.account)
    ids = {n: group.id for n, group in have.groups.items()}
    (rule,) = [r for r in getattr(have.groups[name], way) if r.first == 22]
    getattr(cli.account.client("ec2"), f"revoke_security_group_{way}")(
        GroupId=ids[name], IpPermissions=[plan.permission(rule, ids, have.s3_list)]
    )
    cut = cli("ec2.run", "echo reached", ok=False)
    assert cut.code == 1
    assert "The tunnel was refused" in cut.err
    assert "runbooks/box-unreachable.md" in cut.err
    assert cli("ec2.status", ok=False).code == 7
    assert len(change.preview(plan.steps(facts.read(cli.account), cli.settings))) == 1
    cli("net.up")
    assert cli("ec2.run", "echo reached").out == "reached\n"

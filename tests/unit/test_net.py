"""The network's plan, by equality; a second run that changes nothing; drift that is repaired."""

import pytest

from ops.core import plan as change
from ops.core.errors import OpsError
from ops.core.plan import Change
from ops.network import plan, teardown
from ops.network.facts import ANYWHERE, Facts, Group, Rule
from tests.conftest import settings_of

SETTINGS = settings_of()
COMPLETE = Facts(
    s3_list="pl-1",
    vpc="vpc-1",
    hostnames=True,
    subnets={"us-east-1a": "subnet-a", "us-east-1b": "subnet-b"},
    routes="rtb-1",
    routed=frozenset({"subnet-a", "subnet-b"}),
    groups={
        name: Group(f"sg-{name}", frozenset(ingress), frozenset(egress))
        for name, (ingress, egress) in plan.define_security_groups(SETTINGS).items()
    },
    acl="acl-1",
    entries=frozenset(plan.define_acl_entries(SETTINGS)),
    associations={"subnet-a": ("acl-1", "aclassoc-a"), "subnet-b": ("acl-1", "aclassoc-b")},
    s3_endpoint="vpce-1",
    connect_endpoint="eice-1",
)


def planned(have):
    return change.preview(plan.steps(have, SETTINGS))


def with_group(name, **parts):
    groups = dict(COMPLETE.groups)
    groups[name] = Group(**{**vars(groups[name]), **parts})
    return Facts(**{**vars(COMPLETE), "groups": groups})


def test_complete_network_is_left_alone():
    assert planned(COMPLETE) == []


def test_new_network_has_no_internet_access():
    calls = [step.call for step in planned(Facts("pl-1")) if isinstance(step, Change)]
    assert calls[0] == "create_vpc"
    assert len(calls) == 28
    assert not {"create_internet_gateway", "attach_internet_gateway", "create_nat_gateway", "allocate_address"} & set(
        calls
    )


def test_groups_allow_ssh_from_the_endpoint_and_s3_only():
    """The groups allow SSH from the Instance Connect Endpoint, HTTPS to S3, and nothing else."""
    groups = plan.define_security_groups(SETTINGS)
    assert groups["box"] == ({Rule("tcp", 22, 22, "@door")}, {Rule("tcp", 443, 443, "@s3")})
    assert groups["door"] == (set(), {Rule("tcp", 22, 22, "@box")})
    assert all(rule.peer != ANYWHERE for ways in groups.values() for rules in ways for rule in rules)


def test_removed_rule_is_restored():
    assert planned(with_group("box", ingress=frozenset())) == [
        Change(
            "ec2",
            "authorize_security_group_ingress",
            {
                "GroupId": "sg-box",
                "IpPermissions": [
                    {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "UserIdGroupPairs": [{"GroupId": "sg-door"}]}
                ],
            },
            why="box: allow port 22 from group door",
        )
    ]


def test_rule_open_to_the_world_is_revoked():
    world = Rule("tcp", 22, 22, "0.0.0.0/0")
    have = with_group("box", ingress=COMPLETE.groups["box"].ingress | {world})
    assert planned(have) == [
        Change(
            "ec2",
            "revoke_security_group_ingress",
            {
                "GroupId": "sg-box",
                "IpPermissions": [
                    {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}
                ],
            },
            why="box: no longer allow port 22 from 0.0.0.0/0",
        )
    ]


def test_new_group_loses_its_default_egress():
    groups = {name: group for name, group in COMPLETE.groups.items() if name != "box"}
    calls = [
        (s.call, s.args.get("GroupId"))
        for s in planned(Facts(**{**vars(COMPLETE), "groups": groups}))
        if isinstance(s, Change)
    ]
    assert [call for call, _ in calls] == [
        "create_security_group", "authorize_security_group_ingress", "revoke_security_group_egress", "authorize_security_group_egress",
    ]  # fmt: skip
    assert {str.__str__(group) for _, group in calls[1:]} == {"<GroupId>"}


def test_subnet_on_another_acl_is_moved_back():
    have = Facts(**{**vars(COMPLETE), "associations": {**COMPLETE.associations, "subnet-b": ("acl-9", "aclassoc-9")}})
    (step,) = planned(have)
    assert (step.call, step.args) == (
        "replace_network_acl_association",
        {"AssociationId": "aclassoc-9", "NetworkAclId": "acl-1"},
    )


def test_denying_acl_rule_is_replaced():
    """An ACL rule that was turned into a deny is made to allow again."""
    denied = frozenset(
        e._replace(action="deny") if (e.number, e.egress) == (100, False) else e for e in COMPLETE.entries
    )
    calls = [(s.call, s.args["RuleNumber"]) for s in planned(Facts(**{**vars(COMPLETE), "entries": denied}))]
    assert calls == [("delete_network_acl_entry", 100), ("create_network_acl_entry", 100)]


def test_failed_connect_endpoint_is_created_again():
    have = Facts(**{**vars(COMPLETE), "connect_endpoint": None, "failed_connect_endpoints": ("eice-9",)})
    calls = [s.call for s in planned(have) if isinstance(s, Change)]
    assert calls == ["delete_instance_connect_endpoint", "create_instance_connect_endpoint"]


def test_interface_endpoints_have_their_price():
    settings = SETTINGS.model_copy(update={"net": SETTINGS.net.model_copy(update={"interface_endpoints": ["logs"]})})
    steps = [s for s in change.preview(plan.steps(Facts("pl-1"), settings)) if isinstance(s, Change)]
    (endpoint,) = [s for s in steps if s.args.get("ServiceName", "").endswith(".logs")]
    assert endpoint.dollars_per_hour == pytest.approx(0.02)


def test_teardown_deletes_in_a_working_order():
    calls = [s.call for s in change.preview(teardown.steps(COMPLETE)) if isinstance(s, Change)]
    assert calls[:2] == ["delete_instance_connect_endpoint", "delete_vpc_endpoints"]
    assert calls[-1] == "delete_vpc"
    assert calls.index("delete_security_group") > calls.index("revoke_security_group_ingress")


PUBLIC = settings_of(text="ec2: {way: public}\nnet: {own_address: 203.0.113.7}\n")


def test_public_access_admits_one_address():
    rules = plan.define_security_groups(PUBLIC)["box"][0]
    assert rules == {Rule("tcp", 22, 22, "@door"), Rule("tcp", 2222, 2222, "203.0.113.7/32")}
    steps = change.preview(plan.steps(Facts("pl-1"), PUBLIC))
    calls = [s.call for s in steps if isinstance(s, Change)]
    assert {"create_internet_gateway", "attach_internet_gateway", "create_route"} <= set(calls)
    assert not any("0.0.0.0/0" in str(s.args) for s in steps if isinstance(s, Change) and "authorize" in s.call)
    (gateway,) = [s for s in steps if isinstance(s, Change) and s.call == "create_internet_gateway"]
    assert "less safe" in gateway.why
    assert "203.0.113.7/32" in gateway.why


def test_leaving_public_access_removes_gateway_and_rules():
    """The way back from public access removes the gateway, its route and the rules."""
    box = plan.define_security_groups(PUBLIC)["box"]
    have = Facts(
        **{
            **vars(with_group("box", ingress=frozenset(box[0]))),
            "entries": frozenset(plan.define_acl_entries(PUBLIC)),
            "stray_routes": {"0.0.0.0/0": "igw-1"},
            "gateway": ("igw-1", "vpc-1"),
        }
    )
    calls = [s.call for s in planned(have) if isinstance(s, Change)]
    assert calls == [
        "delete_route", "detach_internet_gateway", "delete_internet_gateway", "delete_network_acl_entry", "delete_network_acl_entry",
        "revoke_security_group_ingress",
    ]  # fmt: skip
    assert change.preview(plan.steps(have, PUBLIC)) == []


def test_additional_route_is_deleted():
    have = Facts(**{**vars(COMPLETE), "stray_routes": {"10.20.16.0/20": "eni-9"}})
    assert planned(have) == [
        Change(
            "ec2",
            "delete_route",
            {"RouteTableId": "rtb-1", "DestinationCidrBlock": "10.20.16.0/20"},
            why="delete the route 10.20.16.0/20 to eni-9: it is not in the plan",
        )
    ]


@pytest.mark.parametrize("address", ["0.0.0.0", "203.0.113.0/24", "224.0.0.1", "::1", "me"])
def test_own_address_must_be_one_address(address):
    with pytest.raises(OpsError, match=r"net\.own_address"):
        settings_of(text=f'net: {{own_address: "{address}"}}')


def test_public_access_needs_an_address():
    with pytest.raises(
        OpsError, match="set net.own_address, the one address that may connect; find yours: invoke net.my-address"
    ):
        settings_of(text="ec2: {way: public}")

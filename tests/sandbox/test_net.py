"""The network's plan, by equality; a second run that changes nothing; drift that is mended."""

import contextlib
import http.server
import json
import re
import threading

import pytest

from ops.core import plan as change
from ops.core.errors import OpsError
from ops.core.paths import ROOT
from ops.core.plan import Change
from ops.network import facts, own_address, plan, teardown
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
        for name, (ingress, egress) in plan.wanted_groups(SETTINGS).items()
    },
    acl="acl-1",
    entries=frozenset(plan.wanted_entries(SETTINGS)),
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


def test_a_complete_network_is_left_alone():
    assert planned(COMPLETE) == []


def test_an_empty_account_gets_no_way_in_from_the_internet():
    calls = [step.call for step in planned(Facts("pl-1")) if isinstance(step, Change)]
    assert calls[0] == "create_vpc"
    assert len(calls) == 28
    assert not {"create_internet_gateway", "attach_internet_gateway", "create_nat_gateway", "allocate_address"} & set(
        calls
    )


def test_the_groups_let_ssh_in_from_the_door_and_s3_out_and_nothing_else():
    groups = plan.wanted_groups(SETTINGS)
    assert groups["box"] == ({Rule("tcp", 22, 22, "@door")}, {Rule("tcp", 443, 443, "@s3")})
    assert groups["door"] == (set(), {Rule("tcp", 22, 22, "@box")})
    assert all(rule.peer != ANYWHERE for ways in groups.values() for rules in ways for rule in rules)


def test_a_rule_that_somebody_took_away_comes_back():
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
            why="box: ingress @door port 22 is missing",
        )
    ]


def test_a_rule_that_opens_the_box_to_the_world_goes():
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
            why="box: ingress 0.0.0.0/0 port 22 is not in the plan",
        )
    ]


def test_a_new_group_loses_the_egress_that_ec2_gives_it():
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


def test_a_subnet_on_another_acl_is_put_back():
    have = Facts(**{**vars(COMPLETE), "associations": {**COMPLETE.associations, "subnet-b": ("acl-9", "aclassoc-9")}})
    (step,) = planned(have)
    assert (step.call, step.args) == (
        "replace_network_acl_association",
        {"AssociationId": "aclassoc-9", "NetworkAclId": "acl-1"},
    )


def test_an_acl_rule_turned_into_a_denial_is_made_to_allow_again():
    denied = frozenset(
        e._replace(action="deny") if (e.number, e.egress) == (100, False) else e for e in COMPLETE.entries
    )
    calls = [(s.call, s.args["RuleNumber"]) for s in planned(Facts(**{**vars(COMPLETE), "entries": denied}))]
    assert calls == [("delete_network_acl_entry", 100), ("create_network_acl_entry", 100)]


def test_a_door_that_aws_could_not_make_is_made_again():
    have = Facts(**{**vars(COMPLETE), "connect_endpoint": None, "failed_connect_endpoints": ("eice-9",)})
    calls = [s.call for s in planned(have) if isinstance(s, Change)]
    assert calls == ["delete_instance_connect_endpoint", "create_instance_connect_endpoint"]


def test_interface_endpoints_come_with_their_price():
    settings = SETTINGS.model_copy(update={"net": SETTINGS.net.model_copy(update={"interface_endpoints": ["logs"]})})
    steps = [s for s in change.preview(plan.steps(Facts("pl-1"), settings)) if isinstance(s, Change)]
    (endpoint,) = [s for s in steps if s.args.get("ServiceName", "").endswith(".logs")]
    assert endpoint.dollars_per_hour == pytest.approx(0.02)


def test_the_way_back_takes_everything_in_an_order_that_works():
    calls = [s.call for s in change.preview(teardown.steps(COMPLETE)) if isinstance(s, Change)]
    assert calls[:2] == ["delete_instance_connect_endpoint", "delete_vpc_endpoints"]
    assert calls[-1] == "delete_vpc"
    assert calls.index("delete_security_group") > calls.index("revoke_security_group_ingress")


PUBLIC = settings_of(text="ec2: {way: public}\nnet: {own_address: 203.0.113.7}\n")


def test_the_public_way_lets_one_address_in_and_no_other():
    rules = plan.wanted_groups(PUBLIC)["box"][0]
    assert rules == {Rule("tcp", 22, 22, "@door"), Rule("tcp", 2222, 2222, "203.0.113.7/32")}
    steps = change.preview(plan.steps(Facts("pl-1"), PUBLIC))
    calls = [s.call for s in steps if isinstance(s, Change)]
    assert {"create_internet_gateway", "attach_internet_gateway", "create_route"} <= set(calls)
    assert not any("0.0.0.0/0" in str(s.args) for s in steps if isinstance(s, Change) and "authorize" in s.call)
    (gateway,) = [s for s in steps if isinstance(s, Change) and s.call == "create_internet_gateway"]
    assert "costs safety" in gateway.why
    assert "203.0.113.7/32" in gateway.why


def test_the_way_back_from_the_public_one_takes_gateway_route_and_rules():
    box = plan.wanted_groups(PUBLIC)["box"]
    have = Facts(
        **{
            **vars(with_group("box", ingress=frozenset(box[0]))),
            "entries": frozenset(plan.wanted_entries(PUBLIC)),
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


def test_a_route_that_somebody_added_goes():
    have = Facts(**{**vars(COMPLETE), "stray_routes": {"10.20.16.0/20": "eni-9"}})
    assert planned(have) == [
        Change(
            "ec2",
            "delete_route",
            {"RouteTableId": "rtb-1", "DestinationCidrBlock": "10.20.16.0/20"},
            why="the route 10.20.16.0/20 to eni-9 is not in the plan",
        )
    ]


@pytest.mark.parametrize("address", ["0.0.0.0", "203.0.113.0/24", "224.0.0.1", "::1", "me"])
def test_an_own_address_is_one_address(address):
    with pytest.raises(OpsError, match=r"net\.own_address"):
        settings_of(text=f'net: {{own_address: "{address}"}}')


def test_the_public_way_wants_an_address():
    with pytest.raises(OpsError, match="set net.own_address; yours: invoke net.my-address"):
        settings_of(text="ec2: {way: public}")


@contextlib.contextmanager
def saying(words):
    class Service(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(words)

        def log_message(self, *_): ...

    with http.server.HTTPServer(("127.0.0.1", 0), Service) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_my_address_is_asked_for_and_checked(stacks):
    with saying(b"203.0.113.7\n") as url:
        cli = stacks("address", f"net: {{address_service: {url}}}")
        assert json.loads(cli("net.my-address", "--json").out) == {"address": "203.0.113.7", "own_address": ""}
    with saying(b"<html>" + b"x" * 10_000) as url, pytest.raises(OpsError, match="which is no IPv4 address"):
        own_address.ask_service(url)
    with pytest.raises(OpsError, match="does not answer"):
        own_address.ask_service("http://127.0.0.1:9/")


def test_the_plan_of_an_empty_account_is_as_it_was_agreed(stacks):
    """A golden file: whoever changes the plan changes this file, and sees in the review what AWS will be asked for."""
    cli = stacks("golden")
    shown = re.sub(r"\b(pl|subnet|vpc)-[0-9a-f]+", r"\1-1", cli("--dry", "net.up").err)
    assert shown == (ROOT / "tests" / "golden" / "net-up.txt").read_text()


def test_dry_up_twice_and_down(stacks):
    cli = stacks("network")
    dry = cli("--dry", "net.up")
    assert "~ ec2.create_vpc: there is no network" in dry.err
    assert dry.err.strip().endswith("28 to make; nothing was touched")
    assert facts.read(cli.account).vpc is None
    assert cli("net.up").out.strip().endswith("28 made")
    assert cli("net.up").out.strip().endswith("0 made")
    refused = cli("net.down", ok=False)
    assert refused.code == 1
    assert "Nobody is here to agree: say --yes." in refused.err
    cli("net.down", "--yes")
    assert facts.read(cli.account).vpc is None
    assert "There is no network" in cli("net.down", "--yes").out


def test_a_crash_after_any_call_leaves_nothing_that_a_second_run_does_not_find(stacks):
    cli = stacks("crash")
    account, total = cli.account, 28

    class Crash(BaseException):
        pass

    for crash_at in (1, 3, 8, 14, 20, 26):
        made = 0
        make = account.make

        def breaking(step, make=make, crash_at=crash_at):
            nonlocal made
            answer = make(step)
            made += 1
            if made == crash_at:
                raise Crash
            return answer

        account.make = breaking
        with pytest.raises(Crash):
            change.apply(plan.steps(facts.read(account), cli.settings), account, lambda line: None)
        account.make = make
        made = change.apply(plan.steps(facts.read(account), cli.settings), account, lambda line: None)
        assert made == total - crash_at
        assert len(account.list_tagged("describe_vpcs", "Vpcs")) == 1
        change.apply(teardown.steps(facts.read(account)), account, lambda line: None)

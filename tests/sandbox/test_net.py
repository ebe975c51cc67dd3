"""The network's plan, by equality; a second run that changes nothing; drift that is repaired."""

import contextlib
import http.server
import json
import re
import threading
from functools import partial

import pytest

from ops.core import plan as change
from ops.core.errors import AwsError, OpsError
from ops.core.paths import ROOT
from ops.network import facts, own_address, plan, teardown


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


def test_own_address_is_queried_and_validated(make_stack):
    with saying(b"203.0.113.7\n") as url:
        cli = make_stack("address", f"net: {{address_service: {url}}}")
        assert json.loads(cli("net.my-address", "--json").out) == {"address": "203.0.113.7", "own_address": ""}
    with saying(b"<html>" + b"x" * 10_000) as url, pytest.raises(OpsError, match="which is not an IPv4 address"):
        own_address.request_own_address(url)
    with pytest.raises(OpsError, match="does not answer"):
        own_address.request_own_address("http://127.0.0.1:9/")


def test_plan_of_an_empty_account_equals_the_golden_file(make_stack):
    """A golden file: a change of the plan changes this file, so that the review shows which calls AWS will get."""
    cli = make_stack("golden")
    shown = re.sub(r"\b(pl|subnet|vpc)-[0-9a-f]+", r"\1-1", cli("--dry", "net.up").err)
    assert shown == (ROOT / "tests" / "golden" / "net-up.txt").read_text()


def test_net_is_planned_created_repeated_and_deleted(make_stack):
    cli = make_stack("network")
    dry = cli("--dry", "net.up")
    assert "+ ec2.create_vpc: create the VPC, 10.20.0.0/16" in dry.err
    assert dry.err.strip().endswith("28 to make; nothing was touched")
    assert facts.read(cli.account).vpc is None
    assert cli("net.up").out.strip().endswith("28 made")
    assert cli("net.up").out.strip().endswith("0 made")
    refused = cli("net.down", ok=False)
    assert refused.code == 1
    assert "Cannot ask for confirmation without a terminal; pass --yes." in refused.err
    cli("net.down", "--yes")
    assert facts.read(cli.account).vpc is None
    assert "has no network" in cli("net.down", "--yes").out


def test_second_run_continues_after_a_crash_at_any_call(make_stack):
    """A crash after any call leaves nothing that a second run does not find."""
    cli = make_stack("crash")
    account, total = cli.account, 28

    class Crash(BaseException):
        pass

    for crash_at in (1, 3, 8, 14, 20, 26):
        made = 0
        make = account.make_change

        def breaking(step, make=make, crash_at=crash_at):
            nonlocal made
            answer = make(step)
            made += 1
            if made == crash_at:
                raise Crash
            return answer

        account.make_change = breaking
        with pytest.raises(Crash):
            change.apply(partial(plan.steps, facts.read(account), cli.settings), account, lambda line: None)
        account.make_change = make
        made = change.apply(partial(plan.steps, facts.read(account), cli.settings), account, lambda line: None)
        assert made == total - crash_at
        assert len(account.list_tagged("describe_vpcs", "Vpcs")) == 1
        change.apply(partial(teardown.steps, facts.read(account)), account, lambda line: None)


def test_removal_waits_for_interfaces_of_deleted_endpoints(make_stack, inject_fault):
    """On AWS they outlive their endpoint by minutes, and keep its subnet and its groups from being deleted."""
    account = make_stack("lingering").account
    make, until = partial(account.call, "ec2"), teardown.build_interfaces_poll
    inject_fault("clock", speed=0.01)
    vpc = make("create_vpc", CidrBlock="10.8.0.0/16")["Vpc"]["VpcId"]
    subnet = make("create_subnet", VpcId=vpc, CidrBlock="10.8.0.0/24")["Subnet"]["SubnetId"]
    wanted = {"VpcId": vpc, "ServiceName": "com.amazonaws.us-east-1.logs", "VpcEndpointType": "Interface"}
    made = make("create_vpc_endpoint", SubnetIds=[subnet], **wanted)["VpcEndpoint"]["VpcEndpointId"]
    make("delete_vpc_endpoints", VpcEndpointIds=[made])
    assert until(vpc)(account) == f"1 left: VPC Endpoint Interface {made}"
    with pytest.raises(AwsError, match="DependencyViolation"):
        make("delete_subnet", SubnetId=subnet)
    inject_fault("clock", speed=1000)
    account.wait(change.Wait("the interfaces", until(vpc), why="they linger", timeout_s=20))
    make("delete_subnet", SubnetId=subnet)
    make("delete_vpc", VpcId=vpc)


def count_parts(account):
    return sorted(call for call, key, _ in facts.KINDS for _ in account.list_tagged(call, key))


def test_lost_answers_leave_one_network_and_then_none(make_stack, inject_fault):
    """Each call of net.up and net.down is carried out once, although its answer is lost."""
    cli = make_stack("lostnet")
    made = """CreateVpc CreateSubnet CreateRouteTable CreateNetworkAcl CreateSecurityGroup CreateVpcEndpoint AssociateRouteTable
        CreateInstanceConnectEndpoint CreateNetworkAclEntry AuthorizeSecurityGroupIngress RevokeSecurityGroupEgress
        ReplaceNetworkAclAssociation ModifyVpcAttribute"""
    deleted = """DeleteInstanceConnectEndpoint DeleteVpcEndpoints RevokeSecurityGroupIngress DeleteSecurityGroup DeleteSubnet
        DeleteNetworkAcl DeleteRouteTable DeleteVpc"""
    for operation in made.split():
        inject_fault("fault", operation=operation, do="lost")
    assert cli("net.up").out.endswith("28 made\n")
    assert cli("net.up").out.endswith("0 made\n")
    assert "describe_vpcs" in count_parts(cli.account)
    assert len(count_parts(cli.account)) == 10
    for operation in deleted.split():
        inject_fault("fault", operation=operation, do="lost")
    cli("net.down", "--yes")
    assert facts.list_parts(cli.account) == []


def test_second_parts_are_removed_by_up_and_by_down(make_stack):
    """A second VPC, route table, ACL and gateway go with net.up when nothing uses them, and all with net.down."""
    cli = make_stack("twice")
    account = cli.account
    cli("net.up")

    def make_second(vpc):
        tags = partial(facts.build_tag_specification, cli.settings, name="second")
        account.call("ec2", "create_route_table", VpcId=vpc, **tags(resource_type="route-table"))
        account.call("ec2", "create_network_acl", VpcId=vpc, **tags(resource_type="network-acl"))
        account.call("ec2", "create_internet_gateway", **tags(resource_type="internet-gateway"))
        made = account.call("ec2", "create_vpc", CidrBlock="10.20.0.0/16", **tags(resource_type="vpc"))
        account.call("ec2", "create_route_table", VpcId=made["Vpc"]["VpcId"], **tags(resource_type="route-table"))

    before, vpc = count_parts(account), facts.read(account).vpc
    make_second(vpc)
    assert len(count_parts(account)) == len(before) + 5
    assert "delete a second route table" in cli("net.up").err
    assert (count_parts(account), facts.read(account).vpc) == (before, vpc)
    make_second(vpc)
    account.call("ec2", "delete_tags", Resources=[vpc], Tags=[{"Key": "kennel:stack"}])
    cli("net.down", "--yes")
    assert facts.list_parts(account) == []

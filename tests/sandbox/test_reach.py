"""ec2.reach: each hop to the box is broken for real, named, and repaired by the command that is printed."""

import json

import pytest

from ops.box import facts as box_facts
from ops.network import facts, plan


@pytest.fixture(scope="module")
def cli(make_stack, control_sandbox):
    """A box in another subnet than the endpoint's: between two of them, network ACLs are asked."""
    made = make_stack("hops")
    made("iam.apply", "net.up")
    control_sandbox("capacity", instance_type="g4dn.xlarge/us-east-1a")
    made("ec2.up")
    control_sandbox("capacity", instance_type="g4dn.xlarge/us-east-1a", short=False)
    door = made.account.list_tagged("describe_instance_connect_endpoints", "InstanceConnectEndpoints")[0]
    assert box_facts.read(made.account).box["SubnetId"] != door["SubnetId"]
    return made


def ends_at(cli):
    """(name, problem, fix) of the hop at which the path ends, or None."""
    ran = cli("ec2.reach", "--json", ok=False)
    hops = json.loads(ran.out)
    bad = [hop for hop in hops if hop["problem"]]
    assert ran.code == (7 if bad else 0)
    assert hops[-1:] == bad or not bad  # nothing is looked at behind the first that fails
    return (bad[0]["name"], bad[0]["problem"], bad[0]["fix"]) if bad else None


def ec2(cli):
    return cli.account.client("ec2")


def ident(cli):
    return box_facts.read(cli.account).instance_id


def entry_of(cli, number, egress):
    return {"NetworkAclId": facts.read(cli.account).acl, "RuleNumber": number, "Egress": egress}


def revoke(cli, name, way):
    have = facts.read(cli.account)
    ids = {n: group.id for n, group in have.groups.items()}
    (rule,) = [r for r in getattr(have.groups[name], way) if r.first == 22]
    change = getattr(ec2(cli), f"revoke_security_group_{way}")
    change(GroupId=ids[name], IpPermissions=[plan.build_ip_permission(rule, ids, have.s3_list)])


def stray_route(cli):
    """To the endpoint's subnet, by way of the box itself: what a middlebox would want."""
    have = facts.read(cli.account)
    subnets = {s["SubnetId"]: s for s in ec2(cli).describe_subnets()["Subnets"]}
    door = cli.account.list_tagged("describe_instance_connect_endpoints", "InstanceConnectEndpoints")[0]
    cidr = subnets[door["SubnetId"]]["CidrBlock"]
    ec2(cli).create_route(RouteTableId=have.routes, DestinationCidrBlock=cidr, InstanceId=ident(cli))


def test_healthy_path_passes_every_hop(cli):
    ran = cli("ec2.reach")
    named = [line.split("  ")[1].strip() for line in ran.out.splitlines() if line.startswith("ok")]
    assert named == [
        "instance", "status checks", "endpoint", "security groups", "network ACLs, to the box", "network ACLs, answers", "routes",
        "TCP", "banner", "authentication",
    ]  # fmt: skip
    assert "SSH reaches the box." in ran.out


# How it is broken; the hop that is named; the message; the commands that repair it.
BROKEN = {
    "stopped": (lambda cli: ec2(cli).stop_instances(InstanceIds=[ident(cli)]), "instance", "it is stopped", ["ec2.start"]),
    "no endpoint": (
        lambda cli: ec2(cli).delete_instance_connect_endpoint(InstanceConnectEndpointId=facts.read(cli.account).connect_endpoint),
        "endpoint", "no Instance Connect Endpoint", ["net.up"],
    ),
    "door out": (lambda cli: revoke(cli, "door", "egress"), "security groups", "does not allow port 22 out", ["net.up"]),
    "box in": (lambda cli: revoke(cli, "box", "ingress"), "security groups", "does not allow port 22 in", ["net.up"]),
    "acl in": (
        lambda cli: ec2(cli).delete_network_acl_entry(**entry_of(cli, 100, False)), "network ACLs, to the box", "stops port 22", ["net.up"],
    ),
    "acl answers": (
        lambda cli: ec2(cli).create_network_acl_entry(
            **entry_of(cli, 90, True), Protocol="6", RuleAction="deny", CidrBlock="10.20.0.0/16", PortRange={"From": 30000, "To": 65535}
        ),
        "network ACLs, answers", "ports 1024-65535", ["net.up"],
    ),
    "route": (stray_route, "routes", "not through the VPC", ["net.up"]),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_reach_names_a_hop_broken_in_ec2(cli, name):
    breaking, hop, words, repair = BROKEN[name]
    breaking(cli)
    found, problem, fix = ends_at(cli)
    assert found == hop
    assert words in problem
    assert f"invoke {repair[0]}" in fix
    cut = cli("ec2.run", "echo reached", ok=False)  # the sandbox's network obeys the same rules
    assert cut.code == 1
    assert "reached" not in cut.out
    cli(*repair)
    assert ends_at(cli) is None
    assert cli("ec2.run", "echo reached").out == "reached\n"


@pytest.mark.parametrize(
    ("how", "hop", "words"),
    [
        ({"checks": "impaired"}, "status checks", "the instance check says impaired"),
        ({"sshd": "down"}, "TCP", "refuses the connection"),
        ({"sshd": "mute"}, "banner", "no SSH server answers"),
        ({"keys": False}, "authentication", "rejects our SSH key"),
    ],
    ids=["status checks", "TCP", "banner", "authentication"],
)
def test_reach_names_a_hop_broken_on_the_box(cli, inject_fault, how, hop, words):
    inject_fault("box", instance=ident(cli), **how)
    found, problem, fix = ends_at(cli)
    assert found == hop
    assert words in problem
    assert "invoke ec2.stop --yes, then invoke ec2.start" in fix
    cli("ec2.stop", "--yes")
    cli("ec2.start")
    assert ends_at(cli) is None


def test_reach_without_a_box_names_the_command(make_stack):
    cli = make_stack("hopsnone")
    assert ends_at(cli)[0::2] == ("instance", "invoke ec2.up")


def test_reach_reports_a_changed_host_key(cli):
    from tests.conftest import HOME

    known = HOME / "work" / "ssh" / "known_hosts"
    kept = known.read_text()
    other = "AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl"
    try:
        known.write_text(f"{ident(cli)} ssh-ed25519 {other}\n")
        name, problem, fix = ends_at(cli)
    finally:
        known.write_text(kept)
    assert name == "authentication"
    assert "not the one pinned" in problem
    assert "delete its lines from" in fix

"""Check the path to the box hop by hop; name the first hop that fails, and the command that fixes it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ops.box import access, images
from ops.box.facts import Facts
from ops.core import ssh
from ops.core.aws.account import Account
from ops.core.errors import OpsError
from ops.core.settings import resolve_below_work
from ops.network import reachability
from ops.network.reachability import Rules

REBOOT = "invoke ec2.stop --yes, then invoke ec2.start (other hardware; it ends a running job, which ec2.train resumes)"
LOG = "A running job trains on until then; its log: invoke ec2.logs."
WAIT = f"wait 5 minutes, then invoke ec2.reach: EC2's checks are ok. {LOG} If nothing changes: {REBOOT}"
RESTART = f"{REBOOT}. {LOG}"
FIX = "invoke net.up"
ADDRESS = "invoke net.my-address, set net.own_address to its result, invoke net.up"


@dataclass(frozen=True)
class Hop:
    """A hop of the path to the box. `problem` is "" where the hop works; `fix` is the command that helps."""

    name: str
    found: str
    problem: str = ""
    fix: str = ""


def check_path(account: Account, have: Facts) -> Iterator[Hop]:
    """Yield hops from EC2's own status to the login, up to the first that fails. Raises AwsError when AWS denies a request."""
    for hop in check_hops(account, have):
        yield hop
        if hop.problem:
            return


def check_hops(account: Account, have: Facts) -> Iterator[Hop]:
    if have.box is None:
        others = f"; this account has {', '.join(have.others)}" if have.others else ""
        yield Hop("instance", "none", f"this stack has no box{others}", "invoke ec2.up")
        return
    why = have.box.get("StateReason", {}).get("Message", "")
    fix = "invoke runbook.show spot-interruption" if have.interrupted else "invoke ec2.start"
    stopped = f"it is {have.state}{f' ({why})' if why else ''}" if have.state != "running" else ""
    yield Hop("instance", f"{have.instance_id} {have.state}", stopped, fix)
    yield check_instance_status(account, have)
    # Session Manager's agent connects outwards, so our network rules do not apply to it.
    if account.settings.ec2.way != "command":
        yield from check_network_hops(account, have)
    yield from check_ssh_server(account, have)
    yield check_login(account, have)


def check_instance_status(account: Account, have: Facts) -> Hop:
    found = account.call("ec2", "describe_instance_status", InstanceIds=[have.instance_id])["InstanceStatuses"]
    if not found:
        return Hop(
            "status checks",
            "none yet",
            "EC2 has not checked it yet: it is booting",
            "wait a minute, then invoke ec2.reach",
        )
    system, own = found[0]["SystemStatus"]["Status"], found[0]["InstanceStatus"]["Status"]
    if "initializing" in (system, own):
        return Hop("status checks", "initializing", "it is still booting", "wait a minute, then invoke ec2.reach")
    bad = [name for name, status in (("system", system), ("instance", own)) if status != "ok"]
    problem = f"the {' and '.join(bad)} check says {system if 'system' in bad else own}" if bad else ""
    return Hop("status checks", f"system {system}, instance {own}", problem, REBOOT)


def check_network_hops(account: Account, have: Facts) -> Iterator[Hop]:
    """Yield the hops of the settings' access method, as far as EC2's own descriptions show them."""
    assert have.box is not None
    rules, subnets = read_rules(account, have.box["VpcId"])
    if account.settings.ec2.way == "public":
        address, port = account.settings.net.own_address, account.settings.ec2.public_port
        public = have.box.get("PublicIpAddress")
        none = "" if public else "it has no public address: it was launched with another ec2.way"
        yield Hop("public address", public or "none", none, "invoke ec2.down, then invoke ec2.up; or set ec2.way: eice")
        path = reachability.trace_from_internet(have.box, address, port, rules)
        where, fix = f"{address}/32 to port {port}", f"{FIX}; if your address has changed: {ADDRESS}"
    else:
        none = "" if have.connect_endpoint else "no Instance Connect Endpoint is ready"
        yield Hop(
            "endpoint",
            have.connect_endpoint["InstanceConnectEndpointId"] if have.connect_endpoint else "none",
            none,
            FIX,
        )
        assert have.connect_endpoint is not None
        source = reachability.derive_endpoint_address(subnets[have.connect_endpoint["SubnetId"]])
        path = reachability.trace_from_endpoint(have.box, have.connect_endpoint, source, rules)
        where, fix = f"endpoint to {have.box['PrivateIpAddress']}:22", FIX
    for name, problem in path:
        yield Hop(name, where, problem, fix)


def read_rules(account: Account, vpc: str) -> tuple[Rules, dict[str, dict[str, Any]]]:
    """Return the VPC's rules, and its subnets by id."""
    filters = [{"Name": "vpc-id", "Values": [vpc]}]
    subnets = account.list_all("ec2", "describe_subnets", "Subnets", Filters=filters)
    rules = reachability.index_rules(
        account.list_all("ec2", "describe_security_groups", "SecurityGroups", Filters=filters),
        account.list_all("ec2", "describe_network_acls", "NetworkAcls", Filters=filters),
        account.list_all("ec2", "describe_route_tables", "RouteTables", Filters=filters),
        subnets,
    )
    return rules, {subnet["SubnetId"]: subnet for subnet in subnets}


def check_ssh_server(account: Account, have: Facts) -> Iterator[Hop]:
    """Yield the hops of the SSH server: the TCP connection, then the server's greeting over it."""
    try:
        near = access.open_socket(account, have)
    except OpsError as error:
        # A refusal comes from the box: nothing listens there. Silence may be the network, or a box that is too busy to reply.
        fix = WAIT if "timed out" in str(error) else RESTART
        yield Hop("TCP", "no connection", access.strip_hints(error), suggest_connection_fix(account, fix))
        return
    with near:
        yield Hop("TCP", "connected")
        near.settimeout(ssh.CONNECT_S)
        try:
            banner = near.recv(255).decode(errors="replace").strip()
        except OSError:
            banner = ""
    problem = (
        ""
        if banner.startswith("SSH-")
        else f"{banner!r} is not the greeting of an SSH server"
        if banner
        else "no SSH server answers"
    )
    yield Hop("banner", banner[:60] or "none", problem, suggest_connection_fix(account, WAIT))


def check_login(account: Account, have: Facts) -> Hop:
    settings = account.settings.ec2
    try:
        with access.open_box_connection(account, have, use=False) as link:
            ssh.run(link, "true")
    except ssh.LoginError as error:
        fix = "invoke ec2.ssh, and correct the file there: without a terminal, it must neither end the shell nor replace it"
        return Hop("login", f"as {settings.user}", access.strip_hints(error), fix)
    except OpsError as error:
        known = resolve_below_work(settings.known_hosts)
        changed = "host key" in str(error)
        fix = f"if its keys were replaced on purpose, delete its lines from {known}" if changed else REBOOT
        return Hop(
            "authentication", f"as {settings.user}", access.strip_hints(error), suggest_user_fix(account, have) or fix
        )
    return Hop("authentication", f"as {settings.user}, host key pinned")


def suggest_connection_fix(account: Account, fix: str) -> str:
    """Return the fix for a failed connection: the settings' own ProxyCommand where there is one, else `fix`."""
    if account.settings.ec2.way == "command":
        return f"run ec2.proxy_command yourself: {account.settings.ec2.proxy_command}"
    return fix


def suggest_user_fix(account: Account, have: Facts) -> str:
    """Return the fix for an ec2.user that the box's image does not have, or ""."""
    assert have.box is not None
    known = account.call_or_none("ec2", "describe_images", "InvalidAMIID", ImageIds=[have.box["ImageId"]])
    found = [images.from_response(one) for one in (known or {}).get("Images", [])]
    right = found[0].user if found else account.settings.ec2.user
    return (
        ""
        if right == account.settings.ec2.user
        else f"set ec2.user to {right}, the user of its image; then invoke ec2.reach"
    )


def find_first_failure(found: list[Hop]) -> Hop | None:
    return next((hop for hop in found if hop.problem), None)

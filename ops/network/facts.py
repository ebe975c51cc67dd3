"""The facts of the network: found by this stack's tags. Peers of rules have the names that the plan uses."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from ops.core.aws.account import Account
from ops.core.settings import Settings
from ops.network.reachability import find_route_target

S3_PEER = "@s3"
ANYWHERE = "0.0.0.0/0"
OPENING = ("create-in-progress", "create-complete", "update-in-progress", "update-complete")
KINDS = (  # the calls that list what net.up makes, in the order in which it is deleted
    ("describe_instance_connect_endpoints", "InstanceConnectEndpoints", "InstanceConnectEndpointId"),
    ("describe_vpc_endpoints", "VpcEndpoints", "VpcEndpointId"),
    ("describe_security_groups", "SecurityGroups", "GroupId"),
    ("describe_subnets", "Subnets", "SubnetId"),
    ("describe_network_acls", "NetworkAcls", "NetworkAclId"),
    ("describe_route_tables", "RouteTables", "RouteTableId"),
    ("describe_internet_gateways", "InternetGateways", "InternetGatewayId"),
    ("describe_vpcs", "Vpcs", "VpcId"),
)


class Rule(NamedTuple):
    """A security group's rule. `peer` is a CIDR, or @NAME for one of our groups, or @s3 for S3's prefix list."""

    protocol: str
    first: int
    last: int
    peer: str


class Entry(NamedTuple):
    """A network ACL's rule; `protocol` is a number as text, -1 for all; `action` is allow or deny."""

    number: int
    egress: bool
    protocol: str
    first: int
    last: int
    cidr: str
    action: str = "allow"


@dataclass(frozen=True)
class Group:
    id: str
    ingress: frozenset[Rule] = frozenset()
    egress: frozenset[Rule] = frozenset()


@dataclass(frozen=True)
class Facts:
    """The network as AWS describes it.

    `associations`: subnet -> (network ACL, association) for each of our subnets; `routed`: subnets on our route table;
    `taken`: the subnets' addresses; `stray_routes`: destination -> target of its routes, except the VPC's own and S3's;
    `gateway`: our internet gateway's (id, VPC). `surplus_...` have our tag too, and the plan has one of each: a lost answer
    or two operators at once can make a second one. `surplus_tables`: route table -> whether subnets use it. `is_ours`: the
    VPC itself has the tag, too.
    """

    s3_list: str = ""
    vpc: str | None = None
    hostnames: bool = False
    subnets: dict[str, str] = field(default_factory=dict)
    taken: frozenset[str] = frozenset()
    routes: str | None = None
    routed: frozenset[str] = frozenset()
    stray_routes: dict[str, str] = field(default_factory=dict)
    gateway: tuple[str, str] | None = None
    groups: dict[str, Group] = field(default_factory=dict)
    acl: str | None = None
    entries: frozenset[Entry] = frozenset()
    associations: dict[str, tuple[str, str]] = field(default_factory=dict)
    s3_endpoint: str | None = None
    connect_endpoint: str | None = None
    is_connect_endpoint_pending: bool = False  # AWS takes minutes to create one
    failed_connect_endpoints: tuple[str, ...] = ()
    interfaces: dict[str, str] = field(default_factory=dict)
    surplus_endpoints: tuple[str, ...] = ()
    surplus_tables: dict[str, bool] = field(default_factory=dict)
    surplus_acls: tuple[str, ...] = ()
    surplus_gateways: tuple[tuple[str, str], ...] = ()
    surplus_vpcs: tuple[Facts, ...] = ()

    is_ours: bool = True

    @property
    def is_empty(self) -> bool:
        return not (self.vpc or self.gateway or self.surplus_gateways or self.surplus_vpcs)

    def parts(self) -> dict[str, str]:
        """Return each part's id, "-" for a missing one, by its readable name."""
        rows = {"vpc": self.vpc or "-"}
        rows |= {f"subnet {zone}": subnet for zone, subnet in self.subnets.items()}
        rows |= {f"group {name}": group.id for name, group in self.groups.items()}
        rows["S3 gateway endpoint"] = self.s3_endpoint or "-"
        rows["Instance Connect Endpoint"] = self.connect_endpoint or "-"
        return rows | ({"internet gateway": self.gateway[0]} if self.gateway else {})


def read(account: Account) -> Facts:
    """Read everything with the stack's tag. The network is the VPC with most subnets; whatever else there is becomes surplus."""
    region = account.settings.aws.region
    named_s3 = [{"Name": "prefix-list-name", "Values": [f"com.amazonaws.{region}.s3"]}]
    s3_list = account.list_all("ec2", "describe_managed_prefix_lists", "PrefixLists", Filters=named_s3)[0][
        "PrefixListId"
    ]
    gateways = [
        (gateway["InternetGatewayId"], find_attached_vpc(gateway))
        for gateway in account.list_tagged("describe_internet_gateways", "InternetGateways")
    ]
    vpcs = [one["VpcId"] for one in account.list_tagged("describe_vpcs", "Vpcs")]
    found = sorted(
        (read_vpc(account, vpc, s3_list) for vpc in vpcs), key=lambda one: (-len(one.subnets), one.vpc or "")
    )
    have, others = (found[0], tuple(found[1:])) if found else (Facts(s3_list), ())
    chosen = next((one for one in gateways if one[1] == have.vpc), next((one for one in gateways if not one[1]), None))
    return replace(
        have, gateway=chosen, surplus_gateways=tuple(one for one in gateways if one != chosen), surplus_vpcs=others
    )


def read_for_removal(account: Account) -> Facts:
    """Read the same, and parts with the stack's tag in a VPC that has no tag, or has lost it."""
    have = read(account)
    ours = {have.vpc, *(one.vpc for one in have.surplus_vpcs)}
    strays = sorted({part["VpcId"] for _, part in list_parts(account) if "VpcId" in part} - ours)
    more = tuple(read_vpc(account, vpc, have.s3_list, is_ours=False) for vpc in strays)
    return replace(have, surplus_vpcs=have.surplus_vpcs + more)


def list_parts(account: Account) -> list[tuple[str, dict[str, Any]]]:
    """Return (id, description) of everything with the stack's tag, of every kind, in whatever VPC, that is not being deleted."""
    found = []
    for call, key, name in KINDS:
        for part in account.list_tagged(call, key):
            state = part.get("State", "").lower()
            if not state.startswith(("deleting", "deleted", "delete-")):
                found.append((part[name], part))
    return found


def read_vpc(account: Account, vpc: str, s3_list: str, is_ours: bool = True) -> Facts:
    subnets = account.list_tagged("describe_subnets", "Subnets", vpc_id=vpc)
    return Facts(
        s3_list=s3_list,
        vpc=vpc,
        hostnames=is_ours and has_hostnames(account, vpc),
        is_ours=is_ours,
        subnets={s["AvailabilityZone"]: s["SubnetId"] for s in subnets},
        taken=frozenset(s["CidrBlock"] for s in subnets),
        groups=read_security_groups(account, vpc, s3_list),
        **read_route_tables(account, vpc),
        **read_network_acls(account, vpc),
        **read_endpoints(account, vpc),
    )


def has_hostnames(account: Account, vpc: str) -> bool:
    found = account.call("ec2", "describe_vpc_attribute", VpcId=vpc, Attribute="enableDnsHostnames")
    return bool(found["EnableDnsHostnames"]["Value"])


def read_route_tables(account: Account, vpc: str) -> dict[str, Any]:
    """Read the tables with our tag: the one that most subnets use, and the surplus ones."""
    tables = account.list_tagged("describe_route_tables", "RouteTables", vpc_id=vpc)
    tables.sort(key=lambda table: (-len(table["Associations"]), table["RouteTableId"]))
    routes = tables[0]["Routes"] if tables else []
    pairs = [(r["DestinationCidrBlock"], find_route_target(r)) for r in routes if "DestinationCidrBlock" in r]
    return {
        "routes": tables[0]["RouteTableId"] if tables else None,
        "routed": frozenset(a["SubnetId"] for t in tables for a in t["Associations"] if "SubnetId" in a),
        "stray_routes": {cidr: to for cidr, to in pairs if to != "local" and not to.startswith("vpce-")},
        "surplus_tables": {table["RouteTableId"]: bool(table["Associations"]) for table in tables[1:]},
    }


def read_network_acls(account: Account, vpc: str) -> dict[str, Any]:
    """Read the ACLs with our tag, the one that most subnets use and the surplus ones, and which ACL each subnet uses."""
    found = account.list_all(
        "ec2", "describe_network_acls", "NetworkAcls", Filters=[{"Name": "vpc-id", "Values": [vpc]}]
    )
    ours = [acl for acl in found if not acl["IsDefault"] and has_stack_tag(acl, account)]
    ours.sort(key=lambda acl: (-len(acl["Associations"]), acl["NetworkAclId"]))
    entries = ours[0]["Entries"] if ours else []
    return {
        "acl": ours[0]["NetworkAclId"] if ours else None,
        "entries": frozenset(parse_acl_entry(e) for e in entries if e["RuleNumber"] < 32767),
        "associations": {
            a["SubnetId"]: (acl["NetworkAclId"], a["NetworkAclAssociationId"])
            for acl in found
            for a in acl["Associations"]
        },
        "surplus_acls": tuple(acl["NetworkAclId"] for acl in ours[1:]),
    }


def read_endpoints(account: Account, vpc: str) -> dict[str, Any]:
    found = account.list_tagged("describe_vpc_endpoints", "VpcEndpoints", vpc_id=vpc)
    active = [e for e in found if e["State"].lower() not in ("deleting", "deleted")]
    connect = account.list_tagged("describe_instance_connect_endpoints", "InstanceConnectEndpoints", vpc_id=vpc)
    interfaces = {
        e["ServiceName"].rsplit(f"{account.settings.aws.region}.", 1)[1]: e["VpcEndpointId"]
        for e in active
        if e["VpcEndpointType"] == "Interface"
    }
    s3_endpoint = next((e["VpcEndpointId"] for e in active if e["ServiceName"].endswith(".s3")), None)
    chosen = {s3_endpoint, *interfaces.values()}
    return {
        "s3_endpoint": s3_endpoint,
        "interfaces": interfaces,
        "surplus_endpoints": tuple(e["VpcEndpointId"] for e in active if e["VpcEndpointId"] not in chosen),
        "connect_endpoint": next((d["InstanceConnectEndpointId"] for d in connect if d["State"] in OPENING), None),
        "is_connect_endpoint_pending": any(d["State"] == "create-in-progress" for d in connect),
        "failed_connect_endpoints": tuple(
            d["InstanceConnectEndpointId"] for d in connect if d["State"].endswith("-failed")
        ),
    }


def find_attached_vpc(gateway: dict[str, Any]) -> str:
    """Return the VPC that the gateway is attached to, or ""."""
    return next((a["VpcId"] for a in gateway.get("Attachments", [])), "")


def build_tag_specification(settings: Settings, resource_type: str, name: str) -> dict[str, Any]:
    return {"TagSpecifications": [{"ResourceType": resource_type, "Tags": settings.tags(f"{settings.prefix}-{name}")}]}


def has_stack_tag(resource: dict[str, Any], account: Account) -> bool:
    return {"Key": "kennel:stack", "Value": account.settings.stack.name} in resource.get("Tags", [])


def read_security_groups(account: Account, vpc: str, s3_list: str) -> dict[str, Group]:
    prefix = account.settings.prefix + "-"
    found = {
        g["GroupName"].removeprefix(prefix): g
        for g in account.list_tagged("describe_security_groups", "SecurityGroups", vpc_id=vpc)
    }
    names = {g["GroupId"]: f"@{name}" for name, g in found.items()} | {s3_list: S3_PEER}
    return {
        name: Group(
            g["GroupId"],
            parse_group_rules(g["IpPermissions"], names),
            parse_group_rules(g["IpPermissionsEgress"], names),
        )
        for name, g in found.items()
    }


def parse_group_rules(permissions: list[dict[str, Any]], names: dict[str, str]) -> frozenset[Rule]:
    found = set()
    for p in permissions:
        peers = [pair["GroupId"] for pair in p.get("UserIdGroupPairs", [])]
        peers += [item["PrefixListId"] for item in p.get("PrefixListIds", [])]
        peers += [item["CidrIp"] for item in p.get("IpRanges", [])] + [
            item["CidrIpv6"] for item in p.get("Ipv6Ranges", [])
        ]
        found |= {
            Rule(p["IpProtocol"], p.get("FromPort", -1), p.get("ToPort", -1), names.get(peer, peer)) for peer in peers
        }
    return frozenset(found)


def parse_acl_entry(e: dict[str, Any]) -> Entry:
    ports = e.get("PortRange", {"From": -1, "To": -1})
    return Entry(
        e["RuleNumber"],
        e["Egress"],
        e["Protocol"],
        ports.get("From", -1),
        ports.get("To", -1),
        e.get("CidrBlock", ""),
        e["RuleAction"],
    )


def list_network_users(account: Account, vpc: str) -> list[str]:
    """Return what uses the network: instances, training jobs, and the endpoint, whose model may be in it."""
    found = account.list_all("ec2", "describe_instances", "Reservations", Filters=[{"Name": "vpc-id", "Values": [vpc]}])
    names = [i["InstanceId"] for r in found for i in r["Instances"] if i["State"]["Name"] != "terminated"]
    endpoint = account.call_or_none(
        "sagemaker", "describe_endpoint", "Could not find", EndpointName=account.settings.endpoint_name
    )
    filters = {"StatusEquals": "InProgress", "NameContains": account.settings.prefix}
    jobs = account.list_all("sagemaker", "list_training_jobs", "TrainingJobSummaries", **filters)
    ours = [j["TrainingJobName"] for j in jobs if j["TrainingJobName"].startswith(account.settings.prefix + "-")]
    return [*names, *ours, *([f"endpoint {endpoint['EndpointName']}"] if endpoint else [])]

"""The facts of the network: found by this stack's tags. Peers of rules have the names that the plan uses."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ops.core.aws.account import Account
from ops.core.errors import OpsError
from ops.core.settings import Settings
from ops.network.reachability import find_route_target

S3_PEER = "@s3"
ANYWHERE = "0.0.0.0/0"
OPENING = ("create-in-progress", "create-complete", "update-in-progress", "update-complete")


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
    `gateway`: our internet gateway's (id, VPC).
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
    failed_connect_endpoints: tuple[str, ...] = ()
    interfaces: dict[str, str] = field(default_factory=dict)

    def parts(self) -> dict[str, str]:
        """Return each part's id, "-" for a missing one, by its readable name."""
        rows = {"vpc": self.vpc or "-"}
        rows |= {f"subnet {zone}": subnet for zone, subnet in self.subnets.items()}
        rows |= {f"group {name}": group.id for name, group in self.groups.items()}
        rows["S3 gateway endpoint"] = self.s3_endpoint or "-"
        rows["Instance Connect Endpoint"] = self.connect_endpoint or "-"
        return rows | ({"internet gateway": self.gateway[0]} if self.gateway else {})


def read(account: Account) -> Facts:
    region = account.settings.aws.region
    named_s3 = [{"Name": "prefix-list-name", "Values": [f"com.amazonaws.{region}.s3"]}]
    s3_list = account.list_all("ec2", "describe_managed_prefix_lists", "PrefixLists", Filters=named_s3)[0][
        "PrefixListId"
    ]
    vpcs = account.list_tagged("describe_vpcs", "Vpcs")
    if not vpcs:
        return Facts(s3_list)
    if len(vpcs) > 1:
        raise OpsError(
            f"This stack has {len(vpcs)} VPCs, and should have one: {', '.join(v['VpcId'] for v in vpcs)} (two net.up at once "
            "create two). Delete the one that nothing uses in the console, then run the same command again."
        )
    vpc = vpcs[0]["VpcId"]
    subnets = account.list_tagged("describe_subnets", "Subnets", vpc_id=vpc)
    gateways = account.list_tagged("describe_internet_gateways", "InternetGateways")
    hostnames = account.call("ec2", "describe_vpc_attribute", VpcId=vpc, Attribute="enableDnsHostnames")
    return Facts(
        s3_list=s3_list,
        vpc=vpc,
        hostnames=hostnames["EnableDnsHostnames"]["Value"],
        subnets={s["AvailabilityZone"]: s["SubnetId"] for s in subnets},
        taken=frozenset(s["CidrBlock"] for s in subnets),
        gateway=next(((g["InternetGatewayId"], find_attached_vpc(g)) for g in gateways), None),
        groups=read_security_groups(account, vpc, s3_list),
        **read_route_table(account, vpc),
        **read_network_acls(account, vpc),
        **read_endpoints(account, vpc),
    )


def read_route_table(account: Account, vpc: str) -> dict[str, Any]:
    tables = account.list_tagged("describe_route_tables", "RouteTables", vpc_id=vpc)
    pairs = [
        (r["DestinationCidrBlock"], find_route_target(r))
        for t in tables
        for r in t["Routes"]
        if "DestinationCidrBlock" in r
    ]
    return {
        "routes": tables[0]["RouteTableId"] if tables else None,
        "routed": frozenset(a["SubnetId"] for t in tables for a in t["Associations"] if "SubnetId" in a),
        "stray_routes": {cidr: to for cidr, to in pairs if to != "local" and not to.startswith("vpce-")},
    }


def read_network_acls(account: Account, vpc: str) -> dict[str, Any]:
    found = account.list_all(
        "ec2", "describe_network_acls", "NetworkAcls", Filters=[{"Name": "vpc-id", "Values": [vpc]}]
    )
    ours = next((a for a in found if not a["IsDefault"] and has_stack_tag(a, account)), None)
    return {
        "acl": ours["NetworkAclId"] if ours else None,
        "entries": frozenset(parse_acl_entry(e) for e in ours["Entries"] if e["RuleNumber"] < 32767)
        if ours
        else frozenset(),
        "associations": {
            a["SubnetId"]: (acl["NetworkAclId"], a["NetworkAclAssociationId"])
            for acl in found
            for a in acl["Associations"]
        },
    }


def read_endpoints(account: Account, vpc: str) -> dict[str, Any]:
    found = account.list_tagged("describe_vpc_endpoints", "VpcEndpoints", vpc_id=vpc)
    active = [e for e in found if e["State"].lower() not in ("deleting", "deleted")]
    connect = account.list_tagged("describe_instance_connect_endpoints", "InstanceConnectEndpoints", vpc_id=vpc)
    interfaces = [e for e in active if e["VpcEndpointType"] == "Interface"]
    return {
        "s3_endpoint": next((e["VpcEndpointId"] for e in active if e["ServiceName"].endswith(".s3")), None),
        "interfaces": {
            e["ServiceName"].rsplit(f"{account.settings.aws.region}.", 1)[1]: e["VpcEndpointId"] for e in interfaces
        },
        "connect_endpoint": next((d["InstanceConnectEndpointId"] for d in connect if d["State"] in OPENING), None),
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

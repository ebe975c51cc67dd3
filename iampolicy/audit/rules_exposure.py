"""Rules about what is public: the bucket, the function, the network."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from ipaddress import ip_network
from typing import Any

from iampolicy.audit.account_facts import AccountFacts
from iampolicy.audit.context import UNUSED_NAME, AuditContext, list_example_resources
from iampolicy.audit.external_principals import (
    EXTERNAL_CALLERS,
    UNLIMITED,
    ExternalCaller,
    build_foreign_service,
    collect_condition_keys,
    is_worldwide,
    iterate_caller_requests,
    list_named_callers,
)
from iampolicy.audit.rules_trust import extract_account
from iampolicy.escalation.session_times import drop_impossible_sessions
from iampolicy.finding import Finding
from iampolicy.policy.document import Policy, Statement, parse_policy
from iampolicy.policy.evaluate import Request, decide_request

BLOCKS = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
PUBLIC_GRANTS = ("/global/AllUsers", "/global/AuthenticatedUsers")
WEB_PORTS = (80, 443)  # mostly open on purpose
PROTOCOLS = {"tcp": "6", "udp": "17", "icmp": "1", "icmpv6": "58"}


def findings(context: AuditContext, facts: AccountFacts) -> Iterator[Finding]:
    for name, bucket in (facts.buckets or {}).items():
        yield from find_bucket_exposure(context, name, bucket)
    for name, function in (facts.functions or {}).items():
        yield from find_function_exposure(context, name, function)
    for group in facts.groups or ():
        yield from find_group_exposure(group, facts.acls)


def find_bucket_exposure(context: AuditContext, name: str, bucket: Mapping[str, Any]) -> Iterator[Finding]:
    blocks = bucket.get("blocks") or {}
    if missing := [block for block in BLOCKS if blocks.get(block) is not True]:
        message = f"Block Public Access is off: {', '.join(missing)}"
        yield Finding("IAM-EXPO-001", "high", name, message, "invoke data.up")
    public = [uri for uri in bucket.get("grants") or () if str(uri).endswith(PUBLIC_GRANTS)]
    if public and blocks.get("IgnorePublicAcls") is not True:
        yield Finding("IAM-EXPO-001", "high", name, "its ACL allows everyone", "block public access: invoke data.up", "ACL")  # fmt: skip
    held = parse_policy("bucket policy", bucket.get("policy"))
    for one in held.statements:
        for found in describe_outside_access(
            context, held, one, [f"arn:aws:s3:::{name}", f"arn:aws:s3:::{name}/{UNUSED_NAME}"]
        ):
            fix = "name the principals of this account that need access"
            yield Finding("IAM-EXPO-001", "high", name, found, fix, held.name, one.name)


def find_function_exposure(context: AuditContext, name: str, function: Mapping[str, Any]) -> Iterator[Finding]:
    if "NONE" in (function.get("urls") or ()):
        yield Finding("IAM-EXPO-001", "high", name, "its URL has no authentication", "set its AuthType to AWS_IAM", "URL")  # fmt: skip
    for document in function.get("policies") or ():
        held = parse_policy("function policy", document)
        for one in held.statements:
            fix = "name the principals, and require aws:SourceArn or aws:SourceAccount for a service"
            for found in describe_outside_access(context, held, one, []):
                yield Finding("IAM-EXPO-001", "high", name, found, fix, held.name, one.name)
            for value in [value for kind, value in one.principals or () if kind == "Service" and one.allow]:
                if can_any_caller_pass(context, held, one, [build_foreign_service(value)], []):
                    found = f"{value} may invoke it on behalf of any account"
                    yield Finding("IAM-EXPO-001", "high", name, found, fix, held.name, one.name)


def describe_outside_access(context: AuditContext, held: Policy, one: Statement, resources: list[str]) -> Iterator[str]:
    """Yield a sentence for each caller from outside this account that the statement allows."""
    if not one.allow:
        return
    if can_any_caller_pass(context, held, one, EXTERNAL_CALLERS, resources):
        yield "its policy allows everyone"
        return
    for kind, value in one.principals or ():
        account = extract_account(value) if kind == "AWS" else ""
        foreign = account not in ("", context.account) and "principal" not in one.negated
        if foreign and can_any_caller_pass(context, held, one, list_named_callers(value, account), resources):
            yield f"its policy allows {value} of another account"


def can_any_caller_pass(
    context: AuditContext, held: Policy, one: Statement, callers: Iterable[ExternalCaller], named: list[str]
) -> bool:
    """Return whether this statement allows some request of one of the callers."""
    held = drop_impossible_sessions(held, "user", context.now)
    now = {"aws:currenttime": context.now.isoformat(), "aws:epochtime": str(int(context.now.timestamp()))}
    asked = collect_condition_keys(held)
    actions = [a.replace("*", UNUSED_NAME).replace("?", "x") for a in one.actions] or [f"{UNUSED_NAME}:{UNUSED_NAME}"]
    places = [
        (action, place)
        for action in actions
        for place in (*named, *list_example_resources(one, action, context.account))
    ]
    for external in callers:
        for met, known in iterate_caller_requests(external, held, asked):
            for action, place in places:
                request = Request(external.caller, action, place, {**now, **known})
                decision = decide_request(request, UNLIMITED, met, context.account, required=True, possible=True)
                if decision.allowed and any(
                    d.layer == "resource" and d.statement.number == one.number for d in decision.deciding
                ):
                    return True
    return False


Opening = tuple[str, int, int, frozenset[int]]  # protocol, first port, last port, versions of IP


def list_world_openings(group: Mapping[str, Any]) -> list[Opening]:
    """Return what a security group allows from the whole internet."""
    found: list[Opening] = []
    for rule in group.get("IpPermissions") or ():
        ranges = [r.get("CidrIp", "") for r in rule.get("IpRanges") or ()]
        ranges += [r.get("CidrIpv6", "") for r in rule.get("Ipv6Ranges") or ()]
        if versions := frozenset(ip_network(text, strict=False).version for text in ranges if is_worldwide(text)):
            every = str(rule.get("IpProtocol")) == "-1"
            first, last = (0, 65535) if every else (rule.get("FromPort", 0), rule.get("ToPort", 65535))
            found.append((str(rule.get("IpProtocol")), first, 65535 if last == -1 else last, versions))
    return found


def find_group_exposure(group: Mapping[str, Any], acls: tuple[Mapping[str, Any], ...]) -> Iterator[Finding]:
    """Yield a finding for each opening to the internet; it is low while the network ACLs block all of its ports."""
    name = f"{group.get('GroupId', '')} {group.get('GroupName', '')}".strip()
    for opening in list_world_openings(group):
        protocol, first, last, _ = opening
        there = [acl for acl in acls if acl.get("VpcId") == group.get("VpcId")]
        blocked = bool(there) and not any(is_acl_open(acl, opening) for acl in there)
        meant = protocol == "tcp" and first == last and first in WEB_PORTS
        severity = "low" if blocked or protocol.startswith("icmp") else "medium" if meant else "high"
        ports = (
            "all ports"
            if (first, last) == (0, 65535)
            else f"port {first}"
            if first == last
            else f"ports {first} to {last}"
        )
        message = f"is open to the internet on {ports}" + (", which the network ACLs block" if blocked else "")
        yield Finding("IAM-EXPO-003", severity, name, message, "allow only the addresses that need it: invoke net.up")


def is_acl_open(acl: Mapping[str, Any], opening: Opening) -> bool:
    """Return whether a network ACL allows the internet to any of the ports; for each port, the first matching entry decides."""
    entries = [e for e in sorted(acl.get("Entries") or (), key=lambda e: e.get("RuleNumber", 0)) if not e.get("Egress")]
    protocol, first, last, versions = opening
    named = {str(e.get("Protocol")) for e in entries}  # "-1" among them stands for all that no entry names
    protocols = named if protocol == "-1" else {PROTOCOLS.get(protocol, protocol)}
    return any(
        is_any_port_allowed([e for e in entries if is_world_entry(e, one, version)], max(first, 0), last)
        for one in protocols
        for version in versions
    )


def is_world_entry(entry: Mapping[str, Any], protocol: str, version: int) -> bool:
    """Return whether an entry is for the protocol, and for the whole internet in this version of IP."""
    network = entry.get("CidrBlock") or entry.get("Ipv6CidrBlock") or ""
    same = str(entry.get("Protocol")) in ("-1", protocol, *(name for name, n in PROTOCOLS.items() if n == protocol))
    return same and is_worldwide(network) and ip_network(network, strict=False).version == version


def is_any_port_allowed(entries: list[Mapping[str, Any]], first: int, last: int) -> bool:
    """Return whether one of the ports is allowed before it is denied to the whole internet."""
    left = [(first, last)]
    for entry in entries:
        ports = entry.get("PortRange") or {"From": 0, "To": 65535}
        lo, hi = ports["From"], ports["To"]
        if entry.get("RuleAction") == "allow":
            if any(a <= hi and lo <= b for a, b in left):
                return True
        elif (entry.get("CidrBlock") or entry.get("Ipv6CidrBlock")) in ("0.0.0.0/0", "::/0"):
            left = [part for a, b in left for part in ((a, min(b, lo - 1)), (max(a, hi + 1), b)) if part[0] <= part[1]]
    return False

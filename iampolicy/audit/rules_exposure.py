"""Rules about what lets the world in: the bucket, the function, the network."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from ipaddress import ip_network
from typing import Any

from iampolicy.audit.account_facts import AccountFacts
from iampolicy.audit.context import NOBODY, AuditContext, examples
from iampolicy.audit.external_principals import (
    EXTERNAL_CALLERS,
    UNLIMITED,
    ExternalCaller,
    callers_named,
    requested_keys,
    requests,
    service_of_others,
    worldwide,
)
from iampolicy.audit.rules_trust import account_of
from iampolicy.finding import Finding
from iampolicy.policy.document import Policy, Statement, policy
from iampolicy.policy.evaluate import Request, decide

BLOCKS = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
PUBLIC_GRANTS = ("/global/AllUsers", "/global/AuthenticatedUsers")
SOLD = (80, 443)  # ports that are open on purpose more often than not
PROTOCOLS = {"tcp": "6", "udp": "17", "icmp": "1", "icmpv6": "58"}


def findings(context: AuditContext, facts: AccountFacts) -> Iterator[Finding]:
    for name, bucket in (facts.buckets or {}).items():
        yield from bucket_findings(context, name, bucket)
    for name, function in (facts.functions or {}).items():
        yield from function_findings(context, name, function)
    for group in facts.groups or ():
        yield from group_findings(group, facts.acls)


def bucket_findings(context: AuditContext, name: str, bucket: Mapping[str, Any]) -> Iterator[Finding]:
    blocks = bucket.get("blocks") or {}
    if missing := [block for block in BLOCKS if blocks.get(block) is not True]:
        message = f"public access is not blocked: {', '.join(missing)}"
        yield Finding("IAM-EXPO-001", "high", name, message, "invoke data.up")
    public = [uri for uri in bucket.get("grants") or () if str(uri).endswith(PUBLIC_GRANTS)]
    if public and blocks.get("IgnorePublicAcls") is not True:
        yield Finding("IAM-EXPO-001", "high", name, "its ACL lets everybody in", "block public access: invoke data.up", "ACL")  # fmt: skip
    held = policy("bucket policy", bucket.get("policy"))
    for one in held.statements:
        for found in open_to(context, held, one, [f"arn:aws:s3:::{name}", f"arn:aws:s3:::{name}/{NOBODY}"]):
            fix = "name the principals of this account that may"
            yield Finding("IAM-EXPO-001", "high", name, found, fix, held.name, one.name)


def function_findings(context: AuditContext, name: str, function: Mapping[str, Any]) -> Iterator[Finding]:
    if "NONE" in (function.get("urls") or ()):
        yield Finding("IAM-EXPO-001", "high", name, "its URL asks nobody who he is", "set its AuthType to AWS_IAM", "URL")  # fmt: skip
    for document in function.get("policies") or ():
        held = policy("function policy", document)
        for one in held.statements:
            fix = "name who may, and aws:SourceArn or aws:SourceAccount for a service"
            for found in open_to(context, held, one, []):
                yield Finding("IAM-EXPO-001", "high", name, found, fix, held.name, one.name)
            for value in [value for kind, value in one.principals or () if kind == "Service" and one.allow]:
                if passes(context, held, one, [service_of_others(value)], []):
                    found = f"{value} may call it on behalf of any account"
                    yield Finding("IAM-EXPO-001", "high", name, found, fix, held.name, one.name)


def open_to(context: AuditContext, held: Policy, one: Statement, resources: list[str]) -> Iterator[str]:
    """Who of outside this account the statement lets in."""
    if not one.allow:
        return
    if passes(context, held, one, EXTERNAL_CALLERS, resources):
        yield "its policy lets everybody in"
        return
    for kind, value in one.principals or ():
        account = account_of(value) if kind == "AWS" else ""
        foreign = account not in ("", context.account) and "principal" not in one.negated
        if foreign and passes(context, held, one, callers_named(value, account), resources):
            yield f"its policy lets {value} of another account in"


def passes(
    context: AuditContext, held: Policy, one: Statement, callers: Iterable[ExternalCaller], named: list[str]
) -> bool:
    """Whether some request of one of the callers gets through this statement."""
    now = {"aws:currenttime": context.now.isoformat(), "aws:epochtime": str(int(context.now.timestamp()))}
    asked = requested_keys(held)
    actions = [a.replace("*", NOBODY).replace("?", "x") for a in one.actions] or [f"{NOBODY}:{NOBODY}"]
    places = [(action, place) for action in actions for place in (*named, *examples(one, action, context.account))]
    for external in callers:
        for met, known in requests(external, held, asked):
            for action, place in places:
                request = Request(external.caller, action, place, {**now, **known})
                decision = decide(request, UNLIMITED, met, context.account, required=True, possible=True)
                if decision.allowed and any(
                    d.layer == "resource" and d.statement.number == one.number for d in decision.deciding
                ):
                    return True
    return False


Opening = tuple[str, int, int, frozenset[int]]  # protocol, first port, last port, versions of IP


def world_openings(group: Mapping[str, Any]) -> list[Opening]:
    """What a security group lets in from the whole world."""
    found: list[Opening] = []
    for rule in group.get("IpPermissions") or ():
        ranges = [r.get("CidrIp", "") for r in rule.get("IpRanges") or ()]
        ranges += [r.get("CidrIpv6", "") for r in rule.get("Ipv6Ranges") or ()]
        if versions := frozenset(ip_network(text, strict=False).version for text in ranges if worldwide(text)):
            every = str(rule.get("IpProtocol")) == "-1"
            first, last = (0, 65535) if every else (rule.get("FromPort", 0), rule.get("ToPort", 65535))
            found.append((str(rule.get("IpProtocol")), first, 65535 if last == -1 else last, versions))
    return found


def group_findings(group: Mapping[str, Any], acls: tuple[Mapping[str, Any], ...]) -> Iterator[Finding]:
    """Network ACLs that let nobody to any of the ports make it harmless, for as long as nobody touches those."""
    name = f"{group.get('GroupId', '')} {group.get('GroupName', '')}".strip()
    for opening in world_openings(group):
        protocol, first, last, _ = opening
        there = [acl for acl in acls if acl.get("VpcId") == group.get("VpcId")]
        stopped = bool(there) and not any(admits(acl, opening) for acl in there)
        meant = protocol == "tcp" and first == last and first in SOLD
        severity = "low" if stopped or protocol.startswith("icmp") else "medium" if meant else "high"
        ports = (
            "every port"
            if (first, last) == (0, 65535)
            else f"port {first}"
            if first == last
            else f"ports {first} to {last}"
        )
        message = f"lets the whole world to {ports}" + (", which the network ACLs stop" if stopped else "")
        yield Finding("IAM-EXPO-003", severity, name, message, "name the addresses that may: invoke net.up")


def admits(acl: Mapping[str, Any], opening: Opening) -> bool:
    """Whether a network ACL lets the world to any of the ports: of each, the first entry that fits decides."""
    entries = [e for e in sorted(acl.get("Entries") or (), key=lambda e: e.get("RuleNumber", 0)) if not e.get("Egress")]
    protocol, first, last, versions = opening
    spoken = {str(e.get("Protocol")) for e in entries}  # "-1" among them stands for those that no entry names
    protocols = spoken if protocol == "-1" else {PROTOCOLS.get(protocol, protocol)}
    return any(
        let_in([e for e in entries if fits(e, one, version)], max(first, 0), last)
        for one in protocols
        for version in versions
    )


def fits(entry: Mapping[str, Any], protocol: str, version: int) -> bool:
    """Whether an entry is about the protocol, and about the world in this version of IP."""
    network = entry.get("CidrBlock") or entry.get("Ipv6CidrBlock") or ""
    same = str(entry.get("Protocol")) in ("-1", protocol, *(name for name, n in PROTOCOLS.items() if n == protocol))
    return same and worldwide(network) and ip_network(network, strict=False).version == version


def let_in(entries: list[Mapping[str, Any]], first: int, last: int) -> bool:
    """Whether one of the ports is allowed before it is denied to everybody."""
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

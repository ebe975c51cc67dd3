"""Rules about what lets the world in: the bucket, the function, the network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from ipaddress import ip_network
from typing import Any

from ops.iam.finding import Finding
from ops.iam.language.document import Policy, Statement, policy
from ops.iam.language.evaluate import Caller, Request, Rights, decide
from ops.iam.needs.expecting import EVERYTHING
from ops.iam.review.effective import NOBODY, Scene, examples
from ops.iam.review.extras import Extras
from ops.iam.review.rules_trust import WHO, account_of, stranger, visiting, visitor

BLOCKS = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
PUBLIC_GRANTS = ("/global/AllUsers", "/global/AuthenticatedUsers")
WORLD = 8  # bits: networks as large as this, or larger, are no single party's
SOLD = (80, 443)  # ports that are open on purpose more often than not
PROTOCOLS = {"tcp": "6", "udp": "17", "icmp": "1"}


def findings(scene: Scene, extras: Extras) -> Iterator[Finding]:
    for name, bucket in (extras.buckets or {}).items():
        yield from of_bucket(scene, name, bucket)
    for name, function in (extras.functions or {}).items():
        yield from of_function(scene, name, function)
    for group in extras.groups or ():
        yield from of_group(group, extras.acls)


def of_bucket(scene: Scene, name: str, bucket: Mapping[str, Any]) -> Iterator[Finding]:
    blocks = bucket.get("blocks") or {}
    if missing := [block for block in BLOCKS if blocks.get(block) is not True]:
        message = f"public access is not blocked: {', '.join(missing)}"
        yield Finding("IAM-EXPO-001", "high", name, message, "invoke data.up")
    public = [uri for uri in bucket.get("grants") or () if str(uri).endswith(PUBLIC_GRANTS)]
    if public and blocks.get("IgnorePublicAcls") is not True:
        yield Finding("IAM-EXPO-001", "high", name, "its ACL lets everybody in", "block public access: invoke data.up", "ACL")  # fmt: skip
    held = policy("bucket policy", bucket.get("policy"))
    for one in held.statements:
        for found in open_to(scene, held, one, [f"arn:aws:s3:::{name}", f"arn:aws:s3:::{name}/{NOBODY}"]):
            fix = "name the principals of this account that may"
            yield Finding("IAM-EXPO-001", "high", name, found, fix, held.name, one.name)


def of_function(scene: Scene, name: str, function: Mapping[str, Any]) -> Iterator[Finding]:
    if "NONE" in (function.get("urls") or ()):
        yield Finding("IAM-EXPO-001", "high", name, "its URL asks nobody who he is", "set its AuthType to AWS_IAM", "URL")  # fmt: skip
    for document in function.get("policies") or ():
        held = policy("function policy", document)
        for one in held.statements:
            fix = "name who may, and aws:SourceArn or aws:SourceAccount for a service"
            for found in open_to(scene, held, one, []):
                yield Finding("IAM-EXPO-001", "high", name, found, fix, held.name, one.name)
            for service in [value for kind, value in one.principals or () if kind == "Service" and one.allow]:
                if passes(scene, held, one, Caller(service=service), WHO, []):
                    found = f"{service} may call it on behalf of any account"
                    yield Finding("IAM-EXPO-001", "high", name, found, fix, held.name, one.name)


def open_to(scene: Scene, held: Policy, one: Statement, resources: list[str]) -> Iterator[str]:
    """Who of outside this account the statement lets in."""
    if not one.allow:
        return
    if passes(scene, held, one, stranger(), WHO, resources):
        yield "its policy lets everybody in"
        return
    for kind, value in one.principals or ():
        account = account_of(value) if kind == "AWS" else ""
        foreign = account not in ("", scene.account) and "principal" not in one.negated
        if foreign and passes(scene, held, one, visitor(value, account), visiting(value, account), resources):
            yield f"its policy lets {value} of another account in"


def passes(scene: Scene, held: Policy, one: Statement, who: Caller, known: Mapping[str, str], named: list[str]) -> bool:
    now = {"aws:currenttime": scene.now.isoformat(), "aws:epochtime": str(int(scene.now.timestamp()))}
    for action in [a.replace("*", NOBODY).replace("?", "x") for a in one.actions[:6]] or [f"{NOBODY}:{NOBODY}"]:
        for resource in [*named, *examples(one, action, scene.account)]:
            request = Request(who, action, resource, {**now, **known})
            decision = decide(request, Rights((EVERYTHING,)), held, scene.account, required=True, possible=True)
            if decision.allowed and any(d.statement is one for d in decision.deciding):
                return True
    return False


def openings(group: Mapping[str, Any]) -> list[tuple[str, int, int]]:
    """(protocol, first port, last port) of what a security group lets in from the whole world."""
    found = []
    for rule in group.get("IpPermissions") or ():
        ranges = [r.get("CidrIp", "") for r in rule.get("IpRanges") or ()]
        ranges += [r.get("CidrIpv6", "") for r in rule.get("Ipv6Ranges") or ()]
        if any(worldwide(text) for text in ranges):
            every = str(rule.get("IpProtocol")) == "-1"
            first, last = (0, 65535) if every else (rule.get("FromPort", 0), rule.get("ToPort", 65535))
            found.append((str(rule.get("IpProtocol")), first, 65535 if last == -1 else last))
    return found


def worldwide(text: str) -> bool:
    try:
        network = ip_network(text, strict=False)
    except ValueError:
        return False
    return network.prefixlen <= WORLD and text.partition(":")[0][:2] not in ("fc", "fd") and not text.startswith("10.")


def of_group(group: Mapping[str, Any], acls: tuple[Mapping[str, Any], ...]) -> Iterator[Finding]:
    """A network ACL that lets nobody to the port makes it harmless, for as long as nobody touches that."""
    name = f"{group.get('GroupId', '')} {group.get('GroupName', '')}".strip()
    for protocol, first, last in openings(group):
        there = [acl for acl in acls if acl.get("VpcId") == group.get("VpcId")]
        stopped = bool(there) and not any(admits(acl, protocol, port) for acl in there for port in {first, last})
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


def admits(acl: Mapping[str, Any], protocol: str, port: int) -> bool:
    """Whether a network ACL lets the world to the port: its first entry that fits decides."""
    for entry in sorted(acl.get("Entries") or (), key=lambda e: e.get("RuleNumber", 0)):
        ports = entry.get("PortRange") or {"From": 0, "To": 65535}
        same = str(entry.get("Protocol")) in ("-1", protocol, PROTOCOLS.get(protocol, protocol))
        network = entry.get("CidrBlock") or entry.get("Ipv6CidrBlock") or ""
        fits = same or protocol == "-1"
        if not entry.get("Egress") and fits and worldwide(network) and ports["From"] <= port <= ports["To"]:
            if entry.get("RuleAction") == "allow":
                return True
            if network in ("0.0.0.0/0", "::/0"):
                return False
    return False

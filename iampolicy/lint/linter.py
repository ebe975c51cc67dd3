"""Check a policy's document without calling AWS, for what AWS would refuse and for what it accepts but never applies."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from typing import Any, Literal

from iampolicy import actions
from iampolicy.finding import Finding
from iampolicy.lint import arns, conditions, principals
from iampolicy.lint.issue import (
    FORM,
    QUOTA,
    UNKNOWN,
    check_characters,
    escape_non_ascii,
    find_closest_word,
    make_issue,
    quote_text,
    suggest_fix,
)
from iampolicy.policy.document import CURRENT, VARIABLE, Policy, as_list, compile_glob

Kind = Literal["identity", "inline", "trust", "boundary", "resource"]

ELEMENTS = ("Version", "Id", "Statement")
PARTS = ("Sid", "Effect", "Principal", "NotPrincipal", "Action", "NotAction", "Resource", "NotResource", "Condition")
POLICY_TYPES = {"trust": "a trust policy", "boundary": "a permissions boundary"}
OLD = "2008-10-17"
DEEPEST = 12
LARGEST = 100_000  # characters; a larger document's statements are not checked
MOST = 500  # findings on one document; the rest appear once these are fixed
MOST_SEEN = 20_000
SEEN: dict[tuple[bytes, Kind], tuple[Finding, ...]] = {}
NEAR = 0.9  # fraction of a quota
# docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html; white space does not count. Inline: a role's, all together. Resource: S3's.
QUOTAS = {"identity": 6144, "inline": 10_240, "boundary": 6144, "trust": 2048, "resource": 20_480}
SID = re.compile(r"[A-Za-z0-9]*")
SERVICE = re.compile(r"[A-Za-z0-9.-]+")


def findings(policy: Policy, kind: Kind, principal: str = "") -> list[Finding]:
    """Return the findings on one policy. AWS's own managed policies are skipped: the account cannot change them."""
    if ":iam::aws:policy/" in policy.name:
        return []
    return [
        Finding(
            one.rule, one.severity, principal, one.message, one.fix, policy.name, one.statement, element=one.element
        )
        for one in check_once(policy, kind)
    ]


def check_once(policy: Policy, kind: Kind) -> tuple[Finding, ...]:
    """Return the findings on a document, without policy and principal, because thousands of roles may have the same document."""
    if not policy.key:
        return tuple(islice(check_policy(policy, kind), MOST))
    key = policy.key, kind
    if key not in SEEN:
        if len(SEEN) >= MOST_SEEN:
            SEEN.clear()
        SEEN[key] = tuple(islice(check_policy(policy, kind), MOST))
    return SEEN[key]


def check_policy(policy: Policy, kind: Kind) -> Iterator[Finding]:
    for statement, one in check_document(policy, kind):
        yield replace(one, statement=statement, message=escape_non_ascii(one.message), fix=escape_non_ascii(one.fix))


def check_document(policy: Policy, kind: Kind) -> Iterator[tuple[str, Finding]]:
    """Yield (the statement's name, the finding); the name is "" for the whole document."""
    document = policy.document
    if is_too_deep(document):
        yield (
            "",
            make_issue(
                FORM, "high", f"nested more than {DEEPEST} levels deep; a policy has seven", "reduce the nesting"
            ),
        )
        return
    if not isinstance(document, dict):
        yield "", make_issue(FORM, "high", "a policy must be an object", "write Version and Statement")
        return
    used = count_characters(document)
    for one in (*check_head(document), *check_size(used, QUOTAS[kind])):
        yield "", one
    if used > LARGEST:
        return
    seen: dict[str, int] = {}
    old = document.get("Version") != CURRENT
    for number, raw in enumerate(policy.raw_statements, 1):
        sid = raw.get("Sid") if isinstance(raw, dict) else None
        label = quote_text(sid) if isinstance(sid, str) and sid else f"statement {number}"
        for one in check_statement(raw, kind, old):
            yield label, one
        if isinstance(sid, str) and sid and (first := seen.setdefault(sid, number)) != number:
            yield label, make_issue(FORM, "high", f"statement {first} has the same Sid", "choose another", "Sid")


def is_too_deep(document: Any) -> bool:
    level = [document]
    for _ in range(DEEPEST):
        inner = [one for one in level if isinstance(one, dict | list)]
        level = [child for one in inner for child in (one.values() if isinstance(one, dict) else one)]
        if not level:
            return False
    return True


def check_head(document: dict[str, Any]) -> Iterator[Finding]:
    version, statements = document.get("Version"), document.get("Statement")
    yield from check_elements(document, ELEMENTS)
    for element in ("Version", "Id"):
        yield from check_characters(element, document.get(element))
    if version is None:
        yield make_issue(FORM, "low", f"Version is missing: {OLD} applies", f'write "Version": "{CURRENT}"')
    elif version == OLD:
        yield make_issue(
            FORM, "low", f"Version {OLD} does not support policy variables", f'write "Version": "{CURRENT}"', "Version"
        )
    elif version != CURRENT:
        yield make_issue(
            FORM, "high", f"unknown Version {quote_text(version)}", f'write "Version": "{CURRENT}"', "Version"
        )
    if not isinstance(document.get("Id", ""), str):
        yield make_issue(FORM, "high", "Id must be a string", "write a string", "Id")
    if not isinstance(statements, dict | list):
        yield make_issue(
            FORM, "high", "Statement is missing" if statements is None else "Statement must be a list", "write a list"
        )
    elif not statements:
        yield make_issue(FORM, "high", "Statement is empty", "write a statement", "Statement")


def count_characters(document: Any) -> int:
    return len("".join(json.dumps(document, separators=(",", ":"), ensure_ascii=False).split()))


def check_size(used: int, quota: int) -> Iterator[Finding]:
    if used > quota:
        yield make_issue(QUOTA, "high", f"{used:,} characters; the quota is {quota:,}", "split it, or group actions")
    elif used > NEAR * quota:
        yield make_issue(QUOTA, "low", f"{used:,} characters; the quota is {quota:,}", "split it before it grows")


def check_elements(raw: dict[str, Any], known: tuple[str, ...]) -> Iterator[Finding]:
    for element in raw:
        if element not in known:
            yield make_issue(
                FORM,
                "high",
                f"unknown element {quote_text(element)}",
                suggest_fix(find_closest_word(element, known), "delete it"),
                element,
            )


def check_statement(raw: Any, kind: Kind, old: bool) -> Iterator[Finding]:
    if not isinstance(raw, dict):
        yield make_issue(FORM, "high", "a statement must be an object", "write Effect, Action and Resource")
        return
    yield from check_elements(raw, PARTS)
    for element, value in raw.items():
        yield from check_characters(element if element in PARTS else "Element", value)
    yield from check_shape(raw, kind)
    patterns, resources = select_strings(raw.get("Action")), select_strings(raw.get("Resource"))
    for element in ("Action", "NotAction"):
        yield from check_actions(element, select_strings(raw.get(element)))
    for text in (*resources, *select_strings(raw.get("NotResource"))):
        yield from arns.check_placeholders("Resource", text)
    named = [one for one in patterns if one.isascii()]
    if named and all(one.isascii() for one in resources):
        yield from arns.check_resources(resources, named, raw.get("Effect") == "Allow", kind == "resource")
    for element in ("Principal", "NotPrincipal"):
        if element in raw and kind in ("trust", "resource"):
            yield from principals.check_principals(element, raw[element], kind == "trust")
    if "NotPrincipal" in raw:
        yield from principals.check_not_principal(raw.get("Effect") == "Allow", kind == "trust")
    if kind == "trust":
        yield from principals.check_trust_actions(raw, named)
    if "Condition" in raw:
        yield from conditions.check_conditions(raw["Condition"], named, raw.get("Effect") == "Allow", kind != "trust")
    if old and any(
        VARIABLE.search(one)
        for one in (*resources, *select_strings(raw.get("NotResource")), json.dumps(raw.get("Condition")))
    ):
        yield make_issue(
            FORM,
            "medium",
            f"a policy variable, which Version {OLD} takes literally",
            f'write "Version": "{CURRENT}"',
        )


def check_shape(raw: dict[str, Any], kind: Kind) -> Iterator[Finding]:
    """Check which elements a statement has or lacks, and their types."""
    if raw.get("Effect") not in ("Allow", "Deny"):
        wrong = f"Effect is {quote_text(raw['Effect'])}" if "Effect" in raw else "Effect is missing"
        yield make_issue(FORM, "high", wrong, "write Allow or Deny", "Effect")
    sid = raw.get("Sid", "")
    if not isinstance(sid, str):
        yield make_issue(FORM, "high", "Sid must be a string", "write letters and digits", "Sid")
    elif kind != "resource" and not SID.fullmatch(sid):
        yield make_issue(
            FORM, "high", f"Sid '{quote_text(sid)}' has characters that IAM refuses", "write letters and digits", "Sid"
        )
    for element in ("Action", "Resource", "Principal"):
        both = [one for one in (element, f"Not{element}") if one in raw]
        if len(both) == 2:
            yield make_issue(FORM, "high", f"{both[0]} and {both[1]} exclude each other", "keep one", both[1])
        yield from check_presence(element, both, kind)
        for one in both if element != "Principal" else ():
            yield from check_strings(one, raw[one])


def check_presence(element: str, there: list[str], kind: Kind) -> Iterator[Finding]:
    barred = {"trust": "Resource", "resource": ""}.get(kind, "Principal")
    optional = element == "Resource" and kind == "resource"  # A repository's policy has no Resource.
    if there and element == barred:
        yield make_issue(
            FORM,
            "high",
            f"{POLICY_TYPES.get(kind, 'an identity policy')} must not have {there[0]}",
            "delete it",
            there[0],
        )
    if not there and element != barred and not optional:
        yield make_issue(FORM, "high", f"{element} is missing", f"add {element}", "")


def check_strings(element: str, value: Any) -> Iterator[Finding]:
    if any(not isinstance(one, str) for one in as_list(value)):
        yield make_issue(FORM, "high", f"{element}: values must be strings", "write strings", element)
    elif value == []:
        yield make_issue(FORM, "high", f"{element} is empty", "add a value", element)


def select_strings(value: Any) -> list[str]:
    return [one for one in as_list(value) if isinstance(one, str)]


def check_actions(element: str, patterns: list[str]) -> Iterator[Finding]:
    """Report actions that do not exist, and actions that another one of the same statement covers."""
    lower = [one.lower() for one in patterns]
    for pattern in patterns:
        service, colon, name = pattern.partition(":")
        if pattern == "*" or not pattern.isascii():
            continue
        if not colon or ":" in name or not (service == "*" or SERVICE.fullmatch(service)):
            better = actions.find_nearest_action(pattern) or (
                actions.find_nearest_action(pattern.replace(".", ":", 1)) if not colon else ""
            )
            message = f"{element} '{quote_text(pattern)}' is not of the form SERVICE:NAME"
            yield make_issue(UNKNOWN, "high", message, suggest_fix(better, "name the service: s3:GetObject"), element)
        elif not actions.list_matching_actions(pattern):
            wild = "matches no action" if "*" in pattern or "?" in pattern else "is not an action of AWS"
            yield make_issue(
                UNKNOWN,
                "high",
                f"{quote_text(pattern)} {wild}",
                suggest_fix(actions.find_nearest_action(pattern), "see the service's actions"),
                element,
            )
    wider = [one for one in lower if "*" in one or "?" in one]
    for at, (pattern, low) in enumerate(zip(patterns, lower, strict=True)):
        cover = next((one for one in wider if one != low and compile_glob(one).fullmatch(low)), "")
        if low in lower[:at] or cover:
            message = (
                f"{quote_text(pattern)} is covered by {quote_text(cover)}"
                if cover
                else f"{quote_text(pattern)} is listed twice"
            )
            yield make_issue(FORM, "low", message, "delete it", element)

"""Conditions that never hold, always hold, or ask for what no request carries."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any

from iampolicy import actions
from iampolicy.finding import Finding
from iampolicy.lint.arns import left_over
from iampolicy.lint.issue import CONDITION, FORM, close, instead, issue, shown
from iampolicy.policy.conditions import NEGATIVE, binary, moment, number, split
from iampolicy.policy.document import VARIABLE, listed, word

OPERATORS = (
    *(
        "StringEquals",
        "StringNotEquals",
        "StringEqualsIgnoreCase",
        "StringNotEqualsIgnoreCase",
        "StringLike",
        "StringNotLike",
    ),
    *("NumericEquals", "NumericNotEquals", "NumericLessThan", "NumericLessThanEquals"),
    *(
        "NumericGreaterThan",
        "NumericGreaterThanEquals",
        "DateEquals",
        "DateNotEquals",
        "DateLessThan",
        "DateLessThanEquals",
    ),
    *("DateGreaterThan", "DateGreaterThanEquals", "Bool", "BinaryEquals", "IpAddress", "NotIpAddress"),
    *("ArnEquals", "ArnLike", "ArnNotEquals", "ArnNotLike", "Null"),
)
SPELLED = {one.lower(): one for one in OPERATORS}
QUANTIFIERS = {"": "", "forallvalues": "ForAllValues:", "foranyvalue": "ForAnyValue:"}
ACCOUNT_KEYS = ("aws:sourceaccount", "aws:principalaccount", "aws:resourceaccount")
TEXTUAL = ("stringequals", "stringnotequals", "stringequalsignorecase", "stringnotequalsignorecase")

# family of operators -> (the types of key that it reads, the operator to use instead for a key of that type)
FAMILIES = {"string": "String", "numeric": "Numeric", "date": "Date", "bool": "Bool", "ip": "IPAddress", "arn": "ARN"}
INSTEAD = {
    "String": "StringEquals",
    "Numeric": "NumericEquals",
    "Date": "DateLessThan",
    "Bool": "Bool",
    "IPAddress": "IpAddress",
    "ARN": "ArnLike",
}


def check_conditions(raw: Any, patterns: Sequence[str], allow: bool, exact: bool) -> Iterator[Finding]:
    """Of one statement's Condition. `patterns` are its actions, none for a NotAction; `exact`: each must take every key."""
    if not isinstance(raw, dict):
        yield issue(FORM, "high", "Condition is no object", "write {operator: {key: value}}", "Condition")
        return
    for operator, block in raw.items():
        yield from known_operator(operator)
        if not isinstance(block, dict):
            yield issue(FORM, "high", f"{shown(operator)} is no object", "write {key: value} in it", "Condition")
            continue
        seen: dict[str, str] = {}
        for key, values in block.items():
            if (same := seen.setdefault(key.lower(), key)) != key:
                yield issue(
                    FORM, "high", f"{operator} names {shown(key)} twice: also as {shown(same)}", "keep one", "Condition"
                )
            yield from about(operator, key, values, patterns, allow, exact)
            yield from unguarded(operator, key, raw, allow)


def known_operator(operator: str) -> Iterator[Finding]:
    quantifier, base, if_exists = split(operator)
    right = QUANTIFIERS.get(quantifier, "?") + SPELLED.get(base, "?") + ("IfExists" if if_exists else "")
    if right == operator and not (base == "null" and (if_exists or quantifier)):
        return
    best = SPELLED.get(base) or close(base, OPERATORS)
    before = QUANTIFIERS.get(quantifier) or f"{close(quantifier, ('ForAllValues', 'ForAnyValue'))}:".removeprefix(":")
    wanted = f"{before}{best}{'IfExists' if if_exists else ''}" if best and best != "Null" else best
    yield issue(
        CONDITION,
        "high",
        f"there is no condition operator {shown(operator)}",
        instead(wanted, "see IAM's operators"),
        "Condition",
    )


def about(operator: str, key: str, values: Any, patterns: Sequence[str], allow: bool, exact: bool) -> Iterator[Finding]:
    """One key with its values."""
    if key.isascii():
        yield from known_key(operator, key, patterns, allow, exact)
    found = listed(values)
    if not found:
        yield issue(
            FORM, "low", f"{operator} {shown(key)} lists no value", "name one, or drop the condition", "Condition"
        )
    if any(not isinstance(one, str | bool | int | float) for one in found):
        yield issue(FORM, "high", f"{operator} {shown(key)} holds what is no text", "write texts", "Condition")
        return
    words = [word(one) for one in found]
    for one in words:
        yield from left_over("Condition", one)
    yield from unreadable(operator, key, words, allow)
    yield from unfitting(operator, key, words)
    yield from absent(operator, key, words, allow)


def known_key(operator: str, key: str, patterns: Sequence[str], allow: bool, exact: bool) -> Iterator[Finding]:
    lacking = [one for one in patterns if one != "*" and actions.matching(one) and not asked(one, key)]
    kind = actions.key_type(key)
    if not kind and "." not in key.partition(":")[0] and not (patterns and not lacking and "*" not in patterns):
        known = {*actions.GLOBAL_KEYS, *(key for one in patterns if one != "*" for key in keys(one))}
        message = f"there is no condition key {shown(key)}"
        yield issue(CONDITION, "medium", message, instead(close(key, known), "see the service's keys"), "Condition")
        return
    _, base, if_exists = split(operator)
    whole = len(lacking) == len(patterns)
    if (
        not lacking
        or (not whole and not exact)
        or (not whole and (not allow or if_exists or base in NEGATIVE or base == "null"))
    ):
        return
    message = f"{', '.join(map(shown, lacking[:3]))} never {'carries' if len(lacking) == 1 else 'carry'} {shown(key)}"
    effect = (
        "the condition says nothing"
        if if_exists or base in NEGATIVE
        else "so it never applies"
        if len(lacking) == 1
        else "so they never apply"
    )
    yield issue(
        CONDITION,
        "medium",
        f"{message}: {effect}",
        "move the condition to a statement of the actions that take it",
        "Condition",
    )


@lru_cache(10_000)
def keys(pattern: str) -> frozenset[str]:
    return frozenset(key for action in actions.matching(pattern) for key in actions.service_keys(action))


@lru_cache(100_000)
def asked(pattern: str, key: str) -> bool:
    """Whether some action of the pattern takes the key."""
    if actions.among(key, actions.GLOBAL_KEYS) or actions.among(key, keys(pattern)):
        return True
    return any(actions.takes(action, key) for action in actions.matching(pattern))


def network(text: str) -> Any:
    return ipaddress.ip_network(text)  # strict: 10.0.0.1/8 is likely a slip


def truth(text: str) -> None:
    if text.lower() not in ("true", "false"):
        raise ValueError(text)


def arn(text: str) -> None:
    if text != "*" and not (text.startswith("arn:") and (text.count(":") >= 5 or "*" in text)):
        raise ValueError(text)


READERS: dict[str, tuple[Callable[[str], Any], str]] = {
    "numeric": (number, "no number"),
    "date": (moment, "no date: write 2026-12-31T00:00:00Z"),
    "ipaddress": (network, "no network: write 203.0.113.0/24"),
    "notipaddress": (network, "no network: write 203.0.113.0/24"),
    "bool": (truth, "neither true nor false"),
    "null": (truth, "neither true nor false"),
    "binary": (binary, "no base64"),
    "arn": (arn, "no ARN"),
}


def unreadable(operator: str, key: str, words: Sequence[str], allow: bool) -> Iterator[Finding]:
    base = split(operator)[1]
    reader = next((found for start, found in READERS.items() if base.startswith(start)), None)
    for text in words:
        if reader and not VARIABLE.search(text):
            try:
                reader[0](text)
            except (ValueError, OverflowError):
                severity = "medium" if allow else "high"  # a Deny that never holds
                yield issue(
                    CONDITION,
                    severity,
                    f"{operator} {shown(key)}: '{shown(text)}' is {reader[1]}",
                    "mend the value",
                    "Condition",
                )
        if base in TEXTUAL and re.search(r"[*?]", VARIABLE.sub("", text)):
            message = f"{operator} {shown(key)}: in '{shown(text)}' the wildcard stands for itself"
            fix = "write " + ("StringNotLike" if "not" in base else "StringLike")
            yield issue(CONDITION, "medium", message, fix, "Condition")
        if base in TEXTUAL and key.lower() in ACCOUNT_KEYS and "$" not in text and not re.fullmatch(r"\d{12}", text):
            yield issue(
                CONDITION, "medium", f"{key}: '{shown(text)}' is no account of 12 digits", "mend the value", "Condition"
            )


def unfitting(operator: str, key: str, words: Sequence[str]) -> Iterator[Finding]:
    """Operators that do not read a key of this type. A text compares with anything, ARNs and numbers just badly."""
    quantifier, base, _ = split(operator)
    family = next((name for start, name in FAMILIES.items() if base.removeprefix("not").startswith(start)), "")
    full = actions.key_type(key)
    kind = full.removeprefix("ArrayOf")
    if not kind or not family or base not in SPELLED:
        return
    # AWS's reference calls some keys String that hold ARNs, and takes a date as seconds too.
    fine = family == kind or (family == "ARN" and kind == "String") or (family == "Numeric" and kind == "Date")
    if not fine:
        severity = "low" if family == "String" and kind in ("ARN", "Bool") else "medium"
        message = f"{operator} {shown(key)}: the key's type is {kind}"
        yield issue(CONDITION, severity, message, f"write {INSTEAD[kind]}", "Condition")
    if quantifier and not full.startswith("ArrayOf") and not key.lower().startswith("aws:principalorg"):
        message = f"{operator} {shown(key)}: the key has one value"
        yield issue(CONDITION, "low", message, f"write {SPELLED[base]}", "Condition")


def absent(operator: str, key: str, words: Sequence[str], allow: bool) -> Iterator[Finding]:
    """What is meant for requests with the key alone, or for those without it too, and is not so.

    A long-term access key's request has no aws:MultiFactorAuthPresent at all.
    """
    quantifier, base, if_exists = split(operator)
    if quantifier == "foranyvalue" and if_exists:
        message = f"{operator} {shown(key)} never holds for a request without the key: ForAnyValue overrules IfExists"
        yield issue(CONDITION, "medium", message, f"write {operator.removesuffix('IfExists')}", "Condition")
    if key.lower() != "aws:multifactorauthpresent" or base != "bool" or if_exists != allow:
        return
    if allow and "true" in words:
        message = f"{operator} {shown(key)} lets through access keys, whose requests have no such key"
        yield issue(CONDITION, "medium", message, "write Bool", "Condition")
    if not allow and "false" in words:
        message = f"{operator} {shown(key)} denies no access keys, whose requests have no such key"
        yield issue(CONDITION, "medium", message, "write BoolIfExists", "Condition")


def unguarded(operator: str, key: str, raw: dict[str, Any], allow: bool) -> Iterator[Finding]:
    """ForAllValues holds for a request without the key: an Allow must also ask that it is there."""
    if not allow or split(operator)[0] != "forallvalues":
        return
    for other, block in raw.items():
        quantifier, base, if_exists = split(other)
        if not isinstance(block, dict) or quantifier == "forallvalues" or if_exists or base in NEGATIVE:
            continue
        present = {
            name.lower() for name, value in block.items() if base != "null" or "false" in map(word, listed(value))
        }
        tags = key.lower() == "aws:tagkeys" and any(name.startswith("aws:requesttag/") for name in present)
        if key.lower() in present or tags:
            return
    message = f"{operator} {shown(key)} also lets through a request without the key"
    yield issue(CONDITION, "medium", message, f'add "Null": {{"{shown(key)}": "false"}}', "Condition")

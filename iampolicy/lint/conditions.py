"""Check for conditions that are never true, always true, or use a condition key that no request has."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any

from iampolicy import actions
from iampolicy.finding import Finding
from iampolicy.lint.arns import check_placeholders
from iampolicy.lint.issue import CONDITION, FORM, find_closest_word, make_issue, quote_text, suggest_fix
from iampolicy.policy.conditions import NEGATIVE, parse_binary, parse_date, parse_number, split_operator
from iampolicy.policy.document import VARIABLE, as_iam_string, as_list

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

# Map each family of operators to the type of key that it reads, and each type of key to the operator to use for it.
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
    """Check a statement's Condition. `patterns` are its actions, [] for a NotAction; with `exact`, each must have every key."""
    if not isinstance(raw, dict):
        yield make_issue(FORM, "high", "Condition must be an object", "write {operator: {key: value}}", "Condition")
        return
    for operator, block in raw.items():
        yield from check_operator(operator)
        if not isinstance(block, dict):
            yield make_issue(
                FORM, "high", f"{quote_text(operator)} must be an object", "write {key: value} in it", "Condition"
            )
            continue
        seen: dict[str, str] = {}
        for key, values in block.items():
            if (same := seen.setdefault(key.lower(), key)) != key:
                yield make_issue(
                    FORM,
                    "high",
                    f"{operator} has {quote_text(key)} twice: also as {quote_text(same)}",
                    "keep one",
                    "Condition",
                )
            yield from check_condition(operator, key, values, patterns, allow, exact)
            yield from check_guard(operator, key, raw, allow)


def check_operator(operator: str) -> Iterator[Finding]:
    quantifier, base, if_exists = split_operator(operator)
    right = QUANTIFIERS.get(quantifier, "?") + SPELLED.get(base, "?") + ("IfExists" if if_exists else "")
    if right == operator and not (base == "null" and (if_exists or quantifier)):
        return
    best = SPELLED.get(base) or find_closest_word(base, OPERATORS)
    before = QUANTIFIERS.get(
        quantifier
    ) or f"{find_closest_word(quantifier, ('ForAllValues', 'ForAnyValue'))}:".removeprefix(":")
    wanted = f"{before}{best}{'IfExists' if if_exists else ''}" if best and best != "Null" else best
    yield make_issue(
        CONDITION,
        "high",
        f"unknown condition operator {quote_text(operator)}",
        suggest_fix(wanted, "see IAM's operators"),
        "Condition",
    )


def check_condition(
    operator: str, key: str, values: Any, patterns: Sequence[str], allow: bool, exact: bool
) -> Iterator[Finding]:
    """Check one key and its values."""
    if key.isascii():
        yield from check_key(operator, key, patterns, allow, exact)
    found = as_list(values)
    if not found:
        yield make_issue(
            FORM, "low", f"{operator} {quote_text(key)} has no value", "add one, or delete the condition", "Condition"
        )
    if any(not isinstance(one, str | bool | int | float) for one in found):
        yield make_issue(
            FORM, "high", f"{operator} {quote_text(key)}: values must be strings", "write strings", "Condition"
        )
        return
    words = [as_iam_string(one) for one in found]
    for one in words:
        yield from check_placeholders("Condition", one)
    yield from check_values(operator, key, words, allow)
    yield from check_type(operator, key, words)
    yield from check_absence(operator, key, words, allow)


def check_key(operator: str, key: str, patterns: Sequence[str], allow: bool, exact: bool) -> Iterator[Finding]:
    lacking = [one for one in patterns if one != "*" and actions.list_matching_actions(one) and not is_asked(one, key)]
    kind = actions.find_key_type(key)
    if not kind and "." not in key.partition(":")[0] and not (patterns and not lacking and "*" not in patterns):
        known = {*actions.GLOBAL_KEYS, *(key for one in patterns if one != "*" for key in list_pattern_keys(one))}
        message = f"unknown condition key {quote_text(key)}"
        yield make_issue(
            CONDITION,
            "medium",
            message,
            suggest_fix(find_closest_word(key, known), "see the service's keys"),
            "Condition",
        )
        return
    _, base, if_exists = split_operator(operator)
    whole = len(lacking) == len(patterns)
    if (
        not lacking
        or (not whole and not exact)
        or (not whole and (not allow or if_exists or base in NEGATIVE or base == "null"))
    ):
        return
    message = f"{', '.join(map(quote_text, lacking[:3]))} never {'has' if len(lacking) == 1 else 'have'} the condition key {quote_text(key)}"
    effect = (
        "the condition has no effect"
        if if_exists or base in NEGATIVE
        else "so it never applies"
        if len(lacking) == 1
        else "so they never apply"
    )
    yield make_issue(
        CONDITION,
        "medium",
        f"{message}: {effect}",
        "move the condition to a statement with the actions that support it",
        "Condition",
    )


@lru_cache(10_000)
def list_pattern_keys(pattern: str) -> frozenset[str]:
    return frozenset(
        key for action in actions.list_matching_actions(pattern) for key in actions.list_service_keys(action)
    )


@lru_cache(100_000)
def is_asked(pattern: str, key: str) -> bool:
    """Return whether requests for some action of the pattern have the condition key."""
    if actions.find_known_key(key, actions.GLOBAL_KEYS) or actions.find_known_key(key, list_pattern_keys(pattern)):
        return True
    return any(actions.can_carry_key(action, key) for action in actions.list_matching_actions(pattern))


def parse_network(text: str) -> Any:
    return ipaddress.ip_network(text)  # strict: 10.0.0.1/8 is probably a mistake


def parse_bool(text: str) -> None:
    if text.lower() not in ("true", "false"):
        raise ValueError(text)


def parse_arn(text: str) -> None:
    if text != "*" and not (text.startswith("arn:") and (text.count(":") >= 5 or "*" in text)):
        raise ValueError(text)


READERS: dict[str, tuple[Callable[[str], Any], str]] = {
    "numeric": (parse_number, "not a number"),
    "date": (parse_date, "not a date: write 2026-12-31T00:00:00Z"),
    "ipaddress": (parse_network, "not a network: write 203.0.113.0/24"),
    "notipaddress": (parse_network, "not a network: write 203.0.113.0/24"),
    "bool": (parse_bool, "neither true nor false"),
    "null": (parse_bool, "neither true nor false"),
    "binary": (parse_binary, "not base64"),
    "arn": (parse_arn, "not an ARN"),
}


def check_values(operator: str, key: str, words: Sequence[str], allow: bool) -> Iterator[Finding]:
    base = split_operator(operator)[1]
    reader = next((found for start, found in READERS.items() if base.startswith(start)), None)
    for text in words:
        if reader and not VARIABLE.search(text):
            try:
                reader[0](text)
            except (ValueError, OverflowError):
                severity = "medium" if allow else "high"  # A Deny with this value never applies.
                yield make_issue(
                    CONDITION,
                    severity,
                    f"{operator} {quote_text(key)}: '{quote_text(text)}' is {reader[1]}",
                    "correct the value",
                    "Condition",
                )
        if base in TEXTUAL and re.search(r"[*?]", VARIABLE.sub("", text)):
            message = f"{operator} {quote_text(key)}: in '{quote_text(text)}' the wildcard is taken literally"
            fix = "write " + ("StringNotLike" if "not" in base else "StringLike")
            yield make_issue(CONDITION, "medium", message, fix, "Condition")
        if base in TEXTUAL and key.lower() in ACCOUNT_KEYS and "$" not in text and not re.fullmatch(r"\d{12}", text):
            yield make_issue(
                CONDITION,
                "medium",
                f"{key}: '{quote_text(text)}' is not an account of 12 digits",
                "correct the value",
                "Condition",
            )


def check_type(operator: str, key: str, words: Sequence[str]) -> Iterator[Finding]:
    """Report operators that do not fit a key of this type. String operators accept any type, but compare ARNs and numbers badly."""
    quantifier, base, _ = split_operator(operator)
    family = next((name for start, name in FAMILIES.items() if base.removeprefix("not").startswith(start)), "")
    full = actions.find_key_type(key)
    kind = full.removeprefix("ArrayOf")
    if not kind or not family or base not in SPELLED:
        return
    # AWS's reference calls some keys that hold ARNs String, and accepts a date in seconds too.
    fine = family == kind or (family == "ARN" and kind == "String") or (family == "Numeric" and kind == "Date")
    if not fine:
        severity = "low" if family == "String" and kind in ("ARN", "Bool") else "medium"
        message = f"{operator} {quote_text(key)}: the key's type is {kind}"
        yield make_issue(CONDITION, severity, message, f"write {INSTEAD[kind]}", "Condition")
    if quantifier and not full.startswith("ArrayOf") and not key.lower().startswith("aws:principalorg"):
        message = f"{operator} {quote_text(key)}: the key is single-valued"
        yield make_issue(CONDITION, "low", message, f"write {SPELLED[base]}", "Condition")


def check_absence(operator: str, key: str, words: Sequence[str], allow: bool) -> Iterator[Finding]:
    """Report conditions that probably do not treat a request without the key as intended.

    Requests signed with a long-term access key have no aws:MultiFactorAuthPresent at all.
    """
    quantifier, base, if_exists = split_operator(operator)
    if quantifier == "foranyvalue" and if_exists:
        message = (
            f"{operator} {quote_text(key)} is never true for a request without the key: ForAnyValue overrides IfExists"
        )
        yield make_issue(CONDITION, "medium", message, f"write {operator.removesuffix('IfExists')}", "Condition")
    if key.lower() != "aws:multifactorauthpresent" or base != "bool" or if_exists != allow:
        return
    if allow and "true" in words:
        message = f"{operator} {quote_text(key)} allows access keys, whose requests do not have the condition key"
        yield make_issue(CONDITION, "medium", message, "write Bool", "Condition")
    if not allow and "false" in words:
        message = (
            f"{operator} {quote_text(key)} does not deny access keys, whose requests do not have the condition key"
        )
        yield make_issue(CONDITION, "medium", message, "write BoolIfExists", "Condition")


def check_guard(operator: str, key: str, raw: dict[str, Any], allow: bool) -> Iterator[Finding]:
    """Report ForAllValues in an Allow that does not also require the key: it holds for a request without the key."""
    if not allow or split_operator(operator)[0] != "forallvalues":
        return
    for other, block in raw.items():
        quantifier, base, if_exists = split_operator(other)
        if not isinstance(block, dict) or quantifier == "forallvalues" or if_exists or base in NEGATIVE:
            continue
        present = {
            name.lower()
            for name, value in block.items()
            if base != "null" or "false" in map(as_iam_string, as_list(value))
        }
        tags = key.lower() == "aws:tagkeys" and any(name.startswith("aws:requesttag/") for name in present)
        if key.lower() in present or tags:
            return
    message = f"{operator} {quote_text(key)} also allows a request without the condition key"
    yield make_issue(CONDITION, "medium", message, f'add "Null": {{"{quote_text(key)}": "false"}}', "Condition")

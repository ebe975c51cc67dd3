"""IAM's condition operators, evaluated as true or false; callers choose the result of `evaluate_conditions` for unknown keys."""

from __future__ import annotations

import base64
import binascii
import ipaddress
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from iampolicy.policy.document import LITERAL, VARIABLE, Statement, compile_arn_glob, compile_glob

Context = Mapping[str, str | Sequence[str]]  # Keys are in lower case; a key with several values has a sequence.


def parse_number(text: str) -> float:
    return float(text)


def parse_date(text: str) -> float:
    """Parse ISO 8601 or a plain number to seconds since 1970."""
    try:
        return float(text)
    except ValueError:
        parsed = datetime.fromisoformat(text.replace("Z", "+00:00"))
        return (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp()


def parse_binary(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


def is_in_network(given: str, wanted: str) -> bool:
    return ipaddress.ip_address(given) in ipaddress.ip_network(wanted, strict=False)


def build_comparisons(read: Callable[[str], Any]) -> dict[str, Callable[[str, str], bool]]:
    return {
        "equals": lambda given, wanted: read(given) == read(wanted),
        "lessthan": lambda given, wanted: read(given) < read(wanted),
        "lessthanequals": lambda given, wanted: read(given) <= read(wanted),
        "greaterthan": lambda given, wanted: read(given) > read(wanted),
        "greaterthanequals": lambda given, wanted: read(given) >= read(wanted),
    }


def is_like_arn(given: str, wanted: str) -> bool:
    return compile_arn_glob(wanted, crossing=False).fullmatch(given) is not None


# Map each operator, in lower case, to a test whether one value of the request matches one value of the policy.
POSITIVE: dict[str, Callable[[str, str], bool]] = {
    "stringequals": lambda given, wanted: given == wanted,
    "stringequalsignorecase": lambda given, wanted: given.casefold() == wanted.casefold(),
    "stringlike": lambda given, wanted: compile_glob(wanted).fullmatch(given) is not None,
    "bool": lambda given, wanted: given.lower() == wanted.lower(),
    "binaryequals": lambda given, wanted: parse_binary(given) == parse_binary(wanted),
    "ipaddress": is_in_network,
    "arnequals": is_like_arn,  # AWS: both behave the same
    "arnlike": is_like_arn,
    **{f"numeric{name}": test for name, test in build_comparisons(parse_number).items()},
    **{f"date{name}": test for name, test in build_comparisons(parse_date).items()},
}
NEGATIVE = {
    "stringnotequals": "stringequals",
    "stringnotequalsignorecase": "stringequalsignorecase",
    "stringnotlike": "stringlike",
    "numericnotequals": "numericequals",
    "datenotequals": "dateequals",
    "notipaddress": "ipaddress",
    "arnnotequals": "arnequals",
    "arnnotlike": "arnlike",
}
OPERATORS = {*POSITIVE, *NEGATIVE, "null"}
WITH_VARIABLES = ("string", "arn")


def split_operator(operator: str) -> tuple[str, str, bool]:
    """Return the quantifier (forallvalues, foranyvalue or ""), the operator and whether it has IfExists, in lower case."""
    quantifier, _, rest = operator.lower().rpartition(":")
    return quantifier, rest.removesuffix("ifexists"), rest.endswith("ifexists")


def resolve_variables(text: str, context: Context, like: bool = True) -> str | None:
    """Return the text with its policy variables substituted; None when one has no value.

    With `like`, wildcards in the values are marked as literal. `${aws:username, 'guest'}` has a default; `${*}` `${?}` `${$}` stand
    for the characters themselves.
    """
    lacking = []

    def literal(value: str) -> str:
        return "".join(LITERAL + c if c in "*?" else c for c in value) if like else value

    def fill(found: Any) -> str:
        key, comma, default = found[1].partition(",")
        if found[1] in ("*", "?", "$"):
            return literal(found[1])
        value = context.get(key.strip().lower())
        if isinstance(value, str):
            return literal(value)
        if not comma:
            lacking.append(key)
        return literal(default.strip().strip("'"))

    filled = VARIABLE.sub(fill, text)
    return None if lacking else filled


def evaluate_conditions(
    one: Statement, context: Context, unknown: bool | None = None
) -> tuple[bool | None, frozenset[str]]:
    """Return (whether all conditions of the statement hold, the keys that the request lacks).

    With `unknown` None, a missing key is absent, as in a request to AWS. Otherwise the key is unknown, and a condition on it
    counts as `unknown`: with True, an audit finds what some request could do.
    An unknown operator, an unreadable value or a variable without a value never makes a request allowed.
    """
    lacking = frozenset(key for _, key, _ in one.conditions if key not in context)
    for operator, key, values in one.conditions:
        if unknown is not None and key not in context:
            if not unknown:
                return False, lacking
            continue
        try:
            met = evaluate_condition(operator, values, key, context, one.variables)
            if met is None:  # A negated operator in a Deny holds, since its values can match nothing.
                met = (not one.allow and split_operator(operator)[1] in NEGATIVE) if unknown is None else unknown
            if not met:
                return False, lacking
        except (ValueError, binascii.Error, KeyError):
            if one.allow:
                return False, lacking
    return True, lacking


def evaluate_condition(
    operator: str, values: Sequence[str], key: str, context: Context, variables: bool
) -> bool | None:
    """Evaluate one condition; None if it depends on a policy variable for which the request has no value.

    Raises KeyError for an unknown operator, ValueError for a value that cannot be compared.
    """
    quantifier, base, if_exists = split_operator(operator)
    absent = not context.get(key, ()) and context.get(key) != ""  # An empty list counts as an absent key.
    if base == "null":
        return any(absent == (value.lower() == "true") for value in values)
    negative = base in NEGATIVE
    test = POSITIVE[NEGATIVE.get(base, base)]
    if quantifier not in ("", "forallvalues", "foranyvalue"):
        raise KeyError(operator)
    if absent:
        return quantifier != "foranyvalue" and (if_exists or quantifier == "forallvalues" or negative)
    known = list(values)
    if variables and base.startswith(WITH_VARIABLES):
        like = not base.startswith(("stringequals", "stringnotequals"))
        known = [filled for value in values if (filled := resolve_variables(value, context, like)) is not None]
    present = context[key]
    given = [present] if isinstance(present, str) else list(present)
    agreeing = [any(test(one, wanted) for wanted in known) != negative for one in given]
    met = all(agreeing) if quantifier == "forallvalues" or (negative and not quantifier) else any(agreeing)
    return None if met == negative and len(known) < len(values) else met

"""A policy, parsed once: its statements with what they match, the JSON as it was written, and where that stands in a file.

Evaluator, linter, comparison and audit all work on this one `Policy`.
"""

from __future__ import annotations

import marshal
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

from iampolicy.policy.json_source import Source, parse

PARSED: dict[bytes, Policy] = {}
MOST_PARSED = 50_000
VARIABLE = re.compile(r"\$\{([^{}]*)\}")
LITERAL = "\0"  # before a sign that a policy variable brought: it is no wildcard
CURRENT = "2012-10-17"  # older versions know no variables


def as_list(value: Any) -> list[Any]:
    """Return a list as it is, and any other value as its only item: IAM takes one value wherever it takes several."""
    return value if isinstance(value, list) else [value]


@dataclass(frozen=True)
class Statement:
    """One statement. `negated` holds those of action, resource and principal that stand as NotAction and so on.

    `actions` are in lower case. `principals` are (kind, value) with kind AWS, Service, Federated or CanonicalUser;
    a policy without principals belongs to an identity. `number` counts from 1. `raw` is the statement as it was written.
    """

    number: int
    sid: str
    allow: bool
    actions: tuple[str, ...] = ()
    resources: tuple[str, ...] = ()
    principals: tuple[tuple[str, str], ...] | None = None
    conditions: tuple[tuple[str, str, tuple[str, ...]], ...] = ()
    negated: frozenset[str] = frozenset()
    variables: bool = True
    raw: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)

    @property
    def name(self) -> str:
        return self.sid or f"statement {self.number}"


@dataclass(frozen=True)
class Policy:
    """A named document; `name` is the inline policy's name or the managed policy's ARN.

    `document` is the JSON as it was written, `source` the file that it was read from, where it was. `key` is the same for
    the same document, b"" where there is none.
    """

    name: str
    statements: tuple[Statement, ...] = field(default=(), repr=False)
    document: Any = field(default_factory=dict, repr=False, compare=False)
    source: Source | None = field(default=None, repr=False, compare=False)
    key: bytes = field(default=b"", repr=False, compare=False)

    @property
    def raw_statements(self) -> list[Any]:
        """The items of Statement, whatever they are; a statement's `number` is its place among them."""
        return as_list(self.document.get("Statement", [])) if isinstance(self.document, dict) else []

    def line(self, statement: str = "", element: str = "") -> int:
        """Return the line of an element of a statement (by its name) in the file; 0 for a policy that is from none."""
        if self.source is None:
            return 0
        at, index = self.source.lines, self.index(statement)
        inside = (("Statement", index, element), ("Statement", element), ("Statement", index))
        return next((at[where] for where in (*inside, (element,), ("Statement",)) if where in at), 1)

    def index(self, name: str) -> int:
        """Return the index of a statement that is named by its Sid or its number; -1 without one."""
        sids = [one.get("Sid") if isinstance(one, dict) else None for one in self.raw_statements]
        if name in sids:
            return sids.index(name)
        number = name.removeprefix("statement ")
        return int(number) - 1 if number.isdigit() else -1


def read_policy(text: str, name: str) -> Policy:
    """Return the policy of a file's text, with the line of everything in it. Raises InputError for what is no plain JSON."""
    document, source = parse(text, name)
    return parse_policy(name, document, source)


def parse_policy(name: str, document: Any, source: Source | None = None) -> Policy:
    """Return the policy of a JSON document: parsed once for all who hold the same one, under whatever name.

    What is no policy at all has no statements: it allows nothing.
    """
    try:
        # Version 2 keeps no track of which strings are the same object, so equal documents give equal bytes.
        key = marshal.dumps(document, 2)
    except ValueError:  # nested too deep, or not from JSON
        return Policy(name, parse_statements(document), document, source)
    if (known := PARSED.get(key)) is None:
        if len(PARSED) >= MOST_PARSED:
            PARSED.clear()
        known = PARSED[key] = Policy(name, parse_statements(document), document, None, key)
    return Policy(name, known.statements, known.document, source, known.key)


def as_policy(name: str, value: Any) -> Policy:
    """Return a policy of this name: of another policy, or of a JSON document."""
    if not isinstance(value, Policy):
        return parse_policy(name, value)
    return value if value.name == name else replace(value, name=name)


def parse_statements(document: Any) -> tuple[Statement, ...]:
    body = document if isinstance(document, dict) else {}
    variables = body.get("Version") == CURRENT
    raw = enumerate(as_list(body.get("Statement", [])), 1)
    try:
        return tuple(parse_statement(number, one, variables) for number, one in raw if isinstance(one, dict))
    except RecursionError:  # IAM takes nothing that is nested so deep
        return ()


def parse_statement(number: int, raw: dict[str, Any], variables: bool) -> Statement:
    negated = {kind.lower() for kind in ("Action", "Resource", "Principal") if f"Not{kind}" in raw}
    actions = as_strings(raw.get("NotAction", raw.get("Action", [])))
    return Statement(
        number,
        str(raw.get("Sid", "")),
        raw.get("Effect") == "Allow",
        tuple(action.lower() for action in actions),
        as_strings(raw.get("NotResource", raw.get("Resource", []))),
        parse_principals(raw.get("NotPrincipal", raw.get("Principal"))),
        parse_conditions(raw.get("Condition", {})),
        frozenset(negated),
        variables,
        raw,
    )


def as_strings(value: Any) -> tuple[str, ...]:
    return tuple(str(one) for one in as_list(value))


def parse_principals(raw: Any) -> tuple[tuple[str, str], ...] | None:
    if raw is None:
        return None
    if not isinstance(raw, dict):
        return (("AWS", str(raw)),)
    return tuple((str(kind), str(one)) for kind, value in raw.items() for one in as_list(value))


def parse_conditions(raw: Any) -> tuple[tuple[str, str, tuple[str, ...]], ...]:
    """(operator, key in lower case, values): JSON's true and 5 are IAM's "true" and "5"."""
    if not isinstance(raw, dict):
        return ()
    return tuple(
        (operator, str(key).lower(), tuple(as_iam_string(one) for one in as_list(values)))
        for operator, block in raw.items()
        if isinstance(block, dict)
        for key, values in block.items()
    )


def as_iam_string(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def mark_wildcards(text: str) -> list[tuple[str, bool]]:
    """(sign, whether it is a wildcard): a sign after LITERAL stands for itself, brackets always do."""
    found: list[tuple[str, bool]] = []
    literal = False
    for sign in text:
        if sign == LITERAL and not literal:
            literal = True
            continue
        found.append((sign, sign in "*?" and not literal))
        literal = False
    return found


def as_regex(part: list[tuple[str, bool]]) -> str:
    """As a regular expression, of a part without `*`."""
    return "".join("." if wild else re.escape(sign) for sign, wild in part)


@lru_cache(200_000)
def compile_glob(pattern: str) -> re.Pattern[str]:
    """IAM's wildcards: `*` for any run of characters, `?` for one.

    Between two `*` the first fit is as good as any, so nothing is tried twice: a pattern of many stars costs no more than others.
    """
    parts: list[list[tuple[str, bool]]] = [[]]
    for token in mark_wildcards(pattern):
        parts.append([]) if token == ("*", True) else parts[-1].append(token)
    first, *rest = map(as_regex, parts)
    if not rest:
        return re.compile(first, re.DOTALL)
    middle = "".join(f"(?>.*?{part})" for part in rest[:-1] if part)
    return re.compile(f"{first}{middle}.*{rest[-1]}", re.DOTALL)


@lru_cache(200_000)
def compile_arn_glob(pattern: str, crossing: bool = True) -> re.Pattern[str] | ArnGlob:
    """An ARN's wildcards stay within a segment; with `crossing` a `*` that ends one may go on over the colons, as in Resource.

    The sixth segment, the resource's own name, may hold colons itself.
    """
    if pattern == "*":
        return compile_glob("*")
    found = ArnGlob(pattern, crossing)
    inner = [kind for _, kind in found.steps[:-1] if kind]
    if len(inner) > FEW:  # a regular expression would try every way of cutting the text
        return found
    return re.compile("".join(ONE_OF[kind] if kind else re.escape(sign) for sign, kind in found.steps), re.DOTALL)


ONE_OF = {"?": ".", "*": ".*", "in a segment": "[^:]*"}
FEW = 2


class ArnGlob:
    """An ARN pattern as steps: a sign, or a wildcard. Matched in one pass over the text, whatever the pattern."""

    def __init__(self, pattern: str, crossing: bool) -> None:
        self.steps: list[tuple[str, str]] = []
        signs, segment = mark_wildcards(pattern), 0
        for place, (sign, wild) in enumerate(signs):
            segment += sign == ":" and segment < 5
            ends = place + 1 == len(signs) or signs[place + 1][0] == ":"
            free = segment == 5 or (crossing and ends)
            self.steps.append((sign, "" if not wild else "?" if sign == "?" else "*" if free else "in a segment"))

    def fullmatch(self, text: str) -> bool | None:
        """True, or None like a regular expression's."""
        here = self.past({0})
        for sign in text:
            there = set()
            for place in here:
                if place < len(self.steps):
                    wanted, kind = self.steps[place]
                    if kind in ("*", "in a segment"):
                        if kind == "*" or sign != ":":
                            there.add(place)
                    elif kind == "?" or sign == wanted:
                        there.add(place + 1)
            here = self.past(there)
        return True if len(self.steps) in here else None

    def past(self, places: set[int]) -> set[int]:
        """With the places behind stars, which may stand for nothing."""
        found = set(places)
        for place in sorted(places):
            while place < len(self.steps) and self.steps[place][1] in ("*", "in a segment"):
                place += 1
                found.add(place)
        return found


def has_misplaced_variable(pattern: str) -> bool:
    """Whether an ARN has a variable before its fifth colon: in the service, region or account."""
    before = VARIABLE.sub(LITERAL, pattern).split(":", 5)[:5]
    return pattern.startswith("arn:") and any(LITERAL in part for part in before)


def match_action(pattern: str, action: str) -> bool:
    """Whether an action pattern covers an action; both in lower case."""
    if "*" not in pattern and "?" not in pattern:
        return pattern == action
    return pattern == "*" or compile_glob(pattern).fullmatch(action) is not None


def is_about_action(one: Statement, action: str) -> bool:
    wanted = action.lower()
    return any(match_action(pattern, wanted) for pattern in one.actions) != ("action" in one.negated)

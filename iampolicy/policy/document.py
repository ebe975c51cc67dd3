"""The policy, parsed once: its statements and what they match, the original JSON, and where its parts are in the file.

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
LITERAL = "\0"  # marks the next character as literal, not a wildcard: it comes from a policy variable
CURRENT = "2012-10-17"  # Older versions have no policy variables.


def as_list(value: Any) -> list[Any]:
    """Return a list unchanged, and any other value as a list of one: IAM accepts one value wherever it accepts several."""
    return value if isinstance(value, list) else [value]


@dataclass(frozen=True)
class Statement:
    """One statement. `negated` has "action", "resource" or "principal" for NotAction, NotResource or NotPrincipal.

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

    `document` is the original JSON, `source` the file that it was read from, if any. Equal documents have equal `key`s;
    `key` is b"" without a document, or for one that could not be serialised.
    """

    name: str
    statements: tuple[Statement, ...] = field(default=(), repr=False)
    document: Any = field(default_factory=dict, repr=False, compare=False)
    source: Source | None = field(default=None, repr=False, compare=False)
    key: bytes = field(default=b"", repr=False, compare=False)

    @property
    def raw_statements(self) -> list[Any]:
        """Return the items of Statement, whatever their type; a statement's `number` is its position among them."""
        return as_list(self.document.get("Statement", [])) if isinstance(self.document, dict) else []

    def line(self, statement: str = "", element: str = "") -> int:
        """Return the file's line of an element of a statement (by its name); 0 for a policy that is not from a file."""
        if self.source is None:
            return 0
        at, index = self.source.lines, self.index(statement)
        inside = (("Statement", index, element), ("Statement", element), ("Statement", index))
        return next((at[where] for where in (*inside, (element,), ("Statement",)) if where in at), 1)

    def index(self, name: str) -> int:
        """Return the index of the statement with this Sid or "statement NUMBER"; -1 without one."""
        sids = [one.get("Sid") if isinstance(one, dict) else None for one in self.raw_statements]
        if name in sids:
            return sids.index(name)
        number = name.removeprefix("statement ")
        return int(number) - 1 if number.isdigit() else -1


def read_policy(text: str, name: str) -> Policy:
    """Return the policy of a file's text, with the line of each element. Raises InputError for text that is not plain JSON."""
    document, source = parse(text, name)
    return parse_policy(name, document, source)


def parse_policy(name: str, document: Any, source: Source | None = None) -> Policy:
    """Return the policy of a JSON document. Equal documents are parsed once, under whatever name.

    A document that is not a policy has no statements and so allows nothing.
    """
    try:
        # Version 2 does not track which strings are the same object, so equal documents give equal bytes.
        key = marshal.dumps(document, 2)
    except ValueError:  # nested too deep, or not from JSON
        return Policy(name, parse_statements(document), document, source)
    if (known := PARSED.get(key)) is None:
        if len(PARSED) >= MOST_PARSED:
            PARSED.clear()
        known = PARSED[key] = Policy(name, parse_statements(document), document, None, key)
    return Policy(name, known.statements, known.document, source, known.key)


def as_policy(name: str, value: Any) -> Policy:
    """Return a policy or JSON document as a policy of this name."""
    if not isinstance(value, Policy):
        return parse_policy(name, value)
    return value if value.name == name else replace(value, name=name)


def parse_statements(document: Any) -> tuple[Statement, ...]:
    body = document if isinstance(document, dict) else {}
    variables = body.get("Version") == CURRENT
    raw = enumerate(as_list(body.get("Statement", [])), 1)
    try:
        return tuple(parse_statement(number, one, variables) for number, one in raw if isinstance(one, dict))
    except RecursionError:  # IAM rejects policies nested this deep.
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
    """Return (operator, key in lower case, values) of each condition. JSON's true and 5 become IAM's "true" and "5"."""
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
    """Return (character, whether it is a wildcard) pairs. A character after LITERAL stands for itself; brackets always do."""
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
    """Convert a part without `*` to a regular expression."""
    return "".join("." if wild else re.escape(sign) for sign, wild in part)


@lru_cache(200_000)
def compile_glob(pattern: str) -> re.Pattern[str]:
    """Compile a pattern with IAM's wildcards: `*` for any run of characters, `?` for one.

    The parts between two `*` are matched without backtracking: the first match is as good as any, and many stars cost no more.
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
    """Compile an ARN pattern. Wildcards stay within a segment; with `crossing`, a `*` at a segment's end also matches colons.

    `crossing` is how Resource matches. The sixth segment, the resource's own name, may itself contain colons.
    """
    if pattern == "*":
        return compile_glob("*")
    found = ArnGlob(pattern, crossing)
    inner = [kind for _, kind in found.steps[:-1] if kind]
    if len(inner) > FEW:  # A regular expression would try every way to split the text.
        return found
    return re.compile("".join(ONE_OF[kind] if kind else re.escape(sign) for sign, kind in found.steps), re.DOTALL)


ONE_OF = {"?": ".", "*": ".*", "in a segment": "[^:]*"}
FEW = 2


class ArnGlob:
    """An ARN pattern as a list of steps, each a character or a wildcard. It matches any text in one pass."""

    def __init__(self, pattern: str, crossing: bool) -> None:
        self.steps: list[tuple[str, str]] = []
        signs, segment = mark_wildcards(pattern), 0
        for place, (sign, wild) in enumerate(signs):
            segment += sign == ":" and segment < 5
            ends = place + 1 == len(signs) or signs[place + 1][0] == ":"
            free = segment == 5 or (crossing and ends)
            self.steps.append((sign, "" if not wild else "?" if sign == "?" else "*" if free else "in a segment"))

    def fullmatch(self, text: str) -> bool | None:
        """Return True for a match and None otherwise, like a regular expression's method."""
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
        """Return the positions and those after the stars that start there, since a star may match nothing."""
        found = set(places)
        for place in sorted(places):
            while place < len(self.steps) and self.steps[place][1] in ("*", "in a segment"):
                place += 1
                found.add(place)
        return found


def has_misplaced_variable(pattern: str) -> bool:
    """Return whether an ARN has a variable before its fifth colon: in the service, region or account."""
    before = VARIABLE.sub(LITERAL, pattern).split(":", 5)[:5]
    return pattern.startswith("arn:") and any(LITERAL in part for part in before)


def match_action(pattern: str, action: str) -> bool:
    """Return whether an action pattern covers an action; both are in lower case."""
    if "*" not in pattern and "?" not in pattern:
        return pattern == action
    return pattern == "*" or compile_glob(pattern).fullmatch(action) is not None


def is_about_action(one: Statement, action: str) -> bool:
    wanted = action.lower()
    return any(match_action(pattern, wanted) for pattern in one.actions) != ("action" in one.negated)

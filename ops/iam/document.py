"""A policy as IAM reads it: statements with what they match, from JSON in which one thing may stand bare and several in a list."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

VARIABLE = re.compile(r"\$\{([^{}]*)\}")
LITERAL = "\0"  # before a sign that a policy variable brought: it is no wildcard
CURRENT = "2012-10-17"  # older versions know no variables


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


@dataclass(frozen=True)
class Statement:
    """One statement. `negated` holds those of action, resource and principal that stand as NotAction and so on.

    `actions` are in lower case. `principals` are (kind, value) with kind AWS, Service, Federated or CanonicalUser;
    a policy without principals belongs to an identity. `number` counts from 1.
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

    @property
    def name(self) -> str:
        return self.sid or f"statement {self.number}"


@dataclass(frozen=True)
class Policy:
    """A named document; `name` is the inline policy's name or the managed policy's ARN."""

    name: str
    statements: tuple[Statement, ...] = field(default=(), repr=False)


def policy(name: str, document: Any) -> Policy:
    """The policy of a parsed JSON document. What is no policy at all has no statements: it allows nothing."""
    body = document if isinstance(document, dict) else {}
    variables = body.get("Version") == CURRENT
    raw = [one for one in listed(body.get("Statement", [])) if isinstance(one, dict)]
    return Policy(name, tuple(statement(number, one, variables) for number, one in enumerate(raw, 1)))


def statement(number: int, raw: dict[str, Any], variables: bool) -> Statement:
    negated = {kind.lower() for kind in ("Action", "Resource", "Principal") if f"Not{kind}" in raw}
    actions = texts(raw.get("NotAction", raw.get("Action", [])))
    return Statement(
        number,
        str(raw.get("Sid", "")),
        raw.get("Effect") == "Allow",
        tuple(action.lower() for action in actions),
        texts(raw.get("NotResource", raw.get("Resource", []))),
        principals(raw.get("NotPrincipal", raw.get("Principal"))),
        conditions(raw.get("Condition", {})),
        frozenset(negated),
        variables,
    )


def texts(value: Any) -> tuple[str, ...]:
    return tuple(str(one) for one in listed(value))


def principals(raw: Any) -> tuple[tuple[str, str], ...] | None:
    if raw is None:
        return None
    if not isinstance(raw, dict):
        return (("AWS", str(raw)),)
    return tuple((str(kind), str(one)) for kind, value in raw.items() for one in listed(value))


def conditions(raw: Any) -> tuple[tuple[str, str, tuple[str, ...]], ...]:
    """(operator, key in lower case, values): JSON's true and 5 are IAM's "true" and "5"."""
    if not isinstance(raw, dict):
        return ()
    return tuple(
        (operator, str(key).lower(), tuple(word(one) for one in listed(values)))
        for operator, block in raw.items()
        if isinstance(block, dict)
        for key, values in block.items()
    )


def word(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def written(text: str, star: str) -> str:
    """The text as a regular expression; a sign after LITERAL stands for itself, brackets always do."""
    found, literal = [], False
    for c in text:
        if c == LITERAL and not literal:
            literal = True
            continue
        found.append(star if c == "*" and not literal else "." if c == "?" and not literal else re.escape(c))
        literal = False
    return "".join(found)


@lru_cache(200_000)
def glob(pattern: str) -> re.Pattern[str]:
    """IAM's wildcards: `*` for any run of characters, `?` for one."""
    return re.compile(written(pattern, ".*"), re.DOTALL)


@lru_cache(200_000)
def arn_glob(pattern: str, crossing: bool = True) -> re.Pattern[str]:
    """An ARN's wildcards stay within a segment; with `crossing` a `*` that ends one may go on over the colons, as in Resource.

    The sixth segment, the resource's own name, may hold colons itself.
    """
    if pattern == "*":
        return glob("*")
    segments = pattern.split(":", 5)
    parts = [written(segment, "[^:]*") for segment in segments[:5]]
    if crossing:
        parts = [part.removesuffix("[^:]*") + ".*" if part.endswith("[^:]*") else part for part in parts]
    return re.compile(":".join(parts + [written(segment, ".*") for segment in segments[5:]]), re.DOTALL)


def covers(pattern: str, action: str) -> bool:
    """Whether an action pattern covers an action; both in lower case."""
    if "*" not in pattern and "?" not in pattern:
        return pattern == action
    return pattern == "*" or glob(pattern).fullmatch(action) is not None


def matches_action(one: Statement, action: str) -> bool:
    wanted = action.lower()
    return any(covers(pattern, wanted) for pattern in one.actions) != ("action" in one.negated)

"""Permissions: what a policy means independent of its spelling, one action on one resource each."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import product
from typing import Any

from iampolicy.policy.document import (
    ArnGlob,
    Policy,
    Statement,
    as_iam_string,
    as_list,
    as_strings,
    compile_arn_glob,
    compile_glob,
)

Condition = tuple[tuple[str, str, tuple[str, ...]], ...]

SHOWN = 4  # of the items that a wildcard covers beyond the other side; the rest is counted


@dataclass(frozen=True, order=True)
class Permission:
    """A permission; equal objects mean the same. For NotAction or NotResource it has all excluded names, and the kind in `apart`.

    `who` is a principal that a trust policy names, `written` the action as its author spelled it.
    """

    effect: str
    action: str
    resource: str
    condition: Condition = ()
    who: str = ""
    apart: tuple[str, ...] = ()
    written: str = field(default="", compare=False)


@dataclass(frozen=True)
class Grant:
    """Permissions that differ in actions or resources only. `beyond` is the narrower part of them that the other side has."""

    effect: str
    actions: tuple[str, ...]
    resources: tuple[str, ...]
    condition: Condition = ()
    who: str = ""
    beyond: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        parts = [", ".join(self.actions)]
        if any(self.resources):
            parts.append(f"on {', '.join(self.resources)}")
        if self.condition:
            tests = [f"{operator} {key} {' or '.join(values)}" for operator, key, values in self.condition]
            parts.append(f"if {' and '.join(tests)}")
        if self.beyond:
            more = f" and {len(self.beyond) - SHOWN} more" if len(self.beyond) > SHOWN else ""
            parts.append(f"beyond {', '.join(self.beyond[:SHOWN])}{more}")
        return " ".join(parts)


def normalise_document(value: Any, key: str = "") -> Any:
    """Return equal JSON for texts that differ only in order, single values as lists, or the form of an account's name."""
    if isinstance(value, dict):
        return {
            name: normalise_document(one if name in ("Version", "Sid", "Effect", "Id") else as_several(name, one), name)
            for name, one in sorted(value.items())
        }
    if isinstance(value, list):
        found = {json.dumps(one, sort_keys=True): one for one in (normalise_document(item, key) for item in value)}
        return [found[text] for text in sorted(found)]
    return as_root_arn(value) if key == "AWS" else as_iam_string(value)


def as_several(key: str, value: Any) -> Any:
    if key in ("Principal", "NotPrincipal") and value == "*":
        return {"AWS": ["*"]}
    return value if isinstance(value, dict) and key != "Statement" else as_list(value)


def as_root_arn(value: Any) -> str:
    """Return a bare account id as the ARN of that account's root, as AWS does; any other value as a string."""
    return f"arn:aws:iam::{value}:root" if re.fullmatch(r"\d{12}", str(value)) else as_iam_string(value)


def list_permissions(policy: Policy) -> set[Permission]:
    """Return all permissions of a policy or trust policy."""
    return {one for statement in policy.statements for one in expand_statement(statement)}


def expand_statement(one: Statement) -> set[Permission]:
    spelled = {action.lower(): action for action in as_strings(one.raw.get("NotAction", one.raw.get("Action", [])))}
    apart = tuple(sorted(one.negated))
    plain = str if one.variables else escape_variables
    condition = tuple(
        sorted((op, key, tuple(sorted({plain(value) for value in values}))) for op, key, values in one.conditions)
    )
    actions = [", ".join(sorted(set(one.actions)))] if "action" in apart else list(one.actions)
    resources = [", ".join(sorted(set(one.resources)))] if "resource" in apart else list(one.resources) or [""]
    resources = [plain(text) for text in resources]
    effect = "Allow" if one.allow else "Deny"
    return {
        Permission(effect, action, resource, condition, who, apart, spelled.get(action, action))
        for action, resource, who in product(actions, resources, describe_principals(one))
    }


def escape_variables(text: str) -> str:
    """Escape ${aws:username}: a policy of the older version takes it as plain text, so it must differ from a variable."""
    return text.replace("${", "$ {")


def describe_principals(one: Statement) -> list[str]:
    if one.principals is None:
        return [""]
    named = [f"{kind} {as_root_arn(value) if kind == 'AWS' else value}" for kind, value in one.principals]
    return [f"everyone except {', '.join(sorted(named))}"] if "principal" in one.negated else named


Read = Callable[[str], re.Pattern[str] | ArnGlob]


@lru_cache(50_000)
def compile_covering_pattern(pattern: str, read: Read) -> re.Pattern[str] | ArnGlob:
    """Compile the pattern for matching another pattern's text: `*` covers the other's `*`, `?` does not.

    With three or more stars a `?` covers nothing: a pattern that lies within is then reported as a difference, though it is not.
    """
    one = "\1"  # This character occurs in no ARN.
    found = read(pattern.replace("?", one))
    if isinstance(found, ArnGlob):
        return found
    return re.compile(found.pattern.replace(re.escape(one), "[^*]"), re.DOTALL)


def is_inside(part: str, whole: str, apart: tuple[bool, bool], read: Read) -> bool:
    """Return whether one pattern lies within another; `apart` says for each whether it lists what is excluded."""
    if part == whole and apart[0] == apart[1]:
        return True
    if apart[1]:
        plain = not apart[0] and not any(sign in part for sign in ("*", "?", "${")) and "${" not in whole
        return plain and not any(read(one).fullmatch(part) for one in whole.split(", "))
    return whole == "*" or (not apart[0] and compile_covering_pattern(whole, read).fullmatch(part) is not None)


def is_superset(whole: Permission, part: Permission) -> bool:
    """Return whether `whole` covers every request that `part` covers; a condition narrows."""
    if whole.effect != part.effect or whole.condition not in ((), part.condition):
        return False
    if whole.who != part.who and not (whole.who == "AWS *" and part.who.startswith("AWS ")):
        return False
    ways = [("action" in one.apart, "resource" in one.apart) for one in (part, whole)]
    return is_inside(part.action, whole.action, (ways[0][0], ways[1][0]), compile_glob) and is_inside(
        part.resource, whole.resource, (ways[0][1], ways[1][1]), compile_arn_glob
    )


def subtract_permissions(one: set[Permission], other: set[Permission]) -> list[Grant]:
    """Return what `one` grants or denies and `other` does not, grouped into few lines."""
    found = [
        permission for permission in sorted(one - other) if not any(is_superset(rival, permission) for rival in other)
    ]
    by_action: dict[tuple[Permission, tuple[str, ...]], list[str]] = {}
    for permission in found:
        narrower = sorted({describe_difference(rival, permission) for rival in other if is_superset(permission, rival)})
        by_action.setdefault((replace(permission, resource=""), tuple(narrower)), []).append(
            describe_resource(permission)
        )
    grouped: dict[tuple[Permission, tuple[str, ...], tuple[str, ...]], list[str]] = {}
    for (permission, narrower_ones), resources in by_action.items():
        rest = replace(permission, action="", written="", apart=())
        grouped.setdefault((rest, tuple(resources), narrower_ones), []).append(describe_action(permission))
    return [
        Grant(permission.effect, tuple(actions), resources, permission.condition, permission.who, beyond)
        for (permission, resources, beyond), actions in grouped.items()
    ]


def describe_action(permission: Permission) -> str:
    return (
        f"all except {permission.action}" if "action" in permission.apart else permission.written or permission.action
    )


def describe_resource(permission: Permission) -> str:
    return f"all except {permission.resource}" if "resource" in permission.apart else permission.resource


def describe_difference(permission: Permission, beside: Permission) -> str:
    """Return only what differs from the permission beside it, so that actions with the same difference share a line."""
    what = [] if permission.action == beside.action else [describe_action(permission)]
    where = [] if permission.resource == beside.resource else [describe_resource(permission)]
    under = " under conditions" if permission.condition != beside.condition else ""
    return (" on ".join(what + where) or "the same") + under


def merge_permissions(policies: Iterable[Policy]) -> set[Permission]:
    """Return the permissions of several policies together."""
    return {one for policy in policies for one in list_permissions(policy)}

"""The table of escalation paths (paths.toml), and the few hundred actions that it uses."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path as File
from typing import Any

TABLE = File(__file__).with_name("paths.toml")
UNKNOWN_ACTION = "kennel:anything"  # An action of no service: a principal that may perform it may perform any action.
PASS_ROLE, ASSUME_ROLE = "iam:PassRole", "sts:AssumeRole"
WRITES = {
    "iam:AttachGroupPolicy",
    "iam:AttachRolePolicy",
    "iam:AttachUserPolicy",
    "iam:CreatePolicyVersion",
    "iam:PutGroupPolicy",
    "iam:PutRolePolicy",
    "iam:PutUserPolicy",
}

TAGS = {
    "role": ("iam:TagRole", "iam:UntagRole"),
    "user": ("iam:TagUser", "iam:UntagUser"),
    "policy": ("iam:TagPolicy", "iam:UntagPolicy"),
}


@dataclass(frozen=True)
class Path:
    """An escalation path, which needs all of `actions`. `how` and `services` are explained in paths.toml."""

    id: str
    title: str
    actions: tuple[str, ...]
    how: str
    fix: str
    services: tuple[str, ...] = ()
    url: str = ""
    retired: bool = False

    @property
    def rule(self) -> str:
        return f"IAM-PRIVESC-{self.id}"

    def steps(self, who: str) -> tuple[str, ...]:
        """Return the actions, those on a principal followed by the target `who`, which may be ""."""
        about = [one for one in self.actions if one.startswith(("iam:", "sts:")) and not one.endswith("PolicyVersion")]
        return tuple(f"{action} {who}" if who and action in about else action for action in self.actions)


def shorten_arn(arn: str) -> str:
    """Return the part after the account: role/a/b for arn:aws:iam::1:role/a/b."""
    return arn.split(":", 5)[-1]


@cache
def load_table() -> dict[str, Any]:
    return tomllib.loads(TABLE.read_text())


@cache
def load_paths() -> tuple[Path, ...]:
    return tuple(parse_entry(**entry) for entry in load_table()["path"])


def parse_entry(actions: list[str], services: tuple[str, ...] = (), **more: Any) -> Path:
    return Path(actions=tuple(actions), services=tuple(services), **more)


@cache
def load_powers() -> tuple[tuple[str, bool], ...]:
    """Return (action, whether it counts only where it is allowed on a resource that no policy names) for each power."""
    found = load_table()["powers"]
    return tuple((action, False) for action in found["at_all"]) + tuple((action, True) for action in found["anywhere"])


@cache
def list_relevant_actions() -> frozenset[str]:
    """Return all actions, in lower case, about which the escalation paths ask."""
    named = {action for path in load_paths() for action in path.actions} | {action for action, _ in load_powers()}
    tagging = {action for both in TAGS.values() for action in both}
    return frozenset(action.lower() for action in {*named, *WRITES, *tagging, "iam:CreatePolicy", UNKNOWN_ACTION})


@lru_cache(5_000)
def list_available_paths(actions: frozenset[str]) -> tuple[Path, ...]:
    """Return the paths that need no other actions than these, which are in lower case."""
    return tuple(path for path, needed in list_path_actions() if needed <= actions)


@cache
def list_path_actions() -> tuple[tuple[Path, frozenset[str]], ...]:
    return tuple((path, frozenset(action.lower() for action in path.actions)) for path in load_paths())

"""The facts that GetAccountAuthorizationDetails lacks: keys and passwords, services used, and the public exposure of the stack."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from iampolicy.account.snapshot import parse_datetime


@dataclass(frozen=True)
class Key:
    active: bool
    rotated: datetime | None
    used: datetime | None


@dataclass(frozen=True)
class Credential:
    """A row of the credential report; root's user is `<root_account>`."""

    user: str
    arn: str
    password: bool
    mfa: bool
    keys: tuple[Key, ...]


@dataclass(frozen=True)
class AccountFacts:
    """Facts of an account; one that was not requested, or could not be read, is None or empty.

    `carriers` has the role of each function of the region, by the function's ARN. `usage` has, by ARN and then by service, when
    it was last used. `buckets` have blocks, policy and grants, `functions` have policies and urls; `groups` and `acls` are as EC2
    returns them.
    """

    credentials: tuple[Credential, ...] | None = None
    summary: Mapping[str, int] = field(default_factory=dict)
    function_names: frozenset[str] | None = None
    carriers: Mapping[str, str] = field(default_factory=dict)
    usage: Mapping[str, Mapping[str, datetime | None]] = field(default_factory=dict)
    buckets: Mapping[str, Mapping[str, Any]] | None = None
    functions: Mapping[str, Mapping[str, Any]] | None = None
    groups: tuple[Mapping[str, Any], ...] | None = None
    acls: tuple[Mapping[str, Any], ...] = ()

    @property
    def rules_without_facts(self) -> tuple[str, ...]:
        """Return the rules whose facts are missing."""
        missing = {
            "IAM-KEY": self.credentials is None, "IAM-EXPO-001": self.buckets is None, "IAM-EXPO-003": self.groups is None,
            "IAM-USE-002": not self.usage,
        }  # fmt: skip
        return tuple(rule for rule, gone in missing.items() if gone)


def parse(raw: Mapping[str, Any]) -> AccountFacts:
    """Parse the facts that were collected from AWS, directly or from a snapshot file."""
    rows, carriers, usage = raw.get("credentials"), raw.get("carriers"), raw.get("usage") or {}
    groups = raw.get("groups")
    return AccountFacts(
        None if rows is None else tuple(parse_credential(row) for row in rows),
        raw.get("summary") or {},
        None if carriers is None else frozenset(map(extract_function_name, carriers)),
        carriers or {},
        {arn: {name: parse_datetime(used) for name, used in seen.items()} for arn, seen in usage.items()},
        raw.get("buckets"),
        raw.get("functions"),
        None if groups is None else tuple(groups),
        tuple(raw.get("acls") or ()),
    )


def parse_credential(row: Mapping[str, str]) -> Credential:
    keys = tuple(
        Key(
            row.get(f"access_key_{n}_active") == "true",
            parse_date(row.get(f"access_key_{n}_last_rotated")),
            parse_date(row.get(f"access_key_{n}_last_used_date")),
        )
        for n in (1, 2)
    )
    password = row.get("password_enabled") == "true"  # root's row has not_supported: root always has a password
    return Credential(row.get("user", ""), row.get("arn", ""), password, row.get("mfa_active") == "true", keys)


def parse_date(text: str | None) -> datetime | None:
    """Return the date; None for N/A, no_information and not_supported, which the report has for an unknown date."""
    return parse_datetime(text) if text and text[:1].isdigit() else None


def extract_function_name(function: str) -> str:
    return function.rpartition(":")[2]

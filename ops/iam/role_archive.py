"""A removed role in a file: all that made it what it was, read back with nothing taken for granted."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from iampolicy.account import snapshot_file
from iampolicy.account.snapshot_file import Check, Misshapen, mapping, shaped
from iampolicy.errors import InputError
from iampolicy.policy import json_source
from ops.core.errors import OpsError
from ops.core.settings import Settings

KIND = "kennel-removed-role"
LARGEST = 2_000_000  # bytes; twenty policies of AWS's largest size are 400 KB, indented
SESSION_S = range(3600, 43201)
NAME = re.compile(r"[\w+=,.@-]{1,128}", re.ASCII)
PATH = re.compile(r"/|/[!-~]{1,510}/")
POLICY = re.compile(r"arn:aws:iam::(aws|\d{12}):policy/([!-~]+/)?[\w+=,.@-]{1,128}", re.ASCII)


@dataclass(frozen=True)
class Saved:
    """All that makes a role what it is. `policies` are its customer managed ones by ARN, `profiles` its instance profiles.

    `finished` is False while the role is being taken apart: what is left of it is then not all there was.
    """

    account: str
    saved: str
    finished: bool
    role_id: str
    name: str
    path: str
    description: str
    session_s: int
    trust: dict[str, Any]
    boundary: str
    tags: dict[str, str]
    inline: dict[str, Any]
    attached: list[str]
    policies: dict[str, Any]
    profiles: dict[str, Any]

    @property
    def data(self) -> dict[str, Any]:
        return {"kind": KIND, **vars(self)}

    @property
    def arn(self) -> str:
        return f"arn:aws:iam::{self.account}:role{self.path}{self.name}"

    @property
    def held(self) -> list[str]:
        """ARNs of the managed policies that it holds or is bounded by."""
        return [arn for arn in (*self.attached, self.boundary) if arn]


def read(path: Path) -> Saved:
    """A role's file. Raises OpsError when it is none."""
    try:
        with path.open("rb") as file:
            body = file.read(LARGEST + 1)
        if len(body) > LARGEST:
            raise InputError(f"it is larger than {LARGEST:,} bytes")
        data, _ = json_source.parse(body.decode(), path.name)
    except (OSError, InputError, UnicodeDecodeError) as error:
        raise OpsError(f"{path} cannot be read: {error}. Nothing was touched.") from error
    return loaded(data, str(path))


def opened(path: Path, settings: Settings) -> Saved:
    """A role's file. Raises OpsError when it is none, or is of another account."""
    found = read(path)
    if found.account != settings.aws.account:
        raise OpsError(
            f"{path} is of account {found.account}; the settings are for {settings.aws.account}. Nothing was touched."
        )
    return found


def loaded(data: Any, name: str) -> Saved:
    """What a file holds. Raises OpsError when it is no such save, with what is wrong in it."""
    try:
        if not isinstance(data, dict) or data.get("kind") != KIND:
            raise Misshapen(f"has not kind {KIND!r}")
        keys = {one.name for one in fields(Saved)}
        if unknown := data.keys() - keys - {"kind"}:
            raise Misshapen(f"has {min(unknown)!r} besides")
        shaped(data, SHAPE)
        found = Saved(**{key: data[key] for key in keys})
        own(found)
    except Misshapen as fault:
        raise OpsError(
            f"{name} is no role that iam.prune saved: {fault}. They lie in .kennel/iam/STACK/removed/. Nothing was touched."
        ) from None
    return found


def own(saved: Saved) -> None:
    """A role holds policies of AWS and of its own account alone, and its file has no others' texts."""
    for arn in saved.held:
        if arn.split(":")[4] not in ("aws", saved.account):
            raise Misshapen(f"holds {arn}, which is not of account {saved.account}")
    for arn in saved.policies:
        if arn not in saved.held or arn.split(":")[4] != saved.account:
            raise Misshapen(f"has the text of {arn}, which is none of its own policies")


def spelled(pattern: re.Pattern[str], what: str) -> Check:
    def check(value: Any) -> None:
        shaped(value, str)
        if not pattern.fullmatch(value):
            raise Misshapen(f"is no {what}")

    return check


def named(key: Check, inner: Any) -> Check:
    """An object whose names are held against a check too."""

    def check(value: Any) -> None:
        mapping(inner)(value)
        snapshot_file.inside(((one, one) for one in value), key)

    return check


def document(value: Any) -> None:
    shaped(value, dict)
    statements = value.get("Statement")
    statements = statements if isinstance(statements, list) else [statements]
    if not all(isinstance(one, dict) for one in statements):
        raise Misshapen("is no policy")


def seconds(value: Any) -> None:
    shaped(value, int)
    if value not in SESSION_S:
        raise Misshapen(f"is not from {SESSION_S[0]} to {SESSION_S[-1]}")


ROLE = spelled(re.compile(r"[\w+=,.@-]{1,64}", re.ASCII), "role's name")
NAMED, AT, ARN = spelled(NAME, "name of IAM's"), spelled(PATH, "path of IAM's"), spelled(POLICY, "policy's ARN")
TEXT = spelled(re.compile(r".{0,1000}", re.DOTALL), "text of at most 1,000 characters")
TAGS = named(
    spelled(re.compile(r".{1,128}", re.DOTALL), "tag's key"), spelled(re.compile(r".{0,256}", re.DOTALL), "tag")
)
BOUND = spelled(re.compile(f"|{POLICY.pattern}", re.ASCII), "policy's ARN")
SHAPE: Mapping[str, Any] = {
    "account!": str, "saved!": snapshot_file.date, "finished!": bool, "role_id!": str, "name!": ROLE, "path!": AT, "description!": TEXT,
    "session_s!": seconds, "trust!": document, "boundary!": BOUND, "tags!": TAGS, "inline!": named(NAMED, document),
    "attached!": [ARN], "policies!": named(ARN, {"description!": TEXT, "tags!": TAGS, "document!": document}),
    "profiles!": named(NAMED, {"path!": AT, "tags!": TAGS}),
}  # fmt: skip

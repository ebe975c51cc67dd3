"""The file of a removed role: it contains everything that made up the role, and is fully validated when it is read."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, ConfigDict, StrictBool, StrictInt, StrictStr, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from iampolicy.account.snapshot_schema import check_date
from iampolicy.errors import InputError
from iampolicy.policy import json_source
from iampolicy.validation import first_fault
from ops.core.errors import OpsError
from ops.core.settings import Settings

KIND = "kennel-removed-role"
LARGEST = 2_000_000  # bytes; twenty policies of AWS's largest size are 400 KB, indented
SESSION_S = range(3600, 43201)
POLICY = re.compile(r"arn:aws:iam::(aws|\d{12}):policy/([!-~]+/)?[\w+=,.@-]{1,128}", re.ASCII)


def require_pattern(pattern: str, what: str, flags: re.RegexFlag = re.ASCII) -> AfterValidator:
    """Return a check that all of a string matches this pattern."""
    compiled = re.compile(pattern, flags)

    def check(value: str) -> str:
        if not compiled.fullmatch(value):
            raise ValueError(f"is not a {what}")
        return value

    return AfterValidator(check)


def check_document(value: dict[str, Any]) -> dict[str, Any]:
    statements = value.get("Statement")
    statements = statements if isinstance(statements, list) else [statements]
    if not all(isinstance(one, dict) for one in statements):
        raise ValueError("is not a policy")
    return value


def check_seconds(value: int) -> int:
    if value not in SESSION_S:
        raise ValueError(f"is not from {SESSION_S[0]} to {SESSION_S[-1]}")
    return value


RoleName = Annotated[StrictStr, require_pattern(r"[\w+=,.@-]{1,64}", "role name")]
Name = Annotated[StrictStr, require_pattern(r"[\w+=,.@-]{1,128}", "IAM name")]
IamPath = Annotated[StrictStr, require_pattern(r"/|/[!-~]{1,510}/", "IAM path")]
Arn = Annotated[StrictStr, require_pattern(POLICY.pattern, "policy ARN")]
BoundaryArn = Annotated[StrictStr, require_pattern(f"|{POLICY.pattern}", "policy ARN")]
Text = Annotated[StrictStr, require_pattern(r".{0,1000}", "text of at most 1,000 characters", re.DOTALL)]
TagKey = Annotated[StrictStr, require_pattern(r".{1,128}", "tag key", re.DOTALL)]
TagValue = Annotated[StrictStr, require_pattern(r".{0,256}", "tag value", re.DOTALL)]
Document = Annotated[dict[str, Any], AfterValidator(check_document)]


class SavedPolicy(TypedDict):
    description: Text
    tags: dict[TagKey, TagValue]
    document: Document


class SavedProfile(TypedDict):
    path: IamPath
    tags: dict[TagKey, TagValue]


@dataclass(frozen=True)
class SavedRole:
    """Everything that makes up a role. `policies` are its customer managed ones by ARN, `profiles` are its instance profiles.

    `finished` is False while the role is being removed: the account then has only a part of it.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    account: StrictStr
    saved: Annotated[StrictStr, AfterValidator(check_date)]
    finished: StrictBool
    role_id: StrictStr
    name: RoleName
    path: IamPath
    description: Text
    session_s: Annotated[StrictInt, AfterValidator(check_seconds)]
    trust: Document
    boundary: BoundaryArn
    tags: dict[TagKey, TagValue]
    inline: dict[Name, Document]
    attached: list[Arn]
    policies: dict[Arn, SavedPolicy]
    profiles: dict[Name, SavedProfile]

    @property
    def data(self) -> dict[str, Any]:
        return {"kind": KIND, **vars(self)}

    @property
    def arn(self) -> str:
        return f"arn:aws:iam::{self.account}:role{self.path}{self.name}"

    @property
    def held(self) -> list[str]:
        """Return the ARNs of its attached managed policies and of its permissions boundary."""
        return [arn for arn in (*self.attached, self.boundary) if arn]


def read_saved_role(path: Path) -> SavedRole:
    """Return the role saved in a file. Raises OpsError for any other file."""
    try:
        with path.open("rb") as file:
            body = file.read(LARGEST + 1)
        if len(body) > LARGEST:
            raise InputError(f"it is larger than {LARGEST:,} bytes")
        data, _ = json_source.parse(body.decode(), path.name)
    except (OSError, InputError, UnicodeDecodeError) as error:
        raise OpsError(f"{path} cannot be read: {error}. Nothing was changed.") from error
    return parse_saved_role(data, str(path))


def read_for_account(path: Path, settings: Settings) -> SavedRole:
    """Return the role saved in a file. Raises OpsError for any other file, and for a role of another account."""
    found = read_saved_role(path)
    if found.account != settings.aws.account:
        raise OpsError(
            f"{path} is of account {found.account}; the settings are for {settings.aws.account}. Nothing was changed."
        )
    return found


def parse_saved_role(data: Any, name: str) -> SavedRole:
    """Return the role that a file's data describe. Raises OpsError with the first fault when they describe none."""
    try:
        if not isinstance(data, dict) or data.get("kind") != KIND:
            raise ValueError(f"its kind is not {KIND!r}")
        found = SAVED.validate_python({key: one for key, one in data.items() if key != "kind"})
        check_owner(found)
    except ValueError as error:  # pydantic's is one too
        fault = first_fault(error) if isinstance(error, ValidationError) else error
        raise OpsError(
            f"{name} is not a role that iam.prune saved: {fault}. Saved roles are in .kennel/iam/STACK/removed/. Nothing was changed."
        ) from None
    return found


def check_owner(saved: SavedRole) -> None:
    """Raise ValueError unless the role has only policies of AWS and its own account, and the file only documents of the role's policies."""
    for arn in saved.held:
        if arn.split(":")[4] not in ("aws", saved.account):
            raise ValueError(f"it has {arn}, which is not of account {saved.account}")
    for arn in saved.policies:
        if arn not in saved.held or arn.split(":")[4] != saved.account:
            raise ValueError(f"it has the document of {arn}, which is not a policy of the role")


SAVED = TypeAdapter(SavedRole)

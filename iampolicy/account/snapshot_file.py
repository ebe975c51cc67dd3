"""Snapshot files: save an account's IAM without key ids and secrets, and load it again with full validation."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from iampolicy.account import snapshot
from iampolicy.account.snapshot_schema import DETAILS, EXTRAS, RawExtras
from iampolicy.errors import InputError
from iampolicy.key_patterns import KEY_ID, SECRET
from iampolicy.validation import first_fault

SCHEMA = 1
LARGEST = 200_000_000  # bytes: some 200,000 roles
DEEPEST = 40  # levels of JSON; a policy's deepest value is at the twelfth
LISTS = ("UserDetailList", "GroupDetailList", "RoleDetailList", "Policies")
SECRET_NAME = re.compile(r"(?i)(secret.*|password|passwd|token|private.?key|access.?key(.?id)?|api.?key)s?$")
LEFT_OUT = "(left out)"

NESTING = (dict, list)


def save_snapshot(path: Path, pages: Iterable[Mapping[str, Any]], extras: Mapping[str, Any], account: str) -> None:
    """Write the snapshot, readable by its owner only. Raises InputError when the file cannot be written."""
    details: dict[str, list[Any]] = {name: [] for name in LISTS}
    for page in pages:
        for name in LISTS:
            details[name] += page.get(name, [])
    body = {
        "kennel_snapshot": SCHEMA,
        "account": account,
        "taken": datetime.now(UTC),
        "details": details,
        "extras": dict(extras),
    }
    text = json.dumps(redact_secrets(as_plain_json(body)), separators=(",", ":"))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_name(f".{path.name}.{os.getpid()}")
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(text)
        fresh.replace(path)
    except OSError as error:
        raise InputError(
            f"The snapshot was not written to {path}: {error.strerror}. Name another file: --save FILE"
        ) from error


def as_plain_json(value: Any) -> Any:
    """Return the value as plain JSON; dates and other types become text."""
    return json.loads(json.dumps(value, default=lambda one: one.isoformat() if hasattr(one, "isoformat") else str(one)))


def redact_secrets(value: Any, name: str = "") -> Any:
    """Return the value without texts that look like key ids or secrets, and without the values of names that suggest a secret."""
    if isinstance(value, dict):
        named = str(value.get("Key", "")) if set(value) == {"Key", "Value"} else ""  # The object is a tag.
        return {
            redact_secrets(key): redact_secrets(one, named if key == "Value" else key) for key, one in value.items()
        }
    if isinstance(value, list):
        return [redact_secrets(one, name) for one in value]
    if not isinstance(value, str):
        return value
    if (
        SECRET_NAME.search(name) and ":" not in name
    ):  # A name with a colon is a condition key, such as aws:FederatedToken, and has no secrets.
        return LEFT_OUT
    return SECRET.sub(LEFT_OUT, KEY_ID.sub(LEFT_OUT, value))


def load_snapshot(path: Path) -> tuple[snapshot.Snapshot, RawExtras | None]:
    """Return (the snapshot, the extras or None) from a file of --save or of `aws iam get-account-authorization-details`.

    Raises InputError in one sentence for any other file.
    """
    body = read_checked_json(path)
    if not isinstance(body, dict):
        raise InputError(f"{path}: {HINT}")
    details: Any = body
    extras = None
    if "kennel_snapshot" in body:
        if body["kennel_snapshot"] != SCHEMA:
            raise InputError(
                f"{path}: snapshot of schema {body['kennel_snapshot']!r}; this Kennel reads {SCHEMA}. Take it again: --save"
            )
        details, extras = body.get("details"), body.get("extras")
    if not isinstance(details, dict) or not set(LISTS) & set(details):
        raise InputError(f"{path}: {HINT}")
    if details.get("IsTruncated") is True:
        raise InputError(f"{path}: only the first page of a response. Let the AWS CLI fetch all pages, or use --save.")
    try:
        read = DETAILS.validate_python(details, strict=True)
        more = EXTRAS.validate_python({"extras": extras}, strict=True).get("extras")
    except ValidationError as error:
        raise InputError(f"{path}: {first_fault(error)}. {HINT}") from None
    return snapshot.parse_snapshot([read]), more


HINT = "Write a snapshot with: invoke iam.audit --save FILE, or aws iam get-account-authorization-details"


def read_checked_json(path: Path) -> Any:
    try:
        if path.stat().st_size > LARGEST:
            raise InputError(f"{path} is larger than {LARGEST // 1_000_000} MB. {HINT}")
        body = json.loads(path.read_bytes())
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"{path} was not read: {error.strerror}. {HINT}") from error
    except RecursionError:
        raise InputError(f"{path}: nested too deep. {HINT}") from None
    except ValueError as error:  # not JSON, not UTF-8, or a number of thousands of digits
        raise InputError(f"{path} is not JSON: {error}. {HINT}") from error
    level = [body]
    for _ in range(DEEPEST):
        inside = (one.values() if isinstance(one, dict) else one for one in level if isinstance(one, NESTING))
        level = [child for children in inside for child in children if isinstance(child, NESTING)]
        if not level:
            return body
    raise InputError(f"{path}: nested more than {DEEPEST} levels deep. {HINT}")

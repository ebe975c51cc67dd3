"""Back up policy versions, trust policies and inline policies here before a change overwrites or deletes them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, TypeAdapter

from iampolicy.account.snapshot import Principal, Snapshot
from ops.core.files import write_atomically
from ops.core.paths import WORK
from ops.core.plan import Change, Step
from ops.core.settings import Settings

LARGEST = 1_000_000  # bytes; the largest policy that IAM accepts, indented, is 20 KB
LOSING = ("create_policy_version", "set_default_policy_version", "delete_policy")  # each replaces the default version


@dataclass(frozen=True)
class Backup:
    """A document as it was before a change: a managed policy's version, a principal's inline policy or trust, its boundary's ARN, its tags."""

    __pydantic_config__ = ConfigDict(extra="forbid", strict=True)

    owner: str
    version: str
    document: dict[str, Any]
    saved: str = ""


KEPT = TypeAdapter(Backup)


def locate_backups(settings: Settings) -> Path:
    return WORK / "iam" / settings.stack.name


def derive_backup_path(settings: Settings, kept: Backup) -> Path:
    return locate_backups(settings) / kept.owner.rsplit("/", 1)[-1] / f"{kept.version}.json"


def choose_backup_path(settings: Settings, kept: Backup) -> Path:
    """Return the file for this document. Another one of the same owner and version (of a stack created again) is not overwritten."""
    path = derive_backup_path(settings, kept)
    return (
        path.with_stem(f"{kept.version}-{hash_document(kept)}")
        if path.exists() and not is_backed_up(path, kept)
        else path
    )


def format_current_time() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def write_private_json(path: Path, data: Any) -> Path:
    """Write a JSON file, whole or not at all, that only its owner can read; return its path."""
    make_private_folders(path.parent)
    write_atomically(path, json.dumps(data, indent=2).encode(), mode=0o600, durable=True)
    return path


def make_private_folders(folder: Path) -> None:
    """Make the folder, and make it and its parents below .kennel/iam private; mkdir's mode applies to its last folder only."""
    for one in reversed([folder, *folder.parents]):
        if one.is_relative_to(WORK / "iam"):
            one.mkdir(mode=0o700, parents=True, exist_ok=True)
            if one.stat().st_mode & 0o077:
                one.chmod(0o700)


def save_backup(settings: Settings, kept: Backup) -> Path:
    """Save the document unless it is saved already; return its path."""
    path = choose_backup_path(settings, kept)
    return path if is_backed_up(path, kept) else write_private_json(path, vars(kept) | {"saved": format_current_time()})


def is_backed_up(path: Path, kept: Backup) -> bool:
    found = read_backup(path)
    return found is not None and (found.owner, found.document) == (kept.owner, kept.document)


def hash_document(kept: Backup) -> str:
    return hashlib.sha256(json.dumps([kept.owner, kept.document], sort_keys=True).encode()).hexdigest()[:8]


def read_backup(path: Path) -> Backup | None:
    """Return the backup in a file; None for a file that is missing, too large or altered."""
    try:
        if path.stat().st_size > LARGEST:
            return None
        return KEPT.validate_json(path.read_bytes())
    except (OSError, ValueError):
        return None


def list_saved_versions(settings: Settings, arn: str, since: datetime | None = None) -> list[Backup]:
    """Return the saved versions of a managed policy, the last saved first.

    `since` is when the policy was created: versions saved before that are of an earlier policy of the same name, and are left out.
    """
    files = sorted(derive_backup_path(settings, Backup(arn, "v", {})).parent.glob("v*.json"))
    found = [
        kept for path in files if (kept := read_backup(path)) and kept.owner == arn and not is_older_than(kept, since)
    ]
    return sorted(found, key=lambda kept: kept.saved, reverse=True)


def is_older_than(kept: Backup, since: datetime | None) -> bool:
    try:
        return since is not None and datetime.fromisoformat(kept.saved) < since.replace(microsecond=0)
    except (TypeError, ValueError):  # an altered file
        return True


def list_lost_documents(have: Snapshot, planned: Iterable[Step]) -> list[Backup]:
    """Return all documents that these changes delete, overwrite or replace as the default version."""
    found = [kept for step in planned if isinstance(step, Change) and (kept := find_lost_document(have, step))]
    return list({(kept.owner, kept.version): kept for kept in found}.values())


def find_lost_document(have: Snapshot, step: Change) -> Backup | None:
    """Return the document that this change overwrites, deletes or replaces as the default version; None if there is none."""
    args, arn = step.args, step.args.get("PolicyArn", "")
    if step.call == "delete_policy_version":
        return Backup(arn, args["VersionId"], have.policies[arn].version(args["VersionId"]))
    if step.call in LOSING:
        return Backup(arn, have.policies[arn].default, have.policies[arn].document)
    kind, holders = ("user", have.users) if "UserName" in args else ("role", have.roles)
    holder = holders.get(args.get(f"{kind.title()}Name", ""))
    version, document = find_changed_part(holder, step) if holder else ("", None)
    return Backup(f"{kind}/{holder.name}", version, document) if holder and document else None


def find_changed_part(holder: Principal, step: Change) -> tuple[str, dict[str, Any] | None]:
    """Return (its name in the backups, its content) for the part of a role or user that the change is about."""
    name = step.args.get("PolicyName", "")
    match step.call.removeprefix("delete_").removeprefix("put_"):
        case "role_policy" | "user_policy":
            return f"inline-{name}", holder.inline[name].document if name in holder.inline else None
        case "role_permissions_boundary":
            return "boundary", {"PermissionsBoundaryArn": holder.boundary} if holder.boundary else None
        case "update_assume_role_policy":
            return "trust", holder.trust.document if holder.trust else None
        case "tag_role":
            keys = [tag["Key"] for tag in step.args["Tags"]]
            return "tags", {key: holder.tags[key] for key in keys if key in holder.tags}
    return "", None


def annotate_with_backup(settings: Settings, have: Snapshot, step: Change) -> Change:
    """Return the change with a warning that names the only backup of the document that it replaces, if it replaces one."""
    kept = find_lost_document(have, step)
    return replace(step, danger=f"only backup: {choose_backup_path(settings, kept)}") if kept else step

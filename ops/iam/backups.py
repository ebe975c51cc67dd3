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

LARGEST = 1_000_000  # bytes; the largest policy that IAM takes, indented, is 20 KB
LOSING = ("create_policy_version", "set_default_policy_version", "delete_policy")  # the default loses its place


@dataclass(frozen=True)
class Kept:
    """A document as it was: a managed policy's version, a principal's inline policy or trust, its boundary's ARN, its tags."""

    __pydantic_config__ = ConfigDict(extra="forbid", strict=True)

    owner: str
    version: str
    document: dict[str, Any]
    saved: str = ""


KEPT = TypeAdapter(Kept)


def folder(settings: Settings) -> Path:
    return WORK / "iam" / settings.stack.name


def place(settings: Settings, kept: Kept) -> Path:
    return folder(settings) / kept.owner.rsplit("/", 1)[-1] / f"{kept.version}.json"


def home(settings: Settings, kept: Kept) -> Path:
    """The file of this very text. Another of the same owner's name and version (a stack made anew) stays beside it."""
    path = place(settings, kept)
    return path.with_stem(f"{kept.version}-{digest(kept)}") if path.exists() and not holds(path, kept) else path


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def written(path: Path, data: Any) -> Path:
    """Write a file as JSON, whole or not at all, for its owner's eyes; return its path."""
    private(path.parent)
    write_atomically(path, json.dumps(data, indent=2).encode(), mode=0o600, durable=True)
    return path


def private(folder: Path) -> None:
    """The folder, and each above it that holds such files, for their owner alone; mkdir's mode is its last folder's only."""
    for one in reversed([folder, *folder.parents]):
        if one.is_relative_to(WORK / "iam"):
            one.mkdir(mode=0o700, parents=True, exist_ok=True)
            if one.stat().st_mode & 0o077:
                one.chmod(0o700)


def keep(settings: Settings, kept: Kept) -> Path:
    """Where it is kept."""
    path = home(settings, kept)
    return path if holds(path, kept) else written(path, vars(kept) | {"saved": now()})


def holds(path: Path, kept: Kept) -> bool:
    found = read(path)
    return found is not None and (found.owner, found.document) == (kept.owner, kept.document)


def digest(kept: Kept) -> str:
    return hashlib.sha256(json.dumps([kept.owner, kept.document], sort_keys=True).encode()).hexdigest()[:8]


def read(path: Path) -> Kept | None:
    """Return what a file keeps; None for one that is missing, larger than any that is kept, or altered."""
    try:
        if path.stat().st_size > LARGEST:
            return None
        return KEPT.validate_json(path.read_bytes())
    except (OSError, ValueError):
        return None


def versions(settings: Settings, arn: str, since: datetime | None = None) -> list[Kept]:
    """What is kept of a managed policy, the last saved first. With `since`, when it was made: of one that was there before it under
    the same name nothing counts."""
    files = sorted(place(settings, Kept(arn, "v", {})).parent.glob("v*.json"))
    found = [kept for path in files if (kept := read(path)) and kept.owner == arn and not before_it(kept, since)]
    return sorted(found, key=lambda kept: kept.saved, reverse=True)


def before_it(kept: Kept, since: datetime | None) -> bool:
    try:
        return since is not None and datetime.fromisoformat(kept.saved) < since.replace(microsecond=0)
    except (TypeError, ValueError):  # an altered file
        return True


def lost(have: Snapshot, planned: Iterable[Step]) -> list[Kept]:
    """All documents that these changes delete or write over, or after which they are no more in force."""
    found = [kept for step in planned if isinstance(step, Change) and (kept := before(have, step))]
    return list({(kept.owner, kept.version): kept for kept in found}.values())


def before(have: Snapshot, step: Change) -> Kept | None:
    """What stands where this change writes or deletes; None where nothing is lost."""
    args, arn = step.args, step.args.get("PolicyArn", "")
    if step.call == "delete_policy_version":
        return Kept(arn, args["VersionId"], have.policies[arn].version(args["VersionId"]))
    if step.call in LOSING:
        return Kept(arn, have.policies[arn].default, have.policies[arn].document)
    kind, holders = ("user", have.users) if "UserName" in args else ("role", have.roles)
    holder = holders.get(args.get(f"{kind.title()}Name", ""))
    version, document = held(holder, step) if holder else ("", None)
    return Kept(f"{kind}/{holder.name}", version, document) if holder and document else None


def held(holder: Principal, step: Change) -> tuple[str, dict[str, Any] | None]:
    """(how it is called here, what it is): the part of a role or user that the change is about."""
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


def telling(settings: Settings, have: Snapshot, step: Change) -> Change:
    """The change with the file in which alone stays what it loses."""
    kept = before(have, step)
    return replace(step, danger=f"stays only in {home(settings, kept)}") if kept else step

"""What IAM is about to lose is first kept on this machine: a file a policy's version, a file a removed role."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ops import WORK
from ops.change import Change, Step
from ops.config import Settings
from ops.iam.snapshot import Snapshot

LOSING = ("create_policy_version", "set_default_policy_version", "delete_policy")  # the default loses its place


@dataclass(frozen=True)
class Kept:
    """A document as it was: of a managed policy's version, or a role's inline policy."""

    owner: str
    version: str
    document: dict[str, Any]
    saved: str = ""


def folder(settings: Settings) -> Path:
    return WORK / "iam" / settings.stack.name


def place(settings: Settings, kept: Kept) -> Path:
    return folder(settings) / kept.owner.rsplit("/", 1)[-1] / f"{kept.version}.json"


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def written(path: Path, data: Any) -> Path:
    """The file, whole or not at all, for its owner's eyes."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".part-")  # mkstemp: 0600
    try:
        with os.fdopen(handle, "w") as file:
            json.dump(data, file, indent=2)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return path


def keep(settings: Settings, kept: Kept) -> Path:
    """Where it is kept. What another policy of the same name and version left there (a stack made anew) stays beside it."""
    path = place(settings, kept)
    if path.exists() and not holds(path, kept):
        path = path.with_stem(f"{kept.version}-{digest(kept)}")
    return path if holds(path, kept) else written(path, vars(kept) | {"saved": now()})


def holds(path: Path, kept: Kept) -> bool:
    found = read(path)
    return found is not None and (found.owner, found.document) == (kept.owner, kept.document)


def digest(kept: Kept) -> str:
    return hashlib.sha256(json.dumps([kept.owner, kept.document], sort_keys=True).encode()).hexdigest()[:8]


def read(path: Path) -> Kept | None:
    try:
        return Kept(**json.loads(path.read_text()))
    except (OSError, TypeError, ValueError):
        return None


def versions(settings: Settings, arn: str) -> list[Kept]:
    """What is kept of a managed policy, the last saved first."""
    files = sorted(place(settings, Kept(arn, "v", {})).parent.glob("v*.json"))
    found = [kept for path in files if (kept := read(path)) and kept.owner == arn]
    return sorted(found, key=lambda kept: kept.saved, reverse=True)


def lost(have: Snapshot, planned: Iterable[Step]) -> list[Kept]:
    """All documents that these changes delete, or after which they are no more in force."""
    found: list[Kept] = []
    for step in planned:
        if not isinstance(step, Change):
            continue
        arn = step.args.get("PolicyArn", "")
        if step.call == "delete_policy_version":
            found.append(Kept(arn, step.args["VersionId"], have.policies[arn].version(step.args["VersionId"])))
        elif step.call in LOSING:
            found.append(Kept(arn, have.policies[arn].default, have.policies[arn].document))
        elif step.call == "delete_role_policy":
            found.append(inline(have, step.args["RoleName"], step.args["PolicyName"]))
    return list({(kept.owner, kept.version): kept for kept in found}.values())


def inline(have: Snapshot, role: str, name: str) -> Kept:
    return Kept(f"role/{role}", f"inline-{name}", have.roles[role].inline[name])

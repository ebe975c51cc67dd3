"""Sessions of roles, kept for their hour below .kennel: a command need not assume its role, nor ask for a code, each time."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from ops.core.files import write_atomically
from ops.core.paths import WORK

FOLDER = WORK / "sessions"
MIN_LEFT_S = 300  # a session with less time left is not used: the command would outlive it
LONGEST = timedelta(hours=36)  # of any session that AWS gives
PARTS = ("access_key", "secret_key", "token", "expiry_time")  # as botocore's refreshable credentials take them


class KeptSession:
    """The file of one session. `facts` say whose it is: another profile, role, region or endpoint has another file."""

    def __init__(self, facts: Mapping[str, str], folder: Path = FOLDER) -> None:
        self.facts = dict(facts)
        self.path = folder / f"{hashlib.sha256(json.dumps(self.facts, sort_keys=True).encode()).hexdigest()[:32]}.json"

    def read(self) -> dict[str, str] | None:
        """Return the session's keys and its end; None when there are none, when they end soon, or when the file is not ours alone."""
        found = read_private_file(self.path)
        keys = found.get("keys") if isinstance(found, dict) and found.get("facts") == self.facts else None
        if not isinstance(keys, dict) or not all(isinstance(keys.get(part), str) and keys[part] for part in PARTS):
            return None
        left = compute_time_left(keys["expiry_time"])
        return keys if left is not None and timedelta(seconds=MIN_LEFT_S) < left < LONGEST else None

    def write(self, keys: Mapping[str, str]) -> None:
        """Keep the session, and remove those that have ended. A folder that cannot be written to, or is not ours, keeps none."""
        folder = self.path.parent
        with contextlib.suppress(OSError):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not is_own(folder.lstat(), stat.S_ISDIR):
                return
            folder.chmod(0o700)
            drop_sessions(folder=folder, only_ended=True)
            write_atomically(
                self.path,
                json.dumps({"facts": self.facts, "keys": {part: keys[part] for part in PARTS}}).encode(),
                0o600,
            )

    def drop(self) -> None:
        with contextlib.suppress(OSError):
            self.path.unlink()


def read_private_file(path: Path) -> Any:
    """Return the content of a JSON file that its owner alone can read; None for a link, another's file, or one that is broken."""
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            status = os.fstat(file.fileno())
            return json.loads(file.read()) if is_own(status, stat.S_ISREG) and not status.st_mode & 0o077 else None
    except (OSError, ValueError, RecursionError):
        return None


def is_own(status: os.stat_result, is_kind: Callable[[int], bool]) -> bool:
    return is_kind(status.st_mode) and status.st_uid == os.geteuid()


def compute_time_left(end: object) -> timedelta | None:
    """Return the time until `end`, which is an ISO 8601 text with a time zone; None when it is anything else."""
    try:
        return datetime.fromisoformat(str(end)) - datetime.now(UTC)
    except (ValueError, TypeError):
        return None


def drop_sessions(folder: Path = FOLDER, only_ended: bool = False, **facts: str) -> None:
    """Remove the kept sessions that have these facts, or with `only_ended` those that are over; and each file that is broken."""
    for path in folder.glob("*.json") if folder.is_dir() and not folder.is_symlink() else ():
        found = read_private_file(path)
        whole = isinstance(found, dict) and isinstance(found.get("facts"), dict) and isinstance(found.get("keys"), dict)
        left = compute_time_left(found["keys"].get("expiry_time")) if whole else None
        is_over = left is None or left <= timedelta()
        if is_over or (not only_ended and all(found["facts"].get(name) == value for name, value in facts.items())):
            with contextlib.suppress(OSError):
                path.unlink()

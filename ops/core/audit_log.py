"""The audit log: a line of JSON before each change and another with its outcome, on the machine of the person who made it."""

from __future__ import annotations

import errno
import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ops.core.files import name_path

Entry = dict[str, Any]


class AuditLog:
    """The file. Commands may write it at the same time, one line each in turn, which is on disk when `write` returns."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, entry: Entry) -> None:
        """Append a line. Raises OSError, with the path, when it cannot be written: then the change must not be made.

        A line that a crash has cut is ended first. A link in the file's place is refused, not followed.
        """
        self.path.parent.mkdir(mode=0o700, exist_ok=True)
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW
        with name_path(self.path):
            file = os.open(self.path, flags, 0o600)
            try:
                fcntl.flock(file, fcntl.LOCK_EX)  # else a line that another command is writing looks cut
                os.fchmod(file, 0o600)  # a log that an older Kennel made can be read by all users
                size = os.fstat(file).st_size
                is_torn = size > 0 and os.pread(file, 1, size - 1) != b"\n"
                line = b"\n" * is_torn + json.dumps(entry, default=str).encode() + b"\n"
                if os.write(file, line) != len(line):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                os.fsync(file)
            finally:
                os.close(file)

    def read(self) -> Iterator[Entry]:
        """Yield the entries, the oldest first; lines that a crash has cut are left out, and without a file there is none."""
        if not self.path.exists():
            return
        with self.path.open(errors="replace") as lines:
            for line in lines:
                try:
                    entry = json.loads(line)
                except ValueError:
                    continue
                if isinstance(entry, dict):
                    yield entry

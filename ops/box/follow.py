"""Follow a job's log by byte offset, with numbered lines, over as many connections as it takes."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from ops.box import access, full_disk
from ops.box.remote_jobs import MOST_MISSES, UNDER_WAY, BoxFolders, LogPrinter, read_status
from ops.core import ssh
from ops.core.aws.account import iterate_poll_intervals
from ops.core.errors import INTERRUPTED, OpsError, Unreachable
from ops.core.output import say
from ops.core.ssh import Connection
from ops.core.task import explain_error

PIECE = 1 << 20  # bytes of log at a time
RECONNECT_S = 180.0  # how long a lost connection is retried: a partition ends, a laptop wakes up
PAUSE_S = 0.5

Opener = Callable[[], AbstractContextManager[Any]]


class Follower:
    """The follower of one job's log, from a line on. It prints each line once, however often it has to reconnect."""

    def __init__(self, folders: BoxFolders, name: str, line: int = 1) -> None:
        self.folder, self.name, self.lines = folders.job(name), name, LogPrinter(line)
        self.offset: int | None = None if line > 1 else 0
        self.last_contact = time.monotonic()

    def follow(self, opened: Opener) -> dict[str, Any]:
        """Print until the job ends; return its last status. Raises OpsError when the job failed or disappeared, or stays out of reach."""
        try:
            found = self._watch_with_reconnects(opened)
        except KeyboardInterrupt as error:
            raise OpsError(
                f"{self.name} is still running. Follow it from here: {self.format_attach_command()}", INTERRUPTED
            ) from error
        self.lines.print(b"", last=True)
        if found["state"] != "Completed":
            reason = full_disk.take_reason(found.get("reason", ""))
            fix = full_disk.suggest_fix(reason, f"Read its log: invoke ec2.logs --job {self.name}")
            raise OpsError(f"{self.name} {found['state'].lower()}: {reason}. {fix}")
        return found

    def format_attach_command(self) -> str:
        return f"invoke ec2.attach --line {self.lines.number}"

    def _watch_with_reconnects(self, opened: Opener) -> dict[str, Any]:
        first, last_message, waits = True, "", iterate_poll_intervals()
        while True:
            try:
                with opened() as link:
                    if not first:
                        say(f"Reconnected; continuing from line {self.lines.number}.")
                    first, last_message, waits = False, "", iterate_poll_intervals()
                    return self._watch_job(link)
            except Exception as error:
                explained = explain_error(error)
                # Only a lost connection is retried: a stopped box or a failed job will not come back by itself.
                if first or not isinstance(explained, Unreachable):
                    raise
                if time.monotonic() - self.last_contact > RECONNECT_S:
                    raise Unreachable(
                        f"{explained} {self.name} keeps running. Follow it from here: {self.format_attach_command()}"
                    ) from error
                if access.strip_hints(explained) != last_message:
                    last_message = access.strip_hints(explained)
                    say(f"{last_message}. {self.name} keeps running; reconnecting ...")
                time.sleep(next(waits))

    def _watch_job(self, link: Connection) -> dict[str, Any]:
        misses = 0
        while True:
            found, data = self._poll_job(link)
            self.last_contact = time.monotonic()
            while data:
                self.offset = (self.offset or 0) + len(data)
                self.lines.print(data)
                _, data = self._poll_job(link)
            if found["state"] not in UNDER_WAY:
                return found
            misses = 0 if found["alive"] else misses + 1
            if misses > MOST_MISSES:
                raise OpsError(
                    f"{self.name}: the trainer ended without a status; the box may have been stopped. Run it again: invoke ec2.train"
                )
            time.sleep(PAUSE_S)

    def _poll_job(self, link: Connection) -> tuple[dict[str, Any], bytes]:
        """Return the status, then the log beyond the offset: in this order, so that the whole log of an ended job is read."""
        if self.offset is None:
            path = ssh.quote_command(self.folder + "/log")
            self.offset = int(ssh.run(link, f"head -n {self.lines.number - 1} {path} 2>/dev/null | wc -c"))
        return read_status(link, self.folder, f"tail -c +{self.offset + 1} log 2>/dev/null | head -c {PIECE}")

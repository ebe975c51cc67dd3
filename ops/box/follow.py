"""Follow a job's log by byte offset, with numbered lines, over as many connections as it takes."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from ops.box.remote_jobs import PATIENCE, UNDER_WAY, BoxFolders, LogPrinter, read_status
from ops.core import ssh
from ops.core.aws.account import Account, iterate_poll_intervals
from ops.core.errors import INTERRUPTED, OpsError, Unreachable
from ops.core.output import say
from ops.core.ssh import Connection
from ops.core.task import explain_error

PIECE = 1 << 20  # bytes of log at a time
AGAIN_S = 180.0  # how long a lost connection is retried: a partition heals, a laptop wakes up
PAUSE_S = 0.5

Opener = Callable[[], AbstractContextManager[Any]]


class Follower:
    """The follower of one job's log, from a line on. It prints no line twice, whatever happens to the connection."""

    def __init__(self, there: BoxFolders, name: str, line: int = 1) -> None:
        self.folder, self.name, self.lines = there.job(name), name, LogPrinter(line)
        self.offset: int | None = None if line > 1 else 0
        self.heard = time.monotonic()

    def follow(self, opened: Opener) -> dict[str, Any]:
        """Print until the job ends; return its last status. Raises OpsError when it failed, is gone, or stays out of reach."""
        try:
            found = self._watch_with_reconnects(opened)
        except KeyboardInterrupt as error:
            raise OpsError(f"{self.name} goes on. Go on reading: {self.again()}", INTERRUPTED) from error
        self.lines.print(b"", last=True)
        if found["state"] != "Completed":
            raise OpsError(
                f"{self.name} {found['state'].lower()}: {found.get('reason', 'no reason given')}\nIts log: invoke ec2.logs"
            )
        return found

    def again(self) -> str:
        return f"invoke ec2.attach --line {self.lines.number}"

    def _watch_with_reconnects(self, opened: Opener) -> dict[str, Any]:
        first, said, waits = True, "", iterate_poll_intervals()
        while True:
            try:
                with opened() as link:
                    if not first:
                        say(f"The line is back; going on from line {self.lines.number}.")
                    first, said, waits = False, "", iterate_poll_intervals()
                    return self._watch_job(link)
            except Exception as error:
                worded = explain_error(error)
                # Only a lost connection is retried: a stopped box or a failed job will not come back by itself.
                if first or not isinstance(worded, Unreachable):
                    raise
                if time.monotonic() - self.heard > AGAIN_S:
                    raise Unreachable(f"{worded} {self.name} goes on. Go on reading: {self.again()}") from error
                if str(worded) != said:
                    said = str(worded)
                    say(f"{said} {self.name} goes on; trying again ...")
                time.sleep(next(waits))

    def _watch_job(self, link: Connection) -> dict[str, Any]:
        silent = 0
        while True:
            found, data = self._poll_job(link)
            self.heard = time.monotonic()
            while data:
                self.offset = (self.offset or 0) + len(data)
                self.lines.print(data)
                _, data = self._poll_job(link)
            if found["state"] not in UNDER_WAY:
                return found
            silent = 0 if found["alive"] else silent + 1
            if silent > PATIENCE:
                raise OpsError(
                    f"{self.name}: the trainer is gone without a word; the box may have been stopped. Again: invoke ec2.train"
                )
            time.sleep(PAUSE_S)

    def _poll_job(self, link: Connection) -> tuple[dict[str, Any], bytes]:
        """Return the status, then the log beyond the offset: in this order, the whole log of an ended job is read."""
        if self.offset is None:
            path = ssh.quote_command(self.folder + "/log")
            self.offset = int(ssh.run(link, f"head -n {self.lines.number - 1} {path} 2>/dev/null | wc -c"))
        return read_status(link, self.folder, f"tail -c +{self.offset + 1} log 2>/dev/null | head -c {PIECE}")


def print_from_bucket(account: Account, name: str, line: int) -> dict[str, Any]:
    """Print the log that a job left in the bucket, from a line on; return its last status. Raises OpsError."""
    status, log = read_from_bucket(account, name)
    LogPrinter(line).print(b"\n".join(log.split(b"\n")[line - 1 :]), last=True)
    return status


def read_from_bucket(account: Account, name: str) -> tuple[dict[str, Any], bytes]:
    """Return what a job left in the bucket, for a box that is gone: its last status and its log. Raises OpsError without them."""
    ours = f"{account.settings.prefix}-box"
    if not name.startswith(ours):
        raise OpsError(
            f"{name} is no job of this stack's box: their names begin with {ours}. Jobs there: invoke ec2.ps"
        )
    found = []
    for file in ("status.json", "log"):
        content = account.bucket.get_object_or_none(f"jobs/{name}/output/{file}")
        if content is None:
            raise OpsError(
                f"There is no running box, and {name} left no {file} in the bucket. Jobs there: invoke ec2.ps"
            )
        found.append(content)
    return json.loads(found[0]), found[1]

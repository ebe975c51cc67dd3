"""One lease a stack: an object in its bucket says who changes the stack now. It is written only on condition of its ETag.

A command notes the ETag before it reads its facts, and takes the lease before its first change. If another command held the
lease in between, those facts are old: the command is refused, as it is while another one holds it. While it is held, a thread
writes it again every few seconds; one that is not written for STALE_S is stale. The clocks compared are S3's own.
"""

from __future__ import annotations

import getpass
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from ops.core import running
from ops.core.errors import DENIED, LOCKED, AwsError, OpsError
from ops.core.output import say

if TYPE_CHECKING:
    from ops.core.aws.account import Account

HOLDERS = ("operator", "operator-infra")  # the roles that may read and write it
KEY = "lease/stack.json"
BEAT_S, STALE_S, WAIT_S = 15.0, 60.0, 5.0
NOT_OURS = ("PreconditionFailed", "ConditionalRequestConflict", "NoSuchKey")
MISSING = ("404", "NoSuchKey", "NoSuchBucket")
PROCESS = uuid.uuid4().hex


@dataclass(frozen=True)
class Record:
    """The lease: `held`, or free after its last holder. `process` is that of the holder, `beat` makes each writing differ."""

    id: str
    held: bool
    who: str
    host: str
    pid: int
    process: str
    command: str
    since: str
    beat: int = 0

    def describe(self) -> str:
        return f"{self.who} on {self.host} (process {self.pid}), invoke {self.command}, since {self.since}"


class Lease:
    """The lease of one command. `tag` is the ETag at the time of `note`, None without an object, "?" when it was not noted."""

    def __init__(self, account: Account) -> None:
        self.account = account
        self.tag: str | None = "?"
        self.record: Record | None = None
        self._writing = threading.Lock()

    def note(self) -> None:
        """Note the lease before the facts are read, and wait for its end as long as the settings say.

        Raises AwsError where the role itself cannot be assumed.
        """
        until = time.monotonic() + 60 * self.account.settings.stack.wait_minutes
        try:
            found, self.tag, _ = self._read()
            while found and found.held and not has_died(found) and time.monotonic() < until:
                say(f"Waiting for another command: {found.describe()}")
                time.sleep(WAIT_S)
                found, self.tag, _ = self._read()
        except AwsError as error:
            if error.call == "AssumeRole":
                raise

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Hold the lease. Raises OpsError with code 5 while another command holds it, or changed the stack since `note`.

        Without the bucket, or the permission, there is no lease; other roles than HOLDERS change IAM only, and have none.
        """
        try:
            if self.account.role in HOLDERS:
                self._take()
        except AwsError as error:
            if not (error.says(*MISSING) or error.code == DENIED):
                raise
            why = "may not take it" if error.code == DENIED else "the bucket does not exist yet: invoke data.up"
            say(f"No lease: {why}. Another operator is not kept from changing the stack at the same time.")
        if self.record is None:
            yield
            return
        ended = threading.Event()
        beating = threading.Thread(target=self._beat, args=(ended,), daemon=True)
        beating.start()
        try:
            yield
        finally:
            ended.set()
            self._free()

    def check(self) -> None:
        """Raise OpsError with code 5 unless the lease is still ours: asked before each change that removes something."""
        if self.record is None:
            return
        with self._writing:
            found = self.account.bucket.head(KEY)
            if found is None or found["ETag"] != self.tag:
                raise OpsError("The lease of this stack was taken away. Run the same command again.", LOCKED)

    def _take(self) -> None:
        found, tag, age = self._read()
        new = build_record()
        if found and found.held:
            if not has_died(found):
                raise refuse_held(found, age)
            say(f"The lease was left by a process that has ended: {found.describe()}.")
        elif found and self.tag not in ("?", tag) and found.process != PROCESS:
            raise OpsError(
                f"{found.describe()} changed the stack while this command read it. Nothing was changed. Run the same command again.",
                LOCKED,
            )
        try:
            self._write(new, tag)
        except AwsError as error:
            if not error.says(*NOT_OURS):
                raise
            found, tag, age = self._read()
            if found is None or found.id != new.id:  # else the first attempt's answer was lost
                raise refuse_held(found or new, age) from error
            self.record, self.tag = new, tag

    def _read(self) -> tuple[Record | None, str | None, float]:
        """Return (the lease, its ETag, seconds since it was written)."""
        try:
            found = self.account.call("s3", "get_object", Bucket=self.account.bucket.name, Key=KEY)
        except AwsError as error:
            if error.says("NoSuchKey"):
                return None, None, 0.0
            raise
        now = parsedate_to_datetime(found["ResponseMetadata"]["HTTPHeaders"]["date"])
        return parse(found["Body"].read()), found["ETag"], (now - found["LastModified"]).total_seconds()

    def _write(self, record: Record, tag: str | None) -> None:
        condition = {"IfMatch": tag} if tag else {"IfNoneMatch": "*"}
        where = {"Bucket": self.account.bucket.name, "Key": KEY}
        answer = self.account.call("s3", "put_object", Body=json.dumps(asdict(record)).encode(), **where, **condition)
        self.record, self.tag = record, answer["ETag"]

    def _beat(self, ended: threading.Event) -> None:
        """Write the lease again and again. An error is left to `check`: the ETag is not ours any more, or the lease gets stale."""
        while not ended.wait(BEAT_S):
            with self._writing:
                if ended.is_set() or self.record is None:
                    return
                try:
                    self._write(replace(self.record, beat=self.record.beat + 1), self.tag)
                except Exception as error:
                    say(f"The lease could not be renewed: {error}")

    def _free(self) -> None:
        with self._writing:
            record, self.record = self.record, None
            if record is None:
                return
            try:
                self._write(replace(record, held=False), self.tag)
            except OpsError as error:
                say(f"The lease could not be given back: {error}. If it stays: invoke stack.unlock --id {record.id}")
            self.record = None


def build_record() -> Record:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return Record(
        uuid.uuid4().hex[:12], True, getpass.getuser(), socket.gethostname(), os.getpid(), PROCESS, running.command, now
    )


def parse(body: bytes) -> Record | None:
    """Return the lease, or None for an object that does not hold one: it is overwritten."""
    try:
        return Record(**json.loads(body))
    except (ValueError, TypeError):
        return None


def has_died(record: Record) -> bool:
    """Return whether the holder was a process of this machine that has ended."""
    if record.host != socket.gethostname():
        return False
    try:
        os.kill(record.pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    return False


def refuse_held(record: Record, age_s: float) -> OpsError:
    how = "Wait for it, then run the same command again."
    if age_s > STALE_S:
        how = f"It has given no sign for {age_s:.0f} s. If it has ended: invoke stack.unlock --id {record.id}"
    return OpsError(f"Another command changes this stack: {record.describe()}. Nothing was changed. {how}", LOCKED)


def unlock(account: Account, ident: str) -> bool:
    """Free a stale lease with this id; return whether there was one. Raises OpsError for another id, and for a lease that is alive."""
    lease = Lease(account)
    record, tag, age = lease._read()
    if record is None or not record.held:
        return False
    if record.id != ident:
        raise OpsError(
            f"The lease has the id {record.id}, not {ident}: {record.describe()}. Nothing was changed.", LOCKED
        )
    if age <= STALE_S and not has_died(record):
        raise OpsError(
            f"The lease is alive, {age:.0f} s old: {record.describe()}. Nothing was changed. End that command first.",
            LOCKED,
        )
    lease._write(replace(record, held=False), tag)
    return True

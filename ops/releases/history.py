"""What was deployed here, by whom and why: a note in the bucket for each, begun before the first change and ended after the proof."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ops.core.aws.account import Account
from ops.core.errors import OpsError

if TYPE_CHECKING:
    from ops.endpoint.plan import Wanted

PREFIX = "deployments/"
LIVE, UNFINISHED = "live", "unfinished"


@dataclass(frozen=True)
class Why:
    """What is kept on record of a deployment: the operator's reason, and what the gate had against it."""

    because: str
    findings: list[str] = field(default_factory=list)
    rollback: bool = False


@contextmanager
def noted(account: Account, want: Wanted, why: Why, scaled: bool) -> Iterator[None]:
    """Around a deployment, of an endpoint that is `scaled` or not. Its outcome is "live", or the first line of what went
    wrong; "unfinished" when this process died."""
    note: dict[str, Any] = {
        "at": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%f}Z",
        "release": want.release.digest,
        "config": want.config,
        "job": want.release.job,
        "by": account.call("sts", "get_caller_identity")["Arn"],
        "because": why.because,
        "findings": why.findings,
        "rollback": why.rollback,
        "scaled": scaled,
        "outcome": UNFINISHED,
    }
    write(account, note)
    try:
        yield
    except OpsError as error:
        write(account, note | {"outcome": str(error).splitlines()[0]})
        raise
    write(account, note | {"outcome": LIVE})


def proved(account: Account, want: Wanted) -> None:
    """A deployment that is live, and proved now, gets the note that a process before could not write."""
    last = next((note for note in reversed(read(account)) if note["config"] == want.config), None)
    if last and last["outcome"] != LIVE:
        write(account, last | {"outcome": LIVE})


def write(account: Account, note: dict[str, Any]) -> None:
    key = f"{PREFIX}{note['at']}-{note['config']}.json"
    account.call("s3", "put_object", Bucket=account.settings.bucket, Key=key, Body=json.dumps(note).encode())


def read(account: Account, newest: int = 0) -> list[dict[str, Any]]:
    """All notes, or the newest few; the oldest first."""
    bucket = account.settings.bucket
    keys = [item["Key"] for item in account.list_all("s3", "list_objects_v2", "Contents", Bucket=bucket, Prefix=PREFIX)]
    return [
        json.loads(account.call("s3", "get_object", Bucket=bucket, Key=key)["Body"].read())
        for key in sorted(keys)[-newest:]
    ]


def before(notes: list[dict[str, Any]], live: str) -> dict[str, Any] | None:
    """The deployment to go back to from config `live`; None when there is none.

    Deployments lie on each other; a roll-back takes off all that lie on the one it goes back to. So a second roll-back goes
    further back, and none goes to a release that was rolled back before. What is live is live whatever its note says: the
    process may have died, or the proof failed, after AWS had changed over.
    """
    pile: list[dict[str, Any]] = []
    last = max((n for n, note in enumerate(notes) if note["config"] == live), default=-1)
    for note in (note for n, note in enumerate(notes) if note["outcome"] == LIVE or n == last):
        if note["rollback"] and any(below["config"] == note["config"] for below in pile):
            while pile[-1]["config"] != note["config"]:
                pile.pop()
        elif not pile or pile[-1]["config"] != note["config"]:
            pile.append(note)
    return pile[-2] if len(pile) > 1 else None


def lost_scaling(notes: list[dict[str, Any]]) -> bool:
    """Whether the last deployment ended before it could register the scaling again that it had taken away."""
    return bool(notes) and notes[-1]["outcome"] != LIVE and notes[-1].get("scaled", False)


def was_live(account: Account, config: str) -> bool:
    return any(note["config"] == config and note["outcome"] == LIVE for note in read(account))


def latest(notes: list[dict[str, Any]], release: str) -> dict[str, Any] | None:
    """A release's last deployment that went live; None when none did."""
    return next((n for n in reversed(notes) if n["release"] == release and n["outcome"] == LIVE), None)

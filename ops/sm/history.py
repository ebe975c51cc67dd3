"""What was deployed here, by whom and why: a note in the bucket for each, begun before the first change and ended after the proof."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from ops.aws import Account
from ops.errors import OpsError
from ops.sm.endpoint import Wanted

PREFIX = "deployments/"
LIVE, UNFINISHED = "live", "unfinished"


@contextmanager
def noted(account: Account, want: Wanted, because: str, findings: list[str], rollback: bool) -> Iterator[None]:
    """Around a deployment: its outcome is "live", or the first line of what went wrong; "unfinished" when this process died."""
    note: dict[str, Any] = {
        "at": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%f}Z",
        "release": want.release.digest,
        "config": want.config,
        "job": want.release.job,
        "by": account.call("sts", "get_caller_identity")["Arn"],
        "because": because,
        "findings": findings,
        "rollback": rollback,
        "outcome": UNFINISHED,
    }
    write(account, note)
    try:
        yield
    except OpsError as error:
        write(account, note | {"outcome": str(error).splitlines()[0]})
        raise
    write(account, note | {"outcome": LIVE})


def write(account: Account, note: dict[str, Any]) -> None:
    key = f"{PREFIX}{note['at']}-{note['config']}.json"
    account.call("s3", "put_object", Bucket=account.settings.bucket, Key=key, Body=json.dumps(note).encode())


def read(account: Account) -> list[dict[str, Any]]:
    """All notes, the oldest first."""
    bucket = account.settings.bucket
    keys = [item["Key"] for item in account.pages("s3", "list_objects_v2", "Contents", Bucket=bucket, Prefix=PREFIX)]
    return [json.loads(account.call("s3", "get_object", Bucket=bucket, Key=key)["Body"].read()) for key in sorted(keys)]


def before(notes: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The deployment to go back to from the one that is live; None when there is none.

    Deployments lie on each other; a roll-back takes off all that lie on the one it goes back to. So a second roll-back goes
    further back, and none goes to a release that was rolled back before.
    """
    pile: list[dict[str, Any]] = []
    for note in (note for note in notes if note["outcome"] == LIVE):
        if note["rollback"] and any(below["config"] == note["config"] for below in pile):
            while pile[-1]["config"] != note["config"]:
                pile.pop()
        elif not pile or pile[-1]["config"] != note["config"]:
            pile.append(note)
    return pile[-2] if len(pile) > 1 else None

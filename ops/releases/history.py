"""The deployment history: what was deployed, by which operator and why, as one note per deployment in the bucket.

A note is written before the first change, and completed after verification.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from ops.core.aws.account import Account
from ops.core.errors import OpsError
from ops.core.output import say
from ops.releases import build
from ops.releases.build import Release
from ops.releases.records import LIVE, UNFINISHED, DeploymentNote, ReleaseSummary, parse

PREFIX = "deployments/"


@dataclass(frozen=True)
class DeploymentReason:
    """The recorded reason of a deployment: the operator's words, and what the gate found against it."""

    because: str
    findings: list[str] = field(default_factory=list)
    rollback: bool = False


@contextmanager
def track_deployment(
    account: Account, release: Release, config: str, why: DeploymentReason, scaled: bool
) -> Iterator[None]:
    """Record the deployment of a config in a note around its changes; `scaled` says whether the endpoint has, or lost, its scaling.

    The note's outcome is "live", or the first line of the error; it stays "unfinished" when this process dies.
    """
    note = DeploymentNote(
        at=f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%f}Z",
        release=release.digest,
        config=config,
        job=release.job,
        by=account.call("sts", "get_caller_identity")["Arn"],
        because=why.because,
        findings=why.findings,
        rollback=why.rollback,
        scaled=scaled,
    )
    write_note(account, note)
    try:
        yield
    except OpsError as error:
        write_note(account, note.model_copy(update={"outcome": str(error).splitlines()[0]}))
        raise
    write_note(account, note.model_copy(update={"outcome": LIVE}))


@contextmanager
def complete_deployment(account: Account, config: str) -> Iterator[None]:
    """Give the last deployment of a config, which is live, its outcome if an earlier process died before it could."""
    last = next((note for note in reversed(read_notes(account)) if note.config == config), None)
    try:
        yield
    except OpsError as error:
        if last and last.outcome == UNFINISHED:
            write_note(account, last.model_copy(update={"outcome": str(error).splitlines()[0]}))
        raise
    if last and last.outcome != LIVE:
        write_note(account, last.model_copy(update={"outcome": LIVE}))


def write_note(account: Account, note: DeploymentNote) -> None:
    account.bucket.put(f"{PREFIX}{note.at}-{note.config}.json", json.dumps(note.model_dump()).encode())


def read_notes(account: Account, newest: int = 0) -> list[DeploymentNote]:
    """Return all notes, or the newest few; the oldest first."""
    bucket = account.bucket
    keys = sorted(bucket.keys(PREFIX))[-newest:]
    return [parse(DeploymentNote, bucket.get(key), f"s3://{bucket.name}/{key}") for key in keys]


def find_rollback_target(notes: list[DeploymentNote], live: str) -> DeploymentNote | None:
    """Return the deployment to go back to from config `live`; None when there is none.

    Deployments form a stack; a roll-back removes all that lie above the one it goes back to. So a second roll-back goes
    further back, and never to a release that was rolled back before. The live config counts as live whatever its note says:
    the process may have died, or the verification failed, after AWS had moved the traffic.
    """
    stack: list[DeploymentNote] = []
    last = max((n for n, note in enumerate(notes) if note.config == live), default=-1)
    for note in (note for n, note in enumerate(notes) if note.outcome == LIVE or n == last):
        if note.rollback and any(below.config == note.config for below in stack):
            while stack[-1].config != note.config:
                stack.pop()
        elif not stack or stack[-1].config != note.config:
            stack.append(note)
    return stack[-2] if len(stack) > 1 else None


def find_unfinished_rollback(notes: list[DeploymentNote]) -> DeploymentNote | None:
    """Return the last deployment if it is a rollback whose process died: the same command completes it, and goes no further back."""
    return notes[-1] if notes and notes[-1].rollback and notes[-1].outcome == UNFINISHED else None


def has_lost_scaling(notes: list[DeploymentNote]) -> bool:
    """Report whether the last deployment deregistered the scaling and ended before it could register it again."""
    return bool(notes) and notes[-1].outcome != LIVE and notes[-1].scaled


def has_been_live(account: Account, config: str) -> bool:
    return any(note.config == config and note.outcome == LIVE for note in read_notes(account))


def read_live_summaries(account: Account) -> list[ReleaseSummary]:
    """Return the summaries of the releases that were ever live, without those that are no longer stored."""
    digests = dict.fromkeys(note.release for note in read_notes(account) if note.outcome == LIVE)
    return [summary for digest in digests if (summary := build.read_summary(account, digest))]


def find_last_deployment(notes: list[DeploymentNote], release: str) -> DeploymentNote | None:
    """Return a release's last deployment that went live; None when none did."""
    return next((n for n in reversed(notes) if n.release == release and n.outcome == LIVE), None)


@dataclass(frozen=True)
class StoredRelease:
    """A release in the bucket, with the outcome of its last deployment. `deployed` and `because` are "" without one.

    `file` says whether the release itself is there: stored, or missing or changed.
    """

    release: str
    job: str
    accuracy: float
    precisions: list[str]
    deployed: str
    outcome: str
    because: str
    rollback: bool
    file: str = "stored"


def list_releases(account: Account, live_config: str) -> list[StoredRelease]:
    """Return the stored releases, the one that was deployed last first. `live_config` is what the endpoint runs, "" for none."""
    notes, rows = read_notes(account), []
    for digest in build.list_release_digests(account):
        summary = build.read_summary(account, digest)
        if summary is None:
            job = next((note.job for note in notes if note.release == digest), build.find_packaged_job(account, digest))
            say(f"The metadata of release {digest[:12]} is missing. Rebuild it: invoke sm.deploy --job {job or 'JOB'}")
            continue
        row = describe_stored_release(summary, notes, live_config)
        whole = build.is_whole(account, Release(digest, ""), summary.tar)
        rows.append(row if whole else replace(row, file="missing or changed"))
    return sorted(rows, key=lambda row: row.deployed, reverse=True)


def describe_stored_release(summary: ReleaseSummary, notes: list[DeploymentNote], live_config: str) -> StoredRelease:
    own = [note for note in notes if note.release == summary.digest]
    last = own[-1] if own else None
    if any(note.config == live_config for note in own):
        outcome = "LIVE"
    elif last is None:
        outcome = "never deployed"
    else:
        outcome = "was live" if last.outcome == LIVE else last.outcome
    return StoredRelease(
        release=summary.digest,
        job=summary.job,
        accuracy=summary.accuracy,
        precisions=summary.precisions,
        deployed=last.at if last else "",
        outcome=outcome,
        because=last.because if last else "",
        rollback=last.rollback if last else False,
    )

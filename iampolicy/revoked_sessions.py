"""Session revocation: a deny on all sessions issued before a given time, as IAM's console writes it into a role or a user.

The deny affects neither calls by an access key nor sessions that start later.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from iampolicy.account.snapshot import Principal, Snapshot, parse_datetime
from iampolicy.policy.semantics import normalise_document

POLICY_NAME = "AWSRevokeOlderSessions"
LONGEST = timedelta(
    hours=12
)  # the longest session of a role, whatever its MaxSessionDuration was when the session started
SKEW = timedelta(minutes=5)  # how far this clock may be behind AWS's; AWS refuses requests that are further off


def build_deny_document(before: datetime) -> dict[str, Any]:
    condition = {"DateLessThan": {"aws:TokenIssueTime": before.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")}}
    deny = {"Effect": "Deny", "Action": "*", "Resource": "*", "Condition": condition}
    return {"Version": "2012-10-17", "Statement": [deny]}


def find_revocation_time(p: Principal) -> datetime | None:
    """Return the time before which the principal's sessions are revoked; None if the policy is missing or differs."""
    if POLICY_NAME not in p.inline:
        return None
    text = p.inline[POLICY_NAME].document
    try:
        (deny,) = text["Statement"] if isinstance(text["Statement"], list) else [text["Statement"]]
        written = deny["Condition"]["DateLessThan"]["aws:TokenIssueTime"]
        found = parse_datetime(written)
        ours = build_deny_document(found) if found else {}
        # The console writes milliseconds, so compare with the time as it was written.
        ours["Statement"][0]["Condition"]["DateLessThan"]["aws:TokenIssueTime"] = written
    except (KeyError, TypeError, ValueError):
        return None
    return found if normalise_document(text) == normalise_document(ours) else None


def list_active_revocations(have: Snapshot, now: datetime | None = None) -> dict[str, datetime]:
    """Return, for each role with revoked sessions that could still be alive, the time before which they are revoked."""
    now = now or datetime.now(UTC)
    found = {
        name: before
        for name, role in have.roles.items()
        if POLICY_NAME in role.inline and (before := find_revocation_time(role))
    }
    return {name: before for name, before in found.items() if before - SKEW <= now < before + LONGEST}

"""Decide when an endpoint should be deleted: it has expired, or has no callers."""

from __future__ import annotations

from datetime import UTC, datetime

from ops.core.aws.account import Account
from ops.core.errors import OpsError
from ops.endpoint import alarms, plan, probe, scaling, status, teardown

EXPIRES = "%Y-%m-%dT%H:%MZ"  # as Settings.expires writes it


def decide_cleanup(account: Account, idle_hours: int) -> tuple[str, str]:
    """Return why the endpoint may be deleted ("" if it stays), and a sentence on why it stays. Raises OpsError without an endpoint."""
    if idle_hours < 1:
        raise OpsError(f"--idle-hours must be at least 1, not {idle_hours}.")
    found = probe.require_endpoint(account)
    expires = status.read_expiry(account, found["EndpointArn"])
    calls, _ = alarms.count_requests_and_errors(account, idle_hours * 60)
    why = find_cleanup_reason(found["CreationTime"], expires, calls, idle_hours, datetime.now(UTC))
    return why, f"{found['EndpointName']} stays: {calls} calls in {idle_hours} hours, expires {expires or 'never'}."


def find_cleanup_reason(created: datetime, expires: str, calls: int, idle_hours: int, now: datetime) -> str:
    """Return why an endpoint may be deleted, or "". `expires` is the tag kennel:expires."""
    if expires and now >= datetime.strptime(expires, EXPIRES).replace(tzinfo=UTC):
        return f"It expired at {expires}"
    if not calls and (now - created).total_seconds() >= idle_hours * 3600:
        return f"It had no calls for {idle_hours} hours"
    return ""


def read_facts(account: Account, dry: bool) -> tuple[plan.Facts, scaling.Facts]:
    """Return what there is to delete, once the endpoint is stable."""
    if not dry:
        plan.await_stable_endpoint(account)
    account.guard()
    return teardown.facts(account)

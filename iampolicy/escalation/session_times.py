"""Conditions on aws:TokenIssueTime, the time at which a session's credentials were issued: can any credentials of today meet them?

A statement for sessions that began before a day of the past allows nothing any more: no session lasts that long.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta

from iampolicy.policy.conditions import Context, evaluate_conditions, parse_date
from iampolicy.policy.document import Policy, Statement

ISSUED = "aws:tokenissuetime"
# AssumeRole gives 12 hours at most, GetSessionToken and GetFederationToken 36. docs.aws.amazon.com/STS/latest/APIReference/
LONGEST = {"role": timedelta(hours=12), "user": timedelta(hours=36)}


def drop_impossible_sessions(policy: Policy, kind: str, now: datetime) -> Policy:
    """Return the policy without the Allow statements that no credentials of a `kind` (role or user) can meet now.

    A Deny that all of them meet loses its condition. Statements keep their numbers and names.
    """
    if not any(key == ISSUED for one in policy.statements for _, key, _ in one.conditions):
        return policy
    left = (drop_issue_time(one, kind, now) for one in policy.statements)
    return Policy(policy.name, tuple(one for one in left if one))


def drop_issue_time(one: Statement, kind: str, now: datetime) -> Statement | None:
    about = tuple(found for found in one.conditions if found[1] == ISSUED)
    if not about:
        return one
    asked = replace(one, conditions=about)
    met = [evaluate_conditions(asked, context)[0] for context in list_credentials(asked, kind, now)]
    if one.allow:
        return one if any(met) else None
    return replace(one, conditions=tuple(found for found in one.conditions if found not in about)) if all(met) else one


def list_credentials(one: Statement, kind: str, now: datetime) -> Iterator[Context]:
    """Yield the keys of credentials that differ for the statement: of the newest and oldest session, and around its own times.

    A user's access key has no such time.
    """
    last = now.timestamp()
    first = last - LONGEST[kind].total_seconds()
    if kind == "user":
        yield {}
    times = {first, last}
    for _, _, values in one.conditions:
        for value in values:
            try:
                times |= {parse_date(value) + shift for shift in (-1, 0, 1)}
            except (ValueError, OverflowError):
                continue
    yield from ({ISSUED: str(time)} for time in sorted(times) if first <= time <= last)

"""What the audit would say of the account as iam.apply leaves it, against what it says now."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from iampolicy.account.snapshot import Snapshot
from iampolicy.finding import Finding
from ops.core.settings import Settings
from ops.iam.roles import Wanted, applied

if TYPE_CHECKING:
    from iampolicy.audit.account_facts import Extras

BLOCKING = ("critical", "high")
OBSOLETE = "IAM-USE-001"
WAIVERS = "IAM-WAIVER"  # what is wrong with a waiver is no right that a role gets


def audited(
    have: Snapshot,
    settings: Settings,
    extras: Extras | None = None,
    now: datetime | None = None,
    only: frozenset[str] | None = None,
) -> list[Finding]:
    """The audit's findings, drift aside, those marked that somebody waived."""
    from iampolicy.audit import engine
    from ops.iam import waivers

    return engine.audited(have, settings=settings, extras=extras, waivers=waivers.read(settings), now=now, only=only)


def afterwards(have: Snapshot, wanted: list[Wanted], settings: Settings) -> Snapshot:
    """The account once these roles are applied. What was, when it was made and used, stays."""
    want = applied(wanted, settings)
    roles = dict(have.roles)
    for name, role in want.roles.items():
        was = have.roles.get(name, replace(role, created=datetime.now(UTC)))
        roles[name] = replace(
            role, created=was.created, last_used=was.last_used, last_region=was.last_region, tags=was.tags
        )
    policies = have.policies | {
        arn: replace(have.policies[arn], policy=policy.policy) if arn in have.policies else policy
        for arn, policy in want.policies.items()
    }
    return replace(have, roles=roles, policies=policies)


def new_findings(have: Snapshot, wanted: list[Wanted], settings: Settings) -> tuple[list[Finding], list[Finding]]:
    """(what these roles would bring and the account has not, what of theirs is there already): high and above, not waived.

    Of these roles only: an account may hold hundreds that have nothing to do with them. iam.audit looks at all.
    """
    ours = frozenset(settings.role_name(want.role) for want in wanted)
    there = {named(one) for one in serious(audited(have, settings, only=ours))}
    then = serious(audited(afterwards(have, wanted, settings), settings, only=ours))
    old = [one for one in then if named(one) in there and one.principal in ours]
    return [one for one in then if named(one) not in there], old


def serious(found: list[Finding]) -> list[Finding]:
    return [one for one in found if one.severity in BLOCKING and not one.waived and not one.rule.startswith(WAIVERS)]


def named(one: Finding) -> tuple[str, ...]:
    """By what it is the same finding before and after. A statement's number changes with its neighbours."""
    return (one.rule, one.principal, one.policy, one.message, *one.path)


def obsolete(
    have: Snapshot, settings: Settings, extras: Extras | None = None, now: datetime | None = None
) -> list[str]:
    """The roles that the audit calls obsolete and nobody waived."""
    found = audited(have, settings, extras, now)
    return sorted({one.principal for one in found if one.rule == OBSOLETE and not one.waived} & set(have.roles))

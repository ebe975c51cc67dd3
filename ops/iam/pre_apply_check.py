"""The check before iam.apply: it compares what the audit would report afterwards with what it reports now."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from iampolicy.account.snapshot import Snapshot
from iampolicy.audit.account_facts import AccountFacts
from iampolicy.finding import Finding
from ops.core.aws.account import Account
from ops.core.errors import DENIED, FINDINGS, OpsError
from ops.core.output import say
from ops.core.plan import Change, Steps, preview
from ops.core.settings import Settings
from ops.iam import expectations, waivers
from ops.iam.audit import audit_with_waivers
from ops.iam.roles import Wanted, build_applied_snapshot
from ops.iam.source_lines import locate_finding

BLOCKING = ("critical", "high")
OBSOLETE = "IAM-USE-001"
WAIVERS = "IAM-WAIVER"  # an invalid waiver grants no permission
SHOWN = 5  # refused entries that the error lists


def audit_without_drift(
    have: Snapshot,
    settings: Settings,
    facts: AccountFacts | None = None,
    now: datetime | None = None,
    only: frozenset[str] | None = None,
) -> list[Finding]:
    """Return the audit's findings without drift; those that are waived are marked."""
    return audit_with_waivers(have, settings, facts=facts, waivers=waivers.read_waivers(settings), now=now, only=only)


def merge_applied_roles(have: Snapshot, wanted: list[Wanted], settings: Settings) -> Snapshot:
    """Return the account once these roles are applied. A role keeps its tags, and when it was created and last used."""
    want = build_applied_snapshot(wanted, settings)
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


def split_new_findings(have: Snapshot, wanted: list[Wanted], settings: Settings) -> tuple[list[Finding], list[Finding]]:
    """Return (the findings that these roles would add, those that they have already): high and above, not waived.

    Only these roles are examined: an account may have hundreds of unrelated ones. iam.audit examines all.
    """
    ours = frozenset(settings.build_role_name(want.role) for want in wanted)
    there = {derive_finding_key(one) for one in select_blocking(audit_without_drift(have, settings, only=ours))}
    then = select_blocking(audit_without_drift(merge_applied_roles(have, wanted, settings), settings, only=ours))
    old = [one for one in then if derive_finding_key(one) in there and one.principal in ours]
    return [one for one in then if derive_finding_key(one) not in there], old


def select_blocking(found: list[Finding]) -> list[Finding]:
    return [one for one in found if one.severity in BLOCKING and not one.waived and not one.rule.startswith(WAIVERS)]


def derive_finding_key(one: Finding) -> tuple[str, ...]:
    """Return what identifies a finding before and after a change. A statement's number changes with its neighbours."""
    return (one.rule, one.principal, one.policy, one.message, *one.path)


def find_obsolete_roles(
    have: Snapshot, settings: Settings, facts: AccountFacts | None = None, now: datetime | None = None
) -> list[str]:
    """Return the roles that the audit reports as obsolete and no waiver covers."""
    found = audit_without_drift(have, settings, facts, now)
    return sorted({one.principal for one in found if one.rule == OBSOLETE and not one.waived} & set(have.roles))


def refuse_unexpected(wanted: list[Wanted], settings: Settings) -> None:
    """Raise OpsError with code 7 when a role violates its expect.toml: it is allowed a denied call, or a denied principal may assume it."""
    if broken := [(want.role, one) for want in wanted for one in expectations.find_violations(want, settings)]:
        lines = [f"  {role}: {one.expected.label}: {one.found}" for role, one in broken[:SHOWN]]
        more = f"\n  and {len(broken) - SHOWN} more" if len(broken) > SHOWN else ""
        raise OpsError(
            f"The roles would be allowed what their expect.toml denies:\n{chr(10).join(lines)}{more}\nNothing was changed. See all: invoke iam.check",
            FINDINGS,
        )


def refuse_new(have: Snapshot, wanted: list[Wanted], settings: Settings) -> None:
    """Raise OpsError with code 7 when these roles would add a finding that is high or worse."""
    new, old = split_new_findings(have, wanted, settings)
    for one in old:
        say(f"Existing finding: {one.severity} {one.rule} {one.principal}: {one.message}")
    if new:
        folder = build_applied_snapshot(wanted, settings)
        lines = "\n".join(f"  {one.format_line(locate_finding(one, folder))}" for one in new)
        raise OpsError(
            f"The roles would add audit findings of severity high or worse:\n{lines}\n"
            "Nothing was changed. Fix the folder, or waive the finding with a reason in iam_policies/waivers.toml.",
            FINDINGS,
        )


def refuse_bounding(account: Account, planned: Steps) -> None:
    """Raise OpsError before the first change if one writes a permissions boundary and the caller has the stack's own role, which may not."""
    bounds = [
        step.why for step in preview(planned)
        if isinstance(step, Change) and "/kennel-boundary/" in f"{step.args.get('Path', '')}{step.args.get('PolicyArn', '')}"
    ]  # fmt: skip
    if bounds and account.role and account.settings.aws.take_roles:
        raise OpsError(
            f"{bounds[0]}. {account.settings.build_role_name(account.role)} may not change permissions boundaries. Nothing was changed. "
            "Run it as an administrator: INVOKE_AWS_TAKE_ROLES=false invoke iam.apply",
            DENIED,
        )

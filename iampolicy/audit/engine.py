"""The audit runs every rule over every principal of a snapshot."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from iampolicy.account.owners import extract_permission_set, is_of_identity_center, is_service_linked
from iampolicy.account.snapshot import Snapshot
from iampolicy.audit import rules_access, rules_exposure, rules_reach, rules_trust, rules_use
from iampolicy.audit.account_facts import AccountFacts
from iampolicy.audit.context import AuditContext, find_account_number
from iampolicy.escalation import detect
from iampolicy.finding import Finding, sort_by_severity
from iampolicy.lint import linter
from iampolicy.policy.document import Policy


@dataclass(frozen=True)
class AuditOptions:
    """The options of an audit. `facts` are further facts about the account, `region` is the one in which its functions were listed.

    With `only`, examine just these principals: chains that lead through others are then not followed.
    """

    facts: AccountFacts = field(default_factory=AccountFacts)
    now: datetime | None = None
    only: frozenset[str] | None = None
    region: str = ""


def run_audit(snapshot: Snapshot, options: AuditOptions | None = None) -> list[Finding]:
    """Return the findings of all rules, worst first."""
    chosen = options or AuditOptions()
    now = chosen.now or datetime.now(UTC)
    context = AuditContext(snapshot, now, chosen.facts.carriers, chosen.only, chosen.region)
    sets = {
        role.name: extract_permission_set(role.name)
        for role in snapshot.roles.values()
        if is_of_identity_center(role.name, role.path) and role.name not in snapshot.users
    }
    found = run_rules(context, chosen.facts)
    if sets:
        found = (name_permission_set(one, sets.get(one.principal, "")) for one in found)
    return sort_by_severity(list(dict.fromkeys(found)))


def name_permission_set(finding: Finding, permission_set: str) -> Finding:
    """Return the finding; about a role of a permission set, with a fix there: a change of the role itself would be undone."""
    if not permission_set or finding.fix.startswith("none"):
        return finding
    fix = f"change the permission set {permission_set} in Identity Center"
    if finding.rule == "IAM-USE-001":
        return replace(finding, fix=f"if no one needs it, {fix}: end its assignments to this account")
    return replace(finding, fix=f"{fix}: {finding.fix}")


@contextmanager
def pause_garbage_collection() -> Iterator[None]:
    """Pause the garbage collector during an audit in a process of its own.

    Everything that is read stays in use to the end, and the collector took a fifth of the time to walk over it.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def run_rules(context: AuditContext, facts: AccountFacts) -> Iterator[Finding]:
    snapshot = context.snapshot
    holders = [
        context.build_effective_principal(p)
        for p in snapshot.principals()
        if not is_service_linked(p.path) and context.examines(p)
    ]
    access = [f for holder in holders for f in rules_access.findings(context, holder)]
    administrators = {f.principal for f in access if f.rule == "IAM-ADMIN-001" and f.severity == "critical"}
    yield from access
    yield from rules_reach.find_admin_role_passing(context, holders, administrators)
    yield from detect.findings(context.model, context.examines)
    for holder in holders:
        p = holder.principal
        yield from rules_use.find_unused_services(context, p, facts)
        if p.trust is not None:
            yield from rules_trust.findings(context, p)
            yield from rules_use.find_unused_roles(context, p, facts)
            if p.name in administrators:
                yield from rules_trust.find_long_sessions(p)
    yield from rules_use.find_orphans(context)
    yield from rules_use.find_weak_credentials(context, facts, administrators)
    yield from rules_use.find_long_lived_users(snapshot.users.values(), facts)
    yield from rules_use.find_inline_policies(context)
    yield from rules_use.find_exceeded_quotas(context)
    yield from rules_exposure.findings(context, facts)
    yield from lint_documents(context)


def lint_documents(context: AuditContext) -> Iterator[Finding]:
    snapshot = context.snapshot
    bounds = {p.boundary for p in snapshot.principals()}
    judged = {arn for p in snapshot.principals() if context.examines(p) for arn in (*p.attached, p.boundary)}
    for arn, policy in snapshot.policies.items():
        if context.only is not None and arn not in judged:
            continue
        yield from linter.findings(policy.policy, "boundary" if arn in bounds else "identity", policy.name)
    for p in snapshot.principals():
        if is_service_linked(p.path) or not context.examines(p):
            continue
        if p.trust is not None:
            yield from linter.findings(p.trust, "trust", p.name)
        yield from lint_inline(p.name, p.inline)
    for group in snapshot.groups.values():
        yield from lint_inline(group.name, group.inline)


def lint_inline(holder: str, policies: Mapping[str, Policy]) -> Iterator[Finding]:
    """Yield the lint's findings except on the quota, which is for all inline policies of a holder together (find_exceeded_quotas)."""
    for name, policy in policies.items():
        if "/" not in name:  # a group's, under its user
            yield from (f for f in linter.findings(policy, "inline", holder) if f.rule != "IAM-QUOTA-001")


def map_arns_by_name(snapshot: Snapshot) -> dict[str, str]:
    """Return each principal's ARN by name, except for a user and a role of the same name, which a waiver by ARN could confuse."""
    roles, users = snapshot.roles, snapshot.users
    found = {name: p.arn for name, p in (roles | users).items() if not (name in roles and name in users)}
    return found | {"<root_account>": f"arn:aws:iam::{find_account_number(snapshot)}:root"}

"""Rules about unused principals and policies, keys and passwords, inline policies, and AWS's quotas."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta

from iampolicy.account.owners import is_of_identity_center, is_service_linked
from iampolicy.account.snapshot import Principal
from iampolicy.audit.account_facts import AccountFacts, Credential
from iampolicy.audit.context import AuditContext
from iampolicy.finding import Finding
from iampolicy.revoked_sessions import POLICY_NAME, find_revocation_time

UNUSED = timedelta(days=90)
GRACE = timedelta(days=7)
KEY_AGE = timedelta(days=90)
KEY_IDLE = timedelta(days=45)
KEPT_VERSIONS = 5
ATTACHED = 10
# docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html: of all inline policies of one holder together
INLINE = {"role": 10_240, "user": 2_048, "group": 5_120}
CONSOLE_MADE = re.compile(r"(?P<function>.+)-role(-[a-z0-9]{8})?")  # as Lambda's console names a role that it creates


def is_too_young(p: Principal, now: datetime) -> bool:
    """Return whether the principal is too young to count as unused; one without a date counts as young."""
    return p.created is None or now - p.created < GRACE


def find_unused_roles(context: AuditContext, role: Principal, facts: AccountFacts) -> Iterator[Finding]:
    """Yield a finding for a role unused for 90 days, or whose function is deleted. AWS keeps the last use for 400 days."""
    if role.trust is None or is_too_young(role, context.now) or role.created is None:
        return
    function = find_function_of_role(role)
    fix = "if nothing needs it, remove it: invoke iam.prune"
    known = facts.function_names is not None and not is_recently_used(context, role)
    if function and known and function not in (facts.function_names or ()):
        where = f" in {context.region}, the only region that was checked" if context.region else ""
        yield Finding("IAM-USE-001", "medium", role.name, f"its function {function} does not exist{where}", fix)
    elif role.last_used is None and context.now - role.created > UNUSED:
        yield Finding("IAM-USE-001", "medium", role.name, f"never used since it was created on {role.created:%Y-%m-%d}", fix)  # fmt: skip
    elif role.last_used is not None and context.now - max(role.last_used, role.created) > UNUSED:
        yield Finding("IAM-USE-001", "medium", role.name, f"not used since {role.last_used:%Y-%m-%d}", fix)


def is_recently_used(context: AuditContext, role: Principal) -> bool:
    """Return whether the role was used in the last 7 days, or 90 in another region, where a function of that name may exist."""
    if role.last_used is None:
        return False
    elsewhere = role.last_region not in ("", context.region)
    return context.now - role.last_used < (UNUSED if elsewhere else GRACE)


def find_function_of_role(role: Principal) -> str:
    """Return the function of a role that only Lambda may assume and that is named as Lambda's console names roles, else ""."""
    found = CONSOLE_MADE.fullmatch(role.name)
    trusted = {who for one in role.trust_policy.statements for who in one.principals or ()} if found else set()
    return found["function"] if found and trusted == {("Service", "lambda.amazonaws.com")} else ""


def find_unused_services(context: AuditContext, p: Principal, facts: AccountFacts) -> Iterator[Finding]:
    """Yield a finding for services that the principal may use but has not used; it needs the facts of --usage."""
    seen = facts.usage.get(p.arn)
    if seen is None or is_too_young(p, context.now):
        return
    policies = context.snapshot.rights(p).identity
    granted = {
        a.partition(":")[0] for policy in policies for one in policy.statements if one.allow for a in one.actions
    }
    idle = sorted(name for name in granted & set(seen) if is_long_unused(seen[name], context.now, p.created))
    if idle:
        message = f"may use {', '.join(idle)}, but has not for {UNUSED.days} days"
        fix = f"remove {', '.join(f'{name}:*' for name in idle)} from its policies"
        yield Finding("IAM-USE-002", "medium", p.name, message, fix)


def is_long_unused(used: datetime | None, now: datetime, created: datetime | None) -> bool:
    since = used or created
    return since is not None and now - since > UNUSED


def find_orphans(context: AuditContext) -> Iterator[Finding]:
    """Yield a finding for each policy that no principal has, and each group without users."""
    snapshot = context.snapshot
    held = {arn for p in snapshot.principals() for arn in (*p.attached, p.boundary)}
    held |= {arn for group in snapshot.groups.values() for arn in group.attached}
    for arn, policy in snapshot.policies.items():
        unheld = policy.attachments in (0, None) and not policy.boundaries and arn not in held
        if ":iam::aws:policy/" not in arn and unheld:
            yield Finding(
                "IAM-USE-003",
                "low",
                policy.name,
                "is attached to no principal",
                "if iam_policies/ has it: invoke iam.apply; otherwise delete it",
                arn,
            )
    with_users = {name for user in snapshot.users.values() for name in user.groups}
    for name in snapshot.groups:
        if name not in with_users:
            yield Finding("IAM-USE-003", "low", name, "is a group without users", "delete it")


def find_weak_credentials(context: AuditContext, facts: AccountFacts, administrators: set[str]) -> Iterator[Finding]:
    for one in facts.credentials or ():
        if one.user == "<root_account>":
            yield from find_weak_root(one)
            continue
        yield from find_old_keys(one, context.now)
        if one.password and not one.mfa:
            severity = "high" if one.user in administrators else "medium"
            yield Finding("IAM-KEY-002", severity, one.user, "has a password, but no MFA", "give it an MFA device")  # fmt: skip
    if facts.credentials is None and facts.summary:
        summary = facts.summary
        has_key, has_mfa = summary.get("AccountAccessKeysPresent"), summary.get("AccountMFAEnabled", 1)
        yield from list_root_findings(has_key=bool(has_key), has_mfa=bool(has_mfa))


def find_weak_root(one: Credential) -> Iterator[Finding]:
    yield from list_root_findings(has_key=any(key.active for key in one.keys), has_mfa=one.mfa)


def list_root_findings(has_key: bool, has_mfa: bool) -> Iterator[Finding]:
    if has_key:
        yield Finding("IAM-KEY-001", "critical", "<root_account>", "the root user has an access key", "delete it")
    if not has_mfa:
        yield Finding("IAM-KEY-002", "critical", "<root_account>", "the root user has no MFA", "give it an MFA device")  # fmt: skip


def find_old_keys(one: Credential, now: datetime) -> Iterator[Finding]:
    active = [key for key in one.keys if key.active]
    for key in active:
        made, used = key.rotated, key.used or key.rotated
        if made and now - made > KEY_AGE:
            message = f"has an access key that is {(now - made).days} days old; {KEY_AGE.days} is the maximum"
            yield Finding("IAM-KEY-001", "high", one.user, message, "create a new key, then delete this one")  # fmt: skip
        if used and now - used > KEY_IDLE:
            message = f"has an access key that was not used for {(now - used).days} days"
            yield Finding("IAM-KEY-001", "high", one.user, message, "deactivate it")
    if len(active) > 1:
        yield Finding("IAM-KEY-001", "medium", one.user, "has two active access keys", "delete the older")


def find_long_lived_users(users: Iterable[Principal], facts: AccountFacts) -> Iterator[Finding]:
    """Yield a finding for each user, except those without keys and password in the credential report, who cannot log in."""
    idle = {one.user for one in facts.credentials or () if not one.password and not any(key.active for key in one.keys)}
    for user in users:
        if user.name not in idle:
            yield Finding(
                "IAM-KEY-003", "medium", user.name, "is an IAM user: its access keys do not expire", "use roles instead"
            )


def find_inline_policies(context: AuditContext) -> Iterator[Finding]:
    fix = "make it a managed policy, which keeps versions to roll back to"
    for p in context.snapshot.principals():
        if is_service_linked(p.path) or is_of_identity_center(p.name, p.path):  # their owner chose inline policies
            continue
        for name in p.inline:
            revoked = name == POLICY_NAME and find_revocation_time(
                p
            )  # iam.revoke's deny, which iam.apply removes after 12 hours
            if "/" not in name and not revoked:  # a name with a slash is a group's policy, under its user
                severity = "low" if p.trust is not None else "medium"
                yield Finding("IAM-INLINE-001", severity, p.name, f"has the inline policy {name}", fix, name)
    for group in context.snapshot.groups.values():
        for name in group.inline:
            yield Finding("IAM-INLINE-001", "low", group.name, f"has the inline policy {name}", fix, name)


def find_exceeded_quotas(context: AuditContext) -> Iterator[Finding]:
    """Yield findings on the quotas of several documents together; the lint checks that of a single one."""
    snapshot = context.snapshot
    holders = [("role", p.name, p.inline, p.attached) for p in snapshot.roles.values() if not is_service_linked(p.path)]
    for user in snapshot.users.values():
        theirs = {arn for name in user.groups if name in snapshot.groups for arn in snapshot.groups[name].attached}
        own = {name: one for name, one in user.inline.items() if "/" not in name}
        holders.append(("user", user.name, own, tuple(arn for arn in user.attached if arn not in theirs)))
    holders += [("group", g.name, g.inline, g.attached) for g in snapshot.groups.values()]
    for kind, name, policies, attached in holders:
        used = sum(count_policy_characters(policy.document) for policy in policies.values())
        if used > 0.9 * INLINE[kind]:
            severity = "high" if used > INLINE[kind] else "low"
            message = f"its inline policies have {used:,} characters; the quota is {INLINE[kind]:,}"
            yield Finding("IAM-QUOTA-001", severity, name, message, "make them managed policies")
        if len(set(attached)) > ATTACHED:
            message = f"has {len(set(attached))} managed policies attached; the default quota is {ATTACHED}"
            yield Finding("IAM-QUOTA-002", "high", name, message, "merge them")
    for arn, policy in snapshot.policies.items():
        if len(policy.versions) >= KEPT_VERSIONS and ":iam::aws:policy/" not in arn:
            message = f"has {len(policy.versions)} versions, the maximum: the next change by hand fails"
            fix = "delete the oldest; invoke iam.apply does so before a change"
            yield Finding("IAM-QUOTA-003", "medium", policy.name, message, fix, arn)


def count_policy_characters(document: object) -> int:
    """Return the number of characters as IAM counts them: without white space."""
    return len("".join(json.dumps(document, separators=(",", ":"), ensure_ascii=False).split()))

"""The audit's rules: what is wrong with a role or a user, how bad it is, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from typing import Any

from ops.config import ROLES, Settings
from ops.iam.policies import Waiver, Wanted, canonical, policy_arn
from ops.iam.snapshot import Principal, Snapshot

SEVERITIES = ("critical", "high", "medium", "low")
UNUSED = timedelta(days=90)
ADMIN_POLICIES = ("AdministratorAccess", "IAMFullAccess", "PowerUserAccess")


@dataclass(frozen=True)
class Finding:
    severity: str
    rule: str
    principal: str
    what: str
    remedy: str


def findings(have: Snapshot, wanted: list[Wanted], settings: Settings) -> list[Finding]:
    """Every rule over every principal, worst first. Service-linked roles are AWS's own and left out."""
    principals = [p for p in [*have.roles.values(), *have.users.values()] if "/aws-service-role/" not in p.arn]
    found = [
        f for p in principals for rule in (admin, wildcards, passing, trusting, unused) for f in rule(p, have, settings)
    ]
    found += drift(have, wanted, settings)
    return sorted(found, key=lambda f: (SEVERITIES.index(f.severity), f.principal, f.rule))


def statements(p: Principal, have: Snapshot, effect: str = "Allow") -> Iterator[tuple[str, dict[str, Any]]]:
    """(policy's name, statement) over all that the principal holds."""
    documents = list(p.inline.items())
    documents += [(arn.rsplit("/", 1)[1], have.policies[arn].document) for arn in p.attached if arn in have.policies]
    for name, document in documents:
        for statement in as_list(document.get("Statement", [])):
            if statement.get("Effect") == effect:
                yield name, statement


def as_list(value: Any) -> list[Any]:
    """IAM writes one thing bare and several in a list."""
    return value if isinstance(value, list) else [value]


def allows(statement: dict[str, Any], action: str) -> bool:
    """Whether the statement's actions cover this one; IAM ignores the case of actions."""
    wanted = action.lower()
    if "NotAction" in statement:
        return not any(fnmatchcase(wanted, pattern.lower()) for pattern in as_list(statement["NotAction"]))
    return any(fnmatchcase(wanted, pattern.lower()) for pattern in as_list(statement.get("Action", [])))


def everywhere(statement: dict[str, Any]) -> bool:
    return "*" in as_list(statement.get("Resource", [])) or "NotResource" in statement


def admin(p: Principal, have: Snapshot, settings: Settings) -> Iterator[Finding]:
    for name, statement in statements(p, have):
        if (
            everywhere(statement)
            and "Condition" not in statement
            and ("*" in as_list(statement.get("Action", [])) or "NotAction" in statement)
        ):
            yield Finding(
                "critical",
                "IAM-ADMIN-001",
                p.name,
                f"{name} allows everything on everything",
                "name the actions and resources it needs",
            )
    for arn in p.attached:
        name = arn.rsplit("/", 1)[1]
        if ":aws:policy/" in arn and name in ADMIN_POLICIES:
            yield Finding("critical", "IAM-ADMIN-001", p.name, f"{name} is attached", "attach a policy of its own")
        elif ":aws:policy/" in arn and name.endswith("FullAccess"):
            yield Finding(
                "high",
                "IAM-ADMIN-002",
                p.name,
                f"AWS's {name} is attached",
                "attach a policy with the actions it uses, or waive this with a reason",
            )


def wildcards(p: Principal, have: Snapshot, settings: Settings) -> Iterator[Finding]:
    for name, statement in statements(p, have):
        for action in as_list(statement.get("Action", [])):
            if everywhere(statement) and action.endswith(":*"):
                yield Finding(
                    "high",
                    "IAM-WILD-001",
                    p.name,
                    f"{name} allows {action} on every resource",
                    "name the actions, and the resources by ARN",
                )


def passing(p: Principal, have: Snapshot, settings: Settings) -> Iterator[Finding]:
    for name, statement in statements(p, have):
        if not allows(statement, "iam:PassRole") or "*" in as_list(statement.get("Action", [])):
            continue  # who may do everything is told so once
        to_whom = "iam:PassedToService" in str(statement.get("Condition", {}))
        wide = everywhere(statement) or any(
            r.endswith((":role/*", ":*")) for r in as_list(statement.get("Resource", []))
        )
        if wide and not to_whom:
            yield Finding(
                "high",
                "IAM-PASS-001",
                p.name,
                f"{name} lets it pass any role to any service",
                "name the role, and iam:PassedToService",
            )
        elif wide or not to_whom:
            missing = "the role" if wide else "iam:PassedToService"
            yield Finding(
                "medium",
                "IAM-PASS-002",
                p.name,
                f"{name} allows iam:PassRole without naming {missing}",
                f"name {missing}",
            )


def trusting(p: Principal, have: Snapshot, settings: Settings) -> Iterator[Finding]:
    for statement in as_list((p.trust or {}).get("Statement", [])):
        principal = statement.get("Principal", {})
        who = ["*"] if principal == "*" else as_list(principal.get("AWS", []))
        conditions = str(statement.get("Condition", ""))
        if statement.get("Effect") != "Allow":
            continue
        for one in who:
            if one == "*":
                yield Finding(
                    "medium" if conditions else "critical",
                    "IAM-TRUST-001",
                    p.name,
                    "anyone may assume it",
                    "name the principals that may",
                )
            elif settings.aws.account not in one and "sts:ExternalId" not in conditions:
                yield Finding(
                    "high",
                    "IAM-TRUST-002",
                    p.name,
                    f"{one} of another account may assume it without an external id",
                    "ask for sts:ExternalId",
                )


def unused(p: Principal, have: Snapshot, settings: Settings) -> Iterator[Finding]:
    """Roles that nobody took for 90 days; one that is younger than that has had no chance."""
    if p.trust is None or p.created is None:
        return
    last = p.last_used or p.created
    if datetime.now(UTC) - last > UNUSED:
        yield Finding(
            "medium", "IAM-USE-001", p.name, f"not used since {last:%Y-%m-%d}", "delete it, if nothing needs it"
        )


def drift(have: Snapshot, wanted: list[Wanted], settings: Settings) -> Iterator[Finding]:
    """Where the account differs from iam_policies/."""
    mend = "invoke --dry iam.apply shows what would change"
    ours = {settings.role_name(w.role): w for w in wanted}
    for name, want in ours.items():
        role = have.roles.get(name)
        if role is None:
            yield Finding("low", "IAM-DRIFT-003", name, f"{ROLES}/{want.role}/ was never applied", "invoke iam.apply")
            continue
        if canonical(role.trust) != canonical(want.trust):
            yield Finding("high", "IAM-DRIFT-001", name, "its trust differs from trust.json", mend)
        arns = {policy_arn(want.role, stem, settings): document for stem, document in want.permissions.items()}
        for arn, document in arns.items():
            if (
                arn not in role.attached
                or arn not in have.policies
                or canonical(have.policies[arn].document) != canonical(document)
            ):
                yield Finding(
                    "high", "IAM-DRIFT-001", name, f"{arn.rsplit('/', 1)[1]} differs from {ROLES}/{want.role}/", mend
                )
        extra = [*role.inline, *(arn.rsplit("/", 1)[1] for arn in role.attached if arn not in arns)]
        if extra:
            yield Finding("high", "IAM-DRIFT-002", name, f"also holds {', '.join(extra)}", mend)
    for name, role in have.roles.items():
        if f":role{settings.role_path}" in role.arn and name not in ours:
            yield Finding(
                "medium",
                "IAM-DRIFT-002",
                name,
                f"stands under {settings.role_path}, but not in {ROLES}/",
                "delete it, or write its folder",
            )


def waive(found: list[Finding], waivers: list[Waiver]) -> list[Finding]:
    """The findings that no waiver covers; a waiver that has expired or covers nothing is a finding itself."""
    kept = [f for f in found if not any(covers(w, f) for w in waivers)]
    for waiver in waivers:
        if waiver.expired:
            kept.append(
                Finding(
                    "high",
                    "WAIVER-EXPIRED",
                    waiver.principal,
                    f"the waiver of {waiver.rule} ended on {waiver.expires}",
                    "mend it, or decide again",
                )
            )
        elif not any(covers(waiver, f) for f in found):
            kept.append(
                Finding(
                    "low",
                    "WAIVER-STALE",
                    waiver.principal,
                    f"the waiver of {waiver.rule} covers nothing",
                    "delete the waiver",
                )
            )
    return kept


def covers(waiver: Waiver, finding: Finding) -> bool:
    return not waiver.expired and waiver.rule == finding.rule and fnmatchcase(finding.principal, waiver.principal)

"""Rules about what a principal's statements allow: everything, whole services, unnamed resources, all but something."""

from __future__ import annotations

import re
from collections.abc import Iterator

from iampolicy import actions
from iampolicy.account.snapshot import Principal
from iampolicy.audit import rules_reach
from iampolicy.audit.context import (  # fmt: skip
    NOBODY,
    NOTHING,
    REGION,
    AuditContext,
    Candidate,
    CandidateRule,
    EffectivePrincipal,
    Probe,
    build_liveness_probes,
    build_probes,
    fill_pattern,
    has_action,
    has_resource,
    is_boundless,
    restore_action_keys,
)
from iampolicy.escalation.account_model import WELL_KNOWN
from iampolicy.escalation.paths import shorten_arn
from iampolicy.finding import Finding
from iampolicy.policy.document import Statement

NAMES = "name the actions it needs, and their resources by ARN"
WRITES = ("Write", "Permissions management", "Tagging")
# Each alone makes its holder, or a principal whose keys it then has, an administrator.
RULES_IAM = (
    ("iam:AttachRolePolicy", "role"), ("iam:PutRolePolicy", "role"), ("iam:AttachUserPolicy", "user"), ("iam:PutUserPolicy", "user"),
    ("iam:CreatePolicyVersion", "policy"), ("iam:CreateAccessKey", "user"),
)  # fmt: skip


def find_admin_rights(one: Statement, account: str) -> Iterator[Candidate]:
    """Yield a candidate for everything on everything (high without IAM, as with PowerUserAccess), or for all of IAM, which amounts to it."""
    writes = tuple(Probe(action, f"arn:aws:iam::{account}:{kind}/{NOBODY}") for action, kind in RULES_IAM)
    anything = Probe(f"{NOBODY}:{NOTHING}", f"arn:aws:{NOBODY}:{REGION}:{account}:{NOBODY}/{NOBODY}")
    every = has_action(one, anything.action.lower()) and has_resource(one, anything.resource)
    all_iam = (
        not every and has_action(one, f"iam:{NOTHING}") and any(has_resource(one, probe.resource) for probe in writes)
    )
    if every:
        yield Candidate(
            "IAM-ADMIN-001", "high", one, {"everything": (anything, *writes)}, "may do {} on everything", NAMES, writes, "critical"
        )  # fmt: skip
    elif all_iam:
        yield Candidate(
            "IAM-ADMIN-001",
            "critical",
            one,
            {"IAM": tuple(probe for probe in writes if has_resource(one, probe.resource))},
            "may do everything in {}, and so give itself the rest",
            NAMES,
        )


def find_wildcards(one: Statement, account: str) -> Iterator[Candidate]:
    if "action" in one.negated:
        return
    services = {a: build_probes(one, a, account) for a in one.actions if re.fullmatch(r"[\w-]+:\*+", a)}
    if wide := {a: found for a, found in services.items() if found}:
        yield Candidate("IAM-WILD-001", "high", one, wide, "allows {} on every resource", NAMES)
    if not is_boundless(one):
        return
    partly = {a: build_probes(one, a, account) for a in one.actions if a not in services and has_scopable_writes(a)}
    if partly:
        yield Candidate("IAM-WILD-001", "medium", one, partly, "allows whatever {} comes to mean, on every resource", NAMES)  # fmt: skip
    if is_named_by_condition(one):
        return
    named = [a for a in one.actions if "*" not in a and "?" not in a and should_name(a)]
    writing = {a: build_probes(one, a, account) for a in named if not (one.conditions and has_optional_resource(a))}
    if writing:
        fix = "name the resources by ARN: these actions take one"
        yield Candidate("IAM-WILD-002", "medium", one, restore_action_keys(writing), "allows {} on every resource", fix)


def has_scopable_writes(pattern: str) -> bool:
    """Return whether a pattern such as s3:Put* covers actions that change something and could be limited to a resource."""
    if not re.fullmatch(r"[\w-]+:.*[*?].*", pattern):
        return False
    return any(
        actions.find_access_level(a) in WRITES and not actions.is_unscopable(a)
        for a in actions.list_matching_actions(pattern)
    )


def should_name(action: str) -> bool:
    return actions.find_access_level(action) in ("Write", "Permissions management") and not actions.is_unscopable(
        action
    )


def has_optional_resource(action: str) -> bool:
    """Return whether a request may omit the action's only resource type, as cloudwatch:PutMetricData mostly does.

    With several types, as for s3:PutObject, each is optional because another will do.
    """
    types = (actions.find_details(action) or {"resourceTypes": []})["resourceTypes"]
    return len(types) == 1 and not types[0]["required"]


def is_named_by_condition(one: Statement) -> bool:
    """Return whether the statement requires a tag of the resource, or a metric's namespace: other ways to name it."""
    return any(
        (":resourcetag/" in key or key == "cloudwatch:namespace")
        and not operator.lower().removesuffix("ifexists").endswith("null")
        for operator, key, _ in one.conditions
    )


def find_partial_arns(one: Statement, account: str) -> Iterator[Candidate]:
    """Yield a candidate for ARNs that leave open whose they are: region or account `*`, every bucket, every role."""
    if "resource" in one.negated or is_named_by_condition(one):
        return
    loose = [p for p in one.resources if p.strip("*") and is_open_arn(p)]
    if not loose:
        return
    if asked := [probe.action for probe in build_liveness_probes(one, account)]:
        subjects = {p: tuple(Probe(action, fill_pattern(p, account)) for action in asked) for p in loose}
        yield Candidate(
            "IAM-WILD-003",
            "medium",
            one,
            subjects,
            "reaches {}",
            "write out what * stands for: region, account, kind or name",
        )


def is_open_arn(pattern: str) -> bool:
    parts = pattern.split(":", 5)
    if len(parts) < 6:
        return "*" in pattern
    every = re.fullmatch(r"(role|user|group|policy)/\*+|[*/:]*\*[*/:]*", parts[5])
    return "*" in parts[3] or "*" in parts[4] or bool(every)


def find_negations(one: Statement, account: str) -> Iterator[Candidate]:
    for element, severity, tomorrow in (("action", "high", "AWS adds"), ("resource", "medium", "is made")):
        if element in one.negated:
            name, message = f"Not{element.capitalize()}", f"allows by {{}}: also what {tomorrow} tomorrow"
            yield Candidate("IAM-NOT-001", severity, one, {name: build_liveness_probes(one, account)}, message, NAMES)
            return


CANDIDATE_RULES: tuple[CandidateRule, ...] = (
    find_admin_rights, find_wildcards, find_partial_arns, find_negations,
    rules_reach.find_role_passing, rules_reach.find_resource_sharing, rules_reach.find_data_exfiltration,
    rules_reach.find_credential_access, rules_reach.find_unbounded_iam_writes,
)  # fmt: skip


def findings(context: AuditContext, holder: EffectivePrincipal) -> Iterator[Finding]:
    """Yield all findings but those that depend on other principals."""
    bound = holder.principal.boundary != ""
    yield from (
        f for f in context.list_confirmed_findings(holder, CANDIDATE_RULES) if not (bound and f.rule == "IAM-BOUND-001")
    )
    yield from find_full_access(context, holder)
    yield from find_unread_policies(context, holder.principal)
    yield from rules_reach.find_boundary_gaps(holder)


def find_full_access(context: AuditContext, holder: EffectivePrincipal) -> Iterator[Finding]:
    """Yield a finding for each of AWS's own wide policies, by name; what its text allows is left to the other rules."""
    name_of = holder.principal.name
    for arn in dict.fromkeys(holder.principal.attached):
        name = arn.rsplit("/", 1)[-1]
        if (
            ":aws:policy/" in arn
            and arn not in WELL_KNOWN
            and name.endswith("FullAccess")
            and is_effective(context, holder, arn)
        ):
            fix = "attach a policy with the actions it uses, or waive this with a reason"
            yield Finding("IAM-ADMIN-002", "high", name_of, f"holds AWS's {name}", fix, arn)


def find_unread_policies(context: AuditContext, p: Principal) -> Iterator[Finding]:
    """Yield a finding for each policy that cannot be judged, or only by its name, because its text is missing."""
    fix = "save the account anew: invoke iam.audit --save; or hold a policy of the account's own"
    for arn in context.snapshot.unread(p):
        if arn in WELL_KNOWN:
            continue
        what = "holds {}, whose text is not at hand: what it gives is not known"
        if arn == p.boundary:
            judged = "nothing bounded it" if ":aws:policy/" in arn else "that let nothing through"
            what = f"is bounded by {{}}, whose text is not at hand: judged as if {judged}"
        yield Finding("IAM-UNREAD-001", "medium", p.name, what.format(shorten_arn(arn)), fix, arn)


def is_effective(context: AuditContext, holder: EffectivePrincipal, arn: str) -> bool:
    """Return whether an attached policy allows anything; one whose text is unknown counts as if it did."""
    held = next((p for p in holder.rights.identity if p.name == arn), None)
    if held is None or holder.uncapped:
        return True
    return any(
        holder.may(probe, one)
        for one in held.statements
        if one.allow
        for probe in build_liveness_probes(one, context.account)
    )

"""Rules about what a principal's statements allow: everything, whole services, all resources, NotAction and NotResource."""

from __future__ import annotations

import re
from collections.abc import Iterator

from iampolicy import actions
from iampolicy.account.snapshot import Principal
from iampolicy.audit import rules_reach
from iampolicy.audit.context import (  # fmt: skip
    REGION,
    UNUSED_ACTION,
    UNUSED_NAME,
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
# Each action by itself makes its principal, or one whose keys it can create, an administrator.
RULES_IAM = (
    ("iam:AttachRolePolicy", "role"), ("iam:PutRolePolicy", "role"), ("iam:AttachUserPolicy", "user"), ("iam:PutUserPolicy", "user"),
    ("iam:CreatePolicyVersion", "policy"), ("iam:CreateAccessKey", "user"),
)  # fmt: skip


def find_admin_rights(one: Statement, account: str) -> Iterator[Candidate]:
    """Yield a candidate for all actions on all resources (high without IAM, as in PowerUserAccess), or for all of IAM, which is equivalent."""
    writes = tuple(Probe(action, f"arn:aws:iam::{account}:{kind}/{UNUSED_NAME}") for action, kind in RULES_IAM)
    anything = Probe(
        f"{UNUSED_NAME}:{UNUSED_ACTION}", f"arn:aws:{UNUSED_NAME}:{REGION}:{account}:{UNUSED_NAME}/{UNUSED_NAME}"
    )
    every = has_action(one, anything.action.lower()) and has_resource(one, anything.resource)
    all_iam = (
        not every
        and has_action(one, f"iam:{UNUSED_ACTION}")
        and any(has_resource(one, probe.resource) for probe in writes)
    )
    if every:
        yield Candidate(
            "IAM-ADMIN-001", "high", one, {"all actions": (anything, *writes)}, "allows {} on all resources", NAMES, writes, "critical"
        )  # fmt: skip
    elif all_iam:
        yield Candidate(
            "IAM-ADMIN-001",
            "critical",
            one,
            {"IAM": tuple(probe for probe in writes if has_resource(one, probe.resource))},
            "allows all actions of {}, and so can grant itself everything",
            NAMES,
        )


def find_wildcards(one: Statement, account: str) -> Iterator[Candidate]:
    if "action" in one.negated:
        return
    services = {a: build_probes(one, a, account) for a in one.actions if re.fullmatch(r"[\w-]+:\*+", a)}
    if wide := {a: found for a, found in services.items() if found}:
        yield Candidate("IAM-WILD-001", "high", one, wide, "allows {} on all resources", NAMES)
    if not is_boundless(one):
        return
    partly = {a: build_probes(one, a, account) for a in one.actions if a not in services and has_scopable_writes(a)}
    if partly:
        yield Candidate("IAM-WILD-001", "medium", one, partly, "allows all actions of the pattern {} on all resources", NAMES)  # fmt: skip
    if is_named_by_condition(one):
        return
    named = [a for a in one.actions if "*" not in a and "?" not in a and should_name(a)]
    writing = {a: build_probes(one, a, account) for a in named if not (one.conditions and has_optional_resource(a))}
    if writing:
        fix = "name the resources by ARN: these actions support it"
        yield Candidate(
            "IAM-WILD-002", "medium", one, restore_action_keys(writing), "allows {} on all resources", fix, about_resources=True
        )  # fmt: skip


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
    """Return whether the statement requires a tag of the resource, a metric's namespace, or that the call creates the resource."""
    return any(
        (":resourcetag/" in key or key in ("cloudwatch:namespace", "ec2:createaction"))
        and not operator.lower().removesuffix("ifexists").endswith("null")
        for operator, key, _ in one.conditions
    )


def find_partial_arns(one: Statement, account: str) -> Iterator[Candidate]:
    """Yield a candidate for ARNs that do not name an owner: `*` as region or account, every bucket, every role."""
    if "resource" in one.negated or is_named_by_condition(one):
        return
    loose = [p for p in one.resources if p.strip("*") and is_open_arn(p)]
    if not loose:
        return
    if probed := [probe.action for probe in build_liveness_probes(one, account)]:
        subjects = {p: tuple(Probe(action, fill_pattern(p, account)) for action in probed) for p in loose}
        yield Candidate(
            "IAM-WILD-003",
            "medium",
            one,
            subjects,
            "allows resources {}",
            "replace * by the region, account, resource type or name",
            about_resources=True,
        )


def is_open_arn(pattern: str) -> bool:
    parts = pattern.split(":", 5)
    if len(parts) < 6:
        return "*" in pattern
    every = re.fullmatch(r"(role|user|group|policy)/\*+|[*/:]*\*[*/:]*", parts[5])
    return "*" in parts[3] or "*" in parts[4] or bool(every)


def find_negations(one: Statement, account: str) -> Iterator[Candidate]:
    for element, severity, future in (
        ("action", "high", "actions that AWS adds"),
        ("resource", "medium", "resources that are created"),
    ):
        if element in one.negated:
            name, message = f"Not{element.capitalize()}", f"allows with {{}}: this includes {future} in future"
            yield Candidate("IAM-NOT-001", severity, one, {name: build_liveness_probes(one, account)}, message, NAMES)
            return


CANDIDATE_RULES: tuple[CandidateRule, ...] = (
    find_admin_rights, find_wildcards, find_partial_arns, find_negations,
    rules_reach.find_role_passing, rules_reach.find_resource_sharing, rules_reach.find_data_exfiltration,
    rules_reach.find_credential_access, rules_reach.find_unbounded_iam_writes,
)  # fmt: skip


def findings(context: AuditContext, holder: EffectivePrincipal) -> Iterator[Finding]:
    """Yield all findings except those that depend on other principals."""
    bound = holder.principal.boundary != ""
    yield from (
        f for f in context.list_confirmed_findings(holder, CANDIDATE_RULES) if not (bound and f.rule == "IAM-BOUND-001")
    )
    yield from find_full_access(context, holder)
    yield from find_unread_policies(context, holder.principal)
    yield from rules_reach.find_boundary_gaps(holder)


def find_full_access(context: AuditContext, holder: EffectivePrincipal) -> Iterator[Finding]:
    """Yield a finding for each AWS managed policy named ...FullAccess; the other rules judge its statements."""
    name_of = holder.principal.name
    for arn in dict.fromkeys(holder.principal.attached):
        name = arn.rsplit("/", 1)[-1]
        if (
            ":aws:policy/" in arn
            and arn not in WELL_KNOWN
            and name.endswith("FullAccess")
            and is_effective(context, holder, arn)
        ):
            fix = "attach a policy with only the actions it uses, or waive this with a reason"
            yield Finding("IAM-ADMIN-002", "high", name_of, f"has the AWS managed policy {name}", fix, arn)


def find_unread_policies(context: AuditContext, p: Principal) -> Iterator[Finding]:
    """Yield a finding for each policy that cannot be judged, or only by its name, because its document is missing."""
    fix = "save the account again: invoke iam.audit --save FILE; or use a customer managed policy"
    for arn in context.snapshot.list_missing_policies(p):
        if arn in WELL_KNOWN:
            continue
        what = "has the policy {}, whose document is not in the snapshot: its permissions are unknown"
        if arn == p.boundary:
            judged = "there were no boundary" if ":aws:policy/" in arn else "it allowed nothing"
            what = f"has the permissions boundary {{}}, whose document is not in the snapshot: judged as if {judged}"
        yield Finding("IAM-UNREAD-001", "medium", p.name, what.format(shorten_arn(arn)), fix, arn)


def is_effective(context: AuditContext, holder: EffectivePrincipal, arn: str) -> bool:
    """Return whether an attached policy allows anything; one whose document is missing counts as if it did."""
    held = next((p for p in holder.rights.identity if p.name == arn), None)
    if held is None or holder.uncapped:
        return True
    return any(
        holder.may(probe, one)
        for one in held.statements
        if one.allow
        for probe in build_liveness_probes(one, context.account)
    )

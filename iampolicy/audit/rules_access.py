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
    alive,
    boundless,
    filled,
    probes,
    reaches,
    spelled,
    takes_in,
)
from iampolicy.escalation.account_model import WELL_KNOWN
from iampolicy.escalation.paths import short
from iampolicy.finding import Finding
from iampolicy.policy.document import Statement

NAMES = "name the actions it needs, and their resources by ARN"
WRITES = ("Write", "Permissions management", "Tagging")
# Each alone makes its holder, or somebody whose keys he then has, an administrator.
RULES_IAM = (
    ("iam:AttachRolePolicy", "role"), ("iam:PutRolePolicy", "role"), ("iam:AttachUserPolicy", "user"), ("iam:PutUserPolicy", "user"),
    ("iam:CreatePolicyVersion", "policy"), ("iam:CreateAccessKey", "user"),
)  # fmt: skip


def admin(one: Statement, account: str) -> Iterator[Candidate]:
    """Everything on everything, or all of IAM, which comes to the same; without IAM it is high, as with PowerUserAccess."""
    writes = tuple(Probe(action, f"arn:aws:iam::{account}:{kind}/{NOBODY}") for action, kind in RULES_IAM)
    anything = Probe(f"{NOBODY}:{NOTHING}", f"arn:aws:{NOBODY}:{REGION}:{account}:{NOBODY}/{NOBODY}")
    every = takes_in(one, anything.action.lower()) and reaches(one, anything.resource)
    all_iam = not every and takes_in(one, f"iam:{NOTHING}") and any(reaches(one, probe.resource) for probe in writes)
    if every:
        yield Candidate(
            "IAM-ADMIN-001", "high", one, {"everything": (anything, *writes)}, "may do {} on everything", NAMES, writes, "critical"
        )  # fmt: skip
    elif all_iam:
        yield Candidate(
            "IAM-ADMIN-001",
            "critical",
            one,
            {"IAM": tuple(probe for probe in writes if reaches(one, probe.resource))},
            "may do everything in {}, and so give itself the rest",
            NAMES,
        )


def wildcards(one: Statement, account: str) -> Iterator[Candidate]:
    if "action" in one.negated:
        return
    services = {a: probes(one, a, account) for a in one.actions if re.fullmatch(r"[\w-]+:\*+", a)}
    if wide := {a: found for a, found in services.items() if found}:
        yield Candidate("IAM-WILD-001", "high", one, wide, "allows {} on every resource", NAMES)
    if not boundless(one):
        return
    partly = {a: probes(one, a, account) for a in one.actions if a not in services and part_of_service(a)}
    if partly:
        yield Candidate("IAM-WILD-001", "medium", one, partly, "allows whatever {} comes to mean, on every resource", NAMES)  # fmt: skip
    if named_by_condition(one):
        return
    named = [a for a in one.actions if "*" not in a and "?" not in a and should_name(a)]
    writing = {a: probes(one, a, account) for a in named if not (one.conditions and optional(a))}
    if writing:
        fix = "name the resources by ARN: these actions take one"
        yield Candidate("IAM-WILD-002", "medium", one, spelled(writing), "allows {} on every resource", fix)


def part_of_service(pattern: str) -> bool:
    """Whether a pattern such as s3:Put* takes in actions that change something and could be held to a resource."""
    if not re.fullmatch(r"[\w-]+:.*[*?].*", pattern):
        return False
    return any(actions.level(a) in WRITES and not actions.unscopable(a) for a in actions.matching(pattern))


def should_name(action: str) -> bool:
    return actions.level(action) in ("Write", "Permissions management") and not actions.unscopable(action)


def optional(action: str) -> bool:
    """Whether a request may do without the one resource type that it has, as cloudwatch:PutMetricData mostly does. Of several, as with
    s3:PutObject, each is optional because another will do."""
    types = (actions.details(action) or {"resourceTypes": []})["resourceTypes"]
    return len(types) == 1 and not types[0]["required"]


def named_by_condition(one: Statement) -> bool:
    """Whether it asks for a tag of the resource, or a metric's namespace: other ways to name it."""
    return any(
        (":resourcetag/" in key or key == "cloudwatch:namespace")
        and not operator.lower().removesuffix("ifexists").endswith("null")
        for operator, key, _ in one.conditions
    )


def partial_arns(one: Statement, account: str) -> Iterator[Candidate]:
    """ARNs that leave open whose they are: region or account `*`, every bucket, every role."""
    if "resource" in one.negated or named_by_condition(one):
        return
    loose = [p for p in one.resources if p.strip("*") and leaves_open(p)]
    if not loose:
        return
    if asked := [probe.action for probe in alive(one, account)]:
        subjects = {p: tuple(Probe(action, filled(p, account)) for action in asked) for p in loose}
        yield Candidate(
            "IAM-WILD-003",
            "medium",
            one,
            subjects,
            "reaches {}",
            "write out what * stands for: region, account, kind or name",
        )


def leaves_open(pattern: str) -> bool:
    parts = pattern.split(":", 5)
    if len(parts) < 6:
        return "*" in pattern
    every = re.fullmatch(r"(role|user|group|policy)/\*+|[*/:]*\*[*/:]*", parts[5])
    return "*" in parts[3] or "*" in parts[4] or bool(every)


def negations(one: Statement, account: str) -> Iterator[Candidate]:
    for element, severity, tomorrow in (("action", "high", "AWS adds"), ("resource", "medium", "is made")):
        if element in one.negated:
            name, message = f"Not{element.capitalize()}", f"allows by {{}}: also what {tomorrow} tomorrow"
            yield Candidate("IAM-NOT-001", severity, one, {name: alive(one, account)}, message, NAMES)
            return


CANDIDATE_RULES: tuple[CandidateRule, ...] = (
    admin, wildcards, partial_arns, negations,
    rules_reach.passing, rules_reach.opening, rules_reach.taking_away, rules_reach.credentials, rules_reach.making,
)  # fmt: skip


def findings(context: AuditContext, holder: EffectivePrincipal) -> Iterator[Finding]:
    """All but what depends on other principals."""
    bound = holder.principal.boundary != ""
    yield from (
        f for f in context.confirmed_findings(holder, CANDIDATE_RULES) if not (bound and f.rule == "IAM-BOUND-001")
    )
    yield from full_access(context, holder)
    yield from unread(context, holder.principal)
    yield from rules_reach.boundary(holder)


def full_access(context: AuditContext, holder: EffectivePrincipal) -> Iterator[Finding]:
    """AWS's own wide policies, by name; what their text gives is the other rules' matter."""
    name_of = holder.principal.name
    for arn in dict.fromkeys(holder.principal.attached):
        name = arn.rsplit("/", 1)[-1]
        if (
            ":aws:policy/" in arn
            and arn not in WELL_KNOWN
            and name.endswith("FullAccess")
            and gives(context, holder, arn)
        ):
            fix = "attach a policy with the actions it uses, or waive this with a reason"
            yield Finding("IAM-ADMIN-002", "high", name_of, f"holds AWS's {name}", fix, arn)


def unread(context: AuditContext, p: Principal) -> Iterator[Finding]:
    """What is held and cannot be judged, or only by its name."""
    fix = "save the account anew: invoke iam.audit --save; or hold a policy of the account's own"
    for arn in context.snapshot.unread(p):
        if arn in WELL_KNOWN:
            continue
        what = "holds {}, whose text is not at hand: what it gives is not known"
        if arn == p.boundary:
            judged = "nothing bounded it" if ":aws:policy/" in arn else "that let nothing through"
            what = f"is bounded by {{}}, whose text is not at hand: judged as if {judged}"
        yield Finding("IAM-UNREAD-001", "medium", p.name, what.format(short(arn)), fix, arn)


def gives(context: AuditContext, holder: EffectivePrincipal, arn: str) -> bool:
    """Whether an attached policy gives anything; when its text is not known, it does."""
    held = next((p for p in holder.rights.identity if p.name == arn), None)
    if held is None or holder.uncapped:
        return True
    return any(holder.may(probe, one) for one in held.statements if one.allow for probe in alive(one, context.account))

"""The diagnosis of a denied call: which of its four hops fails today, what decides it, and the smallest change that would allow it.

The hops are: 1 the caller's own action; 2 iam:PassRole; 3 the trust policy of the passed role; 4 an action of the passed role.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from iampolicy import actions
from iampolicy.account.snapshot import Principal, Snapshot
from iampolicy.errors import InputError
from iampolicy.explain import simulation
from iampolicy.explain.error_parser import UNSEEN, Denial, Question
from iampolicy.explain.simulation import DecisionInput
from iampolicy.policy.conditions import Context
from iampolicy.policy.document import CURRENT, Policy, parse_policy, parse_statement
from iampolicy.policy.evaluate import Caller, DecidingStatement, Decision, Request, Rights

NAMED = re.compile(r"(role|user|group|policy) ([\w+=,.@-]{1,128})")


@dataclass(frozen=True)
class Evidence:
    """The evidence on a denial: the account, its roles as their files describe them, and a function that reads a bucket policy.

    `number` is the account's, `region` is the default region of requests, `prefix` starts the names of the roles in files.
    `by_files` means that the account could not be read, so that `have` is what the files describe.
    """

    have: Snapshot
    files: Snapshot
    number: str
    region: str
    prefix: str = ""
    bucket_policy: Callable[[str], Policy | None] = lambda resource: None
    by_files: bool = False


@dataclass(frozen=True)
class Fix:
    """One edit: a statement to add to a layer, or one to remove; `holder` is the ARN of the role, user or resource with the policy."""

    verb: str
    layer: str
    holder: str
    policy: str = ""
    name: str = ""
    statement: dict[str, Any] | None = None


@dataclass(frozen=True)
class Explanation:
    """The explanation of a denial. `decision` is today's; None when the principal or the role is missing. `drift` means that the files
    allow it, and the account does not. `meant` is the ARN of the role that the request names without its path."""

    denial: Denial
    question: Question
    asked: DecisionInput | None
    decision: Decision | None
    fixes: tuple[Fix, ...] = ()
    drift: bool = False
    notes: tuple[str, ...] = ()
    meant: str = ""

    @property
    def unseen(self) -> bool:
        """Return whether AWS blames a policy that cannot be read here."""
        layer, asked = self.denial.layer, self.question
        read = asked.action.lower().startswith("s3:") or asked.action.lower() == "sts:assumerole"
        return layer in UNSEEN or (layer == "resource" and not read)

    @property
    def denied(self) -> bool:
        return self.decision is None or not self.decision.allowed or self.unseen


def explain_denial(denial: Denial, evidence: Evidence) -> Explanation:
    """Explain the first question that is denied today, or the last one when none is."""
    for question in denial.questions:
        full, notes = complete_question(question, evidence)
        if full.action != "iam:CreateRole" and (meant := find_role_without_path(full.resource, evidence)):
            return Explanation(denial, full, None, None, notes=notes, meant=meant)
        asked = prepare_decision(full, evidence.have, evidence)
        decision = asked.decide() if asked else None
        if not decision or not decision.allowed:
            break
    if not asked or not decision:
        return Explanation(denial, full, None, None, notes=notes)
    if decision.allowed:
        return Explanation(denial, full, asked, decision, notes=notes)
    in_files = prepare_decision(full, evidence.files, evidence)
    drift = bool(in_files and in_files.decide().allowed)
    return Explanation(denial, full, asked, decision, tuple(find_smallest_fixes(asked)), drift, notes)


def find_role_without_path(arn: str, evidence: Evidence) -> str:
    """Return the ARN of the role that this one names without its path, or with another; "" if it is right, or of no role."""
    start, role, rest = arn.partition(":role/")
    named = evidence.have.roles.get(rest.rsplit("/", 1)[-1]) if role else None
    wrong = named is not None and "*" not in rest and start.endswith(f":{evidence.number}") and named.arn != arn
    return named.arn if wrong and named else ""


def complete_question(question: Question, evidence: Evidence) -> tuple[Question, tuple[str, ...]]:
    """Return the question completed from the account, and notes on what was assumed.

    Raises InputError when principal, action or resource remains unknown.
    """
    known = actions.list_matching_actions(question.action) if actions.is_known_action(question.action) else []
    spelled = known[0] if known else actions.OPERATIONS.get(question.action.lower(), question.action)
    question = replace(question, action=spelled, resource=expand_arn(question.resource, evidence))
    if (question.hop == 3 and not question.resource) or (question.hop == 4 and not question.who.startswith("arn:")):
        question, named = assume_own_role(question, evidence)
    else:
        named = ()
    lacking = [f for f, v in (("--principal", question.who), ("--resource", question.resource)) if not v]
    lacking += ["--action"] if question.action.endswith(":") else []
    if lacking:
        raise InputError(f"The message does not name the whole request. Add {' '.join(lacking)}")
    if question.hop == 1 and is_service_role(find_principal(question, evidence.have, evidence)):
        question = replace(question, hop=4)
    if question.hop == 2 and "iam:passedtoservice" not in {key.lower() for key, _ in question.context}:
        question, named = assume_service(question, evidence)
    return question, named


def expand_arn(resource: str, evidence: Evidence) -> str:
    """Return the ARN of a role, user, group or policy that IAM names as `role NAME`; any other text unchanged."""
    found = NAMED.fullmatch(resource)
    if not found:
        return resource
    kind, name = found.groups()
    there = {"role": evidence.have.roles, "user": evidence.have.users}.get(kind, {}).get(name)
    ours = next((arn for arn in evidence.have.policies if kind == "policy" and arn.endswith(f"/{name}")), "")
    return there.arn if there else ours or f"arn:aws:iam::{evidence.number}:{kind}/{name}"


def assume_own_role(question: Question, evidence: Evidence) -> tuple[Question, tuple[str, ...]]:
    """Fill in the role that a service did not name, if exactly one role of iam_policies/ is for the service."""
    arns = [
        role.arn for role in evidence.files.roles.values() if question.who in list_trusted_services(role.trust_policy)
    ]
    if len(arns) != 1:
        return (question if question.hop == 3 else replace(question, who="")), ()
    note = f"the message names no role; assumed: {arns[0].rsplit('/', 1)[1]}"
    filled = replace(question, resource=arns[0]) if question.hop == 3 else replace(question, who=arns[0])
    return filled, (note,)


def assume_service(question: Question, evidence: Evidence) -> tuple[Question, tuple[str, ...]]:
    """Fill in the service that a denied PassRole does not name: it is the one that may assume the role, if there is only one."""
    role = find_principal(replace(question, who=question.resource), evidence.have, evidence)
    services = list_trusted_services(role.trust_policy) if role else []
    if len(services) != 1:
        return question, ("the message does not name the service: give it with -c iam:PassedToService=SERVICE",)
    note = f"iam:PassedToService is assumed to be {services[0]}, the only service that may assume the role"
    return replace(question, context=(*question.context, ("iam:PassedToService", services[0]))), (note,)


def list_trusted_services(trust: Policy) -> list[str]:
    """Return the services that a trust policy allows to assume the role."""
    allows = [s for s in trust.statements if s.allow and "principal" not in s.negated]
    return list(dict.fromkeys(value for s in allows for kind, value in s.principals or () if kind == "Service"))


def is_service_role(p: Principal | None) -> bool:
    """Return whether only services may assume the role."""
    allows = [s for s in p.trust_policy.statements if s.allow] if p else []
    kinds = {kind for s in allows for kind, _ in s.principals or ()}
    return kinds == {"Service"}


def find_principal(question: Question, have: Snapshot, evidence: Evidence) -> Principal | None:
    try:
        return simulation.resolve_principal(have, question.who, evidence.prefix)[0]
    except InputError:
        return None


def prepare_decision(question: Question, have: Snapshot, evidence: Evidence) -> DecisionInput | None:
    """Return the question, ready to be decided in an account; None when the caller, or the role to be assumed, is missing."""
    own = dict(question.context)
    trust = simulation.find_role_trust(have, question.action, question.resource)
    if question.hop == 3:
        request = Request(
            Caller(service=question.who), question.action, question.resource, build_service_context(own, evidence)
        )
        return DecisionInput(request, Rights(), trust, required=True) if trust else None
    try:
        p, caller = simulation.resolve_principal(have, question.who, evidence.prefix)
    except InputError:
        if not (evidence.by_files and question.who.startswith("arn:")):
            return None
        p = build_unread_principal(question.who)
        caller = p.caller
    keys = simulation.build_context(p, (question.action, question.resource), evidence.region, own)
    request = Request(caller, question.action, question.resource, simulation.normalise_context(keys))
    own_policy = evidence.bucket_policy(question.resource) if question.action.startswith("s3:") else trust
    return DecisionInput(request, have.rights(p), own_policy, required=question.action == "sts:AssumeRole")


def build_unread_principal(arn: str) -> Principal:
    """Return a principal that the files do not describe, as if its own policies allowed everything: they were not read."""
    name, allow = "the policies of the caller, which were not read", {"Effect": "Allow", "Action": "*", "Resource": "*"}
    held = parse_policy(name, {"Version": CURRENT, "Statement": allow})
    trust = None if ":user/" in arn or arn.endswith(":root") else Policy("trust")
    return Principal(arn.rsplit("/", 1)[-1], arn, trust, {name: held})


def build_service_context(own: dict[str, Any], evidence: Evidence) -> Context:
    return simulation.normalise_context({"aws:SourceAccount": evidence.number, "aws:SecureTransport": "true", **own})


def find_smallest_fixes(asked: DecisionInput) -> list[Fix]:
    """Return the edits after which the evaluator allows the request; [] if there are none."""
    found: list[Fix] = []
    for _ in range(6):  # one round removes the denies, then one adds the Allow of each layer
        decision = asked.decide()
        if decision.allowed:
            return found
        if decision.effect == "explicitDeny":
            found += [
                Fix("remove", d.layer, find_holder(asked, d.layer), d.policy, d.statement.name)
                for d in decision.deciding
            ]
            asked = drop_denies(asked, decision.deciding)
        else:
            raw = build_granting_statement(asked, decision.layer)
            bound = asked.rights.boundary.name if decision.layer == "boundary" and asked.rights.boundary else ""
            found.append(Fix("add", decision.layer, find_holder(asked, decision.layer), bound, statement=raw))
            asked = add_statement(asked, decision.layer, raw)
    return []


def find_holder(asked: DecisionInput, layer: str) -> str:
    return asked.request.resource if layer == "resource" else asked.request.caller.arn


def drop_denies(asked: DecisionInput, denies: tuple[DecidingStatement, ...]) -> DecisionInput:
    dropped = {(d.layer, d.policy, d.statement) for d in denies}

    def drop_statements(layer: str, one: Policy) -> Policy:
        return Policy(one.name, tuple(s for s in one.statements if (layer, one.name, s) not in dropped))

    rights = asked.rights
    changed = Rights(
        tuple(drop_statements("identity", one) for one in rights.identity),
        rights.boundary and drop_statements("boundary", rights.boundary),
        None if rights.session is None else tuple(drop_statements("session", one) for one in rights.session),
    )
    return replace(asked, rights=changed, resource=asked.resource and drop_statements("resource", asked.resource))


def add_statement(asked: DecisionInput, layer: str, raw: dict[str, Any]) -> DecisionInput:
    more, rights = parse_statement(0, raw, variables=True), asked.rights
    if layer == "identity":
        return replace(asked, rights=replace(rights, identity=(*rights.identity, Policy("new", (more,)))))
    if layer == "session":
        return replace(asked, rights=replace(rights, session=(*(rights.session or ()), Policy("new", (more,)))))
    old = rights.boundary if layer == "boundary" else asked.resource
    grown = Policy(old.name if old else "new", (*(old.statements if old else ()), more))
    if layer == "boundary":
        return replace(asked, rights=replace(rights, boundary=grown))
    return replace(asked, resource=grown)


def build_granting_statement(asked: DecisionInput, layer: str) -> dict[str, Any]:
    """Return the statement that allows this request and little else."""
    request, caller = asked.request, asked.request.caller
    raw: dict[str, Any] = {"Effect": "Allow"}
    if layer == "resource":
        raw["Principal"] = {"Service": caller.service} if caller.service else {"AWS": caller.arn}
    raw["Action"] = request.action
    if not (layer == "resource" and asked.required):
        raw["Resource"] = request.resource.replace("${", "${$}{")
    to, prefix, account = (request.context.get(k) for k in ("iam:passedtoservice", "s3:prefix", "aws:sourceaccount"))
    if layer == "identity" and request.action == "iam:PassRole" and to:
        raw["Condition"] = {"StringEquals": {"iam:PassedToService": to}}
    elif layer == "identity" and isinstance(prefix, str):
        raw["Condition"] = {"StringLike": {"s3:prefix": prefix.replace("${", "${$}{") + "*"}}
    elif layer == "resource" and caller.service == "sagemaker.amazonaws.com" and account:
        raw["Condition"] = {"StringEquals": {"aws:SourceAccount": account}}
    return raw

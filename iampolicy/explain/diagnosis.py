"""Which of the four hops of a denied call fails today, what decides it, and the smallest change that would let it through.

1 the caller's own action; 2 iam:PassRole; 3 the trust of the passed role; 4 the passed role at work.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from iampolicy import actions
from iampolicy.account.snapshot import Principal, Snapshot
from iampolicy.errors import InputError
from iampolicy.explain import simulation
from iampolicy.explain.error_parser import UNSEEN, Denial, Question
from iampolicy.explain.simulation import Asked
from iampolicy.policy.conditions import Context
from iampolicy.policy.document import CURRENT, Policy, policy, statement
from iampolicy.policy.evaluate import Caller, Deciding, Decision, Request, Rights
from ops.core.settings import ROLES, Settings
from ops.iam import expectations
from ops.iam.roles import Wanted, policy_arn

NAMED = re.compile(r"(role|user|group|policy) ([\w+=,.@-]{1,128})")


@dataclass(frozen=True)
class World:
    """What a denial is held against: the account, iam_policies/ as applied, and where to get a bucket's policy."""

    have: Snapshot
    files: Snapshot
    wanted: Sequence[Wanted]
    settings: Settings
    bucket_policy: Callable[[str], Policy | None] = lambda resource: None

    def role(self, arn: str) -> str:
        """The folder in iam_policies/ of the role, or ""."""
        return next((w.role for w in self.wanted if self.settings.role_arn(w.role) == arn), "")


@dataclass(frozen=True)
class Mend:
    """One edit: a statement to add to a layer, or one to remove; `holder` is the ARN whose policy it is."""

    verb: str
    layer: str
    holder: str
    policy: str = ""
    name: str = ""
    statement: dict[str, Any] | None = None


@dataclass(frozen=True)
class Explained:
    """`decision` is today's; None when the principal or the role is not there. `drift`: the files allow it, the account not."""

    denial: Denial
    question: Question
    asked: Asked | None
    decision: Decision | None
    mends: tuple[Mend, ...] = ()
    drift: bool = False
    notes: tuple[str, ...] = ()

    @property
    def unseen(self) -> bool:
        """Whether what AWS blames lies in no policy that can be read here."""
        layer, asked = self.denial.layer, self.question
        read = asked.action.lower().startswith("s3:") or asked.action.lower() == "sts:assumerole"
        return layer in UNSEEN or (layer == "resource" and not read)

    @property
    def denied(self) -> bool:
        return self.decision is None or not self.decision.allowed or self.unseen


def explained(denial: Denial, world: World) -> Explained:
    """The first question that is denied today, or the last one when none is."""
    for question in denial.questions:
        full, notes = completed(question, world)
        asked = put(full, world.have, world)
        decision = asked.decision() if asked else None
        if not decision or not decision.allowed:
            break
    if not asked or not decision:
        return Explained(denial, full, None, None, notes=notes)
    if decision.allowed:
        return Explained(denial, full, asked, decision, notes=notes)
    wished = put(full, world.files, world)
    drift = bool(wished and wished.decision().allowed)
    return Explained(denial, full, asked, decision, tuple(mends(asked)), drift, notes)


def completed(question: Question, world: World) -> tuple[Question, tuple[str, ...]]:
    """The question with what follows from the account, and notes on what was taken for granted.

    Raises InputError when nobody knows who asked, for what, of what.
    """
    known = actions.matching(question.action) if actions.exists(question.action) else []
    spelled = known[0] if known else actions.OPERATIONS.get(question.action.lower(), question.action)
    question = replace(question, action=spelled, resource=in_full(question.resource, world))
    if (question.hop == 3 and not question.resource) or (question.hop == 4 and not question.who.startswith("arn:")):
        question, named = by_service(question, world)
    else:
        named = ()
    lacking = [f for f, v in (("--principal", question.who), ("--resource", question.resource)) if not v]
    lacking += ["--action"] if question.action.endswith(":") else []
    if lacking:
        raise InputError(f"This text does not say enough. Say who asked for what, of what: {' '.join(lacking)}")
    if question.hop == 1 and serves(who(question, world.have, world)):
        question = replace(question, hop=4)
    if question.hop == 2 and "iam:passedtoservice" not in {key.lower() for key, _ in question.context}:
        question, named = to_service(question, world)
    return question, named


def in_full(resource: str, world: World) -> str:
    """IAM names a role, user, group or policy that is there by its name alone: `role NAME`."""
    found = NAMED.fullmatch(resource)
    if not found:
        return resource
    kind, name = found.groups()
    there = {"role": world.have.roles, "user": world.have.users}.get(kind, {}).get(name)
    ours = next((arn for arn in world.have.policies if kind == "policy" and arn.endswith(f"/{name}")), "")
    return there.arn if there else ours or f"arn:aws:iam::{world.settings.aws.account}:{kind}/{name}"


def by_service(question: Question, world: World) -> tuple[Question, tuple[str, ...]]:
    """A service does not always name its role: it is ours, when one of iam_policies/ only is for the service."""
    arns = [world.settings.role_arn(w.role) for w in world.wanted if question.who in services(w.trust)]
    if len(arns) != 1:
        return (question if question.hop == 3 else replace(question, who="")), ()
    note = f"the text names no role; taken for granted: {arns[0].rsplit('/', 1)[1]}"
    filled = replace(question, resource=arns[0]) if question.hop == 3 else replace(question, who=arns[0])
    return filled, (note,)


def to_service(question: Question, world: World) -> tuple[Question, tuple[str, ...]]:
    """A denied PassRole does not say to whom; when one service only may take the role, it is that one."""
    role = who(replace(question, who=question.resource), world.have, world)
    takers = services(role.trust_policy) if role else []
    if len(takers) != 1:
        return question, ("the text does not say to which service: give it with -c iam:PassedToService=SERVICE",)
    note = f"iam:PassedToService is taken to be {takers[0]}, the one service that may take the role"
    return replace(question, context=(*question.context, ("iam:PassedToService", takers[0]))), (note,)


def services(trust: Policy) -> list[str]:
    """The services that a trust lets in."""
    allows = [s for s in trust.statements if s.allow and "principal" not in s.negated]
    return list(dict.fromkeys(value for s in allows for kind, value in s.principals or () if kind == "Service"))


def serves(p: Principal | None) -> bool:
    """Whether only services take the role: then it is at work for one, and no person's."""
    allows = [s for s in p.trust_policy.statements if s.allow] if p else []
    kinds = {kind for s in allows for kind, _ in s.principals or ()}
    return kinds == {"Service"}


def who(question: Question, have: Snapshot, world: World) -> Principal | None:
    try:
        return simulation.find(have, question.who, world.settings)[0]
    except InputError:
        return None


def put(question: Question, have: Snapshot, world: World) -> Asked | None:
    """The question, ready to be decided in an account; None when who asks, or the role to be taken, is not there."""
    own = dict(question.context)
    trust = simulation.trust(have, question.action, question.resource)
    if question.hop == 3:
        request = Request(Caller(service=question.who), question.action, question.resource, service_context(own, world))
        return Asked(request, Rights(), trust, required=True) if trust else None
    try:
        p, caller = simulation.find(have, question.who, world.settings)
    except InputError:
        return None
    keys = simulation.context(p, (question.action, question.resource), world.settings.aws.region, own)
    request = Request(caller, question.action, question.resource, simulation.lowered(keys))
    own_policy = world.bucket_policy(question.resource) if question.action.startswith("s3:") else trust
    return Asked(request, have.rights(p), own_policy, required=question.action == "sts:AssumeRole")


def service_context(own: dict[str, Any], world: World) -> Context:
    return simulation.lowered({"aws:SourceAccount": world.settings.aws.account, "aws:SecureTransport": "true", **own})


def mends(asked: Asked) -> list[Mend]:
    """The edits after which the evaluator allows the request; none when it would not even then."""
    found: list[Mend] = []
    for _ in range(6):  # one round takes the denials away, then one for each layer that has to allow
        decision = asked.decision()
        if decision.allowed:
            return found
        if decision.effect == "explicitDeny":
            found += [
                Mend("remove", d.layer, holder(asked, d.layer), d.policy, d.statement.name) for d in decision.deciding
            ]
            asked = without(asked, decision.deciding)
        else:
            raw = granting(asked, decision.layer)
            bound = asked.rights.boundary.name if decision.layer == "boundary" and asked.rights.boundary else ""
            found.append(Mend("add", decision.layer, holder(asked, decision.layer), bound, statement=raw))
            asked = with_statement(asked, decision.layer, raw)
    return []


def holder(asked: Asked, layer: str) -> str:
    return asked.request.resource if layer == "resource" else asked.request.caller.arn


def without(asked: Asked, denies: tuple[Deciding, ...]) -> Asked:
    gone = {(d.layer, d.policy, d.statement) for d in denies}

    def kept(layer: str, one: Policy) -> Policy:
        return Policy(one.name, tuple(s for s in one.statements if (layer, one.name, s) not in gone))

    rights = asked.rights
    mended = Rights(
        tuple(kept("identity", one) for one in rights.identity),
        rights.boundary and kept("boundary", rights.boundary),
        None if rights.session is None else tuple(kept("session", one) for one in rights.session),
    )
    return replace(asked, rights=mended, resource=asked.resource and kept("resource", asked.resource))


def with_statement(asked: Asked, layer: str, raw: dict[str, Any]) -> Asked:
    more, rights = statement(0, raw, variables=True), asked.rights
    if layer == "identity":
        return replace(asked, rights=replace(rights, identity=(*rights.identity, Policy("new", (more,)))))
    if layer == "session":
        return replace(asked, rights=replace(rights, session=(*(rights.session or ()), Policy("new", (more,)))))
    old = rights.boundary if layer == "boundary" else asked.resource
    grown = Policy(old.name if old else "new", (*(old.statements if old else ()), more))
    if layer == "boundary":
        return replace(asked, rights=replace(rights, boundary=grown))
    return replace(asked, resource=grown)


def granting(asked: Asked, layer: str) -> dict[str, Any]:
    """The statement that allows this request and little else."""
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


def denied_by(mend: Mend, world: World) -> list[str]:
    """The entries of the role's expect.toml that the edit would break: somebody has said that this must not be."""
    want = next((w for w in world.wanted if w.role == world.role(mend.holder)), None)
    if not want or not mend.statement or mend.layer not in ("identity", "boundary"):
        return []
    old = want.boundary if mend.layer == "boundary" else None
    document = {"Version": CURRENT, "Statement": [*(old.raw_statements if old else []), mend.statement]}
    changed = policy("", document)
    grown = (
        replace(want, boundary=changed)
        if mend.layer == "boundary"
        else replace(want, permissions=want.permissions | {"permissions-explained": changed})
    )
    try:
        already = {one.expected.told for one in expectations.broken(want, world.settings)}
        then = [one.expected.told for one in expectations.broken(grown, world.settings)]
    except InputError:  # without expectations, or with none that can be read, there is still a denial to explain
        return []
    return [one for one in then if one not in already]


def file(mend: Mend, asked: Asked, world: World) -> str:
    """Where in iam_policies/ the edit belongs; "" when the role is none of ours, or the policy a bucket's."""
    role = world.role(mend.holder)
    want = next((w for w in world.wanted if w.role == role), None)
    if not want:
        return ""
    if mend.layer in ("resource", "boundary"):
        return f"{ROLES}/{role}/{'trust' if mend.layer == 'resource' else 'boundary'}.json"
    stems = {policy_arn(role, stem, world.settings): stem for stem in want.permissions}
    near = [one.policy for one in simulation.near(asked) if one.layer == "identity"]
    named = next((stems[arn] for arn in (mend.policy, *near) if arn in stems), "")
    prefix = f'"{asked.request.action.partition(":")[0]}:'
    likely = max(
        want.permissions, key=lambda stem: str(want.permissions[stem].document).replace("'", '"').count(prefix)
    )
    return f"{ROLES}/{role}/{named or likely}.json"

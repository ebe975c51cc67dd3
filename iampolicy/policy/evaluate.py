"""Policy evaluation: whether a principal may perform an action on a resource. All of Kennel uses this one evaluator.

The order is AWS's. An explicit Deny anywhere decides; otherwise the identity's policies, or the resource's own policy that
names the principal, must allow. Boundary and session policies only restrict. Organizations' policies (SCP, RCP) and KMS
grants are not evaluated: nothing that Kennel reads contains them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from iampolicy.policy.conditions import Context, evaluate_conditions, resolve_variables
from iampolicy.policy.document import (
    LITERAL,
    Policy,
    Statement,
    compile_arn_glob,
    has_misplaced_variable,
    is_about_action,
)

Effect = Literal["allowed", "implicitDeny", "explicitDeny"]


@dataclass(frozen=True)
class Caller:
    """The caller: a user's or role's ARN, and for a role the session's; or an AWS service, or a federated identity provider."""

    arn: str = ""
    session: str = ""
    service: str = ""
    federated: str = ""

    @property
    def account(self) -> str:
        return self.arn.split(":")[4] if self.arn.count(":") >= 5 else ""


@dataclass(frozen=True)
class Request:
    """One action on one resource. Context keys are in lower case; a key with several values has a list."""

    caller: Caller
    action: str
    resource: str
    context: Context = field(default_factory=dict)


@dataclass(frozen=True)
class Rights:
    """The policies of a principal: identity (its groups' included), boundary, and session policies (None without any)."""

    identity: tuple[Policy, ...] = ()
    boundary: Policy | None = None
    session: tuple[Policy, ...] | None = None


@dataclass(frozen=True)
class DecidingStatement:
    """A statement that decided the request, with its policy and its layer: identity, boundary, session or resource."""

    layer: str
    policy: str
    statement: Statement


@dataclass(frozen=True)
class Decision:
    """The decision on a request. `layer` is the one that denied, explicitly or by allowing nothing.

    `missing` are the context keys that the request lacks and that a statement about its action and resource requires.
    """

    effect: Effect
    layer: str = ""
    deciding: tuple[DecidingStatement, ...] = ()
    missing: frozenset[str] = frozenset()

    @property
    def allowed(self) -> bool:
        return self.effect == "allowed"


@dataclass
class Pool:
    """The statements of one layer that apply to a request, by effect."""

    allows: list[DecidingStatement] = field(default_factory=list)
    denies: list[DecidingStatement] = field(default_factory=list)
    missing: set[str] = field(default_factory=set)


def gather_statements(layer: str, policies: Iterable[Policy], request: Request, possible: bool) -> Pool:
    pool = Pool()
    for policy in policies:
        for one in policy.statements:
            if not (is_about_action(one, request.action) and is_about_resource(one, request)):
                continue
            applies, lacking = evaluate_conditions(one, request.context, one.allow if possible else None)
            if applies:
                (pool.allows if one.allow else pool.denies).append(DecidingStatement(layer, policy.name, one))
            else:
                pool.missing |= lacking
    return pool


def is_about_resource(one: Statement, request: Request) -> bool:
    """Return whether the statement is about the request's resource; one without Resource, as in a trust policy, always is."""
    if not one.resources and "resource" not in one.negated:
        return True
    fitting = [match_resource(pattern, request, one.variables) for pattern in one.resources]
    if "resource" not in one.negated:
        return any(fitting)
    return not any(fitting) and not (one.allow and None in fitting)


def match_resource(pattern: str, request: Request, variables: bool) -> bool | None:
    """Return whether the pattern matches the request's resource.

    None means that it uses a policy variable without a value, or one before the resource's own part, where AWS substitutes none.
    """
    if pattern in ("*", request.resource):
        return True
    if variables and "${" in pattern:
        filled = resolve_variables(pattern, request.context)
        if filled is None or has_misplaced_variable(pattern):
            return None
        pattern = filled
    if not any(sign in pattern for sign in "*?" + LITERAL):
        return pattern == request.resource
    return compile_arn_glob(pattern).fullmatch(request.resource) is not None


def match_caller(one: Statement, caller: Caller, bounded: bool = False) -> str:
    """Return how a resource's policy names the caller: "itself" (user, session, service), "role", "account" or "" (not at all).

    Naming an account delegates to that account's own policies. `*` counts as naming the role. A Deny with NotPrincipal exempts
    only a caller that it names in full, with its account and session, and never one that has a boundary.
    """
    ways = [match_principal(kind, value, caller) for kind, value in one.principals or ()]
    if "principal" in one.negated:
        spared = any(ways) if one.allow else ("AWS", "*") in (one.principals or ()) or is_exempt(ways, caller, bounded)
        return "" if spared else "role"
    return next((way for way in ("itself", "role", "account") if way in ways), "")


def is_exempt(ways: list[str], caller: Caller, bounded: bool) -> bool:
    if not caller.arn:
        return "itself" in ways
    whole = {"account"}
    if ":user/" in caller.arn:
        whole |= {"itself"}
    elif ":role/" in caller.arn:
        whole |= {"role", "itself"} if caller.session else {"role"}
    return whole <= set(ways) and not bounded


def match_principal(kind: str, value: str, caller: Caller) -> str:
    if kind in ("Service", "Federated"):
        return "itself" if value == (caller.service if kind == "Service" else caller.federated) != "" else ""
    if kind != "AWS" or not (caller.arn or value == "*"):
        return ""
    if value == "*":
        return "role"
    if value in (caller.account, f"arn:aws:iam::{caller.account}:root"):
        return "account"
    if value == caller.session or (value == caller.arn and ":user/" in value):
        return "itself"
    return "role" if value == caller.arn else ""


def split_by_naming(policy: Policy | None, caller: Caller, bounded: bool) -> dict[str, Policy]:
    """Split the resource's policy by the way in which its statements name the caller."""
    parts: dict[str, list[Statement]] = {}
    for one in policy.statements if policy else ():
        if way := match_caller(one, caller, bounded):
            parts.setdefault(way, []).append(one)
    return {way: Policy(policy.name, tuple(found)) for way, found in parts.items() if policy}


def decide_request(
    request: Request,
    rights: Rights,
    resource: Policy | None = None,
    owner: str = "",
    required: bool = False,
    possible: bool = False,
) -> Decision:
    """Return the decision on one request.

    `resource` is the resource's own policy and `owner` its account, where that is not the caller's. With `required`, this policy
    must allow in any case, as a role's trust policy must. With `possible`, decide whether any request with these context keys, and
    other unknown ones, could be allowed.
    """
    identity = gather_statements("identity", rights.identity, request, possible)
    caps = {"boundary": gather_statements("boundary", [rights.boundary], request, possible)} if rights.boundary else {}
    if rights.session is not None:
        caps["session"] = gather_statements("session", rights.session, request, possible)
    parts = split_by_naming(resource, request.caller, rights.boundary is not None)
    pools = {way: gather_statements("resource", [part], request, possible) for way, part in parts.items()}
    every = [identity, *caps.values(), *pools.values()]
    missing = frozenset(key for pool in every for key in pool.missing)
    if denies := tuple(found for pool in every for found in pool.denies):
        return Decision("explicitDeny", denies[0].layer, denies, missing)
    granted = {way: pool.allows for way, pool in pools.items() if pool.allows}
    named_directly = granted.get("itself", []) + granted.get("role", [])
    foreign = bool(owner) and owner != request.caller.account
    if (foreign or required) and not granted:
        return Decision("implicitDeny", "resource", (), missing)
    if not identity.allows and ((foreign and request.caller.arn) or not named_directly):
        return Decision("implicitDeny", "identity", (), missing)
    if (
        foreign or "itself" not in granted
    ):  # A grant from another account does not lift the caller's own boundary or session policy.
        for layer, cap in caps.items():
            if not cap.allows:
                return Decision("implicitDeny", layer, (), missing)
    allowing = [*identity.allows, *(found for pool in (*pools.values(), *caps.values()) for found in pool.allows)]
    return Decision("allowed", "", tuple(allowing), missing)

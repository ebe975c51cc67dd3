"""The simulation of one request: find the caller and its context keys, and describe what decides and which statements nearly apply."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from difflib import get_close_matches
from typing import Any

from iampolicy import actions
from iampolicy.account.snapshot import Principal, Snapshot
from iampolicy.errors import InputError
from iampolicy.policy.conditions import Context, evaluate_conditions
from iampolicy.policy.document import Policy, Statement, as_policy, compile_arn_glob, is_about_action
from iampolicy.policy.evaluate import Caller, Decision, Request, Rights, decide_request, is_about_resource, match_caller

ONE_REGION = {"iam": "us-east-1", "organizations": "us-east-1", "route53": "us-east-1", "cloudfront": "us-east-1"}
ABSENCES = {
    "identity": "no identity policy allows it",
    "boundary": "the permissions boundary does not allow it",
    "session": "the session policy does not allow it",
    "resource": "the resource-based policy, such as a trust policy or a bucket policy, does not allow it",
}


@dataclass(frozen=True)
class DecisionInput:
    """A request with everything that decides it; the fields are those of `decide_request`."""

    request: Request
    rights: Rights
    resource: Policy | None = None
    required: bool = False

    def decide(self, possible: bool = False) -> Decision:
        return decide_request(self.request, self.rights, self.resource, required=self.required, possible=possible)


@dataclass(frozen=True)
class NearMiss:
    """An Allow for the action that does not apply: it names another resource or principal, or a condition fails."""

    layer: str
    policy: str
    statement: Statement
    lacks: str  # resource, principal or condition
    why: str

    @property
    def text(self) -> str:
        return f"{self.layer}: {extract_policy_name(self.policy)} / {self.statement.name}: {self.why}"


def extract_policy_name(policy: str) -> str:
    """Return a managed policy's name from its ARN, an inline policy's name as it is."""
    return policy.rsplit("/", 1)[-1] if policy.startswith("arn:") else policy


def resolve_principal(have: Snapshot, name: str, prefix: str = "") -> tuple[Principal, Caller]:
    """Find a role or user by its name, by a role's name without `prefix`, or by the ARN of the principal or its session.

    Raises InputError if there is none, and for a name that is one role's short name and another principal's full name.
    """
    if name.startswith("arn:"):
        parts = name.split(":", 5)
        kind, _, rest = parts[-1].partition("/")
        role = have.roles.get(rest.partition("/")[0]) if kind == "assumed-role" else None
        if role and role.caller.account == parts[4]:
            return role, replace(role.caller, session=name)
        found = [p for p in have.principals() if p.arn == name] or find_by_last_part(have, name)
    else:
        places = dict.fromkeys([("role", f"{prefix}{name}"), ("role", name), ("user", name)])
        kinds = {"role": have.roles, "user": have.users}
        found = [kinds[kind][full] for kind, full in places if full in kinds[kind]]
    if len(found) > 1:
        raise InputError(f"{name} is ambiguous: {' or '.join(p.arn for p in found)}. Give the ARN.")
    if not found:
        short = [one.removeprefix(prefix) for one in have.roles]
        close = get_close_matches(name[:200].rsplit("/", 1)[-1], dict.fromkeys([*short, *have.roles, *have.users]), 1)
        own = [one.removeprefix(prefix) for one in have.roles if prefix and one.startswith(prefix)]
        others = f" The stack's roles: {', '.join(own[:12])}." if own else ""
        meant = f" Did you mean {close[0]}?" if close else others or f" There are {len(have.roles)} roles."
        raise InputError(f"There is no role or user {name[:200]!r}.{meant}")
    return found[0], found[0].caller


def find_by_last_part(have: Snapshot, arn: str) -> list[Principal]:
    """Return the role or user that the ARN names without its path, or with another: a name is unique in an account."""
    parts = arn.split(":", 5)
    kind, _, rest = parts[-1].partition("/")
    p = {"role": have.roles, "user": have.users}.get(kind, {}).get(rest.rsplit("/", 1)[-1])
    return [p] if p and len(parts) == 6 and p.caller.account == parts[4] else []


def resolve_action(name: str) -> str:
    """Return the action in AWS's spelling. Raises InputError for one that AWS does not have."""
    if not actions.is_known_action(name):
        close = actions.find_nearest_action(name[:200])
        meant = f" Did you mean {close}?" if close else " An action is service:Operation, as s3:GetObject."
        raise InputError(f"AWS has no action {name[:200]!r}.{meant}")
    return actions.list_matching_actions(name)[0]


def resolve_resource(name: str, action: str) -> tuple[str, str]:
    """Return the resource of the action's request, and a note if that is not the one given or does not fit the action.

    Raises InputError for anything but an ARN or *.
    """
    if name != "*" and (not name.startswith("arn:") or name.count(":") < 5):
        raise InputError(f"{name[:200]!r} is neither an ARN nor *. The ARN of an object is arn:aws:s3:::BUCKET/KEY.")
    if name == "*":
        return name, ""
    if actions.is_unscopable(action):
        return (
            "*",
            f"{action} takes no resource: its requests are for *, and only statements with Resource * cover them.",
        )
    if not is_possible_resource(name, action):
        return (
            name,
            f"{action} does not act on such a resource, but on {' '.join(actions.list_resource_arns(action)[:3])}",
        )
    return name, ""


def is_possible_resource(name: str, action: str) -> bool:
    """Return whether the ARN is of a type that the action acts on. A bucket's pattern would fit its objects too."""
    kinds = {one["key"] for one in actions.list_resource_types(action)} if action.startswith("s3:") else set()
    if "bucket" in kinds and "object" not in kinds and name.startswith("arn:aws:s3:::"):
        return "/" not in name
    return any(compile_arn_glob(pattern).fullmatch(name) for pattern in actions.list_resource_arns(action))


def parse_context_flags(pairs: Iterable[str]) -> dict[str, str | list[str]]:
    """Parse the flags -c key=value; a key that occurs twice has both values. Raises InputError for anything else."""
    found: dict[str, str | list[str]] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or ":" not in key:
            raise InputError(f"-c takes key=value, as -c aws:SourceIp=203.0.113.7, not {pair[:200]!r}.")
        before = found.get(key)
        found[key] = value if before is None else [*(before if isinstance(before, list) else [before]), value]
    return found


def build_context(
    p: Principal, request: tuple[str, str], region: str, own: Mapping[str, Any]
) -> dict[str, str | list[str]]:
    """Return the context keys of every request by the principal for an (action, resource), overridden by the `own` keys."""
    now = datetime.now(UTC)
    arn, service = request[1], request[0].partition(":")[0]
    here = arn.split(":")[3] if arn.count(":") >= 5 else ""
    keys: dict[str, str | list[str]] = {
        "aws:PrincipalArn": p.arn,
        "aws:PrincipalAccount": p.caller.account,
        "aws:PrincipalType": "User" if p.trust is None else "AssumedRole",
        "aws:PrincipalIsAWSService": "false",
        "aws:ViaAWSService": "false",
        "aws:SecureTransport": "true",
        "aws:CurrentTime": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "aws:EpochTime": str(int(now.timestamp())),
        "aws:RequestedRegion": ONE_REGION.get(service) or here or region,
    }
    if p.trust is None:
        keys["aws:username"] = p.name
    keys |= {f"aws:PrincipalTag/{key}": value for key, value in p.tags.items()}
    over = {key.lower() for key in own}
    return {key: value for key, value in keys.items() if key.lower() not in over} | dict(own)


def normalise_context(context: Mapping[str, Any]) -> Context:
    return {key.lower(): value for key, value in context.items()}


def find_role_trust(have: Snapshot, action: str, arn: str) -> Policy | None:
    """Return the trust policy of the role that is to be assumed; None for another action, or a missing role."""
    if action.lower() != "sts:assumerole":
        return None
    role = next((r for r in have.roles.values() if r.arn == arn), None)
    return as_policy(f"trust policy of {role.name}", role.trust_policy) if role else None


def iterate_layer_policies(asked: DecisionInput) -> Iterator[tuple[str, Policy]]:
    yield from (("identity", one) for one in asked.rights.identity)
    if asked.rights.boundary:
        yield "boundary", asked.rights.boundary
    yield from (("session", one) for one in asked.rights.session or ())
    if asked.resource:
        yield "resource", asked.resource


def find_near_misses(asked: DecisionInput) -> list[NearMiss]:
    """Return the statements that allow the action, but not this request."""
    found, request = [], asked.request
    for layer, one in iterate_layer_policies(asked):
        for s in one.statements:
            if not s.allow or not is_about_action(s, request.action):
                continue
            if layer == "resource" and not match_caller(s, request.caller):
                who = ", ".join(value for _, value in s.principals or ()) or "no principal"
                found.append(NearMiss(layer, one.name, s, "principal", f"it is for {who}"))
            elif not is_about_resource(s, request):
                where = ("all except " if "resource" in s.negated else "") + ", ".join(s.resources[:3])
                more = f" and {len(s.resources) - 3} more" if len(s.resources) > 3 else ""
                found.append(NearMiss(layer, one.name, s, "resource", f"it allows the action on {where}{more}"))
            elif failing := describe_unmet_conditions(s, request):
                found.append(NearMiss(layer, one.name, s, "condition", failing))
    return found


def describe_unmet_conditions(s: Statement, request: Request) -> str:
    """Return a text on the conditions of the statement that the request does not meet."""
    failing = [
        one for one in s.conditions if not evaluate_conditions(replace(s, conditions=(one,)), request.context)[0]
    ]
    return "; ".join(describe_condition(one, request) for one in failing)


def describe_condition(condition: tuple[str, str, tuple[str, ...]], request: Request) -> str:
    operator, key, values = condition
    value = request.context.get(key)
    has = "no such key" if value is None else value if isinstance(value, str) else ", ".join(value)
    return f"{operator} {restore_key_case(key, request.action)} requires {' or '.join(values)}; the request has {has}"


def restore_key_case(key: str, action: str) -> str:
    """Return the condition key in AWS's spelling."""
    found = actions.find_known_key(key, actions.GLOBAL_KEYS) or actions.find_known_key(
        key, actions.list_condition_keys(action)
    )
    return found if found and "$" not in found else key


def format_verdict(decision: Decision) -> str:
    if decision.effect == "implicitDeny":
        return f"implicitDeny: {ABSENCES[decision.layer]}"
    by = dict.fromkeys(f"{d.layer}: {extract_policy_name(d.policy)} / {d.statement.name}" for d in decision.deciding)
    return f"{decision.effect} by " + "; ".join(list(by)[:4]) + (f"; and {len(by) - 4} more" if len(by) > 4 else "")


def describe_layers(asked: DecisionInput, decision: Decision, context: Mapping[str, Any]) -> list[str]:
    """Return lines that show each layer's policies, near misses, and context keys."""
    misses, rights = find_near_misses(asked), asked.rights
    names = ", ".join(extract_policy_name(one.name) for one in rights.identity) or "none"
    lines = [f"identity policies: {names}"]
    lines += [f"permissions boundary: {extract_policy_name(rights.boundary.name) if rights.boundary else 'none'}"]
    lines += [f"session policies: {len(rights.session) if rights.session is not None else 'none'}"]
    lines += [f"resource-based policy: {asked.resource.name if asked.resource else 'none'}"]
    lines += [f"near miss: {one.text}" for one in misses[:8]]
    lines += [f"near misses: {len(misses) - 8} more"] * (len(misses) > 8)
    lines += ["context: " + " ".join(f"{key}={value}" for key, value in context.items())]
    missing = sorted(restore_key_case(key, asked.request.action) for key in decision.missing)
    return lines + [f"missing condition keys: {', '.join(missing)} (give them with -c)"] * bool(missing)

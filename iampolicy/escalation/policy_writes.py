"""Escalation paths that write policies: a principal with arbitrary policies is limited only by its permissions boundary."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain

from iampolicy.account.snapshot import Principal
from iampolicy.escalation.account_model import AWS, WELL_KNOWN, AccountModel
from iampolicy.escalation.outcomes import ADMIN, BOUNDED, GAINS, Outcome, choose_strongest, compute_outcome
from iampolicy.escalation.paths import Path
from iampolicy.escalation.permission_set import ADMINISTRATOR, PermissionSet, find_common_arn
from iampolicy.policy.document import VARIABLE, Policy, compile_glob, parse_policy
from iampolicy.policy.evaluate import Decision, Rights

VERSION = "iam:CreatePolicyVersion"
NAMING = ("stringequals", "stringlike", "arnequals", "arnlike")  # operators whose value in a policy limits what matches


def compute_write_outcome(
    model: AccountModel, permissions: PermissionSet, target: Principal, decision: Decision
) -> Outcome:
    """Return the outcome for a holder that writes the target's policies and becomes it: only a fixed boundary limits it."""
    if not target.boundary or can_lift_boundary(model, permissions, target):
        return Outcome(ADMIN, decision, target, ("administrator access",))
    bounds = dict.fromkeys([target.boundary, *list_possible_boundaries(model, permissions, target)])
    note = "within its permissions boundary"
    held = (model.build_permission_set(Rights((find_assumed_policy(model, arn),)), target) for arn in bounds)
    worst = choose_strongest(compute_outcome(model, permissions, one, decision, target, note) for one in held)
    return worst or Outcome(BOUNDED, decision, target, note=note)


def find_assumed_policy(model: AccountModel, arn: str) -> Policy:
    """Return the policy; one whose document is missing is assumed to allow everything."""
    return model.find_policy_text(arn) or WELL_KNOWN[ADMINISTRATOR]


def can_lift_boundary(model: AccountModel, permissions: PermissionSet, target: Principal) -> bool:
    """Return whether the holder may delete the target's boundary, replace it by one that allows everything, or rewrite it."""
    put = permissions.may(
        f"iam:Put{classify_principal(target)}PermissionsBoundary",
        target.arn,
        {"iam:permissionsboundary": ADMINISTRATOR},
    )
    delete = permissions.may(
        f"iam:Delete{classify_principal(target)}PermissionsBoundary", target.arn, build_boundary_context(target)
    )
    return bool(put or delete or (is_customer_managed(target.boundary) and permissions.may(VERSION, target.boundary)))


def list_possible_boundaries(model: AccountModel, permissions: PermissionSet, target: Principal) -> Iterator[str]:
    """Yield the snapshot's policies that the holder may make the target's boundary."""
    put = f"iam:Put{classify_principal(target)}PermissionsBoundary"
    if put.lower() in permissions.actions:
        for arn in list_matching_policies(model, permissions, put, "iam:permissionsboundary", model.snapshot.policies):
            if permissions.may(put, target.arn, {"iam:permissionsboundary": arn}):
                yield arn


def write_policy(model: AccountModel, permissions: PermissionSet, action: str, target: Principal) -> Outcome | None:
    """Return the outcome if the holder writes one of the target's policies; None if it may not."""
    if action == VERSION:
        hits = (permissions.may(action, arn) for arn in target.attached if is_customer_managed(arn))
        hit = next((one for one in hits if one), None)
    elif action.startswith("iam:Attach"):
        return attach_policy(model, permissions, action, target.arn, target)
    else:
        hit = permissions.may(action, target.arn, build_boundary_context(target))
    return compute_write_outcome(model, permissions, target, hit) if hit else None


def attach_policy(
    model: AccountModel, permissions: PermissionSet, action: str, to: str, target: Principal
) -> Outcome | None:
    """Return the outcome of attaching a policy that allows everything or can be rewritten, else the strongest available."""
    weak = permissions.may(action, to, build_boundary_context(target))
    if not weak:
        return None
    places = [permissions.find_resource(name) for name in ("iam:CreatePolicy", VERSION)]
    among = list_matching_policies(model, permissions, action, "iam:policyarn", model.strong_policies)
    to_all = (arn for arn in among if model.strong_policies[arn].is_admin)
    for arn in chain([ADMINISTRATOR], (place[0] for place in places if place), to_all):
        if hit := permissions.may(action, to, {**build_boundary_context(target), "iam:policyarn": arn}):
            return compute_write_outcome(model, permissions, target, hit)
    found: list[Outcome | None] = [
        Outcome(BOUNDED, weak, target, note="the policies that it may attach give it no further permissions")
    ]
    for arn, name in [*((arn, "") for arn in among), *list_aws_policies(model, permissions, action)]:
        if hit := permissions.may(action, to, {**build_boundary_context(target), "iam:policyarn": arn}):
            found.append(compute_attach_outcome(model, permissions, arn, target, hit, name))
    return choose_strongest(found)


def compute_attach_outcome(
    model: AccountModel, permissions: PermissionSet, arn: str, target: Principal, decision: Decision, name: str
) -> Outcome:
    """Return the outcome of attaching this policy, which may let the target write its own. `name` describes an AWS policy."""
    bound = model.find_policy_text(target.boundary) if target.boundary else None
    held = model.build_permission_set(Rights((find_assumed_policy(model, arn),), bound), target)
    if model.find_policy_text(arn) is None:
        found = compute_outcome(model, permissions, held, decision, target)
        gains = (f"the permissions of {name}, whose document is missing",) if found.level else ()
        return Outcome(min(found.level, GAINS), decision, target, gains)
    attach, put = f"iam:Attach{classify_principal(target)}Policy", f"iam:Put{classify_principal(target)}Policy"
    if held.may(attach, target.arn, {**build_boundary_context(target), "iam:policyarn": ADMINISTRATOR}) or held.may(
        put, target.arn, build_boundary_context(target)
    ):
        return compute_write_outcome(model, permissions, target, decision)
    return compute_outcome(model, permissions, held, decision, target)


def list_aws_policies(model: AccountModel, permissions: PermissionSet, action: str) -> Iterator[tuple[str, str]]:
    """Yield (ARN, name) of AWS policies missing from the snapshot: well-known ones, and those that required patterns match."""
    yield from ((arn, arn.removeprefix(AWS)) for arn in WELL_KNOWN if arn not in model.snapshot.policies)
    for pattern in list_required_values(model, permissions, action, "iam:policyarn") or ["*"]:
        arn = find_common_arn(VARIABLE.sub("*", pattern), f"{AWS}*")
        if arn is not None and arn not in model.snapshot.policies and arn not in WELL_KNOWN:
            yield (
                arn,
                f"AWS managed policy {pattern.removeprefix(AWS)}" if pattern.strip("*") else "an AWS managed policy",
            )


def list_required_values(model: AccountModel, permissions: PermissionSet, action: str, key: str) -> list[str]:
    """Return the values that allowing statements require of a key; an empty list when one of them requires none."""
    tests = [
        [value for operator, of, values in one.conditions if of == key and operator.lower() in NAMING for value in values]
        for policy in permissions.index_action(action).rights.identity
        for one in policy.statements
        if one.allow
    ]  # fmt: skip
    return [value for values in tests for value in values] if all(tests) else []


def list_matching_policies(
    model: AccountModel, permissions: PermissionSet, action: str, key: str, arns: Iterable[str]
) -> list[str]:
    """Return the ARNs that the conditions on this key could allow, which are few where an account has many stacks."""

    def find() -> list[str]:
        patterns = list_required_values(model, permissions, action, key)
        open_to_all = not patterns or any("${" in value for value in patterns)
        fits = [compile_glob(value).fullmatch for value in patterns]
        return [arn for arn in arns if open_to_all or any(fit(arn) for fit in fits)]

    return model.remember(permissions, ("matching", action), find)


def classify_principal(target: Principal) -> str:
    return "User" if target.trust is None else "Role"


def is_customer_managed(arn: str) -> bool:
    """Return whether the policy belongs to the account; AWS's policies cannot be written."""
    return not arn.startswith("arn:aws:iam::aws:")


def build_boundary_context(target: Principal) -> dict[str, str | list[str]]:
    """Return the known context keys of a request that changes the target: its boundary, or an empty list without one."""
    return {"iam:permissionsboundary": target.boundary or []}


def compute_newcomer_outcome(permissions: PermissionSet, path: Path, note: str) -> Outcome | None:
    """Return the outcome for a path that reaches no principal of the snapshot, but is allowed on any new one."""
    plain = {
        "iam:policyarn": ADMINISTRATOR,
        "iam:permissionsboundary": ADMINISTRATOR if "Boundary" in path.actions[0] else [],
    }
    places = [permissions.find_resource(action, plain) for action in path.actions]
    if places[0] and all(place and place[2] for place in places):
        return Outcome(GAINS, places[0][1], note=note)
    return None


def write_own_policies(model: AccountModel, path: Path, permissions: PermissionSet, p: Principal) -> Outcome | None:
    action = path.actions[0]
    found: list[Outcome | None] = []
    if "Group" in action:
        groups = [model.snapshot.groups[name].arn for name in p.groups if name in model.snapshot.groups]
        found = [write_group_policy(model, permissions, action, arn, p) for arn in groups]
    elif action == VERSION or classify_principal(p) in action:
        found = [write_policy(model, permissions, action, p)]
    note = "not on itself, but on any new principal"
    return (
        choose_strongest(found)
        or compute_newcomer_outcome(permissions, path, note)
        or model.remember(permissions, path.id, lambda: change_others(model, action, permissions))
    )


def write_group_policy(
    model: AccountModel, permissions: PermissionSet, action: str, arn: str, p: Principal
) -> Outcome | None:
    if action.startswith("iam:Attach"):
        return attach_policy(model, permissions, action, arn, p)
    hit = permissions.may(action, arn)
    return compute_write_outcome(model, permissions, p, hit) if hit else None


def change_others(model: AccountModel, action: str, permissions: PermissionSet) -> Outcome | None:
    """Return the outcome if the holder may change other principals. Other paths decide whether it can become one of them."""
    snapshot = model.snapshot
    if action == VERSION:
        held = {arn: p for p in snapshot.principals() for arn in p.attached if is_customer_managed(arn)}
    elif "Group" in action:
        users = snapshot.users.values()
        held = {snapshot.groups[name].arn: p for p in users for name in p.groups if name in snapshot.groups}
    else:
        held = {p.arn: p for p in (snapshot.users if "User" in action else snapshot.roles).values()}
    for arn in permissions.candidates(action, held):
        if hit := permissions.may(action, arn, build_boundary_context(held[arn])):
            return Outcome(BOUNDED, hit, held[arn], note="it changes the permissions of others, not its own")
    return None


def restore_version(model: AccountModel, path: Path, permissions: PermissionSet, p: Principal) -> Outcome | None:
    rights, found = model.rights(p), []
    for arn in p.attached:
        kept = model.snapshot.policies.get(arn)
        hit = permissions.may(path.actions[0], arn) if kept and kept.raw and is_customer_managed(arn) else None
        for ident in kept.raw if kept and hit else ():
            older = parse_policy(arn, kept.version(ident) if kept else {})
            identity = tuple(older if one.name == arn else one for one in rights.identity)
            other = model.build_permission_set(Rights(identity, rights.boundary), p)
            if hit:
                found.append(compute_outcome(model, permissions, other, hit, p, f"with version {ident} of {arn}"))
    return choose_strongest(found) or compute_newcomer_outcome(
        permissions, path, "it may restore any version of any policy"
    )


def lift_boundary(model: AccountModel, path: Path, permissions: PermissionSet, p: Principal) -> Outcome | None:
    action = path.actions[0]
    if not p.boundary or classify_principal(p) not in action:
        return None
    rights, found = model.rights(p), []
    put = "Put" in action
    known = (
        list_matching_policies(model, permissions, action, "iam:permissionsboundary", model.snapshot.policies)
        if put
        else ()
    )
    for arn in [ADMINISTRATOR, *known] if put else [p.boundary]:
        if hit := permissions.may(action, p.arn, {"iam:permissionsboundary": arn}):
            bound = model.find_policy_text(arn) if put else None
            found.append(
                compute_outcome(
                    model, permissions, model.build_permission_set(Rights(rights.identity, bound), p), hit, p
                )
            )
    return choose_strongest(found)

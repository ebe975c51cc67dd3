"""Escalation paths that use another principal: a service's role, another user's keys, another role, another group."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from iampolicy.account.snapshot import Principal
from iampolicy.escalation.account_model import AccountModel
from iampolicy.escalation.outcomes import (
    ADMIN,
    BOUNDED,
    GAINS,
    Outcome,
    TargetQuestion,
    choose_strongest,
    compute_outcome,
    find_strongest,
)
from iampolicy.escalation.paths import ASSUME_ROLE, PASS_ROLE, WRITES, Path
from iampolicy.escalation.permission_set import PermissionSet
from iampolicy.escalation.policy_writes import can_lift_boundary, compute_newcomer_outcome, write_policy
from iampolicy.policy.evaluate import Decision, Rights

REWRITE = "iam:UpdateAssumeRolePolicy"


def find_action_resources(path: Path, permissions: PermissionSet) -> list[tuple[str, Decision, bool]] | None:
    """Return a resource for each action of the path except iam:PassRole; None when one of these actions is allowed nowhere."""
    places = [permissions.find_resource(action) for action in path.actions if action != PASS_ROLE]
    return [place for place in places if place] if all(places) else None


def build_pass_question(path: Path, permissions: PermissionSet) -> TargetQuestion:
    def may(role: Principal) -> Decision | None:
        hits = (permissions.may(PASS_ROLE, role.arn, {"iam:passedtoservice": service}) for service in path.services)
        return next((hit for hit in hits if hit), None)

    return TargetQuestion(partial(permissions.candidates, PASS_ROLE), may)


def build_any_role_question(decision: Decision) -> TargetQuestion:
    """Return the question that accepts every role that the service may assume."""
    return TargetQuestion(lambda roles: roles, lambda role: decision)


def pass_role(model: AccountModel, path: Path, permissions: PermissionSet, p: Principal) -> Outcome | None:
    def find() -> Outcome | None:
        if find_action_resources(path, permissions) is None:
            return None
        if (pool := model.rank_service_roles(path.services)).members:
            return find_strongest(model, permissions, pool, build_pass_question(path, permissions))
        places = [permissions.find_resource(PASS_ROLE, {"iam:passedtoservice": service}) for service in path.services]
        note = f"no role trusts {path.services[0]} yet, but it may pass any new one that does"
        return next((Outcome(GAINS, place[1], note=note) for place in places if place and place[2]), None)

    return model.remember(permissions, path.id, find)


def reach_carrier(model: AccountModel, path: Path, permissions: PermissionSet, p: Principal) -> Outcome | None:
    """Return the outcome of using an existing function or instance.

    IAM's API does not return the role that it runs with: unless `carriers` has it, assume any role that its service may assume.
    """

    def find() -> Outcome | None:
        places, pool = find_action_resources(path, permissions), model.rank_service_roles(path.services)
        if places is None:
            return None
        narrow = next((place for place in places if not place[2]), None)
        if narrow and (known := list_known_carrier_roles(model, path, permissions)):
            return choose_strongest(
                compute_outcome(model, permissions, model.find_permission_set(role), narrow[1], role) for role in known
            )
        if not pool.members:
            note = f"no role trusts {path.services[0]} yet, but it reaches any new one that does"
            return None if narrow else Outcome(GAINS, places[0][1], note=note)
        found = find_strongest(model, permissions, pool, build_any_role_question(places[0][1]))
        if found and narrow and found.level == ADMIN:
            note = f"only on {narrow[0]}, whose role IAM's API does not return"
            return Outcome(GAINS, found.decision, found.target, found.gains, note)
        return found

    return model.remember(permissions, path.id, find)


def list_known_carrier_roles(model: AccountModel, path: Path, permissions: PermissionSet) -> list[Principal]:
    """Return the roles of known resources on which the holder may perform the actions.

    Only actions limited to regions whose resources are all known count; without such an action, return none.
    """
    roles = {role.arn: role for service in path.services for role in model.by_service.get(service, {}).values()}
    regions = {derive_regional_prefix(arn) for arn in model.carriers}
    kept = [
        action
        for action in path.actions
        if regions.issuperset(map(derive_regional_prefix, permissions.index_action(action).patterns))
    ]
    hit = [arn for arn in model.carriers if kept and all(permissions.may(action, arn) for action in kept)]
    return [roles[model.carriers[arn]] for arn in hit if model.carriers[arn] in roles]


def derive_regional_prefix(arn: str) -> str:
    """Return the ARN up to and including its account."""
    return ":".join(arn.split(":")[:5])


def reach_outside(model: AccountModel, path: Path, permissions: PermissionSet, p: Principal) -> Outcome | None:
    places = find_action_resources(path, permissions)
    return Outcome(GAINS, places[0][1], note="its target is outside IAM") if places else None


def build_user_question(path: Path, permissions: PermissionSet) -> TargetQuestion:
    """Return the question for users on which all actions of the path are allowed, apart from its policy writes."""
    rest = [action for action in path.actions if action not in WRITES]

    def may(user: Principal) -> Decision | None:
        hits = [permissions.may(action, user.arn) for action in rest]
        return hits[0] if all(hits) else None

    return TargetQuestion(partial(permissions.candidates, rest[0]), may)


def create_keys(model: AccountModel, path: Path, permissions: PermissionSet, p: Principal) -> Outcome | None:
    found = find_best_outcome(model, path, permissions, p, model.users, build_user_question(path, permissions))
    if found or model.users.keys() - {p.arn}:
        return found
    return compute_newcomer_outcome(permissions, path, "there is no other user yet, but it can become any new one")


def become_role(model: AccountModel, path: Path, permissions: PermissionSet, p: Principal) -> Outcome | None:
    """Return the outcome of becoming a role, by sts:AssumeRole (its trust policy must allow it too) or by rewriting that policy."""
    if ASSUME_ROLE in path.actions:
        own = find_best_outcome(
            model, path, permissions, p, model.find_candidate_roles(p), build_assume_question(model, p), alone=True
        )
        return choose_strongest(
            [
                own,
                find_best_outcome(
                    model, path, permissions, p, model.open_trust, build_assume_question(model, p, permissions)
                ),
            ]
        )
    found = find_best_outcome(model, path, permissions, p, model.roles, build_rewrite_question(model, permissions))
    if found or model.roles.keys() - {p.arn}:
        return found
    return compute_newcomer_outcome(permissions, path, "there is no other role yet, but it can become any new one")


def build_assume_question(
    model: AccountModel, p: Principal, permissions: PermissionSet | None = None
) -> TargetQuestion:
    """Return the question for roles that the principal may assume; with `permissions`, only those that its policies name."""
    among = partial(permissions.candidates, ASSUME_ROLE) if permissions else lambda roles: roles
    return TargetQuestion(among, partial(model.decide_assume_role, p))


def build_rewrite_question(model: AccountModel, permissions: PermissionSet) -> TargetQuestion:
    def may(role: Principal) -> Decision | None:
        hit = permissions.may(REWRITE, role.arn)
        return hit if hit and model.can_assume_rewritten(permissions, role.arn) else None

    return TargetQuestion(partial(permissions.candidates, REWRITE), may)


def find_best_outcome(
    model: AccountModel,
    path: Path,
    permissions: PermissionSet,
    p: Principal,
    pool: Mapping[str, Principal],
    question: TargetQuestion,
    alone: bool = False,
) -> Outcome | None:
    """Return the best outcome in the pool, with each target's own permissions, or with any if the path writes its policies.

    With `alone` the result holds for this principal only and is not cached.
    """
    write = next((action for action in path.actions if action in WRITES), "")

    def find(skip: str = "") -> Outcome | None:
        if write:
            return find_best_writable(model, write, permissions, pool, question, skip)
        key = (path.how, ASSUME_ROLE in path.actions) if not alone else ("alone", *sorted(pool))
        return find_strongest(model, permissions, model.rank(key, pool.values()), question, skip)

    if not pool:
        return None
    if alone:
        return find(p.arn)
    found = model.remember(permissions, path.id, find)
    return find(p.arn) if found and found.target and found.target.arn == p.arn else found


def find_best_writable(
    model: AccountModel, write: str, permissions: PermissionSet, pool: Mapping[str, Principal], question: TargetQuestion, skip: str
) -> Outcome | None:  # fmt: skip
    """Return the best outcome over targets whose policies the holder may write.

    Targets with the same boundary give the same outcome, unless the holder can lift it from one of them.
    """
    worst: Outcome | None = None
    seen: set[str] = set()
    for target, _ in question.hits(pool):
        if target.arn == skip or (target.boundary in seen and not can_lift_boundary(model, permissions, target)):
            continue
        if found := write_policy(model, permissions, write, target):
            seen.add(target.boundary)
            worst = choose_strongest([worst, found])
        if worst and worst.level == ADMIN:
            break
    return worst


def join_group(model: AccountModel, path: Path, permissions: PermissionSet, p: Principal) -> Outcome | None:
    found: list[Outcome | None] = []
    snapshot, rights = model.snapshot, model.rights(p)
    for one in snapshot.groups.values() if p.trust is None else ():
        if one.name not in p.groups and (hit := permissions.may(path.actions[0], one.arn)):
            more = (*one.inline.values(), *(snapshot.find_policy(arn) for arn in one.attached))
            held = model.build_permission_set(Rights((*rights.identity, *more), rights.boundary), p)
            found.append(compute_outcome(model, permissions, held, hit, p, f"in {one.name}"))
    if p.trust is not None and (place := permissions.find_resource(path.actions[0])) and not place[2]:
        return Outcome(BOUNDED, place[1], note="it is not a user, so it cannot be in a group")
    return choose_strongest(found) or compute_newcomer_outcome(permissions, path, "it may add any user to any group")

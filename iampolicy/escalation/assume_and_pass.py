"""Ways that borrow somebody: a role that a service runs with, another user's keys, another role, another group."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from iampolicy.account.snapshot import Principal
from iampolicy.escalation.paths import MAY_PASS, MAY_TAKE, WRITES, Path
from iampolicy.escalation.permission_set import Holding
from iampolicy.escalation.targets import ADMIN, BOUNDED, GAINS, Asked, Outcome, strongest
from iampolicy.escalation.writing import Writing, nobody_yet
from iampolicy.policy.evaluate import Decision, Rights

REWRITE = "iam:UpdateAssumeRolePolicy"


def elsewhere(path: Path, holding: Holding) -> list[tuple[str, Decision, bool]] | None:
    """Where the actions are allowed that are about nothing in a snapshot; None when one is allowed nowhere."""
    places = [holding.somewhere(action) for action in path.actions if action != MAY_PASS]
    return [place for place in places if place] if all(places) else None


def passable(path: Path, holding: Holding) -> Asked:
    def may(role: Principal) -> Decision | None:
        hits = (holding.may(MAY_PASS, role.arn, {"iam:passedtoservice": service}) for service in path.services)
        return next((hit for hit in hits if hit), None)

    return Asked(partial(holding.among, MAY_PASS), may)


def carrying(decision: Decision) -> Asked:
    """Any role will do that the service may take."""
    return Asked(lambda roles: roles, lambda role: decision)


def passed(all_of: Writing, path: Path, holding: Holding, p: Principal) -> Outcome | None:
    def find() -> Outcome | None:
        if elsewhere(path, holding) is None:
            return None
        if (pool := all_of.taken_by(path.services)).members:
            return all_of.best(holding, pool, passable(path, holding))
        places = [holding.somewhere(MAY_PASS, {"iam:passedtoservice": service}) for service in path.services]
        note = f"no role trusts {path.services[0]} yet, and it may pass any that will"
        return next((Outcome(GAINS, place[1], note=note) for place in places if place and place[2]), None)

    return all_of.once(holding, path.id, find)


def carried(all_of: Writing, path: Path, holding: Holding, p: Principal) -> Outcome | None:
    """IAM does not say which role a function or an instance runs with: any that its service may take, unless `carriers` does."""

    def find() -> Outcome | None:
        places, pool = elsewhere(path, holding), all_of.taken_by(path.services)
        if places is None:
            return None
        narrow = next((place for place in places if not place[2]), None)
        if narrow and (known := carriers(all_of, path, holding)):
            return strongest(all_of.compared(holding, all_of.of(role), narrow[1], role) for role in known)
        if not pool.members:
            note = f"no role trusts {path.services[0]} yet, but any that will is within reach"
            return None if narrow else Outcome(GAINS, places[0][1], note=note)
        found = all_of.best(holding, pool, carrying(places[0][1]))
        if found and narrow and found.level == ADMIN:
            note = f"only on {narrow[0]}, and IAM does not say which role that runs with"
            return Outcome(GAINS, found.decision, found.target, found.gains, note)
        return found

    return all_of.once(holding, path.id, find)


def carriers(all_of: Writing, path: Path, holding: Holding) -> list[Principal]:
    """The roles of those resources on which the holder may do the actions; none unless the actions, or one, keep to regions of which
    all resources are known."""
    roles = {role.arn: role for service in path.services for role in all_of.by_service.get(service, {}).values()}
    regions = {region(arn) for arn in all_of.carriers}
    kept = [action for action in path.actions if regions.issuperset(map(region, holding.cut(action).patterns))]
    hit = [arn for arn in all_of.carriers if kept and all(holding.may(action, arn) for action in kept)]
    return [roles[all_of.carriers[arn]] for arn in hit if all_of.carriers[arn] in roles]


def region(arn: str) -> str:
    """With service and account."""
    return ":".join(arn.split(":")[:5])


def outside(all_of: Writing, path: Path, holding: Holding, p: Principal) -> Outcome | None:
    places = elsewhere(path, holding)
    return Outcome(GAINS, places[0][1], note="what it leads to is not in IAM") if places else None


def owned(path: Path, holding: Holding) -> Asked:
    """Users on whom all is allowed that does not write their policies."""
    rest = [action for action in path.actions if action not in WRITES]

    def may(user: Principal) -> Decision | None:
        hits = [holding.may(action, user.arn) for action in rest]
        return hits[0] if all(hits) else None

    return Asked(partial(holding.among, rest[0]), may)


def keys(all_of: Writing, path: Path, holding: Holding, p: Principal) -> Outcome | None:
    found = borrowed(all_of, path, holding, p, all_of.users, owned(path, holding))
    if found or all_of.users.keys() - {p.arn}:
        return found
    return nobody_yet(holding, path, "there is no other user yet, and it may have any that comes")


def role(all_of: Writing, path: Path, holding: Holding, p: Principal) -> Outcome | None:
    """By sts:AssumeRole, which the role's trust has to allow too; or by writing that trust."""
    if MAY_TAKE in path.actions:
        own = borrowed(all_of, path, holding, p, all_of.trusting(p), takable(all_of, p), alone=True)
        return strongest([own, borrowed(all_of, path, holding, p, all_of.open_trust, takable(all_of, p, holding))])
    found = borrowed(all_of, path, holding, p, all_of.roles, rewritable(all_of, holding))
    if found or all_of.roles.keys() - {p.arn}:
        return found
    return nobody_yet(holding, path, "there is no other role yet, and it may have any that comes")


def takable(all_of: Writing, p: Principal, holding: Holding | None = None) -> Asked:
    """With `holding`, only roles that the identity's own policies name."""
    among = partial(holding.among, MAY_TAKE) if holding else lambda roles: roles
    return Asked(among, partial(all_of.may_take, p))


def rewritable(all_of: Writing, holding: Holding) -> Asked:
    def may(role: Principal) -> Decision | None:
        hit = holding.may(REWRITE, role.arn)
        return hit if hit and all_of.may_come_in(holding, role.arn) else None

    return Asked(partial(holding.among, REWRITE), may)


def borrowed(
    all_of: Writing, path: Path, holding: Holding, p: Principal, pool: Mapping[str, Principal], asked: Asked, alone: bool = False
) -> Outcome | None:  # fmt: skip
    """The best of the pool with its own rights; or, where its policies may be written too, with any.

    With `alone` the answer holds for this principal only.
    """
    write = next((action for action in path.actions if action in WRITES), "")

    def find(skip: str = "") -> Outcome | None:
        if write:
            return any_rights(all_of, write, holding, pool, asked, skip)
        key = (path.how, MAY_TAKE in path.actions) if not alone else ("alone", *sorted(pool))
        return all_of.best(holding, all_of.ranked(key, pool.values()), asked, skip)

    if not pool:
        return None
    if alone:
        return find(p.arn)
    found = all_of.once(holding, path.id, find)
    return find(p.arn) if found and found.target and found.target.arn == p.arn else found


def any_rights(
    all_of: Writing, write: str, holding: Holding, pool: Mapping[str, Principal], asked: Asked, skip: str
) -> Outcome | None:  # fmt: skip
    """Those of one boundary come to the same, unless the holder can lift it from one of them."""
    worst: Outcome | None = None
    seen: set[str] = set()
    for target, _ in asked.hits(pool):
        if target.arn == skip or (target.boundary in seen and not all_of.lifts(holding, target)):
            continue
        if found := all_of.written(holding, write, target):
            seen.add(target.boundary)
            worst = strongest([worst, found])
        if worst and worst.level == ADMIN:
            break
    return worst


def group(all_of: Writing, path: Path, holding: Holding, p: Principal) -> Outcome | None:
    found: list[Outcome | None] = []
    snapshot, rights = all_of.snapshot, all_of.rights(p)
    for one in snapshot.groups.values() if p.trust is None else ():
        if one.name not in p.groups and (hit := holding.may(path.actions[0], one.arn)):
            more = (*one.inline.values(), *(snapshot.managed(arn) for arn in one.attached))
            held = all_of.holding(Rights((*rights.identity, *more), rights.boundary), p)
            found.append(all_of.compared(holding, held, hit, p, f"in {one.name}"))
    if p.trust is not None and (place := holding.somewhere(path.actions[0])) and not place[2]:
        return Outcome(BOUNDED, place[1], note="it is no user, so it is in no group")
    return strongest(found) or nobody_yet(holding, path, "it may put whom it likes into any group")

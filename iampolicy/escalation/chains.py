"""Escalation chains: which principals reach administrator access hop by hop, each hop by becoming another principal."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from iampolicy.account.snapshot import Principal
from iampolicy.escalation import assume_and_pass
from iampolicy.escalation.account_model import AccountModel
from iampolicy.escalation.outcomes import TargetQuestion
from iampolicy.escalation.paths import ASSUME_ROLE, PASS_ROLE, WRITES, Path, list_available_paths, shorten_arn
from iampolicy.escalation.permission_set import PermissionSet
from iampolicy.finding import Finding
from iampolicy.policy.document import compile_arn_glob

HOW = ("passed", "carried", "keys", "role")
SHOWN = 8  # hops that a finding lists one by one
ALL_ROLES, ALL_USERS, OPEN = "every role", "every user", "every role that trusts the account"


@dataclass(frozen=True)
class Hop:
    """The steps to become `nearer`, from `left` hops before full access; `end` has the steps of the last hop."""

    steps: tuple[str, ...]
    nearer: Principal | None
    left: int
    end: tuple[str, ...]


def find_chains(
    model: AccountModel, weak: list[Principal], critical: Mapping[str, tuple[str, ...]]
) -> Iterator[Finding]:
    """Search backwards from principals one hop from full access (`critical`, with their steps); each principal is found once.

    Principals with the same permissions are examined once, and only for targets that one of their statements may cover.
    """
    hops = {arn: Hop(path, None, 1, path) for arn, path in critical.items()}
    waiting = {p.arn: p for p in weak if p.arn not in hops}
    seekers = Seekers(model, list(waiting.values()))
    reached = {p.arn: p for p in weak if p.arn in hops}
    while reached and waiting:
        frontier, met = Frontier(model, reached), {}
        for p, steps, nearer in (*seekers.hops(frontier), *frontier.trusted_hops(waiting)):
            if p.arn in waiting:
                met[p.arn] = waiting.pop(p.arn)
                hops[p.arn] = Hop(steps, nearer, hops[nearer.arn].left + 1, hops[nearer.arn].end)
                yield make_finding(p, nearer, trace_steps_to_admin(hops, p))
        reached = met


def trace_steps_to_admin(hops: Mapping[str, Hop], p: Principal) -> tuple[str, ...]:
    """Return the steps to full access; for a long chain, the first hops, the number of those left out, and the last hop."""
    found: tuple[str, ...] = ()
    at: Principal | None = p
    for _ in range(SHOWN):
        if at is None:
            return found
        hop = hops[at.arn]
        found, at = found + hop.steps, hop.nearer
    if at is None:
        return found
    more = hops[at.arn].left - 1
    return found + ((f"{more} more hops",) if more else ()) + hops[at.arn].end


def make_finding(p: Principal, nearer: Principal, path: tuple[str, ...]) -> Finding:
    return Finding(
        "IAM-PRIVESC-CHAIN",
        "critical",
        p.name,
        f"becomes an administrator through {shorten_arn(nearer.arn)}: {' > '.join(path)}",
        f"Break the chain at one of its steps, for example the first: {path[0]}.",
        path=path,
    )


@dataclass(frozen=True, eq=False)
class Seeker:
    """Principals with the same permissions, and the targets that their statements may cover."""

    members: list[Principal]
    kinds: frozenset[str]
    exact: frozenset[str]
    globs: tuple[Callable[[str], Any], ...]
    any_target: bool


class Seekers:
    def __init__(self, model: AccountModel, principals: list[Principal]) -> None:
        groups: dict[int, list[Principal]] = {}
        for p in principals:
            groups.setdefault(id(model.find_permission_set(p)), []).append(p)
        found = [make_seeker(model.find_permission_set(members[0]), members) for members in groups.values()]
        self.waiting = {id(one): one for one in found if one.kinds}
        self.exact: dict[str, list[Seeker]] = {}
        for one in self.waiting.values():
            for arn in one.exact:
                self.exact.setdefault(arn, []).append(one)
        self.wide = {key: one for key, one in self.waiting.items() if one.globs or one.any_target}

    def hops(self, frontier: Frontier) -> Iterator[tuple[Principal, tuple[str, ...], Principal]]:
        for one in {
            id(one): one for one in (*self.match_exact_arns(frontier), *self.match_patterns(frontier))
        }.values():
            if hop := frontier.hop(one.members[0]):
                self.waiting.pop(id(one), None)
                self.wide.pop(id(one), None)
                yield from ((p, *hop) for p in one.members)

    def match_exact_arns(self, frontier: Frontier) -> Iterator[Seeker]:
        for arn in frontier.people:
            yield from (one for one in self.exact.get(arn, ()) if id(one) in self.waiting)

    def match_patterns(self, frontier: Frontier) -> Iterator[Seeker]:
        for one in self.wide.values():
            if not one.kinds.isdisjoint(frontier.kinds) and (
                one.any_target or any(fits(arn) for fits in one.globs for arn in frontier.people)
            ):
                yield one


def make_seeker(permissions: PermissionSet, members: list[Principal]) -> Seeker:
    kinds: set[str] = set()
    aimed: set[str] = set()
    any_target = False
    for path in list_hop_paths(permissions):
        kinds |= {*path.services} or {
            ALL_USERS if path.how == "keys" else OPEN if ASSUME_ROLE in path.actions else ALL_ROLES
        }
        any_target |= path.how == "carried"
        aimed |= {PASS_ROLE} if path.how == "passed" else {path.actions[0]} if path.how != "carried" else set()
    patterns = {pattern for action in aimed for pattern in permissions.index_action(action).patterns}
    exact = {pattern for pattern in patterns if not {*"*?$"} & {*pattern}}
    any_target |= any(pattern == "*" or "$" in pattern for pattern in patterns)
    globs = tuple(compile_arn_glob(pattern).fullmatch for pattern in patterns - exact) if not any_target else ()
    return Seeker(members, frozenset(kinds), frozenset(exact), globs, any_target)


def list_hop_paths(permissions: PermissionSet) -> list[Path]:
    """Return the paths by which a holder becomes another principal without changing that principal's policies."""
    return [
        path for path in list_available_paths(permissions.actions) if path.how in HOW and not WRITES & {*path.actions}
    ]


class Frontier:
    """The principals worth becoming, grouped by the kind of path that leads to them."""

    def __init__(self, model: AccountModel, people: Mapping[str, Principal]) -> None:
        self.model, self.people = model, people
        self.roles = {arn: p for arn, p in people.items() if p.trust is not None}
        self.users = {arn: p for arn, p in people.items() if p.trust is None}
        self.open_trust = {arn: p for arn, p in self.roles.items() if arn in model.open_trust}
        self.services: dict[str, dict[str, Principal]] = {}
        for arn, role in self.roles.items():
            for service in model.named.get(arn, ()):
                if model.can_service_assume(role, service):
                    self.services.setdefault(service, {})[arn] = role
        some = {OPEN: self.open_trust, ALL_ROLES: self.roles, ALL_USERS: self.users}
        self.kinds = {*self.services, *(kind for kind, pool in some.items() if pool)}

    def hop(self, p: Principal) -> tuple[tuple[str, ...], Principal] | None:
        """Return the steps to a principal of the frontier, and that principal, for all with the permissions of `p`; or None."""
        permissions = self.model.find_permission_set(p)
        for path in list_hop_paths(permissions):
            pool, asked = self.find_targets(path, permissions, p)
            if found := next(asked.hits(pool), None):
                who = shorten_arn(found[0].arn)
                return (*path.steps(who), who), found[0]
        return None

    def find_targets(
        self, path: Path, permissions: PermissionSet, p: Principal
    ) -> tuple[Mapping[str, Principal], TargetQuestion]:
        """Return the principals to which the path could lead, and the question that decides about each."""
        if path.how == "keys":
            return self.users, assume_and_pass.build_user_question(path, permissions)
        if path.how == "role" and ASSUME_ROLE in path.actions:
            return self.open_trust, assume_and_pass.build_assume_question(self.model, p, permissions)
        if path.how == "role":
            return self.roles, assume_and_pass.build_rewrite_question(self.model, permissions)
        pool = {arn: role for service in path.services for arn, role in self.services.get(service, {}).items()}
        places = assume_and_pass.find_action_resources(path, permissions) if pool else None
        if places is None or path.how == "passed":
            return pool if places else {}, assume_and_pass.build_pass_question(path, permissions)
        return pool if all(place[2] for place in places) else {}, assume_and_pass.build_any_role_question(places[0][1])

    def trusted_hops(self, waiting: Mapping[str, Principal]) -> Iterator[tuple[Principal, tuple[str, ...], Principal]]:
        """Yield hops of principals that a trust policy names directly, or whose identity it checks in a condition."""
        for arn, role in self.roles.items():
            asked = (
                [*waiting.values()] if arn in self.model.personal_trust else self.find_named_principals(arn, waiting)
            )
            for p in asked:
                if self.model.decide_assume_role(p, role):
                    yield p, (f"{ASSUME_ROLE} {shorten_arn(arn)}", shorten_arn(arn)), role

    def find_named_principals(self, arn: str, waiting: Mapping[str, Principal]) -> list[Principal]:
        roles = self.model.snapshot.roles
        found = []
        for value in self.model.named.get(arn, ()):
            p = waiting.get(value) or roles.get(value.rpartition("/")[2] if ":role/" in value else "")
            if p and p.arn in waiting:
                found.append(p)
        return found

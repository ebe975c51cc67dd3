"""The principals of a snapshot as somebody's targets: by strength, by the service that takes them, by whom they trust."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from iampolicy.account.snapshot import Principal, Snapshot
from iampolicy.escalation.paths import MAY_TAKE
from iampolicy.escalation.permission_set import PERSONAL, Holding
from iampolicy.escalation.reach import Reach
from iampolicy.policy.document import Policy, Statement
from iampolicy.policy.evaluate import Caller, Decision, Request, Rights, decide

BOUNDED, GAINS, ADMIN = 0, 1, 2
REGIONAL = re.compile(r"\.[a-z]{2}(-[a-z]+)+-\d\.")
MYSELF = "the session that the new trust names"
WELCOME = Policy("trust", (Statement(1, "", True, ("sts:assumerole",), principals=(("AWS", MYSELF),)),))


@dataclass(frozen=True)
class Pool:
    """Principals by ARN, the strongest first; `rank` numbers those of equal strength, of whom `holdings` has one's."""

    members: Mapping[str, Principal]
    rank: Mapping[str, int]
    holdings: tuple[Holding, ...]


@dataclass(frozen=True)
class Asked:
    """A question about targets: whom a statement may mean at all, and whether it is allowed."""

    among: Callable[[Mapping[str, Principal]], Iterable[str]]
    may: Callable[[Principal], Decision | None]

    def hits(self, members: Mapping[str, Principal]) -> Iterator[tuple[Principal, Decision]]:
        for arn in self.among(members):
            if decision := self.may(members[arn]):
                yield members[arn], decision


@dataclass(frozen=True)
class Outcome:
    """How a way ends: `gains` is what its holder lacks, `target` who is reached (None: nobody in the snapshot)."""

    level: int
    decision: Decision
    target: Principal | None = None
    gains: tuple[str, ...] = ()
    note: str = ""


class Targets(Reach):
    """What depends on a holding alone is worked out once for all who hold the same; `carriers` maps a resource to its role."""

    def __init__(self, snapshot: Snapshot, now: datetime, carriers: Mapping[str, str] | None = None) -> None:
        super().__init__(snapshot, now)
        self.carriers = carriers or {}
        self.pools: dict[object, Pool] = {}
        self.takers: dict[tuple[int, str], tuple[Policy, bool]] = {}
        self.lacking: dict[tuple[int, int], tuple[str, ...]] = {}
        self.known: dict[tuple[int, str], Outcome | None] = {}
        self.fitted: dict[tuple[int, str], list[str]] = {}
        self.by_service: dict[str, dict[str, Principal]] = {}
        self.open_trust: dict[str, Principal] = {}
        self.personal_trust: dict[str, Principal] = {}
        self.direct: dict[str, dict[str, Principal]] = {}
        self.named: dict[str, list[str]] = {}
        self.roles = {role.arn: role for role in snapshot.roles.values()}
        self.users = {user.arn: user for user in snapshot.users.values()}
        for role in snapshot.roles.values():
            self.index(role)

    def index(self, role: Principal) -> None:
        """Whom the role's trust names (`named` has services too). Whether it lets them in is asked later."""
        account = role.caller.account
        for one in role.trust_policy.statements:
            if not one.allow:
                continue
            at_large = self.personal_trust if asks_who(one) else self.open_trust
            if "principal" in one.negated:
                at_large[role.arn] = role
            for kind, value in () if "principal" in one.negated else one.principals or ():
                self.named.setdefault(role.arn, []).append(meant(value))
                if kind in ("Service", "Federated"):
                    self.by_service.setdefault(meant(value), {})[role.arn] = role
                elif value in ("*", account, f"arn:aws:iam::{account}:root"):
                    at_large[role.arn] = role
                else:
                    self.direct.setdefault(meant(value), {})[role.arn] = role

    def trusting(self, p: Principal) -> dict[str, Principal]:
        """Roles whose trust has to be asked about this very principal."""
        by_name = self.direct.get(f"arn:aws:iam::{p.caller.account}:role/{p.name}", {}) if p.trust is not None else {}
        return {**self.direct.get(p.arn, {}), **by_name, **self.personal_trust}

    def lets_in(self, role: Principal, service: str) -> bool:
        """Whether the trust lets the service take the role; an identity pool comes as a federated provider."""
        policy = role.trust_policy
        key = (id(policy), service)
        if key not in self.takers:
            context = {**self.moment, "aws:sourceaccount": role.caller.account}
            kinds = {who for one in policy.statements for who in one.principals or () if meant(who[1]) == service}
            callers = [
                (Caller(service=value), MAY_TAKE)
                if kind == "Service"
                else (Caller(federated=value), "sts:AssumeRoleWithWebIdentity")
                for kind, value in kinds
            ]
            asked = [Request(caller, action, role.arn, context) for caller, action in callers]
            answers = (decide(one, Rights(), policy, required=True, possible=True) for one in asked)
            self.takers[key] = policy, any(answer.allowed for answer in answers)
        return self.takers[key][1]

    def may_take(self, p: Principal, role: Principal) -> Decision | None:
        """sts:AssumeRole as both sides see it; who lets the holder in may call its session what the trust has."""
        policy, holding = self.met(role.trust_policy, p), self.of(p)
        for session in sessions(policy, p):
            for rights, tags in holding.asked(MAY_TAKE, role.arn):
                request = Request(Caller(p.arn, session), MAY_TAKE, role.arn, {**self.about(p), **tags})
                decision = decide(request, rights, policy, required=True, possible=True)
                if decision.allowed:
                    return decision
        return None

    def may_come_in(self, holding: Holding, arn: str) -> bool:
        """Whether the holder could take a role whose trust it has just written for itself: only a deny is in its way."""
        me = Caller(holding.caller.arn, MYSELF)
        return any(
            decide(
                Request(me, MAY_TAKE, arn, {**holding.context, **tags}), rights, WELCOME, required=True, possible=True
            ).allowed
            for rights, tags in holding.asked(MAY_TAKE, arn)
        )

    def ranked(self, key: object, principals: Iterable[Principal]) -> Pool:
        """A key always stands for the same principals."""
        if key not in self.pools:
            groups: dict[object, tuple[Holding, list[Principal]]] = {}
            for p in principals:
                holding = self.of(p)
                groups.setdefault(holding.admin or holding.powers, (holding, []))[1].append(p)
            ranks = sorted(groups.values(), key=lambda found: (not found[0].admin, -len(found[0].powers)))
            members = {p.arn: p for _, found in ranks for p in found}
            rank = {p.arn: number for number, (_, found) in enumerate(ranks) for p in found}
            self.pools[key] = Pool(members, rank, tuple(holding for holding, _ in ranks))
        return self.pools[key]

    def taken_by(self, services: tuple[str, ...]) -> Pool:
        """The roles that one of the services may take."""
        if services not in self.pools:
            named = [(role, service) for service in services for role in self.by_service.get(service, {}).values()]
            return self.ranked(services, [role for role, service in named if self.lets_in(role, service)])
        return self.pools[services]

    def lacks(self, holding: Holding, other: Holding) -> tuple[str, ...]:
        key = (id(holding), id(other))
        if key not in self.lacking:
            self.lacking[key] = holding.lacks(other)
        return self.lacking[key]

    def compared(
        self, holding: Holding, other: Holding, decision: Decision, target: Principal, note: str = ""
    ) -> Outcome:
        gains = self.lacks(holding, other)
        return Outcome(ADMIN if other.admin else GAINS if gains else BOUNDED, decision, target, gains, note)

    def best(self, holding: Holding, pool: Pool, asked: Asked, skip: str = "") -> Outcome | None:
        """The strongest that the holder reaches; of those that give it nothing, the first."""
        bounded: Outcome | None = None
        tried: set[int] = set()
        arns = asked.among(pool.members)
        for arn in arns if arns is pool.members else sorted(arns, key=pool.rank.__getitem__):
            rank = pool.rank[arn]
            if arn == skip or rank in tried:
                continue
            if decision := asked.may(pool.members[arn]):
                found = self.compared(holding, pool.holdings[rank], decision, pool.members[arn])
                if found.level:
                    return found
                bounded = bounded or found
                tried.add(rank)
        return bounded

    def once(self, holding: Holding, key: str, find: Callable[[], Outcome | None]) -> Outcome | None:
        if (id(holding), key) not in self.known:
            self.known[id(holding), key] = find()
        return self.known[id(holding), key]


def asks_who(one: Statement) -> bool:
    return any(key.startswith(PERSONAL) for _, key, _ in one.conditions)


def regionless(service: str) -> str:
    """Of states.us-east-1.amazonaws.com: states.amazonaws.com"""
    return REGIONAL.sub(".", service)


def meant(value: str) -> str:
    """The ARN that a trust names, or the service; of a session, assumed-role/NAME/SESSION, that of its role without its path."""
    if ":" not in value:
        return regionless(value)
    if ":assumed-role/" not in value or value.count(":") < 5:
        return value
    account, name = value.split(":")[4], value.split("/")[1]
    return f"arn:aws:iam::{account}:role/{name}"


def sessions(policy: Policy, p: Principal) -> list[str]:
    """No session, and those of the role that the trust names."""
    start = f"arn:aws:sts::{p.caller.account}:assumed-role/{p.name}/"
    found = [value for one in policy.statements for _, value in one.principals or () if value.startswith(start)]
    return ["", *found] if p.trust is not None else [""]


def strongest(found: Iterable[Outcome | None]) -> Outcome | None:
    return max((one for one in found if one), key=lambda one: one.level, default=None)

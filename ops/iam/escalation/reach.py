"""What principals may do among the actions that matter, decided once for all who hold the same documents.

The question is always whether some request could be allowed: what is not known of it counts for the one who asks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from functools import cached_property, lru_cache

from ops.iam.escalation.paths import NOBODYS, interesting, powers
from ops.iam.language.conditions import Context, holds
from ops.iam.language.document import Policy, Statement, arn_glob, covers
from ops.iam.language.evaluate import Caller, Deciding, Decision, Request, Rights, decide, matches_resource
from ops.iam.snapshot import Principal, Snapshot

NOBODYS_NAME = "q7x-that-nobody-names"
ADMINISTRATOR = "arn:aws:iam::aws:policy/AdministratorAccess"
REGION = "us-east-1"  # stands for any
LONGEST = 2048  # characters of an ARN
# What these keys say differs between principals that hold the same documents.
PERSONAL = ("aws:principal", "aws:userid", "aws:username")


@lru_cache(100_000)
def meet(one: str, other: str) -> str | None:
    """A text that fits both patterns, or None. Where both leave anything open, nothing is put."""
    if max(len(one), len(other)) > LONGEST:
        return None
    ways, seen = [(0, 0, "")], set()
    while ways:
        i, j, text = ways.pop()
        if (i, j) in seen:
            continue
        seen.add((i, j))
        a, b = one[i : i + 1], other[j : j + 1]
        if not a and not b:
            return text
        if a == "*":
            ways.append((i + 1, j, text))
            if b and b != "*":
                ways.append((i, j + 1, text + b.replace("?", "x")))
        if b == "*":
            ways.append((i, j + 1, text))
            if a and a != "*":
                ways.append((i + 1, j, text + a.replace("?", "x")))
        if a and b and "*" not in (a, b) and (a == b or "?" in (a, b)):
            ways.append((i + 1, j + 1, text + (b if a == "?" else a).replace("?", "x")))
    return None


def meet_arn(pattern: str, end: str) -> str | None:
    """The same for ARNs, of which the second has all its segments: no wildcard of that one goes over a colon."""
    theirs, ours = pattern.split(":", 5), end.split(":", 5)
    if len(ours) < 6 or len(theirs) < 6:
        return meet(pattern, ":".join([part.replace("*", REGION) for part in ours[:5]] + ours[5:]))
    parts = [meet(one, other) for one, other in zip(theirs, ours, strict=True)]
    return None if None in parts else ":".join(part or "" for part in parts)


@lru_cache(20_000)
def covered(pattern: str) -> frozenset[str]:
    if pattern in interesting():
        return frozenset([pattern])
    if "*" not in pattern and "?" not in pattern:
        return frozenset()
    return frozenset(action for action in interesting() if covers(pattern, action))


@lru_cache(5_000)
def ends(action: str, account: str) -> tuple[tuple[str, str], ...]:
    """For each resource type of the action, its ARN with anything for a name, and with a name that nobody had in mind."""
    from ops.iam.language import actions

    found = []
    for pattern in actions.resource_arns(action) or ["*"]:
        parts = pattern.split(":", 5)
        if len(parts) == 6:
            parts[1] = parts[1].replace("*", "aws")
            parts[4] = parts[4].replace("*", account)
        found.append(
            (":".join(parts), ":".join([*parts[:5], *(part.replace("*", NOBODYS_NAME) for part in parts[5:])]))
        )
    return tuple(found)


class Sheet:
    """One document, cut down to the statements about each action that matters."""

    def __init__(self, statements: tuple[Statement, ...]) -> None:
        self.statements = statements
        by_action: dict[str, list[Statement]] = {}
        for one in statements:
            named: frozenset[str] = frozenset().union(*map(covered, one.actions))
            for action in interesting() - named if "action" in one.negated else named:
                by_action.setdefault(action, []).append(one)
        self.by_action = {action: tuple(found) for action, found in by_action.items()}
        self.allows = frozenset(action for action, found in by_action.items() if any(one.allow for one in found))
        self.denies = frozenset(action for action, found in by_action.items() if any(final(one) for one in found))
        self.personal = any(
            "${" in text or key.startswith(PERSONAL)
            for one in statements
            for key, text in [("", text) for text in one.resources]
            + [(key, text) for _, key, values in one.conditions for text in values]
        )


def final(one: Statement) -> bool:
    """Whether it denies whatever is asked."""
    return not one.allow and not one.conditions and "*" in one.resources and "resource" not in one.negated


class Holding:
    """What principals hold who hold the same. Policies are numbered by their place, since each may name them otherwise."""

    def __init__(self, caller: Caller, sheets: tuple[Sheet, ...], bound: Sheet | None, context: Context) -> None:
        self.caller, self.sheets, self.bound, self.context = caller, sheets, bound, context
        allowed: frozenset[str] = frozenset().union(*(sheet.allows for sheet in sheets))
        every = (*sheets, bound) if bound else sheets
        self.actions = (allowed & bound.allows if bound else allowed).difference(*(sheet.denies for sheet in every))
        self.cuts: dict[str, tuple[Rights, bool]] = {}
        self.places: dict[tuple[str, str], tuple[str, Decision, bool] | None] = {}

    def cut(self, action: str) -> Rights:
        """The statements about one action."""
        return self.cut_out(action)[0]

    def cut_out(self, action: str) -> tuple[Rights, bool]:
        """Also, whether nothing takes away from what they allow."""
        if action not in self.cuts:
            low = action.lower()
            cut = tuple(Policy(str(n), s.by_action[low]) for n, s in enumerate(self.sheets) if low in s.by_action)
            bound = Policy("", self.bound.by_action.get(low, ())) if self.bound else None
            free = bound is None and all(one.allow for policy in cut for one in policy.statements)
            self.cuts[action] = Rights(cut, bound), free
        return self.cuts[action]

    def may(self, action: str, resource: str, context: Context | None = None) -> Decision | None:
        if action.lower() not in self.actions:
            return None
        request = Request(self.caller, action, resource, {**self.context, **context} if context else self.context)
        rights, free = self.cut_out(action)
        if free:
            return allowed_by(rights.identity, request)
        decision = decide(request, rights, possible=True)
        return decision if decision.allowed else None

    def patterns(self, action: str) -> list[str]:
        """Of the statements that allow the action."""
        found: list[str] = []
        for policy in self.cut(action).identity:
            for one in policy.statements:
                if one.allow:
                    found += ["*"] if "resource" in one.negated or not one.resources else one.resources
        return list(dict.fromkeys(found))

    def somewhere(self, action: str, context: Context | None = None) -> tuple[str, Decision, bool] | None:
        """(a resource, the decision that allows the action there, whether nobody had that resource in mind), or None."""
        key = (action, repr(context))
        if key not in self.places:
            self.places[key] = self.place(action, True, context) or self.place(action, False, context)
        return self.places[key]

    def place(self, action: str, at_large: bool, context: Context | None = None) -> tuple[str, Decision, bool] | None:
        """With `at_large`, only a resource that nobody had in mind."""
        if action.lower() not in self.actions:
            return None
        patterns = [one for one in self.patterns(action) if not at_large or "*" in one]
        for named, unheard_of in ends(action, self.caller.account) if patterns else ():
            for pattern in patterns:
                resource = meet_arn(pattern, unheard_of if at_large else named)
                if resource is not None and (decision := self.may(action, resource, context)):
                    return resource, decision, at_large
        return None

    def among(self, action: str, arns: Mapping[str, object]) -> Iterable[str]:
        """Those ARNs that a statement which allows the action may mean."""
        patterns = self.patterns(action)
        if any(pattern == "*" or "${" in pattern for pattern in patterns):
            return arns
        if all("*" not in pattern and "?" not in pattern for pattern in patterns):
            return [pattern for pattern in patterns if pattern in arns]
        globs = [arn_glob(pattern).fullmatch for pattern in patterns]
        if len(globs) == 1:
            return [*filter(globs[0], arns)]
        return [arn for arn in arns if any(fits(arn) for fits in globs)]

    @cached_property
    def admin(self) -> bool:
        """Whether it may do what nobody heard of, and write any policy."""
        if NOBODYS not in self.actions:
            return False
        role = f"arn:aws:iam::{self.caller.account}:role/{NOBODYS_NAME}"
        everything = self.may(NOBODYS, f"arn:aws:kennel:::{NOBODYS_NAME}")
        attach = self.may("iam:AttachRolePolicy", role, {"iam:policyarn": ADMINISTRATOR})
        return bool(everything and attach and self.may("iam:PutRolePolicy", role))

    @cached_property
    def powers(self) -> tuple[tuple[str, str], ...]:
        """(action, a resource on which it is allowed) for what makes somebody strong, as paths.toml has it."""
        found = []
        for action, anywhere in powers():
            if action.lower() in self.actions:
                place = self.place(action, True) if anywhere else self.somewhere(action)
                found += [(action, place[0])] if place else []
        return tuple(found)

    def lacks(self, other: Holding) -> tuple[str, ...]:
        """The other's powers that this one has not got: what there is to be gained."""
        if other.admin and not self.admin:
            return ("everything",)
        return tuple(action for action, place in other.powers if not self.may(action, place))


def allowed_by(policies: Iterable[Policy], request: Request) -> Decision | None:
    """What the evaluator decides where there are only statements about the action, and all of them allow it."""
    for policy in policies:
        for one in policy.statements:
            if matches_resource(one, request) and (not one.conditions or holds(one, request.context, True)[0]):
                return Decision("allowed", "", (Deciding("identity", policy.name, one),))
    return None


class Reach:
    """A snapshot as it is asked about at a moment."""

    def __init__(self, snapshot: Snapshot, now: datetime) -> None:
        self.snapshot = snapshot
        self.moment = {"aws:currenttime": now.isoformat(), "aws:epochtime": str(int(now.timestamp()))}
        self.sheets: dict[int, Sheet] = {}
        self.holdings: dict[tuple[object, ...], Holding] = {}
        self.by_arn: dict[str, Holding] = {}
        self.rights_of: dict[str, Rights] = {}

    def sheet(self, policy: Policy) -> Sheet:
        """By the statements' identity, which equal texts share; the sheet keeps them alive."""
        found = self.sheets.get(id(policy.statements))
        if found is None:
            found = self.sheets[id(policy.statements)] = Sheet(policy.statements)
        return found

    def of(self, p: Principal) -> Holding:
        if p.arn not in self.by_arn:
            self.by_arn[p.arn] = self.holding(self.rights(p), p)
        return self.by_arn[p.arn]

    def rights(self, p: Principal) -> Rights:
        if p.arn not in self.rights_of:
            self.rights_of[p.arn] = self.snapshot.rights(p)
        return self.rights_of[p.arn]

    def holding(self, rights: Rights, p: Principal) -> Holding:
        """What the principal would hold with these rights."""
        sheets = tuple(self.sheet(policy) for policy in rights.identity)
        bound = self.sheet(rights.boundary) if rights.boundary else None
        personal = any(sheet.personal for sheet in (*sheets, *([bound] if bound else [])))
        key = (*map(id, sheets), id(bound), p.arn if personal else p.caller.account)
        if key not in self.holdings:
            self.holdings[key] = Holding(p.caller, sheets, bound, self.about(p) if personal else self.moment)
        return self.holdings[key]

    def about(self, p: Principal) -> dict[str, str]:
        """The context keys that are known of the caller."""
        known = {"aws:principalarn": p.arn, "aws:principalaccount": p.caller.account}
        known |= {f"aws:principaltag/{key.lower()}": value for key, value in p.tags.items()}
        return self.moment | known | ({} if p.trust is not None else {"aws:username": p.name})

"""Ways that write policies: whoever may write the policies of somebody it is, or can be, has what that one's boundary leaves."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cached_property
from itertools import chain

from iampolicy.account.snapshot import Principal
from iampolicy.escalation.paths import Path
from iampolicy.escalation.permission_set import ADMINISTRATOR, Holding, meet_arn
from iampolicy.escalation.reach import AWS, WELL_KNOWN
from iampolicy.escalation.targets import ADMIN, BOUNDED, GAINS, Outcome, Targets, strongest
from iampolicy.policy.document import VARIABLE, Policy, glob, policy
from iampolicy.policy.evaluate import Decision, Rights

VERSION = "iam:CreatePolicyVersion"
NAMING = ("stringequals", "stringlike", "arnequals", "arnlike")  # with each, what a policy names is the most that fits


class Writing(Targets):
    def anything(self, holding: Holding, target: Principal, decision: Decision) -> Outcome:
        """The holder writes the target's policies and is the target: only a boundary that it cannot lift counts."""
        if not target.boundary or self.lifts(holding, target):
            return Outcome(ADMIN, decision, target, ("everything",))
        bounds = dict.fromkeys([target.boundary, *self.boundaries(holding, target)])
        note = "as far as its boundary lets it"
        held = (self.holding(Rights((self.supposed(arn),)), target) for arn in bounds)
        worst = strongest(self.compared(holding, one, decision, target, note) for one in held)
        return worst or Outcome(BOUNDED, decision, target, note=note)

    def supposed(self, arn: str) -> Policy:
        """A text that nobody knows may allow everything."""
        return self.text(arn) or WELL_KNOWN[ADMINISTRATOR]

    def lifts(self, holding: Holding, target: Principal) -> bool:
        """Whether the holder may take the target's boundary off, put one there that lets all through, or rewrite it."""
        put = holding.may(
            f"iam:Put{kind(target)}PermissionsBoundary", target.arn, {"iam:permissionsboundary": ADMINISTRATOR}
        )
        delete = holding.may(f"iam:Delete{kind(target)}PermissionsBoundary", target.arn, about(target))
        return bool(put or delete or (ours(target.boundary) and holding.may(VERSION, target.boundary)))

    def boundaries(self, holding: Holding, target: Principal) -> Iterator[str]:
        """The snapshot's policies that the holder may make the target's boundary."""
        put = f"iam:Put{kind(target)}PermissionsBoundary"
        if put.lower() in holding.actions:
            for arn in self.fitting(holding, put, "iam:permissionsboundary", self.snapshot.policies):
                if holding.may(put, target.arn, {"iam:permissionsboundary": arn}):
                    yield arn

    def written(self, holding: Holding, action: str, target: Principal) -> Outcome | None:
        """What the target becomes when the holder writes one of its policies; None when it may not."""
        if action == VERSION:
            hits = (holding.may(action, arn) for arn in target.attached if ours(arn))
            hit = next((one for one in hits if one), None)
        elif action.startswith("iam:Attach"):
            return self.attached(holding, action, target.arn, target)
        else:
            hit = holding.may(action, target.arn, about(target))
        return self.anything(holding, target, hit) if hit else None

    def attached(self, holding: Holding, action: str, to: str, target: Principal) -> Outcome | None:
        """With a policy that allows everything, or that the holder may write; or else with the strongest that it may attach."""
        weak = holding.may(action, to, about(target))
        if not weak:
            return None
        places = [holding.somewhere(name) for name in ("iam:CreatePolicy", VERSION)]
        among = self.fitting(holding, action, "iam:policyarn", self.strong_policies)
        to_all = (arn for arn in among if self.strong_policies[arn].admin)
        for arn in chain([ADMINISTRATOR], (place[0] for place in places if place), to_all):
            if hit := holding.may(action, to, {**about(target), "iam:policyarn": arn}):
                return self.anything(holding, target, hit)
        found: list[Outcome | None] = [
            Outcome(BOUNDED, weak, target, note="the policies that it may attach give it nothing more")
        ]
        for arn, name in [*((arn, "") for arn in among), *self.of_aws(holding, action)]:
            if hit := holding.may(action, to, {**about(target), "iam:policyarn": arn}):
                found.append(self.with_policy(holding, arn, target, hit, name))
        return strongest(found)

    def with_policy(self, holding: Holding, arn: str, target: Principal, decision: Decision, name: str) -> Outcome:
        """What the target becomes with the policy: anything, if that lets it write its own. `name` is what a policy of AWS's is called."""
        bound = self.text(target.boundary) if target.boundary else None
        held = self.holding(Rights((self.supposed(arn),), bound), target)
        if self.text(arn) is None:
            found = self.compared(holding, held, decision, target)
            gains = (f"what {name} gives, whose text is not at hand",) if found.level else ()
            return Outcome(min(found.level, GAINS), decision, target, gains)
        attach, put = f"iam:Attach{kind(target)}Policy", f"iam:Put{kind(target)}Policy"
        if held.may(attach, target.arn, {**about(target), "iam:policyarn": ADMINISTRATOR}) or held.may(
            put, target.arn, about(target)
        ):
            return self.anything(holding, target, decision)
        return self.compared(holding, held, decision, target)

    def of_aws(self, holding: Holding, action: str) -> Iterator[tuple[str, str]]:
        """(ARN, name) of AWS's policies that the snapshot has not: the well-known, and what a pattern that is asked for may mean."""
        yield from ((arn, arn.removeprefix(AWS)) for arn in WELL_KNOWN if arn not in self.snapshot.policies)
        for pattern in self.patterns_of(holding, action, "iam:policyarn") or ["*"]:
            arn = meet_arn(VARIABLE.sub("*", pattern), f"{AWS}*")
            if arn is not None and arn not in self.snapshot.policies and arn not in WELL_KNOWN:
                yield arn, f"AWS's {pattern.removeprefix(AWS)}" if pattern.strip("*") else "a policy of AWS's"

    def patterns_of(self, holding: Holding, action: str, key: str) -> list[str]:
        """What statements that allow the action ask of a key; none when one asks nothing."""
        tests = [
            [value for operator, of, values in one.conditions if of == key and operator.lower() in NAMING for value in values]
            for policy in holding.cut(action).rights.identity
            for one in policy.statements
            if one.allow
        ]  # fmt: skip
        return [value for values in tests for value in values] if all(tests) else []

    def fitting(self, holding: Holding, action: str, key: str, arns: Iterable[str]) -> list[str]:
        """Those of the ARNs that the conditions on this key could let through: in an account with many stacks few are left to
        decide on."""
        asked = (id(holding), action)
        if asked not in self.fitted:
            patterns = self.patterns_of(holding, action, key)
            open_to_all = not patterns or any("${" in value for value in patterns)
            fits = [glob(value).fullmatch for value in patterns]
            self.fitted[asked] = [arn for arn in arns if open_to_all or any(fit(arn) for fit in fits)]
        return self.fitted[asked]

    @cached_property
    def strong_policies(self) -> dict[str, Holding]:
        """The snapshot's policies that make somebody strong who holds nothing else."""
        somebody = next(self.snapshot.principals())
        held = {arn: self.holding(Rights((self.snapshot.managed(arn),)), somebody) for arn in self.snapshot.policies}
        return {arn: one for arn, one in held.items() if one.admin or one.powers}


def kind(target: Principal) -> str:
    return "User" if target.trust is None else "Role"


def ours(arn: str) -> bool:
    """Whether it is a policy of the account; nobody can write AWS's."""
    return not arn.startswith("arn:aws:iam::aws:")


def about(target: Principal) -> dict[str, str | list[str]]:
    """What is known of a request that changes the target: its boundary, or that it has none."""
    return {"iam:permissionsboundary": target.boundary or []}


def nobody_yet(holding: Holding, path: Path, note: str) -> Outcome | None:
    """Nobody whom the way could lead to is there, but all its actions are allowed on whoever comes."""
    plain = {
        "iam:policyarn": ADMINISTRATOR,
        "iam:permissionsboundary": ADMINISTRATOR if "Boundary" in path.actions[0] else [],
    }
    places = [holding.somewhere(action, plain) for action in path.actions]
    if places[0] and all(place and place[2] for place in places):
        return Outcome(GAINS, places[0][1], note=note)
    return None


def oneself(all_of: Writing, path: Path, holding: Holding, p: Principal) -> Outcome | None:
    action = path.actions[0]
    found: list[Outcome | None] = []
    if "Group" in action:
        groups = [all_of.snapshot.groups[name].arn for name in p.groups if name in all_of.snapshot.groups]
        found = [group_written(all_of, holding, action, arn, p) for arn in groups]
    elif action == VERSION or kind(p) in action:
        found = [all_of.written(holding, action, p)]
    note = "it may do so to whom it likes, if not to itself"
    return (
        strongest(found)
        or nobody_yet(holding, path, note)
        or all_of.once(holding, path.id, lambda: others(all_of, action, holding))
    )


def group_written(all_of: Writing, holding: Holding, action: str, arn: str, p: Principal) -> Outcome | None:
    if action.startswith("iam:Attach"):
        return all_of.attached(holding, action, arn, p)
    hit = holding.may(action, arn)
    return all_of.anything(holding, p, hit) if hit else None


def others(all_of: Writing, action: str, holding: Holding) -> Outcome | None:
    """Who else may be changed. Whether the holder can become that one is another path's question."""
    snapshot = all_of.snapshot
    if action == VERSION:
        held = {arn: p for p in snapshot.principals() for arn in p.attached if ours(arn)}
    elif "Group" in action:
        users = snapshot.users.values()
        held = {snapshot.groups[name].arn: p for p in users for name in p.groups if name in snapshot.groups}
    else:
        held = {p.arn: p for p in (snapshot.users if "User" in action else snapshot.roles).values()}
    for arn in holding.among(action, held):
        if hit := holding.may(action, arn, about(held[arn])):
            return Outcome(BOUNDED, hit, held[arn], note="it changes what others may do, not what it may do itself")
    return None


def version(all_of: Writing, path: Path, holding: Holding, p: Principal) -> Outcome | None:
    rights, found = all_of.rights(p), []
    for arn in p.attached:
        kept = all_of.snapshot.policies.get(arn)
        hit = holding.may(path.actions[0], arn) if kept and kept.raw and ours(arn) else None
        for ident in kept.raw if kept and hit else ():
            older = policy(arn, kept.version(ident) if kept else {})
            identity = tuple(older if one.name == arn else one for one in rights.identity)
            other = all_of.holding(Rights(identity, rights.boundary), p)
            if hit:
                found.append(all_of.compared(holding, other, hit, p, f"with version {ident} of {arn}"))
    return strongest(found) or nobody_yet(holding, path, "it may bring back any version of any policy")


def unbound(all_of: Writing, path: Path, holding: Holding, p: Principal) -> Outcome | None:
    action = path.actions[0]
    if not p.boundary or kind(p) not in action:
        return None
    rights, found = all_of.rights(p), []
    put = "Put" in action
    known = all_of.fitting(holding, action, "iam:permissionsboundary", all_of.snapshot.policies) if put else ()
    for arn in [ADMINISTRATOR, *known] if put else [p.boundary]:
        if hit := holding.may(action, p.arn, {"iam:permissionsboundary": arn}):
            bound = all_of.text(arn) if put else None
            found.append(all_of.compared(holding, all_of.holding(Rights(rights.identity, bound), p), hit, p))
    return strongest(found)

"""Ways to more rights (paths.toml), decided for each principal, and only worth a finding when something is gained.

A path's actions are asked of the evaluator as some request could be made: denies that are certain, boundaries, dates and
resources count, and so does the trust of a role that is passed, taken or rewritten. What the path leads to is looked up in the
snapshot. Gained is what makes somebody strong (`powers` in paths.toml) and the holder has not got: rights over IAM, secrets and
other roles wherever they hold; data and machines only where nobody had a certain resource in mind. A role that may touch its own
bucket, and nothing else, is no gain for who may pass it: such a path is `bounded`, severity info, and says so.

critical: the target may do everything (who may write any policy of somebody it is has what that one's boundary leaves).
high: it is stronger than the holder, or nobody is there yet and the holder may reach whoever comes.
An administrator has no more to gain: IAM-ADMIN-001 is about those.
"""

from __future__ import annotations

from collections.abc import Callable

from iampolicy.account.snapshot import Principal
from iampolicy.escalation import assume_and_pass, writing
from iampolicy.escalation.chains import chains
from iampolicy.escalation.paths import MAY_TAKE, Path, open_to, short
from iampolicy.escalation.permission_set import Holding
from iampolicy.escalation.targets import ADMIN, BOUNDED, GAINS, Outcome
from iampolicy.escalation.writing import Writing
from iampolicy.finding import Finding
from iampolicy.policy.evaluate import Decision

KINDS: dict[str, Callable[[Writing, Path, Holding, Principal], Outcome | None]] = {
    "passed": assume_and_pass.passed,
    "carried": assume_and_pass.carried,
    "outside": assume_and_pass.outside,
    "keys": assume_and_pass.keys,
    "role": assume_and_pass.role,
    "group": assume_and_pass.group,
    "self": writing.oneself,
    "version": writing.version,
    "boundary": writing.unbound,
}
SEVERITY = {ADMIN: "critical", GAINS: "high", BOUNDED: "info"}
SHOWN = 4  # powers that a message names

Told = dict[
    tuple[str, int], tuple[Outcome, str, tuple[str, ...]]
]  # an outcome in words; it keeps the outcome, and so its id


def findings(all_of: Writing, judged: Callable[[Principal], bool] = lambda p: True) -> list[Finding]:
    """All IAM-PRIVESC findings about those who are judged."""
    found: list[Finding] = []
    told: Told = {}
    critical: dict[str, tuple[str, ...]] = {}
    told_of = (p for p in all_of.snapshot.principals() if "/aws-service-role/" not in p.arn and judged(p))
    weak = [p for p in told_of if not all_of.of(p).admin]
    for p in weak:
        for path in within_reach(all_of, p):
            if outcome := KINDS[path.how](all_of, path, all_of.of(p), p):
                one = finding(all_of, path, p, outcome, told)
                found.append(one)
                if outcome.level == ADMIN:
                    critical.setdefault(p.arn, one.path)
    return found + list(chains(all_of, weak, critical))


def within_reach(all_of: Writing, p: Principal) -> tuple[Path, ...]:
    """The paths of whose actions none is quite out of the question: a trust that names the principal needs no sts:AssumeRole."""
    actions = all_of.of(p).actions
    return open_to(actions | {MAY_TAKE.lower()} if all_of.trusting(p) else actions)


def finding(all_of: Writing, path: Path, p: Principal, outcome: Outcome, told: Told) -> Finding:
    policy, statement = blamed(all_of, p, outcome.decision)
    at_fault = f"In {statement} of {policy}: " if policy else ""
    key = (path.id, id(outcome))  # most outcomes are of many principals
    if key not in told:
        told[key] = outcome, message(path, p, outcome), steps(path, p, outcome)
    _, text, way = told[key]
    return Finding(path.rule, SEVERITY[outcome.level], p.name, text, at_fault + path.fix, policy, statement, way)


def blamed(all_of: Writing, p: Principal, decision: Decision) -> tuple[str, str]:
    """The policy, by the name that this principal has it under, and the statement that allow the path's first action."""
    for one in decision.deciding:
        if one.layer == "identity":
            return all_of.rights(p).identity[int(one.policy)].name, one.statement.name
        if one.layer == "resource":
            return "the role's trust", one.statement.name
    return "", ""


def message(path: Path, p: Principal, outcome: Outcome) -> str:
    what = f"{path.title} ({' + '.join(path.actions)})"
    note = f"; {outcome.note}" if outcome.note else ""
    if outcome.level == BOUNDED:
        who = f" through {short(outcome.target.arn)}" if outcome.target else ""
        return f"{what}: bounded, nothing is gained{who}{note}"
    who = f"{short(outcome.target.arn)}: " if outcome.target else ""
    more = len(outcome.gains) - SHOWN
    gains = ", ".join(outcome.gains[:SHOWN]) + (f" and {more} more" if more > 0 else "")
    return f"{what}: {who}{gains}{note}" if gains else f"{what}: {outcome.note}"


def steps(path: Path, p: Principal, outcome: Outcome) -> tuple[str, ...]:
    who = short(outcome.target.arn) if outcome.target else ""
    myself = outcome.level == ADMIN and outcome.target == p
    return (*path.steps(who), "administrator" if myself else who or "whoever comes")

"""Decide escalation paths (paths.toml) for each principal; a path is a high or critical finding only when the principal gains something.

The evaluator decides whether some request could perform a path's actions: certain denies, boundaries, dates and resources
count, and so does the trust policy of a role that is passed, assumed or rewritten. The target of the path is looked up in the
snapshot. A gain is a power (`powers` in paths.toml) that the holder lacks: permissions over IAM, secrets and other roles, on any
resource; over data and machines only where the policy names no specific resource. A role that may access only its own
bucket gives nothing to a principal that may pass it: such a path is `bounded`, with severity info.

critical: the target may do everything (a principal that may write its own policies is limited by its boundary alone).
high: the target is stronger than the holder, or no target exists yet and the holder may use any new one.
An administrator has nothing more to gain: IAM-ADMIN-001 reports those.
"""

from __future__ import annotations

from collections.abc import Callable

from iampolicy.account.owners import is_service_linked
from iampolicy.account.snapshot import Principal
from iampolicy.escalation import assume_and_pass, policy_writes
from iampolicy.escalation.account_model import AccountModel
from iampolicy.escalation.chains import find_chains
from iampolicy.escalation.outcomes import ADMIN, BOUNDED, GAINS, Outcome
from iampolicy.escalation.paths import ASSUME_ROLE, Path, list_available_paths, shorten_arn
from iampolicy.escalation.permission_set import PermissionSet
from iampolicy.finding import Finding
from iampolicy.policy.evaluate import Decision

KINDS: dict[str, Callable[[AccountModel, Path, PermissionSet, Principal], Outcome | None]] = {
    "passed": assume_and_pass.pass_role,
    "carried": assume_and_pass.reach_carrier,
    "outside": assume_and_pass.reach_outside,
    "keys": assume_and_pass.create_keys,
    "role": assume_and_pass.become_role,
    "group": assume_and_pass.join_group,
    "self": policy_writes.write_own_policies,
    "version": policy_writes.restore_version,
    "boundary": policy_writes.lift_boundary,
}
SEVERITY = {ADMIN: "critical", GAINS: "high", BOUNDED: "info"}
SHOWN = 4  # powers that a message names

Wordings = dict[
    tuple[str, int], tuple[Outcome, str, tuple[str, ...]]
]  # The wording of an outcome; it holds a reference to the outcome, so that its id stays valid.


def findings(model: AccountModel, judged: Callable[[Principal], bool] = lambda p: True) -> list[Finding]:
    """Return all IAM-PRIVESC findings about the principals that `judged` accepts."""
    found: list[Finding] = []
    wordings: Wordings = {}
    critical: dict[str, tuple[str, ...]] = {}
    examined = (p for p in model.snapshot.principals() if not is_service_linked(p.path) and judged(p))
    weak = [p for p in examined if not model.find_permission_set(p).is_admin]
    for p in weak:
        for path in list_paths_to_try(model, p):
            if outcome := KINDS[path.how](model, path, model.find_permission_set(p), p):
                one = make_finding(model, path, p, outcome, wordings)
                found.append(one)
                if outcome.level == ADMIN:
                    critical.setdefault(p.arn, one.path)
    return found + list(find_chains(model, weak, critical))


def list_paths_to_try(model: AccountModel, p: Principal) -> tuple[Path, ...]:
    """Return the paths whose actions may all be allowed: a principal that a trust policy names does not need sts:AssumeRole itself."""
    actions = model.find_permission_set(p).actions
    return list_available_paths(actions | {ASSUME_ROLE.lower()} if model.find_candidate_roles(p) else actions)


def make_finding(model: AccountModel, path: Path, p: Principal, outcome: Outcome, wordings: Wordings) -> Finding:
    policy, statement = find_allowing_statement(model, p, outcome.decision)
    at_fault = f"In {statement} of {policy}: " if policy else ""
    key = (path.id, id(outcome))  # Most outcomes are shared by many principals.
    if key not in wordings:
        wordings[key] = outcome, describe_outcome(path, p, outcome), describe_path_steps(path, p, outcome)
    _, text, way = wordings[key]
    return Finding(path.rule, SEVERITY[outcome.level], p.name, text, at_fault + path.fix, policy, statement, way)


def find_allowing_statement(model: AccountModel, p: Principal, decision: Decision) -> tuple[str, str]:
    """Return the policy (by the name under which this principal has it) and the statement that allow the path's first action."""
    for one in decision.deciding:
        if one.layer == "identity":
            return model.rights(p).identity[int(one.policy)].name, one.statement.name
        if one.layer == "resource":
            return "the role's trust policy", one.statement.name
    return "", ""


def describe_outcome(path: Path, p: Principal, outcome: Outcome) -> str:
    what = f"{path.title} ({' + '.join(path.actions)})"
    note = f"; {outcome.note}" if outcome.note else ""
    if outcome.level == BOUNDED:
        who = f" through {shorten_arn(outcome.target.arn)}" if outcome.target else ""
        return f"{what}: bounded, no gain{who}{note}"
    who = f"{shorten_arn(outcome.target.arn)}: " if outcome.target else ""
    more = len(outcome.gains) - SHOWN
    gains = ", ".join(outcome.gains[:SHOWN]) + (f" and {more} more" if more > 0 else "")
    return f"{what}: {who}{gains}{note}" if gains else f"{what}: {outcome.note}"


def describe_path_steps(path: Path, p: Principal, outcome: Outcome) -> tuple[str, ...]:
    who = shorten_arn(outcome.target.arn) if outcome.target else ""
    myself = outcome.level == ADMIN and outcome.target == p
    return (*path.steps(who), "administrator" if myself else who or "any new role")

"""Keys that a request certainly lacks, as opposed to keys about which nothing is known.

Asked what is possible, the evaluator takes a key that is not in the context for an unknown one. What a policy asks of a key that is
absent is decided here beforehand, and only what is left of the policy handed on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from iampolicy.policy.conditions import evaluate_conditions
from iampolicy.policy.document import Policy, Statement

IsAbsent = Callable[[str], bool]  # of a key in lower case


def drop_absent_keys(policy: Policy, absent: IsAbsent) -> Policy:
    """The policy as a request without these keys meets it. Statements keep their numbers and names."""
    if not any(absent(key) for one in policy.statements for _, key, _ in one.conditions):
        return policy
    left = (drop_absent_conditions(one, absent) for one in policy.statements)
    return Policy(policy.name, tuple(one for one in left if one))


def drop_absent_conditions(one: Statement, absent: IsAbsent) -> Statement | None:
    """The statement with its other conditions, or None when it cannot apply any more."""
    about = tuple(found for found in one.conditions if absent(found[1]))
    if not about:
        return one
    applies, _ = evaluate_conditions(replace(one, conditions=about), {})
    return replace(one, conditions=tuple(found for found in one.conditions if found not in about)) if applies else None

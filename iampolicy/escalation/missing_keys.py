"""Drop conditions on keys that a request certainly lacks, as opposed to unknown keys.

With `possible`, the evaluator treats a key that is not in the context as unknown. A policy's conditions on an absent key
are therefore decided here first, and the evaluator gets the rest of the policy.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from iampolicy.policy.conditions import evaluate_conditions
from iampolicy.policy.document import Policy, Statement

IsAbsent = Callable[[str], bool]  # The argument is a key in lower case.


def drop_absent_keys(policy: Policy, absent: IsAbsent) -> Policy:
    """Return the policy as it applies to a request without these keys. Statements keep their numbers and names."""
    if not any(absent(key) for one in policy.statements for _, key, _ in one.conditions):
        return policy
    left = (drop_absent_conditions(one, absent) for one in policy.statements)
    return Policy(policy.name, tuple(one for one in left if one))


def drop_absent_conditions(one: Statement, absent: IsAbsent) -> Statement | None:
    """Return the statement with its other conditions, or None when it cannot apply any more."""
    about = tuple(found for found in one.conditions if absent(found[1]))
    if not about:
        return one
    applies, _ = evaluate_conditions(replace(one, conditions=about), {})
    return replace(one, conditions=tuple(found for found in one.conditions if found not in about)) if applies else None

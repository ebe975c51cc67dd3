"""iam.check compares each role with its expect.toml, by our evaluator and, with --remote, by AWS's own simulator too."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from iampolicy.account.snapshot import Principal, Snapshot
from iampolicy.policy.evaluate import decide_request
from ops.core.aws.account import Account
from ops.core.output import format_table, say
from ops.core.settings import Settings
from ops.iam import expectations, roles
from ops.iam.expectations import Expectation
from ops.iam.simulate import build_context_entry


def check_roles(settings: Settings, role: str, account: Account | None) -> dict[str, Any]:
    """Check every entry of each role's expect.toml; with an account, compare the calls with AWS's simulator too."""
    wanted = roles.read_roles(settings, only=role)
    have = roles.build_applied_snapshot(wanted, settings)
    rows, failed, differing = [], [], []
    for want in wanted:
        expected = expectations.read_expectations(want.role, settings)
        found = list(expectations.find_failures(expected, have.roles[settings.build_role_name(want.role)], have))
        failed += found
        differing += find_disagreements(account, want.role, expected, have) if account else []
        count = Counter(one.kind for one in expected)
        rows.append({"role": want.role, **{kind: count[kind] for kind in expectations.LISTS}, "failed": len(found)})
    return {
        "roles": rows,
        "failures": [one.data for one in failed],
        "differences": differing,
        "asked_aws": account is not None,
    }


def format_check(data: dict[str, Any]) -> str:
    """Return the failures and disagreements, if there are any, and the table of all roles."""
    shown = []
    if found := [(f["role"], format_entry(f), format_call(f), f["found"]) for f in data["failures"]]:
        shown.append(format_table(("role", "entry", "call", "found"), found))
    if apart := [(d["role"], format_entry(d), format_call(d), d["ours"], d["theirs"]) for d in data["differences"]]:
        shown.append(format_table(("role", "entry", "call", "Kennel says", "AWS says"), apart))
    counted = [tuple(row.values()) for row in data["roles"]]
    shown.append(format_table(("role", "allowed", "denied", "may assume", "may not assume", "failed"), counted))
    return "\n\n".join(shown)


def format_entry(about: dict[str, Any]) -> str:
    return f"{about['list']} {about['entry']}"


def format_call(about: dict[str, Any]) -> str:
    what = f"{about['action']} {about['resource']}" if "action" in about else f"assumed by {about['by']}"
    return " ".join([what, *(f"{key}={value}" for key, value in about["context"].items())])


def find_disagreements(
    account: Account, role: str, expected: list[Expectation], have: Snapshot
) -> list[dict[str, Any]]:
    """Return the calls on which AWS's simulator and our evaluator disagree, without trust policies, which it cannot simulate.

    Each request has the calls of one resource and one context: for several resources, the simulator does not say which result
    belongs to which.
    """
    principal = have.roles[account.settings.build_role_name(role)]
    batches: dict[str, list[Expectation]] = {}
    for one in expected:
        if one.is_call:
            batches.setdefault(f"{one.resource} {sorted(one.context.items())}", []).append(one)
    say(f"{role}: {sum(map(len, batches.values()))} calls in {len(batches)} requests to AWS's simulator ...")
    return [row for batch in batches.values() for row in compare_with_aws(account, principal, batch, have)]


def compare_with_aws(
    account: Account, role: Principal, batch: list[Expectation], have: Snapshot
) -> Iterator[dict[str, Any]]:
    answers = account.list_all(
        "iam",
        "simulate_principal_policy",
        "EvaluationResults",
        PolicySourceArn=role.arn,
        ActionNames=sorted({one.action for one in batch}),
        ResourceArns=[batch[0].resource],
        ContextEntries=[
            build_context_entry(key, value if isinstance(value, str) else list(value))
            for key, value in batch[0].context.items()
        ],
    )
    theirs = {answer["EvalActionName"].lower(): answer["EvalDecision"] for answer in answers}
    for one in batch:
        ours = decide_request(expectations.build_request(one, role), have.rights(role))
        said = theirs.get(one.action.lower(), "nothing")
        if said != ours.effect:
            yield expectations.Failure(role.name, one, "").data | {"ours": ours.effect, "theirs": said}

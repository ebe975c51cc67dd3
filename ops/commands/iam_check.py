"""Each role against its expect.toml: by our evaluator, and with --remote by AWS's own simulator."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ops.core.errors import FINDINGS
from ops.core.output import say, table
from ops.core.task import Result, task

if TYPE_CHECKING:
    from iampolicy.account.snapshot import Principal, Snapshot
    from ops.core.aws.account import Account
    from ops.iam.expectations import Expectation


@task(
    help={
        "role": "Only this role: a folder of iam_policies/.",
        "remote": "Ask AWS's simulator about the roles as they are applied, and tell where it and we differ.",
        "json": "Print counts, failures and differences as JSON.",
    }
)
def check(c, role="", remote=False, json=False):
    """Decide every call of each role's expect.toml, offline; exit 7 where one goes otherwise."""
    from ops.core import settings as config
    from ops.core.aws.account import Account
    from ops.iam import expectations, roles

    settings = config.load(c.config)
    account = Account.from_context(c, "auditor") if remote else None
    wanted = roles.wanted(settings, only=role)
    have = roles.applied(wanted, settings)
    rows, failed, differing = [], [], []
    for want in wanted:
        expected = expectations.of(want.role, settings)
        found = list(expectations.failures(expected, have.roles[settings.role_name(want.role)], have))
        failed += found
        differing += differences(account, want.role, expected, have) if account else []
        count = Counter(one.kind for one in expected)
        rows.append({"role": want.role, **{kind: count[kind] for kind in expectations.LISTS}, "failed": len(found)})
    data = {"roles": rows, "failures": [one.data for one in failed], "differences": differing, "asked_aws": remote}
    return Result(data, "\n\n".join(parts(data)), code=FINDINGS if failed or differing else 0)


def parts(data: dict[str, Any]) -> list[str]:
    """What went otherwise, if anything did, and the table of all roles."""
    shown = []
    if found := [(f["role"], entry(f), call(f), f["found"]) for f in data["failures"]]:
        shown.append(table(("role", "entry", "call", "found"), found))
    if apart := [(d["role"], entry(d), call(d), d["ours"], d["theirs"]) for d in data["differences"]]:
        shown.append(table(("role", "entry", "call", "we say", "AWS says"), apart))
    counted = [tuple(row.values()) for row in data["roles"]]
    return [*shown, table(("role", "allowed", "denied", "may assume", "may not", "failed"), counted)]


def entry(about: dict[str, Any]) -> str:
    return f"{about['list']} {about['entry']}"


def call(about: dict[str, Any]) -> str:
    what = f"{about['action']} {about['resource']}" if "action" in about else f"assumed by {about['by']}"
    return " ".join([what, *(f"{key}={value}" for key, value in about["context"].items())])


def differences(account: Account, role: str, expected: list[Expectation], have: Snapshot) -> list[dict[str, Any]]:
    """The calls on which AWS's simulator and our evaluator do not agree. Nobody's trust is asked about: the simulator knows none.

    A question holds the calls with one resource and one context: of several resources it does not say for each which it meant.
    """
    principal = have.roles[account.settings.role_name(role)]
    batches: dict[str, list[Expectation]] = {}
    for one in expected:
        if one.is_call:
            batches.setdefault(f"{one.resource} {sorted(one.context.items())}", []).append(one)
    say(f"{role}: {sum(map(len, batches.values()))} calls in {len(batches)} questions to AWS ...")
    return [row for batch in batches.values() for row in compared(account, principal, batch, have)]


def compared(account: Account, role: Principal, batch: list[Expectation], have: Snapshot) -> Iterator[dict[str, Any]]:
    from iampolicy.policy.evaluate import decide
    from ops.commands.iam_simulate import entry as told
    from ops.iam import expectations

    answers = account.list_all(
        "iam",
        "simulate_principal_policy",
        "EvaluationResults",
        PolicySourceArn=role.arn,
        ActionNames=sorted({one.action for one in batch}),
        ResourceArns=[batch[0].resource],
        ContextEntries=[
            told(key, value if isinstance(value, str) else list(value)) for key, value in batch[0].context.items()
        ],
    )
    theirs = {answer["EvalActionName"].lower(): answer["EvalDecision"] for answer in answers}
    for one in batch:
        ours = decide(expectations.request(one, role), have.rights(role))
        said = theirs.get(one.action.lower(), "nothing")
        if said != ours.effect:
            yield expectations.Failure(role.name, one, "").data | {"ours": ours.effect, "theirs": said}

"""Roles and policies: iam_policies/ applied to the account, and the account audited."""

from __future__ import annotations

from collections import Counter

from ops.aws import Account
from ops.cli import Answer, carry_out, say, table, task
from ops.errors import FINDINGS, OpsError


@task(help={"role": "Only this role: a folder of iam_policies/."})
def apply(c, role=""):
    """Make every role of iam_policies/ what its folder says."""
    from ops.iam import plan, policies, snapshot

    account = Account.of(c)
    wanted = policies.wanted(account.settings, only=role)
    account.guard()
    done = carry_out(c, account, plan.steps(snapshot.read(account), wanted, account.settings))
    return Answer(
        done.data | {"roles": [w.role for w in wanted]}, f"{len(wanted)} roles. {done.text}", changes=done.changes
    )


@task(
    help={
        "fail_on": "critical, high, medium or low: exit 7 at this severity and above.",
        "json": "Print the findings as JSON.",
    }
)
def audit(c, fail_on="high", json=False):
    """Look for roles that may do too much, that anyone may take, or that differ from iam_policies/."""
    from ops.iam import policies, rules, snapshot

    if fail_on not in rules.SEVERITIES:
        raise OpsError(f"--fail-on takes one of {', '.join(rules.SEVERITIES)}, not {fail_on!r}.")
    account = Account.of(c)
    have = snapshot.read(account)
    found = rules.findings(have, policies.wanted(account.settings), account.settings)
    open_ones = rules.waive(found, policies.waivers())
    serious = [f for f in open_ones if rules.SEVERITIES.index(f.severity) <= rules.SEVERITIES.index(fail_on)]
    counts = Counter(f.severity for f in open_ones)
    summary = f"{len(have.roles)} roles and {len(have.users)} users: " + (
        ", ".join(f"{counts[s]} {s}" for s in rules.SEVERITIES if counts[s]) or "nothing found"
    )
    if not json:
        say(summary)
    rows = [(f.severity, f.rule, f.principal, f.what, f.remedy) for f in open_ones]
    text = table(("severity", "rule", "principal", "what", "remedy"), rows) if rows else summary
    return Answer([vars(f) for f in open_ones], text, code=FINDINGS if serious else 0)

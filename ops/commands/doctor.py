"""The command doctor: check the prerequisites of all other commands."""

from __future__ import annotations

from invoke import Context

from ops.core.errors import FAILED
from ops.core.output import format_table
from ops.core.task import Result, task


@task(help={"json": "Print the checks as JSON."})
def doctor(c: Context, json: bool = False) -> Result:
    """Check credentials, account, region, roles, image and disk."""
    from dataclasses import asdict

    from ops.core.aws.account import Account
    from ops.stack import checks

    found = list(checks.check_prerequisites(Account.from_context(c, role="")))
    rows = [("ok" if check.ok else "WRONG", check.name, check.found, "" if check.ok else check.fix) for check in found]
    wrong = [check for check in found if not check.ok]
    verdict = f"{len(found) - len(wrong)} of {len(found)} checks are right."
    text = format_table(("", "check", "found", "fix"), rows) + "\n" + verdict
    return Result([asdict(check) for check in found], text, code=FAILED if wrong else 0)

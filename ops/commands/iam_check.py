"""The command iam.check."""

from __future__ import annotations

from invoke import Context

from ops.core.errors import FINDINGS
from ops.core.task import Result, task


@task(
    help={
        "role": "Only this role, a folder of iam_policies/ (default: all).",
        "remote": "Compare with the decisions of AWS's policy simulator for the applied roles.",
        "json": "Print the result as JSON.",
    }
)
def check(c: Context, role: str = "", remote: bool = False, json: bool = False) -> Result:
    """Check each role of iam_policies/ against its expect.toml, without AWS.

    Exit code 7 if a call is not decided as expected.

    Example: invoke iam.check --role ROLE
    """
    from ops.core.aws.account import Account
    from ops.core.settings import load
    from ops.iam.check import check_roles, format_check

    settings = load(c.config)
    data = check_roles(settings, role, Account.from_context(c, "auditor") if remote else None)
    return Result(data, format_check(data), code=FINDINGS if data["failures"] or data["differences"] else 0)

"""The command iam.check."""

from __future__ import annotations

from invoke import Context

from ops.core.errors import FINDINGS
from ops.core.task import Result, task


@task(
    help={
        "role": "Only this role: a folder of iam_policies/.",
        "remote": "Ask AWS's simulator about the roles as they are applied, and tell where it and we differ.",
        "json": "Print counts, failures and differences as JSON.",
    }
)
def check(c: Context, role: str = "", remote: bool = False, json: bool = False) -> Result:
    """Decide every call of each role's expect.toml, offline; exit 7 where one goes otherwise."""
    from ops.core.aws.account import Account
    from ops.core.settings import load
    from ops.iam.check import check_roles, format_check

    settings = load(c.config)
    data = check_roles(settings, role, Account.from_context(c, "auditor") if remote else None)
    return Result(data, format_check(data), code=FINDINGS if data["failures"] or data["differences"] else 0)

"""Commands for the stack as a whole."""

from __future__ import annotations

from invoke import Context

from ops.core.task import Result, task


@task(help={"id": "Id of the lease, from the message that names its holder."})
def unlock(c: Context, id: str) -> Result:
    """Free a stale lease, whose command has ended without giving it back.

    Refused while its command gives signs of life.

    Example: invoke stack.unlock --id ID
    """
    from ops.core import lease
    from ops.core.aws.account import Account
    from ops.core.settings import load

    account = Account(load(c.config), "operator")
    account.guard()
    freed = lease.unlock(account, id)
    text = f"The lease {id} is free." if freed else "No command holds the lease of this stack."
    return Result({"freed": freed}, text, changes=int(freed))

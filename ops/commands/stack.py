"""Commands for the stack as a whole."""

from __future__ import annotations

from invoke import Context

from ops.core.errors import OpsError
from ops.core.task import Result, task


@task(
    help={
        "minutes": "Only the last so many minutes.",
        "resource": "Only changes that name this: an id, an ARN, a name, a call.",
        "run": "Only the run of a command with this id; its first digits suffice.",
        "lines": "At most so many changes, the newest (default: 50).",
        "json": "Print the result as JSON.",
    }
)
def log(c: Context, minutes: int = 0, resource: str = "", run: str = "", lines: int = 50, json: bool = False) -> Result:
    """List what commands on this machine changed in the stack, the newest last.

    It reads .kennel/audit.jsonl. What others changed, from other machines, is in
    CloudTrail.

    Example: invoke stack.log --minutes 60 --resource RESOURCE
    """
    from dataclasses import asdict

    from ops.core.audit_log import AuditLog
    from ops.core.paths import WORK
    from ops.core.settings import load
    from ops.stack import changes

    if lines < 1:
        raise OpsError(f"--lines must be 1 or more, not {lines}.")
    stack, log = load(c.config).stack.name, AuditLog(WORK / "audit.jsonl")
    found = changes.select_changes(changes.read_changes(log.read(), stack), minutes, resource, run)
    shown = found[-lines:]
    count = f"{len(shown)} of {len(found)} changes of the stack {stack}" if found else f"No change of the stack {stack}"
    text = "\n".join(filter(None, [changes.format_changes(shown), f"{count} by this machine, in {log.path}"]))
    return Result([asdict(one) for one in shown], text)


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

"""Endpoints that should no longer run: deleted by hand, or because they have expired or have no callers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from invoke import Context

from ops.core.task import Result, run_plan, task
from ops.core.task import request_confirmation as ask_first

if TYPE_CHECKING:
    from ops.core.aws.account import Account


@task(help={"confirm": "The endpoint's name, where nobody can be asked."})
def delete(c: Context, confirm: str = "") -> Result | None:
    """Delete the endpoint with its scaling, configs, models and alarms."""
    from ops.core.aws.account import Account

    return delete_endpoint(c, Account.from_context(c), "This deletes", confirm)


@task(
    help={
        "idle_hours": "So long without a call, it counts as forgotten.",
        "confirm": "The endpoint's name, where nobody can be asked.",
        "json": "Print it as JSON.",
    }
)
def reap(c: Context, idle_hours: int = 24, confirm: str = "", json: bool = False) -> Result | None:
    """Delete the endpoint if its time is over or nobody calls it; else say why it stays."""
    from ops.core.aws.account import Account
    from ops.endpoint import cleanup

    account = Account.from_context(c)
    why, stays = cleanup.decide_cleanup(account, idle_hours)
    if not why:
        return Result({"endpoint": account.settings.endpoint_name, "why": ""}, stays)
    return delete_endpoint(c, account, f"{why}. This deletes", confirm)


def delete_endpoint(c: Context, account: Account, why: str, typed: str) -> Result | None:
    from ops.endpoint import cleanup, teardown

    name = account.settings.endpoint_name
    have = cleanup.read_facts(account, dry=c.config.run.dry)
    ask_first(c, f"{why} the endpoint {name}; callers will fail.", name=name, given=typed)
    done = run_plan(c, account, teardown.steps(have, account.settings))
    return None if c.config.run.dry else Result(done.data, f"{name} is deleted. {done.text}", changes=done.changes)

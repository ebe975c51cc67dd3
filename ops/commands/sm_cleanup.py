"""The commands sm.delete and sm.reap, which delete the endpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING

from invoke import Context

from ops.core.task import Result, request_confirmation, run_plan, task

if TYPE_CHECKING:
    from ops.core.aws.account import Account


@task(help={"confirm": "Name of the endpoint, to confirm without a prompt."})
def delete(c: Context, confirm: str = "") -> Result | None:
    """Delete the endpoint with its scaling, configs, models and alarms.

    Releases in the bucket are kept.

    Example: invoke sm.delete --confirm ENDPOINT
    """
    from ops.core.aws.account import Account

    return delete_endpoint(c, Account.from_context(c), "This deletes", confirm)


@task(
    help={
        "idle_hours": "Hours without a request after which the endpoint counts as unused (default: 24).",
        "confirm": "Name of the endpoint, to confirm without a prompt.",
        "json": "Print the result as JSON.",
    }
)
def reap(c: Context, idle_hours: int = 24, confirm: str = "", json: bool = False) -> Result | None:
    """Delete the endpoint if it has expired or is unused.

    Otherwise prints why it is kept.

    Example: invoke sm.reap --idle-hours 48 --confirm ENDPOINT
    """
    from ops.core.aws.account import Account
    from ops.endpoint import cleanup

    account = Account.from_context(c)
    why, stays = cleanup.decide_cleanup(account, idle_hours)
    if not why:
        return Result({"endpoint": account.settings.endpoint_name, "why": ""}, stays)
    return delete_endpoint(c, account, f"{why}. This deletes", confirm)


def delete_endpoint(c: Context, account: Account, why: str, confirm: str) -> Result | None:
    from ops.endpoint import cleanup, teardown

    name = account.settings.endpoint_name
    have = cleanup.read_facts(account, dry=c.config.run.dry)
    if not teardown.has_resources(have):
        return Result({"made": 0}, f"There is no endpoint {name}, and nothing of an earlier one.")
    request_confirmation(c, account, f"{why} the endpoint {name}; callers will fail.", name=name, given=confirm)
    done = run_plan(c, account, teardown.steps, have, account.settings)
    return None if c.config.run.dry else Result(done.data, f"{name} is deleted. {done.text}", changes=done.changes)

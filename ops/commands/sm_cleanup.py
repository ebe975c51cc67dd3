"""Endpoints that should not stand any more: deleted by hand, or because their time is over or nobody calls."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from ops.core.aws.account import Account
from ops.core.errors import OpsError
from ops.core.task import Result, carry_out, task
from ops.core.task import confirm as ask_first


@task(help={"confirm": "The endpoint's name, where nobody can be asked."})
def delete(c, confirm=""):
    """Delete the endpoint with its scaling, configs, models and alarms."""
    return deleted(c, Account.from_context(c), "This deletes", confirm)


@task(
    help={
        "idle_hours": "So long without a call, it counts as forgotten.",
        "confirm": "The endpoint's name, where nobody can be asked.",
        "json": "Print it as JSON.",
    }
)
def reap(c, idle_hours=24, confirm="", json=False):
    """Delete the endpoint if its time is over or nobody calls it; else say why it stays."""
    from ops.commands import sm_endpoint
    from ops.endpoint import alarms, probe

    if idle_hours < 1:
        raise OpsError(f"--idle-hours is a number of hours, not {idle_hours}.")
    account = Account.from_context(c)
    found = probe.existing(account)
    expires = sm_endpoint.expiry(account, found["EndpointArn"])
    calls, _ = alarms.errors(account, idle_hours * 60)
    why = reason(found["CreationTime"], expires, calls, idle_hours, datetime.now(UTC))
    if not why:
        text = f"{found['EndpointName']} stays: {calls} calls in {idle_hours} hours, expires {expires or 'never'}."
        return Result({"endpoint": found["EndpointName"], "why": ""}, text)
    return deleted(c, account, f"{why}. This deletes", confirm)


def reason(created: datetime, expires: str, calls: int, idle_hours: int, now: datetime) -> str:
    """Why an endpoint may go, or "". `expires` is the tag kennel:expires."""
    if expires and now >= datetime.strptime(expires, "%Y-%m-%dT%H:%MZ").replace(tzinfo=UTC):
        return f"It expired at {expires}"
    if not calls and (now - created).total_seconds() >= idle_hours * 3600:
        return f"Nobody has called it for {idle_hours} hours"
    return ""


def deleted(c: Any, account: Account, why: str, typed: str) -> Result | None:
    from ops.endpoint import plan, teardown

    if not c.config.run.dry:
        plan.rest(account)
    name = account.settings.endpoint_name
    have = teardown.facts(account)
    if not teardown.anything(have):
        raise OpsError(
            f"There is no endpoint {name}. Deploy one: invoke sm.deploy. Nothing is left of an older one either."
        )
    account.guard()
    ask_first(c, f"{why} the endpoint {name}; callers will fail.", name=name, given=typed)
    done = carry_out(c, account, teardown.steps(have, account.settings))
    return None if c.config.run.dry else Result(done.data, f"{name} is deleted. {done.text}", changes=done.changes)

"""Endpoints that should not stand any more: deleted by hand, or because their time is over or nobody calls."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from ops import cli
from ops.aws import Account
from ops.cli import Answer, carry_out, task
from ops.errors import OpsError


@task(help={"confirm": "The endpoint's name, where nobody can be asked."})
def delete(c, confirm=""):
    """Delete the endpoint with its scaling, configs, models and alarms."""
    return deleted(c, Account.of(c), "This deletes", confirm)


@task(
    help={
        "idle_hours": "So long without a call, it counts as forgotten.",
        "confirm": "The endpoint's name, where nobody can be asked.",
        "json": "Print it as JSON.",
    }
)
def reap(c, idle_hours=24, confirm="", json=False):
    """Delete the endpoint if its time is over or nobody calls it; else say why it stays."""
    from ops.sm import live, showing, watch

    if idle_hours < 1:
        raise OpsError(f"--idle-hours is a number of hours, not {idle_hours}.")
    account = Account.of(c)
    found = live.existing(account)
    expires = showing.expiry(account, found["EndpointArn"])
    calls, _ = watch.errors(account, idle_hours * 60)
    why = reason(found["CreationTime"], expires, calls, idle_hours, datetime.now(UTC))
    if not why:
        text = f"{found['EndpointName']} stays: {calls} calls in {idle_hours} hours, expires {expires or 'never'}."
        return Answer({"endpoint": found["EndpointName"], "why": ""}, text)
    return deleted(c, account, f"{why}. This deletes", confirm)


def reason(created: datetime, expires: str, calls: int, idle_hours: int, now: datetime) -> str:
    """Why an endpoint may go, or "". `expires` is the tag kennel:expires."""
    if expires and now >= datetime.strptime(expires, "%Y-%m-%dT%H:%MZ").replace(tzinfo=UTC):
        return f"It expired at {expires}"
    if not calls and (now - created).total_seconds() >= idle_hours * 3600:
        return f"Nobody has called it for {idle_hours} hours"
    return ""


def deleted(c: Any, account: Account, why: str, confirm: str) -> Answer | None:
    from ops.sm import endpoint, removal

    if not c.config.run.dry:
        endpoint.rest(account)
    name = account.settings.endpoint_name
    have = removal.facts(account)
    if not removal.anything(have):
        raise OpsError(
            f"There is no endpoint {name}. Deploy one: invoke sm.deploy. Nothing is left of an older one either."
        )
    account.guard()
    cli.confirm(c, f"{why} the endpoint {name}; callers will fail.", name=name, given=confirm)
    done = carry_out(c, account, removal.steps(have, account.settings))
    return None if c.config.run.dry else Answer(done.data, f"{name} is deleted. {done.text}", changes=done.changes)

"""The private network: no way in or out but SSH through an Instance Connect Endpoint, and S3."""

from __future__ import annotations

from invoke import Context

from ops.core.errors import AwsError, OpsError
from ops.core.output import format_table
from ops.core.task import Result, request_confirmation, run_plan, task

ROLE = "operator-infra"


@task()
def up(c: Context) -> Result:
    """Make the private network, or mend what differs."""
    from ops.core.aws.account import Account
    from ops.network import facts, plan

    account = Account.from_context(c, ROLE)
    account.guard()
    try:
        done = run_plan(c, account, plan.steps(facts.read(account), account.settings))
    except AwsError as error:
        if not error.says("AlreadyExists", "Duplicate", "Conflict"):
            raise
        raise OpsError(
            f"{error} Somebody else may be at it. Run invoke net.up again: what is there is taken as it is."
        ) from error
    text = f"{account.settings.prefix}: the network is as it should be. {done.text}" if done.text else ""
    return Result(done.data, text, changes=done.changes)


@task(help={"yes": "Do not ask."})
def down(c: Context, yes: bool = False) -> Result | None:
    """Remove the network; refused while something uses it."""
    from ops.core.aws.account import Account
    from ops.network import facts, teardown

    account = Account.from_context(c, ROLE)
    have = facts.read(account)
    if have.vpc is None:
        return Result({"made": 0}, f"There is no network of {account.settings.stack.name}.")
    teardown.check_unused(account, have)
    account.guard()
    request_confirmation(c, f"This removes the network of {account.settings.stack.name}.", yes=yes)
    done = run_plan(c, account, teardown.steps(have))
    if c.config.run.dry:
        return None
    return Result(done.data, f"The network is gone. {done.text}", changes=done.changes)


@task(help={"json": "Print it as JSON."})
def status(c: Context, json: bool = False) -> Result:
    """Show the network's parts, and what differs from the plan."""
    from ops.core.aws.account import Account
    from ops.core.plan import format_step, preview
    from ops.network import facts, plan

    account = Account.from_context(c, ROLE)
    have = facts.read(account)
    differs = [format_step(step) for step in preview(plan.steps(have, account.settings))]
    parts = have.parts()
    text = format_table(("part", "id"), parts.items()) + "".join(f"\n{line}" for line in differs)
    data = {"parts": parts, "differs": differs}
    return Result(data, text if have.vpc else "There is no network. Make it: invoke net.up")


@task(help={"json": "Print it as JSON."})
def my_address(c: Context, json: bool = False) -> Result:
    """Ask net.address_service under which address this machine is seen on the internet."""
    from ops.core.settings import load
    from ops.network.own_address import request_own_address

    settings = load(c.config).net
    found = request_own_address(settings.address_service)
    same = settings.own_address == found
    text = f"{settings.address_service} sees you as {found}. " + (
        "That is net.own_address." if same else f'For ec2.way public: net.own_address: "{found}", then invoke net.up'
    )
    return Result({"address": found, "own_address": settings.own_address}, text)

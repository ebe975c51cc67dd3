"""Commands for the private network, which only SSH through an Instance Connect Endpoint and traffic to S3 can pass."""

from __future__ import annotations

from invoke import Context

from ops.core.errors import AwsError, OpsError
from ops.core.output import format_table
from ops.core.task import Result, request_confirmation, run_plan, task

ROLE = "operator-infra"


@task()
def up(c: Context) -> Result:
    """Create the private network, or correct what differs from the settings.

    Example: invoke net.up
    """
    from ops.core.aws.account import Account
    from ops.network import facts, surplus

    account = Account.from_context(c, ROLE)
    account.guard()
    try:
        done = run_plan(c, account, surplus.steps, facts.read(account), account.settings)
    except AwsError as error:
        if not error.says("AlreadyExists", "Duplicate", "Conflict"):
            raise
        raise OpsError(
            f"{error} Another operator may be creating it too. Try again, existing parts are reused: invoke net.up"
        ) from error
    text = f"The network of {account.settings.stack.name} is ready. {done.text}" if done.text else ""
    return Result(done.data, text, changes=done.changes)


@task(help={"yes": "Skip the confirmation prompt."})
def down(c: Context, yes: bool = False) -> Result | None:
    """Delete the private network.

    Refused while the box or the endpoint uses it.

    Example: invoke net.down --yes
    """
    from ops.core.aws.account import Account
    from ops.network import facts, teardown

    account = Account.from_context(c, ROLE)
    have = facts.read_for_removal(account)
    if have.is_empty:
        return Result({"made": 0}, f"Stack {account.settings.stack.name} has no network.")
    teardown.check_unused(account, have)
    account.guard()
    request_confirmation(c, account, f"This deletes the network of {account.settings.stack.name}.", yes=yes)
    done = run_plan(c, account, teardown.steps, have)
    if c.config.run.dry:
        return None
    teardown.check_removed(account)
    return Result(done.data, f"The network is deleted. {done.text}", changes=done.changes)


@task(help={"json": "Print the result as JSON."})
def status(c: Context, json: bool = False) -> Result:
    """Show the parts of the network and what net.up would change.

    Example: invoke net.status
    """
    from ops.core.aws.account import Account
    from ops.core.plan import format_step, preview
    from ops.network import facts, surplus

    account = Account.from_context(c, ROLE)
    have = facts.read(account)
    planned = [format_step(step) for step in preview(surplus.steps(have, account.settings))]
    parts = have.parts()
    text = format_table(("part", "id"), parts.items()) + "".join(f"\n{line}" for line in planned)
    data = {"parts": parts, "differs": planned}
    return Result(data, text if have.vpc else "There is no network. Create it: invoke net.up")


@task(help={"json": "Print the result as JSON."})
def my_address(c: Context, json: bool = False) -> Result:
    """Show the public IP address of this machine.

    The service in net.address_service reports it; ec2.way public needs it in
    net.own_address.

    Example: invoke net.my-address
    """
    from ops.core.settings import load
    from ops.network.own_address import request_own_address

    settings = load(c.config).net
    found = request_own_address(settings.address_service)
    same = settings.own_address == found
    text = f"{settings.address_service} reports {found}. " + (
        "It equals net.own_address."
        if same
        else f'For ec2.way public: set net.own_address: "{found}", then invoke net.up'
    )
    return Result({"address": found, "own_address": settings.own_address}, text)

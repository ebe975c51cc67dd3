"""The private network: no way in or out but SSH through an Instance Connect Endpoint, and S3."""

from __future__ import annotations

from ops.core.aws.account import Account
from ops.core.errors import AwsError, OpsError
from ops.core.output import table
from ops.core.task import Result, carry_out, confirm, task


@task()
def up(c):
    """Make the private network, or mend what differs."""
    from ops.network import facts, plan

    account = Account.from_context(c, "operator-infra")
    account.guard()
    try:
        done = carry_out(c, account, plan.steps(facts.read(account), account.settings))
    except AwsError as error:
        if not error.says("AlreadyExists", "Duplicate", "Conflict"):
            raise
        raise OpsError(
            f"{error} Somebody else may be at it. Run invoke net.up again: what is there is taken as it is."
        ) from error
    return Result(
        done.data,
        f"{account.settings.prefix}: the network is as it should be. {done.text}" if done.text else "",
        changes=done.changes,
    )


@task(help={"yes": "Do not ask."})
def down(c, yes=False):
    """Remove the network; refused while something uses it."""
    from ops.network import facts, teardown

    account = Account.from_context(c, "operator-infra")
    have = facts.read(account)
    if have.vpc is None:
        return Result({"made": 0}, f"There is no network of {account.settings.stack.name}.")
    users = facts.users(account, have.vpc)
    if users:
        raise OpsError(
            f"The network is in use by {', '.join(users)}. First: invoke ec2.down, invoke sm.delete, or wait for the job. Nothing was touched."
        )
    account.guard()
    confirm(c, f"This removes the network of {account.settings.stack.name}.", yes=yes)
    done = carry_out(c, account, teardown.steps(have))
    if c.config.run.dry:
        return None
    return Result(done.data, f"The network is gone. {done.text}", changes=done.changes)


@task(help={"json": "Print it as JSON."})
def status(c, json=False):
    """Show the network's parts, and what differs from the plan."""
    from ops.core import plan as change
    from ops.network import facts, plan

    account = Account.from_context(c, "operator-infra")
    have = facts.read(account)
    differs = [change.shown(step) for step in change.preview(plan.steps(have, account.settings))]
    rows = [("vpc", have.vpc or "-"), *((f"subnet {zone}", ident) for zone, ident in have.subnets.items())]
    rows += [(f"group {name}", group.id) for name, group in have.groups.items()]
    rows += [("S3 gateway endpoint", have.s3_endpoint or "-"), ("Instance Connect Endpoint", have.door or "-")]
    rows += [("internet gateway", have.gateway[0])] if have.gateway else []
    text = table(("part", "id"), rows) + "".join(f"\n{line}" for line in differs)
    return Result(
        {"parts": dict(rows), "differs": differs}, text if have.vpc else "There is no network. Make it: invoke net.up"
    )


@task(help={"json": "Print it as JSON."})
def my_address(c, json=False):
    """Ask net.address_service under which address this machine is seen on the internet."""
    from ops.core import settings as config
    from ops.network import own_address

    settings = config.load(c.config).net
    found = own_address.seen(settings.address_service)
    same = settings.own_address == found
    text = f"{settings.address_service} sees you as {found}. " + (
        "That is net.own_address." if same else f'For ec2.way public: net.own_address: "{found}", then invoke net.up'
    )
    return Result({"address": found, "own_address": settings.own_address}, text)

"""The GPU box in the private network: start it, reach it, train on it, pay only while it works."""

from __future__ import annotations

from ops.commands.ec2_jobs import attach, sync, train  # noqa: F401
from ops.commands.ec2_shell import clean, disk, fetch, logs, ps, run, ssh, ssh_config  # noqa: F401  tasks of this namespace too
from ops.core.aws.account import Account
from ops.core.errors import FINDINGS, OpsError
from ops.core.output import say, table
from ops.core.task import Result, carry_out, confirm, task


@task(
    help={
        "spot": "On spot capacity, and on demand where there is none.",
        "instance-type": "This type, instead of ec2.instance_types.",
    }
)
def up(c, spot=False, instance_type=""):
    """Start the box, or say that it is up."""
    from ops.box import facts, plan
    from ops.box.launch import Order

    account = Account.from_context(c, "operator-infra")
    have = facts.read(account)
    if have.group is None or not have.subnets:
        raise OpsError("There is no network to put a box in. Make it: invoke net.up")
    order = Order((instance_type,) if instance_type else tuple(account.settings.ec2.instance_types), spot)
    have = facts.for_launch(account, have, list(order.kinds), dry=c.config.run.dry)
    if have.box and instance_type not in ("", have.box["InstanceType"]):
        say(f"{have.ident} is there, a {have.box['InstanceType']}; --instance-type is for a new one.")
    account.guard()
    done = carry_out(c, account, plan.steps(have, order, account.settings))
    return None if c.config.run.dry else running(account, done)


def running(account: Account, done: Result) -> Result:
    from ops.box import facts

    box = facts.read(account).box or {}
    text = f"{box['InstanceId']} {box['InstanceType']} is running at {box['PrivateIpAddress']}. {done.text}. Next: invoke ec2.train"
    return Result({"box": box["InstanceId"], **done.data}, text, changes=done.changes)


@task()
def start(c):
    """Start the box that was stopped."""
    from ops.box import facts, plan
    from ops.box.launch import Order

    account = Account.from_context(c, "operator-infra")
    have = facts.read(account)
    if have.box is None:
        raise OpsError("There is no box to start. A new one: invoke ec2.up")
    account.guard()
    order = Order(tuple(account.settings.ec2.instance_types))
    have = facts.for_launch(account, have, list(order.kinds))
    done = carry_out(c, account, plan.steps(have, order, account.settings))
    return None if c.config.run.dry else running(account, done)


@task(help={"yes": "Do not ask."})
def stop(c, yes=False):
    """Stop the box; its disk is kept. A job on it writes a checkpoint first."""
    from ops.box import facts, plan

    account = Account.from_context(c, "operator-infra")
    have = facts.read(account)
    if have.box is None or have.state == "stopped":
        return Result({"made": 0}, f"{have.ident} is stopped already." if have.box else "There is no box.")
    account.guard()
    # Looking for a job takes a login, and a login pushes a key: not under --dry.
    name = ask_job(account, have) if have.state == "running" and not c.config.run.dry else ""
    what = f"{name} trains on {have.ident}; it writes a checkpoint, and ec2.train carries on. " if name else ""
    confirm(c, f"{what}This stops {have.ident}.", yes=yes or not name)
    if name:
        end_job(account, have, name)
    done = carry_out(c, account, plan.halting(have))
    if c.config.run.dry:
        return None
    return Result(
        done.data, f"{have.ident} is stopped, its disk kept. {done.text}. Next: invoke ec2.start", changes=done.changes
    )


def ask_job(account: Account, have) -> str:
    """The job under way, or "". A box that cannot be reached is said to be, and stopped all the same."""
    from ops.box import access, remote_jobs

    there = remote_jobs.place(account.settings)
    try:
        with access.connected(account, have, use=False) as link:
            name = remote_jobs.newest(link, there)
            return name if name and remote_jobs.under_way(link, there, name) else ""
    except OpsError as error:
        say(f"Whether it trains could not be seen: {error}")
        return ""


def end_job(account: Account, have, name: str) -> None:
    from ops.box import access, remote_jobs

    say(f"{name} writes its checkpoint ...")
    with access.connected(
        account, have, f"{name} was told to end; the box was not stopped. Again: invoke ec2.stop"
    ) as link:
        found = remote_jobs.end(link, remote_jobs.place(account.settings), name)
    if found["alive"]:
        say(f"{name} does not end by itself: its last checkpoint is what is left of it. Stopping the box all the same.")
    else:
        say(f"{name}: {found['state']}: {found.get('reason', '')}")


@task(help={"yes": "Do not ask."})
def down(c, yes=False):
    """Terminate the box; its disk goes too, what is in the bucket stays."""
    from ops.box import facts, plan

    account = Account.from_context(c, "operator-infra")
    have = facts.read(account, several=True)
    if not (have.box or have.alarm or have.key_pair or have.spot_requests):
        return Result(
            {"made": 0}, f"There is no box.{f' (Not touched: {chr(44).join(have.others)}.)' if have.others else ''}"
        )
    account.guard()
    if have.box is not None:
        all_of_them = ", ".join([have.ident, *have.extra])
        confirm(c, f"This terminates {all_of_them} and deletes the disk of each.", yes=yes)
    done = carry_out(c, account, plan.removal(have, account.settings))
    if c.config.run.dry:
        return None
    return Result(done.data, f"{have.ident if have.box else 'The box'} is gone. {done.text}", changes=done.changes)


@task(help={"json": "Print it as JSON."})
def status(c, json=False):
    """Show the box, what it costs, when it stops by itself, and whether SSH reaches it; exit 7 if not."""
    from ops.box import facts
    from ops.box import status as state

    account = Account.from_context(c, "operator-infra")
    have = facts.read(account)
    if have.box is None:
        refusals = facts.last_refusals(account)
        others = f" (Not touched: {', '.join(have.others)}.)" if have.others else ""
        words = "".join(f"\nno capacity: {line}" for line in refusals)
        next_one = "See runbooks/no-capacity.md" if refusals else "Start one: invoke ec2.up"
        return Result(
            {"box": None, "refusals": refusals},
            f"There is no box.{others}{words}\n{next_one}",
            code=FINDINGS if refusals else 0,
        )
    found = state.look(account, have)
    return Result(found.data, found.text, code=FINDINGS if found.problem else 0)


@task(help={"json": "Print it as JSON."})
def reach(c, json=False):
    """Walk the path to the box hop by hop; name the first that fails and what mends it; exit 7 then."""
    from dataclasses import asdict

    from ops.box import connectivity, facts

    account = Account.from_context(c, "operator-infra")
    found = list(connectivity.walk(account, facts.read(account)))
    rows = [("FAILS" if hop.problem else "ok", hop.name, hop.problem or hop.found) for hop in found]
    bad = connectivity.failed(found)
    text = table(("", "hop", "found"), rows) + (
        f"\nIt ends at {bad.name}: {bad.problem}. Next: {bad.fix}" if bad else "\nSSH reaches the box."
    )
    return Result([asdict(hop) for hop in found], text, code=FINDINGS if bad else 0)


@task(help={"lock": "Write the one that would be taken into the settings file.", "json": "Print it as JSON."})
def ami(c, lock=False, json=False):
    """Show the Deep Learning AMIs: age, end of support, whether they suit; exit 7 if ours does not."""
    from ops.box import ami_pin, images
    from ops.core import settings
    from ops.core.paths import ROOT

    account = Account.from_context(c, "operator-infra")
    if lock:
        newest = next(iter(images.candidates(account)), None)
        if newest is None:
            raise OpsError("There is no image to lock. What there is: invoke ec2.ami")
        if c.config.run.dry:
            return Result({"ami": newest.ident}, f"would write ami: {newest.ident} into the settings file")
        path = ami_pin.write(settings.named_file(c) or ROOT / "invoke.yaml", newest)
        return Result(
            {"ami": newest.ident}, f"{path}: ec2.ami is {newest.ident} ({newest.name}) now. Commit it.", changes=1
        )
    kinds = images.kinds(account, account.settings.ec2.instance_types)
    chosen = images.choose(account)
    others = [one for one in images.candidates(account) if one.ident != chosen.ident]
    found = [images.judged(one, kinds, account.settings.ec2.disk_gib) for one in (chosen, *others)]
    rows = [
        (
            "->" if n == 0 else "",
            r["image"],
            r["name"],
            f"{r['age_days']} d",
            r["supported_until"],
            r["problem"] or "ok",
        )
        for n, r in enumerate(found)
    ]
    text = table(("", "image", "name", "age", "supported until", "for our types and disk"), rows)
    text += f"\n-> is what ec2.up takes{' (locked)' if account.settings.ec2.ami else ''}. Lock the newest: invoke ec2.ami --lock"
    return Result(found, text, code=FINDINGS if found[0]["problem"] else 0)

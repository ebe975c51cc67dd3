"""The GPU box in the private network: start it, reach it, train on it."""

from __future__ import annotations

import os
import subprocess

from ops import ROOT, cli
from ops.aws import Account
from ops.cli import Answer, carry_out, say, table, task
from ops.errors import FINDINGS, OpsError


@task()
def up(c):
    """Start the box, or say that it is up."""
    from ops.ec2 import plan

    account = Account.of(c)
    have = plan.facts(account, image=True)
    if have.group is None or not have.subnets:
        raise OpsError("There is no network to put a box in. Make it: invoke net.up")
    account.guard()
    done = carry_out(c, account, plan.steps(have, account.settings))
    if c.config.run.dry:
        return None
    box = plan.facts(account).box or {}
    text = f"{box['InstanceId']} {box['InstanceType']} is running at {box['PrivateIpAddress']}. {done.text}. Next: invoke ec2.train"
    return Answer({"box": box["InstanceId"], **done.data}, text, changes=done.changes)


@task(help={"json": "Print it as JSON."})
def status(c, json=False):
    """Show the box, what it costs, and whether SSH reaches it; exit 7 if not."""
    from ops import price
    from ops.ec2 import access, plan, remote

    account = Account.of(c)
    have = plan.facts(account)
    if have.box is None:
        return Answer({"box": None}, "There is no box. Start one: invoke ec2.up")
    kind, rate = have.box["InstanceType"], 0.0
    reach, job = "-", "-"
    if have.state == "running":
        rate = price.hourly("ec2", kind)
        try:
            with access.connected(account, have) as link:
                reach = "ok"
                job = remote.newest(link, remote.place(account.settings)) or "-"
        except OpsError as error:
            reach = str(error)
    data = {
        "box": have.box["InstanceId"],
        "type": kind,
        "state": have.state,
        "address": have.box.get("PrivateIpAddress"),
        "dollars_per_hour": rate,
        "ssh": reach,
        "newest_job": job,
    }
    row = (data["box"], kind, have.state, data["address"], f"{rate:.3f}", "ok" if reach == "ok" else "no", job)
    text = table(("box", "type", "state", "address", "$/h", "ssh", "newest job"), [row])
    if reach not in ("ok", "-"):
        text += f"\n{reach}"
    return Answer(data, text, code=FINDINGS if reach not in ("ok", "-") else 0)


@task(help={"command": "What the box's shell runs."})
def run(c, command):
    """Run a command on the box; its output and exit code are yours."""
    import sys

    from ops import box
    from ops.ec2 import access, plan

    account = Account.of(c)
    have = plan.facts(account)
    box_id = access.check(have)["InstanceId"]
    if c.config.run.dry:
        say(f"would run on {box_id}: {command}")
        return None
    with access.connected(account, have) as link:
        code = box.stream(link, command, on_output=sys.stdout.buffer.write)
    sys.stdout.flush()
    return Answer({"code": code}, "", code=code)


@task(help={"command": "What to run instead of a shell."})
def ssh(c, command=""):
    """Open a shell on the box with OpenSSH's own client."""
    from ops.ec2 import access, plan

    account = Account.of(c)
    have = plan.facts(account)
    box = access.check(have)
    if c.config.run.dry:
        say(f"would open SSH to {box['InstanceId']}: {command or 'a shell'}")
        return None
    access.prepare(account, box)
    settings_file = os.environ.get("INVOKE_RUNTIME_CONFIG", "") or getattr(c.config, "_runtime_path", None) or ""
    argv = access.ssh_command(account, have, str(settings_file), command)
    try:
        code = subprocess.run(argv, cwd=ROOT, check=False).returncode
    except FileNotFoundError as error:
        raise OpsError("OpenSSH's client is not installed here. Without it: invoke ec2.run 'COMMAND'") from error
    return Answer({"code": code}, "", code=code)


@task(help={"again": "Train even if the same data, code and settings were trained before."})
def train(c, again=False):
    """Train on the box, detached; follow the log. What runs already is attached to."""
    from ops import payload
    from ops.ec2 import access, plan, remote

    account = Account.of(c)
    job = payload.wanted(account, "box")
    trained = remote.attempts(account, job)
    if trained and not again:
        text = f"{trained[-1]} was trained before, from the same data, code and settings. --again trains anew."
        return Answer({"job": trained[-1]}, text)
    have = plan.facts(account)
    box_id = access.check(have)["InstanceId"]
    if c.config.run.dry:
        say(f"would train {job.name} on {box_id}")
        return None
    account.guard()
    with access.connected(account, have) as link:
        there = remote.place(account.settings)
        name = remote.newest(link, there)
        if name and remote.under_way(link, there, name):
            if name not in job.attempts():
                raise OpsError(
                    f"{name} trains on this box: other data, code or settings. Follow it: invoke ec2.attach. Then this one."
                )
        else:
            name = remote.unused(link, there, job, trained)
            say(f"{name} starts on {box_id}; it goes on if this connection ends.")
            remote.start(account, link, job, name, anew=again)
        found = remote.follow(link, there, name)
    text = f"{name}: Completed. Next: invoke sm.deploy --job {name}"
    return Answer({"job": name, "artefact": found["artefact"]}, text, changes=1)


@task(help={"job": "A job of this box; the newest by default."})
def attach(c, job=""):
    """Follow a job on the box from the start of its log, or tell how it ended."""
    from ops.ec2 import access, plan, remote

    account = Account.of(c)
    with access.connected(account, plan.facts(account)) as link:
        there = remote.place(account.settings)
        name = job or remote.newest(link, there)
        if not name:
            raise OpsError("No job was ever started on this box. Start one: invoke ec2.train")
        found = remote.follow(link, there, name)
    return Answer({"job": name, **found}, f"{name}: {found['state']}: {found['artefact']}")


@task(help={"yes": "Do not ask."})
def down(c, yes=False):
    """Terminate the box; its disk goes too, what is in the bucket stays."""
    from ops.ec2 import plan

    account = Account.of(c)
    have = plan.facts(account)
    if have.box is None:
        return Answer({"made": 0}, "There is no box.")
    account.guard()
    cli.confirm(c, f"This terminates {have.box['InstanceId']} and deletes its disk.", yes=yes)
    done = carry_out(c, account, plan.removal(have))
    if c.config.run.dry:
        return None
    return Answer(done.data, f"{have.box['InstanceId']} is gone. {done.text}", changes=done.changes)

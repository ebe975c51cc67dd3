"""The box's trainer, as commands: bring code and data there, train, follow."""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import partial
from typing import Any

from ops.core.aws.account import Account
from ops.core.errors import OpsError
from ops.core.output import say
from ops.core.task import Result, task


@task()
def sync(c):
    """Bring code and data set onto the box, without training; what is there is checked, not sent."""
    from ops.box import access, facts, remote_jobs
    from ops.jobs import spec

    account = Account.from_context(c, "operator-infra")
    job = spec.spec_from_settings(account, "box")
    have = facts.read(account)
    ident = access.check(have)["InstanceId"]
    if c.config.run.dry:
        say(f"would bring code {job.code} and data {job.data['digest'][:12]} to {ident}, as far as they are not there")
        return None
    account.guard()
    left = "What was whole on the box is whole still; what was under way is sent again: invoke ec2.sync"
    with access.connected(account, have, left) as link:
        there = remote_jobs.place(account.settings)
        sent = remote_jobs.send_code(link, there, job)
        wheels = remote_jobs.send_wheels(account, link, there, job)
        fetched = remote_jobs.fetch_data(account, link, job, wheels)
    text = f"Code {job.code} {'sent' if sent else 'was there'}, checked by SHA-256. {fetched}. Next: invoke ec2.train"
    return Result({"code": job.code, "sent": sent, "data": job.data["digest"]}, text, changes=int(sent))


@task(help={"again": "Train even if the same data, code and settings were trained before."})
def train(c, again=False):
    """Train on the box, detached; follow the log. What runs already is attached to."""
    from ops.box import access, facts, remote_jobs
    from ops.box.follow import Follower
    from ops.jobs import spec

    account = Account.from_context(c, "operator-infra")
    job = spec.spec_from_settings(account, "box")
    trained = remote_jobs.attempts(account, job)
    if trained and not again:
        text = f"{trained[-1]} was trained before, from the same data, code and settings. --again trains anew."
        return Result({"job": trained[-1]}, text)
    have = facts.read(account)
    ident = access.check(have)["InstanceId"]
    if c.config.run.dry:
        say(f"would train {job.name} on {ident}")
        return None
    account.guard()
    there = remote_jobs.place(account.settings)
    with access.connected(
        account, have, "Nothing was started, or it was just started: invoke ec2.train finds out"
    ) as link:
        name = started(account, link, job, again)
    found = Follower(there, name).follow(partial(opened, account))
    text = f"{name}: Completed. Next: invoke sm.deploy --job {name}"
    return Result({"job": name, "artefact": found["artefact"]}, text, changes=1)


def started(account: Account, link: Any, job: Any, again: bool) -> str:
    """The name of the attempt that runs now: one that was under way, or a new one. Raises OpsError when another job trains."""
    from ops.box import remote_jobs

    there = remote_jobs.place(account.settings)
    name = remote_jobs.newest(link, there)
    if name and remote_jobs.under_way(link, there, name):
        if name not in job.attempts():
            raise OpsError(
                f"{name} trains on this box: other data, code or settings. Follow it: invoke ec2.attach. Then this one."
            )
        return name
    name = remote_jobs.unused(account, link, there, job)
    say(f"{name} starts; it goes on if this connection ends.")
    if not remote_jobs.start(account, link, job, name, anew=again):
        say(f"Somebody else has just started {name}; following it.")
    return name


def opened(account: Account) -> AbstractContextManager[Any]:
    """A connection to the box as it is now: it may have been stopped, or come back, since the last one."""
    from ops.box import access, facts

    return access.connected(account, facts.read(account))


@task(help={"job": "A job of this box; the newest by default.", "line": "The first line of its log to print, from 1."})
def attach(c, job="", line=1):
    """Follow a job on the box from any line of its log, or tell how it ended."""
    from ops.box import access, facts, follow, remote_jobs

    account = Account.from_context(c, "operator-infra")
    if line < 1:
        raise OpsError("--line counts from 1.")
    have = facts.read(account)
    if job and have.state != "running":
        found, log = follow.kept(account, job)
        lines = follow.Lines()
        lines.print(b"\n".join(log.split(b"\n")[line - 1 :]), last=True)
        return Result(
            {"job": job, **found}, f"{job}: {found['state']}: {found.get('artefact', found.get('reason', '-'))}"
        )
    there = remote_jobs.place(account.settings)
    with access.connected(account, have) as link:
        name = job or remote_jobs.newest(link, there)
        if not name or (job and job not in remote_jobs.names(link, there)):
            raise OpsError(f"{job or 'No job'} was never started on this box. Its jobs: invoke ec2.ps")
    found = follow.Follower(there, name, line).follow(partial(opened, account))
    return Result({"job": name, **found}, f"{name}: {found['state']}: {found['artefact']}")

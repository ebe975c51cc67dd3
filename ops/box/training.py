"""Train on the box: send code and data, start a job or join the running one, and end a job before a stop."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass

from ops.box import access, facts, remote_jobs
from ops.box.facts import Facts
from ops.core.aws.account import Account
from ops.core.errors import OpsError
from ops.core.output import say
from ops.core.ssh import Connection
from ops.jobs import spec


class UnknownJob(OpsError):
    """No job of this name was ever started on this box."""


@dataclass(frozen=True)
class SyncResult:
    """The result of a sync. `sent` says whether the code had to be sent; `data` is the last line of output about the dataset."""

    sent: bool
    data: str


def connect_to_current_box(account: Account) -> AbstractContextManager[Connection]:
    """Open a connection to the box as it is now: it may have been stopped, or started again, since the last one."""
    return access.open_box_connection(account, facts.read(account))


def sync_job_files(account: Account, have: Facts, job: spec.TrainingSpec) -> SyncResult:
    """Send code, wheels and dataset to the box; complete files on the box are verified, not sent. Raises OpsError."""
    if_lost = "Complete files on the box are kept. Send the others again: invoke ec2.sync"
    files = {"code": job.code, "data": job.data.digest}
    with (
        access.open_box_connection(account, have, if_lost) as link,
        account.record("ssh.send_files", "send code and data to the box", {"instance": have.instance_id, **files}),
    ):
        sent = remote_jobs.send_code(link, remote_jobs.locate_folders(account.settings), job)
        wheels = remote_jobs.send_wheels(account, link, remote_jobs.locate_folders(account.settings), job)
        return SyncResult(sent, remote_jobs.fetch_data(account, link, job, wheels))


def start_or_join(account: Account, have: Facts, job: spec.TrainingSpec, again: bool) -> str:
    """Return the name of the attempt that runs now: one that was under way, or a new one.

    Raises OpsError when another job runs.
    """
    if_lost = "The job may or may not have started. Find out: invoke ec2.train"
    folders = remote_jobs.locate_folders(account.settings)
    with access.open_box_connection(account, have, if_lost) as link:
        name = remote_jobs.find_newest_job(link, folders)
        if name and remote_jobs.is_job_under_way(link, folders, name):
            if name not in job.attempts():
                raise OpsError(
                    f"{name} trains on this box, with other data, code or settings. Follow it: invoke ec2.attach; then run: invoke ec2.train"
                )
            return name
        name = remote_jobs.find_unused_attempt(account, link, folders, job)
        say(f"Starting {name}; it keeps running if this connection ends.")
        with account.record("ssh.start_job", "start the job on the box", {"instance": have.instance_id, "job": name}):
            is_ours = remote_jobs.start_job(account, link, job, name, resume=not again)
        if not is_ours:
            say(f"Another operator has just started {name}; following it.")
        return name


def find_job(link: Connection, folders: remote_jobs.BoxFolders, name: str) -> str:
    """Return the job of this name, the newest for "". Raises UnknownJob when it was never started on this box."""
    found = name or remote_jobs.find_newest_job(link, folders)
    if not found or found not in remote_jobs.list_job_names(link, folders):
        raise UnknownJob(f"{found or 'No job'} was never started on this box. List its jobs: invoke ec2.ps")
    return found


def find_running_job(account: Account, have: Facts) -> str:
    """Return the job under way, or "". Raises Unreachable when the box does not answer."""
    folders = remote_jobs.locate_folders(account.settings)
    with access.open_box_connection(account, have, use=False) as link:
        name = remote_jobs.find_newest_job(link, folders)
        return name if name and remote_jobs.is_job_under_way(link, folders, name) else ""


def end_job(account: Account, have: Facts, name: str) -> None:
    """End the job after it has written a checkpoint. A job that does not end in time is reported; the stop of the box ends it."""
    say(f"Waiting for {name} to write its checkpoint ...")
    if_lost = f"{name} was asked to end; the box was not stopped. Stop it: invoke ec2.stop"
    with (
        access.open_box_connection(account, have, if_lost) as link,
        account.record("ssh.end_job", "end the job on the box", {"instance": have.instance_id, "job": name}),
    ):
        found = remote_jobs.terminate_job(link, remote_jobs.locate_folders(account.settings), name)
    if found["alive"]:
        say(
            f"{name} has not ended after {remote_jobs.GRACE_S} s. Stopping the box anyway; the last checkpoint is kept."
        )
    else:
        say(f"{name}: {found['state']}: {found.get('reason', '')}")

"""What the box's jobs left in the bucket: their status and log, as each job uploads them every half minute and at its end.

They can be read when the box is off, gone, or out of reach.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from ops.box import access, remote_jobs, status, training
from ops.box.facts import Facts
from ops.box.remote_jobs import UNDER_WAY, LogPrinter
from ops.core.aws.account import Account
from ops.core.errors import OpsError, Unreachable
from ops.core.output import say


def list_jobs(account: Account, have: Facts) -> tuple[list[dict[str, Any]], str]:
    """Return the jobs of the box and a note about them; from the bucket when the box is off or out of reach."""
    if have.state == "running":
        try:
            with access.open_box_connection(account, have, "Nothing was changed.", use=False) as link:
                return remote_jobs.list_jobs(
                    link, remote_jobs.locate_folders(account.settings)
                ), status.read_gpu_status(link)
        except Unreachable as error:
            say(f"{access.strip_hints(error)}. Find the failing hop: invoke ec2.reach")
    found = list_bucket_jobs(account)
    off = "The box cannot be reached" if have.state == "running" else "The box is not running"
    return found, f"{off}; {'these jobs are in the bucket' if found else 'the bucket has no job'}."


def list_bucket_jobs(account: Account) -> list[dict[str, Any]]:
    """Return the box's last 20 jobs that left a status in the bucket, the newest first; none without a bucket.

    `reported` is when the job wrote there last.
    """
    bucket = account.bucket
    listed = bucket.objects(f"jobs/{account.settings.prefix}-box") if bucket.exists() else []
    statuses = sorted((o for o in listed if o["Key"].endswith("/status.json")), key=lambda o: o["LastModified"])
    return [
        {"job": o["Key"].split("/")[1], "reported": format_time(o["LastModified"])} | json.loads(bucket.get(o["Key"]))
        for o in reversed(statuses[-20:])
    ]


def format_time(when: datetime) -> str:
    return f"{when:%Y-%m-%d %H:%M} UTC"


def read_log(account: Account, have: Facts, job: str, lines: int) -> bytes:
    """Return the last lines of a job's log, by default the newest job's.

    It is read from the bucket when the box is off or out of reach, or for a job of an earlier box.
    """
    if job:
        require_box_job(account, job)
    if have.state == "running":
        try:
            with access.open_box_connection(account, have, "Nothing was changed.", use=False) as link:
                folders = remote_jobs.locate_folders(account.settings)
                return remote_jobs.read_log_tail(link, folders, training.find_job(link, folders, job), lines)
        except Unreachable as error:
            say(f"{access.strip_hints(error)}. Find the failing hop: invoke ec2.reach")
        except training.UnknownJob:
            if not job or not account.bucket.has(f"jobs/{job}/output/log"):
                raise
    name = job or find_newest_job(account, have)
    found, log = read_from_bucket(account, name)
    say(f"This log is from the bucket. {name}: {describe(found)}")
    return b"\n".join(log.rstrip(b"\n").split(b"\n")[-lines:])


def find_newest_job(account: Account, have: Facts) -> str:
    """Return the job that wrote to the bucket last. Raises OpsError for none."""
    if found := list_bucket_jobs(account):
        return str(found[0]["job"])
    access.check(have)
    raise OpsError(
        "No job of the box has left a log in the bucket. Find out whether the box can be reached: invoke ec2.reach"
    )


def describe(found: dict[str, Any]) -> str:
    """Return the state of a job in the bucket with its result; for one that had not ended, when it wrote there last."""
    if found["state"] in UNDER_WAY:
        return f"{found['state']} at {found['reported']}, when it last reported; it reports every half minute"
    return f"{found['state']}: {found.get('artefact', found.get('reason', '-'))}"


def format_running(job: dict[str, Any]) -> str:
    """Return whether a listed job runs: yes, no, or for one that only the bucket knows, when it last reported."""
    if "alive" in job:
        return "yes" if job["alive"] else "no"
    return f"at {job['reported']}" if job["state"] in UNDER_WAY else "no"


def print_log(account: Account, name: str, line: int) -> dict[str, Any]:
    """Print the log of a job from a line on; return its last status. Raises OpsError."""
    found, log = read_from_bucket(account, name)
    LogPrinter(line).print(b"\n".join(log.split(b"\n")[line - 1 :]), last=True)
    return found


def require_box_job(account: Account, name: str) -> None:
    """Raise OpsError for a name that no job of this box can have; its role may not look for others in the bucket."""
    ours = f"{account.settings.prefix}-box"
    if not name.startswith(ours):
        raise OpsError(
            f"{name} is not a job of this stack's box: their names begin with {ours}. List them: invoke ec2.ps"
        )


def read_from_bucket(account: Account, name: str) -> tuple[dict[str, Any], bytes]:
    """Return a job's last status, with the time of its report, and its log. Raises OpsError without them."""
    require_box_job(account, name)
    found = {}
    for file in ("status.json", "log"):
        key = f"jobs/{name}/output/{file}"
        content = account.bucket.get_object_or_none(key)
        if content is None:
            raise OpsError(
                f"The box does not answer, and {name} left no {file} in the bucket. List the jobs: invoke ec2.ps"
            )
        found[file] = content
    reported = next(o["LastModified"] for o in account.bucket.objects(f"jobs/{name}/output/status.json"))
    return {"reported": format_time(reported)} | json.loads(found["status.json"]), found["log"]

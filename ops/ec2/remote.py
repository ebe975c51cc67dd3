"""Jobs on the box: code and wheels sent once, started detached, followed by offset. A lost line loses nothing."""

from __future__ import annotations

import codecs
import json
import time
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from ops import box, dataset, payload, weights
from ops.aws import Account
from ops.cli import say
from ops.config import Settings
from ops.errors import OpsError
from ops.files import tar_of

if TYPE_CHECKING:
    from fabric import Connection

LINK_S = 300  # how long the box may use the link to its wheels
PIECE = 1 << 20  # bytes of log at a time
PATIENCE = 6  # looks, half a second apart, at a job that should run and has no process
UNDER_WAY = ("Starting", "Downloading", "Training", "Uploading")


@dataclass(frozen=True)
class Place:
    """Where things are on the box, below the user's home."""

    home: PurePosixPath

    def code(self, job: payload.Job) -> str:
        return str(self.home / "code" / job.code)

    def job(self, name: str) -> str:
        return str(self.home / "jobs" / name)


def place(settings: Settings) -> Place:
    return Place(PurePosixPath(settings.ec2.home))


def send_code(link: Connection, there: Place, job: payload.Job) -> None:
    """training/ as one tar stream, unless this very code is there already."""
    folder = there.code(job)
    if box.run(link, f"test -d {box.words(folder)} && echo there || true").strip():
        return
    say("Sending the code ...")
    part = folder + ".part"
    command = f"rm -rf {box.words(part)} && mkdir -p {box.words(part)} && tar -xzf - -C {box.words(part)} && mv {box.words(part, folder)}"
    if box.stream(link, command, tar_of(payload.code_files([]))):
        raise OpsError("The code could not be unpacked on the box. Is its disk full? invoke ec2.run 'df -h'")


def send_wheels(account: Account, link: Connection, there: Place, job: payload.Job) -> str:
    """Wheels by way of S3, which the box reaches without the internet; return their folder on the box."""
    import hashlib

    settings = account.settings
    packed = tar_of((path.name, path) for path in payload.wheels(settings, "requirements-box.txt"))
    sha = hashlib.sha256(packed).hexdigest()
    target, key = str(there.home / "wheels" / sha[:12]), f"code/wheels-{sha[:12]}.tar.gz"
    if box.run(link, f"test -d {box.words(target)} && echo there || true").strip():
        return target
    if account.find("s3", "head_object", "404|NoSuchKey", Bucket=settings.bucket, Key=key) is None:
        account.call("s3", "put_object", Bucket=settings.bucket, Key=key, Body=packed, ChecksumAlgorithm="SHA256")
    say("Installing the wheels on the box ...")
    url = account.client("s3").generate_presigned_url(
        "get_object", {"Bucket": settings.bucket, "Key": key}, ExpiresIn=LINK_S
    )
    command = f"mkdir -p {box.words(str(there.home / 'wheels'))} && {box.words(settings.ec2.python, there.code(job) + '/wheels.py', sha, target)}"
    heard: list[bytes] = []
    if box.stream(link, command, url.encode() + b"\n", heard.append):
        raise OpsError(
            f"The wheels could not be installed on the box: {b''.join(heard).decode(errors='replace')[-500:]}"
        )
    return target


def start(account: Account, link: Connection, job: payload.Job, attempt: str, anew: bool) -> None:
    """Start the job in a session of its own: neither this connection nor this machine is needed from here on.

    Not `anew`, it carries on from the checkpoint that an attempt before it left on this box.
    """
    settings, there = account.settings, place(account.settings)
    send_code(link, there, job)
    if job.weights:
        weights.stage(account, job.weights)
    wheels = send_wheels(account, link, there, job)
    asked = {
        "bucket": settings.bucket,
        "region": settings.aws.region,
        "keys": dataset.channel(settings.bucket, job.data)[1:],
        "hyperparameters": job.hyperparameters,
        "weights": job.weights.key if job.weights else "",
        "output": job.artefact(attempt),
        "checkpoints": attempt if anew else job.name,
        "commit": payload.commit(),
    }
    folder = there.job(attempt)
    program = box.words(settings.ec2.python, "-u", there.code(job) + "/host.py", folder + "/job.json")
    first = f'echo "{{\\"state\\": \\"Starting\\", \\"pid\\": $$}}" > {box.words(folder)}/status.json; exec {program}'
    command = (
        f"set -e; mkdir -p {box.words(folder)}; cat > {box.words(folder)}/job.json; "
        f'export PYTHONPATH="$HOME"/{box.words(wheels)}; '
        f"{detached(first, folder + '/log')}; "
        f"ln -sfn {box.words(attempt)} {box.words(str(there.home / 'jobs' / 'newest'))}"
    )
    if box.stream(link, command, json.dumps(asked).encode()):
        raise OpsError("The job could not be started on the box. Look: invoke ec2.run 'df -h'")


def detached(words: str, log: str) -> str:
    """Shell words that start `words` in a session of its own: no terminal and no connection can end it."""
    return f"setsid -f sh -c {box.words(words)} > {box.words(log)} 2>&1 < /dev/null"


def attempts(account: Account, job: payload.Job) -> list[str]:
    """The attempts that left a model in the bucket, oldest first: a new box knows nothing of an old one's jobs."""
    found = account.pages(
        "s3", "list_objects_v2", "Contents", Bucket=account.settings.bucket, Prefix=f"jobs/{job.name}"
    )
    keys = {item["Key"] for item in found}
    return [name for name in job.attempts() if job.artefact(name) in keys]


def unused(link: Connection, there: Place, job: payload.Job, trained: list[str]) -> str:
    """The first name that neither this box nor the bucket has used for the job."""
    here = box.run(link, f"ls {box.words(str(there.home / 'jobs'))} 2>/dev/null || true").split()
    return next(name for name in job.attempts() if name not in {*here, *trained})


def newest(link: Connection, there: Place) -> str | None:
    """The job that was started last on this box."""
    return box.run(link, f"readlink {box.words(there.job('newest'))} || true").strip() or None


def status(link: Connection, there: Place, name: str) -> dict[str, Any]:
    """status.json, with `alive`: whether its process still runs. A job that has written none yet is just being started."""
    text = box.run(link, f"cat {box.words(there.job(name))}/status.json 2>/dev/null || true").strip()
    found: dict[str, Any] = json.loads(text) if text else {"state": "Starting", "pid": 0}
    # A process that ended and that nobody has reaped counts as ended.
    state = box.run(link, f"ps -o stat= -p {int(found['pid'])} || true").strip() if found["pid"] else ""
    return found | {"alive": bool(state) and not state.startswith("Z")}


def under_way(link: Connection, there: Place, name: str) -> bool:
    """Whether the job still has something to do, and a process that does it."""
    found = status(link, there, name)
    return found["state"] in UNDER_WAY and found["alive"]


def follow(link: Connection, there: Place, name: str) -> dict[str, Any]:
    """Print the job's log from its start to its end, by offset: a command a look, so nothing is lost and nothing hangs.

    Returns the last status. Raises OpsError when the job failed, or its process is gone without a word.
    """
    log, offset, silent = Lines(), 0, 0
    path = box.words(there.job(name) + "/log")
    while True:
        found = status(link, there, name)
        while data := box.read(link, f"tail -c +{offset + 1} {path} 2>/dev/null | head -c {PIECE}"):
            offset += len(data)
            log.print(data)
        if found["state"] not in UNDER_WAY:
            break
        silent = 0 if found["alive"] else silent + 1
        if silent > PATIENCE:
            raise OpsError(
                f"{name}: the trainer is gone without a word; the box may have been stopped. Again: invoke ec2.train"
            )
        time.sleep(0.5)
    log.print(b"", last=True)
    if found["state"] != "Completed":
        raise OpsError(f"{name} failed: {found.get('reason', 'no reason given')}\nIts log: invoke ec2.attach")
    return found


class Lines:
    """Prints whole lines of a log that comes in pieces, which may end in the middle of a letter."""

    def __init__(self) -> None:
        self._decoder, self._rest = codecs.getincrementaldecoder("utf-8")("replace"), ""

    def print(self, data: bytes, last: bool = False) -> None:
        *lines, self._rest = (self._rest + self._decoder.decode(data, last)).split("\n")
        for line in [*lines, self._rest] if last and self._rest else lines:
            say(f"[box] {line}")

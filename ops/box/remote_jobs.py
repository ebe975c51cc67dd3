"""Jobs on the box: they run detached, so a lost connection loses nothing, and any operator can find and follow them."""

from __future__ import annotations

import codecs
import hashlib
import json
import time
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from ops.box import full_disk
from ops.box.file_sync import FileSet, send_files
from ops.core import ssh
from ops.core.aws.account import Account
from ops.core.errors import OpsError
from ops.core.files import build_tar
from ops.core.output import say
from ops.core.settings import Settings
from ops.core.ssh import Connection
from ops.datasets import pretrained
from ops.jobs import spec

LINK_S = 300  # how long the presigned URL of the wheels is valid
MOST_MISSES = 6  # polls, half a second apart, of a job that should run and has no process
STARTING = '{"state": "Starting", "pid": 0}'
TAKEN = 17  # exit code: the attempt's name is in use
START_S = 60  # for a job's program to write its first status; a cold disk takes a while to read Python
UNDER_WAY = ("Starting", "Downloading", "Training", "Uploading")
GRACE_S = 150  # for a job to end after SIGTERM: 120 s of its own, and the upload to the bucket


@dataclass(frozen=True)
class BoxFolders:
    """Kennel's folders on the box, below the user's home."""

    home: PurePosixPath

    def code(self, job: spec.TrainingSpec) -> str:
        return str(self.home / "code" / job.code)

    def job(self, name: str) -> str:
        return str(self.home / "jobs" / name)


class LogPrinter:
    """The printer of a log that arrives in pieces, which may split a character. It prints whole lines; `number` is the next line's."""

    def __init__(self, number: int = 1) -> None:
        self._decoder, self._rest, self.number = codecs.getincrementaldecoder("utf-8")("replace"), "", number

    def print(self, data: bytes, last: bool = False) -> None:
        *lines, self._rest = (self._rest + self._decoder.decode(data, last)).split("\n")
        for line in [*lines, self._rest] if last and self._rest else lines:
            say(f"[box] {line}")
            self.number += 1


def locate_folders(settings: Settings) -> BoxFolders:
    return BoxFolders(PurePosixPath(settings.ec2.home))


def send_code(link: Connection, folders: BoxFolders, job: spec.TrainingSpec) -> bool:
    """Send training/ to the box; return False when the box has this code already, complete."""
    return send_files(link, FileSet(tuple(spec.list_code_files([]))), folders.code(job), "the code")


def send_wheels(account: Account, link: Connection, folders: BoxFolders, job: spec.TrainingSpec) -> str:
    """Install the wheels on the box through S3, which it reaches without the internet; return their folder there. Raises OpsError."""
    settings = account.settings
    packed = build_tar((path.name, path) for path in spec.download_wheels(settings, "requirements-box.txt"))
    sha = hashlib.sha256(packed).hexdigest()
    target, key = str(folders.home / "wheels" / sha[:12]), f"code/wheels-{sha[:12]}.tar.gz"
    if ssh.run(link, f"test -d {ssh.quote_command(target)} && echo installed || true").strip():
        return target
    if not account.bucket.has(key):
        account.bucket.put(key, packed)
    say("Installing the wheels on the box ...")
    url = account.bucket.presign("get_object", key, LINK_S)
    install = ssh.quote_command(settings.ec2.python, folders.code(job) + "/boxside/wheels.py", sha, target)
    command = f"mkdir -p {ssh.quote_command(str(folders.home / 'wheels'))} && {install}"
    output: list[bytes] = []
    if ssh.stream_answer(link, command, [url.encode() + b"\n"], output.append):
        reason = full_disk.take_reason(b"".join(output).decode(errors="replace"))
        fix = full_disk.suggest_fix(reason, "Try again: invoke ec2.sync")
        raise OpsError(f"Cannot install the wheels on the box: {reason}. {fix}")
    return target


def build_job_request(account: Account, job: spec.TrainingSpec, attempt: str, resume: bool) -> dict[str, Any]:
    """Return JOB.json, as training/boxside/box_runner.py reads it. With `resume`, the job continues from an earlier attempt's checkpoint."""
    settings = account.settings
    return {
        "bucket": settings.bucket,
        "region": settings.aws.region,
        "keys": job.data.keys,
        "sizes": {shard.key: shard.bytes for shard in job.data.shards},
        "hyperparameters": job.hyperparameters,
        "weights": job.weights.key if job.weights else "",
        "output": job.artefact(attempt),
        "checkpoints": job.name if resume else attempt,
        "commit": spec.read_commit(),
    }


def fetch_data(account: Account, link: Connection, job: spec.TrainingSpec, wheels: str) -> str:
    """Let the box fetch the job's dataset from S3, with its own role; return the last line of output. Raises OpsError."""
    settings, folders = account.settings, locate_folders(account.settings)
    program = ssh.quote_command(settings.ec2.python, "-u", folders.code(job) + "/boxside/fetch_data.py", "/dev/stdin")
    output: list[bytes] = []
    lines = LogPrinter()

    def receive(data: bytes) -> None:
        output.append(data)
        lines.print(data)

    command = f'PYTHONPATH="$HOME"/{ssh.quote_command(wheels)} {program}'
    code = ssh.stream_answer(
        link, command, [json.dumps(build_job_request(account, job, job.name, resume=True)).encode()], receive
    )
    last = full_disk.take_reason(b"".join(output).decode(errors="replace"))
    if code:
        fix = full_disk.suggest_fix(last, "Check the dataset: invoke data.verify")
        raise OpsError(f"The box could not fetch the dataset: {last}. {fix}")
    return last


def start_job(account: Account, link: Connection, job: spec.TrainingSpec, attempt: str, resume: bool) -> bool:
    """Start the job detached from this machine; return False when another operator has just used the attempt's name."""
    settings, folders = account.settings, locate_folders(account.settings)
    send_code(link, folders, job)
    if job.weights:
        pretrained.stage_weights(account, job.weights)
    wheels = send_wheels(account, link, folders, job)
    folder = folders.job(attempt)
    program = ssh.quote_command(settings.ec2.python, "-u", "-P", "-m", "boxside.box_runner", folder + "/job.json")
    path = f'"$HOME"/{ssh.quote_command(folders.code(job))}:"$HOME"/{ssh.quote_command(wheels)}'
    command = (
        f"set -e; mkdir -p {ssh.quote_command(str(folders.home / 'jobs'))}; mkdir {ssh.quote_command(folder)} 2>/dev/null || exit {TAKEN}; "
        f"cat > {ssh.quote_command(folder)}/job.json; echo {ssh.quote_command(STARTING)} > {ssh.quote_command(folder)}/status.json; "
        f"export PYTHONPATH={path}; {build_detached_command(program, folder + '/log', attempt)}"
    )
    output: list[bytes] = []
    code = ssh.stream_answer(
        link, command, [json.dumps(build_job_request(account, job, attempt, resume)).encode()], output.append
    )
    if code not in (0, TAKEN):
        reason = full_disk.take_reason(b"".join(output).decode(errors="replace"))
        fix = full_disk.suggest_fix(reason, "Check the disk: invoke ec2.disk")
        raise OpsError(f"Cannot start the job on the box: {reason}. {fix}")
    return code == 0


def build_detached_command(command: str, log: str, unit: str) -> str:
    """Return shell code that starts `command` detached from this connection: as a unit of systemd, which ends it properly at a shutdown,
    or in a session of its own without systemd. `command` must not contain $, which systemd-run would expand."""
    shell = ssh.quote_command("sh", "-c", f"exec > {ssh.quote_command(log)} 2>&1 < /dev/null; exec {command}")
    # KillMode: at a shutdown SIGTERM goes to box_runner.py alone, which forwards it and waits for the checkpoint.
    options = f"--quiet --collect --unit={ssh.quote_command(unit)} --property=KillMode=mixed --property=TimeoutStopSec={GRACE_S}"
    variables = " ".join(f'--setenv={name}="${name}"' for name in ("HOME", "PATH", "PYTHONPATH"))
    systemd = f'sudo -n systemd-run {options} --uid="$(id -u)" --gid="$(id -g)" --working-directory="$PWD" {variables} {shell}'
    running = "$(command -v systemd-run > /dev/null && sudo -n systemctl is-system-running 2> /dev/null || true)"
    return f'case "{running}" in running|degraded) {systemd};; *) setsid -f {shell};; esac'


def list_attempt_artifacts(account: Account, job: spec.TrainingSpec) -> dict[str, set[str]]:
    """Return the file names that each attempt at the job left in the bucket: a new box does not have an old one's jobs."""
    found: dict[str, set[str]] = {}
    for key in account.bucket.keys(f"jobs/{job.name}"):
        _, attempt, *_, file = key.split("/")
        found.setdefault(attempt, set()).add(file)
    return found


def list_trained_attempts(account: Account, job: spec.TrainingSpec) -> list[str]:
    """Return the attempts that left a model, oldest first."""
    found = list_attempt_artifacts(account, job)
    return [name for name in job.attempts() if "model.tar.gz" in found.get(name, ())]


def find_unused_attempt(account: Account, link: Connection, folders: BoxFolders, job: spec.TrainingSpec) -> str:
    """Return the first attempt name that neither this box nor the bucket has used for the job."""
    taken = {*list_job_names(link, folders), *list_attempt_artifacts(account, job)}
    return next(name for name in job.attempts() if name not in taken)


def list_job_names(link: Connection, folders: BoxFolders) -> list[str]:
    """Return the jobs of this box, the newest first."""
    listed = ssh.run(link, f"ls -t {ssh.quote_command(str(folders.home / 'jobs'))} 2>/dev/null || true").split()
    return [name for name in listed if name != "newest"]


def find_newest_job(link: Connection, folders: BoxFolders) -> str | None:
    """Return the job that was started last on this box, or None."""
    return ssh.run(link, f"readlink {ssh.quote_command(folders.job('newest'))} || true").strip() or None


# LOOK prints three lines in a job's folder: its status.json, the state of its process, and the status's age in seconds.
LOOK = (
    "s=$(tr -d '\\n' < status.json 2>/dev/null); printf '%s\\n' \"$s\"; "
    'p=$(printf %s "$s" | sed \'s/.*"pid": *\\([0-9]*\\).*/\\1/\'); printf \'%s\\n\' "$(ps -o stat= -p "$p" 2>/dev/null)"; '
    "echo $(( $(date +%s) - $(stat -c %Y status.json 2>/dev/null || echo 0) ))"
)


def read_status(link: Connection, folder: str, more: str = "") -> tuple[dict[str, Any], bytes]:
    """Return status.json with `alive`, which says whether its process still runs, and the output of the command `more`, run after it."""
    answer = ssh.read(link, f"cd {ssh.quote_command(folder)} 2>/dev/null || exit 0; {LOOK}; {more}")
    text, process, age, data = (answer.split(b"\n", 3) + [b""] * 4)[:4]
    return parse_job_status(text, process, age), data


def parse_job_status(text: bytes, process: bytes, age: bytes) -> dict[str, Any]:
    """Parse the lines that LOOK prints. A job that was just started counts as alive for START_S; a zombie process does not."""
    try:
        found: dict[str, Any] = json.loads(text)
        state, pid = str(found["state"]), int(found["pid"])
    except (ValueError, KeyError, TypeError):
        return {"state": "Unknown", "pid": 0, "alive": False, "reason": "its status.json cannot be read"}
    running = bool(process.strip()) and not process.strip().startswith(b"Z")
    starting = state == "Starting" and not pid and int(age or b"0") < START_S
    return found | {"alive": running or starting}


def list_jobs(link: Connection, folders: BoxFolders) -> list[dict[str, Any]]:
    """Return all jobs of the box with their statuses, the newest first, in one command."""
    folder = ssh.quote_command(str(folders.home / "jobs"))
    loop = f'for job in $(ls -t); do [ -h "$job" ] && continue; echo "$job"; (cd "$job" && {LOOK}); done'
    lines = ssh.read(link, f"cd {folder} 2>/dev/null || exit 0; {loop}").split(b"\n")
    groups = [lines[n : n + 4] for n in range(0, len(lines) - 3, 4)]
    return [{"job": name.decode()} | parse_job_status(*rest) for name, *rest in groups]


def status(link: Connection, folders: BoxFolders, name: str) -> dict[str, Any]:
    return read_status(link, folders.job(name))[0]


def is_job_under_way(link: Connection, folders: BoxFolders, name: str) -> bool:
    """Report whether the job has not ended and its process runs."""
    found = status(link, folders, name)
    return found["state"] in UNDER_WAY and found["alive"]


def terminate_job(link: Connection, folders: BoxFolders, name: str) -> dict[str, Any]:
    """Ask a running job to end, and wait up to GRACE_S until it has written its checkpoint; return its last status."""
    found = status(link, folders, name)
    if found["alive"] and found["pid"]:
        ssh.run(link, f"kill -TERM {int(found['pid'])} || true")
    deadline = time.monotonic() + GRACE_S
    while found["alive"] and time.monotonic() < deadline:
        time.sleep(0.3)
        found = status(link, folders, name)
    return found


def read_log_tail(link: Connection, folders: BoxFolders, name: str, lines: int) -> bytes:
    """Return the last lines of the job's log."""
    return ssh.read(link, f"tail -n {int(lines)} {ssh.quote_command(folders.job(name))}/log")

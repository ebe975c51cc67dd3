"""The sandbox's folder: the state that its process writes there and others read. Only the owner can read it."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import psutil

ACCOUNT = "123456789012"
REGION_VARIABLE = "KENNEL_SANDBOX_REGION"  # in the environment of the sandbox's process
REGION = os.environ.get(REGION_VARIABLE, "us-east-1")
PROFILE = "sandbox"
PUBLIC_PORT = 2222  # SSH on a box's public address; binding port 22 needs root
KEPT_FILE = "kept.pickle"  # the state that sandbox.down --keep leaves for the next sandbox.up
KEPT = (KEPT_FILE, "boxes", "images", "requests.jsonl")  # what stays in the folder with it
LOGS = ("calls.jsonl", "sandbox.log")  # these stay to be read, until the next sandbox starts
MARK = "KENNEL_SANDBOX"  # marks the environment of every process the sandbox starts, to find leftovers


@dataclass(frozen=True)
class State:
    """A running sandbox. `started` is its process's start time, which exposes a reused pid."""

    pid: int
    started: float
    port: int
    tunnel_port: int
    token: str
    region: str = REGION
    version: int = 1

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def alive(self) -> bool:
        try:
            process = psutil.Process(self.pid)
            return process.status() != psutil.STATUS_ZOMBIE and abs(process.create_time() - self.started) < 1
        except psutil.Error:
            return False


def read(folder: Path) -> State | None:
    """Return the running sandbox of this folder, or None; a state file that a crash left behind counts as none."""
    try:
        state = State(**json.loads((folder / "state.json").read_text()))
        return state if state.alive else None
    except (OSError, ValueError, TypeError):  # whatever is in the file, also a pid that is none
        return None


def was_killed(folder: Path) -> bool:
    """Return whether a sandbox of this folder ended without cleaning up: its state file is there, its process is not."""
    return (folder / "state.json").exists() and read(folder) is None


def write(folder: Path, state: State) -> None:
    write_private_file(folder / "state.json", json.dumps(asdict(state)))


def write_private_file(path: Path, text: str) -> None:
    """Write a file atomically, readable by its owner only (mode 600)."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
    part.replace(path)


def clear_sandbox_folder(folder: Path, keep: bool = False) -> None:
    """Remove everything but the lock, which the caller may hold, the LOGS, and with `keep` the state that was kept."""
    for path in folder.iterdir():
        if path.name in ("lock", *LOGS, *(KEPT if keep else ())):
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def has_kept_state(folder: Path) -> bool:
    return (folder / KEPT_FILE).is_file()


def is_kept_state_usable(folder: Path, region: str) -> bool:
    """Return whether this code can read the kept state in this region: only the code that wrote it can."""
    with (folder / KEPT_FILE).open("rb") as file:
        return file.readline().decode(errors="replace").strip() == fingerprint_code(region)


def fingerprint_code(region: str) -> str:
    """Return a text that differs for another region, and for another version of Python, of moto or of the sandbox."""
    digest, folder = hashlib.sha256(), Path(__file__).parent
    for path in sorted(folder.rglob("*.py")):
        digest.update(f"{path.relative_to(folder)}\0".encode() + path.read_bytes())
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    return f"{region}, python {python}, moto {version('moto')}, sandbox {digest.hexdigest()[:12]}"


@contextmanager
def lock_sandbox_folder(folder: Path) -> Iterator[None]:
    """Allow one `up` or `down` at a time: a second one waits until the first has finished."""
    path = folder / "lock"
    while True:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with path.open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            # The previous holder may have removed the file (`down` does): then this lock guards nothing, so try again.
            if path.exists() and path.stat().st_ino == os.fstat(lock.fileno()).st_ino:
                yield
                return

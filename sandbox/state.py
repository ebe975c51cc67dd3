"""The sandbox's folder: the state that its process writes there and others read. Only the owner can read it."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

ACCOUNT = "123456789012"
REGION = "us-east-1"
PROFILE = "sandbox"
PUBLIC_PORT = 2222  # SSH on a box's public address; binding port 22 needs root
MARK = "KENNEL_SANDBOX"  # marks the environment of every process the sandbox starts, to find leftovers


@dataclass(frozen=True)
class State:
    """A running sandbox. `started` is its process's start time, which exposes a reused pid."""

    pid: int
    started: float
    port: int
    tunnel_port: int
    token: str
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
    except (OSError, ValueError, TypeError):
        return None
    return state if state.alive else None


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


def clear_sandbox_folder(folder: Path) -> None:
    """Remove everything but the lock, which the caller may hold, and the logs calls.jsonl and sandbox.log."""
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        elif path.name not in ("lock", "calls.jsonl", "sandbox.log"):
            path.unlink(missing_ok=True)


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

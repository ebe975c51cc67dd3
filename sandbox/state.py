"""The sandbox's folder: what one process writes there and the others read. Everything in it is for its owner only."""

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
PUBLIC_PORT = 2222  # of SSH on a box's public address: for 22 one has to be root
MARK = "KENNEL_SANDBOX"  # in the environment of every process the sandbox starts: how leftovers are found


@dataclass(frozen=True)
class State:
    """A running sandbox. `started` is the process's own start time, so that a reused pid is not taken for it."""

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
    """The sandbox of this folder, or None when none runs; a state file that a crash left behind counts as none."""
    try:
        state = State(**json.loads((folder / "state.json").read_text()))
    except (OSError, ValueError, TypeError):
        return None
    return state if state.alive else None


def write(folder: Path, state: State) -> None:
    write_private_file(folder / "state.json", json.dumps(asdict(state)))


def write_private_file(path: Path, text: str) -> None:
    """Write for the owner only, whole or not at all."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
    part.replace(path)


def clear_sandbox_folder(folder: Path) -> None:
    """Take everything away but the lock, which somebody holds, and the two logs, which are for looking back."""
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        elif path.name not in ("lock", "calls.jsonl", "sandbox.log"):
            path.unlink(missing_ok=True)


@contextmanager
def lock_sandbox_folder(folder: Path) -> Iterator[None]:
    """One `up` or `down` at a time: of two at once, the second waits and then finds the first one's sandbox."""
    path = folder / "lock"
    while True:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with path.open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            # The one before us may have taken the file away when it was done: then this lock is nobody's.
            if path.exists() and path.stat().st_ino == os.fstat(lock.fileno()).st_ino:
                yield
                return

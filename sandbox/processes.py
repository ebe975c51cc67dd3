"""The processes that the sandbox starts: each has a clean environment and its own process group, and ends with the sandbox."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import psutil

from sandbox.state import MARK, REGION

GRACE_S = 3.0


def build_child_environment(folder: Path, home: Path, **more: str) -> dict[str, str]:
    """Return a child's environment, without the operator's keys, proxies and Python settings."""
    bins = [str(Path(sys.executable).parent), "/usr/local/bin", "/usr/bin", "/bin"]
    base = {"PATH": ":".join(bins), "HOME": str(home), "LANG": "C.UTF-8", "PYTHONUNBUFFERED": "1", MARK: str(folder)}
    return base | {"NO_PROXY": "127.0.0.1,localhost", "AWS_DEFAULT_REGION": REGION} | more


def spawn_process(
    argv: list[str], cwd: Path, env: dict[str, str], stdin: int = subprocess.DEVNULL, stderr: int = subprocess.STDOUT
) -> subprocess.Popen[bytes]:
    """Start a process in a process group of its own, with its output in a pipe."""
    return subprocess.Popen(
        argv, cwd=cwd, env=env, stdin=stdin, stdout=subprocess.PIPE, stderr=stderr, start_new_session=True
    )


def stop_process_group(process: subprocess.Popen[bytes], grace_s: float = GRACE_S) -> None:
    """Send SIGTERM to the group, and SIGKILL to the processes that run after `grace_s` seconds; then reap the process."""
    signal_group(process.pid, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(grace_s)
    signal_group(process.pid, signal.SIGKILL)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(5)


def signal_group(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def list_sandbox_processes(folder: Path) -> list[psutil.Process]:
    """Return this sandbox's running processes. The environment marks them, so that a killed sandbox's are found too."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.pid != os.getpid() and process.environ().get(MARK) == str(folder):
                found.append(process)
    return found


def describe_processes(found: Iterable[psutil.Process]) -> list[tuple[int, int, str]]:
    """Return (pid, bytes of memory, command line) of those that still run; any may end meanwhile."""
    rows = []
    for process in found:
        with contextlib.suppress(psutil.Error):
            rows.append((process.pid, process.memory_info().rss, " ".join(process.cmdline())))
    return rows


def end_sandbox_processes(folder: Path) -> int:
    """End every process of this sandbox; return how many there were."""
    found = list_sandbox_processes(folder)
    for process in found:
        with contextlib.suppress(psutil.Error):
            process.terminate()
    _, stubborn = psutil.wait_procs(found, timeout=GRACE_S)
    for process in stubborn:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(stubborn, timeout=GRACE_S)
    return len(found)

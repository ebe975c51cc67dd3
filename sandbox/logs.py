"""A process's output, line by line, into CloudWatch Logs."""

from __future__ import annotations

import contextlib
import subprocess
import threading
import time
from collections.abc import Callable

from sandbox.world import World

_lock = threading.Lock()  # moto's log store is not safe for threads
LINE_BYTES = 256 << 10  # CloudWatch's own limit for one event is 1 MB


def ensure(world: World, group: str, stream: str) -> None:
    from moto.logs.exceptions import ResourceAlreadyExistsException

    store = world.backend("logs")
    with _lock:
        with contextlib.suppress(ResourceAlreadyExistsException):
            store.create_log_group(group, {})
        with contextlib.suppress(ResourceAlreadyExistsException):
            store.create_log_stream(group, stream)


def write(world: World, group: str, stream: str, line: str) -> None:
    event = {"timestamp": int(time.time() * 1000), "message": line[:LINE_BYTES]}
    with _lock:
        world.backend("logs").put_log_events(group, stream, [event])


def follow(
    world: World,
    process: subprocess.Popen[bytes],
    group: str,
    stream: str,
    heard: Callable[[str], None] = lambda line: None,
) -> threading.Thread:
    """Copy the process's output until it ends; `heard` is told each line too."""
    ensure(world, group, stream)

    def pump() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            text = line.decode(errors="replace").rstrip("\n")
            write(world, group, stream, text)
            heard(text)

    thread = threading.Thread(target=pump, daemon=True)
    thread.start()
    return thread

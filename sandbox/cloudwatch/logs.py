"""CloudWatch Logs: streams for roles, and the output of processes copied into them line by line."""

from __future__ import annotations

import contextlib
import subprocess
import threading
import time
from collections.abc import Callable

from moto.logs.exceptions import ResourceAlreadyExistsException

from sandbox.iam import service_calls
from sandbox.world import World

LINE_BYTES = 256 << 10  # CloudWatch's own limit for one event is 1 MB


def ensure_log_stream(world: World, group: str, stream: str, role: str) -> None:
    """Create the log group and stream with the role's permissions. If it may not log, later writes are dropped."""
    store = world.backend("logs")
    if group in store.groups and stream in store.groups[group].streams:
        return
    if not service_calls.can_write_logs(world, role, "logs", group, stream):
        return
    with world.log_store_lock:
        with contextlib.suppress(ResourceAlreadyExistsException):
            store.create_log_group(group, {})
        with contextlib.suppress(ResourceAlreadyExistsException):
            store.create_log_stream(group, stream)


def write(world: World, group: str, stream: str, line: str) -> None:
    store = world.backend("logs")
    if group not in store.groups or stream not in store.groups[group].streams:
        return
    event = {"timestamp": int(time.time() * 1000), "message": line[:LINE_BYTES]}
    with world.log_store_lock:
        store.put_log_events(group, stream, [event])


def follow_output(
    world: World,
    process: subprocess.Popen[bytes],
    group: str,
    stream: str,
    on_line: Callable[[str], None] = lambda line: None,
) -> threading.Thread:
    """Copy the process's output into the stream until it ends, and call `on_line` with each line."""

    def pump() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            text = line.decode(errors="replace").rstrip("\n")
            write(world, group, stream, text)
            on_line(text)

    thread = threading.Thread(target=pump, daemon=True)
    thread.start()
    return thread

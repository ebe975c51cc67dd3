"""The state of EC2 that the sandbox keeps beside moto's records. World holds one; modules read it there, not from each other."""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sandbox.ec2.box import Box
    from sandbox.ec2.spot import SpotRequest


@dataclass
class CpuMeter:
    """The CPU seconds of each process of a box at the last reading, and when that was."""

    seconds: dict[int, float] = field(default_factory=dict)  # by process id
    read_at: float = field(default_factory=time.monotonic)


@dataclass
class Ec2Tables:
    boxes: dict[str, Box] = field(default_factory=dict)  # by instance
    connect_endpoints: dict[str, dict[str, Any]] = field(default_factory=dict)  # by id, as they are described
    connect_changes: dict[str, float] = field(default_factory=dict)  # id -> second of the clock when it is made or gone
    lingering_interfaces: dict[str, float] = field(default_factory=dict)  # id -> second of the clock when it is gone
    spot_requests: dict[str, SpotRequest] = field(default_factory=dict)  # by id
    spot_notices: dict[str, str] = field(default_factory=dict)  # instance -> the interruption notice in its metadata
    launches: dict[str, str] = field(default_factory=dict)  # ClientToken -> instance: a repeat launches nothing
    launch_requests: dict[str, str] = field(default_factory=dict)  # ClientToken -> the parameters it came with
    # Tags of terminated instances: a repeated TerminateInstances must still be authorised by tag.
    tags_of_terminated: dict[str, dict[str, str]] = field(default_factory=dict)
    host_key_lock: threading.Lock = field(default_factory=threading.Lock)
    cpu_meter: CpuMeter = field(default_factory=CpuMeter)
    loop: asyncio.AbstractEventLoop | None = None  # of all boxes and tunnels; EC2's calls come from other threads
    # asyncio keeps only weak references: a command's task would be collected while it runs.
    ssh_commands: set[asyncio.Task[None]] = field(default_factory=set)

"""The computer behind one EC2 instance: its state, the folder of its files, and the environment of its processes."""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sandbox import processes
from sandbox.world import World

BOX = "KENNEL_BOX"  # in the environment of every process of a box


@dataclass
class Box:
    """One instance's computer. `port` is its SSH server's, on loopback; `sshd` is up, down or mute."""

    world: World
    instance: str
    user: str
    user_data: str = ""
    key: str = ""
    disk_gib: int = 8
    port: int = 0
    secret: str = ""  # part of the URLs of its metadata service and power switch while it runs
    tokens: dict[str, float] = field(default_factory=dict)  # metadata token -> when it expires, on the monotonic clock
    sshd: str = "up"
    accepts_keys: bool = True
    impaired: bool = False
    is_partitioned: bool = False  # a partition: traffic waits in both directions
    pushed_keys: list[tuple[str, str, float]] = field(default_factory=list)  # (user, public key, pushed at)
    connections: set[Any] = field(default_factory=set)
    servers: list[Any] = field(default_factory=list)

    def __getstate__(self) -> dict[str, Any]:
        """Return what outlives the sandbox's process: not what runs, nor what was valid for a time."""
        stopped = {"port": 0, "secret": "", "tokens": {}, "pushed_keys": [], "connections": set(), "servers": []}
        return vars(self) | stopped

    @property
    def root(self) -> Path:
        """Return the folder that the box sees as /."""
        return self.world.folder / "boxes" / self.instance

    @property
    def home(self) -> Path:
        return self.root / "home" / self.user

    def build_environment(self) -> dict[str, str]:
        """Return a login's environment: no keys, but an instance metadata service that hands out the profile's role.

        BOX_ROOT, BOX_SWITCH and BOX_SSH_PORT are the sandbox's; on AWS they are unset, and mean /, the power switch and 22.
        """
        self.secret = self.secret or secrets.token_urlsafe(24)
        more = {
            BOX: self.instance,
            "AWS_ENDPOINT_URL": self.world.url,
            "AWS_EC2_METADATA_SERVICE_ENDPOINT": f"{self.world.url}/_metadata/{self.secret}/",
            "BOX_ROOT": str(self.root),
            "BOX_SWITCH": f"{self.world.url}/_box/{self.secret}/shutdown",
            "BOX_SSH_PORT": str(self.port),
        }
        path = {"PATH": f"{self.root / 'bin'}:{os.defpath}"}
        return processes.build_child_environment(self.world.folder, self.home, **more) | path

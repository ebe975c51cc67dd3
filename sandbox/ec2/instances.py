"""The computers behind EC2's instances: they boot, run real programs, can be reached by SSH, break in known ways, and halt."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import secrets
import shutil
import subprocess
import threading
import time
from collections.abc import Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncssh
import psutil

from sandbox import processes
from sandbox.ec2 import box_commands, sshd
from sandbox.state import PUBLIC_PORT
from sandbox.world import World

BOX = "KENNEL_BOX"  # in the environment of every process of a box
EACH_BOOT = (
    "#cloud-boothook"  # user data that cloud-init runs at each boot, before anything else; other scripts it runs once
)

KEYS = "-----BEGIN SSH HOST KEY KEYS-----\n{} root@box\n-----END SSH HOST KEY KEYS-----\n"

_boxes: dict[str, Box] = {}
_lock = threading.Lock()
_loop: list[asyncio.AbstractEventLoop] = []  # the one that all boxes live in; EC2's calls come from other threads


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
    secret: str = ""  # in the URLs of its metadata and its switch, while it runs
    tokens: dict[str, float] = field(default_factory=dict)  # of its metadata service -> until when
    sshd: str = "up"
    takes_keys: bool = True
    impaired: bool = False
    cut_off: bool = False  # a partition: what is sent either way waits
    pushed: list[tuple[str, str, float]] = field(default_factory=list)  # (user, public key, pushed at)
    connections: set[Any] = field(default_factory=set)
    servers: list[Any] = field(default_factory=list)

    @property
    def root(self) -> Path:
        """What the box has as /."""
        return self.world.folder / "boxes" / self.instance

    @property
    def home(self) -> Path:
        return self.root / "home" / self.user

    def environment(self) -> dict[str, str]:
        """What a login finds: no keys, but an instance metadata service that hands out the profile's role.

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
        return processes.environment(self.world.folder, self.home, **more) | path


def start(world: World) -> int:
    """Run the event loop of tunnels and boxes in a thread; return the tunnel's port."""
    from sandbox.ec2 import tunnel

    ready: list[int] = []
    up = threading.Event()

    async def main() -> None:
        _loop[:] = [asyncio.get_running_loop()]
        server, port = await tunnel.serve(world)
        ready.append(port)
        up.set()
        await server.wait_closed()

    threading.Thread(target=lambda: asyncio.run(main()), daemon=True).start()
    up.wait(30)
    return ready[0]


def in_loop(coroutine: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run_coroutine_threadsafe(coroutine, _loop[0]).result(60)


def get(instance: str) -> Box:
    """Raises KeyError for an instance that has no computer (any more)."""
    return _boxes[instance]


def put(box: Box) -> None:
    _boxes[box.instance] = box


def by_secret(secret: str) -> Box | None:
    return next((box for box in _boxes.values() if box.secret and box.secret == secret), None)


def host_key(world: World, instance: str) -> str:
    """The box's public host key, made when first asked for and kept as long as the box."""
    path = world.folder / "boxes" / instance / "host_key"
    with _lock:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            asyncssh.generate_private_key("ssh-ed25519").write_private_key(path)
    return asyncssh.read_private_key(path).export_public_key().decode().strip()


def boot(box: Box, public: str | None) -> None:
    """Power on: what was broken is whole again, SSH answers, and user data run as cloud-init runs them."""
    first = not box.home.exists()
    box.home.mkdir(parents=True, exist_ok=True)
    box_commands.put(box.root / "bin")
    (box.root / "disk_kib").write_text(str(box.disk_gib << 20))
    public_key = host_key(box.world, box.instance)
    for folder in ("dev", "etc/ssh"):
        (box.root / folder).mkdir(parents=True, exist_ok=True)
    (box.root / "etc/ssh/ssh_host_ed25519_key.pub").write_text(f"{public_key} root@box\n")
    # As cloud-init does: the keys at the first boot only.
    (box.root / "dev/console").write_text(
        f"[   12.3] cloud-init: Cloud-init finished\n{KEYS.format(public_key) if first else ''}"
    )
    box.sshd, box.takes_keys, box.impaired, box.cut_off = "up", True, False, False
    in_loop(listen(box, public))
    if box.user_data and (first or box.user_data.startswith(EACH_BOOT)):
        script = box.root / "user-data"
        script.write_text(box.user_data)
        with (box.root / "user-data.log").open("ab") as log:
            subprocess.Popen(
                ["sh", str(script)], cwd=box.root, env=box.environment(), stdin=subprocess.DEVNULL, stdout=log,
                stderr=log, start_new_session=True,
            )  # fmt: skip


async def listen(box: Box, public: str | None) -> None:
    """SSH on the box's own port, kept over boots, and on its public address if it has one."""
    from sandbox.ec2 import tunnel

    if box.sshd != "down":
        box.servers = [await sshd.serve(box, box.port)]
        box.port = box.port or port_of(box.servers[0])
    if public:
        try:
            box.servers.append(await asyncio.start_server(tunnel.street(box), public, PUBLIC_PORT))
        except OSError as error:
            box.world.note(f"{box.instance}: nothing listens at {public}:{PUBLIC_PORT}: {error}")


def port_of(server: Any) -> int:
    return int(server.sockets[0].getsockname()[1])


async def hang_up(box: Box) -> None:
    for server in box.servers:
        server.close()
    box.servers = []
    await cut(box)


async def cut(box: Box) -> None:
    """Every connection ends as if a cable was pulled."""
    for connection in list(box.connections):
        with contextlib.suppress(OSError):
            connection.abort()


def end(world: World, instances: list[str], gone: bool = False) -> None:
    """Pull the plug: connections and processes of these boxes end; with `gone` their disks go too."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get(BOX) in instances:
                process.kill()
    for instance in instances:
        if box := _boxes.get(instance):
            box.secret, box.tokens = "", {}
            in_loop(hang_up(box))
        if gone:
            _boxes.pop(instance, None)
            shutil.rmtree(world.folder / "boxes" / instance, ignore_errors=True)


def spoil(instance: str, public: str | None, how: dict[str, Any]) -> dict[str, Any]:
    """For drills. `sshd`: up, down or mute; `keys`: whether it takes any; `checks`: ok or impaired; `partition`: whether what
    is sent is held back; `cut`: end all connections; `disk_mib`: the volume's size. A boot mends all of it but the disk.

    Raises KeyError for an unknown instance, ValueError for another word.
    """
    box = get(instance)
    if unknown := {*how} - {"sshd", "keys", "checks", "partition", "cut", "disk_mib"}:
        raise ValueError(f"a box has no {', '.join(sorted(unknown))}")
    box.takes_keys = bool(how.get("keys", box.takes_keys))
    box.impaired = how.get("checks", "impaired" if box.impaired else "ok") == "impaired"
    box.cut_off = bool(how.get("partition", box.cut_off))
    if "disk_mib" in how:
        (box.root / "disk_kib").write_text(str(int(how["disk_mib"]) << 10))
    if how.get("cut"):
        in_loop(cut(box))
    if "sshd" in how:
        box.sshd = how["sshd"]
        in_loop(hang_up(box))
        in_loop(listen(box, public))
    return {
        "instance": instance,
        "sshd": box.sshd,
        "keys": box.takes_keys,
        "impaired": box.impaired,
        "partition": box.cut_off,
    }


_worked: dict[int, float] = {}  # CPU seconds of a process when last looked at
_looked = [time.monotonic()]


def utilisation() -> dict[str, float]:
    """Percent of this machine's processors that each box that runs had since the last call."""
    worked: dict[int, float] = {}
    spent = {ident: 0.0 for ident, box in _boxes.items() if box.servers}
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if (ident := process.environ().get(BOX)) in spent:
                times = process.cpu_times()
                worked[process.pid] = times.user + times.system
                spent[ident] += worked[process.pid] - _worked.get(process.pid, 0.0)
    passed = time.monotonic() - _looked[0]
    _worked.clear()
    _worked.update(worked)
    _looked[0] = time.monotonic()
    return {ident: min(100.0, 100 * s / passed / (os.cpu_count() or 1)) for ident, s in spent.items()}


def accept(instance: str, user: str, key: str) -> None:
    get(instance).pushed.append((user, key, time.monotonic()))


def address_for(instance: str) -> str:
    """A "public" address of this machine's own: all of 127.0.0.0/8 is loopback on Linux."""
    a, b, c = hashlib.sha256(instance.encode()).digest()[:3]
    return f"127.{a or 1}.{b}.{c or 1}"

"""The computers behind EC2's instances: they boot, run real programs, can be reached by SSH, break in known ways, and halt."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Coroutine
from typing import Any

import asyncssh
import psutil

from sandbox.ec2 import box_commands, sshd, tunnel
from sandbox.ec2.box import BOX, Box
from sandbox.state import PUBLIC_PORT
from sandbox.world import World

BOOTHOOK = (
    "#cloud-boothook"  # user data that cloud-init runs at each boot, before anything else; other scripts it runs once
)

CONSOLE_KEYS = "-----BEGIN SSH HOST KEY KEYS-----\n{} root@box\n-----END SSH HOST KEY KEYS-----\n"


def start_event_loop(world: World, authorize: tunnel.Authorize) -> int:
    """Run the event loop of tunnels and boxes in a thread; return the tunnel's port."""
    ready: list[int] = []
    up = threading.Event()

    async def main() -> None:
        world.ec2.loop = asyncio.get_running_loop()
        server, port = await tunnel.start_tunnel_server(world, authorize)
        ready.append(port)
        up.set()
        await server.wait_closed()

    threading.Thread(target=lambda: asyncio.run(main()), daemon=True).start()
    up.wait(30)
    return ready[0]


def run_in_loop(world: World, coroutine: Coroutine[Any, Any, Any]) -> Any:
    assert world.ec2.loop is not None
    return asyncio.run_coroutine_threadsafe(coroutine, world.ec2.loop).result(60)


def find_box_by_secret(world: World, secret: str) -> Box | None:
    return next((box for box in world.ec2.boxes.values() if box.secret and box.secret == secret), None)


def ensure_host_key(world: World, instance: str) -> str:
    """Return the box's public host key, which is made on first use and kept as long as the box."""
    path = world.folder / "boxes" / instance / "host_key"
    with world.ec2.host_key_lock:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            asyncssh.generate_private_key("ssh-ed25519").write_private_key(path)
    return asyncssh.read_private_key(path).export_public_key().decode().strip()


def boot_box(box: Box, public: str | None) -> None:
    """Power on: clear injected faults, start SSH, and run user data as cloud-init does."""
    first = not box.home.exists()
    box.home.mkdir(parents=True, exist_ok=True)
    box_commands.install_programs(box.root / "bin")
    (box.root / "disk_kib").write_text(str(box.disk_gib << 20))
    public_key = ensure_host_key(box.world, box.instance)
    for folder in ("dev", "etc/ssh"):
        (box.root / folder).mkdir(parents=True, exist_ok=True)
    (box.root / "etc/ssh/ssh_host_ed25519_key.pub").write_text(f"{public_key} root@box\n")
    # cloud-init prints the keys at the first boot only.
    (box.root / "dev/console").write_text(
        f"[   12.3] cloud-init: Cloud-init finished\n{CONSOLE_KEYS.format(public_key) if first else ''}"
    )
    box.sshd, box.accepts_keys, box.impaired, box.is_partitioned = "up", True, False, False
    run_in_loop(box.world, start_ssh_servers(box, public))
    if box.user_data and (first or box.user_data.startswith(BOOTHOOK)):
        script = box.root / "user-data"
        script.write_text(box.user_data)
        with (box.root / "user-data.log").open("ab") as log:
            subprocess.Popen(
                ["sh", str(script)], cwd=box.root, env=box.build_environment(), stdin=subprocess.DEVNULL, stdout=log,
                stderr=log, start_new_session=True,
            )  # fmt: skip


async def start_ssh_servers(box: Box, public: str | None) -> None:
    """Start SSH on the box's own port, kept over boots, and on its public address if it has one."""
    if box.sshd != "down":
        box.servers = [await sshd.start_ssh_server(box, box.port)]
        box.port = box.port or find_server_port(box.servers[0])
    if public:
        try:
            box.servers.append(await asyncio.start_server(tunnel.make_public_handler(box), public, PUBLIC_PORT))
        except OSError as error:
            box.world.note(f"{box.instance}: cannot listen on {public}:{PUBLIC_PORT}: {error}")


def find_server_port(server: Any) -> int:
    return int(server.sockets[0].getsockname()[1])


async def stop_ssh_servers(box: Box) -> None:
    for server in box.servers:
        server.close()
    box.servers = []
    await drop_connections(box)


async def drop_connections(box: Box) -> None:
    """Abort every connection without closing it properly, as a network failure does."""
    for connection in list(box.connections):
        with contextlib.suppress(OSError):
            connection.abort()


def halt_boxes(world: World, instances: list[str], delete_disks: bool = False) -> None:
    """Power off at once: end connections and processes of these boxes; with `gone`, delete their disks too."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get(BOX) in instances:
                process.kill()
    for instance in instances:
        if box := world.ec2.boxes.get(instance):
            box.secret, box.tokens = "", {}
            run_in_loop(world, stop_ssh_servers(box))
        if delete_disks:
            world.ec2.boxes.pop(instance, None)
            shutil.rmtree(world.folder / "boxes" / instance, ignore_errors=True)


def require_box(world: World, instance: str) -> Box:
    """Return the box of an instance. Raises ValueError for an unknown or terminated one."""
    if instance not in world.ec2.boxes:
        raise ValueError(f"there is no box {instance}")
    return world.ec2.boxes[instance]


def inject_box_fault(box: Box, public: str | None, fault: dict[str, Any]) -> dict[str, Any]:
    """Inject faults for drills; return the box's state. A boot clears all of them.

    `sshd`: up, down or mute; `keys`: whether keys are accepted; `checks`: ok or impaired; `partition`: whether traffic is held
    back; `cut`: end all connections; `disk_mib`: the volume's size.

    Raises ValueError for an unknown fault.
    """
    if unknown := {*fault} - {"sshd", "keys", "checks", "partition", "cut", "disk_mib"}:
        raise ValueError(f"unknown fault of a box: {', '.join(sorted(unknown))}")
    box.accepts_keys = bool(fault.get("keys", box.accepts_keys))
    box.impaired = fault.get("checks", "impaired" if box.impaired else "ok") == "impaired"
    box.is_partitioned = bool(fault.get("partition", box.is_partitioned))
    if "disk_mib" in fault:
        (box.root / "disk_kib").write_text(str(int(fault["disk_mib"]) << 10))
    if fault.get("cut"):
        run_in_loop(box.world, drop_connections(box))
    if "sshd" in fault:
        box.sshd = fault["sshd"]
        run_in_loop(box.world, stop_ssh_servers(box))
        run_in_loop(box.world, start_ssh_servers(box, public))
    return {
        "instance": box.instance,
        "sshd": box.sshd,
        "keys": box.accepts_keys,
        "impaired": box.impaired,
        "partition": box.is_partitioned,
    }


def measure_utilisation(world: World) -> dict[str, float]:
    """Return the percentage of this host's CPUs that each running box used since the last call."""
    meter, worked = world.ec2.cpu_meter, dict[int, float]()
    spent = {instance_id: 0.0 for instance_id, box in world.ec2.boxes.items() if box.servers}
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if (instance_id := process.environ().get(BOX)) in spent:
                times = process.cpu_times()
                worked[process.pid] = times.user + times.system
                spent[instance_id] += worked[process.pid] - meter.seconds.get(process.pid, 0.0)
    passed = time.monotonic() - meter.read_at
    meter.seconds, meter.read_at = worked, time.monotonic()
    return {instance_id: min(100.0, 100 * s / passed / (os.cpu_count() or 1)) for instance_id, s in spent.items()}


def accept_pushed_key(world: World, instance: str, user: str, key: str) -> None:
    """Accept a pushed key. Raises KeyError for an instance without a box, such as a terminated one."""
    world.ec2.boxes[instance].pushed_keys.append((user, key, time.monotonic()))


def derive_public_address(instance: str) -> str:
    """Return a "public" address that is local to this host: all of 127.0.0.0/8 is loopback on Linux."""
    a, b, c = hashlib.sha256(instance.encode()).digest()[:3]
    return f"127.{a or 1}.{b}.{c or 1}"

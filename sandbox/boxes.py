"""The boxes behind EC2's instances: a real SSH server each, reached only through the Instance Connect Endpoint's tunnel."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncssh
import psutil

from sandbox import children, tunnel
from sandbox.world import World

KEY_S = 60.0  # how long a pushed key is good for, as on AWS
CHUNK = 64 << 10
BOX = "KENNEL_BOX"  # in the environment of every process of a box

_tasks: set[Any] = set()  # asyncio keeps only weak references: a command's task would be collected while it runs
_keys: dict[str, list[tuple[str, str, float]]] = {}  # instance -> (user, public key, pushed at)
_boxes: dict[str, Box] = {}
_lock = threading.Lock()
_loop: list[asyncio.AbstractEventLoop] = []  # the one that all boxes live in; EC2's calls come from other threads


@dataclass
class Box:
    """One instance's computer. `port` is its SSH server's, on loopback; 0 until somebody connects."""

    world: World
    instance: str
    role_arn: str = ""
    port: int = 0
    secret: str = ""
    connections: set[Any] = field(default_factory=set)
    server: Any = None

    @property
    def home(self) -> Path:
        return self.world.folder / "boxes" / self.instance / "home"

    def environment(self) -> dict[str, str]:
        """What a login finds: no keys, but an instance metadata service that hands out the profile's role."""
        more = {BOX: self.instance, "AWS_ENDPOINT_URL": self.world.url}
        if self.role_arn:
            self.secret = self.secret or self.world.keys.source(self.role_arn, self.instance)
            more["AWS_EC2_METADATA_SERVICE_ENDPOINT"] = f"{self.world.url}/_metadata/{self.secret}/"
        return children.environment(self.world.folder, self.home, **more) | {
            "PATH": f"{self.home.parent / 'bin'}:{os.defpath}"
        }


class Login(asyncssh.SSHServer):
    def __init__(self, box: Box) -> None:
        self.box = box

    def connection_made(self, conn: Any) -> None:
        self.conn = conn
        self.box.connections.add(conn)

    def connection_lost(self, exc: Exception | None) -> None:
        self.box.connections.discard(self.conn)

    def begin_auth(self, username: str) -> bool:
        return True

    def public_key_auth_supported(self) -> bool:
        return True

    def validate_public_key(self, username: str, key: Any) -> bool:
        offered = key.export_public_key().decode().split()[:2]
        now = time.monotonic()
        return any(
            user == username and text.split()[:2] == offered and now - at < KEY_S
            for user, text, at in _keys.get(self.box.instance, [])
        )


def start(world: World) -> int:
    """Run the event loop of tunnels and boxes in a thread; return the tunnel's port."""
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


def accept(instance: str, user: str, key: str) -> None:
    _keys.setdefault(instance, []).append((user, key, time.monotonic()))


def host_key(world: World, instance: str) -> str:
    """The box's public host key, made when first asked for and kept as long as the box."""
    path = world.folder / "boxes" / instance / "host_key"
    with _lock:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            asyncssh.generate_private_key("ssh-ed25519").write_private_key(path)
    return asyncssh.read_private_key(path).export_public_key().decode().strip()


async def listening(world: World, instance: str, role_arn: str) -> int:
    """The port of the box's SSH server, started when first needed."""
    box = _boxes.setdefault(instance, Box(world, instance, role_arn))
    if box.server is None:
        box.home.mkdir(parents=True, exist_ok=True)
        programs(box)
        await asyncio.to_thread(host_key, world, instance)
        box.server = await asyncssh.create_server(
            lambda: Login(box),
            "127.0.0.1",
            0,
            server_host_keys=[str(world.folder / "boxes" / instance / "host_key")],
            process_factory=lambda process: keep(serve_command(box, process)),
            sftp_factory=lambda channel: asyncssh.SFTPServer(channel, chroot=str(box.home).encode()),
            encoding=None,
            keepalive_interval=30,
        )
        box.port = box.server.get_port()
    return box.port


def programs(box: Box) -> None:
    """python3 on the box is the one the sandbox runs on; the rest is the machine's."""
    folder = box.home.parent / "bin"
    folder.mkdir(exist_ok=True)
    python = folder / "python3"
    if not python.exists():
        python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
        python.chmod(0o755)


def keep(coroutine: Any) -> None:
    task = asyncio.ensure_future(coroutine)
    _tasks.add(task)
    task.add_done_callback(_tasks.discard)


async def serve_command(box: Box, process: Any) -> None:
    """Run one command (or a shell) in a group of its own, which ends with the connection."""
    argv = ["bash", "-c", process.command] if process.command else ["bash", "-i"]
    child = await asyncio.create_subprocess_exec(
        *argv,
        cwd=box.home,
        env=box.environment(),
        start_new_session=True,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    feeding = asyncio.ensure_future(feed(process, child))
    try:
        await asyncio.gather(copy(child.stdout, process.stdout), copy(child.stderr, process.stderr))
        code = await child.wait()
        process.exit(code if code >= 0 else 128 - code)
    except (OSError, asyncssh.Error):
        pass
    finally:
        feeding.cancel()
        if child.returncode is None:
            children.signal_group(child.pid, signal.SIGTERM)


async def feed(process: Any, child: Any) -> None:
    """The client's input into the command; a connection that is cut ends the command's group."""
    try:
        while data := await process.stdin.read(CHUNK):
            child.stdin.write(data)
            await child.stdin.drain()
        child.stdin.close()
        await process.channel.wait_closed()
        raise ConnectionResetError
    except (ConnectionResetError, BrokenPipeError, asyncssh.Error):
        if child.returncode is None:
            children.signal_group(child.pid, signal.SIGTERM)


async def copy(source: Any, target: Any) -> None:
    """By hand: asyncssh's own redirection closes the channel under flow control above some 2 MB."""
    while data := await source.read(CHUNK):
        target.write(data)
        await target.drain()


def end(world: World, instances: list[str], gone: bool = False) -> None:
    """Pull the plug: connections and processes of these boxes end; with `gone` their disks go too."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get(BOX) in instances:
                process.kill()
    for instance in instances:
        box = _boxes.get(instance)
        for connection in list(box.connections) if box else []:
            _loop[0].call_soon_threadsafe(connection.abort)
        if gone:
            _boxes.pop(instance, None)
            shutil.rmtree(world.folder / "boxes" / instance, ignore_errors=True)

"""The SSH server of one box. It checks keys, runs commands, and ends a command whose connection ends."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Coroutine
from typing import Any

import asyncssh

from sandbox import processes
from sandbox.ec2.box import Box

KEY_S = 60.0  # how long a pushed key is valid, as on AWS
CHUNK = 64 << 10
HELD_OPEN_S = 0.5  # after a command has ended, its output counts as held open


class Login(asyncssh.SSHServer):
    """The login, which accepts keys pushed within the last minute and the launch's key pair, for the image's user only."""

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
        if username != self.box.user or not self.box.accepts_keys:
            return False
        offered, now = key.export_public_key().decode().split()[:2], time.monotonic()
        pushed_keys = [text for user, text, at in self.box.pushed_keys if user == username and now - at < KEY_S]
        return any(text.split()[:2] == offered for text in [*pushed_keys, self.box.key])


async def start_ssh_server(box: Box, port: int) -> Any:
    """Start the server on the box's port, or any free one for 0; a mute one accepts connections and sends nothing."""
    if box.sshd == "mute":

        async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(ConnectionError):
                while await reader.read(CHUNK):
                    pass
            writer.close()

        return await asyncio.start_server(silent, "127.0.0.1", port)
    return await asyncssh.create_server(
        lambda: Login(box),
        "127.0.0.1",
        port,
        server_host_keys=[str(box.root / "host_key")],
        process_factory=lambda process: schedule_command(box, serve_command(box, process)),
        sftp_factory=lambda channel: asyncssh.SFTPServer(channel, chroot=os.fsencode(box.home)),
        encoding=None,
        keepalive_interval=30,
        reuse_address=True,
    )


def schedule_command(box: Box, command: Coroutine[Any, Any, None]) -> None:
    """Run a command to its end; asyncio itself keeps only a weak reference to it."""
    task, running = asyncio.create_task(command), box.world.ec2.ssh_commands
    running.add(task)
    task.add_done_callback(running.discard)


async def serve_command(box: Box, process: Any) -> None:
    """Run one command (or a shell) in a group of its own, which ends with the connection."""
    argv = ["bash", "-c", process.command] if process.command else ["bash", "-i"]
    child = await asyncio.create_subprocess_exec(
        *argv,
        cwd=box.home,
        env=box.build_environment(),
        start_new_session=True,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    feeding, reporting = (asyncio.ensure_future(work(process, child)) for work in (feed_input, report_early_exit))
    try:
        await asyncio.gather(copy_stream(child.stdout, process.stdout), copy_stream(child.stderr, process.stderr))
        code = await child.wait()
        if reporting.done():
            process.close()
        else:
            process.exit(derive_exit_status(code))
    except (OSError, asyncssh.Error):
        pass
    finally:
        feeding.cancel()
        reporting.cancel()
        if child.returncode is None:
            processes.signal_group(child.pid, signal.SIGTERM)


def derive_exit_status(code: int) -> int:
    return code if code >= 0 else 128 - code


async def report_early_exit(process: Any, child: Any) -> None:
    """Send the exit status of a command that has ended while a program that it started holds its output open, as OpenSSH's server does."""
    while child.returncode is None:
        await asyncio.sleep(HELD_OPEN_S)
    await asyncio.sleep(HELD_OPEN_S)
    # asyncssh's own exit() closes the channel too.
    process.channel._send_request(b"exit-status", asyncssh.packet.UInt32(derive_exit_status(child.returncode)))


async def feed_input(process: Any, child: Any) -> None:
    """Copy the client's input into the command; end the command's group when the connection is cut."""
    try:
        while data := await process.stdin.read(CHUNK):
            child.stdin.write(data)
            await child.stdin.drain()
        child.stdin.close()
        await process.channel.wait_closed()
        raise ConnectionResetError
    except (ConnectionResetError, BrokenPipeError, asyncssh.Error):
        if child.returncode is None:
            processes.signal_group(child.pid, signal.SIGTERM)


async def copy_stream(source: Any, target: Any) -> None:
    """Copy a stream by hand: asyncssh's own redirection closes the channel under flow control above some 2 MB."""
    while data := await source.read(CHUNK):
        target.write(data)
        await target.drain()

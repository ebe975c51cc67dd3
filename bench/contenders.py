"""The contenders of bench.sync: their command lines and times, and the processes that ours, paramiko's put and a server are.

    python -m bench.contenders ours|put FOLDER TARGET KEYS PORT     ->  {"seconds": 0.7, "sent": true}
    python -m bench.contenders serve KEYS                           ->  port 2222, and SSH until stdin ends

`seconds` runs from before the connection is opened until the files are there; whoever times the process has the start of
Python and the imports too. Only what a contender needs is imported.
"""

from __future__ import annotations

import getpass
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from ops.core.paths import ROOT

HOST = "bench"  # the name the host key is pinned under
OURS, PUT, RSYNC, TAR = "ours", "put", "rsync", "tar"
IMPORTS = {OURS: ("fabric", "ops.box.file_sync"), PUT: ("paramiko",)}  # part of a process's start
TRANSFER_S = 900
CHUNK = 64 << 10


@dataclass(frozen=True)
class Keys:
    """What the server and its clients prove themselves with, in one folder."""

    folder: Path

    @property
    def client(self) -> Path:
        return self.folder / "key"

    @property
    def allowed(self) -> Path:
        return self.folder / "key.pub"

    @property
    def host(self) -> Path:
        return self.folder / "host_key"

    @property
    def known_hosts(self) -> Path:
        return self.folder / "known_hosts"


@dataclass(frozen=True)
class Transfer:
    """What goes where, and through which port of the loopback interface."""

    folder: Path
    target: str
    keys: Keys
    port: int

    def socket(self) -> socket.socket:
        """Without Nagle's algorithm, which a tunnel has not: it would hold back paramiko's small packets."""
        joined = socket.create_connection(("127.0.0.1", self.port))
        joined.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return joined


def argv(name: str, asked: Transfer) -> list[str]:
    """A contender's command line. -F none: the settings of whoever measures are not measured."""
    if name in (OURS, PUT):
        where = [str(asked.folder), asked.target, str(asked.keys.folder), str(asked.port)]
        return [sys.executable, "-m", "bench.contenders", name, *where]
    options = {
        "UserKnownHostsFile": asked.keys.known_hosts,
        "HostKeyAlias": HOST,
        "StrictHostKeyChecking": "yes",
        "IdentitiesOnly": "yes",
        "IdentityAgent": "none",
        "BatchMode": "yes",
    }
    ssh = ["ssh", "-F", "none", "-p", str(asked.port), "-i", str(asked.keys.client)]
    ssh += [f"-o{option}={value}" for option, value in options.items()]
    at, into = f"{getpass.getuser()}@127.0.0.1", shlex.quote(asked.target)
    if name == RSYNC:
        return ["rsync", "-a", "-e", shlex.join(ssh), f"{asked.folder}/", f"{at}:{asked.target}/"]
    packed = shlex.join(["tar", "-cf", "-", "-C", str(asked.folder), "."])
    return ["sh", "-c", f"{packed} | {shlex.join([*ssh, at, f'mkdir {into} && tar -xf - -C {into}'])}"]


def timed(argv: list[str]) -> tuple[float, str]:
    """Wall time of a whole command, and its stdout. Raises OpsError with what it said when it fails."""
    from ops.core.errors import OpsError

    began = time.perf_counter()
    with started(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            out, err = process.communicate(timeout=TRANSFER_S)
        except subprocess.TimeoutExpired as error:
            raise OpsError(f"{argv[0]} did not end in {TRANSFER_S} s.") from error
        took = time.perf_counter() - began
    if process.returncode:
        raise OpsError(f"{Path(argv[0]).name} ended with {process.returncode}: {err.strip()[-600:]}")
    return took, out


@contextmanager
def started(argv: list[str], **streams: Any) -> Iterator[subprocess.Popen[str]]:
    """A process that ends here with its whole group: rsync and sh have an ssh of their own."""
    # Bytecode is cached as people have it, by the unmeasured round.
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    common: dict[str, Any] = {"cwd": ROOT, "env": env, "text": True, "start_new_session": True}
    with subprocess.Popen(argv, stdin=subprocess.PIPE, **common, **streams) as process:
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def ours(asked: Transfer) -> bool:
    """Whether the files had to be sent."""
    from ops.box.file_sync import of_folder, send
    from ops.core import ssh

    with ssh.connect(HOST, getpass.getuser(), asked.keys.client, asked.keys.known_hosts, asked.socket) as link:
        return send(link, of_folder(asked.folder), asked.target, asked.folder.name)


def put(asked: Transfer) -> bool:
    """One SFTP session; each file's size is confirmed, as is paramiko's default."""
    import paramiko

    key: dict[str, Any] = {"key_filename": str(asked.keys.client), "allow_agent": False, "look_for_keys": False}
    with paramiko.SSHClient() as client:
        client.load_host_keys(str(asked.keys.known_hosts))
        client.set_missing_host_key_policy(paramiko.RejectPolicy())
        client.connect(HOST, username=getpass.getuser(), sock=asked.socket(), **key)
        sftp = client.open_sftp()
        sftp.mkdir(asked.target)
        for path in sorted(asked.folder.rglob("*")):  # a folder comes before what is in it
            there = f"{asked.target}/{path.relative_to(asked.folder).as_posix()}"
            if path.is_dir():
                sftp.mkdir(there)
            else:
                sftp.put(str(path), there)
    return True


async def copy(source: Any, to: Any) -> None:
    import asyncssh

    with suppress(OSError, asyncssh.Error):
        while data := await source.read(CHUNK):
            to.write(data)
            await to.drain()


async def command(process: Any) -> None:
    """What asyncssh calls for each command."""
    import asyncio

    pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    child: Any = await asyncio.create_subprocess_exec("sh", "-c", process.command, **pipes)

    async def feed() -> None:
        await copy(process.stdin, child.stdin)
        child.stdin.close()

    feeding = asyncio.ensure_future(feed())
    try:
        await asyncio.gather(copy(child.stdout, process.stdout), copy(child.stderr, process.stderr))
        process.exit(await child.wait())
    finally:
        feeding.cancel()
        with suppress(ProcessLookupError):
            child.kill()


async def serve(keys: Keys) -> None:
    """asyncssh: sh runs the commands, and SFTP sees the whole disk."""
    import asyncio

    import asyncssh

    server = await asyncssh.create_server(
        asyncssh.SSHServer,
        "127.0.0.1",
        0,
        server_host_keys=[str(keys.host)],
        authorized_client_keys=str(keys.allowed),
        process_factory=command,
        sftp_factory=asyncssh.SFTPServer,
        encoding=None,
    )
    print(f"port {server.get_port()}", flush=True)
    await asyncio.to_thread(sys.stdin.read)


def main(name: str, folder: str, *more: str) -> None:
    if name == "serve":
        import asyncio

        asyncio.run(serve(Keys(Path(folder))))
        return
    target, keys, port = more
    asked = Transfer(Path(folder), target, Keys(Path(keys)), int(port))
    for module in IMPORTS[name]:
        import_module(module)
    began = time.perf_counter()
    sent = {OURS: ours, PUT: put}[name](asked)
    print(json.dumps({"seconds": time.perf_counter() - began, "sent": sent}))


if __name__ == "__main__":
    main(*sys.argv[1:])

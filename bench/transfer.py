"""The contenders of bench.sync: the transfer, their command lines, and the timing of their processes.

Ours and paramiko's put are processes of this repository (bench/send_ours.py, bench/send_by_put.py). `seconds` in their
answer counts from before the connection is opened until the files are sent; the time of the whole process also includes
the start of Python and the imports.
"""

from __future__ import annotations

import getpass
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
from pathlib import Path
from typing import Any

from ops.core.errors import OpsError
from ops.core.paths import ROOT

HOST = "bench"  # the name the host key is pinned under
OURS, PUT, RSYNC, TAR = "ours", "put", "rsync", "tar"
MODULES = {OURS: "bench.send_ours", PUT: "bench.send_by_put"}
TRANSFER_S = 900


@dataclass(frozen=True)
class Keys:
    """The keys of the server and its clients, in one folder."""

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
    """The folder to send, its target, the keys, and the port on the loopback interface."""

    folder: Path
    target: str
    keys: Keys
    port: int

    @classmethod
    def from_words(cls, folder: str, target: str, keys: str, port: str) -> Transfer:
        """Return the transfer that `build_transfer_command` passed as arguments to a process of ours."""
        return cls(Path(folder), target, Keys(Path(keys)), int(port))

    def socket(self) -> socket.socket:
        """Connect without Nagle's algorithm, which a tunnel does not use: it would delay paramiko's small packets."""
        joined = socket.create_connection(("127.0.0.1", self.port))
        joined.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return joined


def build_transfer_command(name: str, transfer: Transfer) -> list[str]:
    """Return a contender's command line. -F none keeps the operator's ssh settings out of the measurement."""
    if name in MODULES:
        where = [str(transfer.folder), transfer.target, str(transfer.keys.folder), str(transfer.port)]
        return [sys.executable, "-m", MODULES[name], *where]
    options = {
        "UserKnownHostsFile": transfer.keys.known_hosts,
        "HostKeyAlias": HOST,
        "StrictHostKeyChecking": "yes",
        "IdentitiesOnly": "yes",
        "IdentityAgent": "none",
        "BatchMode": "yes",
    }
    ssh = ["ssh", "-F", "none", "-p", str(transfer.port), "-i", str(transfer.keys.client)]
    ssh += [f"-o{option}={value}" for option, value in options.items()]
    login, target = f"{getpass.getuser()}@127.0.0.1", shlex.quote(transfer.target)
    if name == RSYNC:
        return ["rsync", "-a", "-e", shlex.join(ssh), f"{transfer.folder}/", f"{login}:{transfer.target}/"]
    packed = shlex.join(["tar", "-cf", "-", "-C", str(transfer.folder), "."])
    return ["sh", "-c", f"{packed} | {shlex.join([*ssh, login, f'mkdir {target} && tar -xf - -C {target}'])}"]


def run_timed(argv: list[str]) -> tuple[float, str]:
    """Return the wall time of a whole command in seconds, and its stdout. Raises OpsError with its stderr."""
    began = time.perf_counter()
    with start_process(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            out, err = process.communicate(timeout=TRANSFER_S)
        except subprocess.TimeoutExpired as error:
            raise OpsError(f"{argv[0]} did not end within {TRANSFER_S} s.") from error
        took = time.perf_counter() - began
    if process.returncode:
        raise OpsError(f"{Path(argv[0]).name} failed with exit code {process.returncode}: {err.strip()[-600:]}")
    return took, out


@contextmanager
def start_process(argv: list[str], **streams: Any) -> Iterator[subprocess.Popen[str]]:
    """Start a process; kill its whole group at the end, since rsync and sh start an ssh of their own."""
    # Bytecode is cached, as in normal use, by the unmeasured round.
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    common: dict[str, Any] = {"cwd": ROOT, "env": env, "text": True, "start_new_session": True}
    with subprocess.Popen(argv, stdin=subprocess.PIPE, **common, **streams) as process:
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)

"""SSH: Fabric connections to hosts whose key is pinned. They read no stdin, and their commands have time limits."""

from __future__ import annotations

import logging
import os
import re
import shlex
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from fabric import Config
from fabric import Connection as Connection  # imported from here elsewhere: Fabric stays behind this module
from invoke.exceptions import CommandTimedOut
from paramiko import AuthenticationException, BadHostKeyException, RejectPolicy

from ops.core.errors import OpsError, Unreachable

CONNECT_S, COMMAND_S = 15, 60
KEEPALIVE_S, SILENT_S = 15.0, 30.0  # between two keepalive requests, and to wait for a reply
PAGE = "runbooks/box-unreachable.md"


class Lost(Unreachable):
    """The connection was lost while it was in use."""


def ensure_key_pair(path: Path) -> str:
    """Return the public key beside `path`; make the pair when it is missing.

    Raises OpsError when others can read the private key, or when its public key is missing.
    """
    public = path.with_name(path.name + ".pub")
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        key = Ed25519PrivateKey.generate()
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
        public.write_bytes(key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH) + b" kennel\n")
    if path.stat().st_mode & 0o077:
        raise OpsError(
            f"The private key {path} can be read by other users, and OpenSSH would refuse it. Protect it: chmod 600 {path}"
        )
    if not public.exists():
        raise OpsError(f"The public key {public} is missing. Recreate it: ssh-keygen -y -f {path} > {public}")
    return public.read_text().strip()


def parse_host_keys(console: str) -> list[str]:
    """Return the public host keys that cloud-init prints on the console at boot, as `type base64`."""
    blocks = re.findall(r"-----BEGIN SSH HOST KEY KEYS-----(.*?)-----END SSH HOST KEY KEYS-----", console, re.S)
    return [" ".join(line.split()[:2]) for line in blocks[-1].strip().splitlines()] if blocks else []


def is_host_pinned(known_hosts: Path, name: str) -> bool:
    lines = known_hosts.read_text(errors="replace").splitlines() if known_hosts.exists() else []
    return any(line.split()[:1] == [name] for line in lines)


def pin_host_keys(known_hosts: Path, name: str, keys: list[str]) -> None:
    known_hosts.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with known_hosts.open("a") as file:
        file.writelines(f"{name} {key}\n" for key in keys)


def connect_to_host(
    name: str, user: str, key: Path, known_hosts: Path, open_socket: Callable[[], socket.socket]
) -> Connection:
    """Open a connection to the host whose key is pinned under `name`. Raises OpsError."""

    class Box(Connection):  # type: ignore[misc]  # Fabric has no types
        def open_gateway(self) -> socket.socket:
            return open_socket()

    disable_paramiko_logging()
    # These commands take no input; reading stdin would consume a script's own input.
    config = Config(overrides={"run": {"in_stream": False}, "load_ssh_configs": False})
    box = Box(
        name, user=user, gateway="tunnel", connect_timeout=CONNECT_S, config=config,
        connect_kwargs={
            "key_filename": str(key), "allow_agent": False, "look_for_keys": False, "banner_timeout": CONNECT_S, "auth_timeout": CONNECT_S,
        },
    )  # fmt: skip
    # Fabric trusts the first key it meets; a box that holds credentials needs a pinned one.
    try:
        box.client.load_host_keys(str(known_hosts))
    except (OSError, ValueError) as error:
        raise OpsError(
            f"Cannot read {known_hosts}: {error}. Delete it, and the next connection pins the host keys again"
        ) from error
    box.client.set_missing_host_key_policy(RejectPolicy())
    try:
        box.open()
    except OpsError:
        raise
    except Exception as error:
        raise explain_connection_error(error, name, known_hosts) from error
    threading.Thread(target=monitor_connection, args=(box.transport,), daemon=True).start()
    return box


def monitor_connection(transport: Any) -> None:
    """Send keepalive requests, and close the connection when one gets no reply.

    A connection that drops all packets looks like a command without output, and paramiko's own keepalive asks for no reply.
    """
    while transport.is_active():
        time.sleep(KEEPALIVE_S)
        answered = threading.Event()

        def send_keepalive(answered: threading.Event = answered) -> None:
            transport.global_request("keepalive@openssh.com", wait=True)  # any reply will do; servers refuse this
            answered.set()

        threading.Thread(target=send_keepalive, daemon=True).start()
        if not answered.wait(SILENT_S):
            transport.close()


def explain_connection_error(error: Exception, name: str, known_hosts: Path) -> OpsError:
    if isinstance(error, BadHostKeyException) or "not found in known_hosts" in str(error):
        return OpsError(
            f"The host key of {name} is not the one pinned in {known_hosts}, so nothing was sent. Its keys were replaced, or "
            f"another host answers in its place. See {PAGE}"
        )
    if isinstance(error, AuthenticationException):
        return OpsError(f"{name} rejects our SSH key: {str(error).rstrip('.')}. See {PAGE}")
    return Unreachable(
        f"Cannot open SSH to {name}: {type(error).__name__}: {error or 'the connection ended at once'}. See {PAGE}"
    )


def disable_paramiko_logging() -> None:
    """Silence paramiko's logger, which prints tracebacks of its threads for errors that are explained here."""
    logger = logging.getLogger("paramiko")
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())
        logger.propagate = False


def run(box: Connection, command: str, timeout: float = COMMAND_S) -> str:
    """Run a command and return its stdout; for small outputs, since Invoke's capture takes quadratic time.

    Raises OpsError when the command fails, Lost when it hangs or the connection ends.
    """
    try:
        done = box.run(command, hide=True, warn=True, timeout=timeout)
    except (OSError, EOFError, CommandTimedOut) as error:
        raise build_lost_error(error) from error
    except Exception as error:
        if type(error).__module__.startswith("paramiko"):
            raise build_lost_error(error) from error
        raise
    if done.exited:
        raise OpsError(
            f"On the box, `{command.split(chr(10))[0][:80]}` exited with {done.exited}: {done.stderr.strip()[-500:]}"
        )
    return str(done.stdout)


def build_lost_error(error: Exception) -> Lost:
    return Lost(f"The connection to the box was lost ({type(error).__name__}).")


@contextmanager
def translate_connection_errors() -> Iterator[None]:
    """Turn connection errors into Lost. Wrap calls to the far end alone: a full local disk is not a lost connection."""
    try:
        yield
    except (OSError, EOFError) as error:
        raise build_lost_error(error) from error
    except Exception as error:
        if type(error).__module__.startswith("paramiko"):
            raise build_lost_error(error) from error
        raise


def stream_command(
    box: Connection, command: str, data: Iterable[bytes] = (), on_output: Callable[[bytes], Any] | None = None
) -> int:
    """Run a command with `data` as its stdin, pass its output to `on_output` in pieces, and return its exit code. Raises Lost."""
    with translate_connection_errors():
        channel = box.transport.open_session(timeout=CONNECT_S)
        channel.set_combine_stderr(True)
        channel.exec_command(command)
    for piece in data:
        if not send_piece(channel, piece):
            break
    with translate_connection_errors():
        channel.shutdown_write()
    while True:
        with translate_connection_errors():
            received = channel.recv(1 << 16)
        if not received:
            break
        if on_output:
            on_output(received)
    with translate_connection_errors():
        code: int = channel.recv_exit_status()
    if code == -1:
        raise build_lost_error(EOFError())
    return code


def send_piece(channel: Any, piece: bytes) -> bool:
    """Send a piece of stdin; return False when the command has ended, whose output and exit code say why. Raises Lost."""
    with translate_connection_errors():
        try:
            channel.sendall(piece)
        except OSError:
            if not channel.status_event.wait(1):
                raise
            return False
    return True


def read(box: Connection, command: str) -> bytes:
    """Run a command and return its output, byte for byte, whatever its exit code. Raises Lost."""
    output: list[bytes] = []
    stream_command(box, command, on_output=output.append)
    return b"".join(output)


def quote_command(*parts: str) -> str:
    """Return a command line for the box's shell, with every word quoted."""
    return shlex.join(parts)

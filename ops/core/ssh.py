"""SSH: Fabric connections to hosts whose key is pinned. They read no stdin, and their commands have time limits."""

from __future__ import annotations

import logging
import math
import os
import re
import secrets
import shlex
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from fabric import Config
from fabric import Connection as Connection  # imported from here elsewhere: Fabric stays behind this module
from paramiko import AuthenticationException, BadHostKeyException, RejectPolicy

from ops.core.errors import OpsError, Unreachable

CONNECT_S, COMMAND_S = 15, 60
KEEPALIVE_S, SILENT_S = 15.0, 30.0  # between two keepalive requests, and to wait for a reply
POLL_S, WAIT_S = (
    0.5,
    3.0,
)  # between two looks at a silent command; how long output stays open before a word is said about it
PAGE = "runbooks/box-unreachable.md"


class Lost(Unreachable):
    """The connection was lost while it was in use."""


class LoginError(OpsError):
    """The login ended without running the command: a file that its shell reads ends it, or starts another program."""

    def __init__(self, code: int, said: bytes) -> None:
        lines = said.decode(errors="replace").strip().splitlines()
        what = f"prints {lines[-1][:120]!r} and ends" if lines else "ends"
        super().__init__(
            f"The login on the box {what} with exit code {code} before it runs a command. A file that the shell reads at login, such "
            f"as ~/.bashrc, does that. See {PAGE}"
        )


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
    config = Config(overrides={"load_ssh_configs": False})
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
    """Run a command and return its stdout. Raises OpsError when it fails, Lost when it hangs or the connection ends."""
    output, errors = bytearray(), bytearray()
    code = stream_answer(box, command, (), output.extend, errors.extend, timeout)
    if code:
        first, said = command.split(chr(10))[0][:80], errors.decode(errors="replace").strip()[-500:]
        raise OpsError(f"On the box, `{first}` exited with {code}: {said}")
    return output.decode(errors="replace")


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
    box: Connection, command: str, on_output: Callable[[bytes], Any], on_wait: Callable[[], Any] = lambda: None
) -> int:
    """Run a command in the login's own shell, pass its output and errors to `on_output` in pieces; return its exit code.

    `on_wait` is called once, when the command has ended and its output has been held open for WAIT_S. Raises Lost.
    """
    channel = open_channel(box, command, combine=True)
    with translate_connection_errors():
        channel.shutdown_write()
    return receive_output(channel, on_output, on_wait=on_wait)


def stream_answer(
    box: Connection,
    command: str,
    data: Iterable[bytes] = (),
    on_output: Callable[[bytes], Any] = lambda data: None,
    on_error: Callable[[bytes], Any] | None = None,
    timeout: float = math.inf,
) -> int:
    """Run a command in a shell that prints nothing of its own, with `data` as its stdin; return its exit code.

    Its stdout goes to `on_output` in pieces, its stderr to `on_error`, or without one to `on_output` too. What the login prints
    goes to neither. Raises Lost, and LoginError when the login does not run the command.
    """
    mark = secrets.token_hex(8)
    output, errors = AfterMark(mark, on_output), AfterMark(mark, on_error or (lambda data: None))
    channel = open_channel(box, mark_command(command, mark, combine=on_error is None))
    # Both streams share one window: what is never read from one would stop the other.
    reader = threading.Thread(target=drain_errors, args=(channel, errors.receive), daemon=True)
    reader.start()
    for piece in data:
        if not send_piece(channel, piece):
            break
    with translate_connection_errors():
        channel.shutdown_write()
    code = receive_output(channel, output.receive, timeout)
    reader.join(CONNECT_S)
    if not output.is_found:
        raise LoginError(code, bytes(output.before + errors.before))
    return code


def mark_command(command: str, mark: str, combine: bool) -> str:
    """Return a command line that prints `mark` on both streams, then runs `command` in sh, whatever the login's shell is."""
    streams = "exec 2>&1; " if combine else ""
    return f"exec sh -c {shlex.quote(f'echo {mark}; echo {mark} >&2; {streams}{command}')}"


class AfterMark:
    """The receiver of a stream that passes on what follows the line of the mark; `before` is what the login printed."""

    def __init__(self, mark: str, on_data: Callable[[bytes], Any]) -> None:
        self.line, self.on_data, self.before, self.is_found = f"{mark}\n".encode(), on_data, bytearray(), False

    def receive(self, data: bytes) -> None:
        if self.is_found:
            self.on_data(data)
            return
        self.before += data
        before, line, rest = self.before.partition(self.line)
        if line:
            self.before, self.is_found = before, True
            if rest:
                self.on_data(bytes(rest))


def open_channel(box: Connection, command: str, combine: bool = False) -> Any:
    with translate_connection_errors():
        channel = box.transport.open_session(timeout=CONNECT_S)
        channel.set_combine_stderr(combine)
        channel.exec_command(command)
    return channel


def drain_errors(channel: Any, on_error: Callable[[bytes], Any]) -> None:
    """Pass stderr on to its end; a connection that is lost meanwhile is reported by the reader of stdout."""
    received = None
    with suppress(OSError, EOFError):
        while received != b"":
            with suppress(TimeoutError):  # the channel's time limit is the reader's of stdout
                received = channel.recv_stderr(1 << 16)
                on_error(received)


def receive_output(
    channel: Any,
    on_output: Callable[[bytes], Any],
    timeout: float = math.inf,
    on_wait: Callable[[], Any] = lambda: None,
) -> int:
    """Pass output on until it ends; return the exit code. Raises Lost, also when the command takes longer than `timeout`."""
    began, ended_at, is_reported = time.monotonic(), math.inf, False
    channel.settimeout(POLL_S)
    while True:
        with translate_connection_errors():
            try:
                received = channel.recv(1 << 16)
            except TimeoutError:
                received = None
        if received == b"":
            break
        if received:
            on_output(received)
        now = time.monotonic()
        if now - began > timeout:
            channel.close()
            raise Lost(f"The box did not finish a command within {timeout:g} s.")
        ended_at = min(ended_at, now) if channel.exit_status_ready() else math.inf
        if not is_reported and now - ended_at > WAIT_S:
            is_reported = True
            on_wait()
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
    """Run a command and return its stdout, byte for byte, whatever its exit code. Raises Lost and LoginError."""
    output = bytearray()
    stream_answer(box, command, (), output.extend, lambda data: None)
    return bytes(output)


def quote_command(*parts: str) -> str:
    """Return a command line for the box's shell, with every word quoted."""
    return shlex.join(parts)

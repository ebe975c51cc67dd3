"""Access to the box over SSH: push the key, pin the host key read from the console, and open the connection."""

from __future__ import annotations

import os
import re
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ops.box.facts import Facts
from ops.core import ssh, tunnel
from ops.core.aws.account import Account
from ops.core.errors import AwsError, OpsError, Unreachable
from ops.core.output import say
from ops.core.paths import ROOT
from ops.core.settings import resolve_below_work
from ops.core.ssh import Connection

OPENSSH_FAILED = 255  # the exit code of OpenSSH's client when there is no connection


def check(have: Facts) -> dict[str, Any]:
    """Return the running box. Raises OpsError when no box runs."""
    if have.box is None:
        others = f" ({', '.join(have.others)}, which these settings do not touch)" if have.others else ""
        raise OpsError(f"There is no box{others}. Start one: invoke ec2.up")
    if have.interrupted:
        raise OpsError(have.describe_interruption())
    if have.state != "running":
        raise OpsError(f"The box {have.instance_id} is {have.state}. Start it: invoke ec2.start")
    return have.box


def prepare_login(account: Account, instance: dict[str, Any]) -> None:
    """Push our public key, valid for a minute, and pin the host's; both SSH clients need this before they connect.

    A refused push is only reported: the box also accepts the key pair of its launch, which may be this one.
    """
    settings = account.settings.ec2
    instance_id = instance["InstanceId"]
    if not ssh.is_host_pinned(resolve_below_work(settings.known_hosts), instance_id):
        fetch_host_keys(account, instance_id)
    public = ssh.ensure_key_pair(resolve_below_work(settings.key))
    account.guard()
    try:
        account.call(
            "ec2-instance-connect",
            "send_ssh_public_key",
            InstanceId=instance_id,
            InstanceOSUser=settings.user,
            SSHPublicKey=public,
        )
    except AwsError as error:
        say(f"The key could not be pushed ({error.aws_code}); trying the key pair that the box was started with.")


def fetch_host_keys(account: Account, instance_id: str) -> None:
    """Pin the host keys that the box printed on its console, which only EC2 can write. Raises OpsError before it printed any."""
    console = account.call("ec2", "get_console_output", InstanceId=instance_id, Latest=True).get("Output", "")
    keys = ssh.parse_host_keys(console)
    if not keys:
        raise OpsError(
            f"{instance_id} has not printed its host keys on its console yet: it is still booting. Try again in a minute."
        )
    ssh.pin_host_keys(resolve_below_work(account.settings.ec2.known_hosts), instance_id, keys)


def open_socket(account: Account, have: Facts) -> socket.socket:
    """Connect to the box's SSH server by the access method of the settings (ec2.way). Raises OpsError."""
    instance, settings = check(have), account.settings.ec2
    if settings.way == "command":
        return connect_through_command(
            split_proxy_command(settings.proxy_command, instance["InstanceId"], settings.user)
        )
    if settings.way == "public":
        address = instance.get("PublicIpAddress")
        if not address:
            raise OpsError(
                f"{have.instance_id} has no public address: it was launched with another ec2.way. See {ssh.PAGE}"
            )
        try:
            return socket.create_connection((address, settings.public_port), timeout=ssh.CONNECT_S)
        except OSError as error:
            raise Unreachable(
                f"No connection to {address}:{settings.public_port}: {error}. Find the failing hop: invoke ec2.reach"
            ) from error
    if have.connect_endpoint is None:
        raise OpsError("There is no Instance Connect Endpoint to connect through. Create it: invoke net.up")
    try:
        return tunnel.open_tunnel_socket(
            tunnel.create_presigned_tunnel_url(account, have.connect_endpoint, instance["PrivateIpAddress"])
        )
    except Unreachable as error:
        raise Unreachable(f"{error}. Find the failing hop: invoke ec2.reach. See {ssh.PAGE}") from error


def strip_hints(error: Exception) -> str:
    """Return the error without its hints, for a command that gives better ones or has just followed them."""
    return str(error).split(". Find the failing hop:")[0].split(" See ")[0].rstrip(".")


def split_proxy_command(command: str, host: str, user: str) -> list[str]:
    """Split a ProxyCommand into words and expand OpenSSH's tokens (%h, %n, %p, %r, %%); no shell runs it."""
    tokens = {"%h": host, "%n": host, "%p": "22", "%r": user, "%%": "%"}
    return [re.sub("%.", lambda found: tokens.get(found[0], found[0]), word) for word in shlex.split(command)]


def connect_through_command(words: list[str]) -> socket.socket:
    """Start a program; return a socket to its stdin and stdout. Closing the socket ends the program. Raises OpsError."""
    near, far = socket.socketpair()
    try:
        subprocess.Popen(words, stdin=far.fileno(), stdout=far.fileno(), start_new_session=True)
    except OSError as error:
        near.close()
        raise OpsError(f"ec2.proxy_command could not be started: {error}") from error
    finally:
        far.close()
    return near


@contextmanager
def open_box_connection(account: Account, have: Facts, if_lost: str = "", use: bool = True) -> Iterator[Connection]:
    """Open an SSH connection to the box, and close it at the end.

    `if_lost` says what state a lost connection leaves; with `use`, the box's watchdog counts the connection as activity.
    Raises OpsError, Unreachable when the connection cannot be opened, and Lost, whose message ends with `if_lost`.
    """
    instance = check(have)
    prepare_login(account, instance)
    settings = account.settings.ec2
    link = ssh.connect_to_host(
        instance["InstanceId"],
        settings.user,
        resolve_below_work(settings.key),
        resolve_below_work(settings.known_hosts),
        lambda: open_socket(account, have),
    )
    try:
        if use:
            home = ssh.quote_command(settings.home)
            ssh.read(link, f"mkdir -p {home} && touch {home}/used")
        yield link
    except ssh.Lost as error:
        raise ssh.Lost(f"{error} {if_lost}".rstrip()) from error
    finally:
        link.close()


def build_ssh_options(account: Account, instance_id: str, settings_file: Path | None) -> dict[str, str]:
    """Return options for OpenSSH's own client: our access method, only the pinned key; they work from any folder, and for rsync and scp."""
    settings = account.settings.ec2
    # The proxy may be started anywhere, so it gets the settings that are in this command's environment.
    environment = [
        f"{name}={value}"
        for name, value in os.environ.items()
        if name == "KENNEL_WORK"
        or (name.startswith("INVOKE_") and not name.startswith("INVOKE_SUDO_"))  # has a password
    ]
    command = ssh.quote_command(
        "env", *environment, sys.executable, "-m", "ops.box.proxy", *([str(settings_file)] if settings_file else [])
    )
    proxy = ssh.quote_command("sh", "-c", f"cd {ssh.quote_command(str(ROOT))} && exec {command}")
    return {
        "ProxyCommand": proxy.replace("%", "%%"), "HostKeyAlias": instance_id, "User": settings.user,
        "IdentityFile": quote_option_path(str(resolve_below_work(settings.key))), "IdentitiesOnly": "yes", "BatchMode": "yes",
        "UserKnownHostsFile": quote_option_path(str(resolve_below_work(settings.known_hosts))), "StrictHostKeyChecking": "yes",
        "ServerAliveInterval": str(int(ssh.KEEPALIVE_S)), "ServerAliveCountMax": "2",
    }  # fmt: skip


def run_openssh(account: Account, instance_id: str, settings_file: Path | None, command: str) -> int:
    """Run OpenSSH's own client, with a command or for a shell. Return its exit code, OPENSSH_FAILED without a connection."""
    options = build_ssh_options(account, instance_id, settings_file)
    flags = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    argv = ["ssh", *flags, account.settings.box_name, *([command] if command else [])]
    try:
        return subprocess.run(argv, cwd=ROOT, check=False).returncode
    except FileNotFoundError as error:
        raise OpsError("OpenSSH's client is not installed on this machine. Use: invoke ec2.run 'COMMAND'") from error


def quote_option_path(path: str) -> str:
    return '"' + path.replace("%", "%%") + '"'

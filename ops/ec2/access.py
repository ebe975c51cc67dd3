"""Getting onto the box: key pushed, host key learnt from the console, tunnel opened, SSH with both pinned."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ops import box, tunnel
from ops.aws import Account
from ops.config import in_work
from ops.ec2.plan import Facts
from ops.errors import OpsError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fabric import Connection


def check(have: Facts) -> dict[str, Any]:
    """The running box. Raises OpsError that says what to run when there is none to reach."""
    if have.box is None:
        raise OpsError("There is no box. Start one: invoke ec2.up")
    if have.state != "running":
        raise OpsError(f"The box {have.box['InstanceId']} is {have.state}. Start it: invoke ec2.up")
    if have.door is None:
        raise OpsError("There is no Instance Connect Endpoint, so no way in. Make it: invoke net.up")
    return have.box


def prepare(account: Account, instance: dict[str, Any]) -> None:
    """Push our key for a minute and pin the host's: what has to be before either SSH client connects."""
    settings = account.settings.ec2
    ident = instance["InstanceId"]
    known_hosts = in_work(settings.known_hosts)
    if not box.pinned(known_hosts, ident):
        learn(account, ident)
    public = box.key_pair(in_work(settings.key))
    account.guard()
    account.call(
        "ec2-instance-connect",
        "send_ssh_public_key",
        InstanceId=ident,
        InstanceOSUser=settings.user,
        SSHPublicKey=public,
    )


def learn(account: Account, ident: str) -> None:
    """Take the host's keys from its console, which only EC2 can write; not from whoever answers first."""
    console = account.call("ec2", "get_console_output", InstanceId=ident, Latest=True).get("Output", "")
    keys = box.host_keys_in(console)
    if not keys:
        raise OpsError(
            f"{ident} has not printed its host keys on its console yet: it still boots. Try again in a minute."
        )
    box.pin(in_work(account.settings.ec2.known_hosts), ident, keys)


@contextmanager
def connected(account: Account, have: Facts) -> Iterator[Connection]:
    """A connection that is closed in the end. Raises OpsError."""
    instance = check(have)
    prepare(account, instance)
    settings = account.settings.ec2
    assert have.door is not None
    door = have.door

    def open_socket() -> Any:
        try:
            return tunnel.gateway(tunnel.presigned(account, door, instance["PrivateIpAddress"]))
        except OpsError as error:
            raise OpsError(f"{error} Is a rule of the network missing? invoke --dry net.up. See {box.PAGE}") from error

    link = box.connect(
        instance["InstanceId"], settings.user, in_work(settings.key), in_work(settings.known_hosts), open_socket
    )
    try:
        yield link
    finally:
        link.close()


def ssh_command(account: Account, have: Facts, settings_file: str, command: str) -> list[str]:
    """OpenSSH's own client through our tunnel, trusting only the pinned key."""
    import sys

    instance = check(have)
    assert have.door is not None
    settings = account.settings.ec2
    proxy = box.words(
        sys.executable,
        "-m",
        "ops.tunnel",
        have.door["InstanceConnectEndpointId"],
        instance["PrivateIpAddress"],
        *([settings_file] if settings_file else []),
    )
    options = {
        "ProxyCommand": proxy, "IdentityFile": str(in_work(settings.key)), "IdentitiesOnly": "yes",
        "UserKnownHostsFile": str(in_work(settings.known_hosts)),
        "StrictHostKeyChecking": "yes", "HostKeyAlias": instance["InstanceId"], "ServerAliveInterval": "15",
    }  # fmt: skip
    flags = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    return ["ssh", *flags, f"{settings.user}@{instance['InstanceId']}", *([command] if command else [])]

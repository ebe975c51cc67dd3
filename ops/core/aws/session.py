"""Sessions with the settings' profile, or with a role of the stack that it assumes; and how often calls are retried."""

from __future__ import annotations

import getpass
import os
import re
import socket
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import botocore.session
from botocore import exceptions as sdk
from botocore.config import Config
from botocore.credentials import AssumeRoleCredentialFetcher, DeferredRefreshableCredentials

from ops.core import running
from ops.core.aws.errors import LOCAL_HOSTS
from ops.core.aws.profile import load_credentials, read_profile
from ops.core.errors import OpsError
from ops.core.settings import resolve_below_root

if TYPE_CHECKING:
    from ops.core.settings import Settings

# Measured with 30 % of calls throttled: standard/10 lost none of 240 calls, the default of 3 attempts lost 5.
# A retried inference runs the model again, and a retried Lambda call the whole function: so few attempts and long reads.
RETRIES: dict[str, dict[str, Any]] = {
    "control": {"connect_timeout": 5, "read_timeout": 30, "retries": {"mode": "standard", "total_max_attempts": 10}},
    # EC2 reports missing capacity as a server error, which the SDK would retry ten times before the plan tries the next zone.
    "launch": {"connect_timeout": 5, "read_timeout": 60, "retries": {"mode": "standard", "total_max_attempts": 2}},
    "inference": {"connect_timeout": 3, "read_timeout": 65, "retries": {"mode": "standard", "total_max_attempts": 2}},
    "lambda": {"connect_timeout": 3, "read_timeout": 120, "tcp_keepalive": True, "retries": {"mode": "standard", "total_max_attempts": 1}},
}  # fmt: skip


def open_session(settings: Settings, role: str = "") -> Any:
    """Return a botocore session with the settings' profile and nothing else: keys in the environment are ignored.

    With `role` it assumes that role of the stack at its first call, and again before the role's keys expire.
    Raises ProfileError when the profile is missing or gives no keys, OpsError when its endpoint_url cannot be reached.
    """
    skip_proxy_for_local_hosts()
    session = botocore.session.Session(profile=settings.aws.profile)
    give_up_soon_without_network(session)
    if settings.aws.config_file:
        session.set_config_variable("config_file", str(resolve_below_root(settings.aws.config_file)))
    check_endpoint_reachable(read_profile(session, settings).get("endpoint_url"))
    own = load_credentials(session, settings)
    if role:
        assume_stack_role(session, settings, role, own)
    return session


def skip_proxy_for_local_hosts() -> None:
    """Keep calls to this machine away from a proxy for the outside world; on AWS the entry is harmless."""
    hosts = [host for host in os.environ.get("NO_PROXY", "").split(",") if host]
    os.environ["NO_PROXY"] = ",".join(dict.fromkeys([*hosts, *LOCAL_HOSTS]))


def give_up_soon_without_network(session: Any) -> None:
    """Try a connection twice until AWS has answered once, instead of for minutes: then there is no network, or a name is wrong.

    After an answer, a lost connection is retried as often as other errors: a long wait outlives a break of the network.
    """
    answered = False

    def judge(attempts: int, caught_exception: Exception | None, **_: Any) -> None:
        nonlocal answered
        if not isinstance(caught_exception, sdk.ConnectionError):
            answered = True
        elif not answered and attempts >= 2:
            raise caught_exception

    session.register("needs-retry", judge)


def assume_stack_role(session: Any, settings: Settings, role: str, own: Any) -> None:
    """Replace the profile's keys with the role's. The role session has the local user's name, for readers of AWS's logs."""
    endpoint = session.get_scoped_config().get("endpoint_url")

    def client(service: str, **keys: Any) -> Any:
        config = Config(user_agent_extra=f"kennel/{running.command}", **RETRIES["control"])
        return session.create_client(service, settings.aws.region, endpoint_url=endpoint, **(keys | {"config": config}))

    name = re.sub(r"[^\w+=,.@-]", "-", getpass.getuser())[:64]
    fetcher = AssumeRoleCredentialFetcher(client, own, settings.role_arn(role), extra_args={"RoleSessionName": name})
    # botocore takes such credentials from a profile only, and the role's name depends on the stack.
    session._credentials = DeferredRefreshableCredentials(fetcher.fetch_credentials, "assume-role")


def check_endpoint_reachable(endpoint_url: str | None) -> None:
    """Fail at once when the local endpoint is down, instead of after ten retries. Raises OpsError."""
    if not endpoint_url:
        return
    url = urlsplit(endpoint_url)
    try:
        socket.create_connection((url.hostname or "", url.port or 443), timeout=5).close()
    except OSError as error:
        hint = (
            "Is the sandbox running? Start it: invoke sandbox.up"
            if url.hostname in LOCAL_HOSTS
            else "Check the network and endpoint_url of the profile, then run: invoke doctor"
        )
        raise OpsError(f"Cannot reach AWS at {endpoint_url}: {error.strerror or error}. {hint}") from error

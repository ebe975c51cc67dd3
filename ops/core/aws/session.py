"""Sessions with the settings' profile, or with a role of the stack that it assumes; and how often calls are retried."""

from __future__ import annotations

import getpass
import os
import re
import socket
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import botocore.session
from botocore.config import Config

from ops.core import running
from ops.core.aws.errors import LOCAL_HOSTS
from ops.core.aws.profile import identify_source, load_credentials, read_profile
from ops.core.aws.role_credentials import RoleCredentials
from ops.core.errors import OpsError
from ops.core.kept_sessions import KeptSession
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

    With `role` it has that role of the stack: its kept session, or one that it opens at its first call; and again before the keys expire.
    Raises ProfileError when the profile is missing or gives no keys, OpsError when its endpoint_url cannot be reached.
    """
    skip_proxy_for_local_hosts()
    session = botocore.session.Session(profile=settings.aws.profile)
    if settings.aws.config_file:
        session.set_config_variable("config_file", str(resolve_below_root(settings.aws.config_file)))
    check_endpoint_reachable(read_profile(session, settings).get("endpoint_url"))
    # botocore takes such credentials from a profile only, and the role's name depends on the stack.
    session._credentials = (
        build_role_credentials(session, settings, role) if role else load_credentials(session, settings)
    )
    return session


def skip_proxy_for_local_hosts() -> None:
    """Keep calls to this machine away from a proxy for the outside world; on AWS the entry is harmless."""
    hosts = [host for host in os.environ.get("NO_PROXY", "").split(",") if host]
    os.environ["NO_PROXY"] = ",".join(dict.fromkeys([*hosts, *LOCAL_HOSTS]))


def build_role_credentials(session: Any, settings: Settings, role: str) -> RoleCredentials:
    """Return the keys of a role of the stack. The profile's own are loaded, and a code is asked for, only without a kept session."""
    kept = KeptSession(describe_role_session(session, settings, role))
    own = None if kept.read() else load_credentials(session, settings)

    def assume() -> dict[str, str]:
        keys = (own or load_credentials(session, settings)).get_frozen_credentials()
        return assume_role(session, kept.facts, keys)

    credentials = RoleCredentials(kept, assume)
    session.register("needs-retry", credentials.retry_with_new_session)
    return credentials


def describe_role_session(session: Any, settings: Settings, role: str) -> dict[str, str]:
    """Return what tells one session from another. It has the local user's name, for readers of AWS's logs."""
    return {
        "stack": settings.stack.name,
        "account": settings.aws.account,
        "role_arn": settings.role_arn(role),
        "session_name": re.sub(r"[^\w+=,.@-]", "-", getpass.getuser())[:64],
        "source": identify_source(session, settings),
        "region": settings.aws.region,
        "endpoint": session.get_scoped_config().get("endpoint_url", ""),
        "config_file": str(resolve_below_root(settings.aws.config_file)) if settings.aws.config_file else "",
    }


def assume_role(session: Any, facts: dict[str, str], keys: Any) -> dict[str, str]:
    """Open a session of the role that `facts` describe, with the profile's keys. Raises ClientError."""
    client = session.create_client(
        "sts", facts["region"], endpoint_url=facts["endpoint"] or None,
        aws_access_key_id=keys.access_key, aws_secret_access_key=keys.secret_key, aws_session_token=keys.token,
        config=Config(user_agent_extra=f"kennel/{running.command}", **RETRIES["control"]),
    )  # fmt: skip
    found = client.assume_role(RoleArn=facts["role_arn"], RoleSessionName=facts["session_name"])["Credentials"]
    return {
        "access_key": found["AccessKeyId"],
        "secret_key": found["SecretAccessKey"],
        "token": found["SessionToken"],
        "expiry_time": found["Expiration"].isoformat(),
    }


def check_endpoint_reachable(endpoint_url: str | None) -> None:
    """Fail at once when the local endpoint is down, instead of after ten retries. Raises OpsError."""
    if not endpoint_url:
        return
    url = urlsplit(endpoint_url)
    try:
        socket.create_connection((url.hostname or "", url.port or 443), timeout=5).close()
    except OSError as error:
        raise OpsError(
            f"Cannot reach AWS at {endpoint_url}: {error.strerror or error}. Is the sandbox running? Start it: invoke sandbox.up"
        ) from error

"""Sessions with the settings' profile, or with a role of the stack that it assumes."""

from __future__ import annotations

import os
import socket
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import botocore.session
import botocore.utils
from botocore import exceptions as sdk
from botocore.exceptions import ClientError

from ops.core.aws import mfa, sts
from ops.core.aws.errors import LOCAL_HOSTS
from ops.core.aws.profile import load_credentials, read_profile
from ops.core.aws.role_credentials import RoleCredentials
from ops.core.errors import OpsError
from ops.core.kept_sessions import KeptSession
from ops.core.settings import resolve_below_root

if TYPE_CHECKING:
    from ops.core.settings import Settings


def open_session(settings: Settings, role: str = "") -> Any:
    """Return a botocore session with the settings' profile and nothing else: keys in the environment are ignored.

    With `role` it has that role of the stack: its kept session, or one that it opens at its first call; and again before the keys expire.
    Raises ProfileError when the profile is missing or gives no keys, OpsError when its endpoint_url cannot be reached.
    """
    skip_proxy_for_local_hosts()
    session = botocore.session.Session(profile=settings.aws.profile)
    give_up_soon_without_network(session)
    session.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=parse_timestamp)
    if settings.aws.config_file:
        session.set_config_variable("config_file", str(resolve_below_root(settings.aws.config_file)))
    check_endpoint_reachable(read_profile(session, settings).get("endpoint_url"))
    # botocore takes such credentials from a profile only, and the role's name depends on the stack.
    session._credentials = (
        build_role_credentials(session, settings, role) if role else load_own_credentials(session, settings)
    )
    return session


def parse_timestamp(value: Any) -> datetime:
    """Return AWS's timestamp as botocore does, whose parser for all forms takes forty times as long for the usual one.

    An account of 1,000 roles has some 10,000 of them. Raises ValueError.
    """
    if isinstance(value, str) and value[10:11] == "T" and value.endswith("Z"):
        try:
            return datetime.fromisoformat(value)
        except ValueError:
            pass
    found: datetime = botocore.utils.parse_timestamp(value)
    return found


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


def build_role_credentials(session: Any, settings: Settings, role: str) -> RoleCredentials:
    """Return the keys of a role of the stack. The profile's own are loaded, and a code is asked for, only without a kept session."""
    facts = sts.describe_session(session, settings, settings.role_arn(role))
    kept, user = KeptSession(facts), mfa.find_user(session, settings)
    own = None if kept.read() or user else load_credentials(session, settings)

    def assume() -> dict[str, str]:
        if user:
            try:
                return mfa.assume_role_as_user(session, user, facts)
            except ClientError as error:  # a trust policy may name the profile's role, and not its source's user
                if not mfa.is_denied(error) or "role_arn" not in session.get_scoped_config():
                    raise
        keys = own or load_own_credentials(session, settings)
        return sts.assume_role(session, facts, keys.get_frozen_credentials())

    credentials = RoleCredentials(kept, assume)
    session.register("needs-retry", credentials.retry_with_new_session)
    return credentials


def load_own_credentials(session: Any, settings: Settings) -> Any:
    """Return the profile's keys. For a role that it assumes with a code, one code serves for an hour, also for the stack's roles."""
    options, user = session.get_scoped_config(), mfa.find_user(session, settings)
    if not user or "role_arn" not in options:
        return load_credentials(session, settings)
    facts = sts.describe_session(session, settings, options["role_arn"])
    facts["session_name"] = options.get("role_session_name", facts["session_name"])
    more = {"ExternalId": options["external_id"]} if "external_id" in options else {}
    own = RoleCredentials(KeptSession(facts), lambda: mfa.assume_role_as_user(session, user, facts, **more))
    return load_credentials(session, settings, own)


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

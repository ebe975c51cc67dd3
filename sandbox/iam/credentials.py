"""The access keys: the administrator's, made when the sandbox starts, and roles', for people, boxes, jobs and functions.

A call with any other key is refused. Signatures are not checked: a key's id is as long as a password.
"""

from __future__ import annotations

import json
import secrets
import string
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from moto.iam.models import iam_backends
from moto.sts.models import sts_backends

from sandbox.state import ACCOUNT, REGION

SESSION_S = 12 * 3600
ADMINISTRATOR = "administrator"
EVERYTHING = {"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}}
LETTERS = string.ascii_letters + string.digits


@dataclass(frozen=True)
class Session:
    """A session of a role. `role_id` is the role's unique id: a role that is created again under the name is another role.

    One of GetSessionToken has no role, but the name of its `user`, who gave a code.
    """

    role_arn: str
    role_id: str
    name: str
    issued: datetime
    expires: datetime
    policy: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    transitive: frozenset[str] = frozenset()  # keys of the tags that sessions assumed from this one inherit
    source_identity: str = ""
    user: str = ""


class Keys:
    def __init__(self) -> None:
        self.administrator = ("", "")
        self.sessions: dict[str, Session] = {}  # by access key id
        self._sources: dict[str, tuple[str, str]] = {}  # a secret in a URL -> (role's ARN, session's name)

    def create_administrator(self) -> None:
        """Create an IAM user that may do everything, with a random secret key.

        moto makes the key's id, because it reads the account from it.
        """
        iam = iam_backends[ACCOUNT]["aws"]
        iam.create_user(REGION, ADMINISTRATOR, "/")
        iam.put_user_policy(ADMINISTRATOR, "everything", json.dumps(EVERYTHING))
        key = iam.create_access_key(ADMINISTRATOR)
        key.secret_access_key = "".join(secrets.choice(LETTERS) for _ in range(40))
        self.administrator = (key.access_key_id, key.secret_access_key)

    def assume_role(self, role_arn: str, session: str) -> tuple[str, str, str, datetime]:
        """Return (key id, secret, session token, expiry) of a role. Raises KeyError if the account has no such role."""
        if find_role_id(role_arn) is None:
            raise KeyError(role_arn)
        response = sts_backends[ACCOUNT]["aws"].assume_role(
            region_name=REGION,
            role_session_name=session[:64],
            role_arn=role_arn,
            policy=None,  # type: ignore[arg-type]
            duration=SESSION_S,
            external_id=None,  # type: ignore[arg-type]
        )
        recorded = self.record_session(response)
        return response.access_key_id, response.secret_access_key, response.session_token, recorded.expires

    def record_session(self, response: Any, **more: Any) -> Session:
        """Record a session with what moto does not keep: the id of its role, and the fields in `more`."""
        recorded = Session(
            role_arn=response.role_arn,
            role_id=find_role_id(response.role_arn) or "",
            name=response.session_name,
            issued=response.access_key.create_date.replace(tzinfo=UTC),  # moto's times are UTC, without a time zone
            expires=response.expiration.replace(tzinfo=UTC),
            policy=response.policy or "",
            **more,
        )
        self.sessions[response.access_key_id] = recorded
        return recorded

    def open_user_session(self, user: str, seconds: int) -> dict[str, Any]:
        """Open a session of a user who gave the code of a device; return its credentials as STS answers them."""
        key, now = "ASIA" + "".join(secrets.choice(string.ascii_uppercase) for _ in range(16)), datetime.now(UTC)
        ends = now + timedelta(seconds=seconds)
        self.sessions[key] = Session("", "", user, now, ends, user=user)
        secret = "".join(secrets.choice(LETTERS) for _ in range(40))
        return {
            "AccessKeyId": key,
            "SecretAccessKey": secret,
            "SessionToken": secrets.token_urlsafe(96),
            "Expiration": ends,
        }

    def get_session(self, key_id: str) -> Session | None:
        """Return the session that a key belongs to, expired or not; None for a user's key or an unknown one."""
        return self.sessions.get(key_id)

    def has_expired(self, key_id: str) -> bool:
        """Return whether a key belongs to a session that has expired."""
        session = self.get_session(key_id)
        return session is not None and session.expires <= datetime.now(UTC)

    def expire_session(self, key_id: str) -> str:
        """End a session early; return its name. Raises ValueError if the key belongs to no session."""
        if key_id not in self.sessions:
            raise ValueError(f"the key {key_id} belongs to no role session")
        self.sessions[key_id] = replace(self.sessions[key_id], expires=datetime.now(UTC))
        return self.sessions[key_id].name

    def find_caller_name(self, key_id: str) -> str | None:
        """Return the short name of a key's owner; None if the key is unknown or expired, or its role or user is deleted."""
        if not key_id:
            return None
        if (session := self.get_session(key_id)) and session.user:
            has_user = session.user in iam_backends[ACCOUNT]["aws"].users
            return session.user if has_user and not self.has_expired(key_id) else None
        if session:
            is_valid = not self.has_expired(key_id) and find_role_id(session.role_arn) == session.role_id
            return f"{session.role_arn.rsplit('/', 1)[-1]}/{session.name}" if is_valid else None
        for name, user in iam_backends[ACCOUNT]["aws"].users.items():
            if any(key.access_key_id == key_id and key.status == "Active" for key in user.access_keys):
                return name
        return None

    def find_secret(self, key_id: str) -> str | None:
        """Return the secret of a user's or a session's key; None for an unknown one."""
        for session in sts_backends[ACCOUNT]["aws"].assumed_roles:
            if session.access_key_id == key_id:
                return str(session.secret_access_key)
        users = iam_backends[ACCOUNT]["aws"].users.values()
        return next(
            (key.secret_access_key for user in users for key in user.access_keys if key.access_key_id == key_id), None
        )

    def create_credential_path(self, role_arn: str, session: str) -> str:
        """Return a secret path from which a process can fetch its role's keys repeatedly."""
        secret = secrets.token_urlsafe(24)
        self._sources[secret] = (role_arn, session)
        return secret

    def fetch_credentials(self, secret: str) -> dict[str, Any] | None:
        """Return the document that containers read; None for an unknown path or a deleted role."""
        try:
            return self.build_credentials(*self._sources[secret])
        except KeyError:
            return None

    def build_credentials(self, role_arn: str, session: str) -> dict[str, Any]:
        """Return a role's keys as containers and instances read them. Raises KeyError if there is no such role."""
        key, secret, token, expiry = self.assume_role(role_arn, session)
        return {
            "Code": "Success",
            "Type": "AWS-HMAC",
            "LastUpdated": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "AccessKeyId": key,
            "SecretAccessKey": secret,
            "Token": token,
            "Expiration": expiry.strftime("%Y-%m-%dT%H:%M:%SZ"),
        }


def find_role_id(role_arn: str) -> str | None:
    """Return the unique id of the role that has this ARN now, or None."""
    return next((role.id for role in iam_backends[ACCOUNT]["aws"].roles.values() if role.arn == role_arn), None)

"""Keys: the administrator's, made when the sandbox starts, and those of roles, given to people, boxes, jobs and functions.

A call whose key is not one of these is refused. Signatures are not checked: a key's id is as long as a password.
"""

from __future__ import annotations

import json
import secrets
import string
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
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
    """A role that somebody took. `role_id` is that role's own: one that is made anew under its name is another role."""

    role_arn: str
    role_id: str
    name: str
    issued: datetime
    expires: datetime
    policy: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    transitive: frozenset[str] = frozenset()  # the keys of the tags that a role taken with this session has too
    source_identity: str = ""


class Keys:
    def __init__(self) -> None:
        self.administrator = ("", "")
        self.sessions: dict[str, Session] = {}  # by the id of their key
        self._sources: dict[str, tuple[str, str]] = {}  # a secret in a URL -> (role's ARN, session's name)

    def make_administrator(self) -> None:
        """An IAM user who may do everything, with a key that nobody can guess. moto reads the account from a key's id, so it
        makes the id.
        """
        iam = iam_backends[ACCOUNT]["aws"]
        iam.create_user(REGION, ADMINISTRATOR, "/")
        iam.put_user_policy(ADMINISTRATOR, "everything", json.dumps(EVERYTHING))
        key = iam.create_access_key(ADMINISTRATOR)
        key.secret_access_key = "".join(secrets.choice(LETTERS) for _ in range(40))
        self.administrator = (key.access_key_id, key.secret_access_key)

    def assume(self, role_arn: str, session: str) -> tuple[str, str, str, datetime]:
        """(key id, secret, session token, expiry) of a role. Raises KeyError when the account has no such role."""
        if find_role_id(role_arn) is None:
            raise KeyError(role_arn)
        taken = sts_backends[ACCOUNT]["aws"].assume_role(
            region_name=REGION,
            role_session_name=session[:64],
            role_arn=role_arn,
            policy=None,  # type: ignore[arg-type]
            duration=SESSION_S,
            external_id=None,  # type: ignore[arg-type]
        )
        kept = self.begin(taken)
        return taken.access_key_id, taken.secret_access_key, taken.session_token, kept.expires

    def begin(self, taken: Any, **told: Any) -> Session:
        """Keep what moto's record of a session does not: whose it is if the role is made anew, and what it was `told`."""
        kept = Session(
            role_arn=taken.role_arn,
            role_id=find_role_id(taken.role_arn) or "",
            name=taken.session_name,
            issued=taken.access_key.create_date.replace(tzinfo=UTC),  # moto's are UTC, and do not say so
            expires=taken.expiration.replace(tzinfo=UTC),
            policy=taken.policy or "",
            **told,
        )
        self.sessions[taken.access_key_id] = kept
        return kept

    def session(self, key_id: str) -> Session | None:
        """The session of a role that a key is of, over or not; None of a user's key and of nobody's."""
        return self.sessions.get(key_id)

    def expired(self, key_id: str) -> bool:
        """Whether a key was good once, and its time is over."""
        taken = self.session(key_id)
        return taken is not None and taken.expires <= datetime.now(UTC)

    def expire(self, key_id: str) -> str:
        """End a session before its time; tell its name. Raises KeyError for a key that is of none."""
        self.sessions[key_id] = replace(self.sessions[key_id], expires=datetime.now(UTC))
        return self.sessions[key_id].name

    def caller(self, key_id: str) -> str | None:
        """Whose key this is, in short; None when nobody's (any more): expired, or of a role or user that is gone."""
        if not key_id:
            return None
        if taken := self.session(key_id):
            good = not self.expired(key_id) and find_role_id(taken.role_arn) == taken.role_id
            return f"{taken.role_arn.rsplit('/', 1)[-1]}/{taken.name}" if good else None
        for name, user in iam_backends[ACCOUNT]["aws"].users.items():
            if any(key.access_key_id == key_id and key.status == "Active" for key in user.access_keys):
                return name
        return None

    def source(self, role_arn: str, session: str) -> str:
        """A secret path from which a process can fetch its role's keys, again and again."""
        secret = secrets.token_urlsafe(24)
        self._sources[secret] = (role_arn, session)
        return secret

    def fetch(self, secret: str) -> dict[str, Any] | None:
        """The document that containers read, or None for a path that was never given out, or of a role that is gone."""
        try:
            return self.document(*self._sources[secret])
        except KeyError:
            return None

    def document(self, role_arn: str, session: str) -> dict[str, Any]:
        """A role's keys as containers and instances read them. Raises KeyError when there is no such role."""
        key, secret, token, expiry = self.assume(role_arn, session)
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
    """The unique id of the role that has this ARN now."""
    return next((role.id for role in iam_backends[ACCOUNT]["aws"].roles.values() if role.arn == role_arn), None)

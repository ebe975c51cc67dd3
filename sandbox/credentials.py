"""Keys: the administrator's, made when the sandbox starts, and those of roles, given to people, boxes, jobs and functions.

A call whose key is not one of these is refused. Signatures are not checked: a key's id is as long as a password.
"""

from __future__ import annotations

import json
import secrets
import string
from datetime import UTC, datetime, timedelta
from typing import Any

from sandbox.state import ACCOUNT, REGION

SESSION_S = 12 * 3600
ADMINISTRATOR = "administrator"
EVERYTHING = {"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}}
LETTERS = string.ascii_letters + string.digits


class Keys:
    def __init__(self) -> None:
        self.administrator = ("", "")
        self.notices: dict[str, str] = {}  # instance -> what its metadata say of a coming interruption
        self._sources: dict[str, tuple[str, str]] = {}  # a secret in a URL -> (role's ARN, session's name)

    def make_administrator(self) -> None:
        """An IAM user who may do everything, with a key that nobody can guess. moto reads the account from a key's id, so it
        makes the id.
        """
        from moto.iam.models import iam_backends

        iam = iam_backends[ACCOUNT]["aws"]
        iam.create_user(REGION, ADMINISTRATOR, "/")
        iam.put_user_policy(ADMINISTRATOR, "everything", json.dumps(EVERYTHING))
        key = iam.create_access_key(ADMINISTRATOR)
        key.secret_access_key = "".join(secrets.choice(LETTERS) for _ in range(40))
        self.administrator = (key.access_key_id, key.secret_access_key)

    def assume(self, role_arn: str, session: str) -> tuple[str, str, str, datetime]:
        """(key id, secret, session token, expiry) of a role. Raises KeyError when the account has no such role."""
        from moto.iam.models import iam_backends
        from moto.sts.models import sts_backends

        if not any(role.arn == role_arn for role in iam_backends[ACCOUNT]["aws"].roles.values()):
            raise KeyError(role_arn)
        taken = sts_backends[ACCOUNT]["aws"].assume_role(
            region_name=REGION,
            role_session_name=session[:64],
            role_arn=role_arn,
            policy=None,  # type: ignore[arg-type]
            duration=SESSION_S,
            external_id=None,  # type: ignore[arg-type]
        )
        return (
            taken.access_key_id,
            taken.secret_access_key,
            taken.session_token,
            datetime.now(UTC) + timedelta(seconds=SESSION_S),
        )

    def session(self, key_id: str) -> Any:
        """moto's record of a role's session, or None."""
        from moto.sts.models import sts_backends

        sessions = reversed(sts_backends[ACCOUNT]["aws"].assumed_roles)  # the newest are asked for most
        return next((one for one in sessions if one.access_key_id == key_id), None)

    def caller(self, key_id: str) -> str | None:
        """Whose key this is, in short; None when nobody's, or of a role or user that is gone."""
        from moto.iam.models import iam_backends

        iam = iam_backends[ACCOUNT]["aws"]
        if not key_id:
            return None
        if taken := self.session(key_id):
            there = any(role.arn == taken.role_arn for role in iam.roles.values())
            return f"{taken.role_arn.rsplit('/', 1)[-1]}/{taken.session_name}" if there else None
        for name, user in iam.users.items():
            if any(key.access_key_id == key_id and key.status == "Active" for key in user.access_keys):
                return name
        return None

    def source(self, role_arn: str, session: str) -> str:
        """A secret path from which a process can fetch its role's keys, again and again."""
        secret = secrets.token_urlsafe(24)
        self._sources[secret] = (role_arn, session)
        return secret

    def fetch(self, secret: str) -> dict[str, Any] | None:
        """The document that containers and instances read, or None for a path that was never given out."""
        if secret not in self._sources:
            return None
        key, secret_key, token, expiry = self.assume(*self._sources[secret])
        return {
            "Code": "Success",
            "Type": "AWS-HMAC",
            "LastUpdated": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "AccessKeyId": key,
            "SecretAccessKey": secret_key,
            "Token": token,
            "Expiration": expiry.strftime("%Y-%m-%dT%H:%M:%SZ"),
        }

    def metadata(self, method: str, path: str, token: str) -> tuple[int, str]:
        """IMDSv2 for one box: status and body for `SECRET/latest/...`; nothing without a session token."""
        secret, _, what = path.partition("/")
        if secret not in self._sources:
            return 404, ""
        if what == "latest/api/token":
            return (200, self._token(secret)) if method == "PUT" else (405, "")
        if token != self._token(secret):
            return 401, ""
        role_arn, instance = self._sources[secret]
        role_name = role_arn.rsplit("/", 1)[-1]
        if what.rstrip("/") == "latest/meta-data/iam/security-credentials" and role_name:
            return 200, role_name
        if what == f"latest/meta-data/iam/security-credentials/{role_name}" and role_name:
            return 200, json.dumps(self.fetch(secret))
        if what == "latest/meta-data/instance-id":
            return 200, instance
        if what == "latest/meta-data/spot/instance-action" and instance in self.notices:
            return 200, self.notices[instance]
        return 404, ""

    @staticmethod
    def _token(secret: str) -> str:
        return f"token-{secret[::-1]}"

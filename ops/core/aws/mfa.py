"""The code of an MFA device: asked for once, its session kept for its hour, because the stack's roles admit no user without one."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from botocore.credentials import ReadOnlyCredentials
from botocore.exceptions import ClientError

from ops.core.aws import sts
from ops.core.aws.profile import ask_for_code
from ops.core.aws.role_credentials import has_session_ended
from ops.core.errors import DENIALS, DENIED, ProfileError
from ops.core.kept_sessions import KeptSession

if TYPE_CHECKING:
    from ops.core.settings import Settings

SESSION_S = 3600
CODE = re.compile(r"[0-9]{6}", re.ASCII)
SECURITY_KEY = ":u2f/"  # FIDO keys and passkeys have no code


@dataclass(frozen=True)
class User:
    """An IAM user whose long-term keys a profile has. `serial` is its device, "" when the profile names none."""

    keys: Any
    serial: str


def find_user(session: Any, settings: Settings) -> User | None:
    """Return the user of the profile's own keys, or of those that its role is assumed with by a code; None for any other profile."""
    profiles, options = session.full_config["profiles"], session.get_scoped_config()
    serial = options.get("mfa_serial", "")
    if "role_arn" in options:
        options = profiles.get(options.get("source_profile"), {}) if serial else {}
    names = ("aws_access_key_id", "aws_secret_access_key")
    if "role_arn" in options or "aws_session_token" in options or not all(options.get(name) for name in names):
        return None
    return User(ReadOnlyCredentials(*(options[name] for name in names), None), serial)


def assume_role_as_user(session: Any, user: User, facts: dict[str, str], **more: Any) -> dict[str, str]:
    """Open a session of the role that `facts` describe, with a code when it takes one. Raises ClientError, ProfileError."""
    kept = KeptSession(facts | {"role_arn": "", "stack": "", "session_name": ""})  # one serves for all roles
    if found := kept.read():
        try:
            return sts.assume_role(session, facts, as_keys(found), **more)
        except ClientError as error:
            if not has_session_ended(error.response):
                raise
            kept.drop()
    serial = user.serial
    if not serial:
        try:
            return sts.assume_role(session, facts, user.keys, **more)
        except ClientError as error:
            serial = find_device(session, facts, user) if is_denied(error) else ""
            if not serial:
                raise
    found = open_user_session(session, facts, user, serial)
    kept.write(found)
    return sts.assume_role(session, facts, as_keys(found), **more)


def as_keys(found: dict[str, str]) -> ReadOnlyCredentials:
    return ReadOnlyCredentials(found["access_key"], found["secret_key"], found["token"])


def is_denied(error: ClientError) -> bool:
    return str(error.response["Error"]["Code"]).startswith(DENIALS)


def find_device(session: Any, facts: dict[str, str], user: User) -> str:
    """Return the serial of the user's first device that shows codes; "" without one, and when the role does not exist."""
    iam = sts.create_client(session, "iam", facts, user.keys)
    try:
        iam.get_role(RoleName=facts["role_arn"].rsplit("/", 1)[-1])
    except ClientError as error:
        if not is_denied(error):
            return ""
    try:
        name = sts.create_client(session, "sts", facts, user.keys).get_caller_identity()["Arn"].rsplit("/", 1)[-1]
        devices = iam.list_mfa_devices(UserName=name)["MFADevices"]
    except ClientError:
        return ""
    return next((one["SerialNumber"] for one in devices if SECURITY_KEY not in one["SerialNumber"]), "")


def open_user_session(session: Any, facts: dict[str, str], user: User, serial: str) -> dict[str, str]:
    """Ask for the device's code, and return the keys of the session that it opens. Raises ProfileError."""
    code = ask_for_code(f"Code of the MFA device {serial} (its session is kept for an hour): ").strip()
    if not CODE.fullmatch(code):
        raise ProfileError("The code of an MFA device has six digits.", "run the same command again")
    try:
        answer = sts.create_client(session, "sts", facts, user.keys).get_session_token(
            SerialNumber=serial, TokenCode=code, DurationSeconds=SESSION_S
        )
    except ClientError as error:
        if not is_denied(error):
            raise
        reason = error.response["Error"].get("Message", "").strip().rstrip(".")
        raise ProfileError(
            f"AWS refused the code: {reason}.", "wait for the next code, then run the same command again", DENIED
        ) from error
    return sts.read_keys(answer)

"""Profiles of people as real accounts have them: a user with an MFA device, and a session of IAM Identity Center."""

from __future__ import annotations

import json
import secrets
from typing import Any

from sandbox import state
from sandbox.state import ACCOUNT, REGION
from sandbox.world import World

USER, BASE_ROLE, PERMISSION_SET = "person", "people", "Operators"
PREFIX = f"arn:aws:iam::{ACCOUNT}"
SSO_ROLE = f"{PREFIX}:role/aws-reserved/sso.amazonaws.com/AWSReservedSSO_{PERMISSION_SET}_0123456789abcdef"
# What an account's administrator gives to people: the stack's roles, and a look at them and at their own devices.
RIGHTS = {
    "Version": "2012-10-17",
    "Statement": [
        {"Effect": "Allow", "Action": ["sts:AssumeRole", "iam:GetRole"], "Resource": [f"{PREFIX}:role/kennel*", f"{PREFIX}:role/{BASE_ROLE}"]},
        {"Effect": "Allow", "Action": "iam:ListMFADevices", "Resource": f"{PREFIX}:user/{USER}"},
    ],
}  # fmt: skip
WITH_CODE = {
    "Effect": "Allow", "Principal": {"AWS": f"{PREFIX}:root"}, "Action": "sts:AssumeRole",
    "Condition": {"Bool": {"aws:MultiFactorAuthPresent": "true"}},
}  # fmt: skip
BY_IDENTITY_CENTER = {
    "Effect": "Allow", "Principal": {"Federated": f"{PREFIX}:saml-provider/AWSSSO_0123456789abcdef_DO_NOT_DELETE"},
    "Action": ["sts:AssumeRoleWithSAML", "sts:TagSession"],
}  # fmt: skip


def add_login_profiles(world: World) -> dict[str, Any]:
    """Create the people, and add the profiles `keys`, `mfa-role` and `sso` to the sandbox's AWS config file."""
    iam = world.get_global_backend("iam")
    if USER not in iam.users:
        create_user(iam)
        create_role(iam, f"{PREFIX}:role/{BASE_ROLE}", WITH_CODE)
        create_role(iam, SSO_ROLE, BY_IDENTITY_CENTER)
    user = iam.get_user(USER)
    own, (device,) = user.access_keys[0], user.mfa_devices
    key, secret, token, _ = world.keys.assume_role(SSO_ROLE, "person@example.com")
    profiles = {
        "keys": {"aws_access_key_id": own.access_key_id, "aws_secret_access_key": own.secret_access_key},
        "mfa-role": {"role_arn": f"{PREFIX}:role/{BASE_ROLE}", "source_profile": "keys", "mfa_serial": device},
        "sso": {"aws_access_key_id": key, "aws_secret_access_key": secret, "aws_session_token": token},
    }
    common = {"region": REGION, "endpoint_url": world.url}
    text = "\n".join(
        f"[profile {name}]\n" + "".join(f"{option} = {value}\n" for option, value in (common | options).items())
        for name, options in profiles.items()
    )
    state.write_private_file(world.folder / "aws" / "config", f"{world.format_profile()}\n{text}")
    return {"profiles": list(profiles), "permission_set": PERMISSION_SET, "mfa_serial": device}


def create_user(iam: Any) -> None:
    iam.create_user(REGION, USER, "/")
    iam.put_user_policy(USER, "kennel", json.dumps(RIGHTS))
    key = iam.create_access_key(USER)
    key.secret_access_key = secrets.token_urlsafe(30)
    device = iam.create_virtual_mfa_device(USER, "/")
    iam.enable_mfa_device(USER, device.serial_number, "123456", "654321")


def create_role(iam: Any, arn: str, trust: dict[str, Any]) -> None:
    path, name = arn.partition(":role")[2].rsplit("/", 1)
    iam.create_role(
        role_name=name, assume_role_policy_document=json.dumps({"Version": "2012-10-17", "Statement": [trust]}),
        path=f"{path}/", permissions_boundary=None, description="", tags=[], max_session_duration="43200",
    )  # fmt: skip
    iam.put_role_policy(name, "kennel", json.dumps(RIGHTS))

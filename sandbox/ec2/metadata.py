"""The instance metadata service, version 2, of each running box: its role's keys, its id, and spot notices."""

from __future__ import annotations

import json
import secrets
import time
from datetime import UTC, datetime
from typing import Any

from sandbox.ec2 import instances, lifecycle
from sandbox.ec2.box import Box
from sandbox.iam.principals import is_service_trusted
from sandbox.world import World

ROLES = "latest/meta-data/iam/security-credentials"
LONGEST_S = 21_600  # the maximum lifetime of a token
HELP = "https://docs.aws.amazon.com/IAM/latest/UserGuide/troubleshoot_iam-ec2.html#troubleshoot_iam-ec2_errors-info-doc"


def serve_metadata(world: World, environ: dict[str, Any], path: str) -> tuple[int, str]:
    """Return status and body for SECRET/latest/...: 401 without a session token, 404 for a box that is off."""
    secret, _, what = path.partition("/")
    box = instances.find_box_by_secret(world, secret)
    if box is None:
        return 404, ""
    if what == "latest/api/token":
        put = environ["REQUEST_METHOD"] == "PUT"
        return issue_token(box, environ.get("HTTP_X_AWS_EC2_METADATA_TOKEN_TTL_SECONDS", "")) if put else (405, "")
    if box.tokens.get(environ.get("HTTP_X_AWS_EC2_METADATA_TOKEN", ""), 0.0) <= time.monotonic():
        return 401, ""
    return find_metadata(world, box, what)


def issue_token(box: Box, lifetime: str) -> tuple[int, str]:
    """Return (200, a token that is valid for `lifetime` seconds), or (400, "") unless that is 1 to 21,600."""
    if not (lifetime.isascii() and lifetime.isdigit() and 1 <= int(lifetime) <= LONGEST_S):
        return 400, ""
    token = secrets.token_urlsafe(42)
    box.tokens[token] = time.monotonic() + int(lifetime)
    return 200, token


def find_metadata(world: World, box: Box, what: str) -> tuple[int, str]:
    role_arn = lifecycle.find_instance_role(world, lifecycle.find_instance(world, box.instance))
    role = role_arn.rsplit("/", 1)[-1]
    if role and what.rstrip("/") == ROLES:
        return 200, role
    if role and what == f"{ROLES}/{role}":
        return 200, json.dumps(issue_box_credentials(world, box, role_arn))
    if what == "latest/meta-data/instance-id":
        return 200, box.instance
    if what == "latest/meta-data/spot/instance-action" and box.instance in world.ec2.spot_notices:
        return 200, world.ec2.spot_notices[box.instance]
    return 404, ""


def issue_box_credentials(world: World, box: Box, role_arn: str) -> dict[str, Any]:
    """Return a new session's keys if the role's trust policy allows EC2, else the reason why not (also with status 200)."""
    if is_service_trusted(world, "ec2.amazonaws.com", role_arn):
        return world.keys.build_credentials(role_arn, box.instance)
    name = role_arn.rsplit("/", 1)[-1]
    return {
        "Code": "AssumeRoleUnauthorizedAccess",
        "Message": f"EC2 cannot assume the role {name}. Please see documentation at {HELP}.",
        "LastUpdated": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }

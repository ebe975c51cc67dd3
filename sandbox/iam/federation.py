"""The web identity federation that CI uses: the sandbox stands in for GitHub, and signs the tokens itself."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from typing import Any

from iampolicy.policy.evaluate import Caller, Request, Rights, decide_request
from sandbox.iam.principals import build_request_context, compile_policy, find_role
from sandbox.state import ACCOUNT
from sandbox.world import World

ISSUER = "token.actions.githubusercontent.com"
PROVIDER = f"arn:aws:iam::{ACCOUNT}:oidc-provider/{ISSUER}"
ACTION = "AssumeRoleWithWebIdentity"
TOKEN_S = 3600


class Invalid(Exception):
    """The token is not one of the sandbox's."""


class Expired(Exception):
    """The token has expired."""


def mint_token(world: World, claims: dict[str, Any]) -> str:
    """Return a token with these claims (`sub`, `aud`), valid for an hour."""
    body = {"iss": f"https://{ISSUER}", "exp": int(time.time()) + TOKEN_S, **claims}
    signed = ".".join(encode_base64url(json.dumps(part).encode()) for part in ({"alg": "HS256", "typ": "JWT"}, body))
    return f"{signed}.{encode_base64url(compute_signature(world, signed))}"


def verify_token(world: World, token: str) -> dict[str, Any]:
    """Return the token's claims. Raises Invalid and Expired."""
    signed, _, signature = token.rpartition(".")
    if not hmac.compare_digest(encode_base64url(compute_signature(world, signed)).encode(), signature.encode()):
        raise Invalid("The web identity token was not signed by this sandbox")
    body = signed.partition(".")[2]
    found: dict[str, Any] = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    if found["exp"] < time.time():
        raise Expired("The web identity token has expired")
    return found


def compute_signature(world: World, signed: str) -> bytes:
    return hmac.digest(world.token.encode(), signed.encode(), hashlib.sha256)


def encode_base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def is_token_trusted(world: World, wanted: dict[str, Any]) -> bool:
    """Return whether the role's trust policy accepts this token. Raises Invalid and Expired."""
    found = verify_token(world, str(wanted.get("WebIdentityToken", "")))
    role = find_role(world, str(wanted.get("RoleArn", "")))
    claims = {f"{ISSUER}:{key}": str(found[key]) for key in ("sub", "aud") if key in found}
    context = build_request_context() | claims
    request = Request(Caller(federated=PROVIDER), f"sts:{ACTION}", wanted.get("RoleArn", ""), context)
    trust = compile_policy("trust", role.assume_role_policy_document if role else "{}")
    return decide_request(request, Rights(), trust, required=True).allowed

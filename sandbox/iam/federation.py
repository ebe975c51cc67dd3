"""A role taken with a token of somebody else's, as CI does: the sandbox stands in for GitHub, and signs the tokens itself."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from typing import Any

from iampolicy.policy.evaluate import Caller, Request, Rights, decide
from sandbox.iam.principals import compiled, of_every_request, role_of
from sandbox.state import ACCOUNT
from sandbox.world import World

ISSUER = "token.actions.githubusercontent.com"
PROVIDER = f"arn:aws:iam::{ACCOUNT}:oidc-provider/{ISSUER}"
ACTION = "AssumeRoleWithWebIdentity"
TOKEN_S = 3600


class Invalid(Exception):
    """The token is not one of ours."""


class Expired(Exception):
    """It was one, and its time is over."""


def mint(world: World, claims: dict[str, Any]) -> str:
    """A token with these claims (`sub`, `aud`), good for an hour."""
    body = {"iss": f"https://{ISSUER}", "exp": int(time.time()) + TOKEN_S, **claims}
    signed = ".".join(encoded(json.dumps(part).encode()) for part in ({"alg": "HS256", "typ": "JWT"}, body))
    return f"{signed}.{encoded(signature(world, signed))}"


def claims(world: World, token: str) -> dict[str, Any]:
    """Raises Invalid and Expired."""
    signed, _, mark = token.rpartition(".")
    if not hmac.compare_digest(encoded(signature(world, signed)).encode(), mark.encode()):
        raise Invalid("The web identity token was not signed here")
    body = signed.partition(".")[2]
    found: dict[str, Any] = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    if found["exp"] < time.time():
        raise Expired("Token expired: the web identity token's time is over")
    return found


def signature(world: World, signed: str) -> bytes:
    return hmac.digest(world.token.encode(), signed.encode(), hashlib.sha256)


def encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def trusted(world: World, wanted: dict[str, Any]) -> bool:
    """Whether the role's trust lets this token in. Raises Invalid and Expired."""
    found = claims(world, str(wanted.get("WebIdentityToken", "")))
    role = role_of(world, str(wanted.get("RoleArn", "")))
    told = {f"{ISSUER}:{key}": str(found[key]) for key in ("sub", "aud") if key in found}
    context = of_every_request() | told
    request = Request(Caller(federated=PROVIDER), f"sts:{ACTION}", wanted.get("RoleArn", ""), context)
    trust = compiled("trust", role.assume_role_policy_document if role else "{}")
    return decide(request, Rights(), trust, required=True).allowed

"""The key, region and service in a request's one Authorization header or its one presigned URL.

The signature itself is not checked: a key's id is as long as a password.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

SCHEME = "AWS4-HMAC-SHA256"
CREDENTIAL = re.compile(r"([A-Z0-9]+)/\d{8}/([a-z0-9-]+)/([a-z0-9-]+)/aws4_request")
URL_PARAMETERS = re.compile(
    r"x-amz-(algorithm|credential|date|expires|signedheaders|signature|security-token|content-sha256)", re.I
)
PARTS = {"Credential", "SignedHeaders", "Signature"}


class Unreadable(Exception):
    """The signature cannot be read, or can be read in two ways."""


@dataclass(frozen=True)
class Signature:
    key: str
    region: str
    service: str


def read(authorization: str, query: list[tuple[str, str]]) -> Signature | None:
    """Return the signature, None if the request is not signed. Raises Unreadable."""
    in_url = [(key, value) for key, value in query if URL_PARAMETERS.fullmatch(key)]
    if authorization and in_url:
        raise Unreadable(
            "Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter, Signature query string parameter or "
            "the Authorization header should be specified"
        )
    if authorization:
        return parse_authorization(authorization)
    return parse_credential_scope(read_single_value(in_url, "X-Amz-Credential")) if in_url else None


def parse_authorization(authorization: str) -> Signature:
    scheme, _, rest = authorization.partition(" ")
    if scheme != SCHEME:
        raise Unreadable(f"The authorization mechanism you have provided is not supported. Please use {SCHEME}.")
    pairs = [(name.strip(), value) for name, _, value in (part.partition("=") for part in rest.split(","))]
    if len(pairs) != len(PARTS) or {name for name, _ in pairs} != PARTS:
        raise Unreadable(f"Authorization header requires {', '.join(sorted(PARTS))}, each once. Authorization={SCHEME}")
    return parse_credential_scope(read_single_value(pairs, "Credential"))


def read_single_value(pairs: list[tuple[str, str]], name: str) -> str:
    found = [value for key, value in pairs if key == name]
    if len(found) != 1:
        raise Unreadable(f"{name} is given {len(found)} times")
    return found[0]


def parse_credential_scope(credential: str) -> Signature:
    found = CREDENTIAL.fullmatch(credential.strip())
    if not found:
        raise Unreadable(
            "Credential must have exactly 5 slash-delimited elements, KEYID/DATE/REGION/SERVICE/aws4_request"
        )
    return Signature(*found.groups())

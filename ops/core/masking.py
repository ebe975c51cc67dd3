"""Mask keys in text that AWS or another program wrote, before it is printed or kept."""

from __future__ import annotations

import hashlib
import logging
import re
from urllib.parse import urlsplit, urlunsplit

from iampolicy.key_patterns import KEY_ID, SECRET

MASK = "..."
# Of AWS's answers (XML and JSON), of headers, and of presigned URLs.
NAMED = re.compile(
    r"(?i)(SessionToken|SecretAccessKey|X-Amz-Security-Token|X-Amz-Signature|X-Amz-Credential|\bSignature|\baccessToken"
    r"|x-amz-sso_bearer_token|refreshToken|clientSecret|idToken|WebIdentityToken|SAMLAssertion|authorizationToken|x-aws-ec2-metadata-token)"
    r"""(["']?\s*[>:=]\s*b?["']?)[^\s"'<,&}]+"""
)
ENCODED = re.compile(r"(Encoded authorization failure message: )([\w-]+)")  # people have it decoded, so it stays whole


def mask_keys(text: str) -> str:
    """Return the text without access keys, session tokens and signatures."""
    kept = ENCODED.search(text)
    if kept:
        return mask_keys(text[: kept.start()]) + kept[0] + mask_keys(text[kept.end() :])
    return SECRET.sub(MASK, KEY_ID.sub(MASK, NAMED.sub(rf"\1\2{MASK}", text)))


def strip_url(url: str) -> str:
    """Return the URL without user name, password, query and fragment."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def identify_url(url: str) -> str:
    """Return the URL without user name, password and query, but with a digest of the query: another query is another file."""
    query = urlsplit(url).query
    return strip_url(url) + (f"#{hashlib.sha256(query.encode()).hexdigest()[:12]}" if query else "")


def mask_record(record: logging.LogRecord) -> bool:
    """Mask the keys of a log record: with --debug, botocore logs the headers and bodies that it sends and receives."""
    record.msg, record.args = mask_keys(record.getMessage()), ()
    return True

"""Remove what a page that others read must not hold: account numbers, addresses, and keys."""

from __future__ import annotations

import re
from ipaddress import AddressValueError, IPv6Address

from ops.core.masking import mask_keys

ACCOUNT, ADDRESS = "ACCOUNT", "ADDRESS"
NUMBER = re.compile(r"(?<![0-9A-Za-z])[0-9]{12}(?![0-9A-Za-z])")  # in an ARN, or as part of a bucket's name
IPV4 = re.compile(r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?![\w]|\.\d)")
HOST = re.compile(r"\bip-\d{1,3}(?:-\d{1,3}){3}\b")  # how EC2 names a host after its address
IPV6 = re.compile(r"(?<![\w:])[0-9A-Fa-f]*:[0-9A-Fa-f:]*:[0-9A-Fa-f]*(?:\.\d+){0,3}(?![\w:])")
MAIL = re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+")


def redact_text(text: str, account: str) -> str:
    """Return the text without keys, addresses, and account numbers: `account`, and every other one."""
    text = NUMBER.sub(ACCOUNT, mask_keys(text).replace(account, ACCOUNT))
    text = IPV6.sub(lambda found: ADDRESS if is_ipv6(found[0]) else found[0], text)
    for pattern in (MAIL, HOST, IPV4):
        text = pattern.sub(ADDRESS, text)
    return text


def is_ipv6(text: str) -> bool:
    try:
        IPv6Address(text)
    except AddressValueError:
        return False
    return True

"""The public address of this machine, as a service that the settings name sees it; asked for only on demand."""

from __future__ import annotations

import urllib.error
import urllib.request
from ipaddress import AddressValueError, IPv4Address

from ops.core.errors import OpsError, Unreachable
from ops.core.masking import strip_url

ANSWER_S, MOST = 5.0, 64  # seconds, bytes: an address has 15 letters at most


def request_own_address(service: str) -> str:
    """Return the IPv4 address from which the service sees this machine.

    Raises Unreachable when the service does not answer, OpsError when its answer is not an IPv4 address.
    """
    request = urllib.request.Request(service, headers={"User-Agent": "kennel"})  # noqa: S310  http or https, by the settings' check
    try:
        with urllib.request.urlopen(request, timeout=ANSWER_S) as answer:  # noqa: S310
            text = answer.read(MOST + 1).decode("ascii", "replace").strip()
    except (urllib.error.URLError, OSError) as error:
        raise Unreachable(
            f"{strip_url(service)} does not answer: {error}. Set another service: net.address_service"
        ) from error
    try:
        return str(IPv4Address(text))
    except AddressValueError:
        raise OpsError(
            f"{strip_url(service)} answered {text[:40]!r}, which is not an IPv4 address. Set another service: net.address_service"
        ) from None

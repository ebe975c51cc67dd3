"""The public address of this machine, requested only on demand from a service that the settings name."""

from __future__ import annotations

import urllib.error
import urllib.request
from ipaddress import AddressValueError, IPv4Address

from ops.core.errors import OpsError, Unreachable

ANSWER_S, MOST = 5.0, 64  # seconds, bytes: an address has 15 letters at most


def ask_service(service: str) -> str:
    """Return the IPv4 address from which the service sees this machine.

    Raises OpsError when the service does not answer with one IPv4 address, Unreachable when it does not answer.
    """
    request = urllib.request.Request(service, headers={"User-Agent": "kennel"})  # noqa: S310  http or https, by the settings' check
    try:
        with urllib.request.urlopen(request, timeout=ANSWER_S) as answer:  # noqa: S310
            said = answer.read(MOST + 1).decode("ascii", "replace").strip()
    except (urllib.error.URLError, OSError) as error:
        raise Unreachable(f"{service} does not answer: {error}. Another one: net.address_service") from error
    try:
        return str(IPv4Address(said))
    except AddressValueError:
        raise OpsError(
            f"{service} answered {said[:40]!r}, which is no IPv4 address. Another one: net.address_service"
        ) from None

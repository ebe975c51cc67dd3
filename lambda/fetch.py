"""Fetch a picture from a url that a caller chose, without becoming the caller's way into a network.

Only https on port 443. A name is resolved once, every address is checked, and the connection goes to the address that was checked,
with the name's certificate. Each redirect is checked again.
"""

import http.client
import io
import ipaddress
import re
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin

from deadline import Deadline, call_within
from http_error import HttpError

TOTAL_S = 10.0
CONNECT_S = 3.0
IDLE_S = 3.0
REDIRECTS = 3
ADDRESSES = 2  # tried, of one name
HEAD_BYTES = 64 << 10
CHUNK_BYTES = 64 << 10
MAGIC = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")
REDIRECT_STATUS = (301, 302, 303, 307, 308)
HEADERS = {
    "User-Agent": "kennel",
    "Accept": "image/png, image/jpeg",
    "Accept-Encoding": "identity",
    "Connection": "close",
}

# No user name, no other port, no brackets, no backslash, nothing that two parsers could read in two ways.
URL = re.compile(r"[Hh][Tt][Tt][Pp][Ss]://([A-Za-z0-9._-]{1,254})(?::443)?([/?][!-\[\]-~]*)?")
LONGEST_URL = 2048
LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")  # a name whose last label is one is an IPv4 address to some resolvers

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
PUBLIC_IPV6 = ipaddress.IPv6Network("2000::/3")
NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
# Special networks that some versions of Python call global.
SPECIAL = tuple(
    ipaddress.ip_network(text)
    for text in ("192.0.0.0/24", "192.88.99.0/24", "198.18.0.0/15", "2001::/23", "2001:db8::/32", "3fff::/20")
)


def resolve(host: str) -> list[str]:
    """Return the addresses of a name, those of IPv4 first: a function without IPv6 cannot reach the others."""
    found = socket.getaddrinfo(host, 443, type=socket.SOCK_STREAM)
    addresses = [str(address[0]) for *_, address in sorted(found, key=lambda one: one[0] != socket.AF_INET)]
    return list(dict.fromkeys(addresses))


def connect(address: str, seconds: float) -> socket.socket:
    return socket.create_connection((address, 443), timeout=seconds)


@dataclass(frozen=True)
class Network:
    """The calls that leave this program. Tests pass others; the function never does."""

    resolve: Callable[[str], list[str]] = resolve
    connect: Callable[[str, float], socket.socket] = connect
    make_context: Callable[[], ssl.SSLContext] = ssl.create_default_context


INTERNET = Network()


def fetch_picture(url: str, allowed: str, most: int, deadline: Deadline, network: Network = INTERNET) -> bytes:
    """Return the picture at a url, of at most `most` bytes. `allowed` is public, or the hosts' names with commas. Raises HttpError."""
    own = Deadline(min(TOTAL_S, deadline.remaining()))
    try:
        for _ in range(REDIRECTS + 1):
            host, path = check_url(url, allowed)
            with open_channel(host, most, own, network) as channel:
                response = request(channel, host, path)
                if response.status not in REDIRECT_STATUS:
                    return read_picture(response, most)
                url = urljoin(url, response.getheader("Location") or "")
    except TimeoutError as error:
        raise HttpError(504, "the url's server did not answer in time") from error
    except ssl.SSLCertVerificationError as error:
        raise HttpError(502, "the certificate of the url's server is not valid for its name") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise HttpError(502, "the url's server could not be reached, or broke off its answer") from error
    raise HttpError(502, f"the url leads to more than {REDIRECTS} redirects")


def check_url(url: str, allowed: str) -> tuple[str, str]:
    """Return the url's host, in small letters, and its path with the query. Raises HttpError."""
    found = URL.fullmatch(url.partition("#")[0]) if len(url) <= LONGEST_URL else None
    if not found:
        raise HttpError(
            400, "url must be https://HOST/PATH in ASCII, without user name and without another port than 443"
        )
    host, path = found[1].lower().removesuffix("."), found[2] or "/"
    labels = host.split(".")
    if not all(LABEL.fullmatch(label) for label in labels) or len(labels) < 2 or NUMBER.fullmatch(labels[-1]):
        raise HttpError(400, "url must have the full name of a host, not an address")
    if allowed != "public" and host not in allowed.split(","):
        raise HttpError(403, f"pictures of {host} are not fetched; send s3_uri or image")
    return host, path if path.startswith("/") else f"/{path}"


def unwrap_address(address: Address) -> Iterator[Address]:
    """Yield the address that packets go to, or those inside an IPv4-mapped, 6to4, Teredo or NAT64 address."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
        if address in NAT64:
            inner.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
        if any(inner):
            yield from (one for one in inner if one is not None)
            return
    yield address


def is_public(text: str) -> bool:
    """Return whether the address, and each one inside it, is of the public internet."""
    try:
        found = list(unwrap_address(ipaddress.ip_address(text)))
    except ValueError:
        return False
    return all(
        one.is_global
        and not (one.is_multicast or one.is_reserved or one.is_private or one.is_loopback or one.is_link_local)
        and not any(one in network for network in SPECIAL if network.version == one.version)
        and (one.version == 4 or one in PUBLIC_IPV6)
        for one in found
    )


@contextmanager
def open_channel(host: str, most: int, deadline: Deadline, network: Network) -> Iterator["Channel"]:
    """Resolve the name once, and yield a TLS connection to an address that was checked. Raises HttpError and OSError."""
    addresses = call_within(min(CONNECT_S, deadline.remaining()), lambda: network.resolve(host))
    if not addresses or not all(is_public(address) for address in addresses):
        raise HttpError(403, "the url's host has an address that is not public")
    with connect_to_one(addresses[:ADDRESSES], deadline, network) as raw:
        raw.settimeout(limit(IDLE_S, deadline))
        with network.make_context().wrap_socket(raw, server_hostname=host) as encrypted:
            yield Channel(encrypted, most + HEAD_BYTES, deadline)


def connect_to_one(addresses: list[str], deadline: Deadline, network: Network) -> socket.socket:
    """Return a connection to the first address that takes one. Raises OSError."""
    failure = OSError("no address")
    for address in addresses:
        try:
            return network.connect(address, limit(CONNECT_S, deadline))
        except OSError as error:
            failure = error
    raise failure


def limit(seconds: float, deadline: Deadline) -> float:
    """Return the time-out for the next step. Raises TimeoutError after the deadline."""
    left = min(seconds, deadline.remaining())
    if left <= 0:
        raise TimeoutError
    return left


class Channel(io.RawIOBase):
    """A connection that http.client uses as its socket: each read is limited by the deadline, and all of them by a number of bytes."""

    def __init__(self, encrypted: ssl.SSLSocket, most: int, deadline: Deadline) -> None:
        self.encrypted, self.left, self.deadline = encrypted, most, deadline

    def sendall(self, data: bytes) -> None:
        self.encrypted.settimeout(limit(IDLE_S, self.deadline))
        self.encrypted.sendall(data)

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(self)

    def close(self) -> None:
        """Leave the connection open: http.client closes its socket before the body is read."""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self.encrypted.settimeout(limit(IDLE_S, self.deadline))
        count = self.encrypted.recv_into(buffer)
        self.left -= count
        if self.left < 0:
            raise HttpError(413, "the answer of the url's server is too large")
        return count


def request(channel: Channel, host: str, path: str) -> http.client.HTTPResponse:
    """Send the request, and return the response with its body unread. Raises HttpError, OSError and HTTPException."""
    connection = http.client.HTTPConnection(host, 443)
    connection.sock = channel  # a socket in all that http.client calls of it
    connection.request("GET", path, headers={"Host": host, **HEADERS})
    return connection.getresponse()


def read_picture(response: http.client.HTTPResponse, most: int) -> bytes:
    """Return the body, as soon as it ends. Raises HttpError when it is too large, encoded, cut, or neither PNG nor JPEG."""
    if response.status != 200:
        raise HttpError(502, f"the url's server answered {response.status}")
    if response.getheader("Content-Encoding", "identity").strip().lower() != "identity":
        raise HttpError(502, "the url's server answered with a compressed body, which was not asked for")
    announced = response.length
    if announced is not None and announced > most:
        raise HttpError(413, f"the picture has more than {most} bytes")
    data = bytearray()
    while chunk := response.read(CHUNK_BYTES):
        data += chunk
        if len(data) > most:
            raise HttpError(413, f"the picture has more than {most} bytes")
        if not data.startswith(MAGIC):
            break
    if not data.startswith(MAGIC):
        raise HttpError(400, "what the url's server answered is neither PNG nor JPEG")
    if announced is not None and len(data) < announced:
        raise HttpError(502, "the url's server broke off its answer")
    return bytes(data)

"""The Instance Connect Endpoint's tunnel: one TCP connection to port 22 of a box without an address on the internet.

A fresh signature is made here for each connection, in this process, so no secret is ever in a command line.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import threading
from typing import Any
from urllib.parse import urlencode, urlsplit

from botocore.model import ServiceId
from botocore.signers import RequestSigner
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException
from websockets.sync.client import connect as open_websocket

from ops.core.aws.account import Account
from ops.core.errors import Unreachable

FRAME = 65_000  # bytes; what the AWS CLI writes at most
OPEN_S = 15.0
SIGNED_S = 60


def create_presigned_tunnel_url(account: Account, endpoint: dict[str, Any], address: str) -> str:
    """Return the presigned websocket URL. ws or wss follows the scheme of the profile's endpoint_url; AWS itself is wss."""
    region = account.settings.aws.region
    client = account.client("ec2-instance-connect")
    credentials = account.credentials()
    signer = RequestSigner(
        ServiceId("EC2 Instance Connect"), region, "ec2-instance-connect", "v4", credentials, client.meta.events
    )
    scheme = "ws" if urlsplit(account.endpoint_url or "https:").scheme == "http" else "wss"
    query = {
        "instanceConnectEndpointId": endpoint["InstanceConnectEndpointId"],
        "remotePort": 22,
        "privateIpAddress": address,
    }
    url = f"{scheme}://{endpoint['DnsName']}/openTunnel?{urlencode(query)}"
    request = {
        "url": url,
        "body": {},
        "headers": {"host": endpoint["DnsName"]},
        "method": "GET",
        "query_string": "",
        "url_path": "/",
        "context": {},
    }
    return str(signer.generate_presigned_url(request, "openTunnel", expires_in=SIGNED_S))


def connect_websocket(url: str) -> Any:
    """Open the websocket. Raises Unreachable, with the endpoint's message when it refuses."""
    try:
        opening = open_websocket(url, compression=None, max_size=None, open_timeout=OPEN_S, ping_interval=None)
        return opening.__enter__()  # it is closed by the thread that empties our socket, not at the end of a block
    except InvalidStatus as refusal:
        words = (refusal.response.body or b"").decode(errors="replace").strip()
        raise Unreachable(f"The tunnel was refused ({refusal.response.status_code}): {words}") from refusal
    except (OSError, WebSocketException) as error:
        raise Unreachable(f"The tunnel could not be opened: {error}") from error


def open_tunnel_socket(url: str) -> socket.socket:
    """Return a socket whose other end is the tunnel. A lost connection closes it at once; closing it leaves nothing running.

    paramiko's own ProxyCommand does not see the end of its process and spins on it (measured: 10 CPU seconds in 20).
    """
    websocket = connect_websocket(url)
    near, far = socket.socketpair()
    threading.Thread(target=copy_to_socket, args=(websocket, far), daemon=True).start()
    threading.Thread(target=copy_to_websocket, args=(websocket, far), daemon=True).start()
    return near


def copy_to_socket(websocket: Any, far: socket.socket) -> None:
    with contextlib.suppress(OSError, ConnectionClosed):
        for frame in websocket:
            far.sendall(frame if isinstance(frame, bytes) else frame.encode())
    with contextlib.suppress(OSError):
        far.shutdown(socket.SHUT_RDWR)


def copy_to_websocket(websocket: Any, far: socket.socket) -> None:
    with contextlib.suppress(OSError, ConnectionClosed):
        while data := far.recv(FRAME):
            websocket.send(data)
    with contextlib.suppress(OSError, ConnectionClosed):
        websocket.close()
    far.close()


def copy_stdio(near: socket.socket) -> None:
    """Copy between this process's stdin and stdout and the socket, until the far side ends."""

    def feed() -> None:
        with contextlib.suppress(OSError):
            while data := os.read(sys.stdin.fileno(), FRAME):
                near.sendall(data)
            near.shutdown(socket.SHUT_WR)

    threading.Thread(target=feed, daemon=True).start()
    with contextlib.suppress(BrokenPipeError):
        while data := near.recv(FRAME):
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()

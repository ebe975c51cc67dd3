"""The connections to a box's SSH by the Instance Connect Endpoint's websocket or a public address, if the network allows it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs, urlsplit

from websockets.asyncio.server import Server, ServerConnection
from websockets.asyncio.server import serve as serve_websocket
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from ops.network import reachability
from sandbox.ec2.box import Box
from sandbox.state import PUBLIC_PORT
from sandbox.world import World

CHUNK = 64 << 10
# (id of an access key, the parameters of the URL) -> why the caller may not open the tunnel, in AWS's words; "" when it may
Authorize = Callable[[str, dict[str, str]], str]


class TunnelRefused(Exception):
    """The tunnel is refused; the arguments are the HTTP status and the message."""


async def start_tunnel_server(world: World, authorize: Authorize) -> tuple[Server, int]:
    """Start the websocket server on a free port. It checks network rules itself; `authorize` decides on permissions."""

    async def check(connection: ServerConnection, request: Request) -> Response | None:
        began = time.monotonic()
        key = parse_qs(urlsplit(request.path).query).get("X-Amz-Credential", [""])[0].split("/")[0]
        caller = world.keys.find_caller_name(key) or "unknown"
        try:
            if request.headers.get("Origin"):
                raise TunnelRefused(403, "Web pages may not open tunnels")
            box = await asyncio.to_thread(resolve_target_box, world, authorize, request.path, key)
            connection.kennel_line = (box, *await connect_to_box(box))  # type: ignore[attr-defined]
        except TunnelRefused as refusal:
            status, message = refusal.args
            world.log.add("ec2-instance-connect", "OpenTunnel", caller, status, time.monotonic() - began)
            return connection.respond(HTTPStatus(status), message + "\n")
        world.log.add("ec2-instance-connect", "OpenTunnel", caller, 101, time.monotonic() - began)
        return None

    async def carry(connection: ServerConnection) -> None:
        box, reader, writer = connection.kennel_line  # type: ignore[attr-defined]

        async def send(data: bytes) -> None:
            await connection.send(data)

        await forward_traffic(box, iterate_frames(connection), send, reader, writer)
        await connection.close()

    server = await serve_websocket(carry, "127.0.0.1", 0, process_request=check, compression=None, max_size=None)
    return server, next(iter(server.sockets)).getsockname()[1]


async def connect_to_box(box: Box) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect to the box's own SSH server. Raises TunnelRefused if it cannot be reached."""
    if box.is_partitioned:
        raise TunnelRefused(504, f"{box.instance}:22 does not answer: timed out")
    try:
        return await asyncio.open_connection("127.0.0.1", box.port)
    except OSError:
        raise TunnelRefused(502, f"{box.instance}:22 refuses the connection") from None


def resolve_target_box(world: World, authorize: Authorize, path: str, key: str) -> Box:
    """Return the box that the URL names. Raises TunnelRefused; a box that the network blocks counts as timed out."""
    url = urlsplit(path)
    params = {name: values[0] for name, values in parse_qs(url.query).items()}
    if url.path != "/openTunnel":
        raise TunnelRefused(404, "Unknown path; the only one is /openTunnel")
    if world.keys.find_caller_name(key) is None or has_signature_expired(params):
        raise TunnelRefused(403, "The signature is by an unknown key, or has expired")
    if params.get("remotePort") not in ("22", "3389"):
        raise TunnelRefused(400, "remotePort must be 22 or 3389")
    if denial := authorize(key, params):
        raise TunnelRefused(403, denial)
    return find_reachable_box(world, params["instanceConnectEndpointId"], params["privateIpAddress"])


def has_signature_expired(params: dict[str, str]) -> bool:
    try:
        signed = datetime.strptime(params["X-Amz-Date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        return datetime.now(UTC) > signed + timedelta(seconds=int(params["X-Amz-Expires"]))
    except (KeyError, ValueError):
        return True


def find_reachable_box(world: World, endpoint_id: str, address: str) -> Box:
    """Find the box by VPC and address, since two VPCs may use the same addresses, and check the network's rules."""
    ec2 = world.create_internal_client("ec2")
    found = ec2.describe_instance_connect_endpoints(InstanceConnectEndpointIds=[endpoint_id])[
        "InstanceConnectEndpoints"
    ]
    if not found:
        raise TunnelRefused(404, f"The endpoint {endpoint_id} does not exist")
    endpoint = found[0]
    filters = [{"Name": "vpc-id", "Values": [endpoint["VpcId"]]}, {"Name": "private-ip-address", "Values": [address]}]
    instances = [i for r in ec2.describe_instances(Filters=filters)["Reservations"] for i in r["Instances"]]
    running = [instance for instance in instances if instance["State"]["Name"] == "running"]
    if not running:
        raise TunnelRefused(504, f"{address}:22 does not answer: timed out")
    subnet = ec2.describe_subnets(SubnetIds=[endpoint["SubnetId"]])["Subnets"][0]
    rules = read_vpc_rules(ec2, endpoint["VpcId"])
    blocked_by = next(
        (
            why
            for _, why in reachability.trace_from_endpoint(
                running[0], endpoint, reachability.derive_endpoint_address(subnet), rules
            )
            if why
        ),
        "",
    )
    if blocked_by:
        world.note(
            f"tunnel to {address}: {blocked_by}"
        )  # AWS does not give the caller the reason; neither does the sandbox
        raise TunnelRefused(504, f"{address}:22 does not answer: timed out")
    return world.ec2.boxes[running[0]["InstanceId"]]


def read_vpc_rules(ec2: Any, vpc: str) -> reachability.Rules:
    of_vpc = [{"Name": "vpc-id", "Values": [vpc]}]
    return reachability.index_rules(
        ec2.describe_security_groups(Filters=of_vpc)["SecurityGroups"],
        ec2.describe_network_acls(Filters=of_vpc)["NetworkAcls"],
        ec2.describe_route_tables(Filters=of_vpc)["RouteTables"],
        ec2.describe_subnets(Filters=of_vpc)["Subnets"],
    )


def make_public_handler(box: Box) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]:
    """Return the handler for the box's public address. It closes connections that the network stops; AWS would drop them."""

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = writer.get_extra_info("peername")[0]
        try:
            if not await asyncio.to_thread(is_peer_allowed, box, peer):
                return
            far_reader, far_writer = await connect_to_box(box)

            async def send(data: bytes) -> None:
                writer.write(data)
                await writer.drain()

            await forward_traffic(box, iterate_chunks(reader), send, far_reader, far_writer)
        except (TunnelRefused, ConnectionError):
            pass
        finally:
            writer.close()

    return pass_on


def is_peer_allowed(box: Box, peer: str) -> bool:
    ec2 = box.world.create_internal_client("ec2")
    (reservation,) = ec2.describe_instances(InstanceIds=[box.instance])["Reservations"]
    (instance,) = reservation["Instances"]
    hops = reachability.trace_from_internet(instance, peer, PUBLIC_PORT, read_vpc_rules(ec2, instance["VpcId"]))
    blocked_by = next((why for _, why in hops if why), "")
    if blocked_by:
        box.world.note(f"{peer} to {box.instance}: {blocked_by}")
    return not blocked_by


async def iterate_frames(connection: ServerConnection) -> AsyncIterator[bytes]:
    with contextlib.suppress(ConnectionClosed):
        async for frame in connection:
            yield frame if isinstance(frame, bytes) else frame.encode()


async def iterate_chunks(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    while data := await reader.read(CHUNK):
        yield data


async def forward_traffic(
    box: Box,
    source: AsyncIterator[bytes],
    send: Callable[[bytes], Coroutine[Any, Any, None]],
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
) -> None:
    """Forward both ways until one side ends. While the box is cut off, traffic waits and neither side is notified."""

    async def wait_for_network() -> None:
        while box.is_partitioned:
            await asyncio.sleep(0.05)

    async def inward() -> None:
        async for data in source:
            await wait_for_network()
            writer.write(data)
            await writer.drain()

    async def outward() -> None:
        async for data in iterate_chunks(reader):
            await wait_for_network()
            await send(data)

    tasks = [asyncio.ensure_future(direction()) for direction in (inward, outward)]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    writer.close()

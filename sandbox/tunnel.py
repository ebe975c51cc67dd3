"""The Instance Connect Endpoint: a websocket that carries one TCP connection to port 22 of one box, if the network lets it."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs, urlsplit

from websockets.asyncio.server import Server, ServerConnection
from websockets.asyncio.server import serve as serve_websocket
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from sandbox.reach import blocked
from sandbox.world import World

CHUNK = 64 << 10


class NoWay(Exception):
    """Why the tunnel stays shut: status, and the words of the answer."""


async def serve(world: World) -> tuple[Server, int]:
    async def check(connection: ServerConnection, request: Request) -> Response | None:
        began = time.monotonic()
        key = parse_qs(urlsplit(request.path).query).get("X-Amz-Credential", [""])[0].split("/")[0]
        caller = world.keys.caller(key) or "nobody"
        try:
            if request.headers.get("Origin"):
                raise NoWay(403, "Web pages may not open tunnels")
            connection.kennel_target = await asyncio.to_thread(target, world, request.path, caller)  # type: ignore[attr-defined]
        except NoWay as refusal:
            status, words = refusal.args
            world.log.add("ec2-instance-connect", "OpenTunnel", caller, status, time.monotonic() - began)
            return connection.respond(HTTPStatus(status), words + "\n")
        world.log.add("ec2-instance-connect", "OpenTunnel", caller, 101, time.monotonic() - began)
        return None

    async def carry(connection: ServerConnection) -> None:
        from sandbox import boxes

        instance, role_arn = connection.kennel_target  # type: ignore[attr-defined]
        reader, writer = await asyncio.open_connection("127.0.0.1", await boxes.listening(world, instance, role_arn))
        await bridge(connection, reader, writer)

    server = await serve_websocket(carry, "127.0.0.1", 0, process_request=check, compression=None, max_size=None)
    return server, next(iter(server.sockets)).getsockname()[1]


def target(world: World, path: str, caller: str) -> tuple[str, str]:
    """(instance id, its role's ARN) that the URL asks for. Raises NoWay, in the words of a network that does not answer."""
    url = urlsplit(path)
    asked = {name: values[0] for name, values in parse_qs(url.query).items()}
    if url.path != "/openTunnel":
        raise NoWay(404, "There is only /openTunnel")
    if caller == "nobody" or expired(asked):
        raise NoWay(403, "The signature is not of this sandbox's keys, or has expired")
    if asked.get("remotePort") not in ("22", "3389"):
        raise NoWay(400, "remotePort must be 22 or 3389")
    return look(world, asked["instanceConnectEndpointId"], asked["privateIpAddress"])


def expired(asked: dict[str, str]) -> bool:
    try:
        signed = datetime.strptime(asked["X-Amz-Date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        return datetime.now(UTC) > signed + timedelta(seconds=int(asked["X-Amz-Expires"]))
    except (KeyError, ValueError):
        return True


def look(world: World, endpoint_id: str, address: str) -> tuple[str, str]:
    """Find the box by VPC and address, since two VPCs may use the same addresses, and ask the network's rules."""
    ec2 = world.inside("ec2")
    found = ec2.describe_instance_connect_endpoints(InstanceConnectEndpointIds=[endpoint_id])[
        "InstanceConnectEndpoints"
    ]
    if not found:
        raise NoWay(404, f"The endpoint {endpoint_id} does not exist")
    endpoint = found[0]
    filters = [{"Name": "vpc-id", "Values": [endpoint["VpcId"]]}, {"Name": "private-ip-address", "Values": [address]}]
    boxes = [i for r in ec2.describe_instances(Filters=filters)["Reservations"] for i in r["Instances"]]
    running = [box for box in boxes if box["State"]["Name"] == "running"]
    if not running:
        raise NoWay(504, f"{address}:22 does not answer: timed out")
    groups = {group["GroupId"]: group for group in ec2.describe_security_groups()["SecurityGroups"]}
    acls = {a["SubnetId"]: acl for acl in ec2.describe_network_acls()["NetworkAcls"] for a in acl["Associations"]}
    subnet = ec2.describe_subnets(SubnetIds=[endpoint["SubnetId"]])["Subnets"][0]
    stop = blocked(running[0], endpoint, first_address(subnet["CidrBlock"]), groups, acls)
    if stop:
        world.note(f"tunnel to {address}: {stop}")  # AWS does not tell the caller; neither do we
        raise NoWay(504, f"{address}:22 does not answer: timed out")
    return running[0]["InstanceId"], role_of(world, running[0])


def first_address(cidr: str) -> str:
    """The endpoint's own address: in AWS any free one of its subnet."""
    from ipaddress import ip_network

    return str(ip_network(cidr)[4])  # the first four belong to AWS


def role_of(world: World, box: dict[str, Any]) -> str:
    profile = box.get("IamInstanceProfile", {}).get("Arn", "").rsplit("/", 1)[-1]
    profiles = world.backend_global("iam").instance_profiles
    return next((role.arn for p in profiles.values() if p.name == profile for role in p.roles), "")


async def bridge(connection: ServerConnection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    async def inward() -> None:
        async for frame in connection:
            writer.write(frame if isinstance(frame, bytes) else frame.encode())
            await writer.drain()

    async def outward() -> None:
        while data := await reader.read(CHUNK):
            await connection.send(data)

    ways = [asyncio.ensure_future(way()) for way in (inward, outward)]
    try:
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    except ConnectionClosed:
        pass
    finally:
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
        writer.close()
        await connection.close()

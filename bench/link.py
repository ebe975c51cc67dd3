"""The link in front of a server: a TCP proxy that adds latency and limits bandwidth.

Each direction has one rate for all its connections, as a network line has. A new connection costs a round trip before its
first byte, as TCP's handshake does; slow start, loss and TLS are left out, for both sides of a benchmark alike.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from dataclasses import dataclass

CHUNK = 64 << 10
QUEUED = 32  # chunks in transit on one connection: 2 MB, more than 1 Gbit/s holds in 20 ms
SOCKET_BYTES = 256 << 10  # receive buffer; the system's default would hold most of a shard


class Line:
    """The line in one direction: bytes leave in order at `rate` bytes per second and arrive `delay_s` later."""

    def __init__(self, rate: float, delay_s: float) -> None:
        self.rate, self.delay_s = rate, delay_s
        self.bytes = 0
        self._free_at = 0.0

    def schedule_arrival(self, length: int, now: float) -> float:
        """Return when the next `length` bytes arrive if they are sent now."""
        self._free_at = max(now, self._free_at) + length / self.rate
        self.bytes += length
        return self._free_at + self.delay_s


@dataclass
class Link:
    """The link to the server on `port`, with a latency of `round_trip_s` and `rate` bytes per second each way."""

    port: int
    round_trip_s: float
    rate: float

    def __post_init__(self) -> None:
        self.up, self.down = Line(self.rate, self.round_trip_s / 2), Line(self.rate, self.round_trip_s / 2)

    async def serve(self) -> asyncio.Server:
        """Listen on a free port of the loopback interface."""
        listening = socket.create_server(("127.0.0.1", 0), backlog=256)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SOCKET_BYTES)
        return await asyncio.start_server(self._handle_connection, sock=listening, limit=CHUNK)

    async def _handle_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(self.round_trip_s)
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.port, limit=CHUNK)
        except OSError:
            writer.close()
            return
        await asyncio.gather(forward_bytes(reader, far_writer, self.up), forward_bytes(far_reader, writer, self.down))


async def forward_bytes(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, line: Line) -> None:
    """Copy everything from `reader` to `writer`, delayed by `line`."""
    under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(QUEUED)
    arriving = asyncio.create_task(deliver_chunks(under_way, writer))
    clock = asyncio.get_running_loop().time
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(CHUNK):
            await under_way.put((line.schedule_arrival(len(data), clock()), data))
    await under_way.put((clock() + line.delay_s, b""))
    await arriving


async def deliver_chunks(under_way: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter) -> None:
    """Write each chunk when it is due; an empty one ends the stream. After an error, discard the rest."""
    clock, broken = asyncio.get_running_loop().time, False
    while True:
        due, data = await under_way.get()
        if due > clock():
            await asyncio.sleep(due - clock())
        if not data:
            writer.close()
            return
        if not broken:
            try:
                writer.write(data)
                await writer.drain()
            except ConnectionError:
                broken = True

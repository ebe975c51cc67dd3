"""HTTP connections with bounds: on a head's bytes and time, on silence, and on the number of connections.

uvicorn's own protocol has none but the keep-alive time, and httptools collects a head without end. A refused caller gets
JSON, and what it still sends is dropped for a moment, because closing at once would reset the connection and lose the reply.
"""

import asyncio
import json
import resource
from enum import Enum, auto
from http import HTTPStatus
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_BYTES = 65_536  # as nginx's largest; SageMaker's heads have about 2 KB
HEADERS = 100  # as Python's http.client; each takes ten times its bytes in memory
PIPELINED = 16  # requests that wait behind another on one connection
CONNECTIONS_PER_WORKER = 128
ACCEPTED = 64  # connections that asyncio accepts at once, and up to three times before it looks at what they say
DROPPED_BYTES = 1_000_000  # of a refused caller


def choose_connection_limit(workers: int) -> int:
    """Return how many connections to hold, with a quarter of the files that this process may open; allow it all it may."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    most = workers * CONNECTIONS_PER_WORKER
    return most if hard == resource.RLIM_INFINITY else min(most, hard // 4)


class Phase(Enum):
    """What a connection waits for."""

    SILENT = auto()  # the first byte
    HEAD = auto()  # the rest of a head
    ANSWER = auto()  # the answer
    REST = auto()  # the rest of a body whose answer is sent
    IDLE = auto()  # the next request
    REFUSED = auto()  # that the caller reads the refusal and closes
    CLOSING = auto()  # that the caller takes the last bytes


SECONDS = {
    Phase.SILENT: 10.0,
    Phase.HEAD: 10.0,
    Phase.ANSWER: 30.0,  # a request's deadline is 10 s, so the caller of a later one does not read its answer
    Phase.REST: 2.0,
    Phase.IDLE: 75.0,  # longer than the proxy in front keeps connections, or one may close as a request arrives
    Phase.REFUSED: 2.0,
    Phase.CLOSING: 2.0,
}


class HeadTooLarge(Exception):
    """The head, the trailer of a chunked body, or the number of requests in a row exceeds its bound."""


class BoundedProtocol(HttpToolsProtocol):
    """One connection. uvicorn keeps those of a server in `connections`; the class has their limit."""

    limit = CONNECTIONS_PER_WORKER

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.phase, self.phase_began = Phase.SILENT, self.loop.time()
        self.timer: asyncio.TimerHandle | None = None
        self.in_head = self.in_message = self.is_refused = self.is_too_large = False
        self.progressed = False  # whether the last packet had the end of a head, or bytes of a body
        self.unused_bytes = 0  # since then: of a head or trailer that has not ended
        self.head_bytes = self.header_count = 0
        self.dropped_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.enter_phase(Phase.SILENT)
        if len(self.connections) > self.limit:
            self.make_room()

    def make_room(self) -> None:
        """Close the connection that waits longest, of those without a request in progress; without any, refuse this one."""
        others = cast("set[BoundedProtocol]", self.connections) - {self}
        waiting = [other for other in others if other.phase is not Phase.ANSWER]
        if waiting:
            oldest = min(waiting, key=lambda other: other.phase_began)
            self.connections.discard(oldest)
            oldest.transport.abort()
        else:
            self.refuse(503, "there are too many connections; try again", b"retry-after: 1\r\n")

    def connection_lost(self, exc: Exception | None) -> None:
        if self.timer is not None:
            self.timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.is_refused:
            self.dropped_bytes += len(data)
            if self.dropped_bytes > DROPPED_BYTES:
                self.transport.abort()
            return
        self.progressed = False
        super().data_received(data)
        self.unused_bytes = 0 if self.progressed else self.unused_bytes + len(data)
        if self.unused_bytes > HEAD_BYTES and not self.is_refused and not self.transport.is_closing():
            self.is_too_large = True
            self.send_400_response("")
        self.update_phase()

    def send_400_response(self, msg: str) -> None:
        """Refuse what httptools could not parse, or what a callback of it refused."""
        if self.is_too_large:
            bounds = f"{HEAD_BYTES} bytes, {HEADERS} headers, {PIPELINED} requests in a row"
            self.refuse(431, f"the head exceeds a limit: {bounds}")
        else:
            self.refuse(400, "the request is not valid HTTP")

    def refuse(self, status: int, reason: str, header: bytes = b"") -> None:
        """Answer with an error and close: at once where a request is in progress, otherwise when the caller has read it."""
        body = json.dumps({"error": reason}).encode()
        line = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\ncontent-type: application/json\r\n"
        size = f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        self.transport.write(line.encode() + header + size.encode() + body)
        self.is_refused = True
        if self.has_request():
            self.transport.close()
        else:
            self.transport.write_eof()
        self.update_phase()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.in_head = self.in_message = True
        self.head_bytes = self.header_count = 0

    def on_url(self, url: bytes) -> None:
        self.count_head(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header of the head, or of the trailer after a chunked body."""
        self.header_count += 1
        self.count_head(len(name) + len(value) + len(b": \r\n"))
        super().on_header(name, value)

    def count_head(self, size: int) -> None:
        self.head_bytes += size
        if self.head_bytes > HEAD_BYTES or self.header_count > HEADERS:
            self.is_too_large = True
            raise HeadTooLarge

    def on_headers_complete(self) -> None:
        self.in_head, self.progressed = False, True
        if len(self.pipeline) >= PIPELINED:
            self.is_too_large = True
            raise HeadTooLarge
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self.progressed = True
        super().on_body(body)

    def on_message_complete(self) -> None:
        self.in_message, self.progressed = False, True
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self.phase_began = 0.0  # the next pipelined request has its whole time
        self.update_phase()

    def has_request(self) -> bool:
        """Return whether a request is in progress: its head is complete, its answer is not."""
        return self.cycle is not None and not self.cycle.response_complete

    def find_phase(self) -> Phase:
        if self.transport.is_closing():
            return Phase.CLOSING
        if self.is_refused:
            return Phase.REFUSED
        if self.has_request():
            return Phase.ANSWER
        if self.in_message:
            return Phase.HEAD if self.in_head else Phase.REST
        return Phase.SILENT if self.cycle is None else Phase.IDLE

    def update_phase(self) -> None:
        """Start the time of the phase that the connection is in, unless it was in it before."""
        phase = self.find_phase()
        if phase is not self.phase or not self.phase_began:
            self.enter_phase(phase)

    def enter_phase(self, phase: Phase) -> None:
        if self.timer is not None:
            self.timer.cancel()
        self.phase, self.phase_began = phase, self.loop.time()
        self.timer = self.loop.call_later(SECONDS[phase], self.end_phase)

    def end_phase(self) -> None:
        """End a connection that has waited too long."""
        if self.phase is Phase.HEAD:
            self.refuse(408, f"the head did not arrive within {SECONDS[Phase.HEAD]:.0f} s")
        elif self.phase in (Phase.ANSWER, Phase.CLOSING):
            self.transport.abort()
        else:
            self.transport.close()
            self.update_phase()

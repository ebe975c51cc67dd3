"""The attacks on the server's connections and memory that bench.fuzz makes, beside its bodies.

Each attack returns its outcome. Meanwhile one ping after another is timed, each on a new connection, and the server's memory is read.
"""

from __future__ import annotations

import contextlib
import http.client
import resource
import socket
import struct
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from bench.anatomy import SIGNATURE, build_chunk
from bench.bodies import LIMIT, compress_zeros, encode_blank_image
from bench.paired_timing import Check
from bench.servers import Server
from ops.core.output import say

MEMORY_MB, PING_S = 350.0, 1.0
FILES = 1024  # that the server may open, as in a container of SageMaker's
TAKEN_MB = 8  # of an endless head, most of it in the buffers of the two sockets
PAUSE_S = 0.1  # between two pings
HELD_S = 12.0  # for which slow callers go on: longer than the server's 10 s
GET, POST = (
    b"GET /ping HTTP/1.1\r\nHost: fuzz\r\n",
    b"POST /invocations HTTP/1.1\r\nHost: fuzz\r\nContent-Type: image/png\r\n",
)
Statuses = Counter[int]  # 0: the connection ended without an answer


@dataclass
class Watch:
    """What was seen during an attack: seconds of pings, or inf for one that failed, and the most memory in MB."""

    pings: list[float] = field(default_factory=list)
    memory: float = 0.0


@dataclass(frozen=True)
class Attack:
    """An attack: `run` returns the statuses of its answers, and `is_right` judges them."""

    name: str
    run: Callable[[int], Statuses]
    wanted: str
    is_right: Callable[[Statuses], bool]


def read_memory(pid: int) -> float:
    """Return a process's resident memory in MB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]) / 1000


@contextlib.contextmanager
def watch_server(server: Server) -> Iterator[Watch]:
    """Ping the server and read its memory until the attack has ended, and once more after it."""
    seen, ended = Watch(), threading.Event()

    def ping() -> None:
        while not seen.pings or not ended.wait(PAUSE_S):
            began = time.monotonic()
            status = send(server.port, GET + b"\r\n")
            seen.pings.append(time.monotonic() - began if status == 200 else float("inf"))

    def measure() -> None:
        while not seen.memory or not ended.wait(0.01):
            seen.memory = max(seen.memory, read_memory(server.pid))

    threads = [threading.Thread(target=ping, daemon=True), threading.Thread(target=measure, daemon=True)]
    for thread in threads:
        thread.start()
    try:
        yield seen
    finally:
        ended.set()
        for thread in threads:
            thread.join()


def attack_server(server: Server, picture: bytes) -> list[Check]:
    """Make every attack on the server; return a check of each. `picture` is one that the server classifies."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # this process opens more connections than the server may
    resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (FILES, FILES))
    checks = []
    try:
        for attack in list_attacks(picture):
            with watch_server(server) as seen:
                found = attack.run(server.port)
            checks.append(judge_attack(attack, found, seen, send_picture(server.port, picture)))
            say(f"  {checks[-1].name}: {checks[-1].value:.0f} MB")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return checks


def judge_attack(attack: Attack, found: Statuses, seen: Watch, after: int) -> Check:
    """Return the check of one attack; `after` is the status of a picture sent after it."""
    worst = max(seen.pings, default=0.0)
    right = attack.is_right(found) and after == 200 and worst <= PING_S and seen.memory <= MEMORY_MB
    bound = f"{MEMORY_MB:.0f} MB, pings {PING_S:g} s, {attack.wanted}"
    return Check(f"{attack.name}: {dict(found)}, pings {worst:.2f} s", seen.memory, "MB", bound, right)


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=40)


def read_status(line: socket.socket) -> int:
    """Return the status of the next answer, or 0 where the connection ends without one."""
    try:
        answer = http.client.HTTPResponse(line, method="POST")
        answer.begin()
        answer.read()
    except (OSError, http.client.HTTPException):
        return 0
    return answer.status


def send(port: int, data: bytes) -> int:
    """Send bytes on a connection of their own; return the status of the first answer."""
    with contextlib.suppress(OSError), connect(port) as line:
        with contextlib.suppress(OSError):  # the server answered before it had read everything
            line.sendall(data)
        return read_status(line)
    return 0


def send_picture(port: int, picture: bytes) -> int:
    return send(port, POST + b"Content-Length: %d\r\n\r\n" % len(picture) + picture)


def send_together(port: int, count: int, data: bytes) -> Statuses:
    with ThreadPoolExecutor(count) as callers:
        return Counter(callers.map(lambda _: send(port, data), range(count)))


def build_png(wide: int, high: int, chunks: bytes = b"") -> bytes:
    """Return a grey PNG of zeros, written row by row."""
    header = build_chunk(b"IHDR", struct.pack(">IIBBBBB", wide, high, 8, 0, 0, 0, 0))
    packer = zlib.compressobj()
    rows = b"".join(packer.compress(bytes(1 + wide)) for _ in range(high)) + packer.flush()
    return SIGNATURE + header + chunks + build_chunk(b"IDAT", rows) + build_chunk(b"IEND")


def drip(port: int, picture: bytes) -> Statuses:
    """Send 200 heads and 40 bodies at a byte a second; return the statuses of pictures sent meanwhile."""
    found: Statuses = Counter()
    starts = [GET + b"A: "] * 200 + [POST + b"Content-Length: 9999\r\n\r\n"] * 40
    with contextlib.ExitStack() as stack:
        lines = [stack.enter_context(connect(port)) for _ in starts]
        for line, start in zip(lines, starts, strict=True):
            line.sendall(start)
        until = time.monotonic() + HELD_S
        while time.monotonic() < until:
            for line in lines:
                with contextlib.suppress(OSError):
                    line.sendall(b"a")
            found[send_picture(port, picture)] += 1
            time.sleep(1)
        found[-1] = sum(not is_closed(line) for line in lines)
    return found


def is_closed(line: socket.socket) -> bool:
    """Return whether the server has closed the connection, perhaps after an answer."""
    line.settimeout(1)
    try:
        while line.recv(65_536):
            pass
    except TimeoutError:
        return False
    except OSError:
        return True
    return True


def send_endless(port: int, start: bytes, part: bytes) -> Statuses:
    """Send `part` for up to 64 MB; return the status, with the megabytes that the server took as the count of -1."""
    taken = 0
    with connect(port) as line:
        with contextlib.suppress(OSError):
            line.sendall(start)
            while taken < 64_000_000:
                taken += line.send(part)
        return Counter({read_status(line): 1, -1: taken // 1_000_000})


def hold_idle(port: int, picture: bytes, count: int) -> Statuses:
    """Open `count` connections that say nothing; return the statuses of pictures sent meanwhile."""
    with contextlib.ExitStack() as stack:
        for _ in range(count):
            with contextlib.suppress(OSError):
                stack.enter_context(connect(port))
        return Counter(send_picture(port, picture) for _ in range(20))


def send_chunk_forms(port: int, picture: bytes) -> Statuses:
    """Send odd framings of a body, together: the one whose body does not end takes the server's deadline."""
    chunked = POST + b"Transfer-Encoding: chunked\r\n"
    whole = b"%x\r\n%b\r\n0\r\n\r\n" % (len(picture), picture)
    length = b"Content-Length: %d\r\n" % len(picture)
    forms = [
        chunked + b"\r\n" + b"".join(b"1\r\n%c\r\n" % byte for byte in picture) + b"0\r\n\r\n",
        chunked + b"\r\nffffffffffffffff\r\n" + picture,
        chunked + b"\r\n7fffffff\r\n" + picture * 100 + bytes(LIMIT),
        chunked + b"\r\nxyz\r\n" + picture,
        chunked + b"\r\n1;" + b"a" * 1_000_000 + b"\r\nb\r\n0\r\n\r\n",
        chunked + b"\r\n" + whole[:-2] + b"A: " + b"b" * 1_000_000 + b"\r\n\r\n",
        chunked + length + b"\r\n" + whole,
        POST + length + b"Content-Length: 5\r\n\r\n" + picture,
        POST + b"Content-Length: +5\r\n\r\n" + picture,
    ]
    with ThreadPoolExecutor(len(forms)) as callers:
        return Counter(callers.map(lambda form: send(port, form), forms))


def build_bombs() -> Iterator[tuple[str, bytes]]:
    """Return PNGs with 60 MB of texts or profiles, each with its name."""
    for name, head in (("zTXt", b"a\0\0"), ("iTXt", b"a\0\1\0\0\0"), ("iCCP", b"a\0\0")):
        yield name, build_png(8, 8, build_chunk(name.encode(), head + compress_zeros(1)) * 60)


def build_large_pictures() -> Iterator[tuple[str, int, bytes]]:
    """Return pictures as large as the server accepts, each with its name and the number to send at once."""
    for mode, count in (("RGB", 16), ("RGBA", 4), ("I;16", 4)):
        yield f"25 megapixels, {mode}", count, encode_blank_image(mode, 5000, 5000, "PNG")
    yield "25 megapixels, progressive", 4, encode_blank_image("RGB", 5000, 5000, "JPEG", progressive=True)
    yield "65,500 x 380", 8, build_png(65_500, 380)


def allow(*statuses: int) -> Callable[[Statuses], bool]:
    return lambda found: set(found) <= set(statuses)


def refuses_early(found: Statuses) -> bool:
    """Return whether an endless head was refused; what the kernel holds counts as taken."""
    return found[431] + found[0] == 1 and found[-1] <= TAKEN_MB


def list_attacks(picture: bytes) -> Iterator[Attack]:
    """Return the attacks; `picture` is one that the server classifies."""

    def endless(start: bytes, part: bytes) -> Callable[[int], Statuses]:
        return lambda port: send_endless(port, start, part)

    def together(count: int, data: bytes) -> Callable[[int], Statuses]:
        return lambda port: send_together(port, count, data)

    def pictures(count: int, data: bytes) -> Callable[[int], Statuses]:
        return together(count, POST + b"Content-Length: %d\r\n\r\n" % len(data) + data)

    early = f"431, at most {TAKEN_MB} MB taken"
    yield Attack("endless header", endless(GET + b"A: ", b"a" * 65_536), early, refuses_early)
    yield Attack("endless headers", endless(GET, b"A: b\r\n" * 10_000), early, refuses_early)
    yield Attack("64 heads of 1 MB", together(64, GET + b"A: " + b"a" * 1_000_000), "431", allow(0, 431))
    yield Attack("25,000 requests in a row", together(4, (GET + b"\r\n") * 25_000), "200, 431", allow(0, 200, 431))
    yield Attack("heads and bodies at a byte a second", lambda port: drip(port, picture), "all closed, others 200",
                 lambda found: set(found) == {200, -1} and not found[-1])  # fmt: skip
    yield Attack("1,100 idle connections", lambda port: hold_idle(port, picture, 1100), "others 200", allow(200))
    yield Attack(
        "odd chunks and lengths",
        lambda port: send_chunk_forms(port, picture),
        "no 500",
        allow(0, 200, 400, 413, 431, 503),
    )
    for name, count, data in build_large_pictures():
        yield Attack(f"{count} x {name}", pictures(count, data), "200, 503", allow(200, 503))
    yield Attack("a column", pictures(8, build_png(1, 250_000)), "400", allow(400))
    for name, data in build_bombs():
        yield Attack(f"8 x 60 MB of {name}", pictures(8, data), "400", allow(400))
    full = picture + bytes(LIMIT - len(picture))
    yield Attack("100 x 6 MB", pictures(100, full), "200, 503", allow(0, 200, 503))
    yield Attack("50 x 7 MB", pictures(50, full + bytes(1_000_000)), "413", allow(0, 413))

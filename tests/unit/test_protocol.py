"""The bounds of the server's connections: heads, silence and their number. uvicorn runs in process, before a small application."""

import asyncio
import contextlib
import socket
import threading
import time

import protocol
import pytest
import uvicorn
from protocol import BoundedProtocol, Phase

GET = b"GET /quick HTTP/1.1\r\nHost: h\r\n\r\n"
POST = b"POST /read HTTP/1.1\r\nHost: h\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"


async def application(scope, receive, send):
    """Answer /quick at once, /read after the body, /held only when the caller has gone, and /large with much."""
    if scope["type"] != "http":
        return
    size = 0
    while scope["path"] in ("/read", "/held"):
        message = await receive()
        size += len(message.get("body", b""))
        if message["type"] == "http.disconnect" or (scope["path"] == "/read" and not message["more_body"]):
            break
    body = bytes(20_000_000) if scope["path"] == "/large" else str(size).encode()
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@pytest.fixture(scope="module")
def port():
    options = {"http": BoundedProtocol, "ws": "none", "lifespan": "off", "log_config": None, "timeout_keep_alive": 75}
    server = uvicorn.Server(uvicorn.Config(application, **options))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=lambda: asyncio.run(server.serve([listening])))
        thread.start()
        yield listening.getsockname()[1]
        server.should_exit = server.force_exit = True
        thread.join(10)


def connect(port, data=b""):
    line = socket.create_connection(("127.0.0.1", port), timeout=5)
    line.sendall(data)
    return line


def read_all(line):
    """Return what the server sends until it closes the connection."""
    found = b""
    with contextlib.suppress(ConnectionResetError):
        while part := line.recv(65_536):
            found += part
    return found


def read_answer(line):
    """Return the status line of one answer, and take its body too."""
    found = b""
    while not found.partition(b"\r\n\r\n")[2] and (part := line.recv(65_536)):
        found += part
    return found.partition(b"\r\n")[0]


@pytest.fixture
def hurried(monkeypatch):
    """Every phase ends after half a second."""
    monkeypatch.setattr(protocol, "SECONDS", dict.fromkeys(Phase, 0.5))


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (GET, b"200"),
        (GET[:-2] + b"X-Long: " + bytes(60_000).replace(b"\0", b"a") + b"\r\n\r\n", b"200"),
        (GET[:-2] + b"X-Long: " + b"a" * 70_000, b"431"),
        (GET[:-2] + b"X-Long: " + b"a" * 70_000 + b"\r\n\r\n", b"431"),
        (b"GET /" + b"a" * 70_000, b"431"),
        (GET[:-2] + b"A: b\r\n" * 99 + b"\r\n", b"200"),
        (GET[:-2] + b"A: b\r\n" * 100 + b"\r\n", b"431"),
        (CHUNKED + b"2\r\nab\r\n0\r\n" + b"A: b\r\n" * 200, b"431"),
        (CHUNKED + b"2\r\nab\r\n0\r\nA: " + b"b" * 70_000 + b"\r\n\r\n", b"431"),
        (GET.replace(b"quick", b"held") + GET * 20, b"431"),
        (b"GET / HTTP/1.1\r\nno header\r\n\r\n", b"400"),
    ],
    ids=["small", "fits", "open", "large", "url", "few", "many", "trailers", "trailer", "pipelined", "broken"],
)
def test_heads_are_bounded_in_bytes(port, data, status):
    with connect(port, data) as line:
        assert read_answer(line).split()[1] == status


def test_endless_trailer_ends_the_connection(port):
    """No end of a line: httptools collects it, and calls nothing."""
    with connect(port, CHUNKED + b"0\r\nA: ") as line, pytest.raises(OSError, match=r"reset|pipe"):
        for _ in range(2000):
            line.sendall(b"b" * 1000)
            time.sleep(0.0005)


@pytest.mark.parametrize(
    ("data", "rest", "status"),
    [
        (b"", b"", b""),
        (b"", b"\r\n", b""),
        (b"GET /slow", b"a", b"408"),
        (GET[:-2] + b"A: b", b"b", b"408"),
        (GET, b"", b"200"),
        (GET, b"\r\n", b"200"),
        (b"POST /quick HTTP/1.1\r\nHost: h\r\nContent-Length: 9000\r\n\r\n", b"a", b"200"),
    ],
    ids=["silent", "blank", "url", "header", "idle", "blank-after", "body"],
)
def test_waiting_connections_are_closed(port, hurried, data, rest, status):
    """What a caller does not say ends the connection, also when it sends `rest` now and then."""
    with connect(port, data) as line:
        threading.Thread(target=drip, args=(line, rest)).start()
        began = time.monotonic()
        found = read_all(line)
        assert time.monotonic() - began < 3
    assert found.partition(b"\r\n")[0].split()[1:2] == ([status] if status else [])


def drip(line, data):
    """Send `data` each 0.1 s for 4 s, or until the connection is closed."""
    with contextlib.suppress(OSError):
        for _ in range(40):
            time.sleep(0.1)
            line.sendall(data)


def test_caller_that_reads_no_answer_is_cut(port, hurried):
    with connect(port, GET.replace(b"quick", b"large")) as line:
        time.sleep(1.2)
        assert len(read_all(line)) < 20_000_000


def test_oldest_waiting_connection_makes_room(port, monkeypatch):
    """A new connection takes the place of the one that waits longest; a request in progress keeps its own."""
    with contextlib.ExitStack() as stack:
        working = stack.enter_context(connect(port, POST + b"Content-Length: 5\r\n\r\nab"))
        oldest, idle = (stack.enter_context(connect(port, GET)) for _ in range(2))
        assert (read_answer(oldest), read_answer(idle)) == (b"HTTP/1.1 200 OK",) * 2
        monkeypatch.setattr(BoundedProtocol, "limit", 3)
        new = stack.enter_context(connect(port, GET))
        assert read_answer(new) == b"HTTP/1.1 200 OK"
        assert read_all(oldest) == b""
        idle.sendall(GET)
        working.sendall(b"cde")
        assert (read_answer(idle), read_answer(working)) == (b"HTTP/1.1 200 OK",) * 2


def test_connection_above_the_limit_is_refused(port, monkeypatch):
    monkeypatch.setattr(BoundedProtocol, "limit", 2)
    with contextlib.ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(connect(port, POST + b"Content-Length: 5\r\n\r\nab"))
        time.sleep(0.2)
        answer = read_all(stack.enter_context(connect(port)))
    assert answer.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
    assert b"retry-after: 1\r\n" in answer
    assert answer.endswith(b'{"error": "there are too many connections; try again"}')


@pytest.mark.parametrize(("hard", "limit"), [(1024, 256), (400, 100), (-1, 256), (1 << 20, 256)])
def test_connections_leave_files_for_the_rest(monkeypatch, hard, limit):
    allowed = []
    monkeypatch.setattr(protocol.resource, "getrlimit", lambda _: (64, hard))
    monkeypatch.setattr(protocol.resource, "setrlimit", lambda _, limits: allowed.append(limits))
    assert protocol.choose_connection_limit(2) == limit
    assert allowed == [(hard, hard)]

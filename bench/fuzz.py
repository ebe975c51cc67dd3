"""The fuzz test of the real server: attacks on its connections (bench/attacks.py), then malformed, hostile and odd bodies
(bench/bodies.py) from several callers at once.

A body is reproduced from its seed and number: `python -m bench.fuzz SEED NUMBER > file`. Bodies that failed are written
to .kennel/fuzz. The pairs of the report are the seconds of the golden pictures, after and before.
"""

from __future__ import annotations

import http.client
import json
import socket
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench import paired_timing as measure
from bench.attacks import MEMORY_MB, PING_S, attack_server
from bench.bodies import LIMIT, MARK, TYPES, Body, draw_body
from bench.callers import read_pictures
from bench.paired_timing import Check
from bench.serve import call_server
from bench.servers import OURS, Server, make_release, start_server
from ops.core.errors import OpsError
from ops.core.output import say
from ops.core.paths import WORK
from ops.core.task import Result

CALLERS = 4  # fewer than the server admits: none is refused because the queue is full
REFUSED_S = 1.0
REPEATS = 3  # repetitions of a slow refusal, alone: on a shared host only the fastest of several is meaningful
PRINTED_FAULTS = 40
VALID_KINDS = ("whole", "upright", "interlaced", "largest")  # pictures that must be classified
LOG_FIELDS = {"time", "level", "message", "status", "ms", "bytes", "release", "classes", "precision", "threads"}


@dataclass(frozen=True)
class Response:
    """The server's response. Status 0 means that the connection ended without one."""

    status: int
    seconds: float
    text: bytes

    @property
    def answer(self) -> dict[str, Any]:
        try:
            found = json.loads(self.text)
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}


@dataclass
class FuzzResults:
    """The results of all bodies."""

    statuses: Counter[str] = field(default_factory=Counter)
    faults: list[tuple[Body, str]] = field(default_factory=list)
    slow: list[Body] = field(default_factory=list)
    longest: dict[int, tuple[float, str]] = field(default_factory=dict)  # by status: (seconds, kind and number)
    pings: list[float] = field(default_factory=list)


def iterate_packets(one: Body) -> Iterator[bytes]:
    lengths = {"short": len(one.data) + 100, "long": len(one.data) // 2}
    size = f"Content-Length: {lengths.get(one.delivery, len(one.data))}"
    framing = "Transfer-Encoding: chunked" if one.delivery == "chunked" else size
    head = f"POST /invocations HTTP/1.1\r\nHost: fuzz\r\nContent-Type: {one.content_type}\r\n{framing}\r\n\r\n"
    yield head.encode()
    if one.delivery != "chunked":
        yield one.data
        return
    step = 1 + one.number * 7919 % 65_536
    step = max(step, len(one.data) // 1000)
    for at in range(0, len(one.data), step):
        part = one.data[at : at + step]
        yield b"%x\r\n%b\r\n" % (len(part), part)
    yield b"0\r\n\r\n"


def send_body(port: int, one: Body) -> Response:
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", port), timeout=60) as line:
        try:
            for packet in iterate_packets(one):
                line.sendall(packet)
            if one.delivery == "short":
                line.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # the server answered before it had read everything
        try:
            answer = http.client.HTTPResponse(line, method="POST")
            answer.begin()
            return Response(answer.status, time.monotonic() - began, answer.read())
        except (OSError, http.client.HTTPException):
            return Response(0, time.monotonic() - began, b"")


def judge_response(body: Body, response: Response) -> str:
    """Return what is wrong with the response, or ""."""
    if body.delivery == "short" and response.status == 0:
        return ""
    if body.delivery == "long" and response.status == 400:
        return ""  # uvicorn itself rejects the bytes after the body as a malformed request
    if response.status not in (200, 400, 413, 415):
        return f"answered {response.status}"
    if response.status == 200:
        missing = {"release", "best", "classes", "scores", "probabilities"} - response.answer.keys()
        if missing or body.delivery == "short":
            return f"answered 200 without {', '.join(missing) or 'the whole body'}"
    elif not isinstance(response.answer.get("error"), str):
        return f"answered {response.status} without a reason in JSON"
    expected = derive_expected_status(body)
    return f"answered {response.status}, not {expected}" if expected and response.status != expected else ""


def derive_expected_status(body: Body) -> int | None:
    """Return the only correct status, or None if several are."""
    if body.content_type not in TYPES:
        return 415
    if body.delivery in ("short", "long"):
        return None
    if body.kind in VALID_KINDS:
        return 200
    if len(body.data) > LIMIT:
        return 413
    return {"too_large": 400, "empty": 400, "other_format": 400, "full": 200}.get(body.kind)


def send_all_bodies(port: int, seed: int, count: int) -> FuzzResults:
    """Send all bodies, CALLERS at a time, and pings meanwhile; return the results."""
    found, lock, ended = FuzzResults(), threading.Lock(), threading.Event()

    def ping() -> None:
        while not ended.wait(0.2):
            began = time.monotonic()
            call_server(port, "GET", "/ping")
            found.pings.append(time.monotonic() - began)

    def one(number: int) -> None:
        made = draw_body(seed, number)
        got = send_body(port, made)
        with lock:
            found.statuses[str(got.status)] += 1
            longest = found.longest.get(got.status, (0.0, ""))
            found.longest[got.status] = max(longest, (got.seconds, f"{made.kind}, number {number}"))
            if reason := judge_response(made, got):
                found.faults.append((made, reason))
            elif 400 <= got.status < 500 and got.seconds > REFUSED_S:
                found.slow.append(made)
            if sum(found.statuses.values()) % max(1, count // 10) == 0:
                say(f"  {sum(found.statuses.values())}/{count}: {dict(found.statuses)}, {len(found.faults)} faults")

    pings = threading.Thread(target=ping, daemon=True)
    pings.start()
    with ThreadPoolExecutor(CALLERS) as callers:
        list(callers.map(one, range(count)))
    ended.set()
    pings.join()
    return found


def repeat_slow_refusals(port: int, found: FuzzResults) -> float:
    """Repeat the refusals that were too slow, alone; return the slowest refusal in seconds."""
    alone = [(min(send_body(port, one).seconds for _ in range(REPEATS)), one) for one in found.slow]
    found.faults += [(one, f"refused after {took:.1f} s when sent alone") for took, one in alone if took > REFUSED_S]
    quick = [took for status, (took, _) in found.longest.items() if 400 <= status < 500 and took <= REFUSED_S]
    return max([took for took, _ in alone] or quick, default=0.0)


def save_faults(found: FuzzResults, seed: int) -> None:
    """Print the first PRINTED_FAULTS faults and write their bodies to files."""
    folder = WORK / "fuzz"
    for one, reason in sorted(found.faults, key=lambda fault: fault[0].number)[:PRINTED_FAULTS]:
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / f"{seed}-{one.number}-{one.kind}"
        file.write_bytes(one.data)
        say(
            f"  seed {seed}, number {one.number}, {one.kind}, {one.delivery}, {one.content_type[:40]!r}: {reason}; {file}"
        )


def read_server_peak(server: Server) -> float:
    """Return the server's peak resident memory so far, in MB."""
    status = Path(f"/proc/{server.pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) / 1000


def request_golden_answers(port: int, pictures: list[bytes]) -> list[tuple[float, list[float]]]:
    """Request each picture; return (seconds, scores) of each."""
    found = []
    for picture in pictures:
        began = time.monotonic()
        answer = json.loads(call_server(port, "POST", "/invocations", picture))
        found.append((time.monotonic() - began, answer["scores"]))
    return found


def has_same_scores(found: list[tuple[float, list[float]]], wanted: list[tuple[float, list[float]]]) -> bool:
    """Return whether the scores are the same, apart from the order in which threads sum."""
    return all(
        abs(a - b) <= 1e-3 * max(map(abs, before))
        for (_, after), (_, before) in zip(found, wanted, strict=True)
        for a, b in zip(after, before, strict=True)
    )


def inspect_log(log: Path) -> tuple[list[str], int]:
    """Return (lines that are not our JSON, are errors, or contain MARK; number of lines about requests)."""
    odd, answered = [], 0
    for line in log.read_bytes().splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            entry = {"": line}
        answered += entry.get("message") == "answered"
        if set(entry) - LOG_FIELDS or entry["level"] == "error" or MARK in line:
            odd.append(line.decode(errors="replace")[:300])
    return odd, answered


def list_fuzz_checks(
    found: FuzzResults, count: int, slowest: float, memory: float, odd: list[str], same: bool
) -> list[Check]:
    kinds = Counter(reason for _, reason in found.faults)
    quick = not any("sent alone" in reason for _, reason in found.faults)
    worst, wrong = max(found.pings, default=0.0), len(found.faults)
    return [
        Check(f"wrong answers to {count} bodies {dict(kinds) or ''}", wrong, "", "none", not wrong),
        Check("slowest refusal (slower ones are repeated alone)", slowest, "s", f"at most {REFUSED_S:g}", quick),
        Check("slowest ping under load", worst, "s", f"at most {PING_S:g}", worst <= PING_S),
        Check("the server did not restart and gives its golden answers", same, "", "yes", same),
        Check("peak resident memory of all", memory, "MB", f"at most {MEMORY_MB:g}", memory <= MEMORY_MB),
        Check("unexpected log lines", len(odd), "", "none", not odd),
    ]  # fmt: skip


def read_start_time(server: Server) -> str:
    return Path(f"/proc/{server.pid}/stat").read_text().rpartition(")")[2].split()[19]


def check_hostile_bodies(count: int, seed: int, arch: str = "resnet_tiny", pixels: int = 224) -> Result:
    """Send `count` bodies to a server, check its answers, log and memory, and return the report."""
    if count < 1:
        raise OpsError(f"--bodies must be 1 or more, not {count}.")
    made = make_release(arch, pixels)
    pictures = read_pictures(made / "model" / "golden.npz")
    with tempfile.TemporaryDirectory(prefix="kennel-fuzz-") as folder:
        log = Path(folder) / "log"
        with start_server(OURS, made, {"LOG_LEVEL": "debug"}, log) as server:
            request_golden_answers(server.port, pictures)
            first, birth = request_golden_answers(server.port, pictures), read_start_time(server)
            say(f"Attacking the server; it uses {read_server_peak(server):.0f} MB ...")
            attacks = attack_server(server, pictures[0])
            say(f"Sending {count} bodies of seed {seed}, {CALLERS} at a time ...")
            found = send_all_bodies(server.port, seed, count)
            slowest = repeat_slow_refusals(server.port, found)
            last = request_golden_answers(server.port, pictures)
            same = birth == read_start_time(server) and has_same_scores(last, first)
            memory = read_server_peak(server)
        odd, answered = inspect_log(log)
    save_faults(found, seed)
    for line in odd[:5]:
        say(f"  unexpected log line: {line}")
    every = attacks + list_fuzz_checks(found, count, slowest, memory, odd, same)
    pairs = [(after, before) for (after, _), (before, _) in zip(last, first, strict=True)]
    answer = measure.report_pairs(pairs, every, "golden pictures after the bodies", "golden pictures before")
    longest = {str(status): longest for status, longest in sorted(found.longest.items())}
    data = {"seed": seed, "bodies": count, "statuses": dict(found.statuses), "slowest": longest, "logged": answered}
    slow = [f"slowest {status}: {took:.2f} s, {what}" for status, (took, what) in longest.items()]
    return Result(answer.data | data, "\n".join([str(dict(found.statuses)), *slow, "", answer.text]), code=answer.code)


if __name__ == "__main__":
    sys.stdout.buffer.write(draw_body(int(sys.argv[1]), int(sys.argv[2])).data)

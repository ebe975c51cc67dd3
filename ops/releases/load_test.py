"""The load test: callers in a closed loop measure one server. The preflight runs it, and the result is kept with the release.

Each caller sends a picture, waits for the answer, and sends the next. A refused caller backs off by the server's Retry-After.
"""

from __future__ import annotations

import http.client
import random
import threading
import time
from dataclasses import dataclass
from itertools import cycle

TIMEOUT_S = 70.0  # SageMaker gives an invocation 60


@dataclass(frozen=True)
class LoadResult:
    """The (status, seconds) of every request, where 0 is a connection that failed; `seconds` is from the start to the last answer."""

    answers: list[tuple[int, float]]
    seconds: float

    def latencies(self, *statuses: int) -> list[float]:
        """Return the seconds of the answers with these statuses, shortest first."""
        return sorted(took for status, took in self.answers if status in statuses)

    @property
    def rate(self) -> float:
        """Return the successes a second."""
        return len(self.latencies(200)) / self.seconds

    @property
    def failed(self) -> int:
        """Return the number of answers that are neither a success nor a refusal."""
        return len(self.answers) - len(self.latencies(200, 503))


@dataclass(frozen=True)
class LoadTestResult:
    """The result of a load test: one server in a closed loop of `concurrency` callers, who send the golden pictures.

    `precision` is fp32 or bf16.
    """

    release: str
    vcpus: int
    cpu: str
    precision: str
    requests_per_second: float
    p50_ms: float
    p99_ms: float
    concurrency: int
    date: str


def compute_quantile(ordered: list[float], share: float) -> float:
    """Return the value below which `share` of them lie; NaN when there are none."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else float("nan")


def run_load(
    port: int, pictures: list[bytes], callers: int, seconds: float, kind: str = "application/x-image"
) -> LoadResult:
    """Run `callers` against a server on this machine. Requests under way at the end are waited for, and their time counts."""
    start = time.monotonic()
    until, ended = start + seconds, [start] * callers
    found: list[list[tuple[int, float]]] = [[] for _ in range(callers)]

    def call(number: int) -> None:
        draw, line = random.Random(number), None
        for picture in cycle(pictures[number % len(pictures) :] + pictures[: number % len(pictures)]):
            began = time.monotonic()
            if began > until:
                break
            line = line or http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
            status, wait = send_picture(line, picture, kind)
            ended[number] = time.monotonic()
            found[number].append((status, ended[number] - began))
            if not status:
                line = None
            time.sleep(max(0.0, min(draw.uniform(0.5, 1.5) * wait, until - time.monotonic())))

    threads = [threading.Thread(target=call, args=(number,), daemon=True) for number in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return LoadResult([answer for some in found for answer in some], max(ended) - start)


def send_picture(connection: http.client.HTTPConnection, picture: bytes, content_type: str) -> tuple[int, float]:
    """Send a picture; return (status, seconds to wait before the next)."""
    try:
        connection.request("POST", "/invocations", picture, {"Content-Type": content_type})
        answer = connection.getresponse()
        answer.read()
        wait = float(answer.headers.get("Retry-After", 0.5)) if answer.status == 503 else 0.0
        return answer.status, wait
    except (OSError, http.client.HTTPException):
        connection.close()
        return 0, 0.1

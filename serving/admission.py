"""Admission control: a bounded queue, an immediate 503 when it is full, and a deadline for every request."""

import asyncio
import contextlib
import os
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

QUEUED_PER_WORKER = 8  # queued requests per worker: a wait of about eight times one request's time
DEADLINE_S = 10.0  # from the first byte to the answer; SageMaker itself gives up after 60
NICE = 5  # of the workers: the thread that refuses requests and answers pings has priority

T = TypeVar("T")


class QueueFull(Exception):
    """The queue is full."""


class DeadlineExceeded(Exception):
    """The deadline passed before there was an answer."""


def reduce_priority() -> None:
    """Lower the priority of this thread and those it starts: Linux keeps niceness per thread."""
    with contextlib.suppress(AttributeError, OSError):
        os.setpriority(os.PRIO_PROCESS, 0, NICE)  # 0 is the calling thread


class Admission:
    """The queue and its workers: `workers` requests run at a time, and up to QUEUED_PER_WORKER times as many wait."""

    def __init__(self, workers: int) -> None:
        self.limit = workers * (1 + QUEUED_PER_WORKER)
        self.request_count = 0
        self.last_answer_at = time.monotonic()  # when a worker last answered; engines are verified before they serve
        self._pool = ThreadPoolExecutor(workers, "worker", initializer=reduce_priority)

    async def process(self, read: Callable[[], Awaitable[bytes]], work: Callable[[bytes], T]) -> T:
        """Return the result of `work` on the bytes that `read` returns. Raises QueueFull, DeadlineExceeded, and their errors."""
        if self.request_count >= self.limit:
            raise QueueFull
        self.request_count += 1
        began, task = time.monotonic(), None
        try:
            async with asyncio.timeout(DEADLINE_S):
                body = await read()
                task = asyncio.wrap_future(self._pool.submit(self._run_before_deadline, began, work, body))
                return await asyncio.shield(task)
        except TimeoutError as error:
            raise DeadlineExceeded from error
        finally:
            if task is None:
                self.request_count -= 1
            else:
                task.add_done_callback(self._finish_request)

    def _run_before_deadline(self, began: float, work: Callable[[bytes], T], body: bytes) -> T:
        """Run `work`, unless the deadline has passed: its caller has then stopped waiting. Raises DeadlineExceeded."""
        if time.monotonic() - began > DEADLINE_S:
            raise DeadlineExceeded
        answer = work(body)
        self.last_answer_at = time.monotonic()
        return answer

    def _finish_request(self, task: "asyncio.Future[T]") -> None:
        """Free a place in the queue once its work has ended, even if its caller stopped waiting earlier."""
        self.request_count -= 1
        if not task.cancelled():
            task.exception()

    def submit(self, work: Callable[[], T]) -> "Future[T]":
        """Run `work` on the workers without admission control, for the server's own checks."""
        return self._pool.submit(work)

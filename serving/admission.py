"""Admission control: a bounded queue, an immediate 503 when it is full, and a deadline for every request."""

import asyncio
import contextlib
import os
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

BODY_BYTES_PER_WORKER = 24_000_000  # of the bodies of all requests, from their first byte to their answer
READ_PER_WORKER = 64  # requests whose body is being read; half of the server's connections, so that pings still get one
QUEUED_PER_WORKER = 8  # queued requests per worker: a wait of about eight times one request's time
DEADLINE_S = 10.0  # from the first byte to the answer; SageMaker itself gives up after 60
NICE = 5  # of the workers: the thread that refuses requests and answers pings has priority

T = TypeVar("T")


class QueueFull(Exception):
    """The queue is full, or the bodies exceed what is held at once."""


class DeadlineExceeded(Exception):
    """The deadline passed before there was an answer."""


def reduce_priority() -> None:
    """Lower the priority of this thread and those it starts: Linux keeps niceness per thread."""
    with contextlib.suppress(AttributeError, OSError):
        os.setpriority(os.PRIO_PROCESS, 0, NICE)  # 0 is the calling thread


class Admission:
    """The queue and its workers: `workers` requests run at a time, and up to QUEUED_PER_WORKER times as many wait.

    A request takes its place once its body is complete: callers that send slowly hold no place.
    """

    def __init__(self, workers: int) -> None:
        self.limit = workers * (1 + QUEUED_PER_WORKER)
        self.reading_limit, self.body_limit = workers * READ_PER_WORKER, workers * BODY_BYTES_PER_WORKER
        self.request_count = self.reading_count = self.body_bytes = 0
        self.last_answer_at = time.monotonic()  # when a worker last answered; engines are verified before they serve
        self._pool = ThreadPoolExecutor(workers, "worker", initializer=reduce_priority)

    async def process(self, read: Callable[["Body"], Awaitable[bytes]], work: Callable[[bytes], T]) -> T:
        """Return the result of `work` on the bytes that `read` returns. Raises QueueFull, DeadlineExceeded, and their errors."""
        if self.request_count >= self.limit or self.reading_count >= self.reading_limit:
            raise QueueFull
        began, task, body = time.monotonic(), None, Body(self)
        try:
            async with asyncio.timeout(DEADLINE_S):
                data = await self._read(read, body)
                task = self._queue(lambda: self._run_before_deadline(began, work, data), body)
                return await asyncio.shield(task)
        except TimeoutError as error:
            raise DeadlineExceeded from error
        finally:
            if task is None:
                body.release()

    async def _read(self, read: Callable[["Body"], Awaitable[bytes]], body: "Body") -> bytes:
        self.reading_count += 1
        try:
            return await read(body)
        finally:
            self.reading_count -= 1

    def _queue(self, work: Callable[[], T], body: "Body") -> "asyncio.Future[T]":
        """Take a place until the work has ended, even if the caller stops waiting earlier. Raises QueueFull."""
        if self.request_count >= self.limit:
            raise QueueFull
        task = asyncio.wrap_future(self._pool.submit(work))
        self.request_count += 1
        task.add_done_callback(lambda task: self._finish_request(task, body))
        return task

    def _run_before_deadline(self, began: float, work: Callable[[bytes], T], body: bytes) -> T:
        """Run `work`, unless the deadline has passed: its caller has then stopped waiting. Raises DeadlineExceeded."""
        if time.monotonic() - began > DEADLINE_S:
            raise DeadlineExceeded
        answer = work(body)
        self.last_answer_at = time.monotonic()
        return answer

    def _finish_request(self, task: "asyncio.Future[T]", body: "Body") -> None:
        """Free the place and the body of a request whose work has ended."""
        self.request_count -= 1
        body.release()
        if not task.cancelled():
            task.exception()

    def submit(self, work: Callable[[], T]) -> "Future[T]":
        """Run `work` on the workers without admission control, for the server's own checks."""
        return self._pool.submit(work)


class Body:
    """The bytes of one request's body, counted among those of all."""

    def __init__(self, admission: Admission) -> None:
        self.admission, self.size = admission, 0

    def grow(self, size: int) -> None:
        """Count further bytes. Raises QueueFull when all bodies exceed the limit."""
        if self.admission.body_bytes + size > self.admission.body_limit:
            raise QueueFull
        self.admission.body_bytes += size
        self.size += size

    def release(self) -> None:
        self.admission.body_bytes -= self.size
        self.size = 0

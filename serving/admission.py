"""Who gets in: as many requests as can be answered in time, the others are told so at once; and none waits for ever."""

import asyncio
import contextlib
import os
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

WAITING = 8  # requests a worker may have in front of it: about eight times the time of one
DEADLINE_S = 10.0  # from the first byte to the answer; SageMaker itself gives up after 60
NICE = 5  # of the workers: the thread that refuses and answers pings comes first

T = TypeVar("T")


class Busy(Exception):
    """The line is full."""


class Late(Exception):
    """The deadline passed before there was an answer."""


def reduce_priority() -> None:
    """This thread, and those that it starts, after the others: Linux keeps niceness by thread."""
    with contextlib.suppress(AttributeError, OSError):
        os.setpriority(os.PRIO_PROCESS, 0, NICE)  # 0 is the calling thread


class Admission:
    """`workers` requests at a time are worked on, WAITING times as many wait."""

    def __init__(self, workers: int) -> None:
        self.limit = workers * (1 + WAITING)
        self.inside = 0
        self.answered_at = (
            time.monotonic()
        )  # when a worker last came to an answer; engines are proved before they serve
        self._pool = ThreadPoolExecutor(workers, "worker", initializer=reduce_priority)

    async def answer(self, read: Callable[[], Awaitable[bytes]], work: Callable[[bytes], T]) -> T:
        """What `work` makes of what was read. Raises Busy, Late, and what the two raise."""
        if self.inside >= self.limit:
            raise Busy
        self.inside += 1
        began, task = time.monotonic(), None
        try:
            async with asyncio.timeout(DEADLINE_S):
                body = await read()
                task = asyncio.wrap_future(self._pool.submit(self._run_before_deadline, began, work, body))
                return await asyncio.shield(task)
        except TimeoutError as error:
            raise Late from error
        finally:
            if task is None:
                self.inside -= 1
            else:
                task.add_done_callback(self._finish_request)

    def _run_before_deadline(self, began: float, work: Callable[[bytes], T], body: bytes) -> T:
        """Nobody waits any more for what is taken up after the deadline."""
        if time.monotonic() - began > DEADLINE_S:
            raise Late
        answer = work(body)
        self.answered_at = time.monotonic()
        return answer

    def _finish_request(self, task: "asyncio.Future[T]") -> None:
        """A place is free when its work has ended, not when somebody gave up waiting for it."""
        self.inside -= 1
        if not task.cancelled():
            task.exception()

    def run(self, work: Callable[[], T]) -> "Future[T]":
        """Beside the line: for the server's own checks."""
        return self._pool.submit(work)

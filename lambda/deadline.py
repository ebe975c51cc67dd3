"""The time that one event has: Lambda ends the function at its time limit, and the caller would get no answer."""

import queue
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

Value = TypeVar("Value")


class Deadline:
    """The moment by which a part of the work must have ended."""

    def __init__(self, seconds: float) -> None:
        self.ends = time.monotonic() + seconds

    def remaining(self) -> float:
        """Return the seconds that are left, 0 or more."""
        return max(0.0, self.ends - time.monotonic())


def call_within(seconds: float, function: Callable[[], Value]) -> Value:
    """Return what `function` returns. Raises what it raises, and TimeoutError when it takes longer.

    A time-out of a socket restarts with every byte, and that of a name server belongs to the system. So the call runs in a thread,
    which is left behind when it is late.
    """
    if seconds <= 0:
        raise TimeoutError
    results: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()

    def run() -> None:
        try:
            results.put((function(), None))
        except BaseException as error:
            results.put((None, error))

    threading.Thread(target=run, daemon=True).start()
    try:
        value, error = results.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError from None
    if error:
        raise error
    found: Value = value
    return found

"""Ctrl-C. The first one raises KeyboardInterrupt and is remembered; a second one ends the process at once.

An exception that a signal raises can get lost: in a finalizer, or in a library that catches everything. So a plan looks before
each step, and each poll of a wait, whether there was an interrupt.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ops.core.errors import INTERRUPTED

SENTENCE = "Interrupted. Run the same command again: it goes on from what is there."
EARLY = "Interrupted before anything was done.\n"
was_interrupted = False


def end_early(*_: Any) -> None:
    """End the process without a traceback, while commands are loaded: nothing has begun that has to be ended."""
    os.write(2, EARLY.encode())
    os._exit(INTERRUPTED)


def interrupt(*_: Any) -> None:
    global was_interrupted
    if was_interrupted:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    was_interrupted = True
    raise KeyboardInterrupt


def check() -> None:
    """Raise KeyboardInterrupt once more if the one that a signal raised was lost."""
    if was_interrupted:
        raise KeyboardInterrupt


def handle_early() -> None:
    """Handle Ctrl-C before a command runs; one that is ignored stays so."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, end_early)


@contextmanager
def handled() -> Iterator[None]:
    """Handle Ctrl-C while a command runs. What a finalizer would print of it is left out: the next step reports it."""
    global was_interrupted
    was_interrupted = False
    before, hook = signal.getsignal(signal.SIGINT), sys.unraisablehook
    if before is signal.SIG_IGN or threading.current_thread() is not threading.main_thread():
        yield
        return

    def report(unraisable: Any) -> None:
        if not isinstance(unraisable.exc_value, KeyboardInterrupt):
            hook(unraisable)

    signal.signal(signal.SIGINT, interrupt)
    sys.unraisablehook = report
    try:
        yield
    finally:
        sys.unraisablehook = hook
        signal.signal(signal.SIGINT, before)

"""The standard streams: those that the shell closed (`>&-`), and those whose reader closes them (`| head`) or whose disk is full."""

from __future__ import annotations

import errno
import os
import select
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from invoke.exceptions import Exit

MODES = (("stdin", "r"), ("stdout", "w"), ("stderr", "w"))


def open_closed_streams() -> None:
    """Open the null device in place of each standard stream that is closed.

    Python has None there, and print() with None for stderr writes to stdout. The next file opened would get the number 1,
    and what a child prints would go into it.
    """
    for number, (name, mode) in enumerate(MODES):
        if getattr(sys, name) is None:
            null = os.open(os.devnull, os.O_RDWR)
            if null != number:
                os.dup2(null, number)
                os.close(null)
            setattr(sys, name, open(number, mode, closefd=False))  # noqa: SIM115  it lives as long as the process


@contextmanager
def end_on_lost_output() -> Iterator[None]:
    """End the command as a shell ends one whose reader closed its output, as `head` does: code 141 and not a word.

    Other errors of writing pass; after them, stdout goes to the null device, so that nothing is raised as the process ends.
    """
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except BrokenPipeError as error:
        if not any(map(has_lost_reader, (sys.stdout, sys.stderr))):  # a socket's, perhaps
            raise
        discard_output()
        raise Exit(code=128 + signal.SIGPIPE) from error
    except OSError as error:
        if error.errno == errno.ENOSPC:
            discard_output()
        raise


def has_lost_reader(stream: Any) -> bool:
    found = select.poll()
    found.register(stream.fileno(), 0)  # POLLERR is reported without being asked for
    return any(event & select.POLLERR for _, event in found.poll(0))


def discard_output() -> None:
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)

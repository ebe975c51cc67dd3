"""Run a command line of Invoke in this process, with what a process of its own would see: its arguments, environment, streams.

What a process starts with is put back when the command ends: the working folder, the environment, sys.path, signal handlers.
Standard streams are replaced as file descriptors, so that what a child of the command prints is captured too.
"""

import copy
import os
import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import botocore.client
import botocore.loaders
import botocore.session
import invoke
from invoke import Program

from ops.core import running, settings_files
from ops.core.aws.account import Account
from ops.core.aws.new_resources import NewResources
from ops.core.paths import ROOT

# botocore reads the megabytes that describe AWS's services again for each session; the suite makes a thousand. One loader serves
# them all, as it serves all clients of a session.
LOADER = botocore.loaders.create_loader()
botocore.session.create_loader = lambda path=None: botocore.loaders.create_loader(path) if path else LOADER

# A client's class has a method for each of a service's operations, 800 of EC2: 5 to 10 ms of CPU, for each client of a command.
CLASSES: dict[str, type] = {}
create_class = botocore.client.ClientCreator._create_client_class


def create_class_once(self: Any, service_name: str, service_model: Any) -> type:
    if service_name not in CLASSES:
        CLASSES[service_name] = create_class(self, service_name, service_model)
    return CLASSES[service_name]


botocore.client.ClientCreator._create_client_class = create_class_once

# A command reads invoke.yaml three times, at 7 ms of CPU. What was read from the same text is the same.
SETTINGS: dict[tuple[str | bytes, ...], dict[str, Any]] = {}
read_from_disk = settings_files.read_settings_file


def read_settings_once(name: str, known: dict[str, Any], closed: Collection[str] = ()) -> dict[str, Any]:
    content = Path(name).read_bytes() if Path(name).is_file() else b""
    key = (name, content, repr(known), *sorted(closed))
    if key not in SETTINGS:
        SETTINGS[key] = read_from_disk(name, known, closed)
    return copy.deepcopy(SETTINGS[key])


settings_files.read_settings_file = read_settings_once

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE, signal.SIGALRM, signal.SIGWINCH)
THREADS_S = 30.0
interpreter = sys.executable  # what commands, and the sandbox that they start, take for theirs; conftest sets it


@dataclass(frozen=True)
class Ran:
    """The exit code of a command, and what it wrote to stdout and stderr."""

    code: int
    out: str
    err: str

    @property
    def said(self) -> str:
        return self.out + self.err


def run_invoke(words: list[str], env: dict[str, str]) -> Ran:
    """Run `invoke WORDS` in the checkout, and return what a process would have: exit code, stdout, stderr.

    Raises RuntimeError outside of the main thread, since standard streams and the environment belong to the whole process.
    """
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("A command in this process needs the main thread; use cli.typed(...) in others.")
    threads = set(threading.enumerate())
    with process_state(env), captured() as texts:
        code = exit_code_of(["invoke", *words])
        join_threads(threads)
    return Ran(code, *texts)


def exit_code_of(argv: list[str]) -> int:
    """Run Invoke's own program, as `python -m invoke` does. An exception that nothing catches prints its traceback: code 1."""
    try:
        Program(name="Invoke", binary="inv[oke]", binary_names=["invoke", "inv"], version=invoke.__version__).run(argv)
    except SystemExit as error:
        if isinstance(error.code, str):
            print(error.code, file=sys.stderr)
            return 1
        return error.code or 0
    except BaseException:  # as the interpreter does at its very end
        traceback.print_exc()
        return 1
    return 0


def join_threads(before: set[threading.Thread]) -> None:
    """Wait, as an interpreter does before it exits, for threads that the command started and that are no daemons."""
    for thread in set(threading.enumerate()) - before:
        if not thread.daemon:
            thread.join(THREADS_S)
            if thread.is_alive():
                raise RuntimeError(
                    f"The command left the thread {thread.name} behind, which would keep its process alive."
                )


@contextmanager
def process_state(env: dict[str, str]) -> Iterator[None]:
    """Add `env` to the environment and work in the checkout; put back everything that a command may change in this process."""
    environment, folder, path, command = dict(os.environ), Path.cwd(), list(sys.path), running.command
    collection, bytecode, argv = running.collection, sys.dont_write_bytecode, sys.argv
    handlers, executable = {number: signal.getsignal(number) for number in SIGNALS}, sys.executable
    os.environ.update(env)
    os.chdir(ROOT)
    sys.executable = interpreter
    Account.created = NewResources()
    try:
        yield
    finally:
        sys.executable = executable
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        sys.path[:], sys.argv, sys.dont_write_bytecode = path, argv, bytecode
        running.command, running.collection = command, collection
        for number, handler in handlers.items():
            if signal.getsignal(number) is not handler:
                signal.signal(number, handler)


@contextmanager
def captured() -> Iterator[list[str]]:
    """Replace the standard streams: stdin is empty and no terminal. The list has what stdout and stderr got, once this ends."""
    texts: list[str] = []
    outside: tuple[Any, Any, Any] = sys.stdin, sys.stdout, sys.stderr
    for stream in outside[1:]:
        stream.flush()
    saved = [os.dup(number) for number in (0, 1, 2)]
    with Path(os.devnull).open("rb") as nothing, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        for number, file in enumerate((nothing, out, err)):
            os.dup2(file.fileno(), number)
        sys.stdin = open(0, closefd=False)  # noqa: SIM115  the descriptors are the process's, and stay open
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", buffering=1, errors="backslashreplace", closefd=False)  # noqa: SIM115
        try:
            yield texts
        finally:
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
            sys.stdin, sys.stdout, sys.stderr = outside
            for number, copy in enumerate(saved):
                os.dup2(copy, number)
                os.close(copy)
            for file in (out, err):
                file.seek(0)
                texts.append(file.read().decode(errors="replace"))

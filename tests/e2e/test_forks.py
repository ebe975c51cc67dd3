"""The interpreter of tests/forked_python.py: a fork is to its process what the program would be."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.forked_python import make_interpreter
from tests.forks import ADDRESS

PROGRAM = """
import os, signal, sys, time
print(os.getpid(), os.environ.get("GIVEN"), flush=True)
if sys.argv[1] == "exit":
    raise SystemExit("said at the end")
if sys.argv[1] == "catch":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
print("ready", flush=True)
time.sleep(60)
"""


@pytest.fixture
def start(tmp_path):
    (tmp_path / "train.py").write_text(PROGRAM)
    python = make_interpreter(tmp_path / "python", os.environ[ADDRESS])
    started = []

    def begin(word):
        """(the process, the id of its fork) once the program is ready."""
        argv, pipe = [str(python), str(tmp_path / "train.py"), word], subprocess.PIPE
        process = subprocess.Popen(argv, stdout=pipe, stderr=pipe, text=True, env=os.environ | {"GIVEN": "this"})
        started.append(process)
        fork, given = process.stdout.readline().split()
        assert given == "this"
        assert int(fork) != process.pid
        return process, int(fork)

    yield begin
    for process in started:
        process.kill()


def state_of(fork):
    """The letter that ps prints, or "" when it has ended."""
    path = Path(f"/proc/{fork}/stat")
    return path.read_text().rpartition(")")[2].split()[0] if path.exists() else ""


def wait_until(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_process_ends_as_its_fork_did(start):
    process, _ = start("exit")
    assert (process.wait(30), process.stderr.read()) == (1, "said at the end\n")


@pytest.mark.parametrize(("word", "code"), [("catch", 143), ("default", -signal.SIGTERM)])
def test_signals_are_passed_on(start, word, code):
    process, _ = start(word)
    assert process.stdout.readline() == "ready\n"
    process.terminate()
    assert process.wait(30) == code


def test_fork_stops_and_is_killed_with_its_process(start):
    process, fork = start("default")
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGSTOP)
    wait_until(lambda: state_of(fork) == "T")
    process.send_signal(signal.SIGCONT)
    wait_until(lambda: state_of(fork) == "S")
    process.kill()
    wait_until(lambda: state_of(fork) == "")

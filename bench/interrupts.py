"""Ctrl-C at random moments of commands as typed, each in a terminal of its own, on a local AWS of their own.

An interrupted command is run again to its end, so that each press meets one that has work to do. Each round works on a new stack.
"""

from __future__ import annotations

import os
import pty
import random
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path

from bench.paired_timing import Check
from ops.core.errors import FAILED, INTERRUPTED, OpsError
from ops.core.output import format_table, say
from ops.core.paths import ROOT
from ops.core.task import Result

ROUND = (("iam.apply",), ("data.up",), ("net.up",), ("ec2.up",), ("ec2.down", "--yes"), ("net.down", "--yes"))
SENTENCE = "Interrupted"
WITHIN_S = 2.0
CHANGES = ("+ ", "~ ", "- ")  # a line of a plan begins with one of them
LOADING = -signal.SIGINT  # while Python loads Invoke: nothing of Kennel has run


@dataclass(frozen=True)
class Press:
    """A press of Ctrl-C, `after` seconds from the command's start; `took` is from the press to the command's end."""

    command: str
    after: float
    code: int
    took: float
    wrong: str

    @property
    def is_interrupted(self) -> bool:
        return self.code == INTERRUPTED


class Terminal:
    """Commands of one stack, as typed."""

    def __init__(self, file: Path, stack: str) -> None:
        self.file, self.env = file, {**os.environ, "INVOKE_STACK_NAME": stack}

    def run(self, *words: str) -> tuple[float, str]:
        """Return (seconds, output). Raises OpsError when the command fails."""
        began = time.monotonic()
        done = subprocess.run(
            self.build_argv(words), cwd=ROOT, env=self.env, stdin=subprocess.DEVNULL, capture_output=True, text=True
        )
        if done.returncode:
            raise OpsError(f"invoke {' '.join(words)} ended with exit code {done.returncode}: {done.stderr[-1000:]}")
        return time.monotonic() - began, done.stdout + done.stderr

    def build_argv(self, words: tuple[str, ...]) -> list[str]:
        return [sys.executable, "-m", "invoke", "-f", str(self.file), *words]

    def interrupt(self, words: tuple[str, ...], after: float) -> tuple[int, str, float]:
        """Run the command, press Ctrl-C after so many seconds; return (exit code, output, seconds from the press to its end)."""
        ours, theirs = pty.openpty()
        process = subprocess.Popen(
            self.build_argv(words), cwd=ROOT, env=self.env, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
        )  # fmt: skip
        os.close(theirs)
        said, pressed, began = b"", 0.0, time.monotonic()
        while True:
            if not pressed and time.monotonic() - began > after:
                process.send_signal(signal.SIGINT)
                pressed = time.monotonic()
            if select.select([ours], [], [], 0.01)[0]:
                try:
                    said += os.read(ours, 65536)
                except OSError:  # the terminal's last process has ended
                    break
            elif process.poll() is not None:
                break
        os.close(ours)
        code = process.wait()
        return code, said.decode(errors="replace"), time.monotonic() - pressed if pressed else 0.0


def judge(code: int, said: str) -> str:
    """Return what is wrong with an interrupted command's end, "" for nothing."""
    if code == LOADING or is_python_start(code, said):
        return ""
    if "Traceback" in said:
        return f"a traceback: {said[-500:]}"
    if code not in (0, INTERRUPTED):
        return f"exit code {code}: {said[-500:]}"
    if code == INTERRUPTED and SENTENCE not in said:
        return f"exit code {code} without a sentence: {said[-500:]}"
    return ""


def is_python_start(code: int, said: str) -> bool:
    """Return whether Python was still starting itself: it then ends with 1, after a traceback that names no file of the checkout."""
    return code == 1 and said.rstrip().endswith("KeyboardInterrupt") and str(ROOT / "ops") not in said


def press_in_rounds(file: Path, presses: int, seed: int) -> Iterator[Press]:
    """Yield one press after the other. The times are drawn from the duration of each command, measured once."""
    draw = random.Random(seed)
    longest = {words: Terminal(file, "whole").run(*words)[0] for words in ROUND}
    numbers = iter(range(presses))
    for stack in count(1):
        terminal = Terminal(file, f"round{stack}")
        for words in ROUND:
            if next(numbers, None) is None:
                return
            yield press_once(terminal, words, draw.uniform(0, longest[words]))


def press_once(terminal: Terminal, words: tuple[str, ...], after: float) -> Press:
    """Interrupt the command, run it again to its end, and see that a third run would change nothing."""
    code, said, took = terminal.interrupt(words, after)
    wrong = judge(code, said)
    try:
        terminal.run(*words)
        left = [line for line in terminal.run("--dry", *words)[1].splitlines() if line.startswith(CHANGES)]
        wrong = wrong or (f"a third run would still change: {left[0]}" if left else "")
    except OpsError as error:
        wrong = wrong or f"run again: {error.message}"
    return Press(" ".join(words), round(after, 3), code, round(took, 3), wrong)


def list_checks(found: list[Press]) -> list[Check]:
    wrong = [one for one in found if one.wrong]
    slowest = max((one.took for one in found if one.is_interrupted), default=0.0)
    hits = sum(one.is_interrupted for one in found)
    return [
        Check("presses that did not end right", len(wrong), "", "0", not wrong),
        Check("slowest end after a press", round(slowest, 2), "s", f"at most {WITHIN_S:g}", slowest <= WITHIN_S),
        Check("commands that a press interrupted", hits, "", "at least 1", hits > 0),
    ]


def interrupt_commands(presses: int, seed: int) -> Result:
    """Press Ctrl-C so often and report. Raises OpsError when a command fails that nothing interrupts."""
    if presses < 1:
        raise OpsError(f"--presses must be 1 or more, not {presses}.")
    with tempfile.TemporaryDirectory(prefix="kennel-interrupts-", ignore_cleanup_errors=True) as name:
        file = Path(name) / "settings.yaml"
        file.write_text(f"aws: {{config_file: {name}/sandbox/aws/config}}\n")
        controls = Terminal(file, "whole")
        controls.run("sandbox.up")
        found: list[Press] = []
        try:
            for press in press_in_rounds(file, presses, seed):
                found.append(press)
                say(
                    f"  {len(found)} of {presses}: {press.command} after {press.after:.2f} s: {press.wrong or press.code}"
                )
        finally:
            controls.run("sandbox.down")
    return report_presses(found, seed)


def report_presses(found: list[Press], seed: int) -> Result:
    checks = list_checks(found)
    codes = Counter(one.code for one in found)
    words: Mapping[int, str] = {
        0: "had ended before", INTERRUPTED: "interrupted", LOADING: "while Python loaded", 1: "while Python started",
    }  # fmt: skip
    rows = [(words.get(code, f"exit code {code}"), str(times)) for code, times in codes.most_common()]
    lines = [f"{'ok' if one.ok else 'FAILED'}  {one.name}: {one.value:g} {one.unit} ({one.bound})" for one in checks]
    text = "\n".join([format_table(("press", "times"), rows), "", *lines])
    data = {"presses": [asdict(one) for one in found], "checks": [asdict(one) for one in checks], "seed": seed}
    return Result(data, text, code=0 if all(one.ok for one in checks) else FAILED)

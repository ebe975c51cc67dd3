"""Ctrl-C: a lost exception stops the plan at its next step, and a second one ends the process."""

import signal
import subprocess
import sys

import pytest

from ops.core import interrupts, plan
from ops.core.plan import Change


def test_lost_interrupt_stops_the_plan_at_its_next_step():
    """An interrupt that a library swallowed is raised again before the next change."""
    made = []

    def steps():
        yield Change("ec2", "delete_subnet", {}, why="first")
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            made.append("lost")
        yield Change("ec2", "delete_vpc", {}, why="second")

    with interrupts.handled(), pytest.raises(KeyboardInterrupt):
        list(plan.walk_steps(steps(), lambda step: made.append(step.why)))
    assert made == ["first", "lost"]
    with interrupts.handled():
        interrupts.check()  # the next command begins without it


def test_second_interrupt_ends_the_process():
    code = """if True:
        import signal
        from ops.core import interrupts
        with interrupts.handled():
            for number in range(2):
                try:
                    signal.raise_signal(signal.SIGINT)
                except KeyboardInterrupt:
                    print("lost", number, flush=True)
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (-signal.SIGINT, "lost 0\n"), done.stderr


def test_early_interrupt_is_a_sentence():
    code = "import invoke.main, signal, tasks; signal.raise_signal(signal.SIGINT); print('went on')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", interrupts.EARLY)

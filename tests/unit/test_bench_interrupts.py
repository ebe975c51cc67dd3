"""What bench.interrupts takes for a right end of an interrupted command."""

import pytest

from bench import interrupts
from ops.core.paths import ROOT

SAID = "Interrupted. Run the same command again: it goes on from what is there."


@pytest.mark.parametrize(
    ("code", "said", "wrong"),
    [
        (130, SAID, ""),
        (0, "The network of demo is ready.", ""),
        (-2, "Traceback (most recent call last):", ""),
        (1, 'File "/usr/lib/python3.11/enum.py", line 834, in __setattr__\nKeyboardInterrupt\r\n', ""),
        (1, f'Traceback\nFile "{ROOT}/ops/core/plan.py", line 8, in apply\nKeyboardInterrupt\r\n', "a traceback"),
        (130, "+ ec2.create_vpc", "exit code 130 without a sentence"),
        (130, f"Traceback (most recent call last):\n{SAID}", "a traceback"),
        (1, "AWS refused", "exit code 1"),
        (-9, "", "exit code -9"),
    ],
    ids=[
        "interrupted",
        "ended",
        "loading",
        "starting",
        "interrupt in a plan",
        "no sentence",
        "traceback",
        "failed",
        "killed",
    ],
)
def test_end_of_an_interrupted_command_is_judged(code, said, wrong):
    assert interrupts.judge(code, said).startswith(wrong)
    assert bool(interrupts.judge(code, said)) == bool(wrong)


def press(code, took=0.1, wrong=""):
    return interrupts.Press("net.up", 0.5, code, took, wrong)


@pytest.mark.parametrize(
    ("found", "right"),
    [
        ([press(130), press(0)], [True, True, True]),
        ([press(130), press(130, wrong="exit code 1")], [False, True, True]),
        ([press(130, took=2.5)], [True, False, True]),
        ([press(0), press(-2)], [True, True, False]),
    ],
    ids=["right", "wrong", "slow", "none interrupted"],
)
def test_checks_follow_the_presses(found, right):
    assert [one.ok for one in interrupts.list_checks(found)] == right
    assert interrupts.report_presses(found, 0).code == (0 if all(right) else 1)

"""Whatever started the tests, what they start can be interrupted: nohup, a shell's `&` and some runners ignore signals, and children inherit that."""

import signal
import subprocess
import sys

from ops.core.paths import ROOT
from tests.conftest import TERMINATION_SIGNALS

IGNORED = "import re; print(re.search(r'SigIgn:\\s*(\\w+)', open('/proc/self/status').read())[1])"


def test_child_processes_ignore_no_ending_signal():
    said = subprocess.run([sys.executable, "-c", IGNORED], capture_output=True, text=True, check=True).stdout
    assert [s.name for s in TERMINATION_SIGNALS if int(said, 16) >> (s - 1) & 1] == []


def test_signals_work_under_a_parent_that_ignores_them():
    def ignore():
        for number in TERMINATION_SIGNALS:
            signal.signal(number, signal.SIG_IGN)

    test = f"{__file__}::{test_child_processes_ignore_no_ending_signal.__name__}"
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", test]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, preexec_fn=ignore, timeout=120, check=False)
    assert "1 passed" in done.stdout, done.stdout + done.stderr

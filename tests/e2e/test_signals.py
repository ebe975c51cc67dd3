"""Whatever started the tests, what they start can be interrupted: nohup, a shell's `&` and some runners ignore signals, and children inherit that."""

import signal
import subprocess
import sys

from ops.core.paths import ROOT
from tests.conftest import NEEDED_SIGNALS

IGNORED = "import re; print(re.search(r'SigIgn:\\s*(\\w+)', open('/proc/self/status').read())[1])"


def test_a_child_ignores_none_of_the_signals_that_end_things():
    said = subprocess.run([sys.executable, "-c", IGNORED], capture_output=True, text=True, check=True).stdout
    assert [s.name for s in NEEDED_SIGNALS if int(said, 16) >> (s - 1) & 1] == []


def test_it_holds_where_the_parent_of_the_tests_ignores_them():
    def ignore():
        for number in NEEDED_SIGNALS:
            signal.signal(number, signal.SIG_IGN)

    test = f"{__file__}::{test_a_child_ignores_none_of_the_signals_that_end_things.__name__}"
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", test]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, preexec_fn=ignore, timeout=120, check=False)
    assert "1 passed" in done.stdout, done.stdout + done.stderr

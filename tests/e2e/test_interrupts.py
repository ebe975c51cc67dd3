"""Ctrl-C at random moments of commands as typed, in a terminal."""

import os
import pty
import random
import select
import signal
import subprocess
import time

from ops.core.paths import ROOT

ROUNDS = 5
END_S = 10.0  # on a machine of which seven others share the cores


def interrupt_after(argv, seconds):
    """Run the command in a terminal of its own, press Ctrl-C after so many seconds; return (exit code, output, seconds to its end)."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(argv, cwd=ROOT, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True)
    os.close(theirs)
    said, pressed, began = b"", 0.0, time.monotonic()
    while True:
        now = time.monotonic()
        if not pressed and now - began > seconds:
            process.send_signal(signal.SIGINT)
            pressed = now
        if select.select([ours], [], [], 0.01)[0]:
            try:
                chunk = os.read(ours, 65536)
            except OSError:  # the terminal's last process has ended
                break
            said += chunk
        elif process.poll() is not None:
            break
    os.close(ours)
    code = process.wait()
    return code, said.decode(errors="replace"), time.monotonic() - pressed if pressed else 0.0


def test_interrupted_commands_end_with_130_and_resume(make_stack):
    """The network is made and deleted under Ctrl-C: no traceback, none swallowed, and the next run finishes."""
    cli, chance = make_stack("interrupts"), random.Random(18)
    hits = 0
    for _ in range(ROUNDS):
        for words in (("net.up",), ("net.down", "--yes")):
            code, said, took = interrupt_after(cli.argv(*words), chance.uniform(0.3, 2.5))
            assert "Traceback" not in said, said
            assert code in (0, 130, -signal.SIGINT), said
            if code == 130:
                hits += 1
                assert "Interrupted" in said, said
                assert took < END_S
    assert hits > 0
    cli("net.up")
    assert cli("net.up").out.endswith("0 made\n")
    cli("net.down", "--yes")

"""What `invoke --list` costs before any command does anything, in CPU time: against `invoke --version` and `aws --version`."""

from __future__ import annotations

import shutil
import subprocess
import sys

from bench import opponents
from bench.paired_timing import Check, cpu_seconds, in_turn, report, times_better
from ops.core.errors import OpsError
from ops.core.output import say
from ops.core.task import Result

MOST = 1.35  # times the CPU time of `invoke --version`


def find_aws() -> str | None:
    """Return an AWS CLI that runs: that of .venv-bench, or one on the PATH."""
    for program in (str(opponents.VENV / "bin" / "aws"), shutil.which("aws")):
        if program and shutil.which(program) and not subprocess.run([program, "--version"], capture_output=True, check=False).returncode:  # fmt: skip
            return program
    return None


def bench(pairs: int) -> Result:
    """Measure, check, report."""
    if pairs < 1:
        raise OpsError("--pairs takes 1 or more.")
    invoke = [sys.executable, "-m", "invoke"]
    ours, theirs = [*invoke, "--list"], [*invoke, "--version"]
    found = in_turn(lambda: cpu_seconds(ours), lambda: cpu_seconds(theirs), pairs)
    cost = 1 / times_better(found)
    checks = [Check("invoke --list against invoke --version, CPU time", cost, "x", f"at most {MOST:g}", cost <= MOST)]
    if aws := find_aws():
        against = in_turn(lambda: cpu_seconds(ours), lambda: cpu_seconds([aws, "--version"]), pairs)
        ratio = times_better(against)
        checks.append(Check("aws --version against invoke --list, CPU time", ratio, "x", "at least 1", ratio >= 1))
    else:
        say(f"No AWS CLI to compare with: {opponents.INSTALL}")
    return report(found, checks, "invoke --list", "invoke --version")

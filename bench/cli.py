"""The benchmark of `invoke --list`: its CPU time against `invoke --version` and `aws --version`."""

from __future__ import annotations

import shutil
import subprocess
import sys

from bench import opponents
from bench.paired_timing import Check, compute_speedup, measure_cpu_time, measure_pairs, report_pairs
from ops.core.errors import OpsError
from ops.core.output import say
from ops.core.task import Result

MOST_RATIO = 1.35  # times the CPU time of `invoke --version`


def find_aws() -> str | None:
    """Return an AWS CLI that runs, from .venv-bench or else the PATH; None if there is none."""
    for program in (str(opponents.VENV / "bin" / "aws"), shutil.which("aws")):
        if program and shutil.which(program) and not subprocess.run([program, "--version"], capture_output=True, check=False).returncode:  # fmt: skip
            return program
    return None


def measure_cli_start(pairs: int) -> Result:
    """Measure `pairs` pairs, check the ratios and return the report."""
    if pairs < 1:
        raise OpsError(f"--pairs must be 1 or more, not {pairs}.")
    invoke = [sys.executable, "-m", "invoke"]
    ours, theirs = [*invoke, "--list"], [*invoke, "--version"]
    found = measure_pairs(lambda: measure_cpu_time(ours), lambda: measure_cpu_time(theirs), pairs)
    cost = 1 / compute_speedup(found)
    checks = [
        Check(
            "invoke --list against invoke --version, CPU time", cost, "x", f"at most {MOST_RATIO:g}", cost <= MOST_RATIO
        )
    ]
    if aws := find_aws():
        against = measure_pairs(lambda: measure_cpu_time(ours), lambda: measure_cpu_time([aws, "--version"]), pairs)
        ratio = compute_speedup(against)
        checks.append(Check("aws --version against invoke --list, CPU time", ratio, "x", "at least 1", ratio >= 1))
    else:
        say(f"aws --version is not measured: there is no AWS CLI. Install it: {opponents.INSTALL}")
    return report_pairs(found, checks, "invoke --list", "invoke --version")

"""Paired measurements: on a host with shared cores, only runs that alternate can be compared."""

from __future__ import annotations

import os
import platform
import resource
import statistics
import subprocess
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from ops.core.errors import FAILED
from ops.core.output import format_table, say
from ops.core.paths import ROOT
from ops.core.task import Result


@dataclass(frozen=True)
class Check:
    name: str
    value: float
    unit: str
    bound: str
    ok: bool


def measure_cpu_time(argv: list[str]) -> float:
    """Return the user and system time of a process and its children, in seconds; a busy neighbour hardly changes it.

    Bytecode is cached, as in normal use, by the unmeasured round.
    """
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(argv, cwd=ROOT, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measure_pairs(ours: Callable[[], float], theirs: Callable[[], float], pairs: int) -> list[tuple[float, float]]:
    """Return (ours, theirs) pairs, measured alternately after one unmeasured round of each."""
    ours(), theirs()
    return [(ours(), theirs()) for _ in range(pairs)]


def compute_speedup(pairs: list[tuple[float, float]]) -> float:
    """Return the median over pairs of theirs / ours; above 1, ours costs less."""
    return statistics.median(theirs / ours for ours, theirs in pairs)


def report_pairs(pairs: list[tuple[float, float]], checks: list[Check], ours: str, theirs: str) -> Result:
    """Return the object that every benchmark prints with --json, with exit code 1 when a check fails."""
    data: dict[str, Any] = {
        "ratio": round(compute_speedup(pairs), 3),
        "pairs": [[round(a, 4), round(b, 4)] for a, b in pairs],
        "checks": [asdict(check) for check in checks],
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}",
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "commands": {"ours": ours, "theirs": theirs},
    }
    say(f"Measured {len(pairs)} pairs: {ours} (ours) and {theirs} (theirs), on {data['machine']}")
    rows = [("ok" if c.ok else "FAILED", c.name, f"{c.value:.3f} {c.unit}", c.bound) for c in checks]
    return Result(
        data, format_table(("", "check", "value", "bound"), rows), code=0 if all(c.ok for c in checks) else FAILED
    )

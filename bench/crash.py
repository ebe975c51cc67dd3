"""The check that every workflow can be killed, and can lose an answer: run again, it ends as an uninterrupted run does.

tests/crash/ makes the trials, each ring of workflows on a local AWS of its own. A whole run writes docs/reliability.md.
"""

from __future__ import annotations

import json
import math
import os
import platform
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.needed_actions import format_markdown_table
from bench.paired_timing import Check
from ops.core.errors import FAILED, OpsError
from ops.core.output import format_table, say
from ops.core.paths import ROOT
from ops.core.task import Result

PAGE_POINTS = 500  # a smaller sample does not write the page
PAGE = ROOT / "docs" / "reliability.md"
RINGS = ("network", "roles", "endpoint", "function", "box", "image", "training", "old", "pictures", "spot")
PER_RING = 10  # trials of a ring in a sample; a ring takes seconds before its first
STOPS_AT_MOST = 0.05  # of the runs that lost an answer; the next run goes on
COLUMNS = (
    "workflow",
    "changing calls",
    "killed",
    "failed",
    "answers lost",
    "stopped",
    "failed",
    "throttled",
    "failed",
    "times as long",
)

NOT_TRIED = (
    "## What this does not look at",
    "- Stand-ins take the place of training, of packaging and the preflight, of the serving image and of the function's code",
    "  (`tests/crash/stand_ins.py`). So no kill hits a child process of a command, nor a job.",
    "- The account is compared without ids, addresses, dates, sizes and version numbers, without the history of deployments, where a",
    "  killed one stays as unfinished, and only in the services that the workflow changes.",
    "- Of `iam.apply` in a new account each third answer is lost, and it is killed after each call, not before each.",
    "- A crash of the operator's machine, where the disk loses what was just written, is not tried. Nor are two faults in one run, nor AWS's",
    "  own delays after a crash.",
    "- `sm.tune`, `sm.reap`, `ec2.sync`, `ec2.train`, `iam.revoke`, `data.use` and `data.weights` are not among the workflows.",
    "- The local AWS is not AWS: `sandbox/README.md` says how it differs.",
)


@dataclass
class Row:
    """What happened to one workflow. `slower` is how many times as long its throttled runs took as the undisturbed one.

    `trials` is the number of those that there are.
    """

    workflow: str
    calls: int = 0
    seconds: float = 0.0
    trials: int = 0
    killed: int = 0
    killed_wrong: int = 0
    lost: int = 0
    lost_stopped: int = 0
    lost_wrong: int = 0
    throttled: int = 0
    throttled_wrong: int = 0
    slower: float = 0.0

    def add(self, outcome: dict[str, Any]) -> None:
        fault, wrong, stopped = outcome["fault"], bool(outcome["wrong"]), bool(outcome["stopped"])
        if fault["kill"]:
            self.killed, self.killed_wrong = self.killed + 1, self.killed_wrong + wrong
        elif fault["lost"]:
            self.lost, self.lost_stopped, self.lost_wrong = (
                self.lost + 1,
                self.lost_stopped + stopped,
                self.lost_wrong + wrong,
            )
        elif fault["throttled"]:
            self.throttled, self.throttled_wrong = self.throttled + 1, self.throttled_wrong + (wrong or stopped)
            self.slower = max(self.slower, outcome["seconds"] / self.seconds)

    def cells(self) -> tuple[object, ...]:
        slower = f"{self.slower:.1f}" if self.throttled else ""
        numbers = (self.calls, self.killed, self.killed_wrong, self.lost, self.lost_stopped, self.lost_wrong)
        return (self.workflow, *numbers, self.throttled, self.throttled_wrong, slower)


def measure_crashes(points: int, seed: int) -> Result:
    """Make all trials, or a sample of about `points`; return the report. Raises OpsError when no trial could be made."""
    began = time.monotonic()
    rings = random.Random(seed).sample(RINGS, max(1, min(points // PER_RING, len(RINGS)))) if points else RINGS
    count = math.ceil(points / len(rings))
    with tempfile.TemporaryDirectory(prefix="kennel-crash-") as name, ThreadPoolExecutor(len(RINGS)) as threads:
        found = list(threads.map(lambda ring: run_ring(ring, count, seed, Path(name)), rings))
    lines = [line for ring in found for line in ring]
    rows, wrong = count_outcomes(lines)
    if not any(row.killed + row.lost + row.throttled for row in rows):
        raise OpsError(f"No trial was made: {'; '.join(one['wrong'] for one in wrong)}")
    seconds = time.monotonic() - began
    checks = list_checks(rows, wrong)
    data = {
        "rows": [asdict(row) for row in rows],
        "wrong": wrong,
        "checks": [asdict(check) for check in checks],
        "seed": seed,
        "seconds": round(seconds, 1),
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
    }
    if not 0 < points < PAGE_POINTS:
        PAGE.write_text(format_page(rows, checks, data))
        say(f"Wrote docs/{PAGE.name}.")
    cells = [("ok" if one.ok else "FAILED", one.name, f"{one.value:g} {one.unit}", one.bound) for one in checks]
    parts = [format_table(COLUMNS, [row.cells() for row in rows]), format_table(("", "check", "value", "bound"), cells)]
    return Result(data, "\n\n".join(parts), code=0 if all(check.ok for check in checks) else FAILED)


def run_ring(ring: str, count: int, seed: int, folder: Path) -> list[dict[str, Any]]:
    """Run one ring in a process of its own; return the objects that it printed, and {"broken": RING} if it ended early."""
    log = folder / f"{ring}.log"
    env = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "INVOKE_"))}
    env["KENNEL_WORK"] = str(folder / f"{ring}-work")
    with log.open("wb") as errors:
        argv = [sys.executable, "-m", "tests.crash", ring, str(count), str(seed)]
        done = subprocess.run(
            argv, cwd=ROOT, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, check=False
        )
    lines = [json.loads(line) for line in done.stdout.decode().splitlines() if line.startswith("{")]
    if done.returncode or not lines:
        say(f"The trials of {ring} ended with exit code {done.returncode}: {log.read_text().strip()[-600:]}")
        lines.append({"broken": ring})
    say(f"  {ring}: {sum('fault' in line for line in lines)} trials")
    return lines


def count_outcomes(lines: Iterable[dict[str, Any]]) -> tuple[list[Row], list[dict[str, Any]]]:
    """Return a row for each workflow, and the trials that went wrong."""
    rows: dict[str, Row] = {}
    outcomes = []
    for line in lines:
        if "broken" in line:
            outcomes.append({"workflow": line["broken"], "fault": {}, "wrong": "its trials ended early", "stopped": ""})
        elif "ring" in line:
            rows[line["workflow"]] = Row(line["workflow"], line["calls"], line["seconds"], line["trials"])
        else:
            outcomes.append(line)
    for outcome in outcomes:
        if outcome["fault"]:
            rows[outcome["workflow"]].add(outcome)
    return list(rows.values()), [one for one in outcomes if one["wrong"] or one["stopped"]]


def list_checks(rows: Sequence[Row], wrong: Sequence[dict[str, Any]]) -> list[Check]:
    faults = ("kill", "lost", "throttled")
    unhurt = sum(not any(one["fault"].get(name) for name in faults) for one in wrong)
    lost = sum(row.lost for row in rows)
    stopped = sum(row.lost_stopped for row in rows)
    killed_wrong, lost_wrong = sum(row.killed_wrong for row in rows), sum(row.lost_wrong for row in rows)
    throttled_wrong = sum(row.throttled_wrong for row in rows)
    killed, throttled = sum(row.killed for row in rows), sum(row.throttled for row in rows)
    return [
        Check("workflows that are wrong without a fault", unhurt, f"of {len(rows)}", "0", unhurt == 0),
        Check("killed runs after which the stack is not right", killed_wrong, f"of {killed}", "0", killed_wrong == 0),
        Check("lost answers after which the stack is not right", lost_wrong, f"of {lost}", "0", lost_wrong == 0),
        Check("lost answers that stopped the command", stopped, f"of {lost}", "at most 5 %", stopped <= STOPS_AT_MOST * lost),
        Check("throttled runs that were not right", throttled_wrong, f"of {throttled}", "0", throttled_wrong == 0),
    ]  # fmt: skip


def add_rows(rows: Sequence[Row]) -> Row:
    counted = [name for name, value in vars(rows[0]).items() if isinstance(value, int)]
    sums = {name: sum(getattr(row, name) for row in rows) for name in counted}
    return Row("all", **sums, slower=max(row.slower for row in rows))


def format_page(rows: Sequence[Row], checks: Sequence[Check], data: dict[str, Any]) -> str:
    """Return docs/reliability.md."""
    total = add_rows(rows)
    results = [
        (check.name, f"{check.value:g} {check.unit}", check.bound, "yes" if check.ok else "NO") for check in checks
    ]
    return "\n".join(
        (
            "# What a crash, a lost answer and throttling leave behind",
            "",
            f"Written by `invoke bench.crash` on {data['date']} ({data['machine']}, {data['seconds'] / 60:.0f} min).",
            "",
            "Each trial runs a command in a process of its own on the local AWS, and lets one of its changing calls go wrong:",
            "",
            "- **killed**: SIGKILL right before the call, or right after its answer;",
            "- **answer lost**: the call is carried out, and the connection closes before the answer;",
            "- **throttled**: 30 % of all attempts are refused, reads too.",
            "",
            "The same command is then run again, if it did not end well. The trial has failed unless that run ends with exit code 0, the account",
            "equals that after an uninterrupted run, and a further run changes nothing.",
            "",
            f"Made: {total.killed + total.lost + total.throttled} of the {total.trials} trials that there are.",
            "",
            *format_markdown_table(("check", "value", "bound", "held"), results),
            "",
            *format_markdown_table(COLUMNS, [row.cells() for row in (*rows, total)]),
            "",
            "Stopped: the command ended with an error, and the next one went on. Times as long: the slowest throttled run against the undisturbed",
            "one.",
            "",
            *NOT_TRIED,
            "",
        )
    )

"""The benchmark of a whole audit: 3,000 roles alone, and a tenth of them in turn with cloudsplaining.

No correct finding of cloudsplaining may be missing from ours. Each run is a new process; wall time counts from file to
findings, without imports. Of 3,000 roles the fastest round counts, since other programs on the host only add time;
median, CPU time and the whole process are printed too. cloudsplaining reads one policy at a time and looks at actions
alone; its finding about a role is correct if the role may perform these actions at all.

    python -m bench.iam SNAPSHOT ANSWER      runs one audit
"""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import invoke

from bench import accounts, opponents
from bench import paired_timing as measure
from bench.paired_timing import Check
from iampolicy.account import snapshot_file
from iampolicy.account.snapshot import Snapshot
from iampolicy.audit import engine
from iampolicy.escalation.account_model import AccountModel
from iampolicy.escalation.paths import list_path_actions
from iampolicy.finding import Finding
from ops.core import settings
from ops.core.errors import FINDINGS, OpsError
from ops.core.output import format_table, say
from ops.core.paths import ROOT
from ops.core.task import Result

TENTH = 10  # one in ten roles is audited in turn with cloudsplaining, which takes half a minute for 300
MAX_SECONDS, MAX_MB, MIN_SPEEDUP = 1.0, 150, 100
OURS_A_ROUND = 3  # a round of theirs takes half a minute, one of ours a fifth of a second
LIMIT_S = 600  # more than ten times the usual duration

Found = dict[str, list[dict[str, Any]]]


@dataclass(frozen=True)
class Run:
    """The figures of one audit: `seconds` and CPU time `cpu` from the file to the findings, `wall` time of the process.

    `mb` is its peak memory, `found` its findings by role.
    """

    seconds: float
    cpu: float
    wall: float
    mb: float
    found: Found


def run(argv: list[str], snapshot: Path) -> Run:
    answer = snapshot.with_suffix(".answer")
    began = time.monotonic()
    done = subprocess.run([*argv, str(snapshot), str(answer)], cwd=ROOT, capture_output=True, text=True, timeout=LIMIT_S, check=False)  # fmt: skip
    wall = time.monotonic() - began
    if done.returncode:
        raise OpsError(f"{' '.join(argv)} failed with exit code {done.returncode}: {done.stderr.strip()[-600:]}")
    figures = json.loads(answer.read_text())
    return Run(figures["seconds"], figures["cpu"], wall, figures["mb"], figures["found"])


def time_audit(snapshot: Path, answer: Path) -> None:
    """Run one audit in this process and write its figures and findings to `answer`."""
    own = load_settings()
    began, used = time.perf_counter(), time.process_time()
    with engine.pause_garbage_collection():  # as the command does
        have, _ = snapshot_file.load_snapshot(snapshot)
        findings = engine.run_audit(have, engine.AuditOptions(region=own.aws.region))
        seconds, cpu = time.perf_counter() - began, time.process_time() - used
    figures = {"seconds": seconds, "cpu": cpu, "mb": read_own_peak(), "found": group_by_principal(findings)}
    answer.write_text(json.dumps(figures))


def group_by_principal(findings: Iterable[Finding]) -> Found:
    found: Found = {}
    for one in findings:
        found.setdefault(one.principal, []).append({"rule": one.rule, "severity": one.severity})
    return found


def load_settings() -> settings.Settings:
    found = invoke.Config(project_location=ROOT)
    found.load_project()
    return settings.load(found)


def read_own_peak() -> float:
    """Return this process's peak memory in MB; in a forked process, getrusage includes the parent's."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 * (1024 if sys.platform == "darwin" else 1))


def find_missed(ours: Found, theirs: Found) -> list[tuple[str, str]]:
    """Return (role, their finding) where ours reports neither that path, nor a part of its actions, nor full access."""
    needed = {path.rule: actions for path, actions in list_path_actions()}
    lacking = []
    for role, findings in theirs.items():
        rules = {one["rule"] for one in ours.get(role, [])}
        if "IAM-ADMIN-001" in rules:
            continue
        for one in findings:
            actions = set(one["actions"])
            same = {rule for rule in rules if rule in needed and needed[rule] <= actions}
            if not same and f"IAM-PRIVESC-{one['id']}" not in rules:
                lacking.append((role, one["type"]))
    return lacking


def is_false_positive(have: Snapshot, role: str, actions: list[str]) -> bool:
    """Return whether the role may not perform one of the actions on any resource of its type."""
    permissions = AccountModel(have, datetime.now(UTC)).find_permission_set(have.roles[role])
    return not all(permissions.find_resource(action) for action in actions)


def compare_findings(have: Snapshot, ours: Run, theirs: Run) -> tuple[list[tuple[str, str]], int]:
    """Return (their correct findings that ours lacks, the number of incorrect ones among those ours lacks)."""
    their_actions = {(role, one["type"]): one["actions"] for role, every in theirs.found.items() for one in every}
    lacking = find_missed(ours.found, theirs.found)
    right = [key for key in lacking if not is_false_positive(have, key[0], their_actions[key])]
    return right, len(lacking) - len(right)


def measure_own_rounds(folder: Path, roles: int, seed: int, rounds: int) -> tuple[list[Run], list[Check]]:
    me = [sys.executable, "-m", "bench.iam"]
    file, worst = write_account(folder, roles, seed), write_account(folder, roles, seed, distinct=True)
    both = [(run(me, file), run(me, worst)) for _ in range(rounds)]
    runs = [one for one, _ in both]
    say(f"Audited {roles} roles in {rounds} rounds: {', '.join(f'{one.seconds:.2f}' for one in runs)} s")
    best, median = min(one.seconds for one in runs), statistics.median(one.seconds for one in runs)
    cpu, wall = statistics.median(one.cpu for one in runs), statistics.median(one.wall for one in runs)
    mb, distinct = max(one.mb for one in runs), min(other.seconds for _, other in both)
    return runs, [
        Check(f"audit of {roles} roles, from file to findings: fastest round", best, "s", f"below {MAX_SECONDS:g}", best < MAX_SECONDS),
        Check("median round", median, "s", "reported only", True),
        Check("median CPU time", cpu, "s", "reported only", True),
        Check("median of the whole process, with Python's start and imports", wall, "s", "reported only", True),
        Check("peak memory", mb, "MB", f"below {MAX_MB}", mb < MAX_MB),
        Check(f"audit of {roles} roles without equal documents: fastest round", distinct, "s", "reported only", True),
    ]  # fmt: skip


def write_account(folder: Path, roles: int, seed: int, distinct: bool = False) -> Path:
    file = folder / f"{roles}{'-distinct' if distinct else ''}.json"
    file.write_text(json.dumps(accounts.draw_account(roles, seed, distinct)))
    return file


def measure_against_oracle(
    folder: Path, roles: int, seed: int, rounds: int, oracle: str
) -> tuple[list[tuple[Run, Run]], list[Check]]:
    file = write_account(folder, roles, seed)
    me, them = [sys.executable, "-m", "bench.iam"], [oracle, str(ROOT / "bench" / "cloudsplaining_run.py")]
    found = []
    for number in range(rounds):
        ours = sorted((run(me, file) for _ in range(OURS_A_ROUND)), key=lambda one: one.seconds)[OURS_A_ROUND // 2]
        theirs = run(them, file)
        found.append((ours, theirs))
        say(
            f"{roles} roles, round {number + 1}/{rounds}: ours {ours.seconds:.2f} s, cloudsplaining {theirs.seconds:.1f} s"
        )
    speedup = statistics.median(theirs.seconds / ours.seconds for ours, theirs in found)
    right, errors = compare_findings(snapshot_file.load_snapshot(file)[0], *found[-1])
    for role, what in right[:10]:
        say(f"  missed: {role}: {what}")
    count = sum(len(every) for every in found[-1][1].found.values())
    return found, [
        Check(f"audit of {roles} roles: cloudsplaining / ours", speedup, "x", f"at least {MIN_SPEEDUP}", speedup >= MIN_SPEEDUP),
        Check(f"correct findings, of {count} of cloudsplaining, that ours lacks", len(right), "", "exactly 0", not right),
        Check("incorrect findings of cloudsplaining that ours lacks", errors, "", "reported only", True),
    ]  # fmt: skip


def find_oracle(named: str) -> str:
    """Return a Python that has cloudsplaining: the one named, or .venv-bench's. Raises OpsError with what installs it."""
    oracle = named or str(opponents.find_in_venv("python", "bench.iam", "cloudsplaining"))
    if subprocess.run([oracle, "-c", "import cloudsplaining"], capture_output=True, check=False).returncode:
        raise OpsError(
            f"{oracle} has no cloudsplaining, which bench.iam compares with. Install it: {opponents.INSTALL}"
        )
    return oracle


def measure_audit(rounds: int, pairs: int, roles: int, seed: int, oracle: str) -> Result:
    """Measure both sides, check times and findings, and return the report."""
    if min(rounds, pairs) < 1 or roles < TENTH:
        raise OpsError(f"--rounds and --pairs must be 1 or more, --roles {TENTH} or more.")
    oracle, few = find_oracle(oracle), roles // TENTH
    with tempfile.TemporaryDirectory(prefix="kennel-bench-") as folder:
        runs, checks = measure_own_rounds(Path(folder), roles, seed, rounds)
        found, more = measure_against_oracle(Path(folder), few, seed, pairs, oracle)
    pairs_of = [(ours.seconds, theirs.seconds) for ours, theirs in found]
    answer = measure.report_pairs(pairs_of, checks + more, "python -m bench.iam", "python bench/cloudsplaining_run.py")
    lines = [
        (roles, "kennel", min(one.seconds for one in runs), max(one.mb for one in runs)),
        (few, "kennel", found[-1][0].seconds, found[-1][0].mb),
        (few, "cloudsplaining", found[-1][1].seconds, found[-1][1].mb),
    ]
    cells = [(n, who, f"{s:.2f}", f"{s / n * 1000:.2f}", f"{mb:.0f}") for n, who, s, mb in lines]
    shown = format_table(("roles", "program", "s", "ms per role", "MB"), cells)
    data = {"rows": [{"roles": n, "who": who, "seconds": s, "mb": mb} for n, who, s, mb in lines], "seed": seed}
    return Result(answer.data | data, f"{shown}\n\n{answer.text}", code=FINDINGS if answer.code else 0)


if __name__ == "__main__":
    time_audit(Path(sys.argv[1]), Path(sys.argv[2]))

"""Benchmarks as commands: ours against theirs, in turn. --json prints one object; exit 1 when a check fails."""

from __future__ import annotations

from ops.cli import task


@task(help={"pairs": "How many pairs are measured.", "json": "Print the one JSON object."})
def cli(c, pairs=25, json=False):
    """What `invoke --list` costs, against `invoke --version` and `aws --version`."""
    import shutil
    import sys

    from bench import pairs as measure

    invoke = [sys.executable, "-m", "invoke"]
    ours, theirs = [*invoke, "--list"], [*invoke, "--version"]
    found = measure.in_turn(lambda: measure.cpu_seconds(ours), lambda: measure.cpu_seconds(theirs), pairs)
    cost = 1 / measure.times_better(found)
    checks = [measure.Check("invoke --list against invoke --version, CPU time", cost, "x", "at most 1.3", cost <= 1.3)]
    if aws := shutil.which("aws"):
        against = measure.in_turn(
            lambda: measure.cpu_seconds(ours), lambda: measure.cpu_seconds([aws, "--version"]), pairs
        )
        ratio = measure.times_better(against)
        checks.append(
            measure.Check("aws --version against invoke --list, CPU time", ratio, "x", "at least 1", ratio >= 1)
        )
    return measure.report(found, checks, "invoke --list", "invoke --version")

"""The check that roles need all their actions: the whole job is recorded, and decided again without each action.

Some actions, drawn by seed, are removed for real. The first steps of the job alone show which actions they need, but
not which actions nothing needs.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from ops.core.errors import FINDINGS, OpsError
from ops.core.output import format_table, say
from ops.core.paths import ROOT, WORK
from ops.core.settings import ROLES, Settings
from ops.core.task import Result
from ops.iam.usage import Use, format_uses, list_uses
from tests.e2e import replays, whole_job
from tests.e2e.recorder import Run, shipped

PAGE = ROOT / "docs" / "needed-actions.md"
RECORD = WORK / "bench" / "requests.jsonl"
WHY = ("a run", "expect.toml", "nothing")


def verify_needed_actions(count: int, first: int, seed: int) -> Result:
    """Record the job, or its `first` steps (0: all), replay it without each of `count` actions, report the outcomes."""
    if min(count, first) < 0:
        raise OpsError("--replay and --steps must be 0 or more.")
    began = time.monotonic()
    steps = list(whole_job.steps())
    is_whole = first in (0, len(steps))
    steps = steps[: first or None]
    with tempfile.TemporaryDirectory(prefix="kennel-rights-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        source = shipped(folder)
        whole = record_job(Run(folder / "whole", source), steps, RECORD if is_whole else folder / "requests.jsonl")
        settings = whole.place.settings
        found = list_uses(settings, file=str(whole.kept))
        say(f"{ROLES}: {format_counts(found)}.")
        if is_whole:
            PAGE.write_text(format_page(found, whole, steps, settings))
            say(f"Wrote docs/{PAGE.name}.")
        possible = replays.removals(found, whole, settings, source / ROLES)
        chosen = replays.drawn(possible, count, seed)
        outcomes = [
            replays.replay(one, steps, Run(folder / f"without-{number}", source), settings)
            for number, one in enumerate(chosen, 1)
        ]
    return report_removals(found, outcomes, steps, is_whole, seed, time.monotonic() - began)


def record_job(run: Run, steps: Sequence[whole_job.Step], keep: Path) -> Run:
    """Run the steps and save their record to `keep`. Raises OpsError at the first step with an unexpected outcome."""
    run.prepare()
    run.start()
    say(f"Recording {len(steps)} steps of the workflow:")
    try:
        for number, step in enumerate(steps):
            if wrong := run.step(number, step):
                raise OpsError(f"Step {number}, {step.does}, did not end as expected: {wrong}")
    finally:
        run.down()
    keep.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(run.kept, keep)
    return run


def report_removals(
    found: list[Use],
    outcomes: list[replays.Outcome],
    steps: list[whole_job.Step],
    is_whole: bool,
    seed: int,
    seconds: float,
) -> Result:
    """Return the report. An action that nothing needs is a finding only if the whole job ran."""
    rows = [
        (
            one.removal.role,
            one.removal.statement,
            one.removal.action,
            replays.fate(one.removal, steps),
            "none" if one.broke is None else f"step {one.broke}",
            "none" if one.denied is None else f"step {one.denied}, {one.resource.rsplit(':', 1)[-1]}",
            "yes" if one.as_predicted else "NO",
        )
        for one in outcomes
    ]
    columns = ("role", "statement", "removed action", "predicted", "failed at", "denied at", "as predicted")
    parts = [format_uses(found, all=False)] if is_whole else []
    parts += [format_table(columns, rows)] if rows else []
    right = sum(one.as_predicted for one in outcomes)
    parts.append(
        f"{format_counts(found)}; {right} of {len(outcomes)} removals (seed {seed}) failed as predicted; {seconds:.0f} s"
    )
    idle = is_whole and any(use.why == "nothing" for use in found)
    data = {
        "uses": [use.data for use in found],
        "replays": [vars(one.removal) | {"broke": one.broke, "denied": one.denied, "as_predicted": one.as_predicted} for one in outcomes],
        "steps": len(steps),
        "seed": seed,
        "seconds": round(seconds, 1),
    }  # fmt: skip
    return Result(data, "\n\n".join(parts), code=FINDINGS if idle or right < len(outcomes) else 0)


def format_counts(found: list[Use]) -> str:
    counts = Counter(use.why for use in found)
    return (
        f"{len(found)} actions: {counts['a run']} needed by a run, {counts['expect.toml']} by expect.toml only, "
        f"{counts['nothing']} by nothing"
    )


def format_page(found: list[Use], whole: Run, steps: Sequence[whole_job.Step], settings: Settings) -> str:
    roles = list(dict.fromkeys(use.role for use in found))
    counts = Counter((use.role, use.why) for use in found)
    short = {role: role.removeprefix(f"{settings.prefix}-") for role in roles}
    head = [(short[role], *(counts[role, why] for why in WHY)) for role in roles]
    total = [("all", *(sum(counts[role, why] for role in roles) for why in WHY))]
    rows = [
        (short[use.role], use.statement, f"`{use.action}`", *describe_need(use, whole, steps))
        for use in found
    ]  # fmt: skip
    return "\n".join(
        (
            "# Which action each role needs, and for what",
            "",
            f"Written by `invoke bench.rights`, which runs the complete workflow ({len(steps)} steps, `tests/e2e/whole_job.py`) on the local AWS.",
            "The local AWS authorizes and records each request. Each action of each statement is then removed in a simulation, and all",
            "recorded requests are authorized again. `step` and `needed by` name the first step with a request that is denied without the",
            "action; `times` counts the different requests that are denied. Actions that no run on the local AWS needs are justified by",
            "`iam_policies/ROLE/expect.toml` only. How to use this page: [narrow a role](../runbooks/narrow-a-role.md).",
            "",
            *format_markdown_table(("role", "needed by a run", "by expect.toml only", "by nothing"), [*head, *total]),
            "",
            *format_markdown_table(("role", "statement", "action", "step", "needed by", "times"), rows),
            "",
        )
    )


def describe_need(use: Use, whole: Run, steps: Sequence[whole_job.Step]) -> tuple[str, str, str]:
    """Return (number of the first step that needs it, its command, times)."""
    if not use.requests:
        return "", "expect.toml only" if use.expected else "nothing", str(use.expected or "")
    number = whole.step_of(use.line)
    does = steps[number].does.split(" --because")[0]
    return str(number), f"`{does}`", str(use.requests)


def format_markdown_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    lines = [columns, ["---"] * len(columns), *rows]
    return [f"| {' | '.join(str(cell) for cell in line)} |" for line in lines]

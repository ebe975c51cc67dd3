"""An action taken away for real: from a copy whose iam_policies/ lacks it, the job breaks where the record says that it would."""

from __future__ import annotations

import json
import random
import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ops.core.output import say
from ops.core.settings import ROLES, Settings
from ops.iam.roles import derive_role_policy_name
from ops.iam.usage import Use
from tests.e2e import whole_job
from tests.e2e.recorder import Run

LAST_WORDS_S = 10.0  # of jobs, instances and functions, which log after the command that made them
NOT_LOOKED = "iam.audit says what it did not look at, and goes on"
EXTRAS = ("iam:GenerateCredentialReport", "iam:GetAccountSummary", "iam:GetCredentialReport", "s3:", "lambda:", "ec2:")
# What is denied without any command's failing: (role, beginning of the action) -> why.
SILENT = {
    ("lambda-invoke", "logs:"): "Lambda runs on and logs nothing",
    ("image-build", "logs:"): "CodeBuild builds on and logs nothing",
    ("operator-infra", "ec2-instance-connect:SendSSHPublicKey"): "SSH goes by the key pair of the launch",
    **{(role, start): NOT_LOOKED for role in ("auditor", "ci") for start in EXTRAS},
}
# What is not drawn, since no single step can be predicted: (role, statement, beginning of the action) -> why.
UNDRAWN = {
    ("sagemaker-execution", "Logs", "logs:"): "who follows a job waits for lines that never come",
    ("sagemaker-execution", "WriteJobs", "s3:PutObject"): "a checkpoint is sent while its follower is interrupted: before or after is chance",
    ("ec2-box", "KeepCheckpoints", "s3:PutObject"): "the trainer goes on, and only the next box misses the checkpoint",
}  # fmt: skip
# Ids and times differ from run to run.
DRAWN = re.compile(r"[0-9a-f]{8}-[0-9a-f-]{27}|(?<=[-/])[0-9a-f]{8,}|\d{6,}")


@dataclass(frozen=True)
class Removal:
    """An action of a statement, and what follows: the step that breaks (`silent` says why it does not), the resource denied."""

    role: str
    file: str
    statement: str
    action: str
    step: int
    resource: str
    silent: str = ""


@dataclass(frozen=True)
class Outcome:
    """What came of it: the step that broke, None for none up to the predicted one; the step and resource of the denial."""

    removal: Removal
    broke: int | None
    denied: int | None
    resource: str

    @property
    def as_predicted(self) -> bool:
        planned = self.removal
        breaks = None if planned.silent else planned.step
        return (self.broke, self.denied is not None) == (breaks, True) and self.resource == alike(planned.resource)


def removals(found: Iterable[Use], whole: Run, settings: Settings, folder: Path) -> list[Removal]:
    """What follows from taking away each action that a run needs, but for UNDRAWN."""
    made = []
    for use in found:
        role = use.role.removeprefix(f"{settings.prefix}-")
        if not use.requests or undrawn(role, use):
            continue
        file = next(
            f
            for f in folder.glob(f"{role}/permissions*.json")
            if derive_role_policy_name(role, f.stem, settings) == use.policy
        )
        silent = next((why for (who, start), why in SILENT.items() if who == role and use.action.startswith(start)), "")
        step = whole.step_of(use.line)
        made.append(Removal(role, file.name, use.statement, use.action, step, use.resource, silent))
    return made


def undrawn(role: str, use: Use) -> bool:
    return any((role, use.statement) == (r, s) and use.action.startswith(start) for r, s, start in UNDRAWN)


def drawn(possible: Sequence[Removal], count: int, seed: int) -> list[Removal]:
    """In the order of the steps that they break: the shortest first."""
    chosen = random.Random(seed).sample(possible, min(count, len(possible)))
    return sorted(chosen, key=lambda one: one.step)


def take_away(folder: Path, one: Removal) -> None:
    """From a copy of iam_policies/: a statement without actions goes."""
    path = folder / one.role / one.file
    document: dict[str, Any] = json.loads(path.read_text())
    (statement,) = (s for s in document["Statement"] if s["Sid"] == one.statement)
    statement["Action"] = [action for action in statement["Action"] if action.lower() != one.action.lower()]
    document["Statement"] = [s for s in document["Statement"] if s["Action"]]
    path.write_text(json.dumps(document, indent=2) + "\n")


def replay(one: Removal, steps: Sequence[whole_job.Step], run: Run, settings: Settings) -> Outcome:
    """The job up to the step that breaks, or to the predicted one."""
    say(f"Without {one.action} of {one.role} ({one.statement}): {fate(one, steps)}")
    run.prepare()
    take_away(run.folder / "checkout" / ROLES, one)
    run.start()
    try:
        broke = first_wrong(one, steps, run)
        denied = denial(one, run, settings)
        deadline = time.monotonic() + LAST_WORDS_S
        while denied is None and one.silent and time.monotonic() < deadline:
            time.sleep(0.5)
            denied = denial(one, run, settings)
    finally:
        run.down()
    step, resource = denied or (None, "")
    return Outcome(one, broke, step, resource)


def first_wrong(one: Removal, steps: Sequence[whole_job.Step], run: Run) -> int | None:
    return next((n for n, step in enumerate(steps[: one.step + 1]) if run.step(n, step)), None)


def denial(one: Removal, run: Run, settings: Settings) -> tuple[int, str] | None:
    """The step and the resource of the first that the record has of this action."""
    role = settings.build_role_name(one.role)
    for line, text in enumerate(run.record.read_text().splitlines()):
        entry = json.loads(text)
        same = entry["principal"].endswith(f"/{role}") and entry["action"].lower() == one.action.lower()
        if same and entry["effect"] != "allowed":
            return run.step_of(line), alike(entry["resource"])
    return None


def fate(one: Removal, steps: Sequence[whole_job.Step]) -> str:
    what = f"denied in silence ({one.silent})" if one.silent else "breaks"
    return f"step {one.step}, {steps[one.step].does}, {what}"


def alike(resource: str) -> str:
    return DRAWN.sub("*", resource)

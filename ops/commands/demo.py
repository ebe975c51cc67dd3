"""The command demo: every step of the workflow on the local AWS; each is a command, run in this process as if typed."""

from __future__ import annotations

import shlex
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from invoke import Context, Exit

from ops.core.errors import FAILED, OpsError
from ops.core.output import say
from ops.core.task import Result, run_command, task

if TYPE_CHECKING:
    from ops.reports.demo import Step, StepResult

DIAGNOSIS = {  # by namespace: the command that helps to find why a step failed
    "ec2": "invoke ec2.status",
    "sm": "invoke sm.status",
    "lambda": "invoke lambda.status",
    "net": "invoke net.status",
    "iam": "invoke iam.audit",
}


@task(
    help={
        "data": "Dataset folder with train/, valid/ and test/ (default: scikit-learn's handwritten digits).",
        "seed": "Random seed for the choice of test pictures (default: 0).",
        "again": "Train again, even if this dataset was trained before.",
    }
)
def demo(c: Context, data: str = "", seed: int = 0, again: bool = False) -> Result:
    """Run every step on the local AWS: push, train, deploy, scale, evaluate.

    Prints a report with accuracy and costs at the end. A failed demo resumes
    where it stopped. With --data the stack is named after the folder, unless
    the settings name one other than demo.

    Example: invoke demo --data DIR
    """
    from ops.core import settings as config
    from ops.datasets import digits
    from ops.datasets.manifest import list_pictures
    from ops.reports import demo as journey

    settings = config.load(c.config)
    began = time.monotonic()
    own = Path(data).expanduser() if data else None
    stack = journey.choose_stack(settings, own)
    switch = journey.describe_switch(settings, stack)
    if own:
        list_pictures(own)  # what data.push would refuse, it refuses before the first step
    c.config.stack.name = stack
    settings = config.load(c.config)
    pictures = own or digits.write(journey.DIGITS)
    steps = list(journey.plan_steps(settings, pictures, seed, again))
    if c.config.run.dry:
        lines = [*([switch] if switch else []), *(f"invoke {step.command}" for step in steps)]
        return Result([step.command for step in steps], "\n".join(lines))
    resume = "\n".join(filter(None, (f"invoke demo --data {shlex.quote(data)}" if data else "invoke demo", switch)))
    done = [run_step(c, step, number, len(steps), resume) for number, step in enumerate(steps, 1)]
    results = [result for result, _ in done]
    answers, model = done[-3][1].data, done[-1][1].data  # results of lambda.invoke and sm.evaluate
    trained = next(result.data for step, result in done if step.command.startswith("sm.train --instances 2"))
    report = journey.DemoReport(
        steps=results,
        test_accuracy=journey.TestAccuracy(answers[0]["release"], model["accuracy"], model["pictures"]),
        answers=[
            journey.Answer(a["picture"], a["truth"], a["answer"], model["answers"][a["picture"]]) for a in answers
        ],
        dollars_per_hour=journey.compute_standing_cost(results),
        seconds=round(time.monotonic() - began, 1),
    )
    report.write()
    code = 0 if report.passes(own_pictures=bool(data)) else FAILED
    return Result(
        asdict(report), journey.describe_report(report, settings, pictures, trained["job"], switch), code=code
    )


def run_step(c: Context, step: Step, number: int, count: int, resume: str) -> tuple[StepResult, Result]:
    """Run one command and measure it. Raises OpsError with the commands that help to find the cause, and to go on."""
    from ops.core.aws.account import Account
    from ops.reports.demo import StepResult, shorten_outcome

    say(f"\n== {number}/{count} {step.name}: invoke {step.command}")
    began, sent_before = time.monotonic(), Account.sent
    try:
        result = run_command(c, step.command)
    except Exit as error:
        diagnose = DIAGNOSIS.get(step.command.split(".")[0], "invoke doctor")
        message = str(error.message or f"exit code {error.code}")
        raise OpsError(
            f"Step {number}, invoke {step.command}, failed: {message}\n"
            f"Find the cause: {diagnose}. Then resume: {resume}",
            error.code,
        ) from error
    return StepResult(
        name=step.name,
        command=step.command,
        dollars_per_hour=step.dollars_per_hour,
        seconds=round(time.monotonic() - began, 2),
        outcome=shorten_outcome(result.text),
        changes=result.changes,
        calls=Account.sent - sent_before,
    ), result

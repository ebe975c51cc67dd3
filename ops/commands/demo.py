"""The whole job, end to end, on the local AWS: each step is a command, run in this process as if it had been typed."""

from __future__ import annotations

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

LOOK = {
    "ec2": "invoke ec2.status",
    "sm": "invoke sm.status",
    "lambda": "invoke lambda.status",
    "net": "invoke net.status",
    "iam": "invoke iam.audit",
}


@task(
    help={
        "data": "A folder of your own pictures: DIR/{train,valid,test}/CLASS/.",
        "seed": "Which test pictures are asked about.",
        "again": "Train anew.",
    }
)
def demo(c: Context, data: str = "", seed: int = 0, again: bool = False) -> Result:
    """Run the whole job on the local AWS and show what came of it."""
    from ops.core import settings as config
    from ops.datasets import digits
    from ops.reports import demo as journey

    settings = config.load(c.config)
    began = time.monotonic()
    pictures = Path(data).expanduser() if data else digits.write(journey.DIGITS)
    steps = list(journey.plan_steps(settings, pictures, seed, again))
    if c.config.run.dry:
        return Result([step.command for step in steps], "\n".join(f"invoke {step.command}" for step in steps))
    done = [run_step(c, step, number, len(steps)) for number, step in enumerate(steps, 1)]
    results = [result for result, _ in done]
    asked, model = done[-3][1].data, done[-1][1].data  # results of lambda.invoke and sm.evaluate
    report = journey.DemoReport(
        steps=results,
        test_accuracy=journey.TestAccuracy(asked[0]["release"], model["accuracy"], model["pictures"]),
        answers=[journey.Answer(a["picture"], a["truth"], a["answer"], model["answers"][a["picture"]]) for a in asked],
        dollars_per_hour=journey.compute_standing_cost(results),
        seconds=round(time.monotonic() - began, 1),
    )
    report.write()
    code = 0 if report.passes(own_pictures=bool(data)) else FAILED
    return Result(asdict(report), journey.describe_report(report, settings, pictures), code=code)


def run_step(c: Context, step: Step, number: int, of: int) -> tuple[StepResult, Result]:
    """Run one command and measure it. Raises OpsError with the command that helps to find the cause."""
    from ops.core.aws.account import Account
    from ops.reports.demo import StepResult, shorten_outcome

    say(f"\n== {number}/{of} {step.name}: invoke {step.command}")
    began, sent = time.monotonic(), Account.sent
    try:
        result = run_command(c, step.command)
    except Exit as error:
        look = LOOK.get(step.command.split(".")[0], "invoke doctor")
        words = str(error.message or f"it ended with {error.code}")
        raise OpsError(
            f"Step {number}, invoke {step.command}: {words}\nLook further: {look}. Then run invoke demo again: it goes on from what is there.",
            error.code,
        ) from error
    return StepResult(
        name=step.name,
        command=step.command,
        dollars_per_hour=step.dollars_per_hour,
        seconds=round(time.monotonic() - began, 2),
        outcome=shorten_outcome(result.text),
        changes=result.changes,
        calls=Account.sent - sent,
    ), result

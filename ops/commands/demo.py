"""The whole job, end to end, on the local AWS."""

from __future__ import annotations

from pathlib import Path

from ops.core.errors import FAILED
from ops.core.task import Result, task


@task(
    help={
        "data": "A folder of your own pictures: DIR/{train,valid,test}/CLASS/.",
        "seed": "Which test pictures are asked about.",
        "again": "Train anew.",
    }
)
def demo(c, data="", seed=0, again=False):
    """Run the whole job on the local AWS and show what came of it."""
    import json
    import time

    from ops.core import settings as config
    from ops.datasets import digits
    from ops.reports import demo as journey

    settings = config.load(c.config)
    began = time.monotonic()
    pictures = Path(data).expanduser() if data else digits.write(journey.DIGITS)
    steps = list(journey.planned(settings, pictures, seed, again))
    if c.config.run.dry:
        return Result([step.command for step in steps], "\n".join(f"invoke {step.command}" for step in steps))
    answers = [journey.run(c, step, number, len(steps)) for number, step in enumerate(steps, 1)]
    report = journey.summary(steps, answers[-3], answers[-1], settings)
    report["seconds"] = round(time.monotonic() - began, 1)
    journey.REPORT.parent.mkdir(exist_ok=True)
    journey.REPORT.write_text(json.dumps(report, indent=1) + "\n")
    return Result(
        report, journey.shown(report, settings, pictures), code=0 if journey.good(report, own=bool(data)) else FAILED
    )

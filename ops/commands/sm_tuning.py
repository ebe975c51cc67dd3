"""The command sm.tune."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from invoke import Context

from ops.core.errors import OpsError
from ops.core.output import say
from ops.core.task import Result, run_plan, task

if TYPE_CHECKING:
    from ops.jobs.tuning import Outcome


@task(
    help={
        "jobs": "Number of trials (default: tune.jobs).",
        "parallel": "Number of trials at a time (default: tune.parallel).",
        "again": "Tune again, even if the same dataset, code and settings were tuned before.",
        "wait": "Follow the trials until they end (default); --no-wait only starts them.",
        "json": "Print the result as JSON.",
    }
)
def tune(
    c: Context, jobs: int = 0, parallel: int = 0, again: bool = False, wait: bool = True, json: bool = False
) -> Result | None:
    """Search for the best learning rate and batch size in a SageMaker tuning job.

    Prints the trials with their validation loss and draws a plot.

    Example: invoke sm.tune --jobs 12 --parallel 3
    """
    from ops.core.aws.account import Account
    from ops.jobs import spec, training_jobs, tuning

    account = Account.from_context(c)
    search = tuning.search_from_settings(account, jobs, parallel)
    have = tuning.facts(account, search)
    if have.completed and not have.under_way and not again:
        say(f"{have.completed} already tuned this dataset, code and settings; --again tunes again.")
        return report_tuning(tuning.read_outcome(account, have.completed))
    training_jobs.check_network(have.subnets, have.group, "train")
    account.guard()
    sends_nothing = c.config.run.dry or have.under_way
    code = "code/.../" if sends_nothing else spec.send_code(account, search.job)
    changes = run_plan(c, account, tuning.steps, have, search, code).changes
    if c.config.run.dry:
        return None
    name = have.under_way or have.free
    if wait:
        tuning.follow_trials(account, name, search)
    return report_tuning(tuning.read_outcome(account, name), changes)


def report_tuning(found: Outcome, changes: int = 0) -> Result:
    """Return the trials, and once the tuning has ended the best one and a plot."""
    from ops.jobs import tuning

    name, trials = found.job, tuning.format_trial_table(found.trials, found.best)
    data = {
        "job": name, "status": found.status, "objective": tuning.METRIC, "trials": [asdict(one) for one in found.trials],
        "best": found.best, "plot": None,
    }  # fmt: skip
    if found.status in tuning.UNDER_WAY:
        return Result(data, f"{trials}\n{name}: {found.status}. To follow it, run the same command without --no-wait.")
    data["plot"] = plot_trials(found)
    best = found.best_trial
    lines = [
        f"{name} was stopped." if found.status == "Stopped" else "",
        f"Best: learning rate {best.lr:.3g}, batch {best.batch}, valid loss {best.objective:.4f}.",
        f"Plot: {data['plot']}" if data["plot"] else "",
        f"Next: invoke sm.train --from-tuning {name}",
    ]
    return Result(data, "\n".join([trials, *filter(None, lines)]), changes=changes)


def plot_trials(found: Outcome) -> str | None:
    """Draw the trials and return the plot's path. If that fails, print the reason and return None."""
    from ops.core.paths import WORK

    try:
        from ops.reports import drawing

        return str(drawing.draw_trials(found.trials, WORK / "tuning" / f"{found.job}.png"))
    except OpsError as error:  # without matplotlib, the table is still printed
        say(f"No plot: {error}")
        return None

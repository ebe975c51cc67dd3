"""Tuning from the command line: let SageMaker try learning rates and batch sizes, and say which were best."""

from __future__ import annotations

from typing import Any

from ops.core.aws.account import Account
from ops.core.errors import OpsError
from ops.core.output import say, table
from ops.core.paths import WORK
from ops.core.task import Result, carry_out, task


@task(
    help={
        "jobs": "How many trials; 0 is tune.jobs.",
        "parallel": "How many at a time; 0 is tune.parallel.",
        "again": "Search even if the same data, code and settings were searched before.",
        "wait": "Follow the trials to their end; without it, run the same command again to see them.",
        "json": "Print the trials as JSON.",
    }
)
def tune(c, jobs=0, parallel=0, again=False, wait=True, json=False):
    """Try learning rates and batch sizes in a SageMaker tuning job; show the best."""
    from ops.jobs import spec, tuning

    account = Account.from_context(c)
    search = wanted(account, jobs, parallel)
    have = tuning.facts(account, search)
    if have.completed and not have.under_way and not again:
        say(f"{have.completed} searched before, with the same data, code and settings. --again searches anew.")
        return outcome(account, have.completed)
    if have.group is None or len(have.subnets) < 2:
        raise OpsError("There is no network to train in. Make it: invoke net.up")
    account.guard()
    idle = c.config.run.dry or have.under_way
    code = "code/.../" if idle else spec.send_code(account, search.job)
    made = carry_out(c, account, tuning.steps(have, search, code, wait)).changes
    if c.config.run.dry:
        return None
    return outcome(account, have.under_way or have.free, made)


def wanted(account: Account, trials: int, parallel: int) -> Any:
    """The search of the settings, where the flags (0: not given) say nothing else. Raises OpsError."""
    from ops.jobs import spec, tuning

    tune = account.settings.tune
    trials, parallel = trials or tune.jobs, parallel or tune.parallel
    tuning.check(account.settings, trials, parallel)
    # The batch size is any of them: it stands in the job because every job has one, and each trial has its own.
    job = spec.wanted(account, "sm", tune.instances, {"batch": str(tune.batches[0])})
    return tuning.Search(job, account.settings, trials, parallel)


def outcome(account: Account, name: str, changes: int = 0) -> Result:
    """The trials as they are now, with the best and a plot. Raises OpsError for a search that ended without a best trial."""
    from ops.jobs import tuning

    described, trials = tuning.describe(account, name), tuning.rows(account, name)
    status = described["HyperParameterTuningJobStatus"] if described else "gone"
    winner = (described or {}).get("BestTrainingJob", {}).get("TrainingJobName", "")
    data = {"job": name, "status": status, "objective": tuning.METRIC, "trials": trials, "best": winner, "plot": None}
    if status in tuning.UNDER_WAY:
        return Result(
            data, f"{shown(trials, winner)}\n{name}: {status}. Follow it: run the same command without --no-wait"
        )
    if status == "Failed" or not winner:
        reason = (described or {}).get("FailureReason") or "no trial has a result"
        log = f"\nA trial's log: invoke sm.logs --job {trials[-1]['name']}" if trials else ""
        raise OpsError(f"{shown(trials, winner)}\n{name} ended {status}: {reason}{log}")
    data["plot"] = drawn(trials, name)
    best = next(trial for trial in trials if trial["name"] == winner)
    words = [
        f"{name} was stopped." if status == "Stopped" else "",
        f"Best: lr {best['lr']:.3g}, batch {best['batch']}, valid loss {best['objective']:.4f}.",
        f"Plot: {data['plot']}" if data["plot"] else "",
        f"Next: invoke sm.train --from-tuning {name}",
    ]
    text = f"{shown(trials, winner)}\n{' '.join(filter(None, words))}"
    return Result(data, text, changes=changes)


def shown(trials: list[dict[str, Any]], winner: str) -> str:
    lines = [
        (
            "*" if trial["name"] == winner else "",
            trial["name"],
            trial["status"],
            f"{trial['lr']:.3g}",
            trial["batch"],
            "-" if trial["objective"] is None else f"{trial['objective']:.4f}",
            "-" if trial["seconds"] is None else f"{trial['seconds']} s",
        )
        for trial in trials
    ]
    return table(("", "trial", "status", "lr", "batch", "valid loss", "trained"), lines)


def drawn(trials: list[dict[str, Any]], name: str) -> str | None:
    """The path of a plot of the trials; None, and the reason told, where nothing can be drawn."""
    from ops.reports import plots

    path = WORK / "tuning" / f"{name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        plots.trials(trials, path)
    except OpsError as error:  # without matplotlib the numbers are still worth printing
        say(f"No plot: {error}")
        return None
    return str(path)


def best(account: Account, tuning_job: str) -> dict[str, str]:
    """The best trial's hyperparameters, lr and batch, as they are given to a job. Raises OpsError when there is none."""
    from ops.jobs import tuning

    described = tuning.describe(account, tuning_job)
    if described is None:
        raise OpsError(f"There is no tuning job {tuning_job}. Run one: invoke sm.tune")
    status = described["HyperParameterTuningJobStatus"]
    if status in tuning.UNDER_WAY:
        raise OpsError(f"{tuning_job} is still {status}. Follow it to its end: invoke sm.tune")
    values = described.get("BestTrainingJob", {}).get("TunedHyperParameters", {})
    if not set(tuning.TUNED) <= set(values):
        reason = described.get("FailureReason") or "no trial has a result"
        raise OpsError(
            f"{tuning_job} ended {status} without a best trial: {reason}\nSearch again: invoke sm.tune --again"
        )
    return {name: values[name].strip('"') for name in tuning.TUNED}

"""Tuning jobs: draw hyperparameters from ranges, train each draw, and rank them by the objective in the jobs' logs."""

from __future__ import annotations

import itertools
import math
import random
import secrets
import threading
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from sandbox.sagemaker import jobs, runs
from sandbox.sagemaker.runs import TERMINAL, Run
from sandbox.world import World

ATTEMPTS = 5  # AWS gives up a tuning job after this many trials without a success
LOG_FROM = 100.0  # Auto uses a logarithmic scale from this ratio on; AWS does not document its rule
OF_THE_DEFINITION = (
    "AlgorithmSpecification", "RoleArn", "InputDataConfig", "VpcConfig", "OutputDataConfig", "ResourceConfig",
    "StoppingCondition", "EnableNetworkIsolation", "EnableInterContainerTrafficEncryption",
    "EnableManagedSpotTraining", "CheckpointConfig", "Environment",
)  # fmt: skip


@dataclass(eq=False)
class Trial:
    """One draw and its training job."""

    run: Run
    values: dict[str, str]

    @property
    def ended(self) -> bool:
        return self.run.status in TERMINAL


@dataclass(eq=False)
class Search:
    """A running tuning job: its request, moto's record of it, and its trials in the order of their start."""

    world: World
    request: dict[str, Any]
    record: Any
    trials: list[Trial] = field(default_factory=list)
    stopping: threading.Event = field(default_factory=threading.Event)
    began: float = field(default_factory=time.time)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def name(self) -> str:
        return str(self.request["HyperParameterTuningJobName"])

    @property
    def config(self) -> dict[str, Any]:
        config: dict[str, Any] = self.request["HyperParameterTuningJobConfig"]
        return config

    @property
    def metric(self) -> str:
        return str(self.config["HyperParameterTuningJobObjective"]["MetricName"])

    def get_objective(self, trial: Trial) -> float | None:
        """Return the last value of the metric in the trial's log, or None when the log has none."""
        found = trial.run.measured.get(self.metric)
        return found["Value"] if found else None

    def rank_successes(self) -> list[Trial]:
        """Return the trials that ended with an objective and did not fail, best first."""
        sign = 1 if self.config["HyperParameterTuningJobObjective"]["Type"] == "Minimize" else -1
        good = [t for t in self.trials if t.ended and t.run.status != "Failed" and self.get_objective(t) is not None]
        return sorted(good, key=lambda trial: sign * (self.get_objective(trial) or 0.0))


def record_and_start_tuning(world: World, request: dict[str, Any], record: Any) -> None:
    record.hyper_parameter_tuning_end_time = record.failure_reason = record.tuning_job_completion_details = None
    record.best_training_job = record.OverallBestTrainingJob = record.consumed_resources = None
    record.hyper_parameter_tuning_job_status = "InProgress"
    search = Search(world, request, record)
    world.sagemaker.searches[search.name] = search
    refresh_tuning_record(search)
    world.note(f"tuning {search.name}: InProgress")
    threading.Thread(target=run_tuning_job, args=(search,), daemon=True).start()


def request_tuning_stop(world: World, name: str) -> bool:
    """Ask a tuning job to stop, with its trials; return False when it is unknown or has ended already."""
    search = world.sagemaker.searches.get(name)
    if search is None:
        return False
    with search.lock:
        if search.record.hyper_parameter_tuning_job_status in TERMINAL:
            return False
        search.record.hyper_parameter_tuning_job_status = "Stopping"
        search.stopping.set()
    return True


def list_trial_summaries(world: World, name: str) -> list[dict[str, Any]]:
    """Return AWS's summaries of a tuning job's training jobs. Raises KeyError for an unknown tuning job."""
    search = world.sagemaker.searches[name]
    return [summarize_trial(search, trial) for trial in search.trials]


def run_tuning_job(search: Search) -> None:
    try:
        status, reason = run_trials(search)
    except Exception as error:
        status, reason = "Failed", f"InternalServerError: {type(error).__name__}: {error}"
    end_trials(search)
    refresh_tuning_record(search)
    search.record.failure_reason = reason or None
    search.record.hyper_parameter_tuning_end_time = datetime.now(UTC).replace(tzinfo=None)
    with search.lock:
        search.record.hyper_parameter_tuning_job_status = status
    search.world.note(f"tuning {search.name}: {status} {reason}")


def run_trials(search: Search) -> tuple[str, str]:
    """Run trials, at most MaxParallelTrainingJobs at a time, until a limit is reached; return (status, reason)."""
    points, bounds = iterate_hyperparameters(search.config, search.name), search.config["ResourceLimits"]
    most, more = bounds.get("MaxNumberOfTrainingJobs", math.inf), True
    while True:
        refresh_tuning_record(search)
        at_work = [trial for trial in search.trials if not trial.ended]
        if search.stopping.is_set() or time.time() - search.began > bounds.get("MaxRuntimeInSeconds", math.inf):
            return "Stopped", ""
        if reason := derive_failure_reason(search, most):
            return "Failed", reason
        if more and len(at_work) < bounds["MaxParallelTrainingJobs"]:
            values = next(points, None) if len(search.trials) < most else None
            more = values is not None
            if values is not None:
                start_trial(search, values)
        elif not at_work:
            reason = derive_failure_reason(search, len(search.trials))
            return "Failed" if reason else "Completed", reason
        else:
            search.stopping.wait(0.1)


def derive_failure_reason(search: Search, most: float) -> str:
    """Return why the tuning job can no longer succeed, in AWS's words, or "" while it can."""
    ended = [trial for trial in search.trials if trial.ended]
    if search.rank_successes() or len(ended) < min(ATTEMPTS, most):
        return ""
    if all(trial.run.status == "Failed" for trial in ended):
        return (
            f"No training job succeeded after {len(ended)} attempts. "
            "Please take a look at the training job failures to get more details."
        )
    return (
        f"No objective metrics found after running {len(ended)} training jobs. Please ensure that the custom algorithm is "
        "emitting the objective metric as defined by the regular expression provided."
    )


def start_trial(search: Search, values: dict[str, str]) -> None:
    """Start a training job with these values, named like TUNINGJOB-001-1a2b3c4d."""
    definition = search.request["TrainingJobDefinition"]
    name = f"{search.name}-{len(search.trials) + 1:03}-{secrets.token_hex(4)}"
    static = definition.get("StaticHyperParameters", {})
    request = {
        **{key: definition[key] for key in OF_THE_DEFINITION if key in definition},
        "TrainingJobName": name,
        "HyperParameters": {**static, **values, "_tuning_objective_metric": search.metric},
        "Tags": search.request.get("Tags", []),
    }
    if checkpoints := definition.get("CheckpointConfig"):
        request["CheckpointConfig"] = {**checkpoints, "S3Uri": f"{checkpoints['S3Uri'].rstrip('/')}/{name}"}
    run = jobs.record_and_start_job(search.world, request)
    run.record.tuning_job_arn = search.record.arn
    search.trials.append(Trial(run, values))


def end_trials(search: Search) -> None:
    for trial in search.trials:
        runs.request_job_stop(search.world, trial.run.name)
    while any(not trial.ended for trial in search.trials):
        time.sleep(0.1)


def refresh_tuning_record(search: Search) -> None:
    """Bring moto's record up to date, from which the job is described and listed."""
    count = {status: sum(t.run.status == status for t in search.trials) for status in TERMINAL}
    ended, best = sum(count.values()), search.rank_successes()
    search.record.training_job_status_counters = {
        "Completed": count["Completed"],
        "InProgress": len(search.trials) - ended,
        "RetryableError": 0,
        "NonRetryableError": count["Failed"],
        "Stopped": count["Stopped"],
    }
    search.record.objective_status_counters = {
        "Succeeded": len(best),
        "Pending": len(search.trials) - ended,
        "Failed": ended - len(best),
    }
    search.record.best_training_job = summarize_trial(search, best[0]) if best else None
    search.record.consumed_resources = {"RuntimeInSeconds": round(time.time() - search.began)}
    search.record.last_modified_time = datetime.now(UTC).replace(tzinfo=None)


def summarize_trial(search: Search, trial: Trial) -> dict[str, Any]:
    record, value = trial.run.record, search.get_objective(trial)
    summary = {
        "TrainingJobName": trial.run.name,
        "TrainingJobArn": record.arn,
        "CreationTime": record.creation_time,
        "TrainingStartTime": record.training_start_time,
        "TrainingEndTime": record.training_end_time,
        "TrainingJobStatus": trial.run.status,
        "TunedHyperParameters": trial.values,
        "FailureReason": getattr(record, "failure_reason", None),
        "ObjectiveStatus": "Pending"
        if not trial.ended
        else "Succeeded"
        if trial in search.rank_successes()
        else "Failed",
    }
    if trial.ended and value is not None:
        summary["FinalHyperParameterTuningJobObjectiveMetric"] = {"MetricName": search.metric, "Value": value}
    return {key: value for key, value in summary.items() if value is not None}


def iterate_hyperparameters(config: dict[str, Any], name: str) -> Iterator[dict[str, str]]:
    """Yield points of the ranges: all of them for Grid, else random draws seeded with RandomSeed, or with the name."""
    given = config["ParameterRanges"]
    choices = {one["Name"]: one["Values"] for one in given.get("CategoricalParameterRanges", [])}
    if config["Strategy"] == "Grid":
        for values in itertools.product(*choices.values()):
            yield dict(zip(choices, values, strict=True))
        return
    dice = random.Random(config.get("RandomSeed", zlib.crc32(name.encode())))
    while True:
        reals = {one["Name"]: repr(draw_from_range(dice, one)) for one in given.get("ContinuousParameterRanges", [])}
        integers = {
            one["Name"]: str(round(draw_from_range(dice, one))) for one in given.get("IntegerParameterRanges", [])
        }
        yield {**reals, **integers, **{key: dice.choice(values) for key, values in choices.items()}}


def draw_from_range(dice: random.Random, bounds: dict[str, str]) -> float:
    """Draw a number from a range, uniformly on its scale."""
    low, high, scale = float(bounds["MinValue"]), float(bounds["MaxValue"]), bounds.get("ScalingType", "Auto")
    if scale == "Auto":
        scale = "Logarithmic" if low > 0 and high / low >= LOG_FROM else "Linear"
    if scale == "Logarithmic":
        value = math.exp(dice.uniform(math.log(low), math.log(high)))
    elif scale == "ReverseLogarithmic":
        value = 1 - math.exp(dice.uniform(math.log(1 - high), math.log(1 - low)))
    else:
        value = dice.uniform(low, high)
    return min(max(value, low), high)

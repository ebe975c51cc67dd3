"""Tuning jobs: SageMaker draws learning rate and batch size, trains a trial with each, and reports which had the least validation loss.

The objective is a mean over pictures, so trials with different batch sizes can be compared.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

from ops.core import pricing
from ops.core.aws.account import Account
from ops.core.errors import AwsError, OpsError
from ops.core.log_groups import has_log_group
from ops.core.output import format_table, say
from ops.core.plan import Change, Steps, Wait
from ops.core.settings import Settings
from ops.jobs import training_jobs
from ops.jobs.spec import TrainingSpec, build_spec_from_settings

METRIC = "valid:loss"
REGEX = "best valid loss ([0-9.]+)"  # training prints it once a run, when it ends
NAME_CHARACTERS = 32  # AWS's limit for a tuning job; its training jobs' names add 13
MARK = "KENNEL_TUNING"  # in the environment of its trials: the search's digest, which its name has no room for
UNDER_WAY = ("InProgress", "Stopping")
START_S = 900.0  # for a trial's instances to come up, besides train.max_runtime_s
MOST_TRIALS, MOST_PARALLEL = 750, 10  # AWS's quotas
TUNED = ("lr", "batch")
SHARED = ("RoleArn", "InputDataConfig", "OutputDataConfig", "ResourceConfig", "VpcConfig")  # with ordinary jobs


@dataclass(frozen=True)
class Search:
    """A search for hyperparameters: the job that all trials share, the number of trials, and how many run at a time."""

    job: TrainingSpec
    settings: Settings
    trials: int
    parallel: int

    @property
    def static(self) -> dict[str, str]:
        """Return the hyperparameters of every trial. A tuning job has no entry point, so they name the program for SageMaker's toolkit."""
        fixed = {name: value for name, value in self.job.hyperparameters.items() if name not in TUNED}
        program = {"sagemaker_program": "launch.py", "sagemaker_submit_directory": "/opt/ml/input/data/code"}
        return fixed | {name: json.dumps(value) for name, value in program.items()}

    @property
    def digest(self) -> str:
        tune = self.settings.tune.model_dump() | {"jobs": self.trials, "parallel": self.parallel}
        content = [self.job.data.digest, self.job.code, self.static, self.settings.training_image, tune]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def name(self, number: int) -> str:
        """Return the name of the search's attempt `number`: the same for the same data, code and settings.

        With a long stack name only three characters are left for the digest, so two searches can share a name; `is_own` tells them apart.
        """
        digest = hashlib.sha256(f"{self.digest} {number}".encode()).hexdigest()[:8]
        prefix = self.settings.prefix
        head = next((h for h in (f"{prefix}-tune-", f"{prefix}-t") if len(h) + 8 <= NAME_CHARACTERS), f"{prefix}-t")
        return (head + digest)[:NAME_CHARACTERS]

    def is_own(self, described: dict[str, Any]) -> bool:
        return bool(described.get("TrainingJobDefinition", {}).get("Environment", {}).get(MARK) == self.digest)

    @property
    def seconds(self) -> float:
        """Return the most seconds that the search can take, starts included."""
        return -(-self.trials // self.parallel) * (self.settings.train.max_runtime_s + START_S)


def search_from_settings(account: Account, trials: int, parallel: int) -> Search:
    """Return the search that the settings describe; `trials` and `parallel` replace theirs where not 0. Raises OpsError."""
    tune = account.settings.tune
    trials, parallel = trials or tune.jobs, parallel or tune.parallel
    check_search(account.settings, trials, parallel)
    # The job needs some batch size; each trial replaces it by its own.
    job = build_spec_from_settings(account, "sm", tune.instances, {"batch": str(min(tune.batches))})
    settings, dropped = bound_batches(account.settings, job.data.pictures["train"])
    if dropped:
        sizes = ", ".join(map(str, dropped))
        say(
            f"Not tried: batch {sizes} of tune.batches; the dataset has {job.data.pictures['train']} training pictures."
        )
    return Search(job, settings, trials, parallel)


def bound_batches(settings: Settings, pictures: int) -> tuple[Settings, list[int]]:
    """Return the settings without batches of more than the training pictures, and those batches. Raises OpsError if all are.

    A larger batch would be filled up with pictures that it has already.
    """
    usable = [batch for batch in settings.tune.batches if batch <= pictures]
    dropped = [batch for batch in settings.tune.batches if batch > pictures]
    if not usable:
        raise OpsError(
            f"Each of tune.batches {settings.tune.batches} is larger than the dataset, which has {pictures} training pictures. "
            "Set smaller ones. Nothing was started."
        )
    return settings.model_copy(update={"tune": settings.tune.model_copy(update={"batches": usable})}), dropped


def check_search(settings: Settings, trials: int, parallel: int) -> None:
    """Raise OpsError for an empty range, and for numbers beyond AWS's quotas."""
    tune = settings.tune
    if tune.lr_min >= tune.lr_max:
        raise OpsError(f"tune.lr_min {tune.lr_min} must be below tune.lr_max {tune.lr_max}. Nothing was started.")
    if not 1 <= trials <= MOST_TRIALS or not 1 <= parallel <= MOST_PARALLEL:
        raise OpsError(
            f"AWS runs 1 to {MOST_TRIALS} trials, 1 to {MOST_PARALLEL} at a time, not {trials} with {parallel} at a time. Nothing was started."
        )


@dataclass(frozen=True)
class Facts:
    """The facts about a search: the next attempt's name and number, AWS's description of the newest (None without one), the newest completed."""

    free: str
    newest: dict[str, Any] | None = field(default=None, hash=False)
    completed: str = ""
    subnets: tuple[str, ...] = ()
    group: str | None = None
    log_group: bool = True
    number: int = 1

    @property
    def under_way(self) -> str:
        """Return the name of the attempt that runs, or ""."""
        if self.newest and self.newest["HyperParameterTuningJobStatus"] in UNDER_WAY:
            return str(self.newest["HyperParameterTuningJobName"])
        return ""


def find_tuning_job(account: Account, name: str) -> dict[str, Any] | None:
    missing = "ResourceNotFound|Could not find"
    found: dict[str, Any] | None = account.call_or_none(
        "sagemaker", "describe_hyper_parameter_tuning_job", missing, HyperParameterTuningJobName=name
    )
    return found


def facts(account: Account, search: Search) -> Facts:
    number, newest, completed = 1, None, ""
    while found := find_tuning_job(account, search.name(number)):
        if search.is_own(found):
            newest = found
            if found["HyperParameterTuningJobStatus"] == "Completed":
                completed = found["HyperParameterTuningJobName"]
        number += 1
    logged = has_log_group(account, training_jobs.GROUP)
    return Facts(search.name(number), newest, completed, *training_jobs.read_job_network(account), logged, number)


def steps(have: Facts, search: Search, code: str) -> Steps:
    if have.under_way:
        return
    if not have.log_group:
        yield from training_jobs.create_training_log_steps(search.settings)
    args = build_tuning_request(have, search, code)
    try:
        why, rate, most = estimate_search_cost(search)
        yield Change(
            "sagemaker", "create_hyper_parameter_tuning_job", args, why, dollars_per_hour=rate, dollars_at_most=most
        )
    except AwsError as error:
        if not error.says("ResourceInUse"):  # a retry after a lost response: the job of this name is ours
            raise


def follow_trials(account: Account, name: str, search: Search) -> None:
    """Print the trials until the tuning job has ended. This is not a step of the plan: the stack's lease is not held for hours."""
    account.wait(Wait(name, TrialPrinter(name), "until its trials have ended", timeout_s=search.seconds))


def estimate_search_cost(search: Search) -> tuple[str, float, float]:
    """Return (description with the most that it can cost, dollars an hour, dollars in all at most)."""
    train, hosts = search.settings.train, search.settings.tune.instances
    rate = pricing.price_instances("sagemaker", train.instance_type, hosts)
    most = rate * search.trials * train.max_runtime_s / 3600
    why = (
        f"run {search.trials} trials, {search.parallel} at a time, on {hosts} x {train.instance_type}, "
        f"each at most {train.max_runtime_s} s: ${pricing.format_price(most, 2)} at most"
    )
    if any(batch % hosts for batch in search.settings.tune.batches):
        why += f", batches rounded to multiples of {hosts}"
    return why, rate * min(search.parallel, search.trials), most


def build_tuning_request(have: Facts, search: Search, code: str) -> dict[str, Any]:
    name, tune = have.free, search.settings.tune
    return {
        "HyperParameterTuningJobName": name,
        "HyperParameterTuningJobConfig": {
            "Strategy": tune.strategy,
            "HyperParameterTuningJobObjective": {"Type": "Minimize", "MetricName": METRIC},
            "ResourceLimits": {
                "MaxNumberOfTrainingJobs": search.trials,
                "MaxParallelTrainingJobs": search.parallel,
            },
            "ParameterRanges": {
                "ContinuousParameterRanges": [
                    {
                        "Name": "lr",
                        "MinValue": str(tune.lr_min),
                        "MaxValue": str(tune.lr_max),
                        "ScalingType": "Logarithmic",
                    }
                ],
                "CategoricalParameterRanges": [{"Name": "batch", "Values": [str(size) for size in tune.batches]}],
            },
            "TrainingJobEarlyStoppingType": "Off",
            "RandomSeed": tune.seed + have.number - 1,  # repeating the same draws would give no new result
        },
        "TrainingJobDefinition": build_trial_definition(have, search, code),
        "Tags": search.settings.tags(name),
    }


def build_trial_definition(have: Facts, search: Search, code: str) -> dict[str, Any]:
    """Return the definition that all trials share: an ordinary job without entry point, checkpoints and spot capacity."""
    order = training_jobs.Order(search.job, have.free, code, search.settings.tune.instances)
    ordinary = training_jobs.build_training_request(
        training_jobs.Facts(have.free, None, have.subnets, have.group, True), order, search.settings
    )
    return {
        **{key: ordinary[key] for key in SHARED},
        "StaticHyperParameters": search.static,
        "AlgorithmSpecification": {
            "TrainingImage": search.settings.training_image,
            "TrainingInputMode": "File",
            "MetricDefinitions": [{"Name": METRIC, "Regex": REGEX}],
        },
        "StoppingCondition": {"MaxRuntimeInSeconds": search.settings.train.max_runtime_s},
        "Environment": {**ordinary["Environment"], MARK: search.digest},
    }


@dataclass(frozen=True)
class Trial:
    """A trial of a tuning job. `objective` is None without a result, `seconds` is None before its end."""

    name: str
    lr: float
    batch: int
    objective: float | None
    status: str
    seconds: int | None
    reason: str


def list_trials(account: Account, name: str) -> list[Trial]:
    """Return a tuning job's trials in the order of their start."""
    found = account.list_all(
        "sagemaker",
        "list_training_jobs_for_hyper_parameter_tuning_job",
        "TrainingJobSummaries",
        HyperParameterTuningJobName=name,
        SortBy="CreationTime",
    )
    return [parse_trial(summary) for summary in found]


def parse_trial(summary: dict[str, Any]) -> Trial:
    values = summary["TunedHyperParameters"]
    began, ended = summary.get("TrainingStartTime"), summary.get("TrainingEndTime")
    return Trial(
        name=summary["TrainingJobName"],
        lr=float(values["lr"].strip('"')),
        batch=int(values["batch"].strip('"')),
        objective=summary.get("FinalHyperParameterTuningJobObjectiveMetric", {}).get("Value"),
        status=summary["TrainingJobStatus"],
        seconds=round((ended - began).total_seconds()) if began and ended else None,
        reason=summary.get("FailureReason", ""),
    )


@dataclass(frozen=True)
class Outcome:
    """The state of a tuning job. `best` names the trial of the least valid loss, "" before there is one."""

    job: str
    status: str
    trials: list[Trial]
    best: str

    @property
    def best_trial(self) -> Trial:
        return next(trial for trial in self.trials if trial.name == self.best)


def read_outcome(account: Account, name: str) -> Outcome:
    """Return the trials as they are now. Raises OpsError for a search that ended without a best trial."""
    described, trials = find_tuning_job(account, name), list_trials(account, name)
    status = described["HyperParameterTuningJobStatus"] if described else "(deleted)"
    best = (described or {}).get("BestTrainingJob", {}).get("TrainingJobName", "")
    if status not in UNDER_WAY and (status == "Failed" or not best):
        reason = (described or {}).get("FailureReason") or "no trial has a result"
        log = f"\nRead a trial's log: invoke sm.logs --job {trials[-1].name}" if trials else ""
        raise OpsError(f"{format_trial_table(trials, best)}\n{name} ended {status}: {reason}{log}")
    return Outcome(name, status, trials, best)


def format_trial_table(trials: list[Trial], best: str) -> str:
    """Return the trials as a table, the best one marked."""
    lines = [
        (
            "*" if trial.name == best else "",
            trial.name,
            trial.status,
            f"{trial.lr:.3g}",
            trial.batch,
            "-" if trial.objective is None else f"{trial.objective:.4f}",
            "-" if trial.seconds is None else f"{trial.seconds} s",
        )
        for trial in trials
    ]
    return format_table(("", "trial", "status", "lr", "batch", "valid loss", "trained"), lines)


def find_best_hyperparameters(account: Account, tuning_job: str) -> dict[str, str]:
    """Return the best trial's lr and batch, as hyperparameters of a job. Raises OpsError when there is none."""
    described = find_tuning_job(account, tuning_job)
    if described is None:
        raise OpsError(f"There is no tuning job {tuning_job}. Run one: invoke sm.tune")
    status = described["HyperParameterTuningJobStatus"]
    if status in UNDER_WAY:
        raise OpsError(f"{tuning_job} is still {status}. Follow it to its end: invoke sm.tune")
    values = described.get("BestTrainingJob", {}).get("TunedHyperParameters", {})
    if not set(TUNED) <= set(values):
        reason = described.get("FailureReason") or "no trial has a result"
        raise OpsError(
            f"{tuning_job} ended {status} without a best trial: {reason}\nSearch again: invoke sm.tune --again"
        )
    return {name: values[name].strip('"') for name in TUNED}


class TrialPrinter:
    """The probe of a tuning job: each call prints the trials that changed, and returns a text while the job runs, then its description."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._printed: dict[str, str] = {}

    def __call__(self, account: Account) -> str | dict[str, Any]:
        described: dict[str, Any] = account.call(
            "sagemaker", "describe_hyper_parameter_tuning_job", HyperParameterTuningJobName=self.name
        )
        trials = list_trials(account, self.name)
        for trial in trials:
            line = describe_trial(trial)
            if self._printed.get(trial.name) != line:
                self._printed[trial.name] = line
                say(line)
        if described["HyperParameterTuningJobStatus"] not in UNDER_WAY:
            return described
        ended = sum(trial.status not in UNDER_WAY for trial in trials)
        most = described["HyperParameterTuningJobConfig"]["ResourceLimits"]["MaxNumberOfTrainingJobs"]
        return f"{described['HyperParameterTuningJobStatus']}, {ended} of {most} trials ended"


def describe_trial(trial: Trial) -> str:
    result = "" if trial.objective is None else f", valid loss {trial.objective:.4f}"
    reason = f": {trial.reason}" if trial.reason else ""
    return f"  {trial.name}: lr {trial.lr:.3g}, batch {trial.batch}: {trial.status}{result}{reason}"

"""Commands for training jobs on SageMaker: start, follow, stop, explain and evaluate them."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from invoke import Context

from ops.core.errors import FINDINGS, OpsError
from ops.core.task import Result, run_plan, task

if TYPE_CHECKING:
    from ops.core.aws.account import Account
    from ops.jobs.training_jobs import Facts, Order

CLIENTS = ("boto3", "sdk")


@task(
    help={
        "data": "Dataset folder to push first (default: train on the current dataset in the bucket).",
        "instances": "Number of hosts (default: 1).",
        "spot": "Use managed spot training: cheaper; an interrupted job resumes from its checkpoint.",
        "wait": "Follow the job until it ends (default); --no-wait only starts it.",
        "again": "Train again, even if the same dataset, code and settings were trained before.",
        "from_tuning": "Tuning job whose best trial gives learning rate and batch size.",
        "via": "Client: boto3 or sdk, the SageMaker SDK's ModelTrainer (default: boto3).",
        "json": "Print the result as JSON.",
    }
)
def train(
    c: Context,
    data: str = "",
    instances: int = 1,
    spot: bool = False,
    wait: bool = True,
    again: bool = False,
    from_tuning: str = "",
    via: str = "boto3",
    json: bool = False,
) -> Result | None:
    """Train on SageMaker, on one or more hosts, and follow the log.

    A job of the same dataset, code and settings that is already running is
    followed; a stopped one is resumed.

    Example: invoke sm.train --instances 2 --spot
    """
    from ops.core.aws.account import Account
    from ops.datasets import push
    from ops.jobs import follow, spec, training_jobs, tuning
    from ops.releases.trained_model import read_training_result

    if via not in CLIENTS:
        raise OpsError(f"--via must be one of {', '.join(CLIENTS)}, not {via!r}. See: invoke --help sm.train")
    account = Account.from_context(c)
    # Under --dry nothing is pushed, so the current dataset in the bucket is not the one that would be trained on.
    manifest = push.push_dataset(account, Path(data).expanduser(), dry=c.config.run.dry).manifest if data else None
    chosen = tuning.find_best_hyperparameters(account, from_tuning) if from_tuning else None
    job = spec.build_spec_from_settings(account, "sm", instances, chosen, manifest)
    have = training_jobs.facts(account, job)
    if have.completed and not again:
        found = training_jobs.describe_existing(account, have.completed)
        text = f"{have.completed} was already trained with this dataset, code and settings; --again trains again."
        return Result(asdict(read_training_result(account, found)), text)
    training_jobs.check_network(have.subnets, have.group, "train")
    account.guard()
    attempt, changes = have.attempt, 0
    if have.status not in training_jobs.UNDER_WAY:
        attempt = training_jobs.name_next_attempt(have, job)
        have = replace(have, root=attempt) if again else have  # from the start, not from a checkpoint
        code = "code/.../" if c.config.run.dry else spec.send_code(account, job)
        changes = submit_training_job(c, account, have, training_jobs.Order(job, attempt, code, instances, spot), via)
        if c.config.run.dry:
            return None
    if not wait:
        return Result({"job": attempt}, f"{attempt} is running. Next: invoke sm.attach {attempt}", changes=changes)
    return report_training(account, follow.follow_training_job(account, attempt), changes)


def submit_training_job(c: Context, account: Account, have: Facts, order: Order, via: str) -> int:
    """Start the job through boto3 or the SageMaker SDK, with equal requests; return the number of changes."""
    from ops.jobs import training_jobs

    if via == "sdk":
        from ops.jobs.sdk import SdkAccount

        account = SdkAccount(account.settings, account.role)
    return run_plan(c, account, training_jobs.steps, have, order, account.settings).changes


def report_training(account: Account, described: dict[str, Any], changes: int = 0) -> Result:
    """Return the result of a completed job, as text and as data."""
    from ops.releases.trained_model import describe_result, read_training_result

    found = read_training_result(account, described)
    return Result(asdict(found), describe_result(found, described), changes=changes)


@task(
    positional=["job"],
    help={"job": "Name of the training job (default: the newest one).", "json": "Print the result as JSON."},
)
def attach(c: Context, job: str = "", json: bool = False) -> Result:
    """Follow the log of a training job from its first line until it ends.

    Example: invoke sm.attach JOB
    """
    from ops.core.aws.account import Account
    from ops.jobs import follow, training_jobs

    account = Account.from_context(c)
    job = training_jobs.name_job(account, job)
    training_jobs.describe_existing(account, job)
    return report_training(account, follow.follow_training_job(account, job))


@task(help={"job": "Name of the training job."})
def stop(c: Context, job: str) -> Result | None:
    """Stop a training job and keep its checkpoint.

    The next sm.train resumes from the checkpoint.

    Example: invoke sm.stop JOB
    """
    from ops.core.aws.account import Account
    from ops.jobs import training_jobs

    account = Account.from_context(c)
    found = training_jobs.describe_existing(account, job)
    if found["TrainingJobStatus"] not in training_jobs.UNDER_WAY:
        return Result({"job": job}, f"{job} has already ended: {found['TrainingJobStatus']}.")
    done = run_plan(c, account, training_jobs.stop_job_steps, found)
    if c.config.run.dry:
        return None
    hosts = found["ResourceConfig"]["InstanceCount"]
    again = "invoke sm.train" + (f" --instances {hosts}" if hosts > 1 else "")
    return Result(done.data, f"{job} is stopped. Resume it: {again}", changes=done.changes)


@task(
    positional=["job"],
    help={
        "job": "Name of the training job (default: the newest one).",
        "quiet_s": "Seconds without a log line after which a running job counts as stuck (default: 600).",
        "json": "Print the result as JSON.",
    },
)
def explain(c: Context, job: str = "", quiet_s: int = 600, json: bool = False) -> Result:
    """Explain why a training job failed, or whether it makes progress.

    Prints cause, evidence and the next command; exit code 7 if something is
    wrong.

    Example: invoke sm.explain JOB
    """
    from ops.core.aws.account import Account
    from ops.jobs import failures, training_jobs

    account = Account.from_context(c)
    job = training_jobs.name_job(account, job)
    found = failures.explain_job(account, job, training_jobs.describe_existing(account, job), quiet_s)
    text = f"{found.job}  {found.status}\ncause:    {found.cause}\nevidence: {found.evidence or '-'}\nNext: {found.fix}"
    return Result(asdict(found), text, code=FINDINGS if found.wrong else 0)


@task(
    help={
        "job": "Training job (default: the newest completed job of the current settings).",
        "instances": "Number of hosts of the default job (default: 1).",
        "live": "Evaluate the endpoint instead, on this number of test pictures.",
        "seed": "Random seed for the choice of pictures with --live (default: 0).",
        "json": "Print the result as JSON.",
    }
)
def evaluate(c: Context, job: str = "", instances: int = 1, live: int = 0, seed: int = 0, json: bool = False) -> Result:
    """Measure the accuracy of a trained model, or of the endpoint, on test pictures.

    The model runs on this machine on the whole test split of its own dataset.
    With --live, exit code 7 if the endpoint is worse than its release was.

    Example: invoke sm.evaluate --live 200
    """
    from ops.core.aws.account import Account
    from ops.endpoint import evaluation
    from ops.jobs.training_jobs import find_newest_completed

    account = Account.from_context(c)
    if live:
        seen = evaluation.evaluate_endpoint(account, live, seed)
        counted = f"Accuracy {seen.accuracy:.4f}: {seen.right} of {seen.pictures} test pictures right, by config {seen.config}."
        return Result(asdict(seen), "\n".join([counted, *seen.wrong]), code=FINDINGS if seen.wrong else 0)
    job = job or find_newest_completed(account, instances)
    found = evaluation.evaluate_model(account, job)
    return Result(asdict(found), f"Accuracy {found.accuracy:.4f} on {found.pictures} test pictures, by {job}.")

"""Training on SageMaker from the command line: submit, follow, stop, and ask what came of it."""

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

ROADS = ("boto3", "sdk")


@task(
    help={
        "data": "Folder of pictures to push first; without it, the data set that was pushed last.",
        "instances": "Hosts that train together.",
        "spot": "On spot capacity: cheaper, may be interrupted, carries on from its checkpoint.",
        "wait": "Follow it to its end; with --no-wait it is only started.",
        "again": "Train even if the same data, code and settings were trained before.",
        "from_tuning": "A tuning job's name: take learning rate and batch of its best trial.",
        "via": "boto3, or sdk: through the SageMaker SDK's ModelTrainer.",
        "json": "Print job, metrics and ledger as JSON.",
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
    """Train on SageMaker, on one host or several; follow the logs."""
    from ops.core.aws.account import Account
    from ops.datasets import push
    from ops.jobs import follow, spec, training_jobs, tuning
    from ops.releases.trained_model import read_training_result

    if via not in ROADS:
        raise OpsError(f"--via is one of {', '.join(ROADS)}, not {via!r}.")
    account = Account.from_context(c)
    # Under --dry nothing is pushed, and what was pushed before is not what would be trained on.
    manifest = push.push_dataset(account, Path(data).expanduser(), dry=c.config.run.dry).manifest if data else None
    chosen = tuning.find_best_hyperparameters(account, from_tuning) if from_tuning else None
    job = spec.build_spec_from_settings(account, "sm", instances, chosen, manifest)
    have = training_jobs.facts(account, job)
    if have.completed and not again:
        found = training_jobs.describe_existing(account, have.completed)
        text = f"{have.completed} was trained before, from the same data, code and settings. --again trains anew."
        return Result(asdict(read_training_result(account, found)), text)
    training_jobs.check_network(have.subnets, have.group, "train")
    account.guard()
    attempt, made = have.attempt, 0
    if have.status not in training_jobs.UNDER_WAY:
        attempt = training_jobs.name_next_attempt(have, job)
        have = replace(have, root=attempt) if again else have  # from the start, and not from a checkpoint
        code = "code/.../" if c.config.run.dry else spec.send_code(account, job)
        made = submit_training_job(c, account, have, training_jobs.Order(job, attempt, code, instances, spot), via)
        if c.config.run.dry:
            return None
    if not wait:
        return Result({"job": attempt}, f"{attempt} is under way. Next: invoke sm.attach {attempt}", changes=made)
    return report_training(account, follow.follow_training_job(account, attempt), made)


def submit_training_job(c: Context, account: Account, have: Facts, order: Order, via: str) -> int:
    """Send our own request, or the SDK's, which is the same job; return how many changes were made."""
    from ops.jobs import training_jobs

    if via == "sdk":
        from ops.jobs.sdk import SdkAccount

        account = SdkAccount(account.settings, account.role)
    return run_plan(c, account, training_jobs.steps(have, order, account.settings)).changes


def report_training(account: Account, described: dict[str, Any], made: int = 0) -> Result:
    """Return the result of a completed job, as text and as data."""
    from ops.releases.trained_model import describe_result, read_training_result

    found = read_training_result(account, described)
    return Result(asdict(found), describe_result(found, described), changes=made)


@task(help={"job": "A training job's name.", "json": "Print job, metrics and ledger as JSON."})
def attach(c: Context, job: str, json: bool = False) -> Result:
    """Follow a training job, from its first line to its end."""
    from ops.core.aws.account import Account
    from ops.jobs import follow, training_jobs

    account = Account.from_context(c)
    training_jobs.describe_existing(account, job)
    return report_training(account, follow.follow_training_job(account, job))


@task(help={"job": "A training job's name."})
def stop(c: Context, job: str) -> Result | None:
    """Stop a training job; its checkpoint is kept, and the next sm.train carries on from it."""
    from ops.core.aws.account import Account
    from ops.jobs import training_jobs

    account = Account.from_context(c)
    found = training_jobs.describe_existing(account, job)
    if found["TrainingJobStatus"] not in training_jobs.UNDER_WAY:
        return Result({"job": job}, f"{job} has ended already: {found['TrainingJobStatus']}.")
    done = run_plan(c, account, training_jobs.stop_job_steps(found))
    if c.config.run.dry:
        return None
    return Result(done.data, f"{job} is stopped. Next: invoke sm.train carries on.", changes=done.changes)


@task(
    help={
        "job": "A training job's name.",
        "quiet_s": "A job under way counts as stuck after so many seconds without a line.",
        "json": "Print it as JSON.",
    }
)
def explain(c: Context, job: str, quiet_s: int = 600, json: bool = False) -> Result:
    """Say why a training job failed, or whether it moves; exit 7 when something is wrong."""
    from ops.core.aws.account import Account
    from ops.jobs import failures, training_jobs

    account = Account.from_context(c)
    found = failures.explain_job(account, job, training_jobs.describe_existing(account, job), quiet_s)
    text = f"{found.job}  {found.status}\ncause:    {found.cause}\nevidence: {found.evidence or '-'}\nNext: {found.fix}"
    return Result(asdict(found), text, code=FINDINGS if found.wrong else 0)


@task(
    help={
        "job": "A training job's name.",
        "instances": "Without --job: the job that `sm.train --instances N` runs.",
        "live": "Instead, ask the endpoint about so many pictures of the test split; exit 7 when it is worse than it should be.",
        "seed": "With --live: which pictures.",
        "json": "Print every answer as JSON.",
    }
)
def evaluate(c: Context, job: str = "", instances: int = 1, live: int = 0, seed: int = 0, json: bool = False) -> Result:
    """Ask a trained model itself about the whole test split, on this machine; or the live endpoint."""
    from ops.core.aws.account import Account
    from ops.endpoint import evaluation
    from ops.jobs.training_jobs import find_newest_completed

    account = Account.from_context(c)
    if live:
        seen = evaluation.evaluate_endpoint(account, live, seed)
        counted = (
            f"{seen.right} of {seen.pictures} test pictures are right ({seen.accuracy:.4f}), by config {seen.config}."
        )
        return Result(asdict(seen), "\n".join([counted, *seen.wrong]), code=FINDINGS if seen.wrong else 0)
    found = evaluation.evaluate_model(account, job or find_newest_completed(account, instances))
    return Result(asdict(found), f"{found.accuracy:.4f} of {found.pictures} test pictures are right.")

"""Training on SageMaker from the command line: submit, follow, stop, and ask what came of it."""

from __future__ import annotations

from pathlib import Path

from ops.core.aws.account import Account
from ops.core.errors import FINDINGS, OpsError
from ops.core.task import Result, carry_out, task

WAYS = ("boto3", "sdk")


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
def train(c, data="", instances=1, spot=False, wait=True, again=False, from_tuning="", via="boto3", json=False):
    """Train on SageMaker, on one host or several; follow the logs."""
    from dataclasses import replace

    from ops.commands import sm_tuning
    from ops.datasets import push
    from ops.jobs import follow, spec, training_jobs

    if via not in WAYS:
        raise OpsError(f"--via is one of {', '.join(WAYS)}, not {via!r}.")
    account = Account.from_context(c)
    # Under --dry nothing is pushed, and what was pushed before is not what would be trained on.
    manifest = push.push(account, Path(data).expanduser(), dry=c.config.run.dry).manifest if data else None
    chosen = sm_tuning.best(account, from_tuning) if from_tuning else None
    job = spec.wanted(account, "sm", instances, chosen, manifest)
    have = training_jobs.facts(account, job)
    if have.completed and not again:
        found = training_jobs.describe(account, have.completed)
        assert found is not None
        text = f"{have.completed} was trained before, from the same data, code and settings. --again trains anew."
        return Result(told(account, found), text)
    if have.group is None or len(have.subnets) < 2:
        raise OpsError("There is no network to train in. Make it: invoke net.up")
    account.guard()
    attempt, made = have.attempt, 0
    if have.status not in training_jobs.UNDER_WAY:
        attempt = training_jobs.next_attempt(have, job)
        have = replace(have, root=attempt) if again else have  # anew, and not from a checkpoint
        code = "code/.../" if c.config.run.dry else spec.send_code(account, job)
        made = submit(c, account, have, training_jobs.Order(job, attempt, code, instances, spot), via)
        if c.config.run.dry:
            return None
    if not wait:
        return Result({"job": attempt}, f"{attempt} is under way. Next: invoke sm.attach {attempt}", changes=made)
    return ended(account, follow.follow(account, attempt), made)


def submit(c, account, have, order, via: str) -> int:
    """By our own request, or by the SDK's, which is the same job. How many changes were made."""
    from ops.jobs import sdk, training_jobs

    through = sdk.SdkAccount(account.settings, account.role) if via == "sdk" else account
    return carry_out(c, through, training_jobs.steps(have, order, account.settings)).changes


def ended(account, described, made: int = 0) -> Result:
    """What a job that completed came to, for people and as data."""
    from ops.jobs import follow

    name, data = described["TrainingJobName"], told(account, described)
    test, hosts = data["test"], described["ResourceConfig"]["InstanceCount"]
    if data["ledger"].get("processes", 0) < hosts:
        raise OpsError(f"{name} had {hosts} hosts, but its ledger names fewer processes: each may have trained alone.")
    padding = data["ledger"]["padding"]
    proof = "each picture once an epoch" + (f", {padding} once more to fill up batches" if padding else "")
    text = (
        f"{name}: Completed. Test accuracy {test['accuracy']:.4f}, loss {test['loss']:.4f} on {test['pictures']} pictures; "
        f"ledger: {proof}; ${data['dollars']:.4f}. {follow.saving(described)}\n"
        f"Next: invoke sm.report {name}   then: invoke sm.deploy --job {name}"
    )
    return Result(data, text, changes=made)


def told(account, described) -> dict:
    """{"job", "artefact", "test", "best_epoch", "ledger", "seconds", "dollars"} of a job that completed."""
    from ops.jobs import follow
    from ops.releases import build
    from ops.reports import results

    name = described["TrainingJobName"]
    folder = build.fetch(account, name)
    lines, _ = results.lines_of(folder / "metrics.jsonl")
    last = lines[-1] if lines else {}
    ledger = results.json_of(folder / "ledger.json") or {}
    return {
        "job": name,
        "artefact": described["ModelArtifacts"]["S3ModelArtifacts"],
        "test": last.get("test", {}),
        "best_epoch": last.get("best_epoch"),
        "ledger": {key: value for key, value in ledger.items() if key != "passes"},
        "seconds": described.get("TrainingTimeInSeconds"),
        "dollars": round(follow.dollars(described), 4),
    }


def existing(account, job: str):
    """The job as described. Raises OpsError when there is none."""
    from ops.jobs import training_jobs

    found = training_jobs.describe(account, job)
    if found is None:
        raise OpsError(
            f"There is no training job {job}. Its name was printed when it was started; invoke sm.train starts one."
        )
    return found


@task(help={"job": "A training job's name.", "json": "Print job, metrics and ledger as JSON."})
def attach(c, job, json=False):
    """Follow a training job, from its first line to its end."""
    from ops.jobs import follow

    account = Account.from_context(c)
    existing(account, job)
    return ended(account, follow.follow(account, job))


@task(help={"job": "A training job's name."})
def stop(c, job):
    """Stop a training job; its checkpoint is kept, and the next sm.train carries on from it."""
    from ops.jobs import training_jobs

    account = Account.from_context(c)
    found = existing(account, job)
    if found["TrainingJobStatus"] not in training_jobs.UNDER_WAY:
        return Result({"job": job}, f"{job} has ended already: {found['TrainingJobStatus']}.")

    done = carry_out(c, account, training_jobs.ending(found))
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
def explain(c, job, quiet_s=600, json=False):
    """Say why a training job failed, or whether it moves; exit 7 when something is wrong."""
    from dataclasses import asdict

    from ops.jobs import failures

    account = Account.from_context(c)
    found = failures.explain(account, job, existing(account, job), quiet_s)
    text = (
        f"{found.job}  {found.status}\ncause:    {found.cause}\nevidence: {found.evidence or '-'}\nNext: {found.next}"
    )
    return Result(asdict(found), text, code=FINDINGS if found.wrong else 0)


def trained(account, instances: int) -> str:
    """The newest completed attempt of the current data, code and settings. Raises OpsError."""
    from ops.jobs import spec, training_jobs

    job = spec.wanted(account, "sm", instances)
    have = training_jobs.facts(account, job)
    if not have.completed:
        raise OpsError(
            f"No completed training of these data, code and settings on {instances} hosts. Run: invoke sm.train --instances {instances}"
        )
    return have.completed


@task(
    help={
        "job": "A training job's name.",
        "instances": "Without --job: the job that `sm.train --instances N` runs.",
        "live": "Instead, ask the endpoint about so many pictures of the test split; exit 7 when it is worse than it should be.",
        "seed": "With --live: which pictures.",
        "json": "Print every answer as JSON.",
    }
)
def evaluate(c, job="", instances=1, live=0, seed=0, json=False):
    """Ask a trained model itself about the whole test split, on this machine; or the live endpoint."""
    from ops.endpoint import evaluation
    from ops.releases import offline

    account = Account.from_context(c)
    if live:
        return evaluation.evaluate(account, live, seed)
    found = offline.evaluate(account, job or trained(account, instances))
    return Result(found, f"{found['accuracy']:.4f} of {found['pictures']} test pictures are right.")

"""Training on SageMaker from the command line: submit, and ask what came of it."""

from __future__ import annotations

from ops.aws import Account
from ops.cli import Answer, carry_out, task
from ops.errors import OpsError


@task(
    help={
        "instances": "Hosts that train together.",
        "again": "Train even if the same data, code and settings were trained before.",
    }
)
def train(c, instances=1, again=False):
    """Train on SageMaker, on one host or several; follow the logs."""
    from ops import dataset, payload
    from ops.sm import jobs

    account = Account.of(c)
    job = payload.job(account.settings, dataset.current(account), "sm", instances)
    have = jobs.facts(account, job)
    if have.completed and not again:
        return Answer(
            {"job": have.completed},
            f"{have.completed} was trained before, from the same data, code and settings. --again trains anew.",
        )
    if have.group is None or len(have.subnets) < 2:
        raise OpsError("There is no network to train in. Make it: invoke net.up")
    account.guard()
    attempt, made = have.attempt, 0
    if have.status not in jobs.UNDER_WAY:
        attempt = jobs.next_attempt(have, job)
        code = "code/.../" if c.config.run.dry else payload.send_code(account, job)
        made = carry_out(c, account, jobs.steps(have, attempt, job, code, instances, account.settings)).changes
        if c.config.run.dry:
            return None
    described = jobs.follow(account, attempt)
    return Answer(
        {"job": attempt, "artefact": described["ModelArtifacts"]["S3ModelArtifacts"]},
        f"{attempt}: Completed. Next: invoke sm.deploy --job {attempt}",
        changes=made,
    )


def trained(account, instances: int) -> str:
    """The newest completed attempt of the current data, code and settings. Raises OpsError."""
    from ops import dataset, payload
    from ops.sm import jobs

    job = payload.job(account.settings, dataset.current(account), "sm", instances)
    have = jobs.facts(account, job)
    if not have.completed:
        raise OpsError(
            f"No completed training of these data, code and settings on {instances} hosts. Run: invoke sm.train --instances {instances}"
        )
    return have.completed


@task(
    help={
        "job": "A training job's name.",
        "instances": "Without --job: the job that `sm.train --instances N` runs.",
        "json": "Print every answer as JSON.",
    }
)
def evaluate(c, job="", instances=1, json=False):
    """Ask a trained model itself about the whole test split, on this machine."""
    from ops.sm import offline

    account = Account.of(c)
    found = offline.evaluate(account, job or trained(account, instances))
    return Answer(found, f"{found['accuracy']:.4f} of {found['pictures']} test pictures are right.")

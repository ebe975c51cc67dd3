"""SageMaker training jobs: read the attempts that exist, and plan the next one."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from ops.core import pricing
from ops.core.aws.account import Account
from ops.core.errors import OpsError
from ops.core.log_groups import has_log_group, log_group_steps
from ops.core.nearest import find_nearest
from ops.core.output import say
from ops.core.plan import Change, Steps, Wait
from ops.core.settings import Settings
from ops.jobs.spec import TrainingSpec, build_spec_from_settings, read_commit

GROUP = "/aws/sagemaker/TrainingJobs"
UNDER_WAY = ("InProgress", "Stopping")
# The same command works on SageMaker, where OPT_ML is unset, and in the sandbox, where each host has its own.
ENTRY = ["sh", "-c", 'exec python "${OPT_ML:-/opt/ml}/input/data/code/launch.py"']


@dataclass(frozen=True)
class Facts:
    """The facts about a job: its newest attempt, AWS's description of that (None without one), and the newest that completed."""

    attempt: str
    described: dict[str, Any] | None
    subnets: tuple[str, ...]
    group: str | None
    log_group: bool
    completed: str = ""
    root: str = ""  # the first attempt after the newest completed one; the next attempt resumes from its checkpoints

    @property
    def status(self) -> str:
        return self.described["TrainingJobStatus"] if self.described else ""


def find_training_job(account: Account, name: str) -> dict[str, Any] | None:
    missing = "Could not find|Requested resource not found"
    found: dict[str, Any] | None = account.call_or_none(
        "sagemaker", "describe_training_job", missing, TrainingJobName=name
    )
    return found


def describe_existing(account: Account, name: str) -> dict[str, Any]:
    """Return AWS's description of the job. Raises OpsError when there is none."""
    # IAM lets the operator describe jobs of this stack only: any other name would be answered with AccessDenied.
    found = find_training_job(account, name) if name.startswith(f"{account.settings.prefix}-") else None
    if found is None:
        raise build_missing_job_error(account, name)
    return found


def build_missing_job_error(account: Account, name: str) -> OpsError:
    """Return the error for a job that this stack does not have; it names the most similar job that has files in the bucket."""
    jobs = [folder.split("/")[1] for folder in account.bucket.folders("jobs/")]
    near = find_nearest(name, jobs, cutoff=0.5)
    hint = f"Did you mean {near}?" if near else f"Its jobs begin with {account.settings.prefix}-."
    return OpsError(f"No job of this stack is called {name}. {hint} Start one: invoke sm.train")


def name_job(account: Account, given: str, *statuses: str) -> str:
    """Return the job's name that was given; without one the newest job of this stack that has one of these statuses, and say which.

    Without `statuses`, any will do. Trials of a tuning job are left out. Raises OpsError when there is no such job.
    """
    if given:
        return given
    prefix = account.settings.prefix
    order: dict[str, Any] = {
        "NameContains": f"{prefix}-sm",
        "SortBy": "CreationTime",
        "SortOrder": "Descending",
        "MaxResults": 100,
    }
    jobs = account.call("sagemaker", "list_training_jobs", **order)["TrainingJobSummaries"]
    own = [job for job in jobs if re.match(rf"{re.escape(prefix)}-sm\d+-", job["TrainingJobName"])]
    found = [job for job in own if not statuses or job["TrainingJobStatus"] in statuses]
    if not found:
        kind = f"{statuses[0].lower()} training job" if statuses else "training job"
        raise OpsError(f"The stack {account.settings.stack.name} has no {kind}. Start one: invoke sm.train")
    newest = max(found, key=lambda job: job["CreationTime"])
    name: str = newest["TrainingJobName"]
    say(f"The newest job is {name} ({newest['TrainingJobStatus']}, {newest['CreationTime']:%Y-%m-%d %H:%M} UTC).")
    return name


def find_newest_completed(account: Account, instances: int) -> str:
    """Return the newest completed attempt with the current data, code and settings, and say which. Raises OpsError."""
    have = facts(account, build_spec_from_settings(account, "sm", instances))
    if not have.completed:
        hosts = f"{instances} host{'s' if instances > 1 else ''}"
        raise OpsError(
            f"No completed job with the current data, code and settings on {hosts}. Name another with --job, or run: "
            f"invoke sm.train --instances {instances}"
        )
    say(f"The newest completed job of the current settings is {have.completed}.")
    return have.completed


def facts(account: Account, job: TrainingSpec) -> Facts:
    number, described, completed, root = 1, find_training_job(account, job.attempt(1)), "", job.attempt(1)
    newer = described
    while newer:
        described = newer
        if described["TrainingJobStatus"] == "Completed":
            completed, root = job.attempt(number), job.attempt(number + 1)
        newer = find_training_job(account, job.attempt(number + 1))
        number += bool(newer)
    logged = has_log_group(account, GROUP)
    return Facts(job.attempt(number), described, *read_job_network(account), logged, completed, root)


def read_job_network(account: Account) -> tuple[tuple[str, ...], str | None]:
    """Return (private subnets, the jobs' security group) of this stack; empty and None before net.up."""
    subnets = tuple(sorted(s["SubnetId"] for s in account.list_tagged("describe_subnets", "Subnets")))
    groups = account.list_tagged(
        "describe_security_groups", "SecurityGroups", group_name=f"{account.settings.prefix}-job"
    )
    return subnets, groups[0]["GroupId"] if groups else None


def check_network(subnets: tuple[str, ...], group: str | None, purpose: str) -> None:
    """Raise OpsError when AWS would have no network for the instances; `purpose` says what they do there."""
    if group is None or len(subnets) < 2:
        raise OpsError(f"There is no network to {purpose} in. Create it: invoke net.up")


def create_training_log_steps(settings: Settings) -> Steps:
    """Return the creation of the log group that all training jobs of an account and region share; SageMaker's roles cannot create it."""
    return log_group_steps(GROUP, settings.endpoint.log_days, "create the log group of training jobs")


def name_next_attempt(have: Facts, job: TrainingSpec) -> str:
    number = int(have.attempt.removeprefix(job.name).lstrip("-") or 1)
    return job.attempt(number + 1) if have.described else have.attempt


@dataclass(frozen=True)
class Order:
    """The attempt to start: the job, the attempt's name, the prefix of its code, and how many hosts run it."""

    job: TrainingSpec
    attempt: str
    code: str
    hosts: int = 1
    spot: bool = False


def steps(have: Facts, order: Order, settings: Settings) -> Steps:
    if not have.log_group:
        yield from create_training_log_steps(settings)
    rate = pricing.price_instances("sagemaker", settings.train.instance_type, order.hosts)
    why = f"train on {order.hosts} x {settings.train.instance_type}, at most {settings.train.max_runtime_s} s"
    if int(order.job.hyperparameters["batch"]) % order.hosts:
        why += f", batch {order.job.hyperparameters['batch']} rounded to a multiple of {order.hosts}"
    if order.spot:
        why += ", on spot capacity (AWS may interrupt it; the price shown is on demand)"
    yield Change(
        "sagemaker",
        "create_training_job",
        build_training_request(have, order, settings),
        why,
        dollars_per_hour=rate,
        dollars_at_most=rate * settings.train.max_runtime_s / 3600,
    )


def build_training_request(have: Facts, order: Order, settings: Settings) -> dict[str, Any]:
    job, train, bucket = order.job, settings.train, f"s3://{settings.bucket}"
    stopping = {"MaxRuntimeInSeconds": train.max_runtime_s}
    if order.spot:
        stopping["MaxWaitTimeInSeconds"] = max(train.max_wait_s, train.max_runtime_s)
    return {
        "TrainingJobName": order.attempt,
        "AlgorithmSpecification": {
            "TrainingImage": settings.training_image,
            "TrainingInputMode": "File",
            "ContainerEntrypoint": ENTRY,
        },
        "RoleArn": settings.role_arn("sagemaker-execution"),
        "HyperParameters": job.hyperparameters,
        "Environment": {"KENNEL_COMMIT": read_commit()},
        "InputDataConfig": build_input_channels(order.job, order.code, settings),
        "OutputDataConfig": {"S3OutputPath": f"{bucket}/jobs"},
        "CheckpointConfig": {"S3Uri": f"{bucket}/checkpoints/{have.root or order.attempt}"},
        "ResourceConfig": {
            "InstanceType": train.instance_type,
            "InstanceCount": order.hosts,
            "VolumeSizeInGB": train.volume_gib,
        },
        "VpcConfig": {"Subnets": list(have.subnets), "SecurityGroupIds": [have.group]},
        "StoppingCondition": stopping,
        "EnableManagedSpotTraining": order.spot,
        "EnableNetworkIsolation": False,
        "EnableInterContainerTrafficEncryption": False,
        "Tags": settings.tags(order.attempt),
    }


def build_input_channels(job: TrainingSpec, code: str, settings: Settings) -> list[dict[str, Any]]:
    """Return the channels that each host finds below /opt/ml/input/data: code, data, and initial weights if there are any."""
    bucket = f"s3://{settings.bucket}"
    found = [
        build_input_channel("code", "S3Prefix", f"{bucket}/{code}"),
        build_input_channel("data", "ManifestFile", f"{bucket}/{job.data.channel_key}"),
    ]
    return found + (
        [build_input_channel("weights", "S3Prefix", f"{bucket}/{job.weights.prefix}")] if job.weights else []
    )


def build_input_channel(name: str, data_type: str, uri: str) -> dict[str, Any]:
    source = {"S3DataType": data_type, "S3Uri": uri, "S3DataDistributionType": "FullyReplicated"}
    return {"ChannelName": name, "DataSource": {"S3DataSource": source}, "InputMode": "File"}


def stop_job_steps(described: dict[str, Any]) -> Steps:
    """Yield the stop of a running job, and the wait for its end."""
    name, is_trial = described["TrainingJobName"], "TuningJobArn" in described
    if described["TrainingJobStatus"] != "Stopping":
        last = "a trial of a search writes no checkpoint" if is_trial else "it has 120 s to write a checkpoint"
        why = f"stop {name}; {last}"
        yield Change("sagemaker", "stop_training_job", {"TrainingJobName": name}, why)

    def until(account: Account) -> Any:
        found = account.call("sagemaker", "describe_training_job", TrainingJobName=name)
        return found["SecondaryStatus"] if found["TrainingJobStatus"] in UNDER_WAY else found

    yield Wait(name, until, why="AWS ends its hosts" if is_trial else "it uploads its checkpoint")

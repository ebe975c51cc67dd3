"""SageMaker training jobs: what was run, what to run, and following it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from ops import price
from ops.aws import Account, pauses
from ops.change import Change, Steps
from ops.cli import say
from ops.config import Settings
from ops.errors import OpsError
from ops.payload import Job, commit

GROUP = "/aws/sagemaker/TrainingJobs"
UNDER_WAY = ("InProgress", "Stopping")
# The same words work on SageMaker, where OPT_ML is unset, and in the sandbox, where each host has its own.
ENTRY = ["sh", "-c", 'exec python "${OPT_ML:-/opt/ml}/input/data/code/launch.py"']


@dataclass(frozen=True)
class Facts:
    """The newest attempt at a job, with AWS's description (None: there was none), and the newest that completed."""

    attempt: str
    described: dict[str, Any] | None
    subnets: tuple[str, ...]
    group: str | None
    log_group: bool
    completed: str = ""

    @property
    def status(self) -> str:
        return self.described["TrainingJobStatus"] if self.described else ""


def describe(account: Account, name: str) -> dict[str, Any] | None:
    return account.find(
        "sagemaker", "describe_training_job", "Could not find|Requested resource not found", TrainingJobName=name
    )


def facts(account: Account, job: Job) -> Facts:
    number, described, completed = 1, describe(account, job.attempt(1)), ""
    newer = described
    while newer:
        described = newer
        if described["TrainingJobStatus"] == "Completed":
            completed = job.attempt(number)
        newer = describe(account, job.attempt(number + 1))
        number += bool(newer)
    groups = account.pages("logs", "describe_log_groups", "logGroups", logGroupNamePrefix=GROUP)
    logged = any(g["logGroupName"] == GROUP for g in groups)
    return Facts(job.attempt(number), described, *network(account), logged, completed)


def network(account: Account) -> tuple[tuple[str, ...], str | None]:
    """(private subnets, the jobs' security group) of this stack; empty and None before net.up."""
    subnets = tuple(sorted(s["SubnetId"] for s in account.tagged("describe_subnets", "Subnets")))
    groups = account.tagged("describe_security_groups", "SecurityGroups", group_name=f"{account.settings.prefix}-job")
    return subnets, groups[0]["GroupId"] if groups else None


def next_attempt(have: Facts, job: Job) -> str:
    number = int(have.attempt.removeprefix(job.name).lstrip("-") or 1)
    return job.attempt(number + 1) if have.described else have.attempt


def steps(have: Facts, attempt: str, job: Job, code: str, hosts: int, settings: Settings) -> Steps:
    if not have.log_group:
        yield Change("logs", "create_log_group", {"logGroupName": GROUP}, why="training logs have no group yet")
        args = {"logGroupName": GROUP, "retentionInDays": settings.endpoint.log_days}
        yield Change("logs", "put_retention_policy", args, why="logs are kept for ever unless told otherwise")
    rate = price.hourly("sagemaker", settings.train.instance_type, hosts)
    why = f"train on {hosts} x {settings.train.instance_type}, at most {settings.train.max_runtime_s} s"
    yield Change(
        "sagemaker",
        "create_training_job",
        request(have, attempt, job, code, hosts, settings),
        why,
        dollars_per_hour=rate,
    )


def request(have: Facts, attempt: str, job: Job, code: str, hosts: int, settings: Settings) -> dict[str, Any]:
    bucket = settings.bucket
    folder = f"datasets/{job.data['name']}/{job.data['digest']}"
    return {
        "TrainingJobName": attempt,
        "AlgorithmSpecification": {
            "TrainingImage": settings.train.image,
            "TrainingInputMode": "File",
            "ContainerEntrypoint": ENTRY,
        },
        "RoleArn": settings.role_arn("sagemaker-execution"),
        "HyperParameters": job.hyperparameters,
        "Environment": {"KENNEL_COMMIT": commit()},
        "InputDataConfig": [
            channel("code", "S3Prefix", f"s3://{bucket}/{code}"),
            channel("data", "ManifestFile", f"s3://{bucket}/{folder}/channel.json"),
        ],
        "OutputDataConfig": {"S3OutputPath": f"s3://{bucket}/jobs"},
        "ResourceConfig": {
            "InstanceType": settings.train.instance_type,
            "InstanceCount": hosts,
            "VolumeSizeInGB": settings.train.volume_gib,
        },
        "VpcConfig": {"Subnets": list(have.subnets), "SecurityGroupIds": [have.group]},
        "StoppingCondition": {"MaxRuntimeInSeconds": settings.train.max_runtime_s},
        "EnableNetworkIsolation": False,
        "EnableInterContainerTrafficEncryption": False,
        "Tags": settings.tags(attempt),
    }


def channel(name: str, kind: str, uri: str) -> dict[str, Any]:
    source = {"S3DataType": kind, "S3Uri": uri, "S3DataDistributionType": "FullyReplicated"}
    return {"ChannelName": name, "DataSource": {"S3DataSource": source}, "InputMode": "File"}


def follow(account: Account, name: str) -> dict[str, Any]:
    """Print the logs of all hosts as they come; the job's last description. Raises OpsError when it did not complete.

    Ctrl-C leaves the job alone: it goes on, and `invoke sm.logs --job NAME` follows it again.
    """
    tail, seen = Tail(account, GROUP, f"{name}/"), ""
    wait = pauses()
    while True:
        described = account.call("sagemaker", "describe_training_job", TrainingJobName=name)
        ended = described["TrainingJobStatus"] not in UNDER_WAY
        if described["SecondaryStatus"] != seen:
            seen = described["SecondaryStatus"]
            say(f"{name}: {seen}")
        tail.print_new()
        if ended:
            break
        time.sleep(min(next(wait), 5.0))
    if described["TrainingJobStatus"] != "Completed":
        reason = described.get("FailureReason", described["SecondaryStatus"])
        raise OpsError(f"{name} ended {described['TrainingJobStatus']}: {reason}\nIts log: invoke sm.logs --job {name}")
    return described


class Tail:
    """The new lines of a log group's streams, each time it is asked."""

    def __init__(self, account: Account, group: str, prefix: str) -> None:
        self.account, self.group, self.prefix = account, group, prefix
        self._next: dict[str, str] = {}

    def print_new(self) -> None:
        for stream, lines in self.new().items():
            host = "-".join(stream.rsplit("/", 1)[-1].split("-")[:2])  # algo-1-1700000000000: SageMaker adds the time
            for line in lines:
                say(f"[{host}] {line}")

    def new(self) -> dict[str, list[str]]:
        """Lines by stream that came since the last call."""
        found = self.account.find(
            "logs", "describe_log_streams", "ResourceNotFound", logGroupName=self.group, logStreamNamePrefix=self.prefix
        )
        return {
            stream["logStreamName"]: self._lines(stream["logStreamName"])
            for stream in (found or {}).get("logStreams", [])
        }

    def _lines(self, stream: str) -> list[str]:
        lines: list[str] = []
        while True:
            token = {"nextToken": self._next[stream]} if stream in self._next else {}
            page = self.account.call(
                "logs", "get_log_events", logGroupName=self.group, logStreamName=stream, startFromHead=True, **token
            )
            lines += [event["message"] for event in page["events"]]
            if page["nextForwardToken"] == self._next.get(stream):
                return lines
            self._next[stream] = page["nextForwardToken"]

"""Training jobs as processes: one group a host, with SageMaker's folders, its credentials, and its way to end."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import tarfile
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sandbox import children, logs
from sandbox.world import World

GROUP = "/aws/sagemaker/TrainingJobs"
TERMINAL = ("Completed", "Failed", "Stopped")
STOP_S = 120.0  # between SIGTERM and SIGKILL, as on SageMaker
REASON_CHARACTERS = 1024


class JobError(Exception):
    """What becomes the job's FailureReason."""


@dataclass
class Run:
    """A job under way: what was asked, moto's record of it, a process a host."""

    world: World
    asked: dict[str, Any]
    record: Any
    hosts: list[subprocess.Popen[bytes]] = field(default_factory=list)
    stopping: threading.Event = field(default_factory=threading.Event)

    @property
    def name(self) -> str:
        return self.asked["TrainingJobName"]

    @property
    def folder(self) -> Path:
        return self.world.folder / "jobs" / self.name


_runs: dict[str, Run] = {}


def submit(world: World, asked: dict[str, Any], record: Any) -> None:
    run = Run(world, asked, record)
    _runs[run.name] = run
    record.final_metric_data_list, record.secondary_status_transitions = [], []
    record.training_start_time = record.training_end_time = None
    record.environment = asked.get("Environment", {})
    record.algorithm_specification.pop("MetricDefinitions", None)
    enter(run, "InProgress", "Starting", "Preparing the instances for training")
    threading.Thread(target=carry_out, args=(run,), daemon=True).start()


def stop(name: str) -> bool:
    """Ask a job to stop; False when it has ended already."""
    run = _runs.get(name)
    if run is None or run.record.training_job_status in TERMINAL:
        return False
    enter(run, "Stopping", "Stopping", "Stopping the training job")
    run.stopping.set()
    return True


def enter(run: Run, status: str, secondary: str, message: str) -> None:
    now = datetime.now(UTC).replace(tzinfo=None)
    passed = run.record.secondary_status_transitions
    if passed:
        passed[-1]["EndTime"] = now
    passed.append({"Status": secondary, "StartTime": now, "StatusMessage": message})
    run.record.training_job_status, run.record.secondary_status, run.record.last_modified_time = status, secondary, now
    run.world.note(f"job {run.name}: {secondary}")


def carry_out(run: Run) -> None:
    try:
        enter(run, "InProgress", "Downloading", "Downloading input data")
        roots = [prepare(run, host) for host in range(count(run))]
        enter(run, "InProgress", "Training", "Training image download completed. Training in progress.")
        run.record.training_start_time = datetime.now(UTC).replace(tzinfo=None)
        ended_well = train(run, roots)
        enter(run, run.record.training_job_status, "Uploading", "Uploading generated training model")
        upload(run, roots)
        finish(run, "Completed" if ended_well else "Stopped")
    except JobError as error:
        finish(run, "Failed", str(error))
    except Exception as error:
        run.world.note(f"job {run.name}: {type(error).__name__}: {error}")
        finish(run, "Failed", f"InternalServerError: {type(error).__name__}: {error}")
    finally:
        for process in run.hosts:
            children.stop(process)
        shutil.rmtree(run.folder, ignore_errors=True)


def finish(run: Run, status: str, reason: str = "") -> None:
    started, ended = run.record.training_start_time, datetime.now(UTC).replace(tzinfo=None)
    run.record.training_end_time = ended
    if started:
        seconds = max(1, round((ended - started).total_seconds()))
        run.record.training_time_in_seconds = run.record.billable_time_in_seconds = seconds * count(run)
    if reason:
        run.record.failure_reason = reason
    enter(run, status, status, reason or f"Training job {status.lower()}")


def count(run: Run) -> int:
    return run.asked["ResourceConfig"]["InstanceCount"]


def prepare(run: Run, host: int) -> Path:
    """One host's /opt/ml, with channels and configuration; SageMaker's own layout."""
    root = run.folder / f"algo-{host + 1}" / "opt-ml"
    for name in ("input/config", "input/data", "model", "output/data", "checkpoints"):
        (root / name).mkdir(parents=True)
    hosts = [f"algo-{n + 1}" for n in range(count(run))]
    resource = {
        "current_host": hosts[host],
        "hosts": hosts,
        "network_interface_name": "lo",
        "current_instance_type": run.asked["ResourceConfig"]["InstanceType"],
    }
    channels = {c["ChannelName"]: {"TrainingInputMode": "File"} for c in run.asked.get("InputDataConfig", [])}
    for name, content in (
        ("resourceconfig", resource),
        ("hyperparameters", run.asked.get("HyperParameters", {})),
        ("inputdataconfig", channels),
    ):
        (root / "input" / "config" / f"{name}.json").write_text(json.dumps(content))
    s3 = run.world.client_as(run.asked["RoleArn"], "s3", f"SageMaker-{run.name}"[:60])
    for channel in run.asked.get("InputDataConfig", []):
        download(s3, channel["DataSource"]["S3DataSource"], root / "input" / "data" / channel["ChannelName"])
    return root


def download(s3: Any, source: dict[str, str], folder: Path) -> None:
    """A channel: all objects of a prefix, or those that a manifest file lists, under their names below the prefix."""
    bucket, _, key = source["S3Uri"].removeprefix("s3://").partition("/")
    if source["S3DataType"] == "ManifestFile":
        listing = json.loads(s3.get_object(Bucket=bucket, Key=key)["Body"].read())
        prefix = listing[0]["prefix"].removeprefix(f"s3://{bucket}/")
        names = listing[1:]
    else:
        prefix = key
        pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=key)
        names = [item["Key"].removeprefix(prefix) for page in pages for item in page.get("Contents", [])]
    if not names:
        raise JobError(f'ClientError: Data download failed: No S3 objects found under S3 URL "{source["S3Uri"]}"')
    for name in names:
        path = (folder / name.lstrip("/")).resolve()
        if not path.is_relative_to(folder.resolve()):
            raise JobError(f"ClientError: {name} points outside its channel")
        path.parent.mkdir(parents=True, exist_ok=True)
        s3.download_file(bucket, prefix + name, str(path))


def train(run: Run, roots: list[Path]) -> bool:
    """Start a process a host and wait; True when all ended well, False when stopped. Raises JobError."""
    started = time.time()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    secret = run.world.keys.source(run.asked["RoleArn"], f"SageMaker-{run.name}"[:60])
    specification = run.asked["AlgorithmSpecification"]
    argv = [*specification.get("ContainerEntrypoint", ["train"]), *specification.get("ContainerArguments", [])]
    pumps = []
    for number, root in enumerate(roots):
        env = children.environment(
            run.world.folder,
            root.parent,
            OPT_ML=str(root),
            TRAINING_JOB_NAME=run.name,
            AWS_ENDPOINT_URL=run.world.url,
            AWS_CONTAINER_CREDENTIALS_FULL_URI=f"{run.world.url}/_credentials/{secret}",
            MASTER_ADDR="127.0.0.1",
            MASTER_PORT=str(port),
            **run.asked.get("Environment", {}),
        )
        process = children.start(argv, root.parent, env)
        run.hosts.append(process)
        pumps.append(logs.follow(run.world, process, GROUP, f"{run.name}/algo-{number + 1}-{int(started * 1000)}"))
    stopped = watch(run, roots, started + run.asked["StoppingCondition"]["MaxRuntimeInSeconds"])
    for pump in pumps:
        pump.join(5)
    return not stopped


def watch(run: Run, roots: list[Path], deadline: float) -> bool:
    """Wait for all hosts; the first that fails takes the others down. True when the job was stopped. Raises JobError."""
    while any(process.poll() is None for process in run.hosts):
        failed = next((n for n, process in enumerate(run.hosts) if process.poll()), None)
        if failed is not None:
            break
        if run.stopping.wait(0.05) or time.time() > deadline:
            for process in run.hosts:
                children.stop(process, STOP_S)
            return True
    failed = next((n for n, process in enumerate(run.hosts) if process.poll()), None)
    if failed is None:
        return run.stopping.is_set()
    reasons = [p.read_text(errors="replace") for root in roots if (p := root / "output" / "failure").exists()]
    code = run.hosts[failed].returncode
    raise JobError(
        f"AlgorithmError: {reasons[0] if reasons else 'the program said nothing'}"[:REASON_CHARACTERS]
        + f", exit code: {code}"
    )


def upload(run: Run, roots: list[Path]) -> None:
    """All hosts' model folders in one model.tar.gz, and output/data in output.tar.gz, with the job's own role."""
    s3 = run.world.client_as(run.asked["RoleArn"], "s3", f"SageMaker-{run.name}"[:60])
    bucket, _, prefix = run.asked["OutputDataConfig"]["S3OutputPath"].removeprefix("s3://").partition("/")
    for name, part in (("model.tar.gz", "model"), ("output.tar.gz", "output/data")):
        files = {
            path.relative_to(root / part).as_posix(): path
            for root in roots
            for path in (root / part).rglob("*")
            if path.is_file()
        }
        if not files and part != "model":
            continue
        packed = run.folder / name
        with tarfile.open(packed, "w:gz", compresslevel=1) as tar:
            for inner, path in sorted(files.items()):
                tar.add(path, inner)
        s3.upload_file(str(packed), bucket, "/".join(filter(None, (prefix.rstrip("/"), run.name, "output", name))))

"""A running training job: its request, moto's record of it, and the stops and faults it accepts from outside."""

from __future__ import annotations

import math
import re
import signal
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sandbox.sagemaker.hosts import Host
from sandbox.world import World

TERMINAL = ("Completed", "Failed", "Stopped")
SPOT_SHARE = 0.3  # spot price as a share of on-demand here; on AWS it changes by the hour


@dataclass(eq=False)
class Run:
    """A running job: its request, moto's record of it, its hosts, its metrics and its pending stop or interruption."""

    world: World
    request: dict[str, Any]
    record: Any
    hosts: list[Host] = field(default_factory=list)
    stopping: threading.Event = field(default_factory=threading.Event)
    interrupting: threading.Event = field(default_factory=threading.Event)
    measured: dict[str, dict[str, Any]] = field(default_factory=dict)  # metric -> its last value, as AWS reports it
    began: float = field(default_factory=time.time)
    attempt_began: float = 0.0
    trained_s: float = 0.0  # in interrupted attempts
    lock: threading.RLock = field(default_factory=threading.RLock)

    @property
    def name(self) -> str:
        return str(self.request["TrainingJobName"])

    @property
    def status(self) -> str:
        return str(self.record.training_job_status)

    @property
    def folder(self) -> Path:
        return self.world.folder / "jobs" / self.name

    @property
    def spot(self) -> bool:
        return bool(self.request.get("EnableManagedSpotTraining"))

    @property
    def count(self) -> int:
        return int(self.request["ResourceConfig"]["InstanceCount"])

    def find_ending(self) -> str:
        """Return the secondary status that ends the attempt now, or "" if it goes on. Limits are in wall time."""
        limits, now = self.request["StoppingCondition"], time.time()
        ran = self.trained_s + (now - self.attempt_began if self.attempt_began else 0.0)
        if self.stopping.is_set():
            return "Stopped"
        if ran > limits.get("MaxRuntimeInSeconds", 86_400):
            return "MaxRuntimeExceeded"
        if self.spot and now - self.began > limits["MaxWaitTimeInSeconds"]:
            return "MaxWaitTimeExceeded"
        return "Interrupted" if self.interrupting.is_set() else ""

    def record_metrics(self, line: str) -> None:
        """Read the job's metrics from a line of its log; the last match is a metric's final value."""
        for metric in self.request["AlgorithmSpecification"].get("MetricDefinitions", []):
            found = re.search(metric["Regex"], line)
            if found and found.groups() and (value := parse_finite_number(found[1])) is not None:
                now = datetime.now(UTC).replace(tzinfo=None)
                self.measured[metric["Name"]] = {"MetricName": metric["Name"], "Value": value, "Timestamp": now}
                self.record.final_metric_data_list = list(self.measured.values())


def parse_finite_number(text: str) -> float | None:
    """Return the finite number that the text holds, or None for anything else."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def request_job_stop(world: World, name: str) -> bool:
    """Ask a job to stop; return False when it is unknown or has ended already."""
    run = world.sagemaker.runs.get(name)
    if run is None:
        return False
    with run.lock:
        if run.status in TERMINAL:
            return False
        run.stopping.set()
        set_secondary_status(run, "Stopping", "Stopping the training job")
    return True


def require_training_run(world: World, name: str) -> Run:
    """Return the run of a job that is in Training. Raises ValueError for any other job, and for an unknown one."""
    if name not in world.sagemaker.runs:
        raise ValueError(f"there is no training job {name}")
    run = world.sagemaker.runs[name]
    if run.record.secondary_status != "Training":
        raise ValueError(f"{name} is not in status Training but {run.record.secondary_status}")
    return run


def interrupt_spot_job(world: World, name: str) -> dict[str, Any]:
    """Reclaim a spot job's instances, as AWS does. Raises ValueError."""
    run = require_training_run(world, name)
    if not run.spot:
        raise ValueError(f"{name} does not run on spot instances")
    run.interrupting.set()
    return {"job": name}


def freeze_host(world: World, name: str, host: int) -> dict[str, Any]:
    """Suspend every process of a host (counted from 1), to imitate a stuck rank. Raises ValueError."""
    return {"job": name, "host": host, "processes": require_running_host(world, name, host).signal_all(signal.SIGSTOP)}


def kill_host(world: World, name: str, host: int) -> dict[str, Any]:
    """Kill every process of a host (counted from 1). Raises ValueError."""
    return {"job": name, "host": host, "processes": require_running_host(world, name, host).signal_all(signal.SIGKILL)}


def require_running_host(world: World, name: str, host: int) -> Host:
    run = require_training_run(world, name)
    if not 1 <= host <= len(run.hosts):
        raise ValueError(f"{name} has hosts 1 to {len(run.hosts)}, not {host}")
    return run.hosts[host - 1]


def set_secondary_status(run: Run, secondary: str, message: str, status: str = "") -> None:
    """Set the secondary status. The primary one becomes `status`, or Stopping once requested, or InProgress."""
    with run.lock:
        now = datetime.now(UTC).replace(tzinfo=None)
        passed = run.record.secondary_status_transitions
        if passed:
            passed[-1]["EndTime"] = now
        passed.append({"Status": secondary, "StartTime": now, "StatusMessage": message})
        run.record.training_job_status = status or ("Stopping" if run.stopping.is_set() else "InProgress")
        run.record.secondary_status, run.record.last_modified_time = secondary, now
    run.world.note(f"job {run.name}: {secondary}")


def finish_training_job(run: Run, status: str, secondary: str, reason: str = "") -> None:
    ended = datetime.now(UTC).replace(tzinfo=None)
    run.record.training_end_time = ended
    if run.record.training_start_time:
        seconds = run.trained_s + (time.time() - run.attempt_began if run.attempt_began else 0.0)
        billed_s = max(1, round(seconds))
        run.record.training_time_in_seconds = billed_s
        run.record.billable_time_in_seconds = round(billed_s * SPOT_SHARE) if run.spot else billed_s
    if reason:
        run.record.failure_reason = reason
    set_secondary_status(run, secondary, reason or f"Training job {status.lower()}", status)

"""Training jobs as processes: one process group per host, with SageMaker's folders, credentials and end states."""

from __future__ import annotations

import copy
import shutil
import socket
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from moto.core.utils import camelcase_to_underscores

from sandbox.cloudwatch import logs
from sandbox.iam import enforce, service_calls
from sandbox.sagemaker import channels
from sandbox.sagemaker.hosts import JobError, prepare_host_command, start_host
from sandbox.sagemaker.runs import Run, finish_training_job, set_secondary_status
from sandbox.world import World

GROUP = "/aws/sagemaker/TrainingJobs"
STOP_S = 120.0  # between SIGTERM and SIGKILL on the sandbox's clock, as on SageMaker
REASON_CHARACTERS = 1024
CAPACITY = (
    "CapacityError: Unable to provision requested ML compute capacity. Please retry using a different ML instance type."
)
RECORDED = (
    "TrainingJobName", "HyperParameters", "AlgorithmSpecification", "RoleArn", "InputDataConfig", "OutputDataConfig",
    "ResourceConfig", "VpcConfig", "StoppingCondition", "Tags", "EnableNetworkIsolation",
    "EnableInterContainerTrafficEncryption", "EnableManagedSpotTraining", "CheckpointConfig", "DebugHookConfig",
    "DebugRuleConfigurations", "TensorBoardOutputConfig", "ExperimentConfig",
)  # fmt: skip


def record_and_start_job(world: World, request: dict[str, Any]) -> Run:
    """Record a job in moto's store and start it in a thread."""
    # Pass a copy, because moto adds its own metrics to its arguments.
    given = {camelcase_to_underscores(name): copy.deepcopy(request.get(name)) for name in RECORDED}
    for flag in [name for name in given if name.startswith("enable_")]:
        given[flag] = bool(given[flag])
    record = world.backend("sagemaker").create_training_job(**given)
    record.final_metric_data_list, record.secondary_status_transitions = [], []
    record.training_start_time = record.training_end_time = None
    record.environment = request.get("Environment", {})
    record.algorithm_specification = request["AlgorithmSpecification"]
    record.training_job_status = "InProgress"
    run = Run(world, request, record)
    world.sagemaker.runs[run.name] = run
    set_secondary_status(run, "Starting", "Preparing the instances for training")
    threading.Thread(target=run_training_job, args=(run,), daemon=True).start()
    return run


def run_training_job(run: Run) -> None:
    try:
        while (ending := run_attempt(run)) == "Interrupted":
            run.interrupting.clear()
            set_secondary_status(run, "Interrupted", "Interrupted: EC2 reclaimed the managed spot training instances")
            set_secondary_status(run, "Starting", "Preparing the instances for training")
        finish_training_job(run, "Completed" if ending == "Completed" else "Stopped", ending)
    except JobError as error:
        finish_training_job(run, "Failed", "Failed", str(error))
    except enforce.Denied as denied:
        finish_training_job(run, "Failed", "Failed", f"ClientError: {denied}")
    except Exception as error:
        run.world.note(f"job {run.name}: {type(error).__name__}: {error}")
        finish_training_job(run, "Failed", "Failed", f"InternalServerError: {type(error).__name__}: {error}")


def run_attempt(run: Run) -> str:
    """Run one attempt of the job; return the secondary status it ends in. Raises JobError."""
    try:
        if ending := await_capacity(run):
            return ending
        service_calls.authorize_vpc_join(run.world, run.request["RoleArn"], run.name, run.request.get("VpcConfig"))
        set_secondary_status(run, "Downloading", "Downloading input data")
        s3 = run.world.create_role_client(run.request["RoleArn"], "s3", f"SageMaker-{run.name}"[:60])
        roots = [run.folder / f"algo-{host + 1}" / "opt-ml" for host in range(run.count)]
        for host, root in enumerate(roots):
            channels.prepare_host_folder(s3, run.request, root, host)
        with channels.Checkpoints(s3, run.request.get("CheckpointConfig"), roots):
            ending = run_host_programs(run, roots)
        if ending != "Interrupted":
            set_secondary_status(run, "Uploading", "Uploading generated training model")
            channels.upload_artifacts(s3, run.request, roots, run.folder)
        return ending
    finally:
        run.hosts = []
        shutil.rmtree(run.folder, ignore_errors=True)


def await_capacity(run: Run) -> str:
    """Wait for capacity; return "" once there is some, or the status that ends the job first.

    Only spot jobs wait: others raise JobError when capacity is short.
    """
    while run.request["ResourceConfig"]["InstanceType"] in run.world.faults.short_of:
        if not run.spot:
            raise JobError(CAPACITY)
        if ending := run.find_ending():
            return ending
        run.stopping.wait(0.1)
    return run.find_ending()


def run_host_programs(run: Run, roots: list[Path]) -> str:
    """Start one program per host and wait until the attempt ends; return its secondary status. Raises JobError."""
    programs = [prepare_host_command(run.request, root) for root in roots]
    started = run.attempt_began = time.time()
    run.record.training_start_time = run.record.training_start_time or datetime.now(UTC).replace(tzinfo=None)
    pumps = []
    try:
        env = build_job_environment(run)
        for place, (argv, root) in enumerate(zip(programs, roots, strict=True), 1):
            host = start_host(argv, root, run.world.folder, env)
            run.hosts.append(host)
            stream = f"{run.name}/algo-{place}-{int(started * 1000)}"
            logs.ensure_log_stream(run.world, GROUP, stream, run.request["RoleArn"])
            pumps.append(logs.follow_output(run.world, host.process, GROUP, stream, run.record_metrics))
        set_secondary_status(run, "Training", "Training image download completed. Training in progress.")
        return wait_for_hosts(run)
    finally:
        for host in run.hosts:
            host.kill()
        for pump in pumps:
            pump.join(5)
        if run.interrupting.is_set():
            run.trained_s, run.attempt_began = run.trained_s + time.time() - run.attempt_began, 0.0


def build_job_environment(run: Run) -> dict[str, str]:
    """Return the environment of all hosts of a job. They find each other on a loopback port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    secret = run.world.keys.create_credential_path(run.request["RoleArn"], f"SageMaker-{run.name}"[:60])
    return {
        "TRAINING_JOB_NAME": run.name,
        "AWS_ENDPOINT_URL": run.world.url,
        "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{run.world.url}/_credentials/{secret}",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        **run.request.get("Environment", {}),
    }


def wait_for_hosts(run: Run) -> str:
    """Wait for all hosts to end; return how the attempt ended. Raises JobError as soon as one host fails."""
    while True:
        codes = [host.code for host in run.hosts]
        if failed := next((code for code in codes if code), 0):
            raise JobError(f"AlgorithmError: {read_failure_message(run)}, exit code: {failed}")
        if all(code == 0 for code in codes):
            return "Stopped" if run.stopping.is_set() else "Completed"
        if ending := run.find_ending():
            stop_hosts_gracefully(run)
            return ending
        run.stopping.wait(0.05)


def read_failure_message(run: Run) -> str:
    """Return the text of the first failure file that a host left; SageMaker takes 1,024 characters."""
    files = [host.root / "output" / "failure" for host in run.hosts]
    texts = [file.read_text(errors="replace") for file in files if file.exists()]
    return texts[0][:REASON_CHARACTERS] if texts else "the program wrote no failure file"


def stop_hosts_gracefully(run: Run) -> None:
    """Send SIGTERM to each host's first program; kill the rest of a host once that has ended, or after STOP_S."""
    for host in run.hosts:
        host.request_stop()
    deadline, remaining = run.world.clock.now() + STOP_S, list(run.hosts)
    while remaining and run.world.clock.now() < deadline:
        time.sleep(0.05)
        for host in [host for host in remaining if host.code is not None]:
            host.kill()
            remaining.remove(host)
    for host in remaining:
        host.kill()

"""The entry point of a training job: it installs the wheels, then starts train.py once per GPU, or once on a CPU.

It reads resourceconfig.json and hyperparameters.json, SageMaker's files below OPT_ML (/opt/ml), which
boxside/box_runner.py writes on the box. The ranks get torchrun's environment, but run without torchrun: SIGTERM leaves
them SageMaker's full 120 seconds to write a checkpoint (torchrun kills after 30), and a rank's exit code is its own.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

from boxside import wheels

HERE = Path(__file__).resolve().parent
PORT = 7777
RESOLVE_S = 900.0  # SageMaker's hosts start one by one; its own toolkit waits as long for their names
GRACE_S = 5.0  # for the other ranks to notice and report that one has failed
STOPPED = 143  # 128 + SIGTERM, as in a shell: stopped with a checkpoint, not failed


class Stop:
    """The SIGTERM handler, installed at once: without one, the first process of a container ignores the signal."""

    def __init__(self) -> None:
        self.requested = False
        signal.signal(signal.SIGTERM, self)

    def __call__(self, *_: object) -> None:
        self.requested = True


def read_job_config(opt: Path, name: str) -> dict[str, Any]:
    path = opt / "input" / "config" / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else {}


def format_flags(parameters: dict[str, str]) -> list[str]:
    """Return hyperparameters as flags, without SageMaker's own (sagemaker_..., _tuning_objective_metric)."""
    named = {name: value for name, value in parameters.items() if not name.startswith(("sagemaker_", "_"))}
    return [word for name, value in sorted(named.items()) for word in (f"--{name}", decode_value(value))]


def decode_value(value: str) -> str:
    """Decode a value that SageMaker's tuning or toolkit wrote as JSON, such as "0.1" with the quotes."""
    return json.loads(value) if value.startswith('"') else value


def build_rank_environments(resource: dict[str, Any], devices: int) -> list[dict[str, str]]:
    """Return torchrun's environment variables for each rank of this host; none if the job has a single rank."""
    hosts = sorted(resource.get("hosts", ["algo-1"]))
    here = hosts.index(resource.get("current_host", hosts[0]))
    if len(hosts) * devices == 1:
        return [{}]
    return [
        {
            "RANK": str(here * devices + number),
            "LOCAL_RANK": str(number),
            "WORLD_SIZE": str(len(hosts) * devices),
            "LOCAL_WORLD_SIZE": str(devices),
            "MASTER_ADDR": os.environ.get("MASTER_ADDR", hosts[0] if len(hosts) > 1 else "127.0.0.1"),
            "MASTER_PORT": os.environ.get("MASTER_PORT", str(PORT)),
        }
        for number in range(devices)
    ]


def wait_for_host(host: str, stop: Stop) -> None:
    """Wait until a host's name resolves. Raises OSError after 15 minutes, or on SIGTERM."""
    deadline = time.monotonic() + RESOLVE_S
    while True:
        try:
            socket.getaddrinfo(host, PORT)
            return
        except OSError:
            if stop.requested or time.monotonic() > deadline:
                raise
            time.sleep(1)


def count_gpus() -> int:
    """Return the number of NVIDIA devices of this host, without importing torch."""
    return len(list(Path("/dev").glob("nvidia[0-9]*")))


def run_processes(commands: list[tuple[list[str], dict[str, str]]], stop: Stop) -> int:
    """Start all processes and wait; pass on SIGTERM; end all when one fails. Return the first failure's exit code."""
    running = [] if stop.requested else [subprocess.Popen(argv, env=env) for argv, env in commands]
    forwarded = False
    while True:
        if stop.requested and not forwarded:
            forwarded = True
            for process in running:
                process.send_signal(signal.SIGTERM)
        codes = [process.poll() for process in running]
        if stop.requested and None not in codes and {*codes} <= {0, STOPPED, -signal.SIGTERM}:
            return STOPPED if any(codes) or not codes else 0
        failed = next((code for code in codes if code), 0)
        if failed and failed != STOPPED:
            end_processes(running)
            return failed
        if None not in codes:
            return failed
        time.sleep(0.05)


def end_processes(running: list[subprocess.Popen[bytes]]) -> None:
    deadline = time.monotonic() + GRACE_S
    for process in running:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def explain_exit(code: int) -> str:
    """Return why a process ended that wrote no failure file itself."""
    if code == -signal.SIGKILL:
        return (
            "train.py was killed (signal 9): most likely the machine ran out of memory. "
            "Lower train.batch, or use a larger instance type"
        )
    return f"train.py was ended by signal {-code}" if code < 0 else f"train.py ended with code {code} without a message"


def run_job(opt: Path, stop: Stop) -> int:
    resource = read_job_config(opt, "resourceconfig")
    parameters = read_job_config(opt, "hyperparameters")
    site = tempfile.mkdtemp(prefix="site-")  # for this job alone
    wheels.install_files(
        HERE / "wheels", Path(site)
    )  # on the box boxside/wheels.py ran before, and there are no wheels here
    path = ":".join(filter(None, [site, os.environ.get("PYTHONPATH")]))
    env = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": decode_value(parameters.get("threads", "1"))}
    if interface := resource.get("network_interface_name"):
        # Without it gloo takes the address that the host's name resolves to, which no interface may have.
        env |= {"GLOO_SOCKET_IFNAME": interface, "NCCL_SOCKET_IFNAME": interface}
    each = build_rank_environments(resource, max(1, count_gpus()))
    if "MASTER_ADDR" not in os.environ:
        for host in resource.get("hosts", []) if each[0] else []:
            wait_for_host(host, stop)
    argv = [sys.executable, str(HERE / "train.py"), *format_flags(parameters)]
    return run_processes([(argv, env | own) for own in each], stop)


def main() -> int:
    opt, stop = Path(os.environ.get("OPT_ML", "/opt/ml")), Stop()
    try:
        code = run_job(opt, stop)
        message = explain_exit(code)
    except Exception as error:
        traceback.print_exc()
        code, message = 1, f"{type(error).__name__}: {error}"
    failure = opt / "output" / "failure"
    if code not in (0, STOPPED) and failure.parent.is_dir() and not failure.exists():
        failure.write_text(message)
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main())

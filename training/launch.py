"""The entry point of a job: unpack the wheels, then start train.py, once for each GPU of this host, or once on a CPU.

Reads SageMaker's own files below OPT_ML (/opt/ml), which boxside/box_runner.py writes on the box: resourceconfig.json and hyperparameters.json.
The processes get torchrun's environment, and no torchrun around them: SIGTERM reaches them with all of SageMaker's 120 seconds
to write a checkpoint (torchrun kills after 30), and the reason why one died is its own exit code.
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
RESOLVE_S = 900.0  # SageMaker's hosts come up one by one; its own toolkit waits as long for their names
GRACE_S = 5.0  # for the others to notice, and say, that one has failed
STOPPED = 143  # 128 + SIGTERM, as a shell says it: stopped with a checkpoint, and not failed


class Stop:
    """SIGTERM, from the first moment on: as a container's first process we would not even be ended by it."""

    def __init__(self) -> None:
        self.asked = False
        signal.signal(signal.SIGTERM, self)

    def __call__(self, *_: object) -> None:
        self.asked = True


def read_job_config(opt: Path, name: str) -> dict[str, Any]:
    path = opt / "input" / "config" / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else {}


def format_flags(parameters: dict[str, str]) -> list[str]:
    """Hyperparameters as flags. Those of SageMaker's own (sagemaker_..., _tuning_objective_metric) are not for train.py."""
    named = {name: value for name, value in parameters.items() if not name.startswith(("sagemaker_", "_"))}
    return [word for name, value in sorted(named.items()) for word in (f"--{name}", decode_value(value))]


def decode_value(value: str) -> str:
    """SageMaker's tuning, and its toolkit, write some values as JSON: "0.1" with the quotes."""
    return json.loads(value) if value.startswith('"') else value


def build_rank_environments(resource: dict[str, Any], devices: int) -> list[dict[str, str]]:
    """What torchrun would put into the environment of each process of this host; nothing when there is one in all."""
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
    """Wait until a host's name means something. Raises OSError after 15 minutes."""
    deadline = time.monotonic() + RESOLVE_S
    while True:
        try:
            socket.getaddrinfo(host, PORT)
            return
        except OSError:
            if stop.asked or time.monotonic() > deadline:
                raise
            time.sleep(1)


def count_gpus() -> int:
    """How many NVIDIA devices this host has, without importing torch for it."""
    return len(list(Path("/dev").glob("nvidia[0-9]*")))


def run_processes(commands: list[tuple[list[str], dict[str, str]]], stop: Stop) -> int:
    """Start all and wait; the first that fails takes the others down. SIGTERM is passed on. The exit code of the first to fail."""
    running = [] if stop.asked else [subprocess.Popen(argv, env=env) for argv, env in commands]
    told = False
    while True:
        if stop.asked and not told:
            told = True
            for process in running:
                process.send_signal(signal.SIGTERM)
        codes = [process.poll() for process in running]
        if stop.asked and None not in codes and {*codes} <= {0, STOPPED, -signal.SIGTERM}:
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
    """Why a process that said nothing ended."""
    if code == -signal.SIGKILL:
        return "train.py was killed (signal 9): most likely the machine ran out of memory. Lower train.batch, or take a larger one"
    return f"train.py was ended by signal {-code}" if code < 0 else f"train.py ended with code {code} and said nothing"


def run_job(opt: Path, stop: Stop) -> int:
    resource = read_job_config(opt, "resourceconfig")
    parameters = read_job_config(opt, "hyperparameters")
    site = tempfile.mkdtemp(prefix="site-")  # of this job alone
    wheels.install_files(
        HERE / "wheels", Path(site)
    )  # on the box boxside/wheels.py was run before, and nothing lies there
    path = ":".join(filter(None, [site, os.environ.get("PYTHONPATH")]))
    env = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": decode_value(parameters.get("threads", "1"))}
    if interface := resource.get("network_interface_name"):
        # Without it gloo takes the address that the host's name resolves to, which may be nobody's.
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
        said = explain_exit(code)
    except Exception as error:
        traceback.print_exc()
        code, said = 1, f"{type(error).__name__}: {error}"
    failure = opt / "output" / "failure"
    if code not in (0, STOPPED) and failure.parent.is_dir() and not failure.exists():
        failure.write_text(said)
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main())

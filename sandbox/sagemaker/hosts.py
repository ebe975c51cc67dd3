"""One host of a training job: its program and all descendant processes, handled as if they were in a container."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from sandbox import processes
from sandbox.state import MARK

HOST = "KENNEL_HOST"  # environment variable of a host's processes: the host's folder


class JobError(Exception):
    """An error whose text becomes the job's FailureReason."""


@dataclass
class Host:
    """A host. `root` is what a container has as /opt/ml; `process` is its first program, the container's PID 1."""

    root: Path
    process: subprocess.Popen[bytes]

    @property
    def code(self) -> int | None:
        """Return the exit code as containers report it: 128 + N when signal N ended it; None while it runs."""
        code = self.process.poll()
        return 128 - code if code is not None and code < 0 else code

    def find_processes(self) -> set[psutil.Process]:
        """Return every process of this host. The group is not enough: torchrun gives each worker its own session."""
        found = set()
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, ProcessLookupError):
                ours = os.getpgid(process.pid) == self.process.pid
                if ours or process.environ().get(HOST) == str(self.root):
                    found |= {process, *process.children(recursive=True)}
        return found

    def signal_all(self, number: int) -> int:
        """Send a signal to all processes of the host and those they start meanwhile; return how many there were."""
        done: set[psutil.Process] = set()
        while new := self.find_processes() - done:
            for process in new:
                with contextlib.suppress(psutil.Error):
                    process.send_signal(number)
            done |= new
        return len(done)

    def request_stop(self) -> None:
        """Send SIGTERM to the first program alone: other processes of a container only get it if it passes it on."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL to all processes, as when a container is removed; then reap the first one."""
        self.signal_all(signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(5)


def start_host(argv: list[str], root: Path, sandbox: Path, env: dict[str, str]) -> Host:
    """Start a host's program in its folder. Raises JobError when the program cannot be started."""
    own = {"OPT_ML": str(root), HOST: str(root), MARK: str(sandbox)}
    try:
        process = processes.spawn_process(
            argv, root.parent, processes.build_child_environment(sandbox, root.parent) | env | own
        )
    except OSError as error:
        raise JobError(f"AlgorithmError: {argv[0]} cannot be started: {error}, exit code: 127") from error
    return Host(root, process)


def prepare_host_command(request: dict[str, Any], root: Path) -> list[str]:
    """Return a host's command: the request's entry point, or what AWS's toolkit would run. Raises JobError."""
    specification = request["AlgorithmSpecification"]
    if specification.get("ContainerEntrypoint"):
        return [*specification["ContainerEntrypoint"], *specification.get("ContainerArguments", [])]
    parameters = {name: decode_hyperparameter(value) for name, value in request.get("HyperParameters", {}).items()}
    program, folder = (str(parameters.get(f"sagemaker_{name}", "")) for name in ("program", "submit_directory"))
    if not program or not folder:
        raise JobError(
            "AlgorithmError: the request needs ContainerEntrypoint, or the hyperparameters sagemaker_program and "
            "sagemaker_submit_directory, exit code: 1"
        )
    if (resolve_container_path(root, folder) / "requirements.txt").exists():
        raise JobError(
            "AlgorithmError: the toolkit would pip-install requirements.txt, and a private subnet has no index, exit code: 1"
        )
    code = root / "code"
    shutil.copytree(resolve_container_path(root, folder), code)  # the toolkit runs a copy too, in /opt/ml/code
    return ["python", str(code / program), *format_hyperparameter_flags(parameters)]


def decode_hyperparameter(value: str) -> Any:
    """Return a hyperparameter parsed as JSON, or unchanged when it is not JSON, as the toolkit does."""
    try:
        return json.loads(value)
    except ValueError:
        return value


def format_hyperparameter_flags(parameters: dict[str, Any]) -> list[str]:
    """Return the hyperparameters as flags for the program, without the toolkit's own and the tuner's."""
    own = {
        name: value
        for name, value in parameters.items()
        if not name.startswith("sagemaker_") and name != "_tuning_objective_metric"
    }
    return [word for name, value in sorted(own.items()) for word in (f"-{'-' * (len(name) > 1)}{name}", str(value))]


def resolve_container_path(root: Path, path: str) -> Path:
    """Return the path of a folder below /opt/ml on this host. Raises JobError for any other path."""
    local = (root / path.removeprefix("/opt/ml").lstrip("/")).resolve()
    if not path.startswith("/opt/ml/") or not local.is_relative_to(root.resolve()) or not local.is_dir():
        raise JobError(
            f"AlgorithmError: the sandbox runs programs only from folders below /opt/ml, not from {path}, exit code: 1"
        )
    return local

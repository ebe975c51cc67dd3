"""The servers that bench.serve compares, each a process group of its own on this host.

The other servers are installed in .venv-bench. They import this environment's torch, numpy and Pillow after that venv's
packages (TORCH_PACKAGES), so that both sides run the same versions.
"""

from __future__ import annotations

import http.client
import os
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from bench import opponents
from bench.train import find_free_port
from ops.core.errors import OpsError
from ops.core.files import compute_folder_digest
from ops.core.output import say
from ops.core.paths import ROOT, WORK

READY_S = 120.0
NICE = "5"  # as serving/ sets for its own threads, or a busy neighbour would slow down ours alone
TICKS = os.sysconf("SC_CLK_TCK")
OURS, FLASK, LITSERVE = "serving/", "flask, gunicorn, torch", "LitServe, torch"
SHARED = ("torch", "numpy", "PIL")  # packages that both sides share
# For two vCPUs. Alternatives measured: 1 process with 2 torch threads, 2 with 1 thread, and for gunicorn 1 process with
# 2 request threads and 1 torch thread each. The results are in bench/serve.py.
THREADS, WORKERS = 1, 2


@dataclass(frozen=True)
class Server:
    name: str
    port: int
    pid: int

    def read_cpu_time(self) -> float:
        """Return the CPU seconds of all its processes so far, as Linux counts them."""
        ticks = 0
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with suppress(OSError):
                fields = stat.read_text().rpartition(")")[2].split()
                ticks += int(fields[11]) + int(fields[12]) if int(fields[3]) == self.pid else 0  # 3 is the session
        return ticks / TICKS


def make_release(arch: str = "resnet18", pixels: int = 224) -> Path:
    """Return a folder with `model`, as trained, and `opt`, as served; build it once per version of training/."""
    folder = WORK / "bench" / f"{arch}-{pixels}-{compute_folder_digest(ROOT / 'training')[:12]}"
    if not folder.is_dir():
        say(f"Creating a release of {arch} with input {pixels} x {pixels} ...")
        part = folder.with_name(f"{folder.name}.{os.getpid()}.part")
        argv = [sys.executable, str(ROOT / "bench" / "release.py"), arch, str(pixels), str(part)]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        if done.returncode:
            raise OpsError(f"Could not create the release: {done.stderr.strip()[-600:]}")
        part.rename(folder)
    return folder


def find_python(benchmark: str = "bench.serve") -> Path:
    """Return the Python of the other servers. Raises OpsError where it is missing, or has a torch of its own."""
    python = opponents.find_in_venv("python", benchmark, "flask, gunicorn and LitServe")
    own = Path(sysconfig.get_path("purelib", vars={"base": str(opponents.VENV)}))
    if duplicates := [name for name in SHARED if (own / name).exists()]:
        raise OpsError(
            f"{own} has its own {', '.join(duplicates)}, so the servers would run different versions. Uninstall it there."
        )
    return python


def build_server_command(name: str, port: int) -> tuple[list[str], Path]:
    """Return (the command of one of the three servers, its working directory)."""
    if name == OURS:
        return [sys.executable, "server.py", "serve"], ROOT / "serving"
    if name == LITSERVE:
        return ["nice", "-n", NICE, str(find_python()), "litserve_app.py", str(port), str(WORKERS)], ROOT / "bench"
    gunicorn = [
        "nice",
        "-n",
        NICE,
        str(find_python()),
        "-m",
        "gunicorn",
        "--workers",
        str(WORKERS),
        "--threads",
        "1",
        "--log-level",
        "error",
    ]
    return [*gunicorn, "--bind", f"127.0.0.1:{port}", "flask_app:application()"], ROOT / "bench"


@contextmanager
def start_server(name: str, release: Path, env: dict[str, str], log: Path) -> Iterator[Server]:
    """Start one of the three servers on a release and wait until it is ready. Raises OpsError."""
    port = find_free_port()
    argv, folder = build_server_command(name, port)
    variables = {
        "OPT_ML": str(release / "opt"),
        "SAGEMAKER_BIND_HOST": "127.0.0.1",
        "SAGEMAKER_BIND_TO_PORT": str(port),
    }
    variables |= {"MODEL": str(release / "model"), "TORCH_THREADS": str(THREADS), "OMP_NUM_THREADS": str(THREADS)}
    variables["TORCH_PACKAGES"] = sysconfig.get_path("purelib")
    inherited = {key: value for key, value in os.environ.items() if "proxy" not in key.lower()}
    if name == OURS:
        variables.pop("OMP_NUM_THREADS")
    with log.open("w") as out:
        process = subprocess.Popen(
            argv, cwd=folder, env=inherited | variables | env, stdout=out, stderr=out, start_new_session=True
        )
    try:
        wait_for_ping(process, port, log, name)
        yield Server(name, port, process.pid)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            say(f"{name} did not end after SIGTERM; killing it.")
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_for_ping(process: subprocess.Popen[bytes], port: int, log: Path, name: str) -> None:
    """Wait until the server answers pings. Raises OpsError after READY_S or when it ends."""
    until = time.monotonic() + READY_S
    while time.monotonic() < until and process.poll() is None:
        if is_ready(port):
            return
        time.sleep(0.05)
    raise OpsError(f"{name} does not start: {log.read_text().strip()[-600:] or 'it logged nothing'}")


def is_ready(port: int) -> bool:
    line = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        line.request("GET", "/ping")
        return line.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        line.close()

"""The preflight starts the real server locally with a release, pings it, checks its golden answers, and runs a short load test.

It finds a failing health check in seconds; SageMaker tries for half an hour, and refuses to delete the endpoint meanwhile.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ops.core.errors import STOPPED, OpsError
from ops.core.output import show_work
from ops.core.paths import ROOT
from ops.core.settings import Settings
from ops.releases import golden, load_test
from ops.releases.build import RELEASES, Release
from ops.releases.cpu_types import find_cpu_type
from ops.releases.load_test import LoadTestResult

READY_S = 120.0
LOAD_S = 2.0
NO_BF16 = "AVX512_CORE"  # oneDNN's name for a CPU without bf16, which most instance types have


def run_preflight(release: Release, settings: Settings) -> LoadTestResult:
    """Run the preflight; return what it measured. Raises OpsError at the first failure."""
    with show_work(f"Testing release {release.short} locally"):
        return measure_release(release, settings)


def measure_release(release: Release, settings: Settings) -> LoadTestResult:
    """Run the release in the real server, check its golden answers, then load it."""
    try:
        pictures = golden.read_golden_pictures(release.folder / "golden.npz")
    except (OSError, ValueError) as error:
        raise build_preflight_error(release, f"its golden answers cannot be read: {error}") from error
    with run_local_server(release, settings) as (port, about):
        if wrong := golden.check_golden_answers(pictures, lambda picture: post_picture(port, picture), release.digest):
            raise build_preflight_error(release, f"its answers are not its golden answers: {'; '.join(wrong[:3])}")
        callers = os.cpu_count() or 1
        load = load_test.run_load(port, [one.picture for one in pictures], callers, LOAD_S)
    answers = load.latencies(200)
    if load.failed or not answers:
        raise build_preflight_error(
            release, f"under load {len(load.answers) - len(answers)} of {len(load.answers)} requests failed"
        )
    p99 = load_test.compute_quantile(answers, 0.99) * 1000
    if p99 > settings.endpoint.p99_ms:
        raise build_preflight_error(
            release,
            f"it is too slow: p99 {p99:.0f} ms with {callers} callers; endpoint.p99_ms allows {settings.endpoint.p99_ms}",
        )
    return LoadTestResult(
        release.digest, about["threads"], read_cpu_model(), about["precision"], round(load.rate, 2),
        round(load_test.compute_quantile(answers, 0.5) * 1000, 2), round(p99, 2), callers, f"{datetime.now(UTC):%Y-%m-%d}",
    )  # fmt: skip


def build_preflight_error(release: Release, why: str) -> OpsError:
    return OpsError(f"Release {release.short} failed its preflight, and nothing in AWS was changed: {why}", STOPPED)


def read_cpu_model() -> str:
    """Return the model name of this machine's CPU, as the kernel reports it."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


@contextmanager
def run_local_server(release: Release, settings: Settings) -> Iterator[tuple[int, dict[str, Any]]]:
    """Run a server with the release, as on the settings' instance type; yield (port, what it logs about itself). Raises OpsError."""
    home = Path(tempfile.mkdtemp(prefix=f"{release.short}-", dir=RELEASES))
    shutil.copytree(release.folder, home / "model")
    port = find_free_port()
    target = find_cpu_type(settings.endpoint.instance_type)
    env = {"OPT_ML": str(home), "SAGEMAKER_BIND_HOST": "127.0.0.1", "SAGEMAKER_BIND_TO_PORT": str(port)}
    env |= {"PATH": os.environ.get("PATH", "")} | ({} if target and target.amx else {"ONEDNN_MAX_CPU_ISA": NO_BF16})
    log_path = home / "log"
    with log_path.open("w") as log:
        server = subprocess.Popen(
            [sys.executable, "server.py", "serve"], cwd=ROOT / "serving", env=env, stdout=log, stderr=subprocess.STDOUT
        )
    try:
        wait_until_ready(server, port, log_path, release)
        lines = [
            line for line in log_path.read_text().splitlines() if '"precision"' in line
        ]  # libraries may log lines as well
        yield port, json.loads(lines[0])
    finally:
        server.kill()
        server.wait()
        shutil.rmtree(home, ignore_errors=True)


def find_free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until_ready(server: subprocess.Popen[Any], port: int, log_path: Path, release: Release) -> None:
    """Wait until the server answers pings. Raises OpsError with its last line when it ends, or does not answer in time."""
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline:
        if server.poll() is not None:
            last = (log_path.read_text().strip().splitlines() or ["it printed no error"])[-1]
            hint = " Run: pip install -e '.[serve]'" if "ModuleNotFoundError" in last else ""
            raise build_preflight_error(release, f"the server does not start: {last}{hint}")
        try:
            with build_direct_opener().open(f"http://127.0.0.1:{port}/ping", timeout=2):
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.05)
    raise build_preflight_error(release, f"the server did not answer a ping within {READY_S:.0f} s")


def build_direct_opener() -> urllib.request.OpenerDirector:
    return urllib.request.build_opener(urllib.request.ProxyHandler({}))


def post_picture(port: int, picture: bytes) -> dict[str, Any]:
    """Send a picture; return the server's answer, whatever its status."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/invocations", picture, {"Content-Type": "application/x-image"}
    )
    try:
        with build_direct_opener().open(request, timeout=30) as answer:
            found: dict[str, Any] = json.loads(answer.read())
            return found
    except urllib.error.HTTPError as error:
        return {"error": error.read().decode(errors="replace")[:300]}

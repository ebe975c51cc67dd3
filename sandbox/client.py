"""The sandbox seen from outside: find its folder in the settings, start its process, call its control API."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from invoke import Context

from ops.core import settings
from ops.core.errors import OpsError
from ops.core.paths import ROOT
from sandbox import state

START_S = 60.0
OWN_FILES = ("lock", "state.json", "sandbox.log")  # one of them at least is in a folder that a sandbox has used
NEEDED = ("asyncssh", "moto")  # packages of the `sandbox` extra


def find_sandbox_folder(c: Context) -> Path:
    """Return the sandbox's folder, two levels above aws.config_file. Raises OpsError for other settings."""
    aws = settings.load(c.config).aws
    path = settings.resolve_below_root(aws.config_file)
    if aws.profile != "sandbox" or path.parts[-2:] != ("aws", "config"):
        raise OpsError(
            "These settings are for AWS, not for a sandbox. Run without -f, or set aws.config_file as in invoke.yaml."
        )
    folder = path.parent.parent
    if folder.is_dir() and any(folder.iterdir()) and not any((folder / name).exists() for name in OWN_FILES):
        raise OpsError(
            f"{folder} is not a sandbox's folder, and a sandbox deletes what is in its folder. "
            "Set aws.config_file as in invoke.yaml. Nothing was touched."
        )
    return folder


def start_sandbox(folder: Path) -> state.State:
    """Start the process and wait for its state file. Raises OpsError with the end of its log if none appears."""
    if missing := next((name for name in NEEDED if find_spec(name) is None), ""):
        raise OpsError(f"The sandbox needs the package {missing}. Run: pip install -e '.[sandbox,serve,train]'")
    log = folder / "sandbox.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "sandbox.serve", str(folder)],
            cwd=ROOT,
            env=build_sandbox_environment(folder),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        if running := state.read(folder):
            return running
        if process.poll() is not None:
            break
        time.sleep(0.05)
    process.kill()
    tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
    raise OpsError(f"The sandbox did not start. The end of {log}:\n{tail}")


def build_sandbox_environment(folder: Path) -> dict[str, str]:
    """Return the part of the operator's environment that the sandbox's process gets."""
    inherited = ("PATH", "HOME", "LANG", "TMPDIR", "REQUESTS_CA_BUNDLE")
    env = {name: value for name, value in os.environ.items() if name in inherited or name.startswith("PIP_")}
    if "HTTPS_PROXY" in os.environ:  # for pip alone: the sandbox itself only talks to this machine
        env.setdefault("PIP_PROXY", os.environ["HTTPS_PROXY"])
    return env | {state.MARK: str(folder)}


def send_control_request(
    running: state.State, method: str, path: str, body: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Send one request to the sandbox's control API, with the token of its state file; return the JSON response."""
    data = json.dumps(body or {}).encode() if method == "POST" else None
    url, headers = f"{running.url}/_sandbox/{path}", {"X-Sandbox-Token": running.token}
    request = urllib.request.Request(url, data, headers, method=method)  # noqa: S310  loopback, from our state file
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=60) as response:
            reply: dict[str, Any] = json.loads(response.read())
    except urllib.error.HTTPError:
        raise  # the sandbox answered; the caller knows what was asked
    except OSError as error:
        raise OpsError(
            f"The sandbox does not answer: {error}. Start it again: invoke sandbox.down sandbox.up"
        ) from error
    return reply

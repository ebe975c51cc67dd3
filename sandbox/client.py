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
from ops.core.output import say
from ops.core.paths import ROOT
from sandbox import processes, state

START_S = 60.0
RESTORE_S = 300.0  # the servers of its endpoints start before it answers
# One of them at least is in a folder that a sandbox has used.
OWN_FILES = ("lock", "state.json", *state.LOGS, state.KEPT_FILE)
GONE = "The last sandbox ended without sandbox.down, and everything in it is gone."
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


def prepare_folder(folder: Path, region: str) -> bool:
    """Clear the folder of a sandbox that does not run; return whether it holds a kept state, which stays.

    It says so when the last sandbox ended without `sandbox.down`, with all that was in it. Raises OpsError for a kept state of other code, or
    of another region.
    """
    leftovers = processes.end_sandbox_processes(folder)
    is_kept = state.has_kept_state(folder)
    if is_kept and not state.is_kept_state_usable(folder, region):
        raise OpsError(
            f"{folder / state.KEPT_FILE} was written by another version of the sandbox, of moto or of Python, or in another region than {region}. "
            "Go back to that version or region, or delete what was kept: invoke sandbox.down sandbox.up"
        )
    if state.was_killed(folder) and not is_kept:
        ended = f" Processes of it that were ended: {leftovers}." if leftovers else ""
        say(f"{GONE}{ended}")
        say("Build the stack again: invoke demo, or invoke iam.apply data.up net.up")
    state.clear_sandbox_folder(folder, keep=is_kept)
    return is_kept


def keep_sandbox(folder: Path, running: state.State | None) -> int:
    """Stop a running sandbox that writes its state first; return the bytes of it. Raises OpsError, with the sandbox still running."""
    if running is None:
        kept = " What an earlier one kept is still there." if state.has_kept_state(folder) else ""
        raise OpsError(f"The sandbox is not running, so there is nothing to keep.{kept} Start it: invoke sandbox.up")
    try:
        size = int(send_control_request(running, "POST", "keep")["bytes"])
    except urllib.error.HTTPError as error:
        raise OpsError(
            f"The sandbox cannot be kept now, and still runs: {read_refusal(error)}. "
            "Wait until that has ended, or stop it and delete everything: invoke sandbox.down"
        ) from error
    deadline = time.monotonic() + START_S
    while running.alive and time.monotonic() < deadline:
        time.sleep(0.05)
    processes.end_sandbox_processes(folder)
    state.clear_sandbox_folder(folder, keep=True)
    return size


def read_refusal(error: urllib.error.HTTPError) -> str:
    """Return the sandbox's own reason for refusing a control request."""
    try:
        return str(json.loads(error.read())["error"]).rstrip(".")
    except (ValueError, KeyError, TypeError):
        return str(error.reason)


def start_sandbox(folder: Path, region: str) -> state.State:
    """Start the process, in this region, and wait for its state file. Raises OpsError with the end of its log if none appears."""
    if missing := next((name for name in NEEDED if find_spec(name) is None), ""):
        raise OpsError(f"The sandbox needs the package {missing}. Run: pip install -e '.[sandbox,serve,train]'")
    log = folder / "sandbox.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "sandbox.serve", str(folder)],
            cwd=ROOT,
            env=build_sandbox_environment(folder) | {state.REGION_VARIABLE: region},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    deadline = time.monotonic() + (RESTORE_S if state.has_kept_state(folder) else START_S)
    while time.monotonic() < deadline:
        if running := state.read(folder):
            return running
        if process.poll() is not None:
            break
        time.sleep(0.05)
    process.kill()
    tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
    kept = " What was kept is still there; to delete it: invoke sandbox.down." if state.has_kept_state(folder) else ""
    raise OpsError(f"The sandbox did not start.{kept} The end of {log}:\n{tail}")


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

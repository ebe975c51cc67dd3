"""The local AWS, as commands: start it, stop it, see what runs in it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from ops.core.errors import OpsError
from ops.core.output import say, table
from ops.core.paths import ROOT
from ops.core.task import Result, task

START_S = 60.0


@task(help={"json": "Print it as JSON."})
def up(c, json=False):
    """Start the local AWS in the background, or say that it is up."""
    from sandbox import processes, state

    folder = folder_of(c)
    if c.config.run.dry:
        return Result({}, f"would start the local AWS of {folder}, unless it is up")
    with state.locked(folder):
        running = state.read(folder)
        fresh = running is None
        if running is None:
            swept = processes.sweep(folder)
            state.clear(folder)  # what a killed one held is of no use to the next, which begins empty
            if swept:
                say(f"Ended {swept} processes that a killed sandbox had left.")
            running = start(folder)
    text = (
        f"The sandbox {'is up' if fresh else 'was up already'}: pid {running.pid}, {running.url}. Next: invoke doctor"
    )
    return Result({"pid": running.pid, "url": running.url, "started": fresh}, text)


@task()
def down(c):
    """Stop the local AWS and everything that runs in it; its contents are gone."""
    from sandbox import processes, state

    folder = folder_of(c)
    if c.config.run.dry:
        return Result({}, f"would end the local AWS of {folder} with {len(processes.leftovers(folder))} processes")
    with state.locked(folder):
        running = state.read(folder)
        ended = processes.sweep(folder)
        state.clear(folder)
        (folder / "lock").unlink()  # last, and still held: who waits for it finds it gone, and takes a new one
    return Result({"ended": ended}, f"The sandbox {'is down' if running else 'was not up'}; {ended} processes ended.")


@task(help={"json": "Print it as JSON."})
def status(c, json=False):
    """Show whether the local AWS is up, and the processes in it."""
    from sandbox import processes, state

    folder = folder_of(c)
    running = state.read(folder)
    if running is None:
        return Result({"up": False}, "The sandbox is not up. Next: invoke sandbox.up", code=1)
    health = ask(running, "GET", "health")
    rows = [
        (p.pid, f"{p.memory_info().rss >> 20} MB", " ".join(p.cmdline())[:100]) for p in processes.leftovers(folder)
    ]
    head = f"up for {health['up_s']:.0f} s, {health['calls']} calls, {running.url}, log {folder / 'sandbox.log'}"
    return Result(
        {"up": True, "url": running.url, **health, "processes": [row[2] for row in rows]},
        f"{head}\n{table(('pid', 'memory', 'command'), rows)}",
    )


def folder_of(c) -> Path:
    """The folder that holds the settings' AWS profile is the sandbox's. Raises OpsError for settings that name another."""
    from ops.core import settings

    aws = settings.load(c.config).aws
    path = settings.below_root(aws.config_file)
    if aws.profile != "sandbox" or path.parts[-2:] != ("aws", "config"):
        raise OpsError(
            "These settings are for AWS, not for a sandbox. Leave out -f, or see aws.config_file in invoke.yaml."
        )
    return path.parent.parent


def start(folder: Path):
    """Start the process and wait until it answers. Raises OpsError with the end of its log."""
    from sandbox import state

    try:
        import asyncssh  # noqa: F401
        import moto  # noqa: F401
    except ImportError as error:
        raise OpsError(f"The sandbox needs {error.name}: pip install -e '.[sandbox,serve,train]'") from error
    log = folder / "sandbox.log"
    kept = ("PATH", "HOME", "LANG", "TMPDIR", "REQUESTS_CA_BUNDLE")
    env = {name: value for name, value in os.environ.items() if name in kept or name.startswith("PIP_")}
    if "HTTPS_PROXY" in os.environ:  # for pip alone: the sandbox itself talks to this machine only
        env.setdefault("PIP_PROXY", os.environ["HTTPS_PROXY"])
    env[state.MARK] = str(folder)
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "sandbox.serve", str(folder)],
            cwd=ROOT,
            env=env,
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


def ask(running, method: str, what: str, body: dict | None = None) -> dict:
    """Talk to the sandbox itself, beside its AWS; its token is in the state file."""
    import json
    import urllib.request

    data = json.dumps(body or {}).encode() if method == "POST" else None
    url, headers = f"{running.url}/_sandbox/{what}", {"X-Sandbox-Token": running.token}
    request = urllib.request.Request(url, data, headers, method=method)  # noqa: S310  loopback, from our state file
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=60) as answer:
        return json.loads(answer.read())

"""Commands for the sandbox, the local AWS.

Each task imports what it needs when it runs, because `invoke --list` loads this module too.
"""

from __future__ import annotations

from invoke import Context

from ops.core.errors import OpsError
from ops.core.output import format_table, say
from ops.core.task import Result, task


@task(help={"json": "Print the result as JSON."})
def up(c: Context, json: bool = False) -> Result:
    """Start the local AWS in the background.

    Example: invoke sandbox.up
    """
    from ops.core.kept_sessions import drop_sessions
    from sandbox import client, processes, state

    folder = client.find_sandbox_folder(c)
    if c.config.run.dry:
        return Result({}, f"would start the local AWS in {folder}, unless it is running")
    with state.lock_sandbox_folder(folder):
        running = state.read(folder)
        is_new = running is None
        if running is None:
            leftovers = processes.end_sandbox_processes(folder)
            if state.was_killed(folder):
                say(
                    f"The sandbox before this one was killed, and everything in it is gone. {leftovers} of its processes were ended."
                )
                say("Build the stack again: invoke demo, or invoke iam.apply data.up net.up")
            state.clear_sandbox_folder(folder)
            drop_sessions(config_file=str(folder / "aws" / "config"))  # none of their keys works in another sandbox
            running = client.start_sandbox(folder)
    text = (
        f"The sandbox {'is running' if is_new else 'was already running'}: pid {running.pid}, {running.url}. "
        "Next: invoke doctor"
    )
    return Result({"pid": running.pid, "url": running.url, "started": is_new}, text)


@task()
def down(c: Context) -> Result:
    """Stop the local AWS and delete its contents.

    Boxes, jobs and endpoints in it end too.

    Example: invoke sandbox.down
    """
    from ops.core.kept_sessions import drop_sessions
    from sandbox import client, processes, state

    folder = client.find_sandbox_folder(c)
    if c.config.run.dry:
        return Result(
            {}, f"would stop the local AWS in {folder} with {len(processes.list_sandbox_processes(folder))} processes"
        )
    with state.lock_sandbox_folder(folder):
        running = state.read(folder)
        ended = processes.end_sandbox_processes(folder)
        state.clear_sandbox_folder(folder)
        drop_sessions(config_file=str(folder / "aws" / "config"))
        (folder / "lock").unlink()  # last, still held: a waiting process then makes a new lock file
    return Result(
        {"ended": ended}, f"The sandbox {'is stopped' if running else 'was not running'}; {ended} processes ended."
    )


@task(help={"json": "Print the result as JSON."})
def status(c: Context, json: bool = False) -> Result:
    """Show whether the local AWS is running, and its processes.

    Exit code 1 if it is not running.

    Example: invoke sandbox.status
    """
    from sandbox import client, processes, state

    folder = client.find_sandbox_folder(c)
    running = state.read(folder)
    if running is None:
        return Result({"up": False}, "The sandbox is not running. Start it: invoke sandbox.up", code=1)
    health = client.send_control_request(running, "GET", "health")
    rows = [
        (p.pid, f"{p.memory_info().rss >> 20} MB", " ".join(p.cmdline())[:100])
        for p in processes.list_sandbox_processes(folder)
    ]
    head = f"running for {health['up_s']:.0f} s, {health['calls']} calls, {running.url}, log {folder / 'sandbox.log'}"
    return Result(
        {"up": True, "url": running.url, **health, "processes": [row[2] for row in rows]},
        f"{head}\n{format_table(('pid', 'memory', 'command'), rows)}",
    )


@task(
    iterable=["set"],
    help={"name": "Fault to inject; list prints them all.", "set": "Parameter as NAME=VALUE; repeat it."},
)
def fault(c: Context, name: str, set: list[str] | None = None) -> Result | None:
    """Inject a fault into the local AWS, to rehearse an incident.

    `invoke sandbox.fault list` prints the faults and their parameters.

    Example: invoke sandbox.fault slow --set seconds=3
    """
    import urllib.error
    from json import dumps, loads

    from ops.core.settings import load
    from sandbox import client, drills, state

    if name == "list":
        return Result(drills.list_faults(), format_table(("fault", "parameters", "effect"), drills.list_faults()))
    action, body = drills.build_request(name, set or (), load(c.config).endpoint_name)
    if c.config.run.dry:
        say(f"would inject fault {name}: {dumps(body)}")
        return None
    running = state.read(client.find_sandbox_folder(c))
    if running is None:
        raise OpsError("The sandbox is not running. Start it: invoke sandbox.up")
    try:
        reply = client.send_control_request(running, "POST", action, body)
    except urllib.error.HTTPError as error:
        reason = loads(error.read() or b"{}").get("error", error.reason)
        raise OpsError(f"The sandbox refused fault {name}: {reason}") from error
    return Result(
        reply, f"Fault {name} is set: {dumps(reply)}. End faults of calls and capacity: invoke sandbox.fault clear"
    )

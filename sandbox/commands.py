"""Commands for the sandbox, the local AWS.

Each task imports what it needs when it runs, because `invoke --list` loads this module too.
"""

from __future__ import annotations

from invoke import Context

from ops.core.output import format_table, say
from ops.core.task import Result, task


@task(help={"json": "Print the result as JSON."})
def up(c: Context, json: bool = False) -> Result:
    """Start the local AWS in the background.

    Example: invoke sandbox.up
    """
    from sandbox import client, processes, state

    folder = client.find_sandbox_folder(c)
    if c.config.run.dry:
        return Result({}, f"would start the local AWS in {folder}, unless it is running")
    with state.lock_sandbox_folder(folder):
        running = state.read(folder)
        is_new = running is None
        if running is None:
            leftovers = processes.end_sandbox_processes(folder)
            state.clear_sandbox_folder(folder)  # a killed sandbox leaves files; a new one starts empty
            if leftovers:
                say(f"Ended {leftovers} processes of a sandbox that was killed.")
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

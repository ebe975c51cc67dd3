"""The sandbox commands: start the local AWS, stop it, show what runs in it.

Each task imports what it needs when it runs, because `invoke --list` loads this module too.
"""

from __future__ import annotations

from invoke import Context

from ops.core.output import format_table, say
from ops.core.task import Result, task


@task(help={"json": "Print it as JSON."})
def up(c: Context, json: bool = False) -> Result:
    """Start the local AWS in the background, or say that it is up."""
    from sandbox import client, processes, state

    folder = client.find_sandbox_folder(c)
    if c.config.run.dry:
        return Result({}, f"would start the local AWS of {folder}, unless it is up")
    with state.lock_sandbox_folder(folder):
        running = state.read(folder)
        fresh = running is None
        if running is None:
            swept = processes.end_sandbox_processes(folder)
            state.clear_sandbox_folder(folder)  # a killed sandbox leaves files; the next one begins empty
            if swept:
                say(f"Ended {swept} processes that a killed sandbox had left.")
            running = client.start_sandbox(folder)
    text = (
        f"The sandbox {'is up' if fresh else 'was up already'}: pid {running.pid}, {running.url}. Next: invoke doctor"
    )
    return Result({"pid": running.pid, "url": running.url, "started": fresh}, text)


@task()
def down(c: Context) -> Result:
    """Stop the local AWS and everything that runs in it; its contents are gone."""
    from sandbox import client, processes, state

    folder = client.find_sandbox_folder(c)
    if c.config.run.dry:
        return Result(
            {}, f"would end the local AWS of {folder} with {len(processes.list_sandbox_processes(folder))} processes"
        )
    with state.lock_sandbox_folder(folder):
        running = state.read(folder)
        ended = processes.end_sandbox_processes(folder)
        state.clear_sandbox_folder(folder)
        (folder / "lock").unlink()  # last, still held: a waiting process then makes a new lock file
    return Result({"ended": ended}, f"The sandbox {'is down' if running else 'was not up'}; {ended} processes ended.")


@task(help={"json": "Print it as JSON."})
def status(c: Context, json: bool = False) -> Result:
    """Show whether the local AWS is up, and the processes in it."""
    from sandbox import client, processes, state

    folder = client.find_sandbox_folder(c)
    running = state.read(folder)
    if running is None:
        return Result({"up": False}, "The sandbox is not up. Next: invoke sandbox.up", code=1)
    health = client.send_control_request(running, "GET", "health")
    rows = [
        (p.pid, f"{p.memory_info().rss >> 20} MB", " ".join(p.cmdline())[:100])
        for p in processes.list_sandbox_processes(folder)
    ]
    head = f"up for {health['up_s']:.0f} s, {health['calls']} calls, {running.url}, log {folder / 'sandbox.log'}"
    return Result(
        {"up": True, "url": running.url, **health, "processes": [row[2] for row in rows]},
        f"{head}\n{format_table(('pid', 'memory', 'command'), rows)}",
    )

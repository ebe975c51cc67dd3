"""Commands for the sandbox, the local AWS.

Each task imports what it needs when it runs, because `invoke --list` loads this module too.
"""

from __future__ import annotations

from invoke import Context

from ops.core.errors import OpsError
from ops.core.output import format_table, say
from ops.core.task import Result, task

KEPT = "The sandbox is stopped, and what is in it is kept. Start it again: invoke sandbox.up. Delete it: invoke sandbox.down"


@task(help={"json": "Print the result as JSON."})
def up(c: Context, json: bool = False) -> Result:
    """Start the local AWS in the background.

    Its region is aws.region. What sandbox.down --keep kept is there again.

    Example: invoke sandbox.up
    """
    from ops.core.kept_sessions import drop_sessions
    from ops.core.settings import load
    from sandbox import client, state

    folder, region = client.find_sandbox_folder(c), load(c.config).aws.region
    if c.config.run.dry:
        return Result({}, f"would start the local AWS in {folder}, unless it is running")
    with state.lock_sandbox_folder(folder):
        running = state.read(folder)
        is_new, is_restored = running is None, False
        if running is None:
            is_restored = client.prepare_folder(folder, region)
            if not is_restored:
                drop_sessions(config_file=str(folder / "aws" / "config"))  # none of their keys works in another sandbox
            running = client.start_sandbox(folder, region)
        elif running.region != region:
            raise OpsError(
                f"The sandbox runs in {running.region}, and aws.region is {region}. "
                "Change aws.region, or start another sandbox and delete all that is in this one: invoke sandbox.down sandbox.up"
            )
    text = (
        f"The sandbox {'is running' if is_new else 'was already running'}{' with all that was kept' if is_restored else ''}: "
        f"pid {running.pid}, {running.url}. Next: invoke doctor"
    )
    return Result({"pid": running.pid, "url": running.url, "started": is_new, "restored": is_restored}, text)


@task(help={"keep": "Keep what is in it, for the next sandbox.up."})
def down(c: Context, keep: bool = False) -> Result:
    """Stop the local AWS and delete its contents.

    Boxes, jobs and endpoints in it end too. With --keep, the next sandbox.up
    starts boxes and endpoints again; refused while a job or a deployment runs.

    Example: invoke sandbox.down --keep
    """
    from ops.core.kept_sessions import drop_sessions
    from sandbox import client, processes, state

    folder = client.find_sandbox_folder(c)
    if c.config.run.dry:
        count = len(processes.list_sandbox_processes(folder))
        fate = "keep its contents" if keep else "delete its contents"
        return Result({}, f"would stop the local AWS in {folder} with {count} processes, and {fate}")
    with state.lock_sandbox_folder(folder):
        running = state.read(folder)
        if keep:
            return Result({"bytes": client.keep_sandbox(folder, running)}, KEPT)
        ended = processes.end_sandbox_processes(folder)
        had_kept = state.has_kept_state(folder)
        state.clear_sandbox_folder(folder)
        drop_sessions(config_file=str(folder / "aws" / "config"))
        (folder / "lock").unlink()  # last, still held: a waiting process then makes a new lock file
    what = (
        "is stopped" if running else "was not running; what it had kept is deleted" if had_kept else "was not running"
    )
    return Result({"ended": ended}, f"The sandbox {what}; {ended} processes ended.")


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
        kept, gone = state.has_kept_state(folder), state.was_killed(folder)
        reason = " What was in it is kept." if kept else f" {client.GONE}" if gone else ""
        text = f"The sandbox is not running.{reason} Start it: invoke sandbox.up"
        return Result({"up": False, "kept": kept}, text, code=1)
    health = client.send_control_request(running, "GET", "health")
    rows = [
        (pid, f"{memory >> 20} MB", command[:100])
        for pid, memory, command in processes.describe_processes(processes.list_sandbox_processes(folder))
    ]
    head = f"running for {health['up_s']:.0f} s, {health['calls']} calls, {running.url}, log {folder / 'sandbox.log'}"
    return Result(
        {"up": True, "url": running.url, **health, "processes": [row[2] for row in rows]},
        f"{head}\n{format_table(('pid', 'memory', 'command'), rows)}",
    )


@task(help={"json": "Print the result as JSON."})
def fidelity(c: Context, json: bool = False) -> Result:
    """Compare the local AWS's answers with those that are known of AWS.

    It sends some 200 requests to a sandbox of its own, which ends afterwards:
    the one that runs is not touched. Exit code 1 if a difference has no reason.

    Example: invoke sandbox.fidelity
    """
    from sandbox.fidelity import score

    if c.config.run.dry:
        return Result({}, "would start a sandbox of its own, send it the known requests, and remove it")
    checks = score.run_in_own_sandbox()
    differences = score.list_differences(checks)
    services = dict(score.summarise_services(checks))
    data = {**score.summarise(checks), "services": services, "differences": differences}
    return Result(data, score.format_score(checks), code=int(not all(one["reason"] for one in differences)))


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
    from json import dumps

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
        raise OpsError(f"The sandbox refused fault {name}: {client.read_refusal(error)}") from error
    return Result(reply, drills.describe_injected(name, reply))

"""The sandbox's process: `python -m sandbox.serve FOLDER`. It serves until SIGTERM, or until idle for hours."""

from __future__ import annotations

import gc
import os
import secrets
import signal
import sys
import threading
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from sandbox import processes, state

if TYPE_CHECKING:
    from sandbox.world import World

IDLE_S = 4 * 3600.0
# moto reads these when it is imported.
MOTO = {
    "MOTO_ENABLE_AMI_VALIDATION": "1",
    "MOTO_ENABLE_KEYPAIR_VALIDATION": "1",
    "MOTO_EC2_ENABLE_INSTANCE_TYPE_VALIDATION": "1",
    "MOTO_EC2_LOAD_DEFAULT_AMIS": "false",  # saves 12 s of loading unused images
    "MOTO_DISABLE_GLOBAL_CORS": "1",
    "MOTO_ACCOUNT_ID": state.ACCOUNT,
}


def main(folder: Path) -> None:
    os.environ.update(MOTO)
    os.umask(0o077)
    gc.disable()
    # Imported here: moto reads its settings from the environment on import, and all of the sandbox imports moto.
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler
    from werkzeug.serving import make_server

    from sandbox import kept_state, seed
    from sandbox.apps import create_app
    from sandbox.autoscaling.capacity import keep_scaling
    from sandbox.ec2 import instances, spot
    from sandbox.http.app import Gate
    from sandbox.iam import enforce

    class Quiet(MotoRequestHandler):
        protocol_version = "HTTP/1.1"  # keeps connections open: an SDK makes hundreds of calls

        def log_request(self, *_: object) -> None: ...

    check_region()
    is_restored = state.has_kept_state(folder)
    world = create_world(folder, is_restored)
    server = make_server(
        "127.0.0.1", 0, Gate(DomainDispatcherApplication(create_app), world), threaded=True, request_handler=Quiet
    )
    server.daemon_threads = True  # type: ignore[attr-defined]
    world.port = server.server_port
    world.tunnel_port = instances.start_event_loop(world, partial(enforce.explain_tunnel_denial, world))
    seed.seed_account(world)
    for worker in (keep_scaling, spot.watch_spot_requests, stop_when_idle):
        threading.Thread(target=worker, args=(world,), daemon=True).start()
    signal.signal(signal.SIGTERM, lambda *_: world.ending.set())
    signal.signal(signal.SIGINT, lambda *_: world.ending.set())
    threading.Thread(target=server.serve_forever, daemon=True).start()
    if is_restored:
        kept_state.start_programs(world)
        (folder / state.KEPT_FILE).unlink()  # from here on it is out of date
    write_files(world)
    collect_garbage_rarely()
    world.note(f"serving on {world.url}")
    world.ending.wait()
    world.note("shutting down")
    processes.end_sandbox_processes(folder)
    if state.has_kept_state(folder):
        state.clear_sandbox_folder(folder, keep=True)
    # Else `down` clears the folder; after any other signal the next `up` finds the state file, and says what is lost.
    os._exit(0)  # threads of werkzeug, asyncio and training jobs would delay an ordinary exit


def collect_garbage_rarely() -> None:
    """Leave what is loaded alone: the models of AWS's services stay. By Python's own thresholds a seventh of the time goes in collections."""
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
    gc.enable()


def check_region() -> None:
    """End the process in a region that moto lacks: `sandbox.up` prints the end of its log."""
    from moto.backends import get_backend

    try:
        for service in ("ec2", "codebuild"):
            get_backend(service)[state.ACCOUNT][state.REGION]
    except KeyError:
        sys.exit(f"The local AWS has no region {state.REGION}. Set aws.region to another one, such as eu-central-1.")


def create_world(folder: Path, is_restored: bool) -> World:
    """Return the World of this process, filled from the kept state or with nothing but an administrator."""
    from sandbox import kept_state
    from sandbox.world import World, set_world

    if not is_restored:
        (folder / "calls.jsonl").unlink(missing_ok=True)
    world = World(folder, secrets.token_urlsafe(24))
    set_world(world)
    if is_restored:
        kept_state.restore(world)
    else:
        world.keys.create_administrator()
    return world


def write_files(world: World) -> None:
    """Write the profile, the waivers and, last, the state file, which says that the sandbox is ready."""
    folder = world.folder
    state.write_private_file(folder / "aws" / "config", world.format_profile())
    state.write_private_file(folder / "aws" / "waivers.toml", world.build_administrator_waiver())
    started = psutil.Process().create_time()
    state.write(folder, state.State(os.getpid(), started, world.port, world.tunnel_port, world.token, state.REGION))


def stop_when_idle(world: World) -> None:
    """Stop a sandbox that is not used, as sandbox.down --keep does."""
    from sandbox import kept_state

    while not world.ending.wait(10):
        if time.monotonic() - world.log.last > IDLE_S and len(processes.list_sandbox_processes(world.folder)) == 0:
            world.note(f"no call for {IDLE_S / 3600:.0f} hours; shutting down, and keeping the state")
            try:
                kept_state.keep(world)
            except ValueError as error:
                world.note(f"the state is not kept: {error}")
                world.ending.set()
            return


if __name__ == "__main__":
    main(Path(sys.argv[1]))

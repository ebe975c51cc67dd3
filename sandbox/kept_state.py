"""The state of a sandbox that was stopped by `sandbox.down --keep`: written to one file, and read by the next `sandbox.up`.

The file holds moto's stores, S3's objects among them, and the World's own tables, in one pickle, so that what refers to
one another still does. What runs is not in it: boxes, endpoints and warm functions are started again from what is.
"""

from __future__ import annotations

import importlib
import pickle
import threading
import time
import weakref
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from moto.core.base_backend import BackendDict
from moto.s3.models import s3_backends

from sandbox import state
from sandbox.ec2 import lifecycle
from sandbox.function import workers
from sandbox.sagemaker import endpoints, runs
from sandbox.world import Clock, World

LOCKS = (type(threading.Lock()), type(threading.RLock()))
SEEDED = ("kms", "ssm")  # no caller writes these: seed.py, and moto itself, fill them at each start
FINGERPRINT = state.fingerprint_code(state.REGION)  # of the code that runs, whatever becomes of its files
ATTEMPTS = 20  # a table that grows while it is written is written again
QUIET_S = 15.0
SETTLED = ("InService", "Failed", "OutOfService")
# The tables that are kept: attributes of the World, and of its tables.
KEPT = {
    "": ("token", "keys", "faults", "builds"),
    "ec2": (
        "boxes",
        "connect_endpoints",
        "lingering_interfaces",
        "spot_requests",
        "spot_notices",
        "launches",
        "tags_of_terminated",
    ),
    "sagemaker": ("runs", "searches", "endpoints", "hanging"),
    "scaling": ("activities", "in_progress", "scaled_at", "periods"),
    "functions": ("provisioned", "urls"),
}


class Writer(pickle.Pickler):
    """A pickler for the World's tables and moto's stores. Locks and events are new when they are read."""

    def persistent_id(self, obj: Any) -> str | None:
        return "world" if isinstance(obj, World) else None

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, LOCKS):
            return (threading.Lock if isinstance(obj, LOCKS[0]) else threading.RLock), ()
        if isinstance(obj, threading.Event):
            return build_event, (obj.is_set(),)
        if isinstance(obj, weakref.WeakValueDictionary):
            return weakref.WeakValueDictionary, (), None, None, iter(list(obj.items()))
        if isinstance(obj, defaultdict) and is_lambda(obj.default_factory):
            return defaultdict, (type(obj.default_factory()),), None, None, iter(list(obj.items()))  # type: ignore[misc]
        return NotImplemented


def is_lambda(factory: Any) -> bool:
    """Return whether this is one of moto's `lambda: {}`, which pickle cannot write; any other fails there, as it should."""
    return getattr(factory, "__name__", "") == "<lambda>" and factory() in ({}, [])


def build_event(is_set: bool) -> threading.Event:
    event = threading.Event()
    if is_set:
        event.set()
    return event


class Reader(pickle.Unpickler):
    def __init__(self, file: Any, world: World) -> None:
        super().__init__(file)
        self.world = world

    def persistent_load(self, pid: str) -> Any:
        return self.world


def keep(world: World) -> dict[str, Any]:
    """Write the state to the folder and end the sandbox. Raises ValueError, and changes nothing, when it cannot be kept now."""
    if unfinished := list(list_unfinished_work(world)):
        raise ValueError(f"work is in progress: {', '.join(unfinished)}")
    world.is_stopping = True  # from here on the front end refuses calls
    try:
        await_running_calls(world)
        size = write(world)
    except Exception as error:
        world.is_stopping = False
        raise ValueError(f"the state could not be written: {type(error).__name__}: {error}") from error
    threading.Timer(0.5, world.ending.set).start()  # once this call has been answered
    return {"bytes": size}


def list_unfinished_work(world: World) -> Iterator[str]:
    """Yield what is in transition, and would not be the same after a restart."""
    for name, live in world.sagemaker.endpoints.items():
        if live.record.endpoint_status not in SETTLED:
            yield f"endpoint {name} is {live.record.endpoint_status}"
    yield from (f"endpoint {name} is scaled" for name in world.scaling.in_progress)
    for name, run in world.sagemaker.runs.items():
        if run.status not in runs.TERMINAL:
            yield f"training job {name} is {run.status}"
    for name, search in world.sagemaker.searches.items():
        if search.record.hyper_parameter_tuning_job_status not in runs.TERMINAL:
            yield f"tuning job {name} is {search.record.hyper_parameter_tuning_job_status}"
    yield from (f"image build {name} runs" for name, build in world.builds.items() if not build.record["buildComplete"])
    for (name, _), config in world.functions.provisioned.items():
        if config["Status"] == "IN_PROGRESS":
            yield f"function {name} gets its provisioned concurrency"


def await_running_calls(world: World) -> None:
    deadline = time.monotonic() + QUIET_S
    while world.running_calls.count:
        if time.monotonic() > deadline:
            raise TimeoutError(f"a call did not end within {QUIET_S:.0f} s")
        time.sleep(0.02)


def write(world: World) -> int:
    """Write the file, readable by its owner only; return its size in bytes."""
    content = {"backends": list_backends, "tables": list_tables, "clock": describe_clock}
    path = world.folder / state.KEPT_FILE
    part = path.with_suffix(".part")
    for attempt in range(ATTEMPTS):
        try:
            with part.open("wb") as file:
                file.write(f"{FINGERPRINT}\n".encode())
                Writer(file, pickle.HIGHEST_PROTOCOL).dump({name: read(world) for name, read in content.items()})
            break
        except RuntimeError:  # "dictionary changed size during iteration": metrics and log lines still come in
            if attempt == ATTEMPTS - 1:
                raise
    part.replace(path)
    return path.stat().st_size


def list_backends(world: World) -> dict[str, Any]:
    """Return moto's stores as {(module, class): {account: {region: store}}}, and which account owns which bucket."""
    stores: dict[tuple[str, str], Any] = {
        (one.backend.__module__, one.backend.__name__): {account: dict(regions) for account, regions in one.items()}
        for one in list(BackendDict._instances)  # type: ignore[misc]
        if one.service_name not in SEEDED
    }
    return {"stores": stores, "bucket_accounts": s3_backends.bucket_accounts}


def find_backends(module: str, name: str) -> Any:
    """Return moto's dictionary of the stores of a class; a service's name would be that of several."""
    found = vars(importlib.import_module(module)).values()
    return next(one for one in found if isinstance(one, BackendDict) and one.backend.__name__ == name)


def list_tables(world: World) -> dict[str, dict[str, Any]]:
    return {
        table: {name: getattr(getattr(world, table) if table else world, name) for name in names}
        for table, names in KEPT.items()
    }


def describe_clock(world: World) -> tuple[float, float, float]:
    return world.clock.now(), world.clock.get_offset(), world.clock.speed


def restore(world: World) -> None:
    """Fill moto's stores and the World's tables from the file. Nothing runs yet: see `start_programs`."""
    with (world.folder / state.KEPT_FILE).open("rb") as file:
        file.readline()  # the fingerprint, which `sandbox.up` has compared
        found = Reader(file, world).load()
    for (module, name), accounts in found["backends"]["stores"].items():
        for account, regions in accounts.items():
            find_backends(module, name)[account].update(regions)
    s3_backends.bucket_accounts.update(found["backends"]["bucket_accounts"])
    for table, values in found["tables"].items():
        for name, value in values.items():
            setattr(getattr(world, table) if table else world, name, value)
    world.clock = Clock.resume(*found["clock"])


def start_programs(world: World) -> None:
    """Boot the boxes that ran, start the endpoints' servers and the provisioned functions; return when all have started."""
    for endpoint in world.ec2.connect_endpoints.values():
        endpoint["DnsName"] = f"127.0.0.1:{world.tunnel_port}"
    work: list[Callable[[], None]] = [
        partial(lifecycle.switch_on, world, instance)
        for instance in world.ec2.boxes
        if lifecycle.find_instance(world, instance).state == "running"
    ]
    work += [partial(endpoints.resume_endpoint, world, live) for live in world.sagemaker.endpoints.values()]
    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(one) for one in work]:
            done.result()
    for (name, qualifier), config in list(world.functions.provisioned.items()):
        function = world.backend("lambda").get_function(name, qualifier)
        workers.provision_workers(world, function, qualifier, config["RequestedProvisionedConcurrentExecutions"])

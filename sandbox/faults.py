"""Faults on demand, for tests and drills: failing API calls, short capacity, broken or slow endpoints, aged roles.

Faults of training jobs are in sagemaker/runs.py, those of boxes in ec2/instances.py and ec2/spot.py.
"""

from __future__ import annotations

import io
import re
import tarfile
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from sandbox.lag import Lag

if TYPE_CHECKING:
    from sandbox.world import World


CAPACITY = re.compile(r"(spot:)?(ml\.)?[a-z0-9-]+\.[a-z0-9-]+(/[a-z0-9-]+)?")


@dataclass
class Fault:
    """A fault of an operation's next `times` calls.

    `do` is "error" (code, message, status), "delay" (seconds) or "lost" (the call is carried out, but never answered).
    """

    operation: str
    do: str
    times: int = 1
    code: str = "ThrottlingException"
    message: str = "Rate exceeded"
    status: int = 400
    seconds: float = 1.0


class Faults:
    def __init__(self) -> None:
        self._waiting: list[Fault] = []
        self.short_of: set[str] = set()  # without capacity: TYPE, TYPE/ZONE or spot:TYPE
        self.lag = Lag()
        self._lock = threading.Lock()

    def add(self, fault: Fault) -> None:
        if fault.do not in ("error", "delay", "lost"):
            raise ValueError(f"no such fault: {fault.do!r}; use error, delay or lost")
        with self._lock:
            self._waiting.append(fault)

    def clear(self) -> dict[str, list[str]]:
        """End all faults of calls and of capacity, and the lag; return the operations and the instance types that they were of."""
        self.lag.set()
        with self._lock:
            ended = {"calls": [fault.operation for fault in self._waiting], "capacity": sorted(self.short_of)}
            self._waiting, self.short_of = [], set()
            return ended

    def set_capacity_shortage(self, instance_type: str, short: bool) -> list[str]:
        """Remove the capacity of an instance type, or restore it; return the types that are short.

        Raises ValueError for what cannot be a type, TYPE/ZONE or spot:TYPE.
        """
        if not CAPACITY.fullmatch(instance_type):
            raise ValueError(
                f"instance_type is TYPE, TYPE/ZONE or spot:TYPE, such as g4dn.xlarge, not {instance_type!r}"
            )
        with self._lock:
            self.short_of = self.short_of | {instance_type} if short else self.short_of - {instance_type}
            return sorted(self.short_of)

    def lacks_capacity(self, instance_type: str, zone: str, spot: bool) -> bool:
        """Return whether EC2 has no capacity of the type in the zone, or none for spot if `spot` is set."""
        names = {instance_type, f"{instance_type}/{zone}"} | ({f"spot:{instance_type}"} if spot else set())
        with self._lock:
            return bool(names & self.short_of)

    def take_due_fault(self, operation: str) -> Fault | None:
        """Return the fault that is due for this call, or None, and count it. A delay sleeps here."""
        with self._lock:
            due = next((fault for fault in self._waiting if fault.operation == operation), None)
            if due:
                due.times -= 1
                if due.times <= 0:
                    self._waiting.remove(due)
        if due and due.do == "delay":
            time.sleep(due.seconds)
        return due


def corrupt_release(world: World, name: str) -> dict[str, Any]:
    """Corrupt the live release's artefact in S3 and kill its instances, so that none can start again.

    Raises ValueError when no such endpoint is live.
    """
    live = world.sagemaker.endpoints.get(name)
    if live is None or live.fleet is None:
        raise ValueError(f"there is no live endpoint {name}")
    url = live.fleet.model.primary_container["ModelDataUrl"]
    bucket, _, key = url.removeprefix("s3://").partition("/")
    corrupt = io.BytesIO()
    with tarfile.open(fileobj=corrupt, mode="w:gz") as tar:
        entry = tarfile.TarInfo("model.onnx")
        entry.size = 7
        tar.addfile(entry, io.BytesIO(b"rubbish"))
    world.get_global_backend("s3").put_object(bucket, key, corrupt.getvalue())
    for member in live.fleet.members:
        if member.process:
            member.process.kill()
    return {"corrupt": url, "killed": len(live.fleet.members)}


def set_startup_hang(world: World, name: str, on: bool) -> dict[str, Any]:
    """Make the endpoint's instances that start from now on never answer a ping; the endpoint need not exist yet."""
    hanging = world.sagemaker.hanging
    hanging.add(name) if on else hanging.discard(name)
    return {"hanging": sorted(hanging)}


def set_endpoint_lag(world: World, name: str, seconds: float) -> dict[str, Any]:
    """Add `seconds` to each request and serve one at a time per instance, so that more instances help; 0 ends it.

    Raises ValueError for an unknown endpoint.
    """
    live = world.sagemaker.endpoints.get(name)
    if live is None:
        raise ValueError(f"there is no endpoint {name}")
    live.lag_s = seconds
    return {"lag_s": seconds}


def set_role_age(world: World, role: str, days: float) -> dict[str, Any]:
    """Set the role's creation date to `days` ago and clear its last use. Raises ValueError for an unknown role."""
    found = next((one for one in world.get_global_backend("iam").roles.values() if one.name == role), None)
    if found is None:
        raise ValueError(f"there is no role {role}")
    found.create_date = datetime.now(UTC).replace(tzinfo=None) - timedelta(days=days)
    found.last_used = None
    return {"role": role, "created": str(found.create_date)}

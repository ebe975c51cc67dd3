"""Faults on demand: the next calls of an operation are refused, delayed, or carried out with their answer lost."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass


@dataclass
class Fault:
    """`do`: "error" (code, message, status), "delay" (seconds) or "lost" (carried out, but the answer never comes)."""

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
        self.short_of: set[str] = set()  # instance types that are not to be had: TYPE, TYPE/ZONE, or spot:TYPE
        self._lock = threading.Lock()

    def add(self, fault: Fault) -> None:
        if fault.do not in ("error", "delay", "lost"):
            raise ValueError(f"no such fault: {fault.do!r}; there are error, delay and lost")
        with self._lock:
            self._waiting.append(fault)

    def clear(self) -> None:
        with self._lock:
            self._waiting.clear()
            self.short_of.clear()

    def shorten(self, instance_type: str, short: bool) -> list[str]:
        """Let there be no capacity of a type, or some again; the types that are short."""
        with self._lock:
            self.short_of = self.short_of | {instance_type} if short else self.short_of - {instance_type}
            return sorted(self.short_of)

    def lacks(self, instance_type: str, zone: str, spot: bool) -> bool:
        """Whether EC2 has none of the type in the zone, or none to spare for spot."""
        names = {instance_type, f"{instance_type}/{zone}"} | ({f"spot:{instance_type}"} if spot else set())
        with self._lock:
            return bool(names & self.short_of)

    def take(self, operation: str) -> Fault | None:
        """The fault that is due for this call, if any; one of its times is used up."""
        with self._lock:
            due = next((fault for fault in self._waiting if fault.operation == operation), None)
            if due:
                due.times -= 1
                if due.times <= 0:
                    self._waiting.remove(due)
        if due and due.do == "delay":
            time.sleep(due.seconds)
        return due

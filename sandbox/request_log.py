"""The sandbox's two logs: every API call with its caller and outcome, and every IAM decision with its context."""

from __future__ import annotations

import json
import re
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

READING = re.compile(
    r"^(Describe|Get|List|Head|Invoke|Lookup|Query|Filter|Search|Check|Simulate|Validate|BatchGet|BatchCheck|Assume|OpenTunnel|Select|DecodeAuthorization|GenerateCredentialReport)"
)
STEP = re.compile(r"kennel/([\w.-]+)")  # in the user agent


def is_mutating_operation(operation: str) -> bool:
    """Return whether an operation changes anything, judged by its verb."""
    return not READING.match(operation)


class CallLog:
    """The log calls.jsonl, which has one line per call, in the order in which calls were answered."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.touch()
        self.count = len(path.read_text().splitlines())
        self.last = time.monotonic()
        self._lock = threading.Lock()

    def add(self, service: str, operation: str, caller: str, status: int, seconds: float, fault: str = "") -> None:
        line: dict[str, Any] = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "service": service,
            "operation": operation,
            "caller": caller,
            "status": status,
            "changes": is_mutating_operation(operation),
            "ms": round(seconds * 1000, 1),
        }
        if fault:
            line["fault"] = fault
        with self._lock, self.path.open("a") as log:
            log.write(json.dumps(line) + "\n")
            self.count += 1
            self.last = time.monotonic()


class RequestLog:
    """The log requests.jsonl, one line per IAM decision: principal, action, resource, context, effect, step."""

    def __init__(self, path: Path) -> None:
        self.path, self.step = path, ""
        self._lock = threading.Lock()
        path.touch()

    def add(self, principal: str, action: str, resource: str, context: dict[str, Any], effect: str, agent: str) -> None:
        """Append one decision with the step (the command) it belongs to.

        Our commands name themselves in the user agent; calls of roles, in jobs and functions, belong to the latest one.
        A user's call without a command was made by hand and belongs to no step.
        """
        with self._lock:
            if step := STEP.search(agent):
                self.step = step[1]
            by_hand = not step and ":user/" in principal
            line = {
                "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
                "principal": principal,
                "action": action,
                "resource": resource,
                "context": context,
                "effect": effect,
                "step": "" if by_hand else self.step,
            }
            with self.path.open("a") as log:
                log.write(json.dumps(line) + "\n")


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]

"""Which operation a request is, whether it changes anything, and the log of every call: who, what, outcome."""

from __future__ import annotations

import json
import re
import threading
import time
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

READING = re.compile(
    r"^(Describe|Get|List|Head|Invoke|Lookup|Query|Filter|Search|Check|Simulate|Validate|BatchGet|BatchCheck|Assume|OpenTunnel|Select|DecodeAuthorization|GenerateCredentialReport)"
)
STEP = re.compile(r"kennel/([\w.-]+)")  # in the user agent
# moto's name of a service -> botocore's, for services whose operations are told by method and path
REST = {"s3": "s3", "lambda": "lambda", "sagemaker": "sagemaker-runtime"}


def changes(operation: str) -> bool:
    """Whether an operation changes something, by its verb."""
    return not READING.match(operation)


def operation_of(environ: dict[str, Any], service: str, body: bytes) -> str:
    """The operation's name as AWS writes it, or "?"."""
    target = environ.get("HTTP_X_AMZ_TARGET", "")
    if target:
        return target.rsplit(".", 1)[-1]
    path = environ["PATH_INFO"]
    if "/operation/" in path:
        return path.rsplit("/", 1)[-1]
    if environ.get("CONTENT_TYPE", "").startswith("application/x-www-form-urlencoded") and b"Action=" in body:
        return parse_qs(body.decode("latin-1"))["Action"][0]
    if service in REST:
        return rest_operation(
            REST[service],
            environ["REQUEST_METHOD"],
            path,
            environ.get("QUERY_STRING", ""),
            "HTTP_X_AMZ_COPY_SOURCE" in environ,
        )
    return "?"


def rest_operation(service: str, method: str, path: str, query: str, copying: bool) -> str:
    """The operation whose method and path fit, with the most query keys of its own: `?lifecycle` beats none."""
    keys = set(parse_qs(query, keep_blank_values=True))
    fitting = [
        (len(needed), (name.startswith(("Copy", "UploadPartCopy"))) == copying, name)
        for name, verb, pattern, needed in routes(service)
        if verb == method and needed <= keys and pattern.fullmatch(path)
    ]
    return max(fitting)[2] if fitting else "?"


@cache
def routes(service: str) -> list[tuple[str, str, re.Pattern[str], frozenset[str]]]:
    import botocore.session

    model = botocore.session.get_session().get_service_model(service)
    found = []
    for name in model.operation_names:
        http = model.operation_model(name).http
        path, _, query = http["requestUri"].partition("?")
        pattern = re.sub(r"\\\{\w+\\\+\\\}", ".+", re.escape(path))
        pattern = re.sub(r"\\\{\w+\\\}", "[^/]+", pattern)
        needed = set(parse_qs(query, keep_blank_values=True))
        if name in ("UploadPart", "UploadPartCopy"):
            needed = {"partNumber", "uploadId"}
        elif name in ("CompleteMultipartUpload", "AbortMultipartUpload", "ListParts"):
            needed = {"uploadId"}
        found.append((name, http["method"], re.compile(pattern + "/?"), frozenset(needed)))
    return found


class CallLog:
    """calls.jsonl, one line a call, in the order in which calls were answered."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.count = 0
        self.last = time.monotonic()
        self._lock = threading.Lock()
        path.write_text("")

    def add(self, service: str, operation: str, caller: str, status: int, seconds: float, fault: str = "") -> None:
        line: dict[str, Any] = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "service": service,
            "operation": operation,
            "caller": caller,
            "status": status,
            "changes": changes(operation),
            "ms": round(seconds * 1000, 1),
        }
        if fault:
            line["fault"] = fault
        with self._lock, self.path.open("a") as log:
            log.write(json.dumps(line) + "\n")
            self.count += 1
            self.last = time.monotonic()


class RequestLog:
    """requests.jsonl: every permission that was decided on, in order: who, what, on what, with which keys, in which step."""

    def __init__(self, path: Path) -> None:
        self.path, self.step = path, ""
        self._lock = threading.Lock()
        path.write_text("")

    def add(self, principal: str, action: str, resource: str, context: dict[str, Any], effect: str, agent: str) -> None:
        """A call of ours names its command; what roles do meanwhile, in jobs and functions, belongs to the command before."""
        with self._lock:
            if step := STEP.search(agent):
                self.step = step[1]
            line = {
                "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
                "principal": principal,
                "action": action,
                "resource": resource,
                "context": context,
                "effect": effect,
                "step": self.step,
            }
            with self.path.open("a") as log:
                log.write(json.dumps(line) + "\n")


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]

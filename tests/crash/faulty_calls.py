"""Run a command in a fork of this process whose calls to AWS go wrong: it is killed, an answer is lost, calls are throttled.

A fork is a process of its own: it dies by SIGKILL as one that was typed would, and leaves nothing behind in this process.
"""

import json
import os
import random
import re
import signal
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from botocore.awsrequest import AWSResponse
from botocore.endpoint import Endpoint
from botocore.exceptions import ConnectionClosedError

from ops.core import lease
from tests.in_process import Ran, run_invoke

# Operations that change nothing; that of a release's own pictures changes nothing either.
READS = re.compile(
    r"(Get|List|Describe|Head|BatchGet|Simulate|Lookup|Filter|Assume|GenerateCredentialReport|InvokeEndpoint|Invoke$|StartQuery)"
)
THROTTLED = {"s3": ("SlowDown", 503), "ec2": ("RequestLimitExceeded", 503)}
LIMIT_S = 120


@dataclass(frozen=True)
class Fault:
    """What goes wrong: at the changing call `index`, from 0, `kill` "before" or "after" it, or its answer `lost`; a share `throttled`."""

    index: int = -1
    kill: str = ""
    lost: bool = False
    throttled: float = 0.0
    seed: int = 0

    def __str__(self) -> str:
        if self.throttled:
            return f"{self.throttled:.0%} throttled, seed {self.seed}"
        return f"answer {self.index + 1} lost" if self.lost else f"killed {self.kill} call {self.index + 1}"


@dataclass(frozen=True)
class Run:
    """How a command ended: its exit code, -9 when it was killed, what it said, its changing calls, and its seconds."""

    code: int
    said: str
    calls: list[str]
    seconds: float

    @property
    def changes(self) -> list[str]:
        """The calls that changed something besides the lease."""
        return [call for call in self.calls if not call.endswith(lease.KEY)]


@dataclass
class Injector:
    """Counts the changing calls of this process, writes each to `record`, and lets one go wrong."""

    fault: Fault
    record: int
    count: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    current: threading.local = field(default_factory=threading.local)

    def __post_init__(self) -> None:
        self.draw = random.Random(self.fault.seed)

    def install(self) -> None:
        """Replace botocore's two steps: one call with all its attempts, and one attempt."""
        call, attempt = Endpoint._send_request, Endpoint._do_get_response

        def send_request(endpoint: Any, request: dict[str, Any], operation: Any) -> Any:
            if READS.match(operation.name):
                return call(endpoint, request, operation)
            index = self.note(f"{operation.service_model.service_name} {operation.name} {request['url_path']}")
            is_chosen = index == self.fault.index
            if is_chosen and self.fault.kill == "before":
                os.kill(os.getpid(), signal.SIGKILL)
            self.current.loses = is_chosen and self.fault.lost
            answer = call(endpoint, request, operation)
            if is_chosen and self.fault.kill == "after":
                os.kill(os.getpid(), signal.SIGKILL)
            return answer

        def do_get_response(endpoint: Any, request: Any, operation: Any, context: Any) -> Any:
            if self.is_throttled():
                return throttle(operation.service_model.service_name, request), None
            answer = attempt(endpoint, request, operation, context)
            if getattr(self.current, "loses", False) and not READS.match(operation.name):
                self.current.loses = False
                return None, ConnectionClosedError(endpoint_url=request.url)
            return answer

        Endpoint._send_request, Endpoint._do_get_response = send_request, do_get_response

    def note(self, call: str) -> int:
        with self.lock:
            index, self.count = self.count, self.count + 1
            os.write(self.record, f"{call}\n".encode())
            return index

    def is_throttled(self) -> bool:
        with self.lock:
            return self.draw.random() < self.fault.throttled


class EmptyBody:
    """The body of an answer, which is not read: the answer is given parsed."""

    def stream(self) -> list[bytes]:
        return []


def throttle(service: str, request: Any) -> Any:
    """Return what botocore has of a throttled attempt: the HTTP response, and its parsed body."""
    code, status = THROTTLED.get(service, ("ThrottlingException", 400))
    error = {"Code": code, "Message": "Rate exceeded"}
    answer = {"Error": error, "ResponseMetadata": {"HTTPStatusCode": status, "HTTPHeaders": {}}}
    return AWSResponse(request.url, status, {}, EmptyBody()), answer


def run_forked(words: list[str], env: dict[str, str], fault: Fault, prepare: Callable[[], None] | None = None) -> Run:
    """Run a command in a fork. `prepare` is called in it first, to replace what is too expensive."""
    with tempfile.TemporaryFile() as record, tempfile.TemporaryFile() as result:
        began = time.monotonic()
        sys.stdout.flush(), sys.stderr.flush()
        with warnings.catch_warnings():  # the other threads of this process are idle
            warnings.simplefilter("ignore", DeprecationWarning)
            process = os.fork()
        if process == 0:
            code = 70
            try:
                signal.alarm(LIMIT_S)
                if prepare:
                    prepare()
                Injector(fault, record.fileno()).install()
                ran = run_invoke(words, env)
                result.write(json.dumps([ran.code, ran.out, ran.err]).encode())
                result.flush()
                code = 0
            finally:
                os._exit(code)
        code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        record.seek(0), result.seek(0)
        calls = record.read().decode().splitlines()
        ran = Ran(code, "", "") if code else Ran(*json.loads(result.read()))
        return Run(ran.code, ran.said, calls, time.monotonic() - began)

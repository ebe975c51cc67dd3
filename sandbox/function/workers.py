"""Lambda's execution environments: one warm process each, with the role's keys and limits on memory, time, number."""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import secrets
import select
import shutil
import signal
import subprocess
import threading
import time
import uuid
import zipfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from sandbox import processes
from sandbox.cloudwatch import logs, metrics
from sandbox.state import REGION
from sandbox.world import World

RUNTIME = Path(__file__).with_name("lambda_runtime.py")
INIT_S = 10.0  # AWS gives the code outside the handler ten seconds
IDLE_KEPT = 10
EXIT_S = 2.0  # for a program that has closed its pipe to end


class InitError(Exception):
    """The code outside the handler failed. `report` is Lambda's JSON about it."""

    def __init__(self, report: dict[str, Any]) -> None:
        super().__init__(report["errorMessage"])
        self.report = report


class ThrottledError(Exception):
    """The reason for a 429 response, in AWS's words."""


@dataclass
class Worker:
    process: subprocess.Popen[bytes]
    events: Any
    answers: int  # file descriptors of the two pipes beside stdout
    stream: str  # in the function's log group
    buffer: bytes = b""

    def read(self, deadline: float, memory_mb: int) -> dict[str, Any]:
        """Return the next answer. Raises TimeoutError, MemoryError, or EOFError when the process has ended."""
        while b"\n" not in self.buffer:
            if time.monotonic() > deadline:
                raise TimeoutError
            if select.select([self.answers], [], [], 0.05)[0]:
                data = os.read(self.answers, 1 << 16)
                if not data:
                    raise EOFError(self.describe_exit())
                self.buffer += data
            else:
                if self.measure_memory_mb() > memory_mb:
                    raise MemoryError
        line, _, self.buffer = self.buffer.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def measure_memory_mb(self) -> int:
        """Return the memory of the process in MiB, rounded up; 0 once it has ended."""
        with contextlib.suppress(psutil.Error):
            return int(-(-psutil.Process(self.process.pid).memory_info().rss >> 20))
        return 0

    def describe_exit(self) -> str:
        """Return Lambda's words about a program that has ended without an answer."""
        status = 0
        with contextlib.suppress(subprocess.TimeoutExpired):
            status = self.process.wait(EXIT_S)
        if status == 0:
            return "Runtime exited without providing a reason"
        how = f"exit status {status}" if status > 0 else f"signal: {(signal.strsignal(-status) or '').lower()}"
        return f"Runtime exited with error: {how}"

    def send_event(self, message: dict[str, Any]) -> None:
        self.events.write(json.dumps(message).encode() + b"\n")
        self.events.flush()

    def end(self) -> None:
        processes.stop_process_group(self.process, 0.2)
        with contextlib.suppress(OSError):  # an event that a dead process did not read is still buffered
            self.events.close()
        os.close(self.answers)


@dataclass
class InvocationResult:
    payload: str
    error: str = ""
    log: str = ""


def execute_invocation(world: World, function: Any, qualifier: str, payload: bytes, wait: bool) -> InvocationResult:
    """Run the handler, in a thread unless `wait` is set. Raises ThrottledError when the reserved concurrency is in use."""
    name = function.function_name
    cap, invoked = get_latest_function(world, name).reserved_concurrency, world.clock.utc()
    running = world.functions.running
    with world.functions.lock:
        if cap is not None and running.get(name, 0) >= cap:
            put_call_metrics(world, function, qualifier, invoked, Throttles=(1, "Count"))
            raise ThrottledError("ReservedFunctionConcurrentInvocationLimitExceeded")
        running[name] = running.get(name, 0) + 1
        concurrent = (running[name], "Count")
        put_call_metrics(world, function, qualifier, invoked, Invocations=(1, "Count"), ConcurrentExecutions=concurrent)
    args = (world, function, qualifier, payload, invoked)
    if wait:
        return run_and_release_slot(*args)
    threading.Thread(target=run_and_release_slot, args=args, daemon=True).start()
    return InvocationResult("")


def put_call_metrics(
    world: World, function: Any, qualifier: str, invoked: datetime, **values: tuple[float, str]
) -> None:
    """Put metrics of the function, of the alias or version that was called, and of the version that an alias chose.

    As on AWS, all of a call have the time at which it was `invoked`, however long it takes.
    """
    name = {"FunctionName": function.function_name}
    metrics.put_metrics(world, "AWS/Lambda", name, invoked, **values)
    if qualifier:
        resource = {**name, "Resource": f"{function.function_name}:{qualifier}"}
        metrics.put_metrics(world, "AWS/Lambda", resource, invoked, **values)
        if qualifier != str(function.version):
            executed = {**resource, "ExecutedVersion": str(function.version)}
            metrics.put_metrics(world, "AWS/Lambda", executed, invoked, **values)


def get_latest_function(world: World, name: str) -> Any:
    return world.backend("lambda").get_function(name)


def run_and_release_slot(
    world: World, function: Any, qualifier: str, payload: bytes, invoked: datetime
) -> InvocationResult:
    try:
        return run_handler(world, function, qualifier, payload, invoked)
    finally:
        with world.functions.lock:
            world.functions.running[function.function_name] -= 1


def run_handler(world: World, function: Any, qualifier: str, payload: bytes, invoked: datetime) -> InvocationResult:
    request, began = str(uuid.uuid4()), time.monotonic()
    worker, result, peak_mb, stream = None, InvocationResult(""), 0, name_log_stream(function)
    try:
        worker = take_idle_worker(world, function) or start_worker(world, function, stream)
        stream = worker.stream
        deadline = began + function.timeout
        worker.send_event({"event": json.loads(payload), "request_id": request, "timeout_s": function.timeout})
        answer = worker.read(deadline, function.memory_size)
        result = InvocationResult(json.dumps(answer["answer"]), answer.get("error", ""))
        peak_mb = worker.measure_memory_mb()
        return_worker(world, function, worker)
        worker = None
    except TimeoutError:
        result = build_function_error(
            "Sandbox.Timedout", f"RequestId: {request} Error: Task timed out after {function.timeout:.2f} seconds"
        )
    except MemoryError:
        peak_mb = function.memory_size
        result = build_function_error(
            "Runtime.ExitError", f"RequestId: {request} Error: Runtime exited with error: signal: killed"
        )
    except (EOFError, BrokenPipeError) as error:
        reason = worker.describe_exit() if worker else str(error)
        result = build_function_error("Runtime.ExitError", f"RequestId: {request} Error: {reason}")
    except InitError as error:
        result = InvocationResult(json.dumps(error.report), "Unhandled")
    except json.JSONDecodeError as error:
        result = build_function_error("InvalidRequestContentException", str(error))
    finally:
        if worker is not None:
            worker.end()
    duration_ms = (time.monotonic() - began) * 1000
    result.log = describe_invocation(function, request, duration_ms, peak_mb, result)
    for line in result.log.splitlines():
        logs.write(world, name_log_group(function), stream, line)
    errors = (float(bool(result.error)), "Count")
    put_call_metrics(world, function, qualifier, invoked, Duration=(duration_ms, "Milliseconds"), Errors=errors)
    return result


def name_log_group(function: Any) -> str:
    return f"/aws/lambda/{function.function_name}"


def name_log_stream(function: Any) -> str:
    """Return a new name for the log stream of an execution environment."""
    return f"{datetime.now(UTC):%Y/%m/%d}/[{function.version}]{secrets.token_hex(16)}"


def describe_invocation(function: Any, request: str, duration_ms: float, peak_mb: int, result: InvocationResult) -> str:
    """Return the lines that Lambda itself writes about an invocation, in its words: a failure, END and REPORT."""
    failure = json.loads(result.payload) if result.error else {}
    kind = failure.get("errorType", "")
    status = ""
    lines = []
    if kind == "Sandbox.Timedout":
        lines, status = [f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%f}"[:23] + f"Z {failure['errorMessage']}"], "timeout"
    elif kind == "Runtime.ExitError":
        lines, status = [failure["errorMessage"], "Runtime.ExitError"], "error"
    report = (
        f"REPORT RequestId: {request}\tDuration: {duration_ms:.2f} ms\tBilled Duration: {math.ceil(duration_ms)} ms\t"
        f"Memory Size: {function.memory_size} MB\tMax Memory Used: {peak_mb} MB"
    )
    return "\n".join([*lines, f"END RequestId: {request}", report + (f"\tStatus: {status}" if status else "")])


def build_function_error(error_type: str, message: str) -> InvocationResult:
    return InvocationResult(json.dumps({"errorType": error_type, "errorMessage": message}), "Unhandled")


def derive_worker_key(function: Any) -> tuple[str, str]:
    return function.function_name, f"{function.version}-{function.code_sha_256}"


def take_idle_worker(world: World, function: Any) -> Worker | None:
    with world.functions.lock:
        idle = world.functions.idle.setdefault(derive_worker_key(function), [])
        while idle:
            worker = idle.pop()
            if worker.process.poll() is None:
                return worker
    return None


def return_worker(world: World, function: Any, worker: Worker) -> None:
    with world.functions.lock:
        idle = world.functions.idle.setdefault(derive_worker_key(function), [])
        if len(idle) < IDLE_KEPT:
            idle.append(worker)
            return
    worker.end()


def unpack_package(world: World, function: Any) -> Path:
    """Return the folder with the function's code; unpack it for the first environment of a version."""
    folder = world.folder / "functions" / "-".join(derive_worker_key(function)).replace("/", "_")
    with world.functions.lock:
        if not folder.exists():
            part = folder.with_name(folder.name + ".part")
            shutil.rmtree(part, ignore_errors=True)
            with zipfile.ZipFile(io.BytesIO(function.code_bytes)) as package:
                package.extractall(part)
            part.rename(folder)
    return folder


def start_worker(world: World, function: Any, stream: str, initialization: str = "on-demand") -> Worker:
    """Start an execution environment that logs into `stream`, and run the code outside the handler.

    `initialization` is Lambda's word for the reason.
    Raises InitError, EOFError, TimeoutError or MemoryError when that code fails.
    """
    folder = unpack_package(world, function)
    access, secret, token, _ = world.keys.assume_role(function.role, function.function_name)
    ask_read, ask_write = os.pipe()
    answer_read, answer_write = os.pipe()
    env = processes.build_child_environment(
        world.folder,
        folder,
        AWS_ENDPOINT_URL=world.url,
        AWS_ACCESS_KEY_ID=access,
        AWS_SECRET_ACCESS_KEY=secret,
        AWS_SESSION_TOKEN=token,
        AWS_REGION=REGION,
        AWS_LAMBDA_FUNCTION_NAME=function.function_name,
        AWS_LAMBDA_FUNCTION_VERSION=str(function.version),
        AWS_LAMBDA_FUNCTION_MEMORY_SIZE=str(function.memory_size),
        AWS_LAMBDA_INITIALIZATION_TYPE=initialization,
        AWS_LAMBDA_LOG_GROUP_NAME=name_log_group(function),
        AWS_LAMBDA_LOG_STREAM_NAME=stream,
        PYTHONPATH=str(folder),
        **function.environment_vars,
    )
    process = subprocess.Popen(
        ["python", str(RUNTIME), function.handler, str(ask_read), str(answer_write)],
        cwd=folder, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        start_new_session=True, pass_fds=(ask_read, answer_write),
    )  # fmt: skip
    os.close(ask_read)
    os.close(answer_write)
    logs.ensure_log_stream(world, name_log_group(function), stream, function.role)
    logs.follow_output(world, process, name_log_group(function), stream)
    worker = Worker(process, os.fdopen(ask_write, "wb"), answer_read, stream)
    try:
        started = worker.read(time.monotonic() + INIT_S, function.memory_size)
        if "init_error" in started:
            raise InitError(started["init_error"])
    except BaseException:
        worker.end()
        raise
    return worker


def provision_workers(world: World, function: Any, qualifier: str, count: int) -> dict[str, Any]:
    """Start `count` workers in a thread; return their config, whose Status becomes READY, or FAILED with a reason."""
    config: dict[str, Any] = {
        "RequestedProvisionedConcurrentExecutions": count,
        "AllocatedProvisionedConcurrentExecutions": 0,
        "AvailableProvisionedConcurrentExecutions": 0,
    }
    config |= {"Status": "IN_PROGRESS", "LastModified": datetime.now(UTC).isoformat(timespec="seconds")}
    world.functions.provisioned[function.function_name, qualifier] = config

    def work() -> None:
        try:
            for _ in range(count):
                if world.functions.provisioned.get((function.function_name, qualifier)) is not config:
                    return  # deleted, or requested again
                return_worker(
                    world, function, start_worker(world, function, name_log_stream(function), "provisioned-concurrency")
                )
            config.update(
                Status="READY",
                AllocatedProvisionedConcurrentExecutions=count,
                AvailableProvisionedConcurrentExecutions=count,
            )
        except (InitError, EOFError, TimeoutError, MemoryError):
            config.update(Status="FAILED", StatusReason="FUNCTION_ERROR_INIT_FAILURE")

    threading.Thread(target=work, daemon=True).start()
    return config


def discard_workers(world: World, name: str) -> None:
    """End the idle workers of a deleted function and forget its provisioned concurrency and its URLs."""
    tables = world.functions
    with tables.lock:
        discarded = [worker for (function, _), idle in tables.idle.items() if function == name for worker in idle]
        tables.idle = {key: idle for key, idle in tables.idle.items() if key[0] != name}
        tables.provisioned = {key: config for key, config in tables.provisioned.items() if key[0] != name}
        tables.urls = {key: config for key, config in tables.urls.items() if key[0] != name}
    for worker in discarded:
        worker.end()

"""The program inside one execution environment: import the handler once, then answer events until the pipe is closed.

workers.py starts it as `python lambda_runtime.py MODULE.FUNCTION ASK_FD ANSWER_FD`. Its stdout is the function's log.
"""

import importlib
import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from typing import Any


class Context:
    """The part of Lambda's context object that our handler may use."""

    def __init__(self, request_id: str, timeout_s: float) -> None:
        self.aws_request_id = request_id
        self.function_name = os.environ["AWS_LAMBDA_FUNCTION_NAME"]
        self.function_version = os.environ["AWS_LAMBDA_FUNCTION_VERSION"]
        self.memory_limit_in_mb = os.environ["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"]
        self._ends = time.monotonic() + timeout_s

    def __repr__(self) -> str:
        fields = (f"{name}={value}" for name, value in vars(self).items() if not name.startswith("_"))
        return f"LambdaContext([{','.join(fields)}])"

    def get_remaining_time_in_millis(self) -> int:
        return max(0, int((self._ends - time.monotonic()) * 1000))


class HandlerNotFound(Exception):
    """The module has no function of the handler's name."""


def load_handler(name: str) -> Callable[..., Any]:
    module, _, function = name.rpartition(".")
    loaded = importlib.import_module(module)
    if not hasattr(loaded, function):
        raise HandlerNotFound(f"Handler '{function}' missing on module '{module}'")
    handler: Callable[..., Any] = getattr(loaded, function)
    return handler


def build_report(error_type: str, message: str, request_id: str = "", stack: Sequence[str] = ()) -> dict[str, Any]:
    """Return an error as AWS's own runtime client, awslambdaric, reports it; it is the payload of the answer."""
    return {"errorMessage": message, "errorType": error_type, "requestId": request_id, "stackTrace": list(stack)}


def describe_init_error(name: str, error: Exception) -> dict[str, Any]:
    """Return the report about code outside the handler that failed; its types and words are those of awslambdaric."""
    module = name.rpartition(".")[0]
    if isinstance(error, HandlerNotFound):
        return build_report("Runtime.HandlerNotFound", str(error))
    if isinstance(error, ImportError):
        return build_report("Runtime.ImportModuleError", f"Unable to import module '{module}': {error}")
    if isinstance(error, SyntaxError):
        where = f'  File "{error.filename}" Line {error.lineno}\n    {error.text}'
        return build_report("Runtime.UserCodeSyntaxError", f"Syntax error in module '{module}': {error}", stack=[where])
    return describe_handler_error(error, "")


def describe_handler_error(error: Exception, request_id: str) -> dict[str, Any]:
    """Return the report about an exception of the function's code, with its frames but not those of this program."""
    found = traceback.extract_tb(error.__traceback__)
    # As tuples, as awslambdaric does it: so no frame has the line of carets.
    frames = [(one.filename, one.lineno or 0, one.name, one.line) for one in found if one.filename != __file__]
    return build_report(type(error).__name__, str(error), request_id, traceback.format_list(frames))


def log_report(report: dict[str, Any]) -> None:
    """Write an error to the function's log, in awslambdaric's form; it indents with no-break spaces."""
    lines = [f"[ERROR] {report['errorType']}: {report['errorMessage']}", "Traceback (most recent call last):"]
    for line in "".join(report["stackTrace"]).splitlines():
        text = line.lstrip(" ")
        lines.append("\xa0" * (len(line) - len(text)) + text)
    print("\n".join(lines), flush=True)


def answer_invocation(handler: Callable[..., Any], invocation: dict[str, Any]) -> str:
    """Return the line that answers an invocation: the handler's result, or the report about its failure."""
    request_id = invocation["request_id"]
    try:
        result = handler(invocation["event"], Context(request_id, invocation["timeout_s"]))
        try:
            return json.dumps({"answer": result})
        except (TypeError, ValueError) as error:
            report = build_report("Runtime.MarshalError", f"Unable to marshal response: {error}", request_id)
    except Exception as error:
        report = describe_handler_error(error, request_id)
    log_report(report)
    return json.dumps({"error": "Unhandled", "answer": report})


def main(handler_name: str, request_fd: int, answer: int) -> None:
    sys.path.insert(0, os.getcwd())
    sys.path[:] = [path for path in sys.path if path != os.path.dirname(os.path.abspath(__file__))]
    with os.fdopen(request_fd, "rb") as events, os.fdopen(answer, "wb", buffering=0) as answers:
        try:
            handler = load_handler(handler_name)
        except Exception as error:
            report = describe_init_error(handler_name, error)
            log_report(report)
            answers.write(json.dumps({"init_error": report}).encode() + b"\n")
            sys.exit(1)
        answers.write(b'{"ready": true}\n')
        for line in events:
            answers.write(answer_invocation(handler, json.loads(line)).encode() + b"\n")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))

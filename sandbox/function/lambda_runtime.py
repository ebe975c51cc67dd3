"""The program inside one execution environment: import the handler once, then answer events until the pipe is closed.

workers.py starts it as `python lambda_runtime.py MODULE.FUNCTION ASK_FD ANSWER_FD`. Its stdout is the function's log.
"""

import importlib
import json
import os
import sys
import time
import traceback
from collections.abc import Callable
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


def describe_init_error(name: str, error: Exception) -> dict[str, str]:
    """Return Lambda's report about code outside the handler that failed; its types and words are those of awslambdaric."""
    module = name.rpartition(".")[0]
    if isinstance(error, HandlerNotFound):
        return {"errorType": "Runtime.HandlerNotFound", "errorMessage": str(error)}
    if isinstance(error, ImportError):
        return {
            "errorType": "Runtime.ImportModuleError",
            "errorMessage": f"Unable to import module '{module}': {error}",
        }
    if isinstance(error, SyntaxError):
        return {
            "errorType": "Runtime.UserCodeSyntaxError",
            "errorMessage": f"Syntax error in module '{module}': {error}",
        }
    return {"errorType": type(error).__name__, "errorMessage": str(error)}


def main(handler_name: str, request_fd: int, answer: int) -> None:
    sys.path.insert(0, os.getcwd())
    sys.path[:] = [path for path in sys.path if path != os.path.dirname(os.path.abspath(__file__))]
    with os.fdopen(request_fd, "rb") as events, os.fdopen(answer, "wb", buffering=0) as answers:
        try:
            handler = load_handler(handler_name)
        except Exception as error:
            traceback.print_exc()
            answers.write(json.dumps({"init_error": describe_init_error(handler_name, error)}).encode() + b"\n")
            sys.exit(1)
        answers.write(b'{"ready": true}\n')
        for line in events:
            invocation = json.loads(line)
            try:
                result = {
                    "answer": handler(invocation["event"], Context(invocation["request_id"], invocation["timeout_s"]))
                }
                text = json.dumps(result)
            except Exception as error:
                traceback.print_exc()
                text = json.dumps(
                    {"error": "Unhandled", "answer": {"errorType": type(error).__name__, "errorMessage": str(error)}}
                )
            answers.write(text.encode() + b"\n")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))

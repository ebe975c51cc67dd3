"""The program in an execution environment: its errors are those of AWS's own runtime client, awslambdaric 4.2.2."""

import io
import json
import subprocess
import sys

import pytest

from sandbox.function import lambda_runtime
from sandbox.function.workers import Worker

INVOCATION = {"event": {}, "request_id": "r-1", "timeout_s": 3}


@pytest.fixture(autouse=True)
def function_environment(monkeypatch):
    for name in ("NAME", "VERSION", "MEMORY_SIZE"):
        monkeypatch.setenv(f"AWS_LAMBDA_FUNCTION_{name}", "1")


def fail(event, context):
    raise KeyError("gone")


def test_exception_is_reported_with_request_and_frames(capsys):
    answer = json.loads(lambda_runtime.answer_invocation(fail, INVOCATION))
    frames = answer["answer"].pop("stackTrace")
    assert answer == {
        "error": "Unhandled",
        "answer": {"errorMessage": "'gone'", "errorType": "KeyError", "requestId": "r-1"},
    }
    (frame,) = frames
    assert frame.startswith(f'  File "{__file__}", line ')
    assert frame.endswith('in fail\n    raise KeyError("gone")\n')
    log = capsys.readouterr().out.splitlines()
    assert log[:2] == ["[ERROR] KeyError: 'gone'", "Traceback (most recent call last):"]
    assert log[2].startswith('\xa0\xa0File "')


def test_result_that_is_no_json_is_a_marshal_error():
    answer = json.loads(lambda_runtime.answer_invocation(lambda event, context: {1, 2}, INVOCATION))
    assert answer["answer"] == {
        "errorMessage": "Unable to marshal response: Object of type set is not JSON serializable",
        "errorType": "Runtime.MarshalError",
        "requestId": "r-1",
        "stackTrace": [],
    }


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (
            lambda_runtime.HandlerNotFound("Handler 'run' missing on module 'm'"),
            "HandlerNotFound",
            "Handler 'run' missing on module 'm'",
        ),
        (
            ModuleNotFoundError("No module named 'x'"),
            "ImportModuleError",
            "Unable to import module 'm': No module named 'x'",
        ),
    ],
    ids=["handler", "module"],
)
def test_code_outside_the_handler_is_reported(error, kind, message):
    assert lambda_runtime.describe_init_error("m.run", error) == {
        "errorMessage": message,
        "errorType": f"Runtime.{kind}",
        "requestId": "",
        "stackTrace": [],
    }


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("exit 0", "Runtime exited without providing a reason"),
        ("exit 3", "Runtime exited with error: exit status 3"),
        ("kill -9 $$", "Runtime exited with error: signal: killed"),
    ],
    ids=["success", "status", "killed"],
)
def test_ended_program_is_described_as_lambda_does(code, words):
    with subprocess.Popen(["sh", "-c", code]) as process:
        assert Worker(process, io.BytesIO(), 0, "stream").describe_exit() == words


def test_runtime_starts_without_the_project(tmp_path):
    """It runs in the function's folder, with nothing of this repository on its path."""
    (tmp_path / "m.py").write_text("")
    ran = subprocess.run(
        [sys.executable, "-I", lambda_runtime.__file__, "m.run", "0", "1"], cwd=tmp_path, capture_output=True, text=True
    )
    assert ran.returncode == 1
    assert "[ERROR] Runtime.HandlerNotFound: Handler 'run' missing on module 'm'" in ran.stdout

"""The function's incident pages, followed: the fault is made, Confirm sees it, Verify fails, Mitigate is run, Verify passes."""

import json
import threading
import time

import pytest

from ops.function import plan
from tests.e2e.test_incidents import Page
from tests.sandbox.test_function import zip_handler

# A handler that needs no endpoint: it does one thing for a picture, holds its environment while a file exists, and answers.
HANDLER = """
import json, os, time
{outside}
BODY = {{"best": "7", "probabilities": [1.0], "class": "7", "probability": 1.0, "release": "a" * 64}}
def lambda_handler(event, context):
    while os.path.exists(event.get("hold", "")):
        time.sleep(0.02)
    if "image" in event:
        {picture}
    return {{"statusCode": 200 if "image" in event else 400, "headers": {{}}, "body": json.dumps(BODY)}}
"""


class Incident:
    """A stack with a healthy function, and an incident page about it."""

    def __init__(self, make_stack, monkeypatch, page, stack, settings, picture):
        self.cli = make_stack(stack, f"fn: {{{settings}}}")
        self.monkeypatch, self.page = monkeypatch, Page(page, self.cli, picture=str(picture))
        self.deploy()

    def deploy(self, picture="pass", outside="", ok=True):
        code = zip_handler(HANDLER.format(picture=picture, outside=outside))
        self.monkeypatch.setattr(plan, "package_function", lambda: code)
        return self.cli("lambda.deploy", ok=ok)

    def set(self, before, after):
        text = self.cli.file.read_text()
        assert before in text
        self.cli.file.write_text(text.replace(before, after))

    def call(self):
        return self.cli("lambda.invoke", "--picture", self.page.inputs["picture"], ok=False)

    def confirm_soon(self):
        """What a handler prints reaches the log a moment later."""
        deadline = time.monotonic() + 30
        while not self.page.confirmed():
            assert time.monotonic() < deadline


@pytest.fixture
def begin(make_stack, monkeypatch, tmp_path):
    """Return a function that makes an incident's stack; its function is deleted at the end."""
    made, picture = [], tmp_path / "picture.png"
    picture.write_bytes(b"a picture")

    def start(page, stack, settings):
        made.append(Incident(make_stack, monkeypatch, page, stack, settings, picture))
        assert made[0].page.verified()
        assert not made[0].page.confirmed()  # a healthy function must not look like this incident
        return made[0]

    yield start
    made[0].cli("lambda.down", "--yes")


def test_lambda_throttled_page_raises_the_limit(begin, tmp_path):
    incident = begin("lambda-throttled", "throttled", "reserved: 1, provisioned: 0")
    hold = tmp_path / "hold"
    hold.touch()
    account, name = incident.cli.account, incident.cli.settings.function_name
    event = json.dumps({"hold": str(hold)}).encode()

    def occupy():
        account.call("lambda", "invoke", "lambda", FunctionName=name, Qualifier="live", Payload=event)

    caller = threading.Thread(target=occupy)
    caller.start()
    try:
        deadline = time.monotonic() + 20
        while "TooManyRequestsException" not in incident.call().err:
            assert time.monotonic() < deadline
        assert incident.page.confirmed()
        assert not incident.page.verified()
        assert not incident.page.works("raise")  # the settings still say 1
        incident.set("reserved: 1", "reserved: 3")
        assert incident.page.works("raise")
        assert incident.page.verified()
    finally:
        hold.unlink()
        caller.join()


def test_lambda_provisioned_page_goes_back(begin):
    incident = begin("lambda-provisioned", "provisioned", "reserved: 5, provisioned: 1")
    ahead = "os.environ.get('AWS_LAMBDA_INITIALIZATION_TYPE') == 'provisioned-concurrency'"
    failed = incident.deploy(outside=f"if {ahead}: raise RuntimeError('no model to warm up')", ok=False)
    assert "Provisioned concurrency failed: FUNCTION_ERROR_INIT_FAILURE" in failed.err
    assert "runbooks/lambda-provisioned.md" in failed.err
    incident.confirm_soon()
    assert incident.page.works("verify")  # calls are still answered
    assert not incident.page.verified()
    assert incident.page.works("back")
    assert incident.page.verified()


@pytest.mark.parametrize(
    ("stack", "picture", "line"),
    [
        ("raising", "raise KeyError('scores')", "KeyError: 'scores'"),
        ("hanging", "time.sleep(60)", "Task timed out after 3.00 seconds"),
    ],
    ids=["error", "time-out"],
)
def test_lambda_errors_page_goes_back(begin, stack, picture, line):
    incident = begin("lambda-errors", stack, "reserved: 5, provisioned: 0, timeout_s: 3")
    incident.deploy(picture)
    assert "The function failed" in incident.call().err
    incident.confirm_soon()
    assert line in incident.cli("lambda.logs", "--errors").out
    assert not incident.page.verified()
    assert incident.page.works("back")
    assert incident.page.verified()


def test_lambda_memory_page_adds_memory(begin):
    incident = begin("lambda-memory", "memory", "reserved: 5, provisioned: 0, memory_mb: 128")
    incident.deploy("pages = bytearray(200 << 20); time.sleep(0.5)")
    assert "signal: killed" in incident.call().err
    incident.confirm_soon()
    assert "Max Memory Used: 128 MB" in incident.cli("lambda.logs", "--errors").out
    assert not incident.page.verified()
    assert not incident.page.works("add")  # the settings still say 128
    incident.set("memory_mb: 128", "memory_mb: 512")
    assert incident.page.works("add")
    assert incident.page.verified()

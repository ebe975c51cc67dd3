"""The Lambda function: deployed, called before callers get it, rolled back, and its failures reported with an exit code."""

import io
import json
import random
import threading
import time
import urllib.error
import urllib.request
import zipfile

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from ops.core.aws.account import Account
from ops.core.errors import AwsError
from ops.function import plan, preflight
from tests.conftest import settings_of


def zip_handler(source: str) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("handler.py", source)
    return packed.getvalue()


ANSWER = """
import json
def lambda_handler(event, context):
    status = 400 if "image" not in event else {status}
    return {{"statusCode": status, "headers": {{}}, "body": json.dumps({body})}}
"""
GOOD = zip_handler(ANSWER.format(status=200, body={"class": "7", "probability": 1.0, "release": "a" * 64}))
BUSY = zip_handler(ANSWER.format(status=503, body={"error": "busy", "message": "no healthy instance; try again"}))
# Broken where only Lambda sees it, so that the preflight finds nothing.
IN_LAMBDA = "import os\ndef lambda_handler(event, context): pass\nif 'AWS_LAMBDA_FUNCTION_NAME' in os.environ: "
FAILING = zip_handler(
    "def lambda_handler(event, context):\n    if 'image' in event: raise ValueError('unreadable')\n    return {}"
)


def test_missing_function_is_reported(make_stack):
    cli = make_stack("nofunction")
    for command in (("lambda.status",), ("lambda.concurrency",), ("lambda.rollback",)):
        assert (
            "There is no function kennel-nofunction-classify. Create it: invoke lambda.deploy"
            in cli(*command, ok=False).err
        )


@pytest.fixture
def deploy(make_stack, monkeypatch):
    """Deploys a function with other code than that of lambda/."""
    cli = make_stack("functions", "fn: {provisioned: 0, reserved: 5}")
    yield cli, build_deploy(cli, monkeypatch)
    cli("lambda.down", "--yes")


def build_deploy(cli, monkeypatch, *flags):
    def run(code, ok=True):
        monkeypatch.setattr(plan, "package_function", lambda: code)
        return cli("lambda.deploy", *flags, ok=ok)

    return run


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (f"{IN_LAMBDA}raise RuntimeError('broken at import')", "RuntimeError: broken at import"),
        ("def lambda_handler(event, context): return undefined", "NameError: name 'undefined' is not defined"),
        (f"{IN_LAMBDA}del lambda_handler", "lambda_handler"),
        ("def lambda_handler(event, context): return {'statusCode': 500, 'body': '{}'}", "answers 500"),
    ],
    ids=["import", "call", "name", "500"],
)
def test_deploy_keeps_the_alias_when_the_new_version_fails(deploy, source, reason):
    cli, run = deploy
    run(GOOD)
    live = json.loads(cli("lambda.status", "--json").out)["live"]
    refused = run(zip_handler(source), ok=False)
    assert refused.code == 1
    assert reason in refused.err
    assert "Alias live was not moved" in refused.err
    assert json.loads(cli("lambda.status", "--json").out)["live"] == live
    assert run(zip_handler(source), ok=False).code == 1  # a second try does not move it either
    run(GOOD)


def test_throttled_call_of_a_new_version_is_made_again(deploy, inject_fault):
    _, run = deploy
    run(GOOD)
    inject_fault(
        "fault",
        operation="Invoke",
        do="error",
        code="ThrottlingException",
        message="Rate exceeded",
        status=429,
        times=1,
    )
    assert "Lambda throttles calls of this account" in run(BUSY).err
    run(GOOD)


def test_error_counts_in_the_minute_of_its_call(make_stack, monkeypatch, control_sandbox):
    """CloudWatch gives it the time of the invocation: an error two minutes later would stand in no call's row."""
    cli = make_stack("lateerror", "fn: {provisioned: 0, reserved: 5}")
    late = (
        "import time\ndef lambda_handler(event, context):\n    if 'image' in event: time.sleep(2); 1 / 0\n    return {}"
    )
    build_deploy(cli, monkeypatch)(zip_handler(late))
    control_sandbox("clock", speed=60)
    cli.account.client("lambda", "lambda").invoke(
        FunctionName=cli.settings.function_name, Qualifier="live", Payload=b'{"image": "x"}'
    )
    control_sandbox("clock", speed=1)
    found = json.loads(cli("lambda.metrics", "--json", ok=False).out)["points"]
    (minute,) = [one for one in found if one["errors"]]
    assert minute["invocations"] >= 1


def test_first_deploy_of_a_broken_handler_makes_no_alias(deploy):
    cli, run = deploy
    refused = run(zip_handler(f"{IN_LAMBDA}raise OSError"), ok=False).err
    assert "Alias live was not moved" in refused
    assert "not compared with the endpoint's scaling: There is no endpoint kennel-functions." in refused
    assert json.loads(cli("lambda.status", "--json").out)["live"] is None
    run(GOOD)


def test_rollback_moves_the_alias_and_deploy_forward_again(deploy):
    cli, run = deploy
    run(GOOD)
    first = json.loads(cli("lambda.status", "--json").out)["live"]
    assert f"no version that was live before version {first}" in cli("lambda.rollback", ok=False).err
    assert (
        run(zip_handler(f"{IN_LAMBDA}raise RuntimeError"), ok=False).code == 1
    )  # a version between the two, which never was live
    run(BUSY)
    dry = cli("--dry", "lambda.rollback")
    assert "lambda.update_alias" in dry.err
    assert json.loads(cli("lambda.status", "--json").out)["live"] != first
    assert f"is version {first}" in cli("lambda.rollback").out
    assert json.loads(cli("lambda.status", "--json").out)["live"] == first
    assert "0 made" in cli("lambda.rollback", "--to", first).out
    assert (
        "no version that was live before" in cli("lambda.rollback", ok=False).err
    )  # the one rolled back from cannot be a target
    assert "has no version 99" in cli("lambda.rollback", "--to", "99", ok=False).err
    assert "--to takes the number of a version" in cli("lambda.rollback", "--to", "live", ok=False).err
    run(BUSY)


def test_invoke_exits_with_1_when_the_function_answers_an_error(deploy, pictures, tmp_path):
    cli, run = deploy
    run(BUSY)
    picture = next(pictures.rglob("*.png"))
    failed = cli("lambda.invoke", "--picture", str(picture), ok=False)
    assert failed.code == 1
    assert (
        "The function answers 503: no healthy instance; try again. Check the endpoint: invoke sm.status" in failed.out
    )
    assert json.loads(cli("lambda.invoke", "--picture", str(picture), "--json", ok=False).out)["statusCode"] == 503
    run(GOOD)
    assert cli("lambda.invoke", "--picture", str(picture)).out.startswith("7")
    large = tmp_path / "large.png"
    large.write_bytes(b"x" * 4_800_000)
    assert "at most 4,717,568 fit into an event" in cli("lambda.invoke", "--picture", str(large), ok=False).err


def test_stopped_function_can_be_deployed_again(deploy):
    """With a reservation of 0 the new version cannot be called; a deploy is how the function gets calls back."""
    cli, run = deploy
    run(GOOD)
    cli.account.client("lambda").put_function_concurrency(
        FunctionName=cli.settings.function_name, ReservedConcurrentExecutions=0
    )
    run(BUSY)
    assert json.loads(cli("lambda.status", "--json").out)["reserved"] == 5
    run(GOOD)


def test_preflight_finds_nothing_in_the_shipped_package(make_stack):
    report = json.loads(make_stack("functions", roles=False)("lambda.preflight", "--json").out)
    assert report["package_bytes"] < preflight.PACKAGE_BYTES
    assert [one for one in report["findings"] if one["severity"] == "error"] == []
    assert 0 < report["import_cpu_s"] <= 3 * preflight.IMPORT_CPU_S  # a loaded machine is not a slow import


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("raise RuntimeError('broken at import')", "RuntimeError: broken at import"),
        ("def lambda_handler(event, context)", "SyntaxError"),
        ("handler = None", "module handler has no function lambda_handler"),
        ("import os; os._exit(3)", "ended with code 3"),
        ("def lambda_handler(event, context):\n    import numpy.linalg", "Lambda's Python does not have: numpy."),
        (
            f"def lambda_handler(event, context): pass\nDATA = {random.Random(0).randbytes(120_000).hex()!r}",
            "should stay below 100,000",
        ),
    ],
    ids=["raises", "syntax", "name", "exits", "foreign", "large"],
)
def test_deploy_refuses_a_package_before_anything_changes(deploy, source, reason):
    cli, run = deploy
    refused = run(zip_handler(source), ok=False)
    assert refused.code == 1
    assert reason in refused.err
    assert refused.err.rstrip().endswith("The function was not changed.")
    assert "lambda." not in refused.err.replace("invoke lambda.preflight", "")  # no step of the plan was printed
    found = cli("lambda.preflight", ok=False)
    assert (found.code, reason in found.out) == (7, True)
    assert "There is no function" in cli("lambda.status", ok=False).err


def test_preflight_measures_a_slow_import_as_a_warning(monkeypatch):
    monkeypatch.setattr(preflight, "import_once", lambda package, settings: {"cpu_s": 0.51})
    report = preflight.check_package(GOOD, settings_of())
    assert [(one.severity, "0.51 s of CPU" in one.message) for one in report.findings] == [("warning", True)]
    assert preflight.require_sound_package(GOOD, settings_of()) == list(report.findings)


def test_stop_and_resume_change_the_limits_only(deploy, tmp_path):
    cli, run = deploy
    run(GOOD)
    picture = tmp_path / "any.png"
    picture.write_bytes(b"x")
    live = json.loads(cli("lambda.status", "--json").out)["live"]
    cli.account.call("lambda", "put_provisioned_concurrency_config", FunctionName=cli.settings.function_name, Qualifier="live", ProvisionedConcurrentExecutions=1)  # fmt: skip
    assert "2 to make; nothing was touched" in cli("--dry", "lambda.concurrency", "--stop").err
    stopped = cli("lambda.concurrency", "--stop")
    assert "All calls of kennel-functions-classify are stopped" in stopped.out
    assert "TooManyRequestsException" in cli("lambda.invoke", "--picture", str(picture), ok=False).err
    assert "--stop and --resume contradict each other" in cli("lambda.concurrency", "--stop", "--resume", ok=False).err
    assert "At most 5 calls" in cli("lambda.concurrency", "--resume").out
    assert cli("lambda.invoke", "--picture", str(picture)).out.startswith("7")
    have = json.loads(cli("lambda.status", "--json").out)
    assert (have["live"], have["reserved"], have["provisioned"]) == (live, 5, None)


def test_metrics_and_log_show_errors_and_throttles(make_stack, monkeypatch, tmp_path):
    cli = make_stack("measured", "fn: {provisioned: 0, reserved: 5}")
    run = build_deploy(cli, monkeypatch)
    assert cli("lambda.metrics").out == "No calls in the last 15 minutes.\n"
    assert "The log group /aws/lambda/kennel-measured-classify is missing" in cli("lambda.logs", ok=False).err
    run(FAILING)
    picture = tmp_path / "any.png"
    picture.write_bytes(b"x")
    assert cli("lambda.metrics").code == 0  # the call before the alias moved
    assert "Read its log: invoke lambda.logs --errors" in cli("lambda.invoke", "--picture", str(picture), ok=False).err
    cli("lambda.concurrency", "--stop")
    assert cli("lambda.invoke", "--picture", str(picture), ok=False).code == 1
    shown = cli("lambda.metrics", "--json", ok=False)
    points = json.loads(shown.out)["points"]
    assert shown.code == 7
    assert [sum(one[name] for one in points) for name in ("invocations", "errors", "throttles")] == [2, 1, 1]
    assert max(one["concurrent"] for one in points) == 1
    assert "Throttles: 1. See what the limits admit: invoke lambda.concurrency" in cli("lambda.metrics", ok=False).out
    wait_for_log(cli, "ValueError: unreadable")
    assert "REPORT RequestId" in cli("lambda.logs").out
    assert "[1]" in cli("lambda.logs", "--errors").out
    assert "REPORT" not in cli("lambda.logs", "--errors").out
    cli("lambda.down", "--yes")


def wait_for_log(cli, words):
    """The sandbox copies what a handler prints in a thread."""
    deadline = time.monotonic() + 20
    while words not in (said := cli("lambda.logs", "--errors").out):
        assert time.monotonic() < deadline, said
        time.sleep(0.1)


class Callers:
    """A caller in a thread, who calls the alias until the block ends; `answers` are their statuses and errors."""

    def __init__(self, cli):
        self.client, self.name = cli.account.client("lambda", "lambda"), cli.settings.function_name
        self.ended, self.versions = threading.Event(), set()
        self.thread = threading.Thread(target=self.call)

    def call(self):
        while not self.ended.is_set():
            answer = self.client.invoke(FunctionName=self.name, Qualifier="live", Payload=b'{"image": ""}')
            self.versions.add((answer["ExecutedVersion"], answer.get("FunctionError")))

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        self.thread.join()


def test_canary_is_rolled_back_by_errors_and_goes_full_without(make_stack, monkeypatch):
    cli = make_stack("canary", "fn: {provisioned: 0, reserved: 5, bake_s: 4}")
    run = build_deploy(cli, monkeypatch, "--canary", "50")
    run(GOOD)
    assert json.loads(cli("lambda.status", "--json").out)["live"] == "1"
    with Callers(cli) as callers:
        failed = run(FAILING, ok=False)
        assert failed.code == 9
        assert "calls of version 2 ended in an error. Alias live is back on version 1" in failed.err
        callers.versions.clear()
        run(BUSY)  # it answers 503: no fault of the version
    assert {("1", None), ("3", None)} <= callers.versions
    assert json.loads(cli("lambda.status", "--json").out)["live"] == "3"
    alias = cli.account.call("lambda", "get_alias", FunctionName=cli.settings.function_name, Name="live")
    assert not alias.get("RoutingConfig", {}).get("AdditionalVersionWeights")
    assert "version 1" in cli("lambda.rollback").out  # not 2, which never was live
    cli("lambda.down", "--yes")


ECHO = zip_handler(
    "import json\n"
    "def lambda_handler(event, context):\n"
    "    if event.get('rawPath') == '/fail': raise ValueError\n"
    "    kept = {name: event.get(name) for name in ('rawPath', 'rawQueryString', 'body', 'isBase64Encoded')}\n"
    "    return {'statusCode': 418, 'headers': {'Retry-After': 7}, 'body': json.dumps(kept)}"
)


def post(url, body=b"", keys=None, content_type="application/json", **headers):
    """Return (status, headers, body) of a POST, signed with `keys` if they are given."""
    request = AWSRequest("POST", url, data=body, headers={"Content-Type": content_type, **headers})
    if keys:
        SigV4Auth(keys, "lambda", "us-east-1").add_auth(request)
    sent = urllib.request.Request(url, body, dict(request.headers), method="POST")
    try:
        with urllib.request.urlopen(sent, timeout=30) as answer:
            return answer.status, answer.headers, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read().decode()


def test_function_url_answers_signed_requests_only(deploy):
    cli, run = deploy
    assert "has no alias live yet" in failing_url_before_the_alias(cli, run)
    run(ECHO)
    url = cli("lambda.url").out.splitlines()[0]
    assert "0 made" in cli("lambda.url").out
    operator = Account(cli.settings, role="operator")
    keys = operator.credentials().get_frozen_credentials()
    auditor = Account(cli.settings, role="auditor").credentials().get_frozen_credentials()
    status, headers, body = post(f"{url}a%20b?x=1", b'{"a": 1}', keys)
    assert (status, headers["Retry-After"]) == (418, "7")
    assert json.loads(body) == {
        "rawPath": "/a b",
        "rawQueryString": "x=1",
        "body": '{"a": 1}',
        "isBase64Encoded": False,
    }
    binary = json.loads(post(url, b"\xff", keys, content_type="image/png")[2])
    assert (binary["body"], binary["isBase64Encoded"]) == ("/w==", True)
    assert post(f"{url}fail", b"{}", keys)[0] == 502
    assert post(url, b"{}")[0] == 403
    assert post(url, b"{}", auditor)[2] == '{"Message": "Forbidden"}'
    forged = Credentials(keys.access_key, "x" * 40, keys.token)
    assert "signature we calculated does not match" in post(url, b"{}", forged)[2]
    assert post(url, b"{}", keys, Origin="https://evil.example")[1]["Access-Control-Allow-Origin"] == "*"
    with pytest.raises(AwsError, match="not authorized to perform: lambda:UpdateFunctionUrlConfig"):
        operator.call("lambda", "update_function_url_config", FunctionName=cli.settings.function_name, Qualifier="live", AuthType="NONE")  # fmt: skip
    cli("lambda.concurrency", "--stop")
    assert post(url, b"{}", keys)[0] == 429
    assert "1 made" in cli("lambda.url", "--remove", "--yes").out
    assert post(url, b"{}", keys)[0] == 404
    assert "0 made" in cli("lambda.url", "--remove", "--yes").out


def failing_url_before_the_alias(cli, run):
    run(zip_handler(f"{IN_LAMBDA}raise OSError"), ok=False)
    return cli("lambda.url", ok=False).err


def test_url_of_a_stranger_is_taken_back_to_iam(make_stack, monkeypatch):
    """An administrator opened the URL to everyone, by hand; the next lambda.url closes it."""
    cli = make_stack("opened", "fn: {provisioned: 0, reserved: 5}")
    build_deploy(cli, monkeypatch)(ECHO)
    cli("lambda.url")
    name = {"FunctionName": cli.settings.function_name, "Qualifier": "live"}
    administrator = Account(cli.settings, role="")
    administrator.call("lambda", "update_function_url_config", **name, AuthType="NONE")
    assert "set AuthType of the URL: only callers with IAM credentials" in cli("lambda.url").err
    assert administrator.call("lambda", "get_function_url_config", **name)["AuthType"] == "AWS_IAM"
    cli("lambda.down", "--yes")

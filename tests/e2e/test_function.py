"""The Lambda function: a package that is the same every time, a plan by equality, limits that limit."""

import base64
import io
import json
import re
import zipfile
from concurrent.futures import ThreadPoolExecutor

import pytest

from ops.core.errors import AwsError
from ops.function import invocation


def test_reserved_concurrency_limits_parallel_calls(demo_stack):
    """At most the reserved number run at once, and the next call gets 429."""
    client, name = demo_stack.account.client("lambda", "lambda"), demo_stack.settings.function_name
    client.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=2)
    try:

        def one(_):
            try:
                return client.invoke(
                    FunctionName=name, Qualifier="live", Payload=json.dumps({"s3_uri": whole_uri}).encode()
                )["StatusCode"]
            except client.exceptions.TooManyRequestsException as error:
                return error.response["Reason"]

        bucket = demo_stack.settings.bucket
        key = demo_stack.account.list_all("s3", "list_objects_v2", "Contents", Bucket=bucket, Prefix="images/")[0][
            "Key"
        ]
        whole_uri = f"s3://{bucket}/{key}"
        with ThreadPoolExecutor(12) as pool:
            answers = list(pool.map(one, range(36)))
        assert set(answers) == {200, "ReservedFunctionConcurrentInvocationLimitExceeded"}
        with pytest.raises(client.exceptions.InvalidParameterValueException, match="total provisioned concurrency"):
            client.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=0)
    finally:
        client.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=demo_stack.settings.fn.reserved)
    with pytest.raises(AwsError, match=r"below its minimum value of \[100\]"):
        demo_stack.account.call(
            "lambda", "put_function_concurrency", FunctionName=name, ReservedConcurrentExecutions=950
        )


def zipped(source):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("handler.py", source)
    return packed.getvalue()


@pytest.fixture
def function(demo_stack):
    """Makes a function of the sandbox from source, and calls it."""
    client, made = demo_stack.account.client("lambda", "lambda"), []

    def make(source, **more):
        name = f"probe{len(made)}"
        args = {
            "Runtime": "python3.13",
            "Role": demo_stack.settings.role_arn("lambda-invoke"),
            "Handler": "handler.run",
            "Timeout": 3,
            **more,
        }
        client.create_function(FunctionName=name, Code={"ZipFile": zipped(source)}, **args)
        made.append(name)

        def ask(event=None):
            answer = client.invoke(FunctionName=name, Payload=json.dumps(event).encode())
            return answer.get("FunctionError", ""), json.loads(answer["Payload"].read())

        return ask

    yield make
    for name in made:
        client.delete_function(FunctionName=name)


def test_warm_environment_is_reused(function):
    ask = function("import os\ncount = 0\ndef run(e, c):\n    global count; count += 1; return [os.getpid(), count]")
    first, second = ask()[1], ask()[1]
    assert (first[0], first[1], second[1]) == (second[0], 1, 2)


def test_function_times_out(function):
    error, answer = function("import time\ndef run(e, c): time.sleep(60)")()
    assert (error, answer["errorType"]) == ("Unhandled", "Sandbox.Timedout")
    assert re.fullmatch(r"RequestId: [0-9a-f-]{36} Error: Task timed out after 3\.00 seconds", answer["errorMessage"])


def test_function_out_of_memory_is_killed(function):
    error, answer = function(
        "import time\ndef run(e, c):\n    x = bytearray(400 << 20); time.sleep(2)", MemorySize=128
    )()
    assert (error, "signal: killed" in answer["errorMessage"]) == ("Unhandled", True)


def test_exception_is_returned_to_the_caller(function):
    error, answer = function("def run(e, c): raise KeyError('gone')")()
    assert (error, answer["errorType"], answer["errorMessage"]) == ("Unhandled", "KeyError", "'gone'")
    assert len(answer["requestId"]) == 36
    assert [frame.split(", ", 2)[1:] for frame in answer["stackTrace"]] == [
        ["line 1", "in run\n    def run(e, c): raise KeyError('gone')\n"]
    ]


def test_function_has_its_role_and_no_operator_keys(function, demo_stack):
    source = "import boto3, os\ndef run(e, c): return [boto3.client('sts').get_caller_identity()['Arn'], sorted(k for k in os.environ if 'KENNEL_WORK' in k)]"
    assert function(source)()[1] == [
        f"arn:aws:sts::123456789012:assumed-role/{demo_stack.settings.build_role_name('lambda-invoke')}/probe0",
        [],
    ]


def test_status_and_concurrency_show_the_limits(demo_stack):
    found = json.loads(demo_stack("lambda.status", "--json").out)
    assert (found["reserved"], found["provisioned"], found["provisioned_state"]) == (2, 1, "READY")
    assert "the next gets 429" in demo_stack("lambda.concurrency").out


def test_function_classifies_a_picture(demo_stack, digits):
    path = next((digits / "test" / "4").iterdir())
    assert demo_stack("lambda.invoke", "--picture", str(path)).out.split()[0] == "4"
    refused = demo_stack("lambda.invoke", "--picture", "README.md", ok=False)
    assert "not a readable PNG or JPEG" in refused.out
    assert "Give either a picture (--picture FILE) or a number" in demo_stack("lambda.invoke", ok=False).err


def test_function_rejects_invalid_events(demo_stack):
    account, settings = demo_stack.account, demo_stack.settings
    for event, status in (
        ({"url": "http://169.254.169.254/"}, 400), ({"s3_uri": "s3://other/images/x"}, 403), ({"s3_uri": f"s3://{settings.bucket}/jobs/x"}, 403),
        ({"s3_uri": f"s3://{settings.bucket}/images/none"}, 404), ({"image": "not base64!"}, 400), ({}, 400), ([], 400),
        ({"image": base64.b64encode(b"text").decode()}, 400),
    ):  # fmt: skip
        assert invocation.invoke_function(account, event).get("statusCode") == status, event

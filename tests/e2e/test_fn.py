"""The Lambda function: a package that is the same every time, a plan by equality, limits that limit."""

import base64
import io
import json
import zipfile
from concurrent.futures import ThreadPoolExecutor

import pytest

from ops.core.errors import AwsError
from ops.function import invocation


def test_at_most_the_reserved_number_run_at_once_and_the_next_is_refused(whole):
    client, name = whole.account.client("lambda", "lambda"), whole.settings.function_name
    client.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=2)
    try:

        def one(_):
            try:
                return client.invoke(
                    FunctionName=name, Qualifier="live", Payload=json.dumps({"s3_uri": whole_uri}).encode()
                )["StatusCode"]
            except client.exceptions.TooManyRequestsException as error:
                return error.response["Reason"]

        bucket = whole.settings.bucket
        key = whole.account.list_all("s3", "list_objects_v2", "Contents", Bucket=bucket, Prefix="images/")[0]["Key"]
        whole_uri = f"s3://{bucket}/{key}"
        with ThreadPoolExecutor(12) as pool:
            answers = list(pool.map(one, range(36)))
        assert set(answers) == {200, "ReservedFunctionConcurrentInvocationLimitExceeded"}
        client.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=0)
        assert one(0) == "ReservedFunctionConcurrentInvocationLimitExceeded"
    finally:
        client.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=10)
    with pytest.raises(AwsError, match=r"below its minimum value of \[100\]"):
        whole.account.call("lambda", "put_function_concurrency", FunctionName=name, ReservedConcurrentExecutions=950)


def zipped(source):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("handler.py", source)
    return packed.getvalue()


@pytest.fixture
def function(whole):
    """Makes a function of the sandbox from source, and calls it."""
    client, made = whole.account.client("lambda", "lambda"), []

    def make(source, **more):
        name = f"probe{len(made)}"
        args = {
            "Runtime": "python3.13",
            "Role": whole.settings.role_arn("lambda-invoke"),
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


def test_environments_are_kept_warm(function):
    ask = function("import os\ncount = 0\ndef run(e, c):\n    global count; count += 1; return [os.getpid(), count]")
    first, second = ask()[1], ask()[1]
    assert (first[0], first[1], second[1]) == (second[0], 1, 2)


def test_a_function_that_takes_too_long_is_ended(function):
    error, answer = function("import time\ndef run(e, c): time.sleep(60)")()
    assert (error, "Task timed out after 3.00 seconds" in answer["errorMessage"]) == ("Unhandled", True)


def test_a_function_that_takes_too_much_memory_is_ended(function):
    error, answer = function(
        "import time\ndef run(e, c):\n    x = bytearray(400 << 20); time.sleep(2)", MemorySize=128
    )()
    assert (error, "signal: killed" in answer["errorMessage"]) == ("Unhandled", True)


def test_an_exception_is_the_callers_to_see(function):
    assert function("def run(e, c): raise KeyError('gone')")() == (
        "Unhandled",
        {"errorType": "KeyError", "errorMessage": "'gone'"},
    )


def test_a_function_has_its_roles_keys_and_none_of_ours(function, whole):
    source = "import boto3, os\ndef run(e, c): return [boto3.client('sts').get_caller_identity()['Arn'], sorted(k for k in os.environ if 'KENNEL_WORK' in k)]"
    assert function(source)()[1] == [
        f"arn:aws:sts::123456789012:assumed-role/{whole.settings.build_role_name('lambda-invoke')}/probe0",
        [],
    ]


def test_status_and_concurrency_tell_the_limits(whole):
    found = json.loads(whole("lambda.status", "--json").out)
    assert (found["reserved"], found["provisioned"], found["provisioned_state"]) == (10, 1, "READY")
    assert "the next gets 429" in whole("lambda.concurrency").out


def test_a_picture_goes_through_the_function(whole, digits):
    path = next((digits / "test" / "4").iterdir())
    assert whole("lambda.invoke", "--picture", str(path)).out.split()[0] == "4"
    refused = whole("lambda.invoke", "--picture", "README.md", ok=False)
    assert "not a readable PNG or JPEG" in refused.out
    assert "Give either --picture FILE or a number" in whole("lambda.invoke", ok=False).err


def test_what_the_function_refuses(whole):
    account, settings = whole.account, whole.settings
    for event, status in (
        ({"url": "http://169.254.169.254/"}, 400), ({"s3_uri": "s3://other/images/x"}, 403), ({"s3_uri": f"s3://{settings.bucket}/jobs/x"}, 403),
        ({"s3_uri": f"s3://{settings.bucket}/images/none"}, 404), ({"image": "not base64!"}, 400), ({}, 400), ([], 400),
        ({"image": base64.b64encode(b"text").decode()}, 400),
    ):  # fmt: skip
        assert invocation.invoke_function(account, event).get("statusCode") == status, event

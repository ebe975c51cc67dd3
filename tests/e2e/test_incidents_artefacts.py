"""The pages on refused requests, a lost release file and a lost log, followed on the demo's endpoint."""

import contextlib
import time

import pytest
from botocore.exceptions import ClientError

from ops.endpoint import alarms, probe
from ops.releases import build
from tests.e2e.test_incidents import Page
from tests.sandbox.test_incidents_iam import signing


def soon(check, seconds=60):
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def pass_minutes(inject_fault, minutes):
    """Let minutes of the sandbox's clock pass, a second each."""
    inject_fault("clock", speed=60)
    time.sleep(minutes)
    inject_fault("clock", speed=1)


@pytest.fixture
def picture(digits):
    return str(next((digits / "test" / "7").iterdir()))


@pytest.fixture
def sender(demo_stack):
    """A user who may call the endpoint; yields a function that sends it text, and deletes the user in the end."""
    iam, name = demo_stack.account.client("iam"), "sender"
    endpoint = probe.require_endpoint(demo_stack.account)["EndpointArn"]
    policy = {"Effect": "Allow", "Action": "sagemaker:InvokeEndpoint", "Resource": endpoint}
    iam.create_user(UserName=name)
    document = f'{{"Version": "2012-10-17", "Statement": [{policy}]}}'.replace("'", '"')
    iam.put_user_policy(UserName=name, PolicyName="call", PolicyDocument=document)
    key = iam.create_access_key(UserName=name)["AccessKey"]
    runtime = signing(demo_stack, key["AccessKeyId"], key["SecretAccessKey"], service="sagemaker-runtime")

    def send():
        with pytest.raises(ClientError) as refused:
            runtime.invoke_endpoint(
                EndpointName=demo_stack.settings.endpoint_name, Body=b"a text", ContentType="application/x-image"
            )
        return refused.value.response["Error"]["Code"]

    yield send
    with contextlib.suppress(ClientError):  # the page may have deleted it, or not
        iam.delete_access_key(UserName=name, AccessKeyId=key["AccessKeyId"])
    for attached in iam.list_user_policies(UserName=name)["PolicyNames"]:
        iam.delete_user_policy(UserName=name, PolicyName=attached)
    iam.delete_user(UserName=name)


def test_endpoint_4xx_page_cuts_the_caller_off(demo_stack, sender, inject_fault, picture, tmp_path):
    (tmp_path / "sent").write_text("a text")
    pass_minutes(inject_fault, 6)  # the page reads five: requests of tests before this one are no part of the incident
    page = Page("endpoint-4xx", demo_stack, file=str(tmp_path / "sent"), who="sender", picture=picture)
    assert sender() == "ModelError"
    assert page.confirmed()
    assert not page.verified()
    pass_minutes(inject_fault, 3)
    assert sender() == "ModelError"  # it does not stop by itself
    assert not page.verified()
    assert page.works("cut")
    assert sender() == "UnrecognizedClientException"  # as AWS calls it in JSON
    pass_minutes(inject_fault, 3)
    assert page.verified()
    pass_minutes(inject_fault, 4)
    assert not page.works("look")


def test_artefact_missing_page_packages_it_again(demo_stack):
    account = demo_stack.account
    live = probe.find_live_release(account)
    page = Page("artefact-missing", demo_stack, job=live.job)
    assert page.verified()
    assert not page.works("look")
    account.call("s3", "delete_object", Bucket=account.bucket.name, Key=live.key)
    assert page.confirmed()
    assert f"--job {live.job}. See: invoke runbook.show artefact-missing" in demo_stack("sm.smoke", ok=False).err
    assert not page.verified()
    assert page.works("again")
    assert page.verified()
    assert build.find_release(account, live.short) == live
    assert probe.find_live_release(account) == live  # the same digest: nothing was deployed


def test_logs_missing_page_starts_an_instance_that_logs(demo_stack, inject_fault):
    pass_minutes(inject_fault, 2)  # the page reads one: failures of tests before this one are no part of the incident
    live = probe.find_live_release(demo_stack.account)
    page = Page("logs-missing", demo_stack, job=live.job)
    assert not page.works("look")
    demo_stack.account.client("logs").delete_log_group(logGroupName=alarms.log_group(demo_stack.settings))
    assert page.confirmed()
    assert "runbook.show logs-missing" in demo_stack("sm.logs", ok=False).err
    assert not page.verified()
    assert page.works("create")
    assert probe.find_live_release(demo_stack.account) == live
    assert not page.works("look")
    assert not page.verified()  # the group is there, and nothing in it
    assert "There is no line in the log of the last 15 minutes" in demo_stack("sm.logs").err
    assert page.works("add")
    inject_fault("clock", speed=60)
    soon(lambda: page.works("there"))
    inject_fault("clock", speed=1)
    soon(page.verified)
    demo_stack("sm.autoscale", "--min-instances", "1", "--max-instances", "1", "--because", "one instance again")
    demo_stack("sm.autoscale")

"""iam.simulate: who is meant, what every request carries, what decides, what came near; and AWS's simulator beside it."""

import json

import pytest

from tests.unit.test_iam_simulate import run


@pytest.fixture(scope="module")
def cli(make_stack):
    made = make_stack("simulate")
    made("iam.apply")
    return made


def test_simulate_reads_bucket_policy_and_trust_of_the_account(cli):
    settings, account = cli.settings, cli.account
    bucket, operator = settings.bucket, settings.role_arn("operator")
    thing = f"arn:aws:s3:::{bucket}/datasets/x"
    account.call("s3", "create_bucket", Bucket=bucket)
    assert "allowed" in run(cli, "operator", "s3:GetObject", thing)
    shut = {"Sid": "Shut", "Effect": "Deny", "Principal": "*", "Action": "s3:*", "Resource": f"arn:aws:s3:::{bucket}/*"}
    account.call(
        "s3", "put_bucket_policy", Bucket=bucket, Policy=json.dumps({"Version": "2012-10-17", "Statement": [shut]})
    )
    assert f"explicitDeny by resource: bucket {bucket} / Shut" in run(cli, "operator", "s3:GetObject", thing, code=4)
    for keys, layer in (((), "resource"), (("-c", "aws:MultiFactorAuthPresent=true"), "identity")):
        data = json.loads(run(cli, "operator", "sts:AssumeRole", operator, *keys, "--json", code=4))
        assert (data["decision"], data["layer"]) == ("implicitDeny", layer)
    assert "There is no role" in run(cli, "operator", "sts:AssumeRole", operator + "x", code=4)


def test_remote_simulator_agrees(cli):
    said = run(cli, "operator", "sagemaker:CreateModel", "*", "--remote", code=4)
    assert "AWS's simulator agrees: implicitDeny" in said


def test_missing_remote_simulator_is_reported(cli, inject_fault):
    inject_fault("fault", operation="SimulatePrincipalPolicy", do="error", code="NotImplemented", status=400, times=20)
    said = run(cli, "operator", "sagemaker:CreateModel", "*", "--remote", code=1)
    assert "AWS's simulator did not answer. AWS refused SimulatePrincipalPolicy" in said

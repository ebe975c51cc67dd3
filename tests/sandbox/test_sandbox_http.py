"""The local AWS's door: what is decided on is what is done, however a request is put; and each protocol's own refusals."""

import gzip
import http.client
import json
from datetime import UTC, datetime, timedelta

import botocore.config
import botocore.session
import pytest
from hypothesis import HealthCheck, given, settings

from sandbox import state
from sandbox.client import send_control_request
from sandbox.http import error_responses
from tests.unit.test_sandbox_http import (
    ACCOUNT,
    ASSUME,
    FORM,
    GROUP,
    IN_URL,
    LORD,
    PREFIX,
    TWO,
    packed,
    put_together,
    requests,
    signed,
    target_of,
)

UNKNOWN_KEY = "AKIAAAAAAAAAAAAAAAAA"
MAY = [
    {"Action": ["s3:ListAllMyBuckets", "sagemaker:ListModels", "ec2:DescribeVpcs", "codebuild:CreateProject"], "Resource": "*"},
    {"Action": "logs:CreateLogGroup", "Resource": f"arn:aws:logs:us-east-1:{ACCOUNT}:log-group:/porter-own:*"},
    {"Action": "sts:AssumeRole", "Resource": f"{PREFIX}:role/porter"},
    {"Action": "lambda:DeleteFunction", "Resource": f"arn:aws:lambda:us-east-1:{ACCOUNT}:function:own"},
    {"Action": ["s3:PutObject", "s3:GetObject", "s3:ListMultipartUploadParts"], "Resource": "arn:aws:s3:::porter-room/own/*"},
    {
        "Action": "cloudwatch:PutMetricData", "Resource": "*",
        "Condition": {"StringEquals": {"cloudwatch:namespace": "porter"}},
    },
]  # fmt: skip
TRUST = {"Effect": "Allow", "Principal": {"AWS": f"{PREFIX}:root"}, "Action": "sts:AssumeRole"}


def policy(*statements):
    return json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", **one} for one in statements]})


class RawClient:
    """A role with a few permissions that sends requests of any form, and an administrator who looks at their effects."""

    def __init__(self, account, port):
        self.account, self.port = account, port
        for name in ("porter", "porters-lord"):
            account.call("iam", "create_role", RoleName=name, AssumeRolePolicyDocument=policy(TRUST))
        account.call("iam", "put_role_policy", RoleName="porter", PolicyName="all", PolicyDocument=policy(*MAY))
        account.call("s3", "create_bucket", Bucket="porter-room")
        account.call("s3", "put_object", Bucket="porter-room", Key="theirs", Body=b"TOPSECRET")
        keys = account.call("sts", "assume_role", RoleArn=f"{PREFIX}:role/porter", RoleSessionName="porter")[
            "Credentials"
        ]
        self.key, self.keys = keys["AccessKeyId"], keys

    def leave(self):
        self.account.call("iam", "delete_role_policy", RoleName="porter", PolicyName="all")
        for name in ("porter", "porters-lord"):
            self.account.call("iam", "delete_role", RoleName=name)
        for one in self.account.call("s3", "list_objects_v2", Bucket="porter-room")["Contents"]:
            self.account.call("s3", "delete_object", Bucket="porter-room", Key=one["Key"])
        self.account.call("s3", "delete_bucket", Bucket="porter-room")
        if "/porter-own" in {
            one["logGroupName"] for one in self.account.call("logs", "describe_log_groups")["logGroups"]
        }:
            self.account.call("logs", "delete_log_group", logGroupName="/porter-own")

    def send(self, method, path, service="", headers=None, body=b"", key=None):
        """(status, body) of a request put together by hand."""
        line = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        sent = signed(self.key if key is None else key, service) if service else {}
        sent |= headers or {}
        line.putrequest(method, path, skip_accept_encoding=True)
        for name, value in ({"Content-Length": str(len(body))} | sent).items():
            line.putheader(name, value)
        line.endheaders(body)
        answer = line.getresponse()
        return answer.status, answer.read().decode("utf-8", "replace")

    def client(self, service):
        return botocore.session.Session().create_client(
            service, "us-east-1", endpoint_url=f"http://127.0.0.1:{self.port}",
            config=botocore.config.Config(retries={"total_max_attempts": 1}, signature_version="v4" if service != "s3" else "s3v4"), aws_access_key_id=self.key,
            aws_secret_access_key=self.keys["SecretAccessKey"], aws_session_token=self.keys["SessionToken"],
        )  # fmt: skip

    def world(self):
        """What the porter may not change, as the administrator sees it."""
        call = self.account.call
        return {
            "users": [one["UserName"] for one in call("iam", "list_users")["Users"]],
            "roles": sorted(one["RoleName"] for one in call("iam", "list_roles")["Roles"]),
            "vpcs": sorted(one["VpcId"] for one in call("ec2", "describe_vpcs")["Vpcs"]),
            "things": [one["Key"] for one in call("s3", "list_objects_v2", Bucket="porter-room").get("Contents", [])],
            "models": call("sagemaker", "list_endpoint_configs")["EndpointConfigs"],
            "groups": sorted(g["logGroupName"] for g in call("logs", "describe_log_groups")["logGroups"]),
            "projects": call("codebuild", "batch_get_projects", names=["porters"])["projects"],
        }


@pytest.fixture(scope="module")
def raw_client(make_stack, sandbox):
    found = RawClient(make_stack("door", roles=False).account, state.read(sandbox).port)
    yield found
    found.leave()


MODEL = '{"EndpointConfigName":"x","ProductionVariants":[]}'
IDENTITY = {"X-Amz-Target": "x.GetCallerIdentity"}
TRICKS = {
    "an Action beside a Target": ("POST", "/", "sts", FORM | IDENTITY, ASSUME + LORD),
    "an Action beside a Target of EC2": (
        "POST", "/", "ec2", FORM | {"X-Amz-Target": "x.DescribeVpcs"}, "Action=CreateVpc&CidrBlock=10.9.0.0/16&Version=2016-11-15",
    ),
    "a parameter in the URL": ("POST", f"/?RoleArn={LORD}", "sts", FORM, f"{ASSUME}{PREFIX}:role/porter"),
    "a parameter twice": ("POST", "/", "sts", FORM, f"{ASSUME}{PREFIX}:role/porter&RoleArn={LORD}"),
    "an Action twice": ("POST", "/", "ec2", FORM, "Action=DescribeVpcs&Action=CreateVpc&CidrBlock=10.9.0.0/16&Version=2016-11-15"),
    "a group in the URL": (
        "POST", "/?logGroupName=/theirs", "logs", target_of("Logs_20140328.CreateLogGroup"), '{"logGroupName": "/porter-own"}',
    ),
    "a name twice in JSON": (
        "POST", "/", "logs", target_of("Logs_20140328.CreateLogGroup"), '{"logGroupName": "/porter-own", "logGroupName": "/theirs"}',
    ),
    "an Action in the URL": ("POST", "/?Action=CreateEndpointConfig", "sagemaker", target_of("SageMaker.ListModels"), MODEL),
    "an Action inside a text": (
        "POST", "/", "sagemaker", target_of("SageMaker.ListModels"), MODEL[:-1] + ',"x":"&Action=CreateEndpointConfig&"}',
    ),
    "an Action as a header": (
        "POST", "/", "sagemaker", target_of("SageMaker.ListModels") | {"Action": "CreateEndpointConfig"}, "",
    ),
    "a form with a Target": ("POST", "/", "sagemaker", FORM | {"X-Amz-Target": "SageMaker.ListModels"}, "Action=CreateEndpointConfig"),
    "another service's Target": ("POST", "/", "sagemaker", target_of("x.ListModels"), MODEL),
    "two credentials": ("POST", "/", "", FORM | IDENTITY | {"Authorization": TWO}, "Action=CreateUser&UserName=evil&Version=2010-05-08"),
    "S3 under another's credential": ("PUT", f"/porter-room/planted?{IN_URL}", "", IDENTITY, "evil"),
    "S3 with a Target": ("GET", "/porter-room/theirs", "s3", {"X-Amz-Target": "x.ListBuckets"}, ""),
    "S3 with both signatures": ("GET", f"/porter-room/theirs?{IN_URL}", "s3", {}, ""),
    "parts of an upload that is not named": ("GET", "/porter-room/theirs?uploadId=", "s3", {}, ""),
    "moto's own door": ("GET", "/moto-api/data.json", "sts", IDENTITY, ""),
    "moto's own door as a bucket": ("GET", "/moto-api/data.json", "s3", {}, ""),
    "moto's metadata": ("GET", "/latest/meta-data/iam/security-credentials/", "s3", {}, ""),
    "a wrong length": ("POST", "/", "sts", FORM | {"Content-Length": "-1"}, ""),
    "a network in another region": (
        "POST", "/", "", FORM | {"Authorization": signed("{key}", "ec2", "eu-west-1")["Authorization"]},
        "Action=CreateVpc&CidrBlock=10.9.0.0/16&Version=2016-11-15",
    ),
    "another region": ("POST", "/", "", FORM | {"Authorization": signed("{key}", "sts", "eu-west-1")["Authorization"]}, ASSUME + LORD),
}  # fmt: skip


@pytest.mark.parametrize("trick", TRICKS)
def test_ambiguous_request_changes_nothing(raw_client, trick):
    """A request that can be read in two ways does nothing but what was authorised."""
    method, path, service, headers, body = TRICKS[trick]
    before = raw_client.world()
    headers = {name: value.format(key=raw_client.key) for name, value in headers.items()}
    status, said = raw_client.send(method, path.format(key=raw_client.key), service, headers, body.encode())
    assert raw_client.world() == before
    assert "TOPSECRET" not in said
    assert "AccessKeyId" not in said
    if status == 200:  # as the call that was decided on, without the rest
        assert trick in ("an Action inside a text", "an Action as a header"), said
        assert list(json.loads(said)) == ["Models"]
    else:
        assert status in (400, 403, 501), said


ROLE = f"{PREFIX}:role/porters-lord"
PROJECT = {
    "name": "porters", "source": {"type": "S3", "location": "porter-room/x.zip"}, "artifacts": {"type": "NO_ARTIFACTS"},
    "environment": {"type": "LINUX_CONTAINER", "image": "x", "computeType": "BUILD_GENERAL1_SMALL"}, "serviceRole": ROLE,
}  # fmt: skip


@pytest.mark.parametrize(
    ("headers", "body", "status", "code"),
    [
        ({}, json.dumps(PROJECT).encode(), 400, "AccessDeniedException"),
        ({"Content-Encoding": "gzip"}, gzip.compress(json.dumps(PROJECT).encode()), 400, "AccessDeniedException"),
        ({}, json.dumps(PROJECT | {"pad": "x" * (9 << 20)}).encode(), 400, "AccessDeniedException"),
        ({"Content-Encoding": "gzip"}, gzip.compress(b"x" * (80 << 20)), 413, "RequestTooLargeException"),
        ({"Content-Encoding": "gzip"}, json.dumps(PROJECT).encode(), 400, "SerializationException"),
        ({"Content-Encoding": "br"}, json.dumps(PROJECT).encode(), 400, "SerializationException"),
        ({}, b"{half", 400, "SerializationException"),
        ({}, b"[]", 400, "SerializationException"),
        ({}, b"\xff", 400, "SerializationException"),
        ({}, json.dumps(PROJECT | {"serviceRole": [ROLE]}).encode(), 400, "SerializationException"),
    ],
)
def test_any_body_has_its_role_authorised(raw_client, headers, body, status, code):
    """No form of the body keeps the role in it from being authorised."""
    sent = target_of("CodeBuild_20161006.CreateProject") | headers
    got, said = raw_client.send("POST", "/", "codebuild", sent, body)
    assert (got, json.loads(said)["__type"]) == (status, code)
    assert raw_client.world()["projects"] == []


def test_chunked_body_is_read(raw_client):
    text = b"Action=GetCallerIdentity&Version=2011-06-15"
    line = http.client.HTTPConnection("127.0.0.1", raw_client.port, timeout=20)
    line.request("POST", "/", iter([text]), FORM | signed(raw_client.key, "sts"), encode_chunked=True)
    assert "assumed-role/porter" in line.getresponse().read().decode()


def test_compressed_metrics_are_authorised(raw_client):
    data = [{"MetricName": f"m{n}", "Value": 1.0, "Dimensions": [{"Name": "n", "Value": "v" * 50}]} for n in range(150)]
    cloudwatch = raw_client.client("cloudwatch")
    cloudwatch.put_metric_data(Namespace="porter", MetricData=data)
    with pytest.raises(cloudwatch.exceptions.ClientError, match="AccessDenied"):
        cloudwatch.put_metric_data(Namespace="else", MetricData=data)


def test_function_name_comes_from_the_path(raw_client):
    status, said = raw_client.send("DELETE", "/2015-03-31/functions/victim", "lambda", {}, b'{"FunctionName": "own"}')
    assert (status, "function:victim" in said) == (403, True)


def test_buckets_can_be_listed(raw_client):
    for client in (raw_client.client("s3"), raw_client.account.client("s3")):
        assert "porter-room" in {one["Name"] for one in client.list_buckets()["Buckets"]}


def test_presigned_url_opens_its_object_only(raw_client):
    raw_client.account.call("s3", "put_object", Bucket="porter-room", Key="own/linked", Body=b"mine")
    asked = {"Params": {"Bucket": "porter-room", "Key": "own/linked"}, "ExpiresIn": 60}
    link = raw_client.client("s3").generate_presigned_url("get_object", **asked).partition(f":{raw_client.port}")[2]
    assert raw_client.send("GET", link) == (200, "mine")
    assert raw_client.send("GET", link.replace("own/linked", "theirs"))[0] == 403
    assert raw_client.send("PUT", link.replace("own/linked", "theirs"))[0] == 403


def test_object_keys_may_hold_any_character(raw_client):
    s3 = raw_client.client("s3")
    for key in ("own/operation/x.tar", "own/%41 b+c&d=e?f", "own/é", "own/moto-api"):
        s3.put_object(Bucket="porter-room", Key=key, Body=key.encode())
        assert s3.get_object(Bucket="porter-room", Key=key)["Body"].read() == key.encode()
        raw_client.account.call("s3", "delete_object", Bucket="porter-room", Key=key)


@pytest.mark.parametrize(
    ("method", "path", "service", "headers", "body"),
    [
        ("POST", "/", "ec2", FORM, b"Action=FooBar&Version=2016-11-15"),
        ("POST", "/", "iam", FORM, b"Action=FooBar&Version=2010-05-08"),
        ("POST", "/", "iam", FORM, b""),
        ("POST", "/porter-room", "s3", {"Content-Type": "multipart/form-data; boundary=b"}, b"--b--\r\n"),
        ("PUT", "/porter-room/own/x", "s3", FORM, b"versionId=1"),
        ("PUT", "/porter-room/own/two%0Alines", "s3", {}, b"x"),
        ("POST", "/service/GraniteServiceVersion20100801/operation/PutMetricData", "monitoring", {}, b"\xbf\xff"),
        ("GET", "/?Action=GetCallerIdentity&Version=2011-06-15", "sts", {}, b""),
        ("GET", "/analyzer", "access-analyzer", {}, b""),
    ],
)
def test_unsupported_operation_is_named(raw_client, method, path, service, headers, body):
    status, said = raw_client.send(method, path, service, headers, body)
    assert status == 501
    assert "NotImplementedInSandbox" in said
    assert service in said


@pytest.mark.parametrize(
    ("service", "headers", "status", "code"),
    [
        ("s3", {}, 403, "<Error><Code>InvalidAccessKeyId"),
        ("ec2", FORM, 401, "<Response><Errors><Error><Code>AuthFailure"),
        ("sts", FORM, 403, "<ErrorResponse><Error><Code>InvalidClientTokenId"),
        ("iam", FORM, 403, "<ErrorResponse><Error><Code>InvalidClientTokenId"),
        ("monitoring", FORM, 403, "<ErrorResponse><Error><Code>InvalidClientTokenId"),
        ("sagemaker", target_of("SageMaker.ListModels"), 400, '"__type": "UnrecognizedClientException'),
        ("lambda", {}, 403, '"__type": "UnrecognizedClientException'),
    ],
)
def test_unknown_key_gets_the_error_of_its_protocol(raw_client, service, headers, status, code):
    got, said = raw_client.send("POST", "/", service, headers, b"", key=UNKNOWN_KEY)
    assert (got, code in said) == (status, True), said
    assert "it may be from an earlier one. Run: invoke sandbox.up" in said


def test_expired_session_gets_the_error_of_its_protocol(raw_client, sandbox):
    """A session that has expired gets its error in each protocol's own words."""
    call = raw_client.account.call
    keys = call("sts", "assume_role", RoleArn=f"{PREFIX}:role/porter", RoleSessionName="late")["Credentials"]
    send_control_request(state.read(sandbox), "POST", "expire", {"key": keys["AccessKeyId"]})
    for service, headers, status, code in (
        ("s3", {}, 400, "<Error><Code>ExpiredToken</Code>"),
        ("ec2", FORM, 400, "<Code>RequestExpired</Code>"),
        ("sts", FORM, 403, "<ErrorResponse><Error><Code>ExpiredToken</Code>"),
        ("logs", GROUP, 400, '"__type": "ExpiredTokenException"'),
        ("lambda", {}, 403, '"__type": "ExpiredTokenException"'),
    ):
        got, said = raw_client.send("POST", "/", service, headers, b"", key=keys["AccessKeyId"])
        assert (got, code in said) == (status, True), said


@pytest.mark.parametrize(
    ("method", "headers", "status", "code"),
    [
        ("GET", {}, 403, "<Error><Code>AccessDenied"),
        ("POST", FORM, 403, "<ErrorResponse><Error><Code>MissingAuthenticationToken"),
        ("POST", target_of("SageMaker.ListModels"), 400, '"__type": "MissingAuthenticationTokenException'),
    ],
)
def test_unsigned_call_gets_the_error_of_its_protocol(raw_client, method, headers, status, code):
    got, said = raw_client.send(method, "/", "", headers, b"Action=GetCallerIdentity&Version=2011-06-15")
    assert (got, code in said) == (status, True), said


@pytest.mark.parametrize(
    ("method", "path", "service", "headers", "status", "code"),
    [
        ("POST", "/", "sagemaker", target_of("SageMaker.ListModels"), 400, "InvalidSignatureException"),
        ("GET", "/2015-03-31/functions", "lambda", {}, 403, "InvalidSignatureException"),
        ("POST", "/", "sts", FORM, 403, "<Code>SignatureDoesNotMatch"),
        ("POST", "/", "ec2", FORM, 400, "<Code>RequestExpired"),
        ("GET", "/porter-room", "s3", {}, 403, "<Code>RequestTimeTooSkewed"),
    ],
)
def test_wrong_clock_gets_the_error_of_its_protocol(raw_client, method, path, service, headers, status, code):
    """A wrong clock gets its error in each protocol's own words."""
    for hours, words in ((-1, "Signature expired"), (1, "Signature not yet current")):
        date = error_responses.format_amz_date(datetime.now(UTC) + timedelta(hours=hours))
        got, said = raw_client.send(method, path, service, headers | {"X-Amz-Date": date})
        assert (got, code in said) == (status, True), said
        assert words in said or service == "s3"


def test_invalid_web_identity_token_gets_the_error_of_sts(raw_client, sandbox):
    running = state.read(sandbox)
    call = f"Action=AssumeRoleWithWebIdentity&Version=2011-06-15&RoleArn={LORD}&RoleSessionName=xx&WebIdentityToken="
    late = send_control_request(running, "POST", "token", {"sub": "x", "aud": "sts.amazonaws.com", "exp": 1})["token"]
    fresh = send_control_request(running, "POST", "token", {"sub": "x", "aud": "sts.amazonaws.com"})["token"]
    for token, status, code in (
        ("a.b.c", 400, "InvalidIdentityToken"),
        ("", 400, "InvalidIdentityToken"),
        (late, 400, "ExpiredTokenException"),
        (fresh, 403, "AccessDenied"),
    ):
        got, said = raw_client.send("POST", "/", "", FORM, (call + token).encode())
        assert (got, f"<Code>{code}</Code>" in said) == (status, True), said


def test_cloudwatch_errors_use_the_protocol_of_the_call(raw_client):
    """CloudWatch speaks two protocols; an error comes in that of the call."""
    asked = b"Action=DescribeAlarms&Version=2010-08-01"
    assert "<ErrorResponse><Error><Code>AccessDenied" in raw_client.send("POST", "/", "monitoring", FORM, asked)[1]
    in_json = target_of("GraniteServiceVersion20100801.DescribeAlarms")
    assert json.loads(raw_client.send("POST", "/", "monitoring", in_json, b"{}")[1])["__type"] == "AccessDenied"


@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
@given(requests())
def test_nothing_unauthorised_happens(raw_client, one):
    service, method, path, query, headers, body, way = one
    before = raw_client.world()
    sent = put_together(service, way, raw_client.key, headers)
    status, said = raw_client.send(
        method, f"{path}?{query.format(key=raw_client.key)}", "", sent, packed(headers, body)
    )
    assert status != 500, said
    assert "TOPSECRET" not in said
    assert "porters-lord/" not in said
    after = raw_client.world()
    for seen in (before, after):
        seen["groups"] = [name for name in seen["groups"] if name != "/porter-own"]
        seen["things"] = [name for name in seen["things"] if not name.startswith("own/")]
    assert after == before

"""The local AWS's door: what is decided on is what is done, however a request is put; and each protocol's own refusals."""

import gzip
import io
import json
import re
from urllib.parse import unquote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from sandbox.http import error_responses, parameters, parsing
from sandbox.iam.permissions import TABLE

ACCOUNT = "123456789012"
PREFIX = f"arn:aws:iam::{ACCOUNT}"
FORM = {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"}


def signed(key, service, region="us-east-1"):
    scope = f"{key}/20261122/{region}/{service}/aws4_request"
    return {"Authorization": f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=00"}


def target_of(name):
    return {"X-Amz-Target": name, "Content-Type": "application/x-amz-json-1.1"}


LORD = f"{PREFIX}:role/porters-lord"
ASSUME = "Version=2011-06-15&RoleSessionName=xx&Action=AssumeRole&RoleArn="
IN_URL = "X-Amz-Credential={key}%2F20261122%2Fus-east-1%2Fsts%2Faws4_request"
TWO = "AWS4-HMAC-SHA256 x/20261122/us-east-1/iam/y,Credential={key}/20261122/us-east-1/sts/aws4_request"
# Requests that are whole, and what else is put in them: parts of other requests, in other places.
LIST, GROUP = target_of("SageMaker.ListModels"), target_of("Logs_20140328.CreateLogGroup")
WHOLE = [
    ("sts", "POST", "/", FORM, f"{ASSUME}{PREFIX}:role/porter"),
    ("sts", "POST", "/", FORM, "Action=GetCallerIdentity&Version=2011-06-15"),
    ("ec2", "POST", "/", FORM, "Action=DescribeVpcs&Version=2016-11-15"),
    ("iam", "POST", "/", FORM, "Action=GetRole&RoleName=porter&Version=2010-05-08"),
    ("monitoring", "POST", "/", FORM, "Action=DescribeAlarms&Version=2010-08-01"),
    ("monitoring", "POST", "/", target_of("GraniteServiceVersion20100801.ListMetrics"), "{}"),
    ("sagemaker", "POST", "/", LIST, "{}"),
    ("sagemaker", "POST", "/endpoints/x/invocations", {"Content-Type": "image/png"}, "x&Action=CreateModel"),
    ("logs", "POST", "/", GROUP, '{"logGroupName": "/porter-own"}'),
    ("lambda", "DELETE", "/2015-03-31/functions/own", {}, ""),
    ("lambda", "POST", "/2015-03-31/functions/own/invocations", {}, "x&Action=DeleteFunction"),
    ("s3", "GET", "/", {}, ""),
    ("s3", "GET", "/porter-room/own/x", {}, ""),
    ("s3", "PUT", "/porter-room/own/x", {"Content-Type": "text/plain"}, "x"),
    ("s3", "GET", "/porter-room", {}, ""),
]
ACTIONS = [
    "GetCallerIdentity",
    "AssumeRole",
    "DescribeVpcs",
    "CreateVpc",
    "ListModels",
    "CreateModel",
    "GetRole",
    "CreateUser",
]
PAIRS = some.sampled_from(
    [f"Action={name}" for name in ACTIONS]
    + [
        f"RoleArn={LORD}",
        f"RoleArn={PREFIX}:role/porter",
        "RoleName=porter",
        "RoleName=porters-lord",
        "RoleSessionName=xx",
        "UserName=evil",
        "CidrBlock=10.9.0.0/16",
        "Version=2016-11-15",
        "%41ction=CreateVpc",
        "a",
        "=",
        "versionId=1",
        "uploadId=",
    ]
)
KEYS = some.sampled_from(
    [
        "uploads",
        "uploadId=",
        "uploadId=1",
        "partNumber=1",
        "policy",
        "acl",
        "tagging",
        "delete",
        "versions",
        "location",
        IN_URL,
        "list-type=2",
        "list-type=3",
        "prefix=a",
        "prefix=b",
        "versionId=1",
        "versionId=",
        "Qualifier=x",
        "x-id=GetObject",
    ]
)
JSONS = some.dictionaries(
    some.sampled_from(["logGroupName", "ModelName", "FunctionName", "Action", "x&Action=CreateModel&y"]),
    some.sampled_from(["/porter-own", "/theirs", "own", "&Action=CreateModel&", ["a"], None, {}]),
    max_size=3,
).map(json.dumps)
TARGETS = [
    "x.ListModels",
    "x.CreateModel",
    "SageMaker.CreateModel",
    "SageMaker.ListModels",
    "Logs_20140328.CreateLogGroup",
    "y",
]
HEADERS = some.fixed_dictionaries(
    {},
    optional={
        "Content-Type": some.sampled_from(
            [FORM["Content-Type"], LIST["Content-Type"], "multipart/form-data; boundary=b", "text/x"]
        ),
        "X-Amz-Target": some.sampled_from(TARGETS),
        "Action": some.sampled_from(ACTIONS),
        "Content-Encoding": some.sampled_from(["gzip", "aws-chunked"]),
        "X-Amz-Copy-Source": some.sampled_from(["porter-room/theirs", "/porter-room/own/x?versionId=1"]),
        "X-Http-Method-Override": some.just("DELETE"),
        "User-Agent": some.just("boto region/eu-west-1"),
        "X-Moto-Account-Id": some.just("999999999999"),
        "Versionid": some.just("1"),
    },
)
PATHS = some.sampled_from(
    [
        "/",
        "/porter-room/",
        "/porter-room/theirs",
        "/moto-api/data.json",
        "/latest/meta-data/iam",
        "/2015-03-31/functions/victim",
        "/2015-03-31/functions",
        "/endpoints/x/invocations/",
        "/porter-room%2Ftheirs",
        "/porter-room%3Fpolicy",
        "/v20180820/x",
    ]
)


@some.composite
def requests(draw):
    """(service, method, path, query, headers, body, the way it is signed)"""
    service, method, path, headers, body = draw(some.sampled_from(WHOLE))
    seldom = some.integers(0, 4).map(lambda n: n == 0)
    if draw(seldom):
        service = draw(some.sampled_from([*TABLE, "autoscaling"]))
    if draw(seldom):
        method = draw(some.sampled_from(["POST", "GET", "PUT", "DELETE", "HEAD", "PATCH", "OPTIONS"]))
    path = draw(PATHS) if draw(seldom) else path
    query = "&".join(draw(some.lists(PAIRS | KEYS, max_size=3))) if draw(seldom) else ""
    headers = headers | draw(HEADERS)
    if draw(seldom):
        body = draw(some.lists(PAIRS, max_size=5).map("&".join) | JSONS | some.sampled_from(["", "{half", "<Delete/>"]))
    elif draw(seldom):
        body += draw(some.sampled_from(["&", ""])) + draw(PAIRS)
    way = draw(some.sampled_from(["two", "twice", "none"])) if draw(seldom) else "header"
    return service, method, path, query, headers, body, way


def put_together(service, way, key, headers):
    """The headers with a signature in them, or with what looks like one."""
    if way == "header":
        return headers | signed(key, service)
    if way == "two":
        return headers | {"Authorization": TWO.format(key=key)}
    if way == "twice":
        return headers | {"Authorization": ",".join(signed(key, one)["Authorization"] for one in (service, "sts"))}
    return headers


def packed(headers, body):
    return gzip.compress(body.encode()) if headers.get("Content-Encoding") == "gzip" else body.encode()


def environ_of(method, path, query, headers, body):
    from werkzeug.test import EnvironBuilder

    made = EnvironBuilder(method=method, path="/", headers=headers, input_stream=io.BytesIO(body)).get_environ()
    made |= {"PATH_INFO": unquote(path), "QUERY_STRING": query, "RAW_URI": f"{path}?{query}"}
    return made | {"HTTP_HOST": "127.0.0.1:1", "CONTENT_LENGTH": str(len(body))}


def as_moto_reads(environ, call):
    """(its host, which tells the service; its response object with operation and parameters; its request)"""
    from moto.core.responses import BaseResponse
    from moto.moto_server.werkzeug_app import BackendRequest, DomainDispatcherApplication

    host = DomainDispatcherApplication(lambda _: None).infer_service_region_host(environ, environ["PATH_INFO"])
    response = BaseResponse(service_name=call.model)
    response.use_raw_body = call.rest  # as moto's S3 and our runtime have it
    seen = BackendRequest(environ)
    response.setup_class(seen)
    return host, response, seen


def reading(service, method, path, query):
    """The operation that a request is taken for, or the status with which it is refused."""
    environ = environ_of(method, path, query, signed("ASIA" + "A" * 16, service), b"")
    try:
        return parsing.resolve_operation(parsing.read(environ)).operation
    except error_responses.RequestRefused as no:
        return no.reply[0]


@pytest.mark.parametrize(
    ("service", "method", "path", "query", "expected"),
    [
        ("s3", "DELETE", "/room", "policy", "DeleteBucketPolicy"),
        ("s3", "DELETE", "/room", "policy=x", "DeleteBucketPolicy"),
        ("s3", "DELETE", "/room", "analytics", 400),  # it takes an id, too
        ("s3", "PUT", "/room/x", "renameObject", 400),  # it takes a header, too
        ("s3", "GET", "/room", "policy&acl", 400),
        ("s3", "PUT", "/room/x", "uploads", 400),
        ("lambda", "DELETE", "/2015-03-31/functions/own", "", "DeleteFunction"),
        ("lambda", "DELETE", "/2015-03-31/functions/own/theirs", "", "?"),
    ],
)
def test_request_names_the_exact_operation(service, method, path, query, expected):
    """A sub-resource's operation is never taken for that of its resource."""
    assert reading(service, method, path, query) == expected


COUNT = {"read": 0}


@settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(requests())
def check_moto_reads_the_same(one):
    service, method, path, query, headers, body, way = one
    key = "ASIA" + "A" * 16
    sent = put_together(service, way, key, headers)
    environ = environ_of(method, path, query.format(key=key), sent, packed(headers, body))
    try:
        call = parsing.read(environ)
        if not call.key or call.region != "us-east-1":
            return
        call = parsing.resolve_operation(call)
        if call.operation not in TABLE.get(call.service, ("", "", {}))[2]:
            return
        asked = parameters.read(call)
    except error_responses.RequestRefused:
        return
    COUNT["read"] += 1
    host, response, seen = as_moto_reads(parsing.build_moto_environ(call, asked), call)
    assert re.fullmatch(rf"((api|runtime)\.)?{call.service}\.us-east-1\.amazonaws\.com", host)
    assert response._get_action() in (call.operation, None)  # None: it does not answer that at all
    assert (response.region, seen.method) == ("us-east-1", method)
    assert seen.path == call.path or not call.rest
    own = {*call.form, *(call.route.query if call.rest else ()), *(call.route.literal if call.rest else ()), "x-id"}
    assert set(response.querystring) <= own
    if call.protocol == "json":
        assert json.loads(response.body) == asked
    assert dict(seen.form) == call.form
    assert not {"x-http-method-override", "x-moto-account-id", "action", "user-agent"} & {
        n.lower() for n, _ in seen.headers
    }


def test_moto_parses_requests_the_same_way():
    check_moto_reads_the_same()
    assert COUNT["read"] > 100  # most are refused; these were not

"""The handler by itself: the original's answer, to the letter, and refusals that name no secret."""

import io
import json

import handler
import pytest
from botocore.exceptions import ClientError

SCORES = [-17.59284019470215, -9.236837387084961, 0.25]


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    for name, value in {"BUCKET": "b", "PREFIX": "images/", "ENDPOINT": "e"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(
        handler,
        "endpoint",
        Endpoint(
            {"release": "r", "best": "x", "classes": ["a", "b", "x"], "scores": SCORES, "probabilities": [0, 0, 1]}
        ),
    )


class Endpoint:
    def __init__(self, answer):
        self.answer = answer

    def invoke_endpoint(self, **asked):
        if isinstance(self.answer, Exception):
            raise self.answer
        return {"ContentType": "application/json", "Body": io.BytesIO(json.dumps(self.answer).encode())}


def test_original_response_format_is_kept(monkeypatch):
    """As in the project this one replaces: these keys, scores in a list in a list, as a text."""
    monkeypatch.setenv("RESPONSE", "original")
    assert handler.lambda_handler({"image": "eA=="}, None) == {
        "statusCode": 200,
        "headers": {"Content-Type": "text/plain", "Access-Control-Allow-Origin": "*"},
        "type-result": "<class 'str'>",
        "Content-Type-In": "application/json",
        "body": "[[-17.59284019470215, -9.236837387084961, 0.25]]",
    }


def test_default_response_is_json():
    answer = handler.lambda_handler({"image": "eA=="}, None)
    assert (answer["statusCode"], answer["headers"]) == (200, {"Content-Type": "application/json"})
    assert json.loads(answer["body"])["best"] == "x"


def failing(code, **more):
    return ClientError({"Error": {"Code": code, "Message": "secret internals"}, **more}, "InvokeEndpoint")


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (failing("ModelError", OriginalStatusCode=400, OriginalMessage="not a picture"), 400),
        (failing("ModelError", OriginalStatusCode=500), 502),
        (failing("ModelError", OriginalStatusCode=503), 503),
        (failing("ThrottlingException"), 503),
        (failing("ServiceUnavailable"), 503),
        (failing("ValidationError"), 502),
    ],
)
def test_endpoint_errors_become_http_without_details(monkeypatch, error, status):
    monkeypatch.setattr(handler, "endpoint", Endpoint(error))
    answer = handler.lambda_handler({"image": "eA=="}, None)
    assert answer["statusCode"] == status
    assert "secret" not in answer["body"]


@pytest.mark.parametrize(
    "uri", ["s3://b/other/x", "s3://bb/images/x", "https://b/images/x", "s3://b/images/../jobs/x", "s3://b", ""]
)
def test_only_the_own_bucket_and_prefix_are_read(uri):
    assert handler.lambda_handler({"s3_uri": uri}, None)["statusCode"] == 403


def test_oversized_event_is_rejected():
    assert handler.lambda_handler({"image": "A" * (8 << 20)}, None)["statusCode"] == 413


def test_url_is_not_fetched():
    answer = handler.lambda_handler({"url": "file:///proc/self/environ"}, None)
    assert (answer["statusCode"], "not enabled" in answer["body"]) == (400, True)

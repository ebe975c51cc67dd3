"""The handler by itself: the original's answer, to the letter, and refusals that name no secret."""

import io
import json

import handler
import pytest
from botocore.exceptions import ClientError, ReadTimeoutError

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


@pytest.mark.parametrize(
    "text",
    [
        "_-8=", "/+8", "data:image/png;base64,/+8=", "DATA:;base64,/+8=", "/+\r\n8=\n", " /+8= ", "/+8==",
    ],
)  # fmt: skip
def test_image_is_taken_in_each_spelling_of_base64(text):
    assert handler.decode_base64(text) == b"\xff\xef"


@pytest.mark.parametrize(
    ("text", "status", "reason"),
    [
        ("", 400, "image is empty"),
        ("data:image/png;base64,", 400, "image is empty"),
        ("not base64!", 400, "image is not base64"),
        ("A", 400, "image is not base64"),
        ("é", 400, "image is not base64"),
        ("A" * 6_291_456, 413, "send it by s3_uri"),
    ],
)
def test_bad_image_text_is_refused_with_its_reason(text, status, reason):
    refused = handler.lambda_handler({"image": text}, None)
    assert refused["statusCode"] == status
    assert reason in json.loads(refused["body"])["error"]


@pytest.mark.parametrize(
    ("status", "sent", "answered", "reason"),
    [
        (400, '{"error": "not a readable PNG or JPEG: it is WebP"}', 400, "not a readable PNG or JPEG: it is WebP"),
        (503, "no healthy instance", 503, "no healthy instance; try again"),
        (503, '{"error": "the queue is full"}', 503, "the queue is full; try again"),
        (503, "", 503, "the endpoint is busy; try again"),
        (400, '{"other": 1}', 400, '{"other": 1}'),
    ],
)
def test_server_reason_is_passed_on_once(monkeypatch, status, sent, answered, reason):
    error = ClientError(
        {"Error": {"Code": "ModelError"}, "OriginalStatusCode": status, "OriginalMessage": sent}, "InvokeEndpoint"
    )
    monkeypatch.setattr(handler, "endpoint", Endpoint(error))
    refused = handler.lambda_handler({"image": "eA=="}, None)
    assert (refused["statusCode"], json.loads(refused["body"])["error"]) == (answered, reason)


def test_slow_s3_is_answered_with_504(monkeypatch):
    class SlowS3:
        def get_object(self, **asked):
            raise ReadTimeoutError(endpoint_url="https://s3")

    monkeypatch.setattr(handler, "s3", SlowS3())
    answer = handler.lambda_handler({"s3_uri": "s3://b/images/x"}, None)
    assert (answer["statusCode"], json.loads(answer["body"])["error"]) == (504, "S3 did not answer in time")

"""The handler by itself: its events and answers, the original's answer to the letter, and a status for all that fails."""

import base64
import http.client
import io
import json
import random
import threading
import time

import handler
import pytest
from botocore import exceptions
from botocore.exceptions import ClientError, ReadTimeoutError
from events import decode_base64

from tests.conftest import ROOT

SCORES = [-17.59284019470215, -9.236837387084961, 0.25]
SENT = {"release": "r", "best": "x", "classes": ["a", "b", "x"], "scores": SCORES, "probabilities": [0.0, 0.25, 0.75]}
PNG = b"\x89PNG\r\n\x1a\n" + b"x" * 20
ENCODED = base64.b64encode(PNG).decode()


class Context:
    aws_request_id = "request-1"

    def __init__(self, seconds=10.0):
        self.seconds = seconds

    def get_remaining_time_in_millis(self):
        return int(self.seconds * 1000)

    def __repr__(self):
        return "LambdaContext([aws_request_id=request-1])"


class Endpoint:
    """Answers each call with the next of `answers`, and then with the last one. A function is called, an error raised."""

    def __init__(self, *answers):
        self.answers, self.bodies = list(answers), []

    def invoke_endpoint(self, **asked):
        self.bodies.append(asked["Body"])
        return {"ContentType": "application/json", "Body": self.take()}

    def get_object(self, **asked):
        self.bodies.append(asked["Key"])
        return {"Body": self.take()}

    def take(self):
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        if callable(answer):
            return answer()
        return io.BytesIO(answer if isinstance(answer, bytes) else json.dumps(answer).encode())


@pytest.fixture(autouse=True)
def endpoint(monkeypatch):
    variables = {"BUCKET": "b", "PREFIX": "images/", "ENDPOINT": "e", "RESPONSE": "plain", "URLS": "off"}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    found = Endpoint(SENT)
    monkeypatch.setattr(handler, "endpoint", found)
    monkeypatch.setattr(handler, "s3", Endpoint(PNG))
    return found


def ask(event, seconds=10.0):
    """Return status and body of the answer, which must be an HTTP answer that is strict JSON."""
    answer = handler.lambda_handler(event, Context(seconds))
    body = json.loads(answer["body"], parse_constant=pytest.fail)
    json.dumps(answer, allow_nan=False).encode()
    if answer["statusCode"] != 200:
        assert list(body) == ["error", "message", "request_id"]
        assert body["request_id"] == "request-1"
    assert ("Retry-After" in answer["headers"]) == (answer["statusCode"] == 503)
    return answer["statusCode"], body


def test_original_answer_is_kept_to_the_letter(monkeypatch):
    """As in the project that this one replaced, with the 133 scores of its own answer."""
    recorded = (ROOT / "tests/golden/original-answer.json").read_text().strip()
    scores = json.loads(recorded)[0]
    names = [f"{number:03}" for number in range(133)]
    sent = {"release": "r", "classes": names, "scores": scores, "probabilities": [0.0] * 133}
    monkeypatch.setenv("RESPONSE", "original")
    monkeypatch.setattr(handler, "endpoint", Endpoint(sent))
    assert len(scores) == 133
    answer = handler.lambda_handler({"image": ENCODED}, Context())
    assert list(answer.items()) == [
        ("statusCode", 200),
        ("headers", {"Content-Type": "text/plain", "Access-Control-Allow-Origin": "*"}),
        ("type-result", "<class 'str'>"),
        ("Content-Type-In", "LambdaContext([aws_request_id=request-1])"),
        ("body", recorded),
    ]


def test_plain_answer_names_the_class_and_where_time_went():
    answer = handler.lambda_handler({"image": ENCODED}, Context())
    body = json.loads(answer["body"])
    timings = body.pop("timings_ms")
    assert (answer["statusCode"], answer["headers"]) == (200, {"Content-Type": "application/json"})
    assert body == {
        "class": "x", "probability": 0.75, "release": "r", "request_id": "request-1",
        "top": [{"class": "x", "probability": 0.75}, {"class": "b", "probability": 0.25}, {"class": "a", "probability": 0.0}],
    }  # fmt: skip
    assert sorted(timings) == ["endpoint", "read"]


@pytest.mark.parametrize("certain", [True, False])
def test_answer_says_whether_the_release_is_certain(monkeypatch, certain):
    monkeypatch.setattr(handler, "endpoint", Endpoint({**SENT, "certain": certain}))
    assert ask({"image": ENCODED})[1]["certain"] is certain


def http_v1(body, content_type="application/json", encoded=False):
    return {
        "resource": "/", "path": "/", "httpMethod": "POST", "headers": None, "multiValueHeaders": {"Content-Type": [content_type]},
        "requestContext": {"stage": "prod"}, "body": body, "isBase64Encoded": encoded,
    }  # fmt: skip


def http_v2(body, content_type="application/json", encoded=False):
    return {
        "version": "2.0", "rawPath": "/", "headers": {"content-type": content_type},
        "requestContext": {"http": {"method": "POST", "path": "/"}}, "body": body, "isBase64Encoded": encoded,
    }  # fmt: skip


def s3_record(key):
    return {"eventSource": "aws:s3", "s3": {"bucket": {"name": "b"}, "object": {"key": key}}}


def sqs_record(identity, *keys):
    body = json.dumps({"Records": [s3_record(key) for key in keys]})
    return {"eventSource": "aws:sqs", "messageId": identity, "body": body}


AS_JSON = json.dumps({"image": ENCODED})
AS_JSON_ENCODED = base64.b64encode(AS_JSON.encode()).decode()


@pytest.mark.parametrize(
    "event",
    [
        {"image": ENCODED},
        {"image": f"data:image/png;base64,{ENCODED}"},
        {"s3_uri": "s3://b/images/x.png"},
        http_v1(AS_JSON),
        http_v1(AS_JSON_ENCODED, encoded=True),
        http_v1(ENCODED, "image/png", encoded=True),
        http_v2(AS_JSON),
        http_v2(AS_JSON, "application/json; charset=utf-8"),
        http_v2(AS_JSON_ENCODED, encoded=True),
        http_v2(ENCODED, "image/png", encoded=True),
        http_v2(ENCODED, "application/octet-stream", encoded=True),
        http_v2(ENCODED, "", encoded=True),
        http_v2(json.dumps({"s3_uri": "s3://b/images/x.png"})),
    ],
    ids=range(13),
)
def test_one_picture_is_read_from_each_kind_of_event(event, endpoint):
    status, body = ask(event)
    assert (status, body["class"], endpoint.bodies) == (200, "x", [PNG])


@pytest.mark.parametrize(
    "event",
    [
        [{"image": ENCODED}] * 3,
        {"images": [ENCODED] * 3},
        {"images": [{"image": ENCODED}, ENCODED, {"s3_uri": "s3://b/images/x.png"}]},
        http_v2(json.dumps({"images": [ENCODED] * 3})),
        http_v1(json.dumps([{"image": ENCODED}] * 3)),
        {"Records": [s3_record("images/x.png")] * 3},
        {"Records": [sqs_record("1", "images/x.png"), sqs_record("2", "images/y.png", "images/z.png")]},
    ],
    ids=["list", "images", "mixed", "v2", "v1", "s3", "sqs"],
)
def test_lists_are_answered_picture_by_picture(event, endpoint):
    status, body = ask(event)
    assert (status, [(one["status"], one["class"]) for one in body["answers"]]) == (200, [(200, "x")] * 3)
    assert endpoint.bodies == [PNG] * 3


def test_keys_of_records_are_decoded(endpoint):
    ask({"Records": [s3_record("images/a+b%C3%A9.png")]})
    assert handler.s3.bodies == ["images/a bé.png"]


def test_each_picture_of_a_list_has_its_own_error(monkeypatch):
    busy = failing("ThrottlingException")
    monkeypatch.setattr(handler, "endpoint", Endpoint(SENT, busy, {**SENT, "release": "s"}))
    wrong = [{"s3_uri": "s3://other/x"}, {}, 5, {"image": 5}, "no!"]
    status, body = ask({"images": [ENCODED, ENCODED, *wrong, ENCODED]})
    assert (status, body["request_id"]) == (200, "request-1")
    assert [one["status"] for one in body["answers"]] == [200, 503, 403, 400, 400, 400, 400, 200]
    assert [one.get("error") for one in body["answers"][:3]] == [None, "busy", "forbidden"]
    assert body["answers"][-1]["release"] == "s"


@pytest.mark.parametrize("count", [0, 17])
def test_list_has_one_to_sixteen_pictures(count, endpoint):
    assert ask([{"image": ENCODED}] * count)[0] == 400
    assert endpoint.bodies == []


def test_failed_messages_of_a_queue_are_named(monkeypatch):
    """SQS delivers those again that a server failed; those that are wrong would fail again."""
    monkeypatch.setattr(handler, "endpoint", Endpoint(SENT, failing("ThrottlingException"), SENT))
    records = [
        sqs_record("right", "images/x"),
        sqs_record("busy", "images/x", "images/y"),
        sqs_record("wrong", "jobs/x"),
    ]
    answer = handler.lambda_handler({"Records": [*records, {"eventSource": "aws:sqs", "body": "no"}]}, Context())
    assert answer["batchItemFailures"] == [{"itemIdentifier": "busy"}]


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (http_v2(None), "has no body"),
        (http_v2(""), "has no body"),
        (http_v2("{"), "is not JSON"),
        (http_v2("[" * 100_000), "is not JSON"),
        (http_v2("\x89PNG", "image/png"), "destroys it"),
        (http_v2("a=b", "multipart/form-data; boundary=x"), "is not JSON"),
        (http_v2(json.dumps(http_v2(AS_JSON))), "with one of"),
        (http_v2("!", encoded=True), "not base64"),
        ({"Records": []}, "no records"),
        ({"images": {}}, "must be a list"),
        ({"images": None}, "must be a list"),
        ({"image": ENCODED, "s3_uri": "s3://b/images/x"}, "with one of"),
        ({"image": None}, "must be text"),
        ({}, "with one of"),
        (None, "an object or a list"),
        ("x", "an object or a list"),
    ],
    ids=range(16),
)
def test_event_without_picture_is_refused_with_its_reason(event, reason, endpoint):
    status, body = ask(event)
    assert (status, body["error"]) == (400, "bad_request")
    assert reason in body["message"]
    assert endpoint.bodies == []


def failing(code, **more):
    return ClientError({"Error": {"Code": code, "Message": "secret internals"}, **more}, "InvokeEndpoint")


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (failing("ModelError", OriginalStatusCode=400, OriginalMessage="not a picture"), 400),
        (failing("ModelError", OriginalStatusCode=413), 413),
        (failing("ModelError", OriginalStatusCode=415), 400),
        (failing("ModelError", OriginalStatusCode=429), 503),
        (failing("ModelError", OriginalStatusCode=500), 502),
        (failing("ModelError", OriginalStatusCode=503), 503),
        (failing("ModelError", OriginalStatusCode="400"), 502),
        (failing("ThrottlingException"), 503),
        (failing("ServiceUnavailable"), 503),
        (failing("ValidationError"), 502),
        (ClientError({}, "InvokeEndpoint"), 502),
        (exceptions.EndpointConnectionError(endpoint_url="https://secret"), 502),
        (exceptions.ConnectTimeoutError(endpoint_url="https://secret"), 504),
        (exceptions.ReadTimeoutError(endpoint_url="https://secret"), 504),
        (exceptions.NoCredentialsError(), 502),
    ],
    ids=range(15),
)  # fmt: skip
def test_endpoint_errors_become_http_without_details(monkeypatch, error, status):
    endpoint = Endpoint(error)
    monkeypatch.setattr(handler, "endpoint", endpoint)
    answered, body = ask({"image": ENCODED})
    assert answered == status
    assert "secret" not in json.dumps(body)
    assert endpoint.bodies == [PNG]  # asked once


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (failing("NoSuchKey"), 404), (failing("AccessDenied"), 404), (failing("SlowDown"), 503), (failing("InternalError"), 502),
        (ClientError({}, "GetObject"), 502), (ReadTimeoutError(endpoint_url="https://s3"), 504),
        (exceptions.ConnectTimeoutError(endpoint_url="https://s3"), 504), (exceptions.EndpointConnectionError(endpoint_url="https://s3"), 502),
        (exceptions.IncompleteReadError(actual_bytes=1, expected_bytes=2), 502), (exceptions.ResponseStreamingError(error="cut"), 502),
        (http.client.IncompleteRead(b""), 502), (OSError("reset"), 502),
    ],
    ids=range(12),
)  # fmt: skip
def test_s3_errors_become_http_without_details(monkeypatch, error, status):
    monkeypatch.setattr(handler, "s3", Endpoint(error))
    answered, body = ask({"s3_uri": "s3://b/images/x"})
    assert answered == status
    assert "secret" not in json.dumps(body)


@pytest.mark.parametrize(
    "uri", ["s3://b/other/x", "s3://bb/images/x", "https://b/images/x", "s3://b/images/../jobs/x", "s3://b", ""]
)
def test_only_the_own_bucket_and_prefix_are_read(uri):
    assert ask({"s3_uri": uri})[0] == 403
    assert handler.s3.bodies == []


@pytest.mark.parametrize("key", ["\ud800", "x" * 1024, "é" * 512], ids=["surrogate", "long", "long in UTF-8"])
def test_key_that_s3_cannot_have_is_refused(key):
    assert ask({"s3_uri": f"s3://b/images/{key}"})[0] == 400


def test_oversized_picture_of_s3_is_refused(monkeypatch):
    monkeypatch.setattr(handler, "s3", Endpoint(b"x" * (handler.PICTURE_BYTES + 1)))
    assert ask({"s3_uri": "s3://b/images/x"})[0] == 413


def test_url_is_not_fetched_unless_enabled(monkeypatch):
    fetched = []
    monkeypatch.setattr(handler, "fetch_picture", lambda url, allowed, most, deadline: fetched.append(allowed) or PNG)
    status, body = ask({"url": "https://pictures.example/x.png"})
    assert (status, "not enabled" in body["message"], fetched) == (400, True, [])
    monkeypatch.setenv("URLS", "pictures.example")
    assert (ask({"url": "https://pictures.example/x.png"})[0], fetched) == (200, ["pictures.example"])


@pytest.mark.parametrize(
    "text",
    [
        "_-8=", "/+8", "data:image/png;base64,/+8=", "DATA:;base64,/+8=", "/+\r\n8=\n", " /+8= ", "/+8==",
    ],
)  # fmt: skip
def test_image_is_taken_in_each_spelling_of_base64(text):
    assert decode_base64(text) == b"\xff\xef"


@pytest.mark.parametrize(
    ("text", "status", "reason"),
    [
        ("", 400, "image is empty"),
        ("data:image/png;base64,", 400, "image is empty"),
        ("not base64!", 400, "image is not base64"),
        ("A", 400, "image is not base64"),
        ("é", 400, "image is not base64"),
        ("\ud800", 400, "image is not base64"),
        ("A" * 6_291_456, 413, "send it by s3_uri"),
    ],
    ids=range(7),
)
def test_bad_image_text_is_refused_with_its_reason(text, status, reason):
    answered, body = ask({"image": text})
    assert answered == status
    assert reason in body["message"]


@pytest.mark.parametrize(
    ("status", "sent", "answered", "reason"),
    [
        (400, '{"error": "not a readable PNG or JPEG: it is WebP"}', 400, "not a readable PNG or JPEG: it is WebP"),
        (503, "no healthy instance", 503, "no healthy instance; try again"),
        (503, '{"error": "the queue is full; try again"}', 503, "the queue is full; try again"),
        (503, "", 503, "the endpoint is busy; try again"),
        (400, '{"other": 1}', 400, '{"other": 1}'),
    ],
)
def test_server_reason_is_passed_on_once(monkeypatch, status, sent, answered, reason):
    monkeypatch.setattr(
        handler, "endpoint", Endpoint(failing("ModelError", OriginalStatusCode=status, OriginalMessage=sent))
    )
    found, body = ask({"image": ENCODED})
    assert (found, body["message"]) == (answered, reason)


class Drip:
    """A body whose bytes never end, slowly: no time-out of a socket ever passes."""

    def __init__(self):
        self.ended = threading.Event()

    def read(self, amount):
        self.ended.wait(5)
        return b""


@pytest.mark.parametrize(
    ("client", "event"),
    [("endpoint", {"image": ENCODED}), ("s3", {"s3_uri": "s3://b/images/x"}), ("endpoint", {"images": [ENCODED] * 16})],
    ids=["endpoint", "s3", "list"],
)
def test_slow_answer_is_given_up_before_the_time_limit(monkeypatch, client, event):
    drip = Drip()
    monkeypatch.setattr(handler, client, Endpoint(lambda: drip))
    began = time.monotonic()
    status, body = ask(event, seconds=0.8)
    drip.ended.set()
    assert time.monotonic() - began < 0.8
    statuses = [one["status"] for one in body["answers"]] if status == 200 else [status]
    assert set(statuses) == {504}


def test_slow_picture_leaves_time_to_the_endpoint(monkeypatch):
    """Reading has half of the time at most, so that what is left is enough to answer."""
    given = []
    monkeypatch.setenv("URLS", "public")
    monkeypatch.setattr(
        handler, "fetch_picture", lambda url, allowed, most, deadline: given.append(deadline.remaining()) or PNG
    )
    for seconds in (4.4, 30.4):
        ask({"url": "https://a.example/x"}, seconds)
    assert given == pytest.approx([2.0, 25.0], abs=0.2)


def test_nothing_is_asked_without_time(endpoint):
    assert ask({"image": ENCODED}, seconds=0.1)[0] == 504
    assert endpoint.bodies == []


def test_fault_of_the_handler_is_answered_and_logged(monkeypatch, capsys):
    monkeypatch.delenv("ENDPOINT")
    assert ask({"image": ENCODED})[0] == 500
    assert "KeyError: 'ENDPOINT'" in capsys.readouterr().err


def nest(depth):
    return b"[" * depth + b"]" * depth


def build_odd_answers():
    """Return 100 bodies that are not the endpoint's answer."""
    draw = random.Random(7)
    wrong = (
        None,
        True,
        5,
        "x",
        [],
        {},
        [None],
        ["a", "b", 3],
        [1, 2],
        [True, 1, 2],
        [1, 2, "3"],
        [[1], 2, 3],
        [10**400, 1, 2],
    )
    changed = [{**SENT, name: value} for name in ("classes", "scores", "probabilities") for value in wrong]
    changed += [{**SENT, "release": value} for value in (None, 5, [], {})] + [
        {**SENT, "certain": value} for value in (0, 1.0, "true", [])
    ]
    changed += [{key: value for key, value in SENT.items() if key != name} for name in SENT if name != "best"]
    plain = [json.dumps(one).encode() for one in [*changed, None, 5, "x", [], {}, [SENT]]]
    text = json.dumps(SENT).encode()
    numbers = [
        text.replace(b"0.25", word)
        for word in (b"NaN", b"Infinity", b"-Infinity", b"1e999", b"-1e999", b"null", b'"0"')
    ]
    broken = [
        b"",
        b" ",
        b"\xff\xfe",
        b"<html>",
        b"{",
        text[:-1],
        text + b"x",
        nest(100_000),
        b'{"a":' * 50_000,
        b"\x00" * 9,
    ]
    broken += [text.replace(b'"r"', nest(5_000)), b"x" * (2 << 20), b'"' + b"a" * (2 << 20)]
    found = plain + numbers + broken
    while len(found) < 100:
        found.append(text[: draw.randrange(1, len(text) - 1)])
    return found


def test_odd_answers_of_the_endpoint_are_bad_gateways(monkeypatch):
    odd = build_odd_answers()
    assert len(odd) >= 100
    monkeypatch.setattr(handler, "endpoint", Endpoint(*odd))
    for number, body in enumerate(odd):
        assert ask({"image": ENCODED})[0] == 502, (number, body[:100])


def test_class_name_may_be_any_text(monkeypatch):
    monkeypatch.setattr(handler, "endpoint", Endpoint({**SENT, "classes": ["a", "b", "\ud800"]}))
    assert ask({"image": ENCODED})[1]["class"] == "\ud800"


def draw_value(draw, depth=0):
    """Return a random JSON value in which the names that the handler knows are common."""
    kind = draw.randrange(12 if depth < 4 else 7)
    if kind < 7:
        return draw.choice([
            None, True, 0, -1, 10**400, 1e308, float("nan"), "", "\ud800", "a" * 3000, ENCODED, "s3://b/images/x", "s3://b/images/\ud800",
            "https://169.254.169.254/", "aws:sqs", "aws:s3", "{}", json.dumps({"Records": [s3_record("images/x")]}), "[" * 9999, "images/%ff",
        ])  # fmt: skip
    if kind < 9:
        return [draw_value(draw, depth + 1) for _ in range(draw.randrange(4))]
    names = ("url", "s3_uri", "image", "images", "Records", "body", "requestContext", "httpMethod", "headers", "multiValueHeaders",
             "isBase64Encoded", "eventSource", "messageId", "s3", "bucket", "object", "name", "key", "content-type")  # fmt: skip
    return {draw.choice(names): draw_value(draw, depth + 1) for _ in range(draw.randrange(5))}


def test_random_events_never_end_in_a_function_error(monkeypatch, capsys):
    draw, statuses = random.Random(16), set()
    monkeypatch.setenv("URLS", "public")
    for _ in range(500):
        event = draw_value(draw)
        status = ask(event)[0]
        assert status in (200, 400, 403), event
        statuses.add(status)
    assert statuses == {200, 400, 403}
    assert "Traceback" not in capsys.readouterr().err

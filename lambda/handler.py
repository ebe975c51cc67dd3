"""The function in front of the endpoint: it reads the event's pictures, invokes the endpoint, and returns JSON.

events.py says what an event may be. Whatever fails is answered with a status and a reason, never with a function error.
"""

import json
import os
import time
import traceback
from collections.abc import Callable
from typing import Any

import botocore.session
from botocore.config import Config
from botocore.exceptions import ClientError, ConnectTimeoutError, ReadTimeoutError

from answers import Answer, build_body, format_original, parse_answer
from deadline import Deadline, Value, call_within
from events import Picture, Request, decode_base64, read_event
from fetch import fetch_picture
from http_error import HttpError

PICTURE_BYTES = 5 << 20  # below InvokeEndpoint's 6,291,456, above any sensible photograph
ANSWER_BYTES = 1 << 20
MARGIN_S = 0.4  # for the way back, before Lambda's time limit
INVOKE_S = (
    5.0  # of the remaining time, what reading a picture leaves to the endpoint; less when there is less than twice that
)
RETRY_AFTER_S = 1
BUSY = (
    "TooManyRequestsException",
    "ServiceUnavailable",
    "ModelNotReadyException",
    "SlowDown",
    "InternalDependencyException",
)
MISSING = ("NoSuchKey", "AccessDenied", "404", "403")

# Made once per environment, of botocore: boto3 takes longer to import. A retry would run the model again: one attempt.
_config = Config(connect_timeout=3, read_timeout=20, retries={"mode": "standard", "total_max_attempts": 1})
_session = botocore.session.get_session()
endpoint = _session.create_client("sagemaker-runtime", config=_config)
s3 = _session.create_client("s3", config=_config)


def lambda_handler(event: Any, context: Any) -> dict[str, Any]:
    """Return the answer to an event in the form of API Gateway: statusCode, headers, and the body as text."""
    request_id = str(getattr(context, "aws_request_id", ""))
    try:
        deadline = Deadline(context.get_remaining_time_in_millis() / 1000 - MARGIN_S)
        answer = answer_event(event, context, request_id, deadline)
    except HttpError as error:
        answer = format_error(error, request_id)
    except Exception:  # a fault of this code: the log has it, the caller a status
        traceback.print_exc()
        answer = format_error(HttpError(500, "the function failed; its log has the reason"), request_id)
    print(json.dumps({"request_id": request_id, "status": answer["statusCode"]}))
    return answer


def answer_event(event: Any, context: Any, request_id: str, deadline: Deadline) -> dict[str, Any]:
    request = read_event(event)
    if request.is_list:
        return answer_list(request, request_id, deadline)
    answer = classify(request.pictures[0], deadline)
    if os.environ["RESPONSE"] == "original":
        return format_original(answer, context)
    return format_response(200, build_body(answer, request_id))


def answer_list(request: Request, request_id: str, deadline: Deadline) -> dict[str, Any]:
    """Return the answers in the order of the pictures, each with its own status. One picture is asked about at a time."""
    answers: list[dict[str, Any]] = []
    for picture in request.pictures:
        try:
            answers.append({"status": 200, **build_body(classify(picture, deadline), request_id)})
        except HttpError as error:
            answers.append({"status": error.status, **error.describe(request_id)})
    response = format_response(200, {"answers": answers, "request_id": request_id})
    if request.is_queue:  # SQS delivers these again
        pairs = zip(request.pictures, answers, strict=True)
        failed = {picture.message_id for picture, answer in pairs if answer["status"] >= 500 and picture.message_id}
        response["batchItemFailures"] = [{"itemIdentifier": identity} for identity in sorted(failed)]
    return response


def classify(picture: Picture, deadline: Deadline) -> Answer:
    """Return the endpoint's answer to a picture. Raises HttpError."""
    if picture.error:
        raise picture.error
    began = time.monotonic()
    left = deadline.remaining()
    data = read_picture(picture, Deadline(left - min(INVOKE_S, left / 2)))
    read = time.monotonic()
    body = invoke_endpoint(data, deadline)
    ended = time.monotonic()
    timings = {"read": round((read - began) * 1000), "endpoint": round((ended - read) * 1000)}
    try:
        return parse_answer(body, timings)
    except ValueError as error:
        print(f"The endpoint's answer cannot be used: {error!a}")
        raise HttpError(502, "the endpoint's answer cannot be used") from error


def read_picture(picture: Picture, deadline: Deadline) -> bytes:
    """Return the bytes of a picture. Raises HttpError."""
    if picture.name == "s3_uri":
        return read_s3_object(picture.value, deadline)
    if picture.name == "image":
        return decode_base64(picture.value)
    if picture.name == "url":
        allowed = os.environ["URLS"]
        if allowed == "off":
            raise HttpError(400, "fetching a url is not enabled (setting fn.urls); send s3_uri or image")
        return fetch_picture(picture.value, allowed, PICTURE_BYTES, deadline)
    data: bytes = picture.value
    return data


def read_s3_object(uri: str, deadline: Deadline) -> bytes:
    """Read from the deployed bucket and prefix only: else callers could read all that the role can. Raises HttpError."""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    prefix = os.environ["PREFIX"]
    if not uri.startswith("s3://") or bucket != os.environ["BUCKET"] or not key.startswith(prefix) or ".." in key:
        raise HttpError(403, f"s3_uri must be below s3://{os.environ['BUCKET']}/{prefix}")
    if len(key.encode(errors="replace")) > 1024 or any("\ud800" <= letter <= "\udfff" for letter in key):
        raise HttpError(400, "s3_uri must have a key of at most 1,024 bytes in UTF-8")
    try:
        data = call_service("S3", deadline, lambda: read_body(s3.get_object(Bucket=bucket, Key=key), PICTURE_BYTES))
    except ClientError as error:
        raise translate_s3_error(error, uri) from error
    if len(data) > PICTURE_BYTES:
        raise HttpError(413, f"the picture has more than {PICTURE_BYTES} bytes")
    return data


def invoke_endpoint(data: bytes, deadline: Deadline) -> bytes:
    """Return the body of the endpoint's answer. Raises HttpError."""
    args = {"EndpointName": os.environ["ENDPOINT"], "ContentType": "application/x-image", "Accept": "application/json"}
    try:
        return call_service(
            "the endpoint", deadline, lambda: read_body(endpoint.invoke_endpoint(Body=data, **args), ANSWER_BYTES)
        )
    except ClientError as error:
        raise translate_endpoint_error(error) from error


def read_body(response: Any, most: int) -> bytes:
    """Return the body of a response, of which at most `most` bytes and one more are read."""
    data: bytes = response["Body"].read(most + 1)
    return data


def call_service(service: str, deadline: Deadline, function: Callable[[], Value]) -> Value:
    """Return what a call of the SDK returns. Raises its ClientError, and HttpError for what else the SDK or the network raises."""
    try:
        return call_within(deadline.remaining(), function)
    except ClientError:
        raise
    except (TimeoutError, ConnectTimeoutError, ReadTimeoutError) as error:
        raise HttpError(504, f"{service} did not answer in time") from error
    except Exception as error:  # the SDK's, urllib3's and the system's, whose names change between versions
        print(f"{service} did not answer: {error!a}")
        raise HttpError(502, f"{service} could not be reached, or broke off its answer") from error


def read_code(error: ClientError) -> str:
    found = error.response.get("Error")
    return str(found.get("Code", "")) if isinstance(found, dict) else ""


def translate_s3_error(error: ClientError, uri: str) -> HttpError:
    code = read_code(error)
    if code in MISSING:
        return HttpError(404, f"{uri} does not exist")
    if code in BUSY or code.startswith("Throttl"):
        return HttpError(503, "S3 is busy; try again")
    return HttpError(502, "S3 failed")


def translate_endpoint_error(error: ClientError) -> HttpError:
    """Map the endpoint's error to HTTP: 400 or 413 for its 4xx, 503 for throttling (the caller may retry), else 502."""
    code, status = read_code(error), error.response.get("OriginalStatusCode", 500)
    if code != "ModelError" or not isinstance(status, int):
        status = 500
    if status in (429, 503) or code.startswith("Throttl") or code in BUSY:
        return HttpError(503, f"{read_reason(error, 'the endpoint is busy').removesuffix('; try again')}; try again")
    if 400 <= status < 500:
        return HttpError(413 if status == 413 else 400, read_reason(error, "the picture was refused"))
    return HttpError(502, "the endpoint failed")


def read_reason(error: ClientError, otherwise: str) -> str:
    """Return the server's own reason, which it sends as {"error": REASON}, or `otherwise`."""
    sent = str(error.response.get("OriginalMessage", ""))[:4096]
    try:
        reason = json.loads(sent)["error"]
    except (ValueError, KeyError, TypeError, RecursionError):
        reason = sent
    return str(reason or otherwise)[:300]


def format_error(error: HttpError, request_id: str) -> dict[str, Any]:
    headers = {"Retry-After": str(RETRY_AFTER_S)} if error.status == 503 else {}
    return format_response(error.status, error.describe(request_id), headers)


def format_response(status: int, body: dict[str, Any], headers: dict[str, str] | None = None) -> dict[str, Any]:
    """Return a response of API Gateway and function URLs. Its body is ASCII, so that any text of a caller can stand in it."""
    return {
        "statusCode": status,
        "headers": {"Content-Type": "application/json", **(headers or {})},
        "body": json.dumps(body, allow_nan=False),
    }

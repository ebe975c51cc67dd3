"""The function in front of the endpoint: it reads the event's picture, invokes the endpoint, and returns JSON.

An event is {"s3_uri": "s3://BUCKET/PREFIX..."}, for the deployed bucket and prefix, or {"image": BASE64}.
"""

import base64
import binascii
import json
import os
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError, ConnectionError, HTTPClientError

PICTURE_BYTES = 5 << 20  # below InvokeEndpoint's 6,291,456, above any sensible photograph
IMAGE_BYTES = (6 << 20) * 3 // 4 - 1024  # what fits as base64 into Lambda's 6 MB, with the rest of the event
STANDARD_LETTERS = str.maketrans("-_", "+/")
READ_TIMEOUT_S = 10

# Made once per environment. A retry would run the model again: one attempt, shorter than the function's timeout.
_config = Config(connect_timeout=3, read_timeout=READ_TIMEOUT_S, retries={"mode": "standard", "total_max_attempts": 1})
endpoint = boto3.client("sagemaker-runtime", config=_config)
s3 = boto3.client("s3", config=_config)


class HttpError(Exception):
    """The request fails with an HTTP status and a reason for the caller."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


def lambda_handler(event: Any, context: Any) -> dict[str, Any]:
    try:
        content_type, answer = classify_picture(extract_picture(event))
    except HttpError as error:
        return format_response(error.status, {"error": str(error)})
    if os.environ.get("RESPONSE") == "original":
        return format_original_response(answer, content_type)
    return format_response(200, answer)


def extract_picture(event: Any) -> bytes:
    """Return the bytes of the event's picture. Raises HttpError."""
    if not isinstance(event, dict):
        raise HttpError(400, "the event must be an object")
    if isinstance(event.get("s3_uri"), str):
        return read_s3_object(event["s3_uri"])
    if isinstance(event.get("image"), str):
        return decode_base64(event["image"])
    if "url" in event:
        raise HttpError(400, "fetching a url is not enabled; send s3_uri or image")
    raise HttpError(400, "the event must have s3_uri or image")


def read_s3_object(uri: str) -> bytes:
    """Read from the deployed bucket and prefix only: else callers could read all that the role can. Raises HttpError."""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    prefix = os.environ["PREFIX"]
    if not uri.startswith("s3://") or bucket != os.environ["BUCKET"] or not key.startswith(prefix) or ".." in key:
        raise HttpError(403, f"s3_uri must be below s3://{os.environ['BUCKET']}/{prefix}")
    try:
        response = s3.get_object(Bucket=bucket, Key=key)
        data: bytes = response["Body"].read(PICTURE_BYTES + 1)
    except ClientError as error:
        if error.response["Error"]["Code"] in ("NoSuchKey", "AccessDenied"):
            raise HttpError(404, f"{uri} does not exist") from error
        raise HttpError(502, "S3 did not answer") from error
    except (ConnectionError, HTTPClientError) as error:
        raise HttpError(504, "S3 did not answer in time") from error
    if len(data) > PICTURE_BYTES:
        raise HttpError(413, f"the picture has more than {PICTURE_BYTES} bytes")
    return data


def decode_base64(text: str) -> bytes:
    """Decode base64 in each spelling that programs write: data URL, line breaks, URL-safe letters, no padding. Raises HttpError."""
    if text[:5].lower() == "data:":
        text = text.partition(",")[2]
    text = "".join(text.split()).translate(STANDARD_LETTERS).rstrip("=")
    if not text:
        raise HttpError(400, "image is empty")
    if len(text) * 3 // 4 > IMAGE_BYTES:
        raise HttpError(
            413, f"image has more than {IMAGE_BYTES} bytes, which is Lambda's limit for an event; send it by s3_uri"
        )
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise HttpError(400, "image is not base64") from error


def classify_picture(data: bytes) -> tuple[str, dict[str, Any]]:
    """Return (content type, the endpoint's answer). Raises HttpError."""
    try:
        answer = endpoint.invoke_endpoint(
            EndpointName=os.environ["ENDPOINT"], Body=data, ContentType="application/x-image", Accept="application/json"
        )
        return answer["ContentType"], json.loads(answer["Body"].read())
    except ClientError as error:
        raise translate_error(error) from error
    except (ConnectionError, HTTPClientError) as error:
        raise HttpError(504, "the endpoint did not answer in time") from error


def translate_error(error: ClientError) -> HttpError:
    """Map the endpoint's error to HTTP: 400 for its 4xx, 503 for throttling (the caller may retry), else 502."""
    code = error.response["Error"]["Code"]
    status = error.response.get("OriginalStatusCode", 500)
    if code == "ModelError" and 400 <= status < 500:
        return HttpError(400, read_reason(error, "the picture was refused"))
    busy = ("TooManyRequestsException", "ServiceUnavailable", "ModelNotReadyException")
    if code.startswith("Throttling") or code in busy or (code == "ModelError" and status == 503):
        return HttpError(503, f"{read_reason(error, 'the endpoint is busy')}; try again")
    return HttpError(502, "the endpoint failed")


def read_reason(error: ClientError, otherwise: str) -> str:
    """Return the server's own reason, which it sends as {"error": REASON}, or `otherwise`."""
    sent = str(error.response.get("OriginalMessage", ""))
    try:
        reason = json.loads(sent)["error"]
    except (ValueError, KeyError, TypeError):
        reason = sent
    return str(reason or otherwise)[:300]


def format_response(status: int, body: dict[str, Any]) -> dict[str, Any]:
    return {"statusCode": status, "headers": {"Content-Type": "application/json"}, "body": json.dumps(body)}


def format_original_response(answer: dict[str, Any], content_type: str) -> dict[str, Any]:
    """Format the answer for callers of the project that this one replaced: a list of scores as text."""
    body = json.dumps([answer["scores"]])
    return {
        "statusCode": 200,
        "headers": {"Content-Type": "text/plain", "Access-Control-Allow-Origin": "*"},
        "type-result": str(type(body)),
        "Content-Type-In": content_type,
        "body": body,
    }

"""Read an event of any source into the pictures that it names.

A picture is {"url": URL}, {"s3_uri": "s3://BUCKET/KEY"}, {"image": BASE64}, or bytes. An event is one picture, a list of them,
{"images": LIST}, an HTTP request of API Gateway (v1, v2) or of a function URL, or records of S3, also inside messages of SQS.
"""

import base64
import binascii
import json
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote_plus

from http_error import HttpError

MOST_PICTURES = 16
IMAGE_BYTES = (6 << 20) * 3 // 4 - 1024  # what fits as base64 into Lambda's 6 MB, with the rest of the event
STANDARD_LETTERS = str.maketrans("-_", "+/")
NAMES = ("url", "s3_uri", "image")
BINARY_TYPES = ("image/", "application/octet-stream", "application/x-image")


@dataclass(frozen=True)
class Picture:
    """One picture of an event: `value` is a url, an S3 URI, base64 or bytes, as `name` says. `error` is why it cannot be read."""

    name: str = ""
    value: Any = None
    error: HttpError | None = None
    message_id: str = ""  # of the SQS message that it came in


@dataclass(frozen=True)
class Request:
    """The pictures of an event, and whether the answer is a list."""

    pictures: list[Picture] = field(default_factory=list)
    is_list: bool = False
    is_queue: bool = False


def read_event(event: Any) -> Request:
    """Return the pictures of an event. Raises HttpError."""
    if isinstance(event, dict):
        if isinstance(event.get("requestContext"), dict) or "httpMethod" in event:
            return read_http_body(event)
        if isinstance(event.get("Records"), list):
            return read_records(event["Records"])
    return read_pictures(event)


def read_pictures(event: Any) -> Request:
    """Return the pictures of an event that a caller wrote. Raises HttpError."""
    listed = event.get("images") if isinstance(event, dict) and "images" in event else event
    if isinstance(listed, list):
        check_count(listed)
        return Request([read_item(item) for item in listed], is_list=True)
    if not isinstance(event, dict):
        raise HttpError(400, "the event must be an object or a list")
    if listed is not event:
        raise HttpError(400, "images must be a list of objects or of base64 texts")
    return Request([read_object(event)])


def check_count(listed: list[Any]) -> None:
    if not 1 <= len(listed) <= MOST_PICTURES:
        raise HttpError(400, f"a list must have 1 to {MOST_PICTURES} pictures; this one has {len(listed)}")


def read_item(item: Any) -> Picture:
    """Return one picture of a list; an item that is not one has its error, so that the others are answered."""
    try:
        return read_object({"image": item} if isinstance(item, str) else item)
    except HttpError as error:
        return Picture(error=error)


def read_object(item: Any) -> Picture:
    """Return the picture of {"url": ...}, {"s3_uri": ...} or {"image": ...}. Raises HttpError."""
    named = [name for name in NAMES if name in item] if isinstance(item, dict) else []
    if len(named) != 1:
        raise HttpError(400, "a picture must be an object with one of s3_uri, image and url")
    name = named[0]
    if not isinstance(item[name], str):
        raise HttpError(400, f"{name} must be text")
    return Picture(name, item[name])


def read_http_body(event: dict[str, Any]) -> Request:
    """Return the pictures of an HTTP request, whose body is JSON or the bytes of one picture. Raises HttpError."""
    body = event.get("body")
    if not isinstance(body, str) or not body:
        raise HttpError(400, "the request has no body; send JSON, or the bytes of a PNG or JPEG")
    content_type = find_content_type(event)
    if event.get("isBase64Encoded") is True:
        data = decode_base64(body)
        if content_type.startswith(BINARY_TYPES) or data.startswith((b"\x89PNG", b"\xff\xd8\xff")):
            return Request([Picture("bytes", data)])
        return read_pictures(parse_json(data))
    if content_type.startswith(BINARY_TYPES):
        raise HttpError(
            400,
            f"the gateway passes {content_type} on as text, which destroys it; send JSON with image, or make it a binary type",
        )
    return read_pictures(parse_json(body))


def find_content_type(event: dict[str, Any]) -> str:
    """Return the request's content type in small letters, without its parameters; "" without one."""
    headers: dict[str, Any] = {}
    for name in ("multiValueHeaders", "headers"):
        found = event.get(name)
        headers |= {str(key).lower(): value for key, value in found.items()} if isinstance(found, dict) else {}
    value = headers.get("content-type", "")
    value = value[0] if isinstance(value, list) and value else value
    return str(value).partition(";")[0].strip().lower()[:100]


def parse_json(text: str | bytes) -> Any:
    """Return the value of a JSON text. Raises HttpError, also for one that is nested too deeply."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise HttpError(
            400, "the body is not JSON; send JSON, or the bytes of a picture as image/png or image/jpeg"
        ) from error


def read_records(records: list[Any]) -> Request:
    """Return the pictures of S3's records, or of those inside SQS's messages. Raises HttpError."""
    is_queue = any(isinstance(record, dict) and record.get("eventSource") == "aws:sqs" for record in records)
    found = [picture for record in records for picture in read_record(record)]
    if not found:
        raise HttpError(400, "the event has no records")
    return Request(found, is_list=True, is_queue=is_queue)


def read_record(record: Any) -> list[Picture]:
    """Return the pictures of one record; one that cannot be read has its error."""
    try:
        if record["eventSource"] == "aws:sqs":
            inner = json.loads(record["body"])["Records"]
            identity = str(record["messageId"])
            return [Picture(one.name, one.value, one.error, identity) for item in inner for one in read_record(item)]
        bucket, key = record["s3"]["bucket"]["name"], unquote_plus(record["s3"]["object"]["key"])
        return [Picture("s3_uri", f"s3://{bucket}/{key}")]
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
        return [Picture(error=HttpError(400, "a record must be of S3, or of SQS with S3's records in its body"))]


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

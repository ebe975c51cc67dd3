"""What a request asks for: its parameters by AWS's own names, whichever of its protocols it speaks."""

from __future__ import annotations

import io
import json
import re
from functools import cache
from typing import Any
from urllib.parse import parse_qs

# moto's name of a service in a signature -> botocore's name of the model
MODELS = {"monitoring": "cloudwatch", "tagging": "resourcegroupstaggingapi"}
BODY_BYTES = 8 << 20  # a longer body carries data, such as an object, and no parameters


def read(environ: dict[str, Any], service: str, operation: str) -> dict[str, Any]:
    """The parameters of a request; its body stays to be read. S3's and Lambda's data bodies are not looked at.

    Raises ValueError for a body that is not what its Content-Type says.
    """
    kind = environ.get("CONTENT_TYPE", "").partition(";")[0]
    if service in ("s3", "lambda") or operation in ("InvokeEndpoint", "InvokeEndpointAsync"):
        return from_path(environ, service, operation)
    body = peek(environ)
    if kind == "application/x-www-form-urlencoded":
        return from_form(body, service, operation)
    return json.loads(body) if body.strip() else {}


def peek(environ: dict[str, Any]) -> bytes:
    length = int(environ.get("CONTENT_LENGTH") or 0)
    if length > BODY_BYTES:
        return b""
    body = environ["wsgi.input"].read(length)
    environ["wsgi.input"] = io.BytesIO(body)
    return body


def from_form(body: bytes, service: str, operation: str) -> dict[str, Any]:
    from moto.core.parse import PROTOCOL_PARSERS
    from moto.core.utils import get_service_model
    from werkzeug.datastructures import MultiDict

    model = get_service_model(MODELS.get(service, service))
    values = MultiDict(
        (key, value) for key, found in parse_qs(body.decode(), keep_blank_values=True).items() for value in found
    )
    parser = PROTOCOL_PARSERS["ec2" if service == "ec2" else "query"](model.operation_model(operation))
    asked = {"values": values, "headers": {}, "method": "POST", "url_params": {}, "url_path": "/", "body": ""}
    return parser.parse(asked)  # type: ignore[arg-type]


def from_path(environ: dict[str, Any], service: str, operation: str) -> dict[str, Any]:
    """What stands in path, query and headers, by the model's names; of Lambda's control calls the JSON body too."""
    model = "sagemaker-runtime" if service == "sagemaker" else service
    pattern, places = route(model, operation)
    found = pattern.fullmatch(environ["PATH_INFO"])
    asked: dict[str, Any] = dict(found.groupdict()) if found else {}
    query = parse_qs(environ.get("QUERY_STRING", ""), keep_blank_values=True)
    for name, (place, key) in places.items():
        if place == "querystring" and key in query:
            asked[name] = query[key][0]
        elif place == "header" and (value := environ.get("HTTP_" + key.upper().replace("-", "_"))) is not None:
            asked[name] = value
    if service == "lambda" and operation != "Invoke":
        body = peek(environ)
        asked |= json.loads(body) if body.strip() else {}
    return asked


@cache
def route(service: str, operation: str) -> tuple[re.Pattern[str], dict[str, tuple[str, str]]]:
    """The path of an operation with its named parts, and where its other parameters stand."""
    import botocore.session

    model = botocore.session.get_session().get_service_model(service).operation_model(operation)
    path = model.http["requestUri"].partition("?")[0]
    if service == "s3" and not path.startswith("/{Bucket}"):
        path = "/{Bucket}" + path.rstrip("/")  # newer models leave the bucket to the host's name
    members = model.input_shape.members if model.input_shape else {}
    located = {
        name: (shape.serialization["location"], shape.serialization.get("name", name))
        for name, shape in members.items()
        if "location" in shape.serialization
    }
    by_key = {key: name for name, (place, key) in located.items() if place == "uri"}
    text = re.escape(path.rstrip("/"))
    text = re.sub(r"\\\{(\w+)\\\+\\\}", lambda m: f"(?P<{by_key.get(m[1], m[1])}>.+)", text)
    text = re.sub(r"\\\{(\w+)\\\}", lambda m: f"(?P<{by_key.get(m[1], m[1])}>[^/]+)", text)
    return re.compile(text + "/?"), {name: where for name, where in located.items() if where[0] != "uri"}

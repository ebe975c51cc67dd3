"""The parser of requests: it finds the key, service, operation, protocol and parameters of each, once.

moto infers the operation from a header, a query string, a body or a path, whichever it finds first. Therefore it never sees
the original request, only one built from the parsed call (build_moto_environ): what was authorised is what is executed.
"""

from __future__ import annotations

import io
import json
import re
import zlib
from dataclasses import dataclass, replace
from functools import cache
from typing import Any
from urllib.parse import parse_qsl, urlencode

from botocore.exceptions import UnknownServiceError

from sandbox.http import routes, signature
from sandbox.http.error_responses import build_malformed_error, build_unsupported_error
from sandbox.state import REGION

FORM = "application/x-www-form-urlencoded"
# The service's name in a signature -> botocore's name
MODELS = {"monitoring": "cloudwatch", "tagging": "resourcegroupstaggingapi"}
TARGET = re.compile(r"([\w.]+)\.(\w+)")
CBOR_PATH = re.compile(r"/service/\w+/operation/(\w+)")
FUNCTION_ARN = re.compile(r"(?<=/functions/)[^/]*:function:")
BODY_BYTES = 70_167_211  # the most that Lambda takes; S3's objects and InvokeEndpoint's data are not read here
NOT_EMPTY = ("uploadId", "partNumber", "versionId", "Qualifier")  # moto takes an empty value for a missing one
# These are moto's own endpoints, and paths that it takes for another service's.
MOTO_PATHS = ("/moto-api", "/favicon.ico", "/latest/meta-data/", "/latest/api/", "/v20180820/")
# These headers frame S3's bodies; no decision depends on them.
FRAMING = {"x-amz-content-sha256", "x-amz-decoded-content-length", "x-amz-trailer", "content-md5"}


@dataclass(frozen=True)
class Call:
    """A request as it was read. `service` is the signature's name, `model` botocore's; `key` is "" if it is unsigned."""

    key: str
    region: str
    service: str
    model: str
    protocol: str
    operation: str
    path: str
    labels: dict[str, str]  # the parameters in the path
    query: dict[str, list[str]]
    headers: dict[str, str]  # by lower-case name
    form: dict[str, str]
    body: bytes
    environ: dict[str, Any]

    @property
    def agent(self) -> str:
        return self.headers.get("user-agent", "")

    @property
    def route(self) -> routes.Route:
        return routes.build_routes(self.model)[self.operation]

    @property
    def rest(self) -> bool:
        return self.protocol.startswith("rest-")


def read(environ: dict[str, Any]) -> Call:
    """Return the call with its key, service and protocol; resolve_operation adds the operation. Raises RequestRefused."""
    headers = {key[5:].lower().replace("_", "-"): value for key, value in environ.items() if key.startswith("HTTP_")}
    content_type = environ.get("CONTENT_TYPE", "")
    headers |= {"content-type": content_type} if content_type else {}
    pairs = parse_qsl(environ.get("QUERY_STRING", ""), keep_blank_values=True)
    guess = "json" if "x-amz-target" in headers else "query" if is_form(headers) else "rest-xml"
    try:
        signed = signature.read(headers.get("authorization", ""), pairs)
    except signature.Unreadable as error:
        code = "InvalidArgument" if guess == "rest-xml" else "IncompleteSignature"
        raise build_malformed_error(guess, str(error), code) from None
    service = signed.service if signed else {"query": "sts", "rest-xml": "s3"}.get(guess, "")
    try:
        path = environ["PATH_INFO"].encode("latin-1").decode()
    except UnicodeDecodeError:
        raise build_malformed_error(guess, "The path is not UTF-8") from None
    if signed is None and guess != "query":
        return Call("", REGION, service, service, guess, "?", path, {}, {}, headers, {}, b"", environ)
    model, protocol = detect_protocol(service, headers, path)
    if protocol == "rest-json":  # a path may name a function by its ARN, or end in a slash
        path = FUNCTION_ARN.sub("", path).rstrip("/")
    query = {key: [v for k, v in pairs if k == key] for key, _ in pairs if not signature.URL_PARAMETERS.fullmatch(key)}
    key, region = (signed.key, signed.region) if signed else ("", REGION)
    return Call(key, region, service, model, protocol, "?", path, {}, query, headers, {}, b"", environ)


def resolve_operation(call: Call) -> Call:
    """Return the call with its body and its operation, "?" if that is unknown. Raises RequestRefused."""
    return resolve_rest_call(call) if call.rest else resolve_root_call(call)


def is_form(headers: dict[str, str]) -> bool:
    return headers.get("content-type", "").partition(";")[0].strip().lower() == FORM


def detect_protocol(service: str, headers: dict[str, str], path: str) -> tuple[str, str]:
    """Return (botocore's model, the call's protocol). Few services have two; one without JSON ignores X-Amz-Target."""
    model = "sagemaker-runtime" if service == "sagemaker" and path != "/" else MODELS.get(service, service)
    has = list_protocols(model)
    if "json" in has and ("query" not in has or "x-amz-target" in headers):
        return model, "json"
    if has:
        return model, "query" if "query" in has else has[0]
    return model, "json" if "x-amz-target" in headers else "query"


@cache
def list_protocols(model: str) -> tuple[str, ...]:
    """Return the service's protocols, () if botocore has no model of it."""
    try:
        metadata = read_model_metadata(model)
    except UnknownServiceError:
        return ()
    return tuple(metadata.get("protocols", [metadata["protocol"]]))


def read_model_metadata(model: str) -> dict[str, Any]:
    metadata: dict[str, Any] = routes.load_service_model(model).metadata
    return metadata


def resolve_rest_call(call: Call) -> Call:
    """Resolve a request that is identified by its method, path and query. Raises RequestRefused."""
    if call.path.startswith(MOTO_PATHS):
        raise build_unsupported_error(call.protocol, f"{call.service} at {call.path}")
    if blank := [key for key in NOT_EMPTY if "" in call.query.get(key, [])]:
        raise build_malformed_error(call.protocol, f"{blank[0]} cannot be the empty string", "InvalidArgument")
    operation, labels = routes.match_operation(
        call.model, call.environ["REQUEST_METHOD"], call.path, call.query, call.headers
    )
    if operation == "?":
        return replace(call, operation=operation)
    route = routes.build_routes(call.model)[operation]
    own = {*route.literal, *route.query}
    if others := sorted((call.query.keys() & routes.collect_query_literals(call.model).keys()) - own):
        raise build_malformed_error(
            call.protocol, f"{others[0]} belongs to another operation than {operation}", "InvalidArgument"
        )
    if twice := [key for key in sorted(own - route.several) if len(call.query.get(key, [])) > 1]:
        raise build_malformed_error(call.protocol, f"{twice[0]} is given more than once", "InvalidArgument")
    if route.streams and "content-type" in route.headers and is_form_like(call.headers):
        raise build_unsupported_error(call.protocol, f"{call.service}:{operation} with a form's Content-Type")
    body = b"" if route.streams else read_decoded_body(call) if call.protocol == "rest-json" else read_body(call)
    return replace(call, operation=operation, labels=labels, body=body)


def is_form_like(headers: dict[str, str]) -> bool:
    """Return whether moto would parse the body as a form."""
    return headers.get("content-type", "").strip().lower().startswith((FORM, "multipart/"))


def resolve_root_call(call: Call) -> Call:
    """Resolve a request to /, which names its operation in X-Amz-Target or as Action in its form. Raises RequestRefused."""
    if named := CBOR_PATH.fullmatch(call.path):
        raise build_unsupported_error(call.protocol, f"{call.service}:{named[1]} in CBOR")
    if call.path not in ("", "/") or call.environ["REQUEST_METHOD"] != "POST":
        raise build_unsupported_error(call.protocol, f"{call.service} by {call.environ['REQUEST_METHOD']} {call.path}")
    if call.query:
        raise build_malformed_error(call.protocol, "Parameters belong in the body, not in the query string")
    if call.protocol != "json":
        form = parse_form(call)
        return replace(call, operation=form.get("Action", "?"), form=form)
    found = TARGET.fullmatch(call.headers.get("x-amz-target", ""))
    prefix = read_model_metadata(call.model).get("targetPrefix") if list_protocols(call.model) else None
    if not found or (prefix and found[1] != prefix):
        raise build_malformed_error(
            "json", "X-Amz-Target does not name an operation of this service", "UnknownOperationException"
        )
    return replace(call, operation=found[2], body=read_decoded_body(call))


def parse_form(call: Call) -> dict[str, str]:
    try:
        text = read_decoded_body(call).decode()
        pairs = parse_qsl(text, keep_blank_values=True, strict_parsing=True, errors="strict") if text else []
    except ValueError as error:  # UnicodeDecodeError is one too
        raise build_malformed_error(call.protocol, f"The form cannot be read: {error}") from None
    form = dict(pairs)
    if len(form) < len(pairs):
        raise build_malformed_error(call.protocol, "A parameter is given more than once")
    return form


def read_body(call: Call) -> bytes:
    """Return the body as it came. Raises RequestRefused if it is too long."""
    stream = call.environ["wsgi.input"]
    if call.environ.get("wsgi.input_terminated"):
        body = stream.read(BODY_BYTES + 1)
    else:
        body = stream.read(min(int(call.environ.get("CONTENT_LENGTH") or 0), BODY_BYTES + 1))
    if len(body) > BODY_BYTES:
        message = f"Request must be smaller than {BODY_BYTES} bytes"
        raise build_malformed_error(call.protocol, message, "RequestTooLargeException", 413)
    return bytes(body)


def read_decoded_body(call: Call) -> bytes:
    """Return the body, decompressed if it is gzip, as SDKs send long ones. Raises RequestRefused."""
    body, coding = read_body(call), call.headers.get("content-encoding", "")
    if not coding:
        return body
    if coding.lower() != "gzip":
        raise build_malformed_error(call.protocol, f"Content-Encoding {coding!r} is not supported")
    inflater = zlib.decompressobj(wbits=31)
    try:
        plain = inflater.decompress(body, BODY_BYTES)
    except zlib.error as error:
        raise build_malformed_error(call.protocol, f"The body is not gzip: {error}") from None
    if inflater.unconsumed_tail:
        message = f"Request must be smaller than {BODY_BYTES} bytes"
        raise build_malformed_error(call.protocol, message, "RequestTooLargeException", 413)
    if not inflater.eof or inflater.unused_data:
        raise build_malformed_error(call.protocol, "The body is not one whole gzip member")
    return plain


def build_moto_environ(call: Call, params: dict[str, Any]) -> dict[str, Any]:
    """Return a WSGI environ with the parsed call and its parameters only."""
    environ = {key: value for key, value in call.environ.items() if not key.startswith(("HTTP_", "CONTENT_"))}
    # On AWS these calls come over TLS; a bucket policy that requires it must not lock the sandbox out.
    environ |= {"HTTP_HOST": call.headers["host"], "wsgi.url_scheme": "https"}
    if call.key:
        scope = f"{call.key}/20260101/{REGION}/{call.service}/aws4_request"
        environ["HTTP_AUTHORIZATION"] = f"{signature.SCHEME} Credential={scope}, SignedHeaders=host, Signature=0"
    given, query, body = build_rest_request(call, params) if call.rest else build_root_request(call, params)
    environ |= {
        ("" if key == "content-type" else "HTTP_") + key.upper().replace("-", "_"): v for key, v in given.items()
    }
    path = call.path if call.rest else "/"
    line = routes.quote_path(path) + (f"?{query}" if query else "")
    environ |= {
        "PATH_INFO": path.encode().decode("latin-1"),
        "QUERY_STRING": query,
        "RAW_URI": line,
        "REQUEST_URI": line,
    }
    if call.rest and call.route.streams:
        return environ | (
            {"CONTENT_LENGTH": call.environ["CONTENT_LENGTH"]} if "CONTENT_LENGTH" in call.environ else {}
        )
    environ.pop("wsgi.input_terminated", None)
    return environ | {"wsgi.input": io.BytesIO(body), "CONTENT_LENGTH": str(len(body))}


def build_root_request(call: Call, params: dict[str, Any]) -> tuple[dict[str, str], str, bytes]:
    """Return (headers, query, body). In moto an Action anywhere beats X-Amz-Target; a query keeps it from looking for one."""
    if call.protocol != "json":
        return {"content-type": FORM}, "", urlencode(call.form).encode()
    content_type = f"application/x-amz-json-{read_model_metadata(call.model)['jsonVersion']}"
    target = call.headers["x-amz-target"]
    return {"content-type": content_type, "x-amz-target": target}, f"x-id={call.operation}", json.dumps(params).encode()


def build_rest_request(call: Call, params: dict[str, Any]) -> tuple[dict[str, str], str, bytes]:
    route = call.route
    names = {*route.headers, *(FRAMING if call.service == "s3" else ())}
    given = {k: v for k, v in call.headers.items() if k in names or (route.prefixes and k.startswith(route.prefixes))}
    query = route.literal | {key: call.query[key] for key in route.query if key in call.query}
    body = call.body
    if route.members:
        given |= {"content-type": "application/json"}
        body = json.dumps({key: params[key] for key in route.members if key in params}).encode() if body else b""
    elif not route.document:
        body = b""
    # Without a query, moto looks for parameters in the body and in the headers.
    return given, urlencode(query, doseq=True) or f"x-id={call.operation}", body

"""Function URLs: their configuration by qualifier, and the address of each, which answers as AWS's does.

On AWS a function URL is a host of its own; here it is a path of the sandbox. Its signature is verified, unlike that of other calls,
because a web page may call it, and makes the signature itself.
"""

from __future__ import annotations

import base64
import hmac
import json
import re
import secrets
import uuid
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from sandbox.function import aliases, concurrency, workers
from sandbox.function.validation import build_arn, build_refusal
from sandbox.http import error_responses
from sandbox.iam import enforce
from sandbox.iam.principals import find_identity
from sandbox.state import ACCOUNT, REGION
from sandbox.world import World, get_world

Reply = tuple[int, dict[str, str], bytes]
PREFIX = "/_url/"
BODY_BYTES = 6 << 20
SIGNATURE = re.compile(
    r"AWS4-HMAC-SHA256 Credential=(\w+)/(\d{8})/([\w-]+)/lambda/aws4_request, ?SignedHeaders=([\w;-]+), ?Signature=(\w{64})"
)
CHANGEABLE: tuple[str, ...] = ("AuthType", "Cors", "InvokeMode")
TEXT = ("text/", "application/json", "application/xml", "application/javascript")


def put_config(backend: Any, name: str, qualifier: str, wanted: dict[str, Any], create: bool) -> dict[str, Any]:
    """Create or change the URL of a function or of its alias; return AWS's description of it. Raises LambdaClientError."""
    backend.get_function(name, None)
    tables = get_world().functions
    if qualifier and qualifier not in concurrency.list_aliases(backend, name):
        raise build_refusal(404, "ResourceNotFoundException", f"Function not found: {build_arn(name)}:{qualifier}")
    found = tables.urls.get((name, qualifier))
    if create and found:
        message = (
            f"Failed to create function url config for [functionArn = {build_arn(name)}:{qualifier}]. "
            "Error message:  FunctionUrlConfig exists for this Lambda function"
        )
        raise build_refusal(409, "ResourceConflictException", message)
    if not create and not found:
        raise build_missing_error()
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.000+0000")
    kept: dict[str, Any] = found or {"id": secrets.token_hex(16), "CreationTime": now, "InvokeMode": "BUFFERED"}
    changed: dict[str, Any] = {key: wanted[key] for key in CHANGEABLE if key in wanted}
    tables.urls[name, qualifier] = {**kept, **changed, "LastModifiedTime": now}
    return describe_config(name, qualifier)


def describe_config(name: str, qualifier: str) -> dict[str, Any]:
    """Return AWS's description of a URL. Raises LambdaClientError for a missing one."""
    config = dict(get_world().functions.urls.get((name, qualifier)) or {})
    if not config:
        raise build_missing_error()
    arn = build_arn(name) + (f":{qualifier}" if qualifier else "")
    return {"FunctionUrl": f"{get_world().url}{PREFIX}{config.pop('id')}/", "FunctionArn": arn, **config}


def build_missing_error() -> Exception:
    return build_refusal(404, "ResourceNotFoundException", "The resource you requested does not exist.")


def serve_url(world: World, environ: dict[str, Any], path: str) -> Reply:
    """Answer a request to a function URL, with the headers that let web pages of other origins read the answer."""
    ident, _, rest = path.removeprefix(PREFIX).partition("/")
    found = next((item for item in world.functions.urls.items() if item[1]["id"] == ident), None)
    if found is None:
        return build_message(404, "null")
    (name, qualifier), config = found
    cors = build_cors_headers(config.get("Cors") or {}, environ)
    if environ["REQUEST_METHOD"] == "OPTIONS" and "HTTP_ORIGIN" in environ:
        return 200, cors, b""
    length = int(environ.get("CONTENT_LENGTH") or 0)
    if length > BODY_BYTES:
        return add_headers(build_message(413, "Request Entity Too Large"), cors)
    body = environ["wsgi.input"].read(length)
    reply = authorize(world, environ, path, body, name, qualifier, config["AuthType"])
    return add_headers(reply or invoke(world, environ, f"/{rest}", body, name, qualifier), cors)


def add_headers(reply: Reply, more: dict[str, str]) -> Reply:
    return reply[0], reply[1] | more, reply[2]


def build_cors_headers(cors: dict[str, Any], environ: dict[str, Any]) -> dict[str, str]:
    """Return the CORS headers for the request's origin; none where the URL's configuration does not name it."""
    origin, allowed = environ.get("HTTP_ORIGIN"), cors.get("AllowOrigins", [])
    if not origin or not ({"*", origin} & set(allowed)):
        return {}
    headers = {"Access-Control-Allow-Origin": "*" if "*" in allowed else origin}
    if environ["REQUEST_METHOD"] == "OPTIONS":
        headers["Access-Control-Allow-Methods"] = ",".join(cors.get("AllowMethods", []))
        headers["Access-Control-Allow-Headers"] = ",".join(cors.get("AllowHeaders", []))
        headers["Access-Control-Max-Age"] = str(cors.get("MaxAge", 0))
    return headers


def authorize(
    world: World, environ: dict[str, Any], path: str, body: bytes, name: str, qualifier: str, auth_type: str
) -> Reply | None:
    """Return the reply that refuses a caller; None for one that may call the URL."""
    if auth_type == "NONE":
        return build_message(403, "Forbidden")  # the sandbox has no callers without credentials
    signed = SIGNATURE.fullmatch(environ.get("HTTP_AUTHORIZATION", ""))
    if not signed:
        return build_message(403, "Missing Authentication Token")
    key, date = signed[1], environ.get("HTTP_X_AMZ_DATE", "")
    secret = world.keys.find_secret(key)
    if world.keys.find_caller_name(key) is None or secret is None:
        return build_message(403, "The security token included in the request is invalid.")
    if error_responses.check_clock_skew("rest-json", date) or not date.startswith(signed[2]) or signed[3] != REGION:
        return build_message(403, "Signature expired or for another region.")
    expected = compute_signature(environ, path, body, signed[4].split(";"), Credentials(key, secret), date)
    if not hmac.compare_digest(expected, signed[5]):
        message = (
            "The request signature we calculated does not match the signature you provided. "
            "Check your AWS Secret Access Key and signing method."
        )
        return build_message(403, message)
    arn = build_arn(name) + (f":{qualifier}" if qualifier else "")
    needs = [
        enforce.Need("lambda:InvokeFunctionUrl", arn, {"lambda:functionurlauthtype": auth_type}),
        enforce.Need("lambda:InvokeFunction", arn, {"lambda:invokedviafunctionurl": "true"}),
    ]
    try:
        enforce.enforce_needs(world, find_identity(world, key), needs, environ.get("HTTP_USER_AGENT", ""))
    except enforce.Denied:
        return build_message(403, "Forbidden")
    return None


def compute_signature(
    environ: dict[str, Any], path: str, body: bytes, signed: list[str], keys: Credentials, date: str
) -> str:
    """Return the signature of the request as botocore computes it, over the headers that the caller says it signed."""
    headers = {name: read_header(environ, name) for name in signed}
    query = environ.get("QUERY_STRING", "")
    url = f"http://{environ['HTTP_HOST']}{quote(path)}" + (f"?{query}" if query else "")
    request = AWSRequest(environ["REQUEST_METHOD"], url, data=body, headers=headers)
    request.context["timestamp"] = date
    auth = SigV4Auth(keys, "lambda", REGION)
    return str(auth.signature(auth.string_to_sign(request, auth.canonical_request(request)), request))


def read_header(environ: dict[str, Any], name: str) -> str:
    key = name.upper().replace("-", "_")
    return str(environ.get(key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{key}", ""))


def invoke(world: World, environ: dict[str, Any], path: str, body: bytes, name: str, qualifier: str) -> Reply:
    function = aliases.choose_function(world.backend("lambda"), name, qualifier)
    event = json.dumps(build_event(environ, path, body)).encode()
    try:
        result = workers.execute_invocation(world, function, qualifier, event, wait=True)
    except workers.ThrottledError:
        return build_message(429, "Rate Exceeded.")
    if result.error:
        return 502, {"Content-Type": "application/json"}, b"Internal Server Error"
    return translate_answer(json.loads(result.payload))


def build_event(environ: dict[str, Any], path: str, body: bytes) -> dict[str, Any]:
    """Return the event of a function URL, in API Gateway's payload format 2.0."""
    names = [key for key in environ if key.startswith("HTTP_") or key in ("CONTENT_TYPE", "CONTENT_LENGTH")]
    headers = {key.removeprefix("HTTP_").replace("_", "-").lower(): str(environ[key]) for key in names}
    is_text = headers.get("content-type", "").startswith(TEXT)
    http = {
        "method": environ["REQUEST_METHOD"],
        "path": path,
        "protocol": "HTTP/1.1",
        "sourceIp": environ.get("REMOTE_ADDR", "127.0.0.1"),
        "userAgent": headers.get("user-agent", ""),
    }
    request = {"accountId": ACCOUNT, "requestId": str(uuid.uuid4()), "stage": "$default", "http": http}
    return {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": path,
        "rawQueryString": environ.get("QUERY_STRING", ""),
        "headers": headers,
        "requestContext": request,
        "body": body.decode() if is_text else base64.b64encode(body).decode(),
        "isBase64Encoded": not is_text,
    }


def translate_answer(answer: Any) -> Reply:
    """Return the HTTP answer of what the handler returned: with a statusCode its parts, else itself as JSON."""
    if not isinstance(answer, dict) or "statusCode" not in answer:
        return 200, {"Content-Type": "application/json"}, json.dumps(answer).encode()
    text = str(answer.get("body", ""))
    body = base64.b64decode(text) if answer.get("isBase64Encoded") else text.encode()
    headers = {str(key): str(value) for key, value in (answer.get("headers") or {}).items()}
    return int(answer["statusCode"]), {"Content-Type": "application/json"} | headers, body


def build_message(status: int, message: str) -> Reply:
    return status, {"Content-Type": "application/json"}, json.dumps({"Message": message}).encode()

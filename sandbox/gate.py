"""The front door of the local AWS: who may come in, what is written down, what is answered instead of moto.

Loopback alone is no protection: a web page can post to it, and every user of the machine can reach it. So: a known access
key on each call, no foreign Host, no Origin at all.
"""

from __future__ import annotations

import io
import json
import re
import time
import traceback
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

from sandbox import control, enforce, federation
from sandbox.calls import operation_of
from sandbox.world import World

CREDENTIAL = re.compile(r"Credential=([A-Z0-9]+)/\d{8}/([\w-]+)/([\w-]+)/aws4_request")
XML = {"ec2", "iam", "sts", "s3", "autoscaling"}
SKEW_S, S3_SKEW_S = 300, 900
BODY_BYTES = 5 << 30  # S3's own limit for one PUT

Reply = tuple[int, dict[str, str], bytes]


class Gate:
    """A WSGI application around moto's."""

    def __init__(self, app: Callable[..., Iterable[bytes]], world: World) -> None:
        self.app, self.world = app, world

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        refusal = self.stranger(environ)
        if refusal:
            return reply(start_response, *refusal)
        path = environ["PATH_INFO"]
        if path.startswith("/_"):
            return reply(start_response, *control.answer(self.world, environ, path))
        key, service = credential(environ)
        if not key and (wanted := federation.asked(environ)):
            return self.federated(environ, start_response, wanted)
        caller = self.world.keys.caller(key)
        if caller is None:
            return reply(
                start_response,
                *error(
                    service,
                    403,
                    "UnrecognizedClientException",
                    "The access key is not this sandbox's. Is it an old one? invoke sandbox.up",
                ),
            )
        return self.serve(environ, start_response, service, caller, key)

    def federated(
        self, environ: dict[str, Any], start_response: Callable[..., Any], wanted: dict[str, Any]
    ) -> Iterable[bytes]:
        """The one call without a signature: a token is shown, and a role's keys are given for it."""
        try:
            allowed = federation.trusted(self.world, wanted)
            words = ("AccessDenied", f"Not authorized to perform sts:{federation.ACTION}")
        except (federation.Invalid, ValueError, KeyError) as wrong:
            allowed, words = False, ("InvalidIdentityToken", str(wrong))
        if not allowed:
            self.world.log.add("sts", federation.ACTION, "", 403, 0.0)
            return reply(start_response, *error("sts", 403, *words))
        began = time.monotonic()
        status, chunks = self.ask_moto(environ, start_response, "sts", federation.ACTION, lost=False)
        self.world.log.add("sts", federation.ACTION, "", status, time.monotonic() - began)
        return chunks

    def stranger(self, environ: dict[str, Any]) -> Reply | None:
        """Refuse what a browser could be made to send."""
        host = environ.get("HTTP_HOST", "")
        if host not in (f"127.0.0.1:{self.world.port}", f"localhost:{self.world.port}"):
            return error("", 403, "AccessDenied", f"Host {host!r} is not this sandbox's")
        if "HTTP_ORIGIN" in environ:
            return error("", 403, "AccessDenied", "Web pages may not call the sandbox")
        if int(environ.get("CONTENT_LENGTH") or 0) > BODY_BYTES:
            return error("s3", 400, "EntityTooLarge", "Your proposed upload exceeds the maximum allowed size")
        return None

    def serve(
        self, environ: dict[str, Any], start_response: Callable[..., Any], service: str, caller: str, key: str
    ) -> Iterable[bytes]:
        body = b""
        if environ.get("CONTENT_TYPE", "").startswith("application/x-www-form-urlencoded"):
            body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            environ["wsgi.input"] = io.BytesIO(body)
        operation = operation_of(environ, service, body)
        if refusal := off_time(environ, service):
            self.world.log.add(service, operation, caller, refusal[0], 0.0)
            return reply(start_response, *refusal)
        if refusal := self.refusal(environ, service, operation, key):
            self.world.log.add(service, operation, caller, refusal[0], 0.0)
            return reply(start_response, *refusal)
        began = time.monotonic()
        fault = self.world.faults.take(operation)
        if fault and fault.do == "error":
            self.world.log.add(service, operation, caller, fault.status, 0.0, fault.code)
            return reply(start_response, *error(service, fault.status, fault.code, fault.message))
        # On AWS these calls come over TLS; a bucket policy that asks for it must not lock the sandbox out.
        environ["wsgi.url_scheme"] = "https"
        environ["kennel.caller"] = caller
        status, chunks = self.ask_moto(
            environ, start_response, service, operation, lost=bool(fault and fault.do == "lost")
        )
        if environ.get("HTTP_X_SANDBOX_TOKEN") != self.world.token:
            self.world.log.add(service, operation, caller, status, time.monotonic() - began, fault.do if fault else "")
        return chunks

    def refusal(self, environ: dict[str, Any], service: str, operation: str, key: str) -> Reply | None:
        """Unless the caller may do this. The sandbox's own looks around need nobody's leave."""
        if environ.get("HTTP_X_SANDBOX_TOKEN") == self.world.token:
            return None
        try:
            enforce.check(self.world, environ, key, service, operation)
        except enforce.Unlisted:
            return not_in_sandbox(service, operation)
        except enforce.Denied as denied:
            return denial(service, str(denied))
        except Exception:  # what cannot be decided on is not let through
            self.world.note(f"{service}:{operation} could not be decided on:\n{traceback.format_exc()}")
            return error(service, 500, "InternalFailure", f"The sandbox could not decide on {operation}; see its log")
        return None

    def ask_moto(
        self, environ: dict[str, Any], start_response: Callable[..., Any], service: str, operation: str, lost: bool
    ) -> tuple[int, Iterable[bytes]]:
        seen: list[Any] = []

        def note(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[[bytes], None]:
            seen[:] = [status, headers]
            return lambda data: None

        try:
            chunks = b"".join(self.app(environ, note))
        except NotImplementedError:
            return 501, reply(start_response, *not_in_sandbox(service, operation))
        status, headers = seen[0], [(name, value) for name, value in seen[1] if name.lower() != "content-length"]
        code = int(status.split()[0])
        html = any(name.lower() == "content-type" and "html" in value for name, value in headers)
        if html and (
            (code in (404, 405) and b"<!doctype" in chunks[:50].lower())
            or (code == 500 and b"NotImplementedError" in chunks)
        ):
            return 501, reply(start_response, *not_in_sandbox(service, operation))
        if lost:
            return code, reply(
                start_response, *error(service, 500, "InternalFailure", "The answer was lost (a fault of the sandbox)")
            )
        if environ["REQUEST_METHOD"] == "HEAD":
            start_response(status, seen[1])
            return code, [chunks]
        start_response(status, [*headers, ("Content-Length", str(len(chunks)))])
        return code, [chunks]


def off_time(environ: dict[str, Any], service: str) -> Reply | None:
    """AWS takes no signature whose time is minutes off its own. Each protocol has its words for it."""
    try:
        signed = datetime.strptime(environ.get("HTTP_X_AMZ_DATE", ""), "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        return None
    off = abs((datetime.now(UTC) - signed).total_seconds())
    if service == "s3" and off > S3_SKEW_S:
        return error(
            service,
            403,
            "RequestTimeTooSkewed",
            "The difference between the request time and the current time is too large.",
        )
    if service != "s3" and off > SKEW_S:
        code = "RequestExpired" if service == "ec2" else "SignatureDoesNotMatch"
        return error(
            service,
            400 if service == "ec2" else 403,
            code,
            f"Signature expired: {signed:%Y%m%dT%H%M%SZ} is too far from now",
        )
    return None


def credential(environ: dict[str, Any]) -> tuple[str, str]:
    """(access key id, service) of a signed request or a presigned URL; ("", "") of any other."""
    from urllib.parse import parse_qs

    found = CREDENTIAL.search(environ.get("HTTP_AUTHORIZATION", ""))
    if not found:
        query = parse_qs(environ.get("QUERY_STRING", ""))
        found = CREDENTIAL.search("Credential=" + query.get("X-Amz-Credential", [""])[0])
    return (found[1], found[3]) if found else ("", "")


def not_in_sandbox(service: str, operation: str) -> Reply:
    return error(
        service, 501, "NotImplementedInSandbox", f"{service}:{operation} is not part of the sandbox (sandbox/README.md)"
    )


def denial(service: str, message: str) -> Reply:
    """Each protocol has its own code for it."""
    if service == "ec2":
        return error(
            service, 403, "UnauthorizedOperation", f"You are not authorized to perform this operation. {message}"
        )
    if service in XML or service == "monitoring":
        return error(service, 403, "AccessDenied", message)
    return error(service, 403 if service == "lambda" else 400, "AccessDeniedException", message)


def error(service: str, status: int, code: str, message: str) -> Reply:
    """An error in the protocol of the service, so that any SDK understands it."""
    if service not in XML:
        body = json.dumps({"__type": code, "message": message, "Message": message}).encode()
        return status, {"Content-Type": "application/x-amz-json-1.1", "x-amzn-ErrorType": code}, body
    inner = f"<Error><Code>{code}</Code><Message>{escaped(message)}</Message></Error>"
    if service == "ec2":
        inner = f"<Response><Errors>{inner}</Errors><RequestID>0</RequestID></Response>"
    elif service != "s3":
        inner = f"<ErrorResponse>{inner}<RequestId>0</RequestId></ErrorResponse>"
    return status, {"Content-Type": "text/xml"}, inner.encode()


def escaped(text: str) -> str:
    from xml.sax.saxutils import escape

    return escape(text)


def reply(start_response: Callable[..., Any], status: int, headers: dict[str, str], body: bytes) -> list[bytes]:
    from http import HTTPStatus

    # The request's body may not have been read: this connection cannot carry another.
    start_response(
        f"{status} {HTTPStatus(status).phrase}",
        [*headers.items(), ("Content-Length", str(len(body))), ("Connection", "close")],
    )
    return [body]

"""The HTTP front end of the local AWS: it authenticates, authorises and logs each request, then passes it to moto.

Listening on loopback does not protect the sandbox: a web page can post to it, and every user of the host can reach it.
Each call therefore needs a known access key or web identity token, the sandbox's own Host, and no Origin. A request is parsed
once (parsing.py, parameters.py); the parsed call is authorised, and moto gets only the parsed call.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Any

from sandbox import control
from sandbox.function import urls
from sandbox.http import constraints, error_responses, parameters, parsing, wording
from sandbox.http.error_responses import Reply, RequestRefused, reply_error
from sandbox.http.parsing import Call
from sandbox.iam import enforce, federation
from sandbox.iam.permissions import TABLE
from sandbox.state import REGION
from sandbox.world import World

BODY_BYTES = 5 << 30  # S3's own limit for one PUT


class Gate:
    """The WSGI application that wraps moto's."""

    def __init__(self, app: Callable[..., Iterable[bytes]], world: World) -> None:
        self.app, self.world = app, world

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        refusal = self.refuse_foreign_request(environ, pages_may_call=path.startswith(urls.PREFIX))
        if refusal:
            return send_reply(start_response, *refusal)
        if path.startswith(urls.PREFIX):
            return send_reply(start_response, *urls.serve_url(self.world, environ, path))
        if path.startswith("/_"):
            return send_reply(start_response, *control.handle_control_request(self.world, environ, path))
        if self.world.is_stopping:
            refusal = reply_error("", 503, "ServiceUnavailable", "The sandbox is being stopped. Run: invoke sandbox.up")
            return send_reply(start_response, *refusal)
        with self.world.running_calls:
            return self.serve_call(environ, start_response)

    def serve_call(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        try:
            call = parsing.read(environ)
            if call.key:
                return self.serve_signed_call(call, start_response)
            if call.protocol == "query" and (call := parsing.resolve_operation(call)).operation == federation.ACTION:
                return self.serve_federated_call(call, start_response)
            raise RequestRefused(error_responses.reply_missing_token(call.protocol))
        except RequestRefused as refused:
            return send_reply(start_response, *refused.reply)

    def refuse_foreign_request(self, environ: dict[str, Any], pages_may_call: bool) -> Reply | None:
        """Return the reply that refuses a foreign Host, any Origin, or a body of unclear or excessive length; else None.

        Web pages may call function URLs, whose signature is verified.
        """
        host = environ.get("HTTP_HOST", "")
        if host not in (f"127.0.0.1:{self.world.port}", f"localhost:{self.world.port}"):
            return reply_error("", 403, "AccessDenied", f"Host {host!r} is not this sandbox's")
        if "HTTP_ORIGIN" in environ and not pages_may_call:
            return reply_error("", 403, "AccessDenied", "Web pages may not call the sandbox")
        length = environ.get("CONTENT_LENGTH") or "0"
        if not length.isdecimal() or (environ.get("wsgi.input_terminated") and "CONTENT_LENGTH" in environ):
            return reply_error("", 400, "BadRequest", "A request needs either one Content-Length or chunked encoding")
        if int(length) > BODY_BYTES:
            message = "Your proposed upload exceeds the maximum allowed size"
            return reply_error("rest-xml", 400, "EntityTooLarge", message)
        return None

    def serve_federated_call(self, call: Call, start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Serve the one call without a signature, which exchanges a web identity token for a role's keys."""
        wanted, status = parameters.read(call), 400
        try:
            allowed, status = federation.is_token_trusted(self.world, wanted), 403
            code_and_message = ("AccessDenied", f"Not authorized to perform sts:{federation.ACTION}")
        except federation.Expired as error:
            allowed, code_and_message = False, ("ExpiredTokenException", str(error))
        except (federation.Invalid, ValueError, KeyError) as error:
            allowed, code_and_message = False, ("InvalidIdentityToken", str(error))
        if not allowed:
            self.world.log.add("sts", federation.ACTION, "", status, 0.0)
            return send_reply(start_response, *reply_error("query", status, *code_and_message))
        began = time.monotonic()
        code, chunks = self.call_moto(call, wanted, start_response, lost=False)
        self.world.log.add("sts", federation.ACTION, "", code, time.monotonic() - began)
        return chunks

    def serve_signed_call(self, call: Call, start_response: Callable[..., Any]) -> Iterable[bytes]:
        caller = self.world.keys.find_caller_name(call.key)
        if caller is None:
            has_expired = self.world.keys.has_expired(call.key)
            raise RequestRefused(
                error_responses.reply_expired_token(call.protocol)
                if has_expired
                else error_responses.reply_unknown_key(call.protocol)
            )
        own = call.headers.get("x-sandbox-token") == self.world.token  # a call of the sandbox itself
        try:
            self.check_region_and_time(call)
            call = parsing.resolve_operation(call)
            params = self.authorize_call(call, own)
        except RequestRefused as refusal:
            self.world.log.add(call.service, call.operation, caller, refusal.reply[0], 0.0)
            raise
        began = time.monotonic()
        lag = self.world.faults.lag
        if not own and (unknown := lag.refuse(call, params, self.world.clock.now())):
            self.world.log.add(call.service, call.operation, caller, unknown[0], 0.0, unknown[1])
            return send_reply(start_response, *reply_error(call.protocol, *unknown))
        fault = self.world.faults.take_due_fault(call.operation)
        if fault and fault.do == "error":
            self.world.log.add(call.service, call.operation, caller, fault.status, 0.0, fault.code)
            return send_reply(start_response, *reply_error(call.protocol, fault.status, fault.code, fault.message))
        status, chunks = self.call_moto(call, params, start_response, lost=bool(fault and fault.do == "lost"))
        chunks = list(chunks)
        if status < 300:
            lag.note_creation(call, params, chunks[0], self.world.clock.now())
        if not own:
            spent = time.monotonic() - began
            self.world.log.add(call.service, call.operation, caller, status, spent, fault.do if fault else "")
        return chunks

    def check_region_and_time(self, call: Call) -> None:
        """Raise RequestRefused for another region (except for IAM and STS, which are global) or a signing time that is off."""
        if call.region != REGION and call.service not in ("iam", "sts"):
            raise RequestRefused(error_responses.reply_wrong_region(call.protocol, call.region))
        if skewed := error_responses.check_clock_skew(call.protocol, call.headers.get("x-amz-date", "")):
            raise RequestRefused(skewed)

    def authorize_call(self, call: Call, own: bool) -> dict[str, Any]:
        """Return the parameters. Raises RequestRefused unless the caller may make the call; the sandbox's own calls need no permission."""
        if call.operation not in TABLE.get(call.service, ("", "", {}))[2]:
            raise error_responses.build_unsupported_error(call.protocol, f"{call.service}:{call.operation}")
        try:
            params = parameters.read(call)
            constraints.validate(call, params)
            if not own:
                enforce.check(self.world, call, params)
        except RequestRefused:
            raise
        except enforce.Denied as denied:
            raise RequestRefused(
                error_responses.reply_access_denied(call.service, call.protocol, str(denied))
            ) from None
        except Exception:  # a call that cannot be authorised is refused
            named = f"{call.service}:{call.operation}"
            self.world.note(f"{named} could not be authorised:\n{traceback.format_exc()}")
            message = f"The sandbox could not authorise {call.operation}; its log has the error"
            raise RequestRefused(reply_error(call.protocol, 500, "InternalFailure", message)) from None
        return params

    def call_moto(
        self, call: Call, params: dict[str, Any], start_response: Callable[..., Any], lost: bool
    ) -> tuple[int, Iterable[bytes]]:
        seen: list[Any] = []

        def note(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[[bytes], None]:
            seen[:] = [status, headers]
            return lambda data: None

        named = f"{call.service}:{call.operation}"
        try:
            chunks = b"".join(self.app(parsing.build_moto_environ(call, params), note))
        except NotImplementedError:
            return 501, send_reply(start_response, *error_responses.reply_not_implemented(call.protocol, named))
        except Exception:  # a client cannot read an HTML page
            self.world.note(f"{named} failed:\n{traceback.format_exc()}")
            message = f"The sandbox could not carry out {call.operation}; its log has the error"
            return 500, send_reply(start_response, *reply_error(call.protocol, 500, "InternalFailure", message))
        status, headers = seen[0], [(name, value) for name, value in seen[1] if name.lower() != "content-length"]
        code = int(status.split()[0])
        if code >= 400:
            chunks = wording.use_aws_words(call.model, call.operation, params, chunks)
        html = any(name.lower() == "content-type" and "html" in value for name, value in headers)
        if html and (
            (code in (404, 405) and b"<!doctype" in chunks[:50].lower())
            or (code == 500 and b"NotImplementedError" in chunks)
        ):
            return 501, send_reply(start_response, *error_responses.reply_not_implemented(call.protocol, named))
        if lost:
            message = "The response was lost (an injected fault of the sandbox)"
            return code, send_reply(start_response, *reply_error(call.protocol, 500, "InternalFailure", message))
        if call.environ["REQUEST_METHOD"] == "HEAD":
            start_response(status, seen[1])
            return code, [chunks]
        start_response(status, [*headers, ("Content-Length", str(len(chunks)))])
        return code, [chunks]


def send_reply(start_response: Callable[..., Any], status: int, headers: dict[str, str], body: bytes) -> list[bytes]:
    # The request's body may not have been read: this connection cannot carry another request.
    start_response(
        f"{status} {HTTPStatus(status).phrase}",
        [*headers.items(), ("Content-Length", str(len(body))), ("Connection", "close")],
    )
    return [body]

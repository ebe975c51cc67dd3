"""The container behind the endpoint: SageMaker's contract on starlette and uvicorn.

    python server.py serve     listens on SAGEMAKER_BIND_TO_PORT (8080), serves OPT_ML/model (/opt/ml/model)

GET /ping returns 200 while real inferences succeed. POST /invocations takes a JPEG or PNG and returns JSON, or 503 at once
when the queue is full. GET /metrics returns Prometheus text. SIGTERM stops new requests; those in progress finish.
"""

import asyncio
import contextlib
import os
import pwd
import socket
import sys
import threading
import time
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from admission import Admission, Body, DeadlineExceeded, QueueFull, reduce_priority
from engine import Answer, BadRelease, Engine, count_vcpus
from imaging import REQUEST_BYTES, PictureError
from memory import map_large_blocks
from protocol import ACCEPTED, SECONDS, BoundedProtocol, Phase, choose_connection_limit
from telemetry import Telemetry, log, setup_logging

CONTENT_TYPES = {"image/jpeg", "image/jpg", "image/pjpeg", "image/png", "application/x-image"}
DRAIN_S = 25  # SageMaker kills 30 s after SIGTERM
RECENT_S = 10.0  # an inference that succeeded within this time answers a ping
PING_S = 1.5  # SageMaker gives a ping two seconds
RETRY_S = "1"
DISCARD_S = 1.0  # to read the rest of a refused body
WAITING = 2048  # connections that the kernel holds until they are accepted
USER = "server"  # of the Dockerfile


class BodyTooLarge(Exception):
    """The body exceeds REQUEST_BYTES."""


class Server:
    """The handlers of the three routes, for one release."""

    def __init__(self, engine: Engine) -> None:
        self.engine, self.telemetry, self.admission = engine, Telemetry(), Admission(count_vcpus())
        self.telemetry.limit.set(self.admission.limit)
        self.telemetry.request_count.set_function(lambda: self.admission.request_count)
        self.telemetry.release.labels(engine.digest, engine.precision).set(1)

    async def ping(self, request: Request) -> Response:
        """Return 200 after a recent inference, or else after the workers reproduce a golden answer."""
        if time.monotonic() - self.admission.last_answer_at < RECENT_S:
            return Response(status_code=200)
        picture, scores = next(iter(self.engine.golden))
        try:
            async with asyncio.timeout(PING_S):
                passed = await asyncio.wrap_future(
                    self.admission.submit(lambda: self.engine.reproduces_scores(picture, scores))
                )
        except TimeoutError:
            return build_error_response(503, f"no inference finished within {PING_S} s")
        return (
            Response(status_code=200)
            if passed
            else build_error_response(503, "the model does not reproduce its golden answers")
        )

    async def metrics(self, request: Request) -> Response:
        return Response(self.telemetry.render(), media_type="text/plain; version=0.0.4")

    async def invocations(self, request: Request) -> Response:
        began, size = time.monotonic(), [0]
        response = await self.respond(request, size)
        if response.status_code >= 400:
            await discard_body(request)
        self.telemetry.record_response(response.status_code, time.monotonic() - began, size[0])
        return response

    async def respond(self, request: Request, size: list[int]) -> Response:
        content_type = request.headers.get("content-type", "").split(";")[0].strip().lower()
        if content_type not in CONTENT_TYPES:
            return build_error_response(
                415, f"content type {content_type[:100] or 'missing'}; send one of {', '.join(sorted(CONTENT_TYPES))}"
            )
        try:
            answer = await self.admission.process(
                lambda body: read_bounded_body(request, body, size), self.classify_timed
            )
        except QueueFull:
            return build_error_response(503, "the queue is full; try again", {"Retry-After": RETRY_S})
        except DeadlineExceeded:
            return build_error_response(503, "the deadline passed; try again", {"Retry-After": RETRY_S})
        except BodyTooLarge:
            return build_error_response(413, f"the body is larger than {REQUEST_BYTES} bytes")
        except ClientDisconnect:
            return build_error_response(400, "the body ended early")  # the caller has disconnected
        except PictureError as error:
            return build_error_response(400, str(error))
        except Exception:  # any other error: JSON to the caller, counted, with the traceback in the log
            log.exception("a request failed")
            return build_error_response(500, "the server failed")
        certain = {} if answer.certain is None else {"certain": answer.certain}
        return JSONResponse({"release": self.engine.digest, "best": answer.best, "classes": self.engine.classes,
                             "scores": answer.scores, "probabilities": answer.probabilities, **certain})  # fmt: skip

    def classify_timed(self, body: bytes) -> Answer:
        with self.telemetry.work.time():
            return self.engine.classify(body)


async def read_bounded_body(request: Request, body: Body, size: list[int]) -> bytes:
    """Return the body. Raises BodyTooLarge as soon as it exceeds REQUEST_BYTES, and QueueFull when all bodies are too many."""
    if int(request.headers.get("content-length", 0)) > REQUEST_BYTES:
        raise BodyTooLarge
    data = bytearray()
    async for chunk in request.stream():
        size[0] += len(chunk)
        if size[0] > REQUEST_BYTES:
            raise BodyTooLarge
        body.grow(len(chunk))
        data += chunk
    return bytes(data)


async def discard_body(request: Request) -> None:
    """Read the rest of a refused body, within limits: closing earlier would reset the connection and lose the reply."""
    remaining = 2 * REQUEST_BYTES
    with contextlib.suppress(TimeoutError, ClientDisconnect, RuntimeError):  # the last: the body was read before
        async with asyncio.timeout(DISCARD_S):
            async for chunk in request.stream():
                remaining -= len(chunk)
                if remaining < 0:
                    return


def build_error_response(status: int, reason: str, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"error": reason}, status, headers)


def build_application(engine: Engine) -> Starlette:
    server = Server(engine)
    names = os.environ.get("SERVED_HOSTS", "*").split(",")  # unset on AWS, where only SageMaker reaches the container
    return Starlette(
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=names, www_redirect=False)],
        routes=[
            Route("/ping", server.ping),
            Route("/metrics", server.metrics),
            Route("/invocations", server.invocations, methods=["POST"]),
        ],
    )


def load_engine(folder: Path) -> Engine:
    """Load the release on a thread with the workers' niceness, which OpenVINO's threads inherit. Raises BadRelease."""
    found: list[Engine | BaseException] = []

    def load() -> None:
        reduce_priority()
        try:
            found.append(Engine(folder))
        except BaseException as error:
            found.append(error)

    thread = threading.Thread(target=load)
    thread.start()
    thread.join()
    if isinstance(found[0], BaseException):
        raise found[0]
    return found[0]


def drop_privileges(user: str = USER) -> None:
    """Go on as this user when started as root. Without such a user, as on the local AWS, or without the right to, nothing changes."""
    if os.geteuid() != 0:
        return
    try:
        entry = pwd.getpwnam(user)
        os.setgroups([])
        os.setgid(entry.pw_gid)
        os.setuid(entry.pw_uid)
    except (KeyError, PermissionError) as error:
        log.warning("the server goes on as root: %s", error)


class PatientServer(uvicorn.Server):
    """A server before which more connections wait than asyncio accepts at once: the kernel drops the others for a second."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for listening in (one for server in self.servers for one in server.sockets):
            with socket.socket(fileno=os.dup(listening.fileno())) as same:
                same.listen(WAITING)


def serve(application: Starlette, host: str, port: int) -> None:
    BoundedProtocol.limit = choose_connection_limit(count_vcpus())
    PatientServer(
        uvicorn.Config(
            application,
            host=host,
            port=port,
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=DRAIN_S,
            timeout_keep_alive=int(SECONDS[Phase.IDLE]),
            http=BoundedProtocol,
            ws="none",
            backlog=ACCEPTED,
        )
    ).run()


def main() -> int:
    setup_logging()
    map_large_blocks()
    folder = Path(os.environ.get("OPT_ML", "/opt/ml")) / "model"
    try:
        engine = load_engine(folder)
    except BadRelease as error:
        log.error("error: the release cannot be served: %s", error)
        return 1
    drop_privileges()  # only now: root alone may be able to read the release
    summary = {
        "release": engine.digest,
        "classes": len(engine.classes),
        "precision": engine.precision,
        "threads": count_vcpus(),
    }
    log.info("serving", extra={"fields": summary})
    host = os.environ.get("SAGEMAKER_BIND_HOST", "0.0.0.0")  # noqa: S104  a container's port is reached from outside
    port = int(os.environ.get("SAGEMAKER_BIND_TO_PORT", "8080"))
    serve(build_application(engine), host, port)
    return 0


if __name__ == "__main__":
    sys.exit(main())

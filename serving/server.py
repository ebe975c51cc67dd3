"""The container behind the endpoint: SageMaker's contract on starlette and uvicorn.

    python server.py serve     listens on SAGEMAKER_BIND_TO_PORT (8080), reads the release from OPT_ML/model (/opt/ml/model)

GET /ping is 200 once the release has given its golden answers. POST /invocations takes a JPEG or PNG and answers JSON.
SIGTERM stops taking requests and lets those under way end.
"""

import json
import logging
import os
import sys
from pathlib import Path

import uvicorn
from engine import BadPicture, BadRelease, Engine, threads
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

TYPES = {"image/jpeg", "image/png", "application/x-image"}
BODY_BYTES = 6_291_456  # InvokeEndpoint's own limit
DRAIN_S = 25  # SageMaker kills 30 s after SIGTERM
log = logging.getLogger("serving")


async def ping(request: Request) -> Response:
    return Response(status_code=200)


async def invocations(request: Request) -> Response:
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if kind not in TYPES:
        return refusal(415, f"content type {kind or 'missing'}; taken are {', '.join(sorted(TYPES))}")
    body = await bounded(request)
    if body is None:
        return refusal(413, f"more than {BODY_BYTES} bytes")
    engine: Engine = request.app.state.engine
    try:
        answer = await run_in_threadpool(engine.classify, body)
    except BadPicture as error:
        return refusal(400, str(error))
    return JSONResponse(
        {
            "release": engine.digest,
            "best": answer.best,
            "classes": engine.classes,
            "scores": answer.scores,
            "probabilities": answer.probabilities,
        }
    )


async def bounded(request: Request) -> bytes | None:
    """The body, or None as soon as it is too long."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > BODY_BYTES:
            return None
    return bytes(body)


def refusal(status: int, reason: str) -> JSONResponse:
    return JSONResponse({"error": reason}, status)


def application(engine: Engine) -> Starlette:
    app = Starlette(routes=[Route("/ping", ping), Route("/invocations", invocations, methods=["POST"])])
    app.state.engine = engine
    return app


def main() -> int:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stdout)
    folder = Path(os.environ.get("OPT_ML", "/opt/ml")) / "model"
    try:
        engine = Engine(folder)
    except BadRelease as error:
        log.error(json.dumps({"error": f"the release cannot be served: {error}"}))
        return 1
    log.info(json.dumps({"release": engine.digest, "classes": len(engine.classes), "threads": threads()}))
    host = os.environ.get("SAGEMAKER_BIND_HOST", "0.0.0.0")  # noqa: S104  a container's port is reached from outside
    uvicorn.run(
        application(engine),
        host=host,
        port=int(os.environ.get("SAGEMAKER_BIND_TO_PORT", "8080")),
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=DRAIN_S,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())

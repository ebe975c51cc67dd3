"""The LitServe opponent of bench.serve, with the same model. It takes bodies as bytes, like ours, not base64 in JSON.

python litserve_app.py PORT WORKERS      MODEL, TORCH_THREADS and TORCH_PACKAGES are those of flask_app.py
"""

import sys
from typing import Annotated, Any

import flask_app  # first: it adds the path of torch
import litserve
from fastapi import Depends, Request


async def read_raw_body(request: Request) -> bytes:
    body: bytes = await request.body()
    return body


class Api(litserve.LitAPI):  # type: ignore[misc]  # litserve is in .venv-bench alone
    def setup(self, device: str) -> None:
        self.classifier = flask_app.Classifier()

    def decode_request(self, request: Annotated[bytes, Depends(read_raw_body)]) -> bytes:
        return request

    def predict(self, body: bytes) -> dict[str, Any]:
        found: dict[str, Any] = self.classifier.answer(body)
        return found

    def encode_response(self, output: dict[str, Any]) -> dict[str, Any]:
        return output


if __name__ == "__main__":
    server = litserve.LitServer(
        Api(api_path="/invocations"),
        accelerator="cpu",
        workers_per_device=int(sys.argv[2]),
        healthcheck_path="/ping",
        timeout=60,
    )
    server.run(host="127.0.0.1", port=int(sys.argv[1]), generate_client_file=False, log_level="warning")

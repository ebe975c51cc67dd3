"""The server's telemetry: Prometheus text at /metrics, which SageMaker scrapes, and JSON lines for CloudWatch Logs."""

import json
import logging
import os
import sys
import warnings
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)
log = logging.getLogger("serving")


class Telemetry:
    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        options: Any = {"registry": self.registry}
        self.requests = Counter("serving_requests", "Responses to /invocations, by status", ["status"], **options)
        self.seconds = Histogram(
            "serving_request_seconds", "From the request's headers to the response", buckets=SECONDS, **options
        )
        self.work = Histogram("serving_work_seconds", "Decoding and inference", buckets=SECONDS, **options)
        self.request_count = Gauge("serving_requests_inside", "Requests in the queue or in progress", **options)
        self.limit = Gauge("serving_requests_limit", "Requests inside from which further ones get 503", **options)
        self.release = Gauge("serving_release_info", "The release that is served", ["digest", "precision"], **options)

    def record_response(self, status: int, seconds: float, size: int) -> None:
        self.requests.labels(str(status)).inc()
        self.seconds.observe(seconds)
        log.debug("answered", extra={"fields": {"status": status, "ms": round(seconds * 1000, 1), "bytes": size}})

    def render(self) -> bytes:
        return generate_latest(self.registry)


class JsonFormatter(logging.Formatter):
    """The log format: one JSON object per line, never with request content."""

    def format(self, record: logging.LogRecord) -> str:
        line = {"time": self.formatTime(record), "level": record.levelname.lower(), "message": record.getMessage()}
        if record.exc_info and record.exc_info[0]:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line | getattr(record, "fields", {}))


def setup_logging() -> None:
    """Log everything to stdout, including uvicorn's lines; LOG_LEVEL=debug adds a line per request."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=os.environ.get("LOG_LEVEL", "info").upper(), handlers=[handler], force=True)
    warnings.simplefilter("ignore")  # Pillow's warnings quote request content, a line for each broken tag
    for name in ("uvicorn", "uvicorn.error", "asyncio", "PIL"):  # PIL logs every chunk of every picture at debug
        logging.getLogger(name).setLevel(logging.WARNING)

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
        where: Any = {"registry": self.registry}
        self.requests = Counter("serving_requests", "Answers to /invocations, by status", ["status"], **where)
        self.seconds = Histogram("serving_request_seconds", "From the head to the answer", buckets=SECONDS, **where)
        self.work = Histogram("serving_work_seconds", "Decoding and inference", buckets=SECONDS, **where)
        self.inside = Gauge("serving_requests_inside", "Waiting, and being worked on", **where)
        self.limit = Gauge("serving_requests_limit", "With so many inside, others are refused", **where)
        self.release = Gauge("serving_release_info", "The release that answers", ["digest", "precision"], **where)

    def answered(self, status: int, seconds: float, size: int) -> None:
        self.requests.labels(str(status)).inc()
        self.seconds.observe(seconds)
        log.debug("answered", extra={"fields": {"status": status, "ms": round(seconds * 1000, 1), "bytes": size}})

    def text(self) -> bytes:
        return generate_latest(self.registry)


class Lines(logging.Formatter):
    """The log format: one JSON object per line, never with request content."""

    def format(self, record: logging.LogRecord) -> str:
        line = {"time": self.formatTime(record), "level": record.levelname.lower(), "message": record.getMessage()}
        if record.exc_info and record.exc_info[0]:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line | getattr(record, "fields", {}))


def setup_logging() -> None:
    """Log everything to stdout, including uvicorn's lines; LOG_LEVEL=debug adds a line per request."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(Lines())
    logging.basicConfig(level=os.environ.get("LOG_LEVEL", "info").upper(), handlers=[handler], force=True)
    warnings.simplefilter("ignore")  # Pillow's warnings quote request content, a line for each broken tag
    for name in ("uvicorn", "uvicorn.error", "asyncio", "PIL"):  # PIL logs every chunk of every picture at debug
        logging.getLogger(name).setLevel(logging.WARNING)

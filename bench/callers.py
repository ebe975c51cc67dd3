"""The callers of bench.serve, in a process of their own. Each line on stdin requests a measurement; a line answers it.

python -m bench.callers GOLDEN      {"port": 8080, "callers": 8, "seconds": 1.5}  ->  {"good": 60, "cell": {...}}
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ops.releases import load_test


@dataclass(frozen=True)
class Cell:
    """The measurement of one server under a number of callers. Quantiles, in seconds, are None without values."""

    rate: float  # successes per second
    p50: float | None
    p99: float | None
    refused: int
    refused_p99: float | None
    failed: int
    cpu_s: float | None = None  # of the server, per success

    @classmethod
    def from_load_test(cls, found: load_test.LoadResult, seconds: float) -> Cell:
        """Summarise a load test; `seconds` lasts until the last answer: `found` includes requests that ended late."""
        good, refused = found.latencies(200), found.latencies(503)
        middle, high, late = ((load_test.compute_quantile(times, q) if times else None) for times, q in
                              ((good, 0.5), (good, 0.99), (refused, 0.99)))  # fmt: skip
        return cls(len(good) / seconds, middle, high, len(refused), late, found.failed)


def read_pictures(golden: Path) -> list[bytes]:
    """Return the pictures of a golden.npz, each as the bytes of its file."""
    with np.load(golden) as archive:
        whole, ends = archive["pictures"].tobytes(), archive["ends"].tolist()
    return [whole[start:end] for start, end in zip([0, *ends[:-1]], ends, strict=True)]


def measure_server(request: dict[str, Any], pictures: list[bytes]) -> dict[str, Any]:
    """Measure one server with the requested number of callers and seconds."""
    began = time.monotonic()
    found = load_test.run_load(request["port"], pictures, request["callers"], request["seconds"])
    return {"good": len(found.latencies(200)), "cell": asdict(Cell.from_load_test(found, time.monotonic() - began))}


if __name__ == "__main__":
    golden_pictures = read_pictures(Path(sys.argv[1]))
    for line in sys.stdin:
        print(json.dumps(measure_server(json.loads(line), golden_pictures)), flush=True)

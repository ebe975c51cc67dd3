"""An index of CloudWatch's data points by metric, in order of time. World holds one.

moto keeps a single list of all points; alarms are evaluated several times a second and need only a few of them.
"""

from __future__ import annotations

import bisect
import threading
from collections import defaultdict
from datetime import UTC, datetime
from typing import Any

Metric = tuple[str, str, dict[str, str]]  # namespace, name, dimensions


def make_aware(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


class MetricIndex:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._read = 0  # length of moto's list already indexed
        self._points: dict[Any, list[tuple[float, float]]] = defaultdict(list)  # (seconds since 1970, value)

    def find_points(self, data: list[Any], metric: Metric, since: float, until: float) -> list[tuple[float, float]]:
        """Return one metric's points in [since, until), in seconds since 1970. `data` is moto's list of all points."""
        namespace, name, dimensions = metric
        with self._lock:
            for datum in data[self._read :]:
                where = frozenset((d.name, d.value) for d in datum.dimensions)
                if hasattr(datum, "value"):  # skip those put as statistic sets
                    point = (make_aware(datum.timestamp).timestamp(), datum.value)
                    bisect.insort(self._points[datum.namespace, datum.name, where], point)
                self._read += 1
            points = self._points[namespace, name, frozenset(dimensions.items())]
            return points[bisect.bisect_left(points, (since,)) : bisect.bisect_left(points, (until,))]

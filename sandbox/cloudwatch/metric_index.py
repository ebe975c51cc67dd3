"""CloudWatch's numbers by metric, in time's order. World holds one.

moto keeps one list of all there ever was; alarms are looked at several times a second, and ask for a few of them.
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
        self._read = 0  # of moto's list
        self._points: dict[Any, list[tuple[float, float]]] = defaultdict(list)  # (time since 1970, value)

    def between(self, data: list[Any], of: Metric, since: float, until: float) -> list[tuple[float, float]]:
        """The points of one metric from one time since 1970 to before another. `data` is moto's list of all."""
        namespace, name, dimensions = of
        with self._lock:
            for datum in data[self._read :]:
                where = frozenset((d.name, d.value) for d in datum.dimensions)
                if hasattr(datum, "value"):  # not those that came as statistics
                    point = (make_aware(datum.timestamp).timestamp(), datum.value)
                    bisect.insort(self._points[datum.namespace, datum.name, where], point)
                self._read += 1
            points = self._points[namespace, name, frozenset(dimensions.items())]
            return points[bisect.bisect_left(points, (since,)) : bisect.bisect_left(points, (until,))]

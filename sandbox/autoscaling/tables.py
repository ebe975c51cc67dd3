"""The tables that Application Auto Scaling keeps beside moto's targets, policies and schedules. World holds one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class ScalingTables:
    activities: list[dict[str, Any]] = field(default_factory=list)  # the newest last
    in_progress: dict[str, dict[str, Any]] = field(default_factory=dict)  # resource -> the activity that changes it now
    # (resource, "out" | "in") -> when it was last scaled, on the sandbox's clock
    scaled_at: dict[tuple[str, str], float] = field(default_factory=dict)
    periods: dict[str, int] = field(default_factory=dict)  # alarm -> number of the last evaluated period

"""The tables that the sandbox's Lambda keeps beside moto's records. World holds one; `lock` guards all of them."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sandbox.function.workers import Worker


@dataclass
class FunctionTables:
    idle: dict[tuple[str, str], list[Worker]] = field(default_factory=dict)  # (function, version and code) -> workers
    running: dict[str, int] = field(default_factory=dict)  # function -> invocations under way
    # (function, version or alias) -> its provisioned concurrency, as GetProvisionedConcurrencyConfig returns it
    provisioned: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    urls: dict[tuple[str, str], dict[str, Any]] = field(
        default_factory=dict
    )  # (function, alias or "") -> its URL's config
    updating_until: dict[str, float] = field(default_factory=dict)  # function -> second of the sandbox's clock
    lock: threading.Lock = field(default_factory=threading.Lock)

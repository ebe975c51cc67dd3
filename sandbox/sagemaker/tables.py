"""The tables that the sandbox's SageMaker keeps beside moto's records. World holds one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sandbox.sagemaker.endpoints import LiveEndpoint
    from sandbox.sagemaker.runs import Run
    from sandbox.sagemaker.tuning import Search


@dataclass
class SageMakerTables:
    runs: dict[str, Run] = field(default_factory=dict)  # by training job
    searches: dict[str, Search] = field(default_factory=dict)  # by tuning job
    endpoints: dict[str, LiveEndpoint] = field(default_factory=dict)  # by name
    hanging: set[str] = field(default_factory=set)  # endpoints whose instances hang at start

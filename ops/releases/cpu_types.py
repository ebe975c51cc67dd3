"""The CPUs of SageMaker's instance types: how many vCPUs they have, and whether they compute in bf16."""

from __future__ import annotations

from dataclasses import dataclass

VCPUS = {"large": 2, "xlarge": 4, "2xlarge": 8, "4xlarge": 16}
CHIPS = {  # Intel's, by family, and whether they compute in bf16 (AMX); Ice Lake and older ones do not
    "m5": ("Skylake or Cascade Lake", False),
    "c5": ("Skylake or Cascade Lake", False),
    "m6i": ("Ice Lake", False),
    "c6i": ("Ice Lake", False),
    "m7i": ("Sapphire Rapids", True),
    "c7i": ("Sapphire Rapids", True),
}


@dataclass(frozen=True)
class CpuType:
    vcpus: int
    chip: str
    amx: bool


def find_cpu_type(instance_type: str) -> CpuType | None:
    """Return the CPU of an instance type; None for an unknown type, such as one whose GPU does the work."""
    family, _, size = instance_type.removeprefix("ml.").partition(".")
    if family not in CHIPS or size not in VCPUS:
        return None
    chip, amx = CHIPS[family]
    return CpuType(VCPUS[size], chip, amx)

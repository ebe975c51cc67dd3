"""What one server did with a release on this machine: measured at the preflight, kept beside the release."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ops.core.errors import OpsError

if TYPE_CHECKING:
    from ops.core.aws.account import Account
    from ops.releases.build import Release


@dataclass(frozen=True)
class Measured:
    """In a closed loop of `concurrency` callers with the golden pictures. `precision` is fp32 or bf16."""

    release: str
    vcpus: int
    cpu: str
    precision: str
    requests_per_second: float
    p50_ms: float
    p99_ms: float
    concurrency: int
    date: str


def of(account: Account, release: Release) -> Measured:
    """What the preflight of a release measured. Raises OpsError when there is nothing on record."""
    from ops.releases import build

    about = build.about(account, release.digest)
    if about is None or not about.get("measured"):
        raise OpsError(f"Release {release.short} was never measured: invoke sm.preflight --job {release.job or 'JOB'}")
    return Measured(**about["measured"])

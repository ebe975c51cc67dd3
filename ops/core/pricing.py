"""What things cost an hour on AWS, from the dated table pricing.toml. A price that is not there is an error, not a zero."""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path
from typing import Any

from ops.core.errors import OpsError

TABLE = Path(__file__).with_name("pricing.toml")
HOURS_A_MONTH = 730


@cache
def prices() -> dict[str, Any]:
    return tomllib.loads(TABLE.read_text())


def hourly(kind: str, instance_type: str, count: int = 1) -> float:
    """Dollars an hour for `count` instances; `kind` is ec2 or sagemaker. Raises OpsError for a type not in the table."""
    try:
        return float(prices()[kind][instance_type]) * count
    except KeyError:
        raise OpsError(
            f"No price is known for {instance_type} in ops/core/pricing.toml: add it under [{kind}], with its date."
        ) from None


def disk(gib: int) -> float:
    return gib * float(prices()["unit"]["gp3_gib_month"]) / HOURS_A_MONTH


def interface_endpoint(zones: int) -> float:
    return zones * float(prices()["unit"]["interface_endpoint"])


def public_address() -> float:
    return float(prices()["unit"]["public_ipv4"])


def provisioned(count: int, memory_mb: int) -> float:
    return count * memory_mb / 1024 * 3600 * float(prices()["unit"]["provisioned_gib_second"])


def alarm() -> float:
    return float(prices()["unit"]["alarm_month"]) / HOURS_A_MONTH


def build_minute() -> float:
    """What CodeBuild's small machine costs; each begun minute counts."""
    return float(prices()["unit"]["build_minute"])


def stored_image(size: int) -> float:
    """Dollars a month for `size` bytes in ECR."""
    return size / 1e9 * float(prices()["unit"]["registry_gb_month"])

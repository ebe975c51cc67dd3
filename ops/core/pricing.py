"""AWS's list prices, from the dated table pricing.toml. A missing price is an error, not a zero."""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path
from typing import Any

from ops.core.errors import OpsError

TABLE = Path(__file__).with_name("pricing.toml")
HOURS_A_MONTH = 730


@cache
def read_prices() -> dict[str, Any]:
    return tomllib.loads(TABLE.read_text())


def price_instances(service: str, instance_type: str, count: int = 1) -> float:
    """Return dollars an hour for `count` instances; `service` is ec2 or sagemaker. Raises OpsError for a type not in the table."""
    try:
        return float(read_prices()[service][instance_type]) * count
    except KeyError:
        raise OpsError(
            f"ops/core/pricing.toml has no price for {instance_type}: add it under [{service}], with its date."
        ) from None


def price_disk(gib: int) -> float:
    return gib * float(read_prices()["unit"]["gp3_gib_month"]) / HOURS_A_MONTH


def price_interface_endpoint(zones: int) -> float:
    return zones * float(read_prices()["unit"]["interface_endpoint"])


def price_public_address() -> float:
    return float(read_prices()["unit"]["public_ipv4"])


def price_provisioned_concurrency(count: int, memory_mb: int) -> float:
    return count * memory_mb / 1024 * 3600 * float(read_prices()["unit"]["provisioned_gib_second"])


def price_alarm() -> float:
    return float(read_prices()["unit"]["alarm_month"]) / HOURS_A_MONTH


def price_build_minute() -> float:
    """Return the price of a minute on CodeBuild's small machine; AWS bills each begun minute."""
    return float(read_prices()["unit"]["build_minute"])


def price_stored_image(size: int) -> float:
    """Return dollars a month for `size` bytes in ECR."""
    return size / 1e9 * float(read_prices()["unit"]["registry_gb_month"])

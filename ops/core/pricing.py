"""AWS's list prices, from the dated table pricing.toml. A price that is not in it is NaN, which is printed as "?": it stops nothing."""

from __future__ import annotations

import math
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

from ops.core import running
from ops.core.output import say

TABLE = Path(__file__).with_name("pricing.toml")
HOURS_A_MONTH = 730


@cache
def read_prices() -> dict[str, Any]:
    """Return the table. The first call of a process tells that its prices are of another region than the settings'."""
    table = tomllib.loads(TABLE.read_text())
    if running.region not in ("", table["region"]):
        say(
            f"ops/core/pricing.toml has no prices of {running.region}: those shown are of {table['region']}, and differ by some per cent."
        )
    return table


def price_instances(service: str, instance_type: str, count: int = 1) -> float:
    """Return dollars an hour for `count` instances, NaN for a type not in the table; `service` is ec2 or sagemaker."""
    return float(read_prices()[service].get(instance_type, math.nan)) * count


def format_price(amount: float, digits: int) -> str:
    """Return the amount with its digits, or "?" when it is unknown."""
    return "?" if math.isnan(amount) else f"{amount:.{digits}f}"


def find_known(amount: float) -> float | None:
    """Return the amount, None when it is unknown."""
    return None if math.isnan(amount) else amount


def round_price(amount: float, digits: int) -> float | None:
    """Return the rounded amount for --json, None when it is unknown."""
    return None if math.isnan(amount) else round(amount, digits)


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

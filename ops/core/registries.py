"""The registries of AWS's training images, from the dated table registries.toml: each region has its own, some of another account."""

from __future__ import annotations

import re
import tomllib
from functools import cache
from pathlib import Path

TABLE = Path(__file__).with_name("registries.toml")
WHOLE = re.compile(r"(?P<account>[0-9]{12})\.dkr\.ecr\.(?P<region>[a-z0-9-]+)\.amazonaws\.com/.+")


@cache
def read_accounts() -> dict[str, str]:
    """Return the account of AWS's registry in each region."""
    table = tomllib.loads(TABLE.read_text())
    accounts: dict[str, str] = dict.fromkeys(table["regions"], table["usual"]) | table["elsewhere"]
    return accounts


def read_image_region(image: str) -> str:
    """Return the region that a whole image name contains; "" for a name without a registry, which is of any region."""
    whole = WHOLE.fullmatch(image)
    return whole["region"] if whole else ""


def build_image_uri(image: str, region: str) -> str:
    """Return the whole name of an image: `pytorch:TAG` is one of AWS's own registry in this region."""
    return image if WHOLE.fullmatch(image) else f"{read_accounts()[region]}.dkr.ecr.{region}.amazonaws.com/{image}"

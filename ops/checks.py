"""What has to be right before anything else can be, each with the command that mends it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass

from ops import ROOT
from ops.aws import Account
from ops.config import REPOSITORY
from ops.errors import OpsError, Refused

DISK_GB = 3


@dataclass(frozen=True)
class Check:
    name: str
    ok: bool
    found: str
    mend: str = ""


def examine(account: Account) -> Iterator[Check]:
    settings = account.settings
    try:
        caller = account.call("sts", "get_caller_identity")
        yield Check("credentials", True, caller["Arn"])
    except (Refused, OpsError) as error:
        yield Check("credentials", False, str(error), "log in, or: invoke sandbox.up")
        return
    same = caller["Account"] == settings.aws.account
    yield Check(
        "account",
        same,
        caller["Account"],
        f"the settings say {settings.aws.account}: take that account's file, invoke -f FILE ...",
    )
    region = account.region or settings.aws.region
    yield Check(
        "region", region == settings.aws.region, region, f"aws.region is {settings.aws.region}: one of the two is wrong"
    )
    yield image(account)
    free = shutil.disk_usage(ROOT).free / 1e9
    yield Check(
        "disk",
        free > DISK_GB,
        f"{free:.0f} GB free",
        f"{DISK_GB} GB are wanted for models and releases: rm -r .kennel/models .kennel/releases",
    )


def image(account: Account) -> Check:
    """Whether the image of this very serving/ is in ECR. Not wrong without it: nothing but a deploy needs it."""
    from ops.sm import image as images

    tag = images.missing(account)
    found = f"{REPOSITORY}:{tag} is not built; before a deploy: invoke sm.image" if tag else f"{REPOSITORY} is built"
    return Check("image", True, found)

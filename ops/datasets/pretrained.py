"""The weights that training starts from: staged in the bucket once, since neither the box nor a job reaches the internet.

weights/SHA256/NAME              a file, content-addressed
weights/imagenet/ARCH.json       which of them are torchvision's published ones for an architecture
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from ops.core import settings
from ops.core.aws.account import Account
from ops.core.errors import OpsError
from ops.core.output import say

NONE, IMAGENET = "none", "imagenet"


@dataclass(frozen=True)
class Weights:
    """A file of weights; `path` where it lies on this machine, if it may have to be sent."""

    sha256: str
    name: str
    path: Path | None = None

    @property
    def prefix(self) -> str:
        return f"weights/{self.sha256}/"

    @property
    def key(self) -> str:
        return self.prefix + self.name


def pointer(arch: str) -> str:
    return f"weights/{IMAGENET}/{arch}.json"


def chosen(account: Account) -> Weights | None:
    """What train.weights names: nothing, torchvision's for train.arch, or a file. Raises OpsError."""
    train = account.settings.train
    if train.weights == NONE:
        return None
    if train.weights != IMAGENET:
        return of_file(settings.below_root(train.weights))
    found = account.call_or_none(
        "s3", "get_object", "NoSuchKey|NoSuchBucket", Bucket=account.settings.bucket, Key=pointer(train.arch)
    )
    if found is None:
        raise OpsError(
            f"torchvision's weights of {train.arch} are not in the bucket. Stage them once: invoke data.weights {train.arch}"
        )
    return Weights(**json.loads(found["Body"].read()))


def of_file(path: Path) -> Weights:
    """Raises OpsError when there is no such file."""
    if not path.is_file():
        raise OpsError(
            f"train.weights is {path}: there is no such file. It is none, imagenet, or a .pth or .safetensors file."
        )
    with path.open("rb") as file:
        return Weights(hashlib.file_digest(file, "sha256").hexdigest(), path.name, path)


def stage(account: Account, weights: Weights) -> None:
    """Put the file in the bucket unless it is there."""
    bucket = account.settings.bucket
    if weights.path is None or account.call_or_none(
        "s3", "head_object", "404|NoSuchBucket", Bucket=bucket, Key=weights.key
    ):
        return
    say(f"Sending {weights.name} to s3://{bucket}/{weights.prefix} ...")
    with weights.path.open("rb") as file:
        account.call("s3", "put_object", Bucket=bucket, Key=weights.key, Body=file, ChecksumAlgorithm="SHA256")


def publish(account: Account, arch: str, path: Path) -> Weights:
    """Stage torchvision's file, then say that it is the one of this architecture."""
    weights = of_file(path)
    stage(account, weights)
    body = json.dumps({"sha256": weights.sha256, "name": weights.name}).encode()
    account.call("s3", "put_object", Bucket=account.settings.bucket, Key=pointer(arch), Body=body)
    return weights

"""The weights that training starts from. They are staged in the bucket, since neither the box nor a job reaches the internet.

weights/SHA256/NAME              a file, content-addressed
weights/imagenet/ARCH.json       names the file that torchvision publishes for an architecture
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from ops.core import settings
from ops.core.aws.account import Account
from ops.core.errors import OpsError
from ops.core.output import say
from ops.core.paths import ROOT, WORK
from ops.core.settings_values import check_architecture

FOLDER = WORK / "weights"
NONE, IMAGENET = "none", "imagenet"


@dataclass(frozen=True)
class Weights:
    """A file of weights; `path` is the local file, where there is one to send."""

    sha256: str
    name: str
    path: Path | None = None

    @property
    def prefix(self) -> str:
        return f"weights/{self.sha256}/"

    @property
    def key(self) -> str:
        return self.prefix + self.name


def build_weights_pointer_key(arch: str) -> str:
    return f"weights/{IMAGENET}/{arch}.json"


def find_chosen_weights(account: Account) -> Weights | None:
    """Return the weights that train.weights names: None, torchvision's for train.arch, or a file. Raises OpsError."""
    train = account.settings.train
    if train.weights == NONE:
        return None
    if train.weights != IMAGENET:
        return read_weights_file(settings.resolve_below_root(train.weights))
    text = account.bucket.get_object_or_none(build_weights_pointer_key(train.arch))
    if text is None:
        raise OpsError(
            f"torchvision's weights of {train.arch} are not in the bucket. Stage them: invoke data.weights {train.arch}"
        )
    return Weights(**json.loads(text))


def read_weights_file(path: Path) -> Weights:
    """Return the weights in this file, with its SHA-256. Raises OpsError when there is no such file."""
    if not path.is_file():
        raise OpsError(
            f"train.weights is {path}, but there is no such file. Set it to none, imagenet, or a .pth or .safetensors file."
        )
    with path.open("rb") as file:
        return Weights(hashlib.file_digest(file, "sha256").hexdigest(), path.name, path)


def stage_weights(account: Account, weights: Weights) -> None:
    """Put the file in the bucket unless it is there."""
    bucket = account.bucket
    if weights.path is None or bucket.has(weights.key):
        return
    say(f"Sending {weights.name} to s3://{bucket.name}/{weights.prefix} ...")
    with weights.path.open("rb") as file:
        bucket.put(weights.key, file)


def publish_weights(account: Account, arch: str, path: Path) -> Weights:
    """Stage torchvision's file, then record in the bucket that it belongs to this architecture."""
    weights = read_weights_file(path)
    stage_weights(account, weights)
    body = json.dumps({"sha256": weights.sha256, "name": weights.name}).encode()
    account.bucket.put(build_weights_pointer_key(arch), body)
    return weights


def fetch_published(arch: str, url: str) -> Path:
    """Fetch torchvision's file to .kennel/weights, by training/weights.py, which knows torchvision. Raises OpsError."""
    try:
        check_architecture(arch)
    except ValueError as error:
        raise OpsError(f"{arch}: {error}. For example: invoke data.weights resnet18") from None
    say(f"Fetching the weights of {arch} ...")
    argv = [sys.executable, str(ROOT / "training" / "weights.py"), arch, str(FOLDER), url]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no error message"])[-1]
        hint = " Install it: pip install -e '.[train]'" if "ModuleNotFoundError" in last else ""
        raise OpsError(f"Cannot fetch the weights of {arch}: {last}{hint}")
    return Path(json.loads(done.stdout)["file"])

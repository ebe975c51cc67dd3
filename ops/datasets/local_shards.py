"""The local copy of a dataset's shards, below .kennel/datasets: fetched once for all commands that read its pictures."""

from __future__ import annotations

import hashlib
import tarfile
from pathlib import Path

from ops.core.aws.account import Account
from ops.core.files import write_atomically
from ops.core.paths import WORK
from ops.datasets.manifest import Manifest

FOLDER = WORK / "datasets"


def fetch_object(account: Account, digest: str, key: str) -> Path:
    """Return the object's file below the folder of the dataset with this digest; an existing file is not fetched again."""
    path = FOLDER / digest[:12] / key
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, account.bucket.get(key))
    return path


def fetch_dataset(account: Account, manifest: Manifest) -> Path:
    """Return the folder of a dataset, with all its shards and its manifest."""
    for key in manifest.keys:
        fetch_object(account, manifest.digest, key)
    return FOLDER / manifest.digest[:12]


def read_pictures(shard: Path, sums: dict[str, str]) -> dict[str, bytes]:
    """Return those files of a shard that have these SHA-256, by name. Raises tarfile.TarError for a shard that is corrupt."""
    found = {}
    with tarfile.open(shard) as tar:
        for member in tar:
            file = tar.extractfile(member) if member.isfile() and member.name in sums else None
            if file is not None:
                found[member.name] = file.read()
    return {name: data for name, data in found.items() if hashlib.sha256(data).hexdigest() == sums[name]}

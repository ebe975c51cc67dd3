"""Test pictures of a dataset, drawn by seed and sent where the function may read them."""

from __future__ import annotations

import io
import random
import tarfile
from dataclasses import dataclass

from ops.core.aws.account import Account
from ops.core.output import say
from ops.core.settings import IMAGES, Settings
from ops.datasets.manifest import Manifest, build_shard_key


@dataclass(frozen=True)
class Sample:
    """A picture of the manifest; its key in the bucket is the SHA-256 of its content, so it is sent once."""

    name: str
    label: str
    sha256: str
    shard: str

    def key(self, settings: Settings) -> str:
        return f"{IMAGES}{self.sha256}"

    def uri(self, settings: Settings) -> str:
        return f"s3://{settings.bucket}/{self.key(settings)}"


def draw_manifest_samples(manifest: Manifest, count: int, seed: int) -> list[Sample]:
    """Return `count` different pictures of the test split, or all if there are fewer; the same for the same data and seed."""
    pictures = [
        Sample(file.path, shard.label, file.sha256, shard.sha256)
        for shard in manifest.shards
        if shard.split == "test"
        for file in shard.files
    ]
    if count > len(pictures):
        say(f"The test split has {len(pictures)} pictures; using all of them.")
    return random.Random(seed).sample(pictures, min(count, len(pictures)))


def send_samples(account: Account, samples: list[Sample], dry: bool) -> int:
    """Send the samples that are not in the bucket yet; return how many were missing."""
    settings, bucket = account.settings, account.bucket
    existing = set(bucket.keys(IMAGES))
    missing = [sample for sample in samples if sample.key(settings) not in existing]
    if missing and not dry:
        pictures = unpack_pictures(account, {sample.shard for sample in missing})
        for sample in missing:
            bucket.put(sample.key(settings), pictures[sample.name])
    return len(missing)


def unpack_pictures(account: Account, shards: set[str]) -> dict[str, bytes]:
    """Return the pictures of these shards, by their names in the dataset."""
    found: dict[str, bytes] = {}
    for sha in sorted(shards):
        data = account.bucket.get(build_shard_key(sha))
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            for member in tar:
                file = tar.extractfile(member)
                if file is not None:
                    found[member.name] = file.read()
    return found

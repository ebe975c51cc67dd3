"""Pictures into the bucket: packed, and only what is not there yet; and looked at again afterwards."""

from __future__ import annotations

import hashlib
import itertools
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ops import dataset
from ops.aws import Account
from ops.cli import say
from ops.errors import OpsError

UPLOADS_AT_ONCE = 8


def readable(pictures: list[dataset.Picture], skip_bad: bool) -> list[dataset.Picture]:
    bad = dataset.unreadable(pictures)
    for picture, why in bad:
        say(f"unreadable: {picture.path}: {why}")
    if bad and not skip_bad:
        raise OpsError(
            f"{len(bad)} of {len(pictures)} pictures cannot be read. Mend them, or leave them out: --skip-bad. Nothing was uploaded."
        )
    left_out = {picture for picture, _ in bad}
    kept = [picture for picture in pictures if picture not in left_out]
    dataset.check_classes("what is left", kept)
    return kept


def send(account: Account, pictures: list[dataset.Picture], dry: bool) -> tuple[dict[str, Any], int]:
    """Send the shards that are missing, then the manifest, and last the pointer to it; a crash leaves the old set current.

    Returns (manifest, number of objects sent; under `dry`, that would be).
    """
    settings = account.settings
    there = {
        item["Key"]
        for item in account.pages("s3", "list_objects_v2", "Contents", Bucket=settings.bucket, Prefix="shards/")
    }
    say(f"Packing {len(pictures)} pictures ...")

    def one(shard: dataset.Shard) -> tuple[dict[str, Any], int]:
        missing = shard.key not in there
        if missing and not dry:
            put(account, shard.key, shard.data)
        return {
            "split": shard.split,
            "class": shard.label,
            "sha256": shard.sha256,
            "bytes": len(shard.data),
            "files": list(shard.files),
        }, missing

    entries, sent = [], 0
    packed = dataset.shards(pictures, settings.data.shard_mb << 20)
    with ThreadPoolExecutor(UPLOADS_AT_ONCE) as pool:
        # A few shards at a time: all of them at once would be the whole data set in memory.
        while some := list(itertools.islice(packed, UPLOADS_AT_ONCE)):
            for entry, missing in pool.map(one, some):
                entries.append(entry)
                sent += missing
    manifest = dataset.manifest_of(settings.data.name, entries)
    folder = dataset.folder_key(settings.data.name, manifest["digest"])
    listing = json.dumps(dataset.channel(settings.bucket, manifest))
    pointer = json.dumps({"digest": manifest["digest"]})
    for key, text in (
        (f"{folder}/manifest.json", json.dumps(manifest)),
        (f"{folder}/channel.json", listing),
        (f"datasets/{settings.data.name}/current.json", pointer),
    ):
        if content(account, key) != text:
            sent += 1
            if not dry:
                put(account, key, text.encode())
    return manifest, sent


def content(account: Account, key: str) -> str | None:
    found = account.find("s3", "get_object", "NoSuchKey|NoSuchBucket", Bucket=account.settings.bucket, Key=key)
    return found["Body"].read().decode() if found else None


def put(account: Account, key: str, data: bytes) -> None:
    """S3 checks the SHA-256 on arrival."""
    account.call("s3", "put_object", Bucket=account.settings.bucket, Key=key, Body=data, ChecksumAlgorithm="SHA256")


def spoilt(account: Account, manifest: dict[str, Any]) -> list[str]:
    """The SHA-256 of every shard that the bucket does not have as the manifest names it; reads them all."""
    bad = []
    for sha in sorted({shard["sha256"] for shard in manifest["shards"]}):
        found = account.find("s3", "get_object", "NoSuchKey", Bucket=account.settings.bucket, Key=f"shards/{sha}.tar")
        if found is None or hashlib.sha256(found["Body"].read()).hexdigest() != sha:
            bad.append(sha)
    return bad

"""Push a dataset: inspect, pack, upload missing shards. An unchanged push makes one S3 request.

The pointer to the current dataset is written last, after everything that it names. So when its metadata has the digest of
this folder's manifest, everything was sent. data.verify records objects that were lost later; the next push sends them again.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from ops.core.aws.account import Account
from ops.core.errors import AwsError, OpsError
from ops.core.output import say
from ops.datasets import corrupt_keys, scan_cache
from ops.datasets.image_folder import Picture, count_left_out
from ops.datasets.manifest import (
    File,
    Manifest,
    Shard,
    build_manifest,
    build_pointer_key,
    check_classes,
    group_into_shards,
    pack,
    read_trainable_folder,
    write_pointer,
)
from ops.datasets.scan_cache import ScanCache

UPLOADS_AT_ONCE = 8  # each holds one shard in memory


class Pushed(NamedTuple):
    """The result of a push: `sent` counts the objects that were put into the bucket, or would be under `dry`.

    `left_out` counts the files of the folder that are not pictures, by their kind.
    """

    manifest: Manifest
    sent: int
    left_out: dict[str, int]


def push_dataset(account: Account, folder: Path, skip_bad: bool = False, dry: bool = False) -> Pushed:
    """Make DIR/SPLIT/CLASS/PICTURE the current dataset. An interrupted push resumes from what is in the bucket.

    Raises OpsError for a missing folder, too few classes, refused pictures (without `skip_bad`), or no bucket.
    """
    settings = account.settings
    found = read_trainable_folder(folder)
    pictures, left_out = found.pictures, count_left_out(found.others)
    cache = scan_cache.read_cache(folder)
    digest = read_current_digest(account)
    if (
        cache.manifest
        and cache.manifest.digest == digest
        and cache.is_current(pictures, skip_bad, settings.data.name, settings.data.shard_mb)
        and corrupt_keys.read(settings.bucket).isdisjoint(cache.manifest.objects)
    ):
        return Pushed(cache.manifest, 0, left_out)
    if not dry:
        account.guard()
    if digest is None and not account.bucket.exists():
        raise OpsError(f"There is no bucket {settings.bucket}. Create it: invoke data.up")
    manifest, sent = PushSession(account, cache, digest or "", dry).send(pictures, skip_bad)
    return Pushed(manifest, sent, left_out)


def read_current_digest(account: Account) -> str | None:
    """Return the digest that the pointer's metadata has, "" if it has none; None without a pointer or bucket. One request.

    Raises OpsError when the account is not the settings', and AwsError.
    """
    try:
        found = account.bucket.head(build_pointer_key(account.settings.data.name))
    except AwsError:
        account.guard()  # the bucket of another account is refused too; then the account is the cause
        raise
    return None if found is None else found["Metadata"].get("digest", "")


class PushSession:
    """One push under way: while a class is inspected, the shards of those before it are packed and sent."""

    def __init__(self, account: Account, cache: ScanCache, digest: str, dry: bool) -> None:
        """Prepare a push; `digest` is the one that the pointer names now."""
        self.account, self.cache, self.digest, self.dry = account, cache, digest, dry
        self.corrupt = corrupt_keys.read(account.settings.bucket)
        self.packed_before = {
            build_shard_identity(shard.files): shard for shard in (cache.manifest.shards if cache.manifest else ())
        }
        self.limit = account.settings.data.shard_mb << 20

    def send(self, pictures: list[Picture], skip_bad: bool) -> tuple[Manifest, int]:
        """Send the missing shards, then the manifest, and last the pointer; a crash leaves the previous dataset current."""
        pool = ThreadPoolExecutor(UPLOADS_AT_ONCE)
        try:
            existing = pool.submit(list_object_sizes, self.account, "shards/", self.corrupt)
            started = self.start(pool, existing, pictures, skip_bad)
            done = [future.result() for future in started]
            return self.finish(pool, [shard for shard, _ in done], sum(missing for _, missing in done))
        finally:
            pool.shutdown(cancel_futures=True)

    def start(
        self, pool: Executor, existing: Future[dict[str, int]], pictures: list[Picture], skip_bad: bool
    ) -> list[Future[tuple[Shard, int]]]:
        """Start sending every shard. Raises OpsError for refused pictures, once all were inspected, or when too few are left."""
        started: list[Future[tuple[Shard, int]]] = []
        usable: list[Picture] = []
        bad = 0
        with contextlib.closing(self.cache.inspect(pictures)) as classes:
            for seen in classes:
                for picture, info in seen:
                    if info.fault:
                        say(f"refused: {picture.path}: {info.fault}")
                good = [picture for picture, info in seen if not info.fault]
                bad += len(seen) - len(good)
                usable += good
                if not bad or skip_bad:
                    started += [
                        pool.submit(self.send_shard, group, existing) for group in group_into_shards(good, self.limit)
                    ]
                for future in started:
                    if future.done():
                        future.result()  # raise the error of a failed upload now, before the others are inspected
        if bad and not skip_bad:
            raise OpsError(
                f"{bad} of {len(pictures)} pictures cannot be trained on. The current dataset is unchanged. "
                "Fix or remove them, or leave them out: --skip-bad"
            )
        check_classes("the remaining pictures", usable)
        return started

    def send_shard(self, group: list[Picture], existing: Future[dict[str, int]]) -> tuple[Shard, int]:
        """Return these pictures' shard, and 1 if it was missing and was sent, else 0. Packs it only when necessary."""
        wanted = tuple((picture.name, self.cache.entries[picture.name][2]) for picture in group)
        before = self.packed_before.get(wanted)
        if before and existing.result().get(before.key) == before.bytes:
            return before, 0
        shard, data = pack(group)
        if build_shard_identity(shard.files) != wanted:
            raise OpsError(f"{shard.split}/{shard.label} was changed during the push. Push again: invoke data.push")
        missing = existing.result().get(shard.key) != shard.bytes
        if missing and not self.dry:
            self.account.bucket.put(shard.key, data, shard.sha256)
        return shard, int(missing)

    def finish(self, pool: Executor, shards: list[Shard], sent: int) -> tuple[Manifest, int]:
        settings, bucket = self.account.settings, self.account.bucket
        manifest = build_manifest(settings.data.name, shards)
        lists = build_missing_lists(self.account, manifest, self.corrupt)
        key = build_pointer_key(settings.data.name)
        pointer_changes = self.digest != manifest.digest or key in self.corrupt
        if not self.dry:
            list(pool.map(lambda item: bucket.put(*item), lists))
            if pointer_changes:
                write_pointer(self.account, manifest)
            corrupt_keys.save_keys(settings.bucket, self.corrupt - manifest.objects)
        self.cache.save_manifest(manifest, settings.data.shard_mb)
        return manifest, sent + len(lists) + pointer_changes


def build_shard_identity(files: Iterable[File]) -> tuple[tuple[str, str], ...]:
    """Return what identifies a shard: its pictures' names and SHA-256, in order."""
    return tuple((file.path, file.sha256) for file in files)


def list_object_sizes(account: Account, prefix: str, corrupt: set[str]) -> dict[str, int]:
    """Return the bytes of every object below, by key; those recorded as corrupt count as missing."""
    return {item["Key"]: item["Size"] for item in account.bucket.objects(prefix) if item["Key"] not in corrupt}


def build_missing_lists(account: Account, manifest: Manifest, corrupt: set[str]) -> list[tuple[str, bytes]]:
    """Return the manifest and SageMaker's form of it, as (key, text), unless they are in the bucket."""
    existing = list_object_sizes(account, f"{manifest.folder}/", corrupt)
    texts = {
        manifest.key: json.dumps(manifest.to_json()).encode(),
        manifest.channel_key: json.dumps(manifest.channel(account.settings.bucket)).encode(),
    }
    return [(key, text) for key, text in texts.items() if existing.get(key) != len(text)]

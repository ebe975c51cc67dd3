"""Pictures into the bucket: looked at, packed, and only what is not there yet. A push without news asks S3 one thing.

The pointer to the current data set is put last, after all that it names. So where its metadata has the digest of this
folder's manifest, everything was sent. What vanished afterwards, data.verify finds and notes; the next push sends it again.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ops.core.aws.account import Account
from ops.core.errors import OpsError
from ops.core.output import say
from ops.datasets import current, scan_cache
from ops.datasets import manifest as dataset
from ops.datasets.image_folder import Picture
from ops.datasets.scan_cache import Known

if TYPE_CHECKING:
    from concurrent.futures import Executor, Future

    from ops.core.settings import Settings

UPLOADS_AT_ONCE = 8  # each holds one shard in memory


class Pushed(NamedTuple):
    """`sent`: objects that were put into the bucket; under `dry`, that would be."""

    manifest: dict[str, Any]
    sent: int


def push(account: Account, folder: Path, skip_bad: bool = False, dry: bool = False) -> Pushed:
    """Make DIR/SPLIT/CLASS/PICTURE the current data set. Interrupted, it goes on from what is in the bucket.

    Raises OpsError: no such folder, nothing to train on, refused pictures (without `skip_bad`), no bucket.
    """
    return offer(account.settings, lambda: account, folder, skip_bad, dry)


def offer(
    settings: Settings, opened: Callable[[], Account], folder: Path, skip_bad: bool = False, dry: bool = False
) -> Pushed:
    """As `push`, but the account is opened only when it is needed, since that takes as long as the rest of a push without news."""
    before, opened = scan_cache.of_folder(folder), cache(opened)
    waiting = current.begin(before.link, settings) if folder.is_dir() else None
    pictures = dataset.survey(folder)
    same = before.unchanged(pictures, skip_bad, settings.data.name, settings.data.shard_mb)
    digest = answered(waiting, opened)
    spoilt = scan_cache.spoilt(settings.bucket)
    if same and before.manifest["digest"] == digest and spoilt.isdisjoint(dataset.objects(before.manifest)):
        if waiting is None:
            before.linked(current.link(opened()))
        return Pushed(before.manifest, 0)
    account = opened()
    if not dry:
        account.guard()
    if digest is None and account.call_or_none("s3", "head_bucket", "404|NoSuchBucket", Bucket=settings.bucket) is None:
        raise OpsError(f"There is no bucket {settings.bucket}. Make it: invoke data.up")
    return Push(account, before, digest or "", dry).send(pictures, skip_bad)


def answered(waiting: Callable[[], str | None] | None, opened: Callable[[], Account]) -> str | None:
    """The digest that the pointer carries; asked by the SDK where the link was not of use."""
    if waiting:
        with contextlib.suppress(OSError):
            return waiting()
    return current.asked(opened())


class Push:
    """One push under way: while a class is looked at, the shards of those before it are packed and travel."""

    def __init__(self, account: Account, before: Known, digest: str, dry: bool) -> None:
        """`digest`: where the pointer points now."""
        self.account, self.before, self.digest, self.dry = account, before, digest, dry
        self.spoilt = scan_cache.spoilt(account.settings.bucket)
        self.packed_before = {identity(entry["files"]): entry for entry in before.manifest.get("shards", [])}
        self.limit = account.settings.data.shard_mb << 20

    def send(self, pictures: list[Picture], skip_bad: bool) -> Pushed:
        """The shards that are missing, then the manifest, and last the pointer; a crash leaves the old set current."""
        from concurrent.futures import ThreadPoolExecutor  # here, as a push without news does not need it

        pool = ThreadPoolExecutor(UPLOADS_AT_ONCE)
        try:
            there = pool.submit(sizes, self.account, "shards/", self.spoilt)
            started = self.start(pool, there, pictures, skip_bad)
            done = [future.result() for future in started]
            return self.finish(pool, [entry for entry, _ in done], sum(missing for _, missing in done))
        finally:
            pool.shutdown(cancel_futures=True)

    def start(
        self, pool: Executor, there: Future[dict[str, int]], pictures: list[Picture], skip_bad: bool
    ) -> list[Future]:
        """Begin with every shard. Raises OpsError for a refused picture, once all were looked at, or for too few left."""
        started: list[Future[tuple[dict[str, Any], int]]] = []
        kept: list[Picture] = []
        bad = 0
        with contextlib.closing(self.before.look_at(pictures)) as classes:
            for looks in classes:
                for picture, look in looks:
                    if look.fault:
                        say(f"refused: {picture.path}: {look.fault}")
                good = [picture for picture, look in looks if not look.fault]
                bad += len(looks) - len(good)
                kept += good
                if not bad or skip_bad:
                    started += [pool.submit(self.shard, group, there) for group in dataset.groups(good, self.limit)]
                for future in started:
                    if future.done():
                        future.result()  # what cannot be sent is told now, and not when all are looked at
        if bad and not skip_bad:
            raise OpsError(
                f"{bad} of {len(pictures)} pictures cannot be trained on. Mend them, or leave them out: --skip-bad. "
                "The current data set is what it was."
            )
        dataset.check_classes("what is left", kept)
        return started

    def shard(self, group: list[Picture], there: Future[dict[str, int]]) -> tuple[dict[str, Any], int]:
        """The manifest's entry of these pictures' shard, packed if it must be, and whether it was missing."""
        noted = [{"path": picture.name, "sha256": self.before.looks[picture.name][2]} for picture in group]
        entry = self.packed_before.get(identity(noted))
        if entry and there.result().get(dataset.shard_key(entry["sha256"])) == entry["bytes"]:
            return entry, 0
        shard = dataset.packed(group)
        if identity(list(shard.files)) != identity(noted):
            raise OpsError(f"{shard.split}/{shard.label} was changed while it was pushed. Push again: invoke data.push")
        missing = there.result().get(shard.key) != len(shard.data)
        if missing and not self.dry:
            put(self.account, shard.key, shard.data, shard.sha256)
        return shard.entry(), int(missing)

    def finish(self, pool: Executor, entries: list[dict[str, Any]], sent: int) -> Pushed:
        settings = self.account.settings
        manifest = dataset.manifest_of(settings.data.name, entries)
        lists = missing_lists(self.account, manifest, self.spoilt)
        key = dataset.pointer_key(settings.data.name)
        moved = self.digest != manifest["digest"] or key in self.spoilt
        if not self.dry:
            list(pool.map(lambda item: put(self.account, *item), lists))
            if moved:
                text = json.dumps({"digest": manifest["digest"]})
                put(self.account, key, text.encode(), digest=manifest["digest"])
            scan_cache.note_spoilt(settings.bucket, self.spoilt - dataset.objects(manifest))
        self.before.packed(manifest, settings.data.shard_mb, current.link(self.account))
        return Pushed(manifest, sent + len(lists) + moved)


def identity(files: list[dict[str, Any]]) -> tuple[tuple[str, str], ...]:
    """What makes a shard: its pictures' names and contents, in order."""
    return tuple((file["path"], file["sha256"]) for file in files)


def sizes(account: Account, prefix: str, spoilt: set[str]) -> dict[str, int]:
    """Bytes of every object below, by key; those noted as spoilt count as missing."""
    listed = account.list_all("s3", "list_objects_v2", "Contents", Bucket=account.settings.bucket, Prefix=prefix)
    return {item["Key"]: item["Size"] for item in listed if item["Key"] not in spoilt}


def missing_lists(account: Account, manifest: dict[str, Any], spoilt: set[str]) -> list[tuple[str, bytes]]:
    """The manifest and SageMaker's form of it, as far as they are not there yet."""
    folder = dataset.folder_key(manifest["name"], manifest["digest"])
    there = sizes(account, f"{folder}/", spoilt)
    texts = {
        dataset.manifest_key(manifest): json.dumps(manifest),
        dataset.channel_key(manifest): json.dumps(dataset.channel(account.settings.bucket, manifest)),
    }
    return [(key, text.encode()) for key, text in texts.items() if there.get(key) != len(text.encode())]


def put(account: Account, key: str, data: bytes, sha256: str = "", **metadata: str) -> None:
    """S3 checks the SHA-256 on arrival."""
    sha = bytes.fromhex(sha256) or hashlib.sha256(data).digest()
    account.call(
        "s3",
        "put_object",
        Bucket=account.settings.bucket,
        Key=key,
        Body=data,
        ChecksumSHA256=base64.b64encode(sha).decode(),
        Metadata=metadata,
    )

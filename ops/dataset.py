"""A data set in the bucket: pictures packed by split and class into tar shards, and the manifest that names every one.

shards/SHA256.tar                      content-addressed: one changed class means new shards for that class alone
datasets/NAME/DIGEST/manifest.json     classes, shards, and each picture's path, SHA-256 and shard
datasets/NAME/DIGEST/channel.json      the same objects as a SageMaker manifest file
datasets/NAME/current.json             the digest that was pushed last
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ops.errors import OpsError

if TYPE_CHECKING:
    from ops.aws import Account

SPLITS = ("train", "valid", "test")
SUFFIXES = {".png", ".jpg", ".jpeg"}


@dataclass(frozen=True)
class Picture:
    split: str
    label: str
    path: Path

    @property
    def name(self) -> str:
        return f"{self.split}/{self.label}/{self.path.name}"


@dataclass(frozen=True)
class Shard:
    """A packed tar: its bytes, their SHA-256 and the manifest's entries for its pictures."""

    split: str
    label: str
    data: bytes
    sha256: str
    files: tuple[dict[str, Any], ...]

    @property
    def key(self) -> str:
        return f"shards/{self.sha256}.tar"


def survey(folder: Path) -> list[Picture]:
    """Every picture of DIR/{train,valid,test}/CLASS/, by name. Raises OpsError for a folder that nothing can be trained on."""
    if not folder.is_dir():
        raise OpsError(
            f"There is no folder {folder}. Give one with {'/'.join(SPLITS)} in it: invoke data.push --dir DIR"
        )
    missing = [split for split in SPLITS if not (folder / split).is_dir()]
    if missing:
        raise OpsError(
            f"{folder} has no {' and no '.join(missing)} folder: pictures go into DIR/SPLIT/CLASS/, SPLIT is {', '.join(SPLITS)}."
        )
    pictures = [
        Picture(split, label.name, path)
        for split in SPLITS
        for label in sorted(p for p in (folder / split).iterdir() if p.is_dir())
        for path in sorted(label.iterdir())
        if path.suffix.lower() in SUFFIXES and path.is_file()
    ]
    check_classes(folder, pictures)
    return pictures


def check_classes(folder: Path | str, pictures: list[Picture]) -> None:
    by_split = {split: {p.label for p in pictures if p.split == split} for split in SPLITS}
    classes = by_split["train"]
    if not classes:
        raise OpsError(
            f"{folder}/train has no classes: one folder of pictures for each is wanted ({', '.join(sorted(SUFFIXES))})."
        )
    if len(classes) == 1:
        raise OpsError(f"{folder}/train has one class only ({next(iter(classes))}): a classifier needs two.")
    for split in SPLITS[1:]:
        if by_split[split] != classes:
            odd = ", ".join(sorted(by_split[split] ^ classes)[:5])
            raise OpsError(f"{folder}/{split} and {folder}/train do not have the same classes: {odd}.")


def unreadable(pictures: list[Picture]) -> list[tuple[Picture, str]]:
    """Pictures that do not decode, with the reason."""
    try:
        from PIL import Image
    except ImportError as error:
        raise OpsError("Looking at pictures needs Pillow: pip install -e '.[train]'") from error
    bad = []
    for picture in pictures:
        try:
            with Image.open(picture.path, formats=("PNG", "JPEG")) as image:
                image.load()
        except Exception as error:  # Pillow raises many kinds for a broken file
            bad.append((picture, f"{type(error).__name__}: {error}"))
    return bad


def shards(pictures: list[Picture], limit: int) -> Iterator[Shard]:
    """Pack in the given order, a split and class at a time, at most `limit` bytes of pictures a shard."""
    group: list[Picture] = []
    size = 0
    for picture in pictures:
        length = picture.path.stat().st_size
        if group and ((picture.split, picture.label) != (group[0].split, group[0].label) or size + length > limit):
            yield packed(group)
            group, size = [], 0
        group.append(picture)
        size += length
    if group:
        yield packed(group)


def packed(group: list[Picture]) -> Shard:
    """Uncompressed tar without times and owners: equal pictures give equal bytes, and pictures do not compress."""
    buffer, files = io.BytesIO(), []
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for picture in group:
            data = picture.path.read_bytes()
            entry = tarfile.TarInfo(picture.name)
            entry.size, entry.mode = len(data), 0o644
            tar.addfile(entry, io.BytesIO(data))
            files.append({"path": picture.name, "sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)})
    content = buffer.getvalue()
    return Shard(group[0].split, group[0].label, content, hashlib.sha256(content).hexdigest(), tuple(files))


def manifest_of(name: str, packed_ones: list[dict[str, Any]]) -> dict[str, Any]:
    """The manifest, with its own digest. `packed_ones` are shard entries with their files."""
    classes = sorted({shard["class"] for shard in packed_ones})
    body = {
        "name": name,
        "classes": classes,
        "shards": packed_ones,
        "pictures": {s: sum(len(x["files"]) for x in packed_ones if x["split"] == s) for s in SPLITS},
    }
    digest = hashlib.sha256(json.dumps([body["classes"], body["shards"]], sort_keys=True).encode()).hexdigest()
    return {**body, "digest": digest}


def folder_key(name: str, digest: str) -> str:
    return f"datasets/{name}/{digest}"


def channel(bucket: str, manifest: dict[str, Any]) -> list[Any]:
    """SageMaker's manifest file: a prefix, then the objects below it."""
    keys = [f"shards/{sha}.tar" for sha in sorted({shard["sha256"] for shard in manifest["shards"]})]
    return [{"prefix": f"s3://{bucket}/"}, *keys, f"{folder_key(manifest['name'], manifest['digest'])}/manifest.json"]


def current(account: Account) -> dict[str, Any]:
    """The manifest that was pushed last. Raises OpsError when there is none."""
    settings = account.settings
    pointer = account.find(
        "s3",
        "get_object",
        "NoSuchKey|NoSuchBucket",
        Bucket=settings.bucket,
        Key=f"datasets/{settings.data.name}/current.json",
    )
    if pointer is None:
        raise OpsError(
            f"No data set {settings.data.name!r} is in {settings.bucket}. Push one: invoke data.push --dir DIR"
        )
    digest = json.loads(pointer["Body"].read())["digest"]
    key = f"{folder_key(settings.data.name, digest)}/manifest.json"
    return json.loads(account.call("s3", "get_object", Bucket=settings.bucket, Key=key)["Body"].read())

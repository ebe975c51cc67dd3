"""A data set in the bucket: pictures packed by split and class into tar shards, and the manifest that names every one.

shards/SHA256.tar                      content-addressed: one changed class means new shards for that class alone
datasets/NAME/DIGEST/manifest.json     classes, shards, and each picture's path, SHA-256 and shard
datasets/NAME/DIGEST/channel.json      the same objects as a SageMaker manifest file
datasets/NAME/current.json             the digest that was pushed last; in the object's metadata too, so that a HEAD tells it
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ops.core.errors import OpsError
from ops.datasets.image_folder import SPLITS, SUFFIXES, Picture, fit, walk

if TYPE_CHECKING:
    from ops.core.aws.account import Account

SHA256 = re.compile(r"[0-9a-f]{64}")


class Spoilt(OpsError):
    """The object that lists a data set is not there, or not as it was written. `state`: "missing" or "spoilt"."""

    def __init__(self, message: str, key: str, state: str) -> None:
        super().__init__(message)
        self.key, self.state = key, state


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
        return shard_key(self.sha256)

    def entry(self) -> dict[str, Any]:
        """The manifest's."""
        sizes = {"sha256": self.sha256, "bytes": len(self.data)}
        return {"split": self.split, "class": self.label, **sizes, "files": list(self.files)}


def survey(folder: Path) -> list[Picture]:
    """Every picture of DIR/{train,valid,test}/CLASS/, by name. Raises OpsError for a folder that nothing can be trained on."""
    found = walk(folder)
    check_classes(folder, found.pictures)
    empty = [
        f"{split}/{label}" for split in SPLITS for label in found.classes[split] if label not in found.filled(split)
    ]
    if empty:
        raise OpsError(f"{folder}: no pictures in {', '.join(empty[:5])}. Fill or remove what is empty.")
    return found.pictures


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
    if unfit := [label for label in sorted(classes) if not fit(label)]:
        raise OpsError(
            f"A class cannot be called {unfit[0]!r}: no control characters and no backslash, 200 letters at most."
        )


def groups(pictures: list[Picture], limit: int) -> Iterator[list[Picture]]:
    """What goes into one shard, in the given order: one split and class, at most `limit` bytes of pictures."""
    group: list[Picture] = []
    size = 0
    for picture in pictures:
        length = picture.bytes
        if group and ((picture.split, picture.label) != (group[0].split, group[0].label) or size + length > limit):
            yield group
            group, size = [], 0
        group.append(picture)
        size += length
    if group:
        yield group


def shards(pictures: list[Picture], limit: int) -> Iterator[Shard]:
    """Pack in the given order, a split and class at a time, at most `limit` bytes of pictures a shard."""
    return (packed(group) for group in groups(pictures, limit))


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
    return {**body, "digest": digest_of(body)}


def digest_of(manifest: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps([manifest["classes"], manifest["shards"]], sort_keys=True).encode()).hexdigest()


def folder_key(name: str, digest: str) -> str:
    return f"datasets/{name}/{digest}"


def pointer_key(name: str) -> str:
    return f"datasets/{name}/current.json"


def manifest_key(manifest: dict[str, Any]) -> str:
    return f"{folder_key(manifest['name'], manifest['digest'])}/manifest.json"


def channel_key(manifest: dict[str, Any]) -> str:
    return f"{folder_key(manifest['name'], manifest['digest'])}/channel.json"


def shard_key(sha256: str) -> str:
    return f"shards/{sha256}.tar"


def keys(manifest: dict[str, Any]) -> list[str]:
    """Of all that a job reads: the shards, then the manifest."""
    shas = sorted({shard["sha256"] for shard in manifest["shards"]})
    return [*map(shard_key, shas), manifest_key(manifest)]


def channel(bucket: str, manifest: dict[str, Any]) -> list[Any]:
    """SageMaker's manifest file: a prefix, then the objects below it."""
    return [{"prefix": f"s3://{bucket}/"}, *keys(manifest)]


def objects(manifest: dict[str, Any]) -> set[str]:
    """The keys of all that a push of this manifest leaves in the bucket."""
    return {*keys(manifest), channel_key(manifest), pointer_key(manifest["name"])}


def current(account: Account) -> dict[str, Any]:
    """The manifest that was pushed last. Raises OpsError when there is none, Spoilt when it cannot be trusted."""
    settings = account.settings
    digest = pointed(account, settings.data.name)
    if not digest:
        raise OpsError(
            f"No data set {settings.data.name!r} is in {settings.bucket}. Push one: invoke data.push --dir DIR"
        )
    return named(account, digest)


def pointed(account: Account, name: str) -> str:
    """The digest that current.json names, "" when there is none. Raises Spoilt for any other content."""
    bucket, key = account.settings.bucket, pointer_key(name)
    found = account.call_or_none("s3", "get_object", "NoSuchKey|NoSuchBucket", Bucket=bucket, Key=key)
    if found is None:
        return ""
    try:
        digest = json.loads(found["Body"].read())["digest"]
        if SHA256.fullmatch(digest):
            return digest
        raise ValueError("it names no digest")
    except (KeyError, TypeError, ValueError) as error:
        raise spoilt(bucket, key, "spoilt", error) from error


def named(account: Account, digest: str, name: str = "") -> dict[str, Any]:
    """The manifest with this digest, of the settings' data set or of another `name`.

    Raises Spoilt when it is not there, or not what its digest says.
    """
    name = name or account.settings.data.name
    bucket, key = account.settings.bucket, f"{folder_key(name, digest)}/manifest.json"
    found = account.call_or_none("s3", "get_object", "NoSuchKey|NoSuchBucket", Bucket=bucket, Key=key)
    if found is None:
        raise spoilt(bucket, key, "missing", "there is no such object (invoke data.list shows what there is)")
    try:
        return checked(json.loads(found["Body"].read()), name, digest)
    except (KeyError, TypeError, ValueError) as error:
        raise spoilt(bucket, key, "spoilt", error) from error


def spoilt(bucket: str, key: str, state: str, why: object) -> Spoilt:
    return Spoilt(
        f"{key} in {bucket} cannot be used: {why}. Note it and send it again: invoke data.verify; invoke data.push",
        key,
        state,
    )


def checked(manifest: dict[str, Any], name: str, digest: str) -> dict[str, Any]:
    """The manifest, whose names may be used as paths and keys. Raises KeyError, TypeError or ValueError for any other."""
    if (manifest["name"], manifest["digest"], digest_of(manifest)) != (name, digest, digest):
        raise ValueError("its content does not have its digest")
    seen: set[str] = set()
    for shard in manifest["shards"]:
        if shard["split"] not in SPLITS or shard["class"] not in manifest["classes"] or not fit(shard["class"]):
            raise ValueError(f"a shard is of {shard['split']!r}/{shard['class']!r}")
        start = f"{shard['split']}/{shard['class']}/"
        for entry in (shard, *shard["files"]):
            if not SHA256.fullmatch(entry["sha256"]) or not isinstance(entry["bytes"], int) or entry["bytes"] < 0:
                raise ValueError(f"{start} has no good SHA-256 or size")
        for file in shard["files"]:
            path = file["path"]
            if path in seen or not path.startswith(start) or not fit(path[len(start) :]):
                raise ValueError(f"a picture is called {path!r}")
            seen.add(path)
    return manifest

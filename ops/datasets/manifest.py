"""A dataset in the bucket: pictures packed by split and class into tar shards, and the manifest that names every one.

shards/SHA256.tar                      content-addressed: one changed class means new shards for that class alone
datasets/NAME/DIGEST/manifest.json     classes, shards, and each picture's path, SHA-256 and shard
datasets/NAME/DIGEST/channel.json      the same objects as a SageMaker manifest file
datasets/NAME/current.json             the digest that was pushed last; in the object's metadata too, so that a HEAD returns it
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError

from ops.core.aws.account import Account
from ops.core.errors import OpsError
from ops.datasets.image_folder import (
    SPLITS,
    SUFFIXES,
    ImageFolder,
    Picture,
    find_class_clashes,
    is_safe_name,
    scan_folder,
)

SHA256 = re.compile(r"[0-9a-f]{64}")


class CorruptDatasetError(OpsError):
    """The object that lists a dataset is missing or corrupt; `state` says which."""

    def __init__(self, message: str, key: str, state: str) -> None:
        super().__init__(message)
        self.key, self.state = key, state


@dataclass(frozen=True)
class File:
    """A picture of a shard: `path` is SPLIT/CLASS/PICTURE, `bytes` its length."""

    path: str
    sha256: str
    bytes: int

    def to_json(self) -> dict[str, Any]:
        return {"path": self.path, "sha256": self.sha256, "bytes": self.bytes}


@dataclass(frozen=True)
class Shard:
    """A tar of pictures of one split and class, as the manifest names it: its SHA-256, length and pictures."""

    split: str
    label: Annotated[str, Field(alias="class")]
    sha256: str
    bytes: int
    files: tuple[File, ...]

    @property
    def key(self) -> str:
        return build_shard_key(self.sha256)

    def to_json(self) -> dict[str, Any]:
        sizes = {"sha256": self.sha256, "bytes": self.bytes}
        return {"split": self.split, "class": self.label, **sizes, "files": [file.to_json() for file in self.files]}


@dataclass(frozen=True)
class Manifest:
    """A dataset: its classes, its shards in order, how many pictures each split has, and the digest of the first two."""

    name: str
    classes: tuple[str, ...]
    shards: tuple[Shard, ...]
    pictures: dict[str, int]
    digest: str

    @property
    def folder(self) -> str:
        return build_folder_key(self.name, self.digest)

    @property
    def key(self) -> str:
        return f"{self.folder}/manifest.json"

    @property
    def channel_key(self) -> str:
        return f"{self.folder}/channel.json"

    @property
    def files(self) -> Iterator[File]:
        return (file for shard in self.shards for file in shard.files)

    @property
    def keys(self) -> list[str]:
        """Return the keys of the objects that a job reads: the shards, then the manifest."""
        return [*sorted({shard.key for shard in self.shards}), self.key]

    @property
    def objects(self) -> set[str]:
        """Return the keys of all objects that a push of this manifest leaves in the bucket."""
        return {*self.keys, self.channel_key, build_pointer_key(self.name)}

    def channel(self, bucket: str) -> list[Any]:
        """Return SageMaker's manifest file: a prefix, then the objects below it."""
        return [{"prefix": f"s3://{bucket}/"}, *self.keys]

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "classes": list(self.classes),
            "shards": [shard.to_json() for shard in self.shards],
            "pictures": self.pictures,
            "digest": self.digest,
        }


PARSER = TypeAdapter(Manifest)


def list_pictures(folder: Path) -> list[Picture]:
    """Return every picture of DIR/{train,valid,test}/CLASS/, by name. Raises OpsError for a folder that cannot be trained on."""
    return read_trainable_folder(folder).pictures


def read_trainable_folder(folder: Path) -> ImageFolder:
    """Return the content of DIR/{train,valid,test}/CLASS/. Raises OpsError for a folder that cannot be trained on."""
    found = scan_folder(folder)
    for where, why in find_class_clashes(found):
        raise OpsError(
            f"{folder}: {where}: {why}. Nothing was sent. List all problems: invoke data.check --dir {folder}"
        )
    check_classes(folder, found.pictures)
    empty = [
        f"{split}/{label}"
        for split in SPLITS
        for label in found.classes[split]
        if label not in found.list_nonempty_classes(split)
    ]
    if empty:
        raise OpsError(f"{folder}: no pictures in {', '.join(empty[:5])}. Fill or remove these folders.")
    return found


def check_classes(folder: Path | str, pictures: list[Picture]) -> None:
    by_split = {split: {p.label for p in pictures if p.split == split} for split in SPLITS}
    classes = by_split["train"]
    if not classes:
        raise OpsError(
            f"{folder}/train has no classes: create one folder of pictures ({', '.join(sorted(SUFFIXES))}) for each class."
        )
    if len(classes) == 1:
        raise OpsError(f"{folder}/train has only one class ({next(iter(classes))}): a classifier needs two.")
    for split in SPLITS[1:]:
        if by_split[split] != classes:
            differing = ", ".join(sorted(by_split[split] ^ classes)[:5])
            raise OpsError(f"{folder}/{split} and {folder}/train do not have the same classes: {differing}.")
    if unsafe := [label for label in sorted(classes) if not is_safe_name(label)]:
        raise OpsError(
            f"A class cannot be called {unsafe[0]!r}: no control characters and no backslash, 200 bytes at most."
        )


def group_into_shards(pictures: list[Picture], limit: int) -> Iterator[list[Picture]]:
    """Yield one shard's pictures at a time, in order: of one split and class, at most `limit` bytes or one larger picture."""
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


def pack(group: list[Picture]) -> tuple[Shard, bytes]:
    """Return a shard and its bytes: an uncompressed tar without times and owners.

    Equal pictures give equal bytes, and pictures do not compress.
    """
    buffer, files = io.BytesIO(), []
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for picture in group:
            data = picture.path.read_bytes()
            entry = tarfile.TarInfo(picture.name)
            entry.size, entry.mode = len(data), 0o644
            tar.addfile(entry, io.BytesIO(data))
            files.append(File(picture.name, hashlib.sha256(data).hexdigest(), len(data)))
    content = buffer.getvalue()
    sha256 = hashlib.sha256(content).hexdigest()
    return Shard(group[0].split, group[0].label, sha256, len(content), tuple(files)), content


def build_manifest(name: str, shards: list[Shard]) -> Manifest:
    """Return the manifest of these shards, with its own digest."""
    classes = tuple(sorted({shard.label for shard in shards}))
    pictures = {split: sum(len(shard.files) for shard in shards if shard.split == split) for split in SPLITS}
    return Manifest(name, classes, tuple(shards), pictures, compute_dataset_digest(classes, shards))


def compute_dataset_digest(classes: Iterable[str], shards: Iterable[Shard]) -> str:
    content = json.dumps([list(classes), [shard.to_json() for shard in shards]], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


def build_folder_key(name: str, digest: str) -> str:
    return f"datasets/{name}/{digest}"


def build_pointer_key(name: str) -> str:
    return f"datasets/{name}/current.json"


def build_shard_key(sha256: str) -> str:
    return f"shards/{sha256}.tar"


def write_pointer(account: Account, manifest: Manifest) -> None:
    """Make the dataset the current one, for all jobs that start from now on."""
    text = json.dumps({"digest": manifest.digest})
    account.bucket.put(build_pointer_key(manifest.name), text.encode(), Metadata={"digest": manifest.digest})


def read_current(account: Account) -> Manifest:
    """Return the manifest that was pushed last. Raises OpsError when there is none, CorruptDatasetError when it is corrupt."""
    settings = account.settings
    digest = read_pointer(account, settings.data.name)
    if not digest:
        raise OpsError(
            f"There is no dataset {settings.data.name!r} in {settings.bucket}. Push one: invoke data.push --dir DIR"
        )
    return read_manifest(account, digest)


def read_pointer(account: Account, name: str) -> str:
    """Return the digest that current.json names, "" when there is none. Raises CorruptDatasetError for any other content."""
    key = build_pointer_key(name)
    text = account.bucket.get_object_or_none(key)
    if text is None:
        return ""
    try:
        digest = json.loads(text)["digest"]
        if isinstance(digest, str) and SHA256.fullmatch(digest):
            return digest
        raise ValueError("it does not contain a digest")
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise build_corrupt_error(account, key, "corrupt", error) from error


def read_manifest(account: Account, digest: str, name: str = "") -> Manifest:
    """Return the manifest with this digest, of the settings' dataset or of another `name`.

    Raises CorruptDatasetError when it is not there, or does not have this digest.
    """
    name = name or account.settings.data.name
    key = f"{build_folder_key(name, digest)}/manifest.json"
    text = account.bucket.get_object_or_none(key)
    if text is None:
        raise build_corrupt_error(
            account, key, "missing", "there is no such object (list the datasets: invoke data.list)"
        )
    try:
        return parse(text, name, digest)
    except ValueError as error:
        raise build_corrupt_error(account, key, "corrupt", error) from error


def build_corrupt_error(account: Account, key: str, state: str, why: object) -> CorruptDatasetError:
    return CorruptDatasetError(
        f"{key} in {account.settings.bucket} cannot be used: {why}. Mark it and send it again: invoke data.verify; invoke data.push",
        key,
        state,
    )


def parse(text: bytes, name: str, digest: str) -> Manifest:
    """Return the manifest, whose names may be used as paths and keys. Raises ValueError for an invalid one."""
    try:
        manifest = PARSER.validate_json(text, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise ValueError(f"{place}: {first['msg']}" if place else first["msg"]) from error
    if (manifest.name, manifest.digest, compute_dataset_digest(manifest.classes, manifest.shards)) != (
        name,
        digest,
        digest,
    ):
        raise ValueError("its content does not match its digest")
    seen: set[str] = set()
    for shard in manifest.shards:
        if shard.split not in SPLITS or shard.label not in manifest.classes or not is_safe_name(shard.label):
            raise ValueError(f"a shard has the split {shard.split!r} and the class {shard.label!r}")
        start = f"{shard.split}/{shard.label}/"
        if not has_valid_size(shard) or not all(map(has_valid_size, shard.files)):
            raise ValueError(f"{start} has an invalid SHA-256 or size")
        for file in shard.files:
            path = file.path
            if path in seen or not path.startswith(start) or not is_safe_name(path[len(start) :]):
                raise ValueError(f"a picture has the name {path!r}")
            seen.add(path)
    return manifest


def has_valid_size(entry: Shard | File) -> bool:
    return bool(SHA256.fullmatch(entry.sha256)) and entry.bytes >= 0

"""The pictures of a data set, found in shards and checked against their manifest, or found in a folder."""

import hashlib
import json
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SPLITS = ("train", "valid", "test")


class DataError(Exception):
    """The data set is incomplete, inconsistent, or differs from its manifest."""


@dataclass(frozen=True)
class Entry:
    """The location of one picture: `length` bytes from `offset` of `file`."""

    name: str
    label: int
    file: Path
    offset: int
    length: int

    def read(self) -> bytes:
        with self.file.open("rb") as file:
            file.seek(self.offset)
            return file.read(self.length)


@dataclass(frozen=True)
class Pictures:
    """The pictures of a data set: class names, the data set's digest, and the entries of each split."""

    classes: list[str]
    digest: str
    splits: dict[str, list[Entry]]


def load(folder: Path) -> Pictures:
    """Return all pictures below `folder`: shards if it has a manifest, else SPLIT/CLASS/PICTURE. Raises DataError."""
    manifests = sorted(folder.glob("datasets/*/*/manifest.json"))
    if len(manifests) > 1:
        raise DataError(f"{folder} has {len(manifests)} manifests instead of one")
    found = read_shards(folder, json.loads(manifests[0].read_text())) if manifests else read_folder(folder)
    for split in SPLITS:
        if not found.splits[split]:
            raise DataError(f"the {split} split has no pictures")
    return found


def read_shards(folder: Path, manifest: dict[str, Any]) -> Pictures:
    splits: dict[str, list[Entry]] = {split: [] for split in SPLITS}
    for shard in manifest["shards"]:
        path = folder / "shards" / f"{shard['sha256']}.tar"
        if not path.exists() or hashlib.sha256(path.read_bytes()).hexdigest() != shard["sha256"]:
            raise DataError(f"shard {shard['sha256'][:12]} ({shard['split']}/{shard['class']}) is missing or corrupt")
        with tarfile.open(path) as tar:
            members = {m.name: m for m in tar.getmembers()}
        names = [file["path"] for file in shard["files"]]
        if sorted(members) != sorted(names):
            raise DataError(f"shard {shard['sha256'][:12]} does not contain the pictures that the manifest lists")
        label = manifest["classes"].index(shard["class"])
        splits[shard["split"]] += [Entry(n, label, path, members[n].offset_data, members[n].size) for n in names]
    return Pictures(manifest["classes"], manifest["digest"], splits)


def read_folder(folder: Path) -> Pictures:
    classes = sorted(p.name for p in (folder / "train").iterdir() if p.is_dir())
    splits: dict[str, list[Entry]] = {}
    digest = hashlib.sha256()
    for split in SPLITS:
        classes_of_split = sorted(p.name for p in (folder / split).iterdir() if p.is_dir())
        if classes_of_split != classes:
            raise DataError(
                f"{split} and train do not have the same classes: {', '.join(sorted({*classes_of_split} ^ {*classes})[:5])}"
            )
        paths = [
            (label, path) for label, name in enumerate(classes) for path in sorted((folder / split / name).iterdir())
        ]
        splits[split] = [
            Entry(f"{split}/{classes[label]}/{path.name}", label, path, 0, path.stat().st_size) for label, path in paths
        ]
        for _, path in paths:
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return Pictures(classes, digest.hexdigest(), splits)

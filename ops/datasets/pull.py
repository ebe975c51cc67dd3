"""Pull a dataset from the bucket onto a disk, and list the datasets. Everything received is verified."""

from __future__ import annotations

import hashlib
import io
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from ops.core.aws.account import Account
from ops.core.errors import OpsError
from ops.core.files import write_atomically
from ops.core.output import say
from ops.datasets.image_folder import SPLITS, SUFFIXES, get_suffix
from ops.datasets.manifest import (
    CorruptDatasetError,
    File,
    Manifest,
    Shard,
    read_current,
    read_manifest,
    read_pointer,
)

AT_ONCE = 8  # each holds one shard in memory
PLAIN = (tarfile.REGTYPE, tarfile.AREGTYPE)  # a sparse file of a few bytes may claim any length


def pull_dataset(account: Account, manifest: Manifest, folder: Path, dry: bool) -> dict[str, Any]:
    """Write the manifest's pictures below `folder`; an existing picture is not fetched again.

    Returns {"fetched": pictures written (under `dry`, to be written), "kept": existed already, "others": not in the manifest}.
    Raises OpsError when a picture of that name has other content, a link leads out of the folder, or a shard is corrupt.
    """
    wanted = {file.path: file for file in manifest.files}
    existing, others = list_present_pictures(folder, manifest)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        same = dict(zip(existing, pool.map(lambda name: is_same(folder / name, wanted[name]), existing), strict=True))
        if differing := [name for name, equal in same.items() if not equal]:
            raise OpsError(
                f"{len(differing)} files in {folder} differ from the dataset's files of the same name (first: {differing[0]}). "
                "Nothing was written. Move them away, or use another folder: invoke data.pull --dir DIR"
            )
        missing = [shard for shard in manifest.shards if any(file.path not in same for file in shard.files)]
        fetched = [file.path for shard in missing for file in shard.files if file.path not in same]
        if not dry:
            say(f"Fetching {len(fetched)} pictures in {len(missing)} shards ...")
            list(pool.map(lambda shard: fetch_shard(account, shard, folder, set(same)), missing))
    return {"fetched": len(fetched), "kept": len(same), "others": others}


def list_present_pictures(folder: Path, manifest: Manifest) -> tuple[list[str], int]:
    """Return (names of the manifest that are in the folder, number of other pictures). Raises OpsError for a link in place of a folder.

    Files written through such a link would be outside the folder.
    """
    wanted = {file.path for file in manifest.files}
    for split, label in sorted({(shard.split, shard.label) for shard in manifest.shards}):
        for place in (folder / split, folder / split / label):
            if place.is_symlink() or (place.exists() and not place.is_dir()):
                raise OpsError(
                    f"{place} is a link or a file, not a folder. Nothing was written. Pull into another folder: --dir DIR"
                )
    found = [path.relative_to(folder).as_posix() for split in SPLITS for path in (folder / split).glob("*/*")]
    existing = sorted(wanted.intersection(found))
    return existing, sum(name not in wanted and get_suffix(name) in SUFFIXES for name in found)


def is_same(path: Path, file: File) -> bool:
    if path.is_symlink() or not path.is_file() or path.stat().st_size != file.bytes:
        return False
    return hashlib.sha256(path.read_bytes()).hexdigest() == file.sha256


def fetch_shard(account: Account, shard: Shard, folder: Path, existing: set[str]) -> None:
    """Fetch one shard and write its missing pictures, each completely or not at all."""
    data = account.bucket.get_object_or_none(shard.key) or b""
    what = f"{shard.split}/{shard.label}, shard {shard.sha256[:12]},"
    if hashlib.sha256(data).hexdigest() != shard.sha256:
        raise OpsError(f"{what} is missing or corrupt in the bucket. List all such objects: invoke data.verify")
    place = folder / shard.split / shard.label
    place.mkdir(parents=True, exist_ok=True)
    wanted = {file.path: file for file in shard.files if file.path not in existing}
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        for member in tar:
            content = tar.extractfile(member) if member.type in PLAIN and member.name in wanted else None
            if content is None:
                continue
            file = wanted.pop(member.name)
            picture = content.read()
            if hashlib.sha256(picture).hexdigest() != file.sha256:
                raise OpsError(
                    f"{what} does not contain {member.name} with the manifest's SHA-256. Push it again: invoke data.push"
                )
            write_atomically(place / member.name.rsplit("/", 1)[1], picture)
    if wanted:
        raise OpsError(f"{what} does not contain {next(iter(wanted))}. Push it again: invoke data.push")


def choose_manifest(account: Account, digest: str) -> Manifest:
    """Return the manifest whose digest begins with `digest`, the current one for "". Raises OpsError for none or several."""
    if not digest:
        return read_current(account)
    name = account.settings.data.name
    found = [row for row in list_manifests(account, f"datasets/{name}/{digest}") if row[0] == name]
    if len(found) != 1:
        raise OpsError(
            f"{len(found)} datasets {name!r} have a digest that begins with {digest!r}. List them: invoke data.list"
        )
    return read_manifest(account, found[0][1])


def list_manifests(account: Account, prefix: str) -> list[tuple[str, str, dict[str, Any]]]:
    """Return (name, digest, listing entry) of each manifest whose key begins with `prefix`. Raises OpsError without a bucket."""
    if not account.bucket.exists():
        raise OpsError(f"There is no bucket {account.bucket.name}. Create it: invoke data.up")
    split = [(item["Key"].split("/"), item) for item in account.bucket.objects(prefix)]
    return [(parts[1], parts[2], item) for parts, item in split if parts[3:] == ["manifest.json"]]


def list_datasets(account: Account) -> list[dict[str, Any]]:
    """Return a row for each dataset: by name, the current one first, then the newest. `bytes` is the size of its shards."""
    found = list_manifests(account, "datasets/")
    current = {name: read_pointer(account, name) for name in {name for name, _, _ in found}}

    def one(name: str, digest: str, item: dict[str, Any]) -> dict[str, Any]:
        row = {
            "name": name,
            "digest": digest,
            "current": digest == current[name],
            "pushed": f"{item['LastModified']:%Y-%m-%d %H:%M}",
        }
        try:
            manifest = read_manifest(account, digest, name)
        except CorruptDatasetError as error:
            say(str(error))
            return row | {"classes": 0, "pictures": {}, "bytes": 0}
        total = sum(shard.bytes for shard in manifest.shards)
        return row | {"classes": len(manifest.classes), "pictures": manifest.pictures, "bytes": total}

    with ThreadPoolExecutor(AT_ONCE) as pool:
        rows = list(pool.map(lambda each: one(*each), found))
    rows.sort(key=lambda row: row["pushed"], reverse=True)
    return sorted(rows, key=lambda row: (row["name"], not row["current"]))

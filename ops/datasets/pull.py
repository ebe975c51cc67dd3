"""A data set out of the bucket: onto a disk, or only read back and compared. Nothing that came over the wire is trusted."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from ops.core.aws.account import Account
from ops.core.errors import OpsError
from ops.core.output import say
from ops.datasets import manifest as dataset
from ops.datasets import scan_cache
from ops.datasets.image_folder import SPLITS, SUFFIXES, suffix

AT_ONCE = 8  # each holds one shard in memory
CHUNK = 1 << 20
PLAIN = (tarfile.REGTYPE, tarfile.AREGTYPE)  # a sparse file of some bytes may claim to be as long as it likes


def pull(account: Account, manifest: dict[str, Any], folder: Path, dry: bool) -> dict[str, Any]:
    """Write the manifest's pictures below `folder`; a picture that is there already is not fetched again.

    Returns {"fetched": pictures written (under `dry`, that would be), "kept": already there, "others": files of no such name}.
    Raises OpsError: a picture of that name with other content is there, a way out of the folder, a spoilt shard.
    """
    wanted = {file["path"]: file for shard in manifest["shards"] for file in shard["files"]}
    there, others = present(folder, manifest)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        same = dict(zip(there, pool.map(lambda name: has(folder / name, wanted[name]), there), strict=True))
        if differing := [name for name, equal in same.items() if not equal]:
            raise OpsError(
                f"{len(differing)} files in {folder} are not what the data set has under their names (first: {differing[0]}). "
                "Nothing was written. Move them away, or pull into another folder: invoke data.pull --dir DIR"
            )
        missing = [shard for shard in manifest["shards"] if any(file["path"] not in same for file in shard["files"])]
        fetched = [file["path"] for shard in missing for file in shard["files"] if file["path"] not in same]
        if not dry:
            say(f"Fetching {len(fetched)} pictures in {len(missing)} shards ...")
            list(pool.map(lambda shard: unpack(account, shard, folder, set(same)), missing))
    return {"fetched": len(fetched), "kept": len(same), "others": others}


def present(folder: Path, manifest: dict[str, Any]) -> tuple[list[str], int]:
    """(names of the manifest that are in the folder, how many other pictures are). Raises OpsError for a link on the way.

    A link in a class's place could lead anywhere, and what is written through it would be outside the folder.
    """
    wanted = {file["path"] for shard in manifest["shards"] for file in shard["files"]}
    for split, label in sorted({(shard["split"], shard["class"]) for shard in manifest["shards"]}):
        for place in (folder / split, folder / split / label):
            if place.is_symlink() or (place.exists() and not place.is_dir()):
                raise OpsError(f"{place} is no folder of its own. Nothing was written. Pull into another: --dir DIR")
    found = [path.relative_to(folder).as_posix() for split in SPLITS for path in (folder / split).glob("*/*")]
    there = sorted(wanted.intersection(found))
    return there, sum(name not in wanted and suffix(name) in SUFFIXES for name in found)


def has(path: Path, file: dict[str, Any]) -> bool:
    if path.is_symlink() or not path.is_file() or path.stat().st_size != file["bytes"]:
        return False
    return hashlib.sha256(path.read_bytes()).hexdigest() == file["sha256"]


def unpack(account: Account, shard: dict[str, Any], folder: Path, there: set[str]) -> None:
    """Fetch one shard and write those of its pictures that are not there; each appears whole or not at all."""
    data = b"".join(body(account, dataset.shard_key(shard["sha256"])) or [])
    what = f"{shard['split']}/{shard['class']}, shard {shard['sha256'][:12]},"
    if hashlib.sha256(data).hexdigest() != shard["sha256"]:
        raise OpsError(f"{what} is missing or spoilt in the bucket. See all that are: invoke data.verify")
    place = folder / shard["split"] / shard["class"]
    place.mkdir(parents=True, exist_ok=True)
    wanted = {file["path"]: file for file in shard["files"] if file["path"] not in there}
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        for member in tar:
            content = tar.extractfile(member) if member.type in PLAIN and member.name in wanted else None
            if content is None:
                continue
            file = wanted.pop(member.name)
            picture = content.read()
            if hashlib.sha256(picture).hexdigest() != file["sha256"]:
                raise OpsError(
                    f"{what} does not hold {member.name} as the manifest has it. Push it again: invoke data.push"
                )
            path = place / member.name.rsplit("/", 1)[1]
            part = path.with_name(f".{path.name}.part")
            part.write_bytes(picture)
            part.replace(path)
    if wanted:
        raise OpsError(f"{what} does not hold {next(iter(wanted))}. Push it again: invoke data.push")


def body(account: Account, key: str) -> Iterator[bytes] | None:
    """An object's bytes, a piece at a time; None when it is not there."""
    found = account.call_or_none("s3", "get_object", "NoSuchKey", Bucket=account.settings.bucket, Key=key)
    return found["Body"].iter_chunks(CHUNK) if found else None


def verify(account: Account) -> tuple[str, int, list[dict[str, str]]]:
    """(digest of the current data set, objects read, those that the bucket does not have as they were written).

    Each of these as {"key", "what", "state": "missing" or "spoilt"}; they are noted, so that the next push sends them again.
    """
    bucket, name = account.settings.bucket, account.settings.data.name
    digest = "?"
    try:
        digest = dataset.pointed(account, name) or digest
        manifest = dataset.current(account)
        states = read_all(account, manifest)
    except dataset.Spoilt as error:
        states = {error.key: ("what names all others", error.state)}
    bad = {key: state for key, state in states.items() if state[1]}
    scan_cache.note_spoilt(bucket, scan_cache.spoilt(bucket) - set(states) | set(bad))
    return digest, len(states), [{"key": k, "what": what, "state": s} for k, (what, s) in sorted(bad.items())]


def read_all(account: Account, manifest: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """(what it is; "missing", "spoilt" or "") of each object, by key. The manifest itself was read already."""
    channel = json.dumps(dataset.channel(account.settings.bucket, manifest)).encode()
    wanted = {
        dataset.shard_key(shard["sha256"]): (f"{shard['split']}/{shard['class']}", shard["sha256"])
        for shard in manifest["shards"]
    }
    wanted[dataset.channel_key(manifest)] = ("list for SageMaker", hashlib.sha256(channel).hexdigest())

    def one(key: str) -> str:
        pieces, whole = body(account, key), hashlib.sha256()
        if pieces is None:
            return "missing"
        for piece in pieces:
            whole.update(piece)
        return "" if whole.hexdigest() == wanted[key][1] else "spoilt"

    with ThreadPoolExecutor(AT_ONCE) as pool:
        states = dict(zip(wanted, pool.map(one, wanted), strict=True))
    read = {dataset.manifest_key(manifest): ("manifest", ""), dataset.pointer_key(manifest["name"]): ("pointer", "")}
    return read | {key: (wanted[key][0], state) for key, state in states.items()}


def chosen(account: Account, digest: str) -> dict[str, Any]:
    """The manifest whose digest begins so, the current one for "". Raises OpsError: none, or several."""
    if not digest:
        return dataset.current(account)
    name = account.settings.data.name
    found = [row for row in manifests(account, f"datasets/{name}/{digest}") if row[0] == name]
    if len(found) != 1:
        raise OpsError(
            f"{len(found)} data sets {name!r} have a digest that begins with {digest!r}. See them: invoke data.list"
        )
    return dataset.named(account, found[0][1])


def manifests(account: Account, prefix: str) -> list[tuple[str, str, dict[str, Any]]]:
    """(name, digest, the listing's entry) of every manifest whose key begins so. Raises OpsError without a bucket."""
    bucket = account.settings.bucket
    if account.call_or_none("s3", "head_bucket", "404|NoSuchBucket", Bucket=bucket) is None:
        raise OpsError(f"There is no bucket {bucket}. Make it: invoke data.up")
    items = account.list_all("s3", "list_objects_v2", "Contents", Bucket=bucket, Prefix=prefix)
    split = [(item["Key"].split("/"), item) for item in items]
    return [(parts[1], parts[2], item) for parts, item in split if parts[3:] == ["manifest.json"]]


def listed(account: Account) -> list[dict[str, Any]]:
    """Every data set in the bucket: by name, the current one and then the newest first. `bytes` are those of its shards."""
    found = manifests(account, "datasets/")
    current = {name: dataset.pointed(account, name) for name in {name for name, _, _ in found}}

    def one(name: str, digest: str, item: dict[str, Any]) -> dict[str, Any]:
        row = {
            "name": name,
            "digest": digest,
            "current": digest == current[name],
            "pushed": f"{item['LastModified']:%Y-%m-%d %H:%M}",
        }
        try:
            manifest = dataset.named(account, digest, name)
        except dataset.Spoilt as error:
            say(str(error))
            return row | {"classes": 0, "pictures": {}, "bytes": 0}
        total = sum(shard["bytes"] for shard in manifest["shards"])
        return row | {"classes": len(manifest["classes"]), "pictures": manifest["pictures"], "bytes": total}

    with ThreadPoolExecutor(AT_ONCE) as pool:
        rows = list(pool.map(lambda each: one(*each), found))
    rows.sort(key=lambda row: row["pushed"], reverse=True)
    return sorted(rows, key=lambda row: (row["name"], not row["current"]))

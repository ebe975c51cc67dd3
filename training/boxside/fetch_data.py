"""Download a data set from S3 to the box; each shard is checked by its SHA-256 and kept for the next job.

python3 fetch_data.py JOB.json     fetches data alone, for `invoke ec2.sync`; box_runner.py does so before training
"""

import fcntl
import hashlib
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SHARD = re.compile(r"shards/([0-9a-f]{64})\.tar")
SPARE = 512 << 20  # bytes that must stay free for checkpoints, the model and its archive


class DiskFull(Exception):
    """The missing data does not fit on the disk."""


class DownloadStopped(Exception):
    """The download was stopped; the message says why."""


def locate_object(home: Path, key: str) -> Path:
    """Return the path of a data set's object on the box, which all jobs share."""
    return home / key


def find_missing(home: Path, request: dict[str, Any]) -> dict[str, int]:
    """Return missing and corrupt shards, and always the manifest, with their bytes. Every shard is read and hashed."""
    sizes: dict[str, int] = request["sizes"]
    return {key: sizes.get(key, 0) for key in request["keys"] if not is_whole(locate_object(home, key), key)}


def is_whole(path: Path, key: str) -> bool:
    found = SHARD.fullmatch(key)
    if not found or not path.exists():
        return False  # a manifest is small, and is downloaded every time
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == found[1]


def check_room(home: Path, wanted: int) -> None:
    """Check that `wanted` bytes and SPARE fit on the disk. Raises DiskFull with the numbers."""
    answer = subprocess.run(["df", "-Pk", str(home)], capture_output=True, text=True, check=True).stdout
    free = int(answer.splitlines()[1].split()[3]) << 10
    if free < wanted + SPARE:
        raise DiskFull(
            f"No space left on device: the job needs {(wanted + SPARE) / 1e9:.2f} GB ({wanted / 1e9:.2f} GB of data and "
            f"{SPARE / 1e9:.2f} GB for its results), {free / 1e9:.2f} GB are free"
        )


@contextmanager
def hold_data(home: Path) -> Iterator[None]:
    """Hold the shared data lock, so that clean.py deletes no data that is being downloaded or linked."""
    with (home / "data.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        yield


def fetch_missing(s3: Any, request: dict[str, Any], home: Path, find_reason_to_end: Callable[[], str] = str) -> int:
    """Download the missing objects; return how many shards. `find_reason_to_end` is called between objects.

    Raises DiskFull, DownloadStopped, or OSError for an object that is missing or corrupt in the bucket.
    """
    wanted = find_missing(home, request)
    check_room(home, sum(wanted.values()))
    total, done, reported_at = sum(wanted.values()), 0, time.monotonic()
    for number, (key, size) in enumerate(wanted.items(), 1):
        if why := find_reason_to_end():
            raise DownloadStopped(why)
        download_and_verify(s3, request["bucket"], key, locate_object(home, key))
        done += size
        if time.monotonic() - reported_at > 1:
            reported_at = time.monotonic()
            print(f"{number} of {len(wanted)} objects, {done / 1e6:.1f} of {total / 1e6:.1f} MB", flush=True)
    shards, new = (sum(map(bool, map(SHARD.fullmatch, keys))) for keys in (request["keys"], wanted))
    print(f"{shards} shards of the data set are on the box, checked by SHA-256; {new} were downloaded", flush=True)
    return new


def download_and_verify(s3: Any, bucket: str, key: str, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    s3.download_file(bucket, key, str(part))
    if SHARD.fullmatch(key) and not is_whole(part, key):
        part.unlink()
        raise OSError(f"{key} in the bucket is missing or corrupt. Run: invoke data.verify")
    part.replace(path)


def link_data(request: dict[str, Any], home: Path, data: Path) -> None:
    """Link the data set's objects to where train.py looks for them."""
    for key in request["keys"]:
        path = data / key
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.is_symlink():
            path.symlink_to(locate_object(home, key))


def main(job: Path) -> None:
    import boto3

    request, home = (
        json.loads(job.read_text()),
        Path(__file__).resolve().parents[3],
    )  # this file is HOME/code/DIGEST/boxside/fetch_data.py
    with hold_data(home):
        fetch_missing(boto3.client("s3", region_name=request["region"]), request, home)


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]))
    except (DiskFull, OSError) as error:
        sys.exit(str(error))

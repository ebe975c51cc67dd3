"""Files and folders: digests of names and contents, archives without times and owners, and atomic writes."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import secrets
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ops.core.errors import OpsError

SKIPPED = {"__pycache__", ".mypy_cache", ".ruff_cache", ".DS_Store", "ruff.toml"}
# Weights hardly shrink when they are packed; what becomes far larger than it is, and large, is made to fill the disk.
MOST_RATIO, SMALL_BYTES, MOST_FILES = 20, 1 << 30, 10_000
EPOCH = (1980, 1, 1, 0, 0, 0)  # the oldest date a zip can hold: equal sources give equal bytes


def list_files(folder: Path) -> list[Path]:
    """Return every file below the folder, sorted by path; caches and a linter's settings are left out."""
    return sorted(p for p in folder.rglob("*") if p.is_file() and not SKIPPED & set(p.relative_to(folder).parts))


def compute_folder_digest(folder: Path, length: int = 12) -> str:
    """Return the first `length` hex digits of a SHA-256 over names and contents."""
    digest = hashlib.sha256()
    for path in list_files(folder):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:length]


def build_tar(entries: Iterable[tuple[str, Path]]) -> bytes:
    """Return a gzipped tar of (name, file) entries: equal files give equal bytes."""
    packed = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=packed, mode="wb", mtime=0, compresslevel=1) as zipped,
        tarfile.open(fileobj=zipped, mode="w") as tar,
    ):
        for name, path in entries:
            data = path.read_bytes()
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), 0o644
            tar.addfile(entry, io.BytesIO(data))
    return packed.getvalue()


def build_zip(entries: Iterable[tuple[str, Path]]) -> bytes:
    """Return a zip of (name, file) entries, with fixed dates and modes: equal files give equal bytes."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, path in entries:
            entry = zipfile.ZipInfo(name, EPOCH)
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, path.read_bytes(), zipfile.ZIP_DEFLATED)
    return packed.getvalue()


def extract_tar(data: bytes, folder: Path) -> Path:
    """Replace `folder` by the content of a tar, completely or not at all.

    Raises OpsError for a tar that is corrupt, leads outside, or would become far larger than it is.
    """
    part = folder.with_name(folder.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        with name_path(folder), tarfile.open(fileobj=io.BytesIO(data)) as tar:
            extract_members(tar, part, max(MOST_RATIO * len(data), SMALL_BYTES))
    except (tarfile.TarError, zlib.error, EOFError, gzip.BadGzipFile) as error:
        raise OpsError(
            f"The archive of {folder.name} is corrupt or not safe: {error}. Nothing was unpacked. "
            "To make another: invoke sm.train --again"
        ) from error
    else:
        shutil.rmtree(folder, ignore_errors=True)
        part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return folder


def extract_members(tar: tarfile.TarFile, folder: Path, most_bytes: int) -> None:
    """Unpack one entry after the other. Raises TarError before the one that is too many, or that leads out of the folder."""
    total = 0
    for number, member in enumerate(tar, 1):
        total += member.size
        if total > most_bytes or number > MOST_FILES:
            raise tarfile.ReadError(f"it would become more than {most_bytes:,} bytes or {MOST_FILES:,} files")
        tar.extract(member, folder, filter="data")


@contextmanager
def name_path(path: Path) -> Iterator[None]:
    """Give an error of writing the path of its file, as errors of opening have it: a full disk must be found."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise


def write_atomically(path: Path, data: bytes, mode: int = 0o666, durable: bool = False) -> None:
    """Write the file completely or not at all; a link at `path` is replaced, not followed.

    `mode` is for a new file, less the umask. `durable` waits for the disk; it is for content that cannot be recreated.
    """
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")  # two commands may write the same file at once
    try:
        with name_path(path), os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            file.write(data)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def read_json(path: Path) -> Any:
    """Return the content of a JSON file; None when it is missing or cannot be read."""
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None


def save_json(path: Path, value: Any) -> None:
    """Write a JSON file that its owner alone can read, and create the folders above it."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_atomically(path, json.dumps(value).encode(), mode=0o600)

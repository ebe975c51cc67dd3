"""Unpack an untrusted zip of pictures: all entries are checked before any is written, and all are written below one folder."""

from __future__ import annotations

import shutil
import stat
import zipfile
import zlib
from collections import Counter
from pathlib import Path

from ops.core.errors import OpsError
from ops.core.output import say
from ops.datasets.download import CHUNK
from ops.datasets.image_check import MOST_BYTES
from ops.datasets.image_folder import SPLITS, SUFFIXES, describe_left_out, get_suffix, is_safe_name

MOST_ENTRIES = 1_000_000
MOST_RATIO = 20  # the content may be this many times the zip; pictures are compressed already
SLACK_BYTES = 1 << 20
LOCAL_HEADER = 30  # bytes before an entry's name
RESOURCES = "__MACOSX"  # what macOS adds to a zip


def unpack_archive(archive: Path, into: Path) -> int:
    """Write [TOP/]SPLIT/CLASS/PICTURE of the zip as INTO/SPLIT/CLASS/PICTURE; return how many. CRCs are checked.

    Raises OpsError for a corrupt zip, an unsafe name, a link, a bomb or another layout; OSError when the disk is full.
    """
    try:
        with zipfile.ZipFile(archive) as zipped:
            entries = select_entries(zipped.infolist(), archive.stat().st_size)
            for name, entry in entries.items():
                path = into / name
                path.parent.mkdir(parents=True, exist_ok=True)
                with zipped.open(entry) as packed, path.open("xb") as file:
                    shutil.copyfileobj(packed, file, CHUNK)  # no more than the size that was checked
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError, RuntimeError) as error:
        raise OpsError(
            f"The archive is corrupt: {error}. Its files were deleted; run the same command again."
        ) from error
    return len(entries)


def select_entries(entries: list[zipfile.ZipInfo], archive_bytes: int) -> dict[str, zipfile.ZipInfo]:
    """Return the pictures' entries, by SPLIT/CLASS/PICTURE. Raises OpsError for an archive with a hostile entry."""
    for entry in entries:
        if why := explain_unsafe_entry(entry):
            raise OpsError(f"The archive is not safe: {entry.orig_filename!r} {why}. Nothing was unpacked.")
    check_sizes(entries, archive_bytes)
    found: dict[str, zipfile.ZipInfo] = {}
    top_folders = set()
    left_out: Counter[str] = Counter()
    for entry in entries:
        parts = split_name(entry)
        if is_folder(entry) or parts[0] == RESOURCES or parts[-1].startswith("."):
            continue
        suffix = get_suffix(parts[-1])
        if suffix not in SUFFIXES:
            left_out[suffix or "without a suffix"] += 1
            continue
        if len(parts) < 3 or parts[-3] not in SPLITS or not all(is_safe_name(part) for part in parts[-2:]):
            raise OpsError(
                f"{entry.filename!r} is not in SPLIT/CLASS/, where SPLIT is {', '.join(SPLITS)}. Nothing was unpacked."
            )
        name = "/".join(parts[-3:])
        top_folders.add(parts[:-3])
        if name in found or len(top_folders) > 1:
            raise OpsError(f"{name} is in the archive twice, or below two folders. Nothing was unpacked.")
        found[name] = entry
    if left_out:
        say(f"{describe_left_out(dict(left_out.most_common()))}.")
    return found


def split_name(entry: zipfile.ZipInfo) -> tuple[str, ...]:
    r"""Return the parts of an entry's path. Some programs of Windows write a\b for a/b; others begin with ./, as tar does."""
    parts = entry.orig_filename.replace("\\", "/").rstrip("/").split("/")
    return tuple(part for part in parts if part != ".") or (".",)


def is_folder(entry: zipfile.ZipInfo) -> bool:
    return entry.orig_filename.endswith(("/", "\\"))


def explain_unsafe_entry(entry: zipfile.ZipInfo) -> str:
    """Return why an archive with this entry is refused; "" for an ordinary file or folder."""
    name, file_type = entry.orig_filename, stat.S_IFMT(entry.external_attr >> 16)
    parts = split_name(entry)
    if "\0" in name or ":" in parts[0] or not name:
        return "is not a portable name"
    if ".." in parts or "" in parts:
        return "leads out of the folder"
    if file_type not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "is a link or a device"
    if entry.flag_bits & 0x1:
        return "is encrypted"
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return "uses an unsupported compression method"
    if entry.file_size > MOST_BYTES:
        return f"is larger than {MOST_BYTES >> 20} MB"
    return ""


def check_sizes(entries: list[zipfile.ZipInfo], archive_bytes: int) -> None:
    """Raise OpsError for a bomb: far more content than the zip has bytes, or entries that share their bytes."""
    total = sum(entry.file_size for entry in entries)
    if len(entries) > MOST_ENTRIES or total > MOST_RATIO * archive_bytes + SLACK_BYTES:
        raise OpsError(f"The archive is not safe: {archive_bytes} bytes would become {total}. Nothing was unpacked.")
    end = 0
    for entry in sorted(entries, key=lambda entry: entry.header_offset):
        if entry.header_offset < end:
            raise OpsError(
                f"The archive is not safe: {entry.filename!r} shares bytes with another. Nothing was unpacked."
            )
        end = entry.header_offset + LOCAL_HEADER + len(entry.orig_filename.encode()) + entry.compress_size

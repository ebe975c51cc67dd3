"""Fetch public pictures: download, check and unpack an archive that the settings name, or any URL."""

from __future__ import annotations

import hashlib
import json
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ops.core.errors import OpsError
from ops.core.masking import identify_url, strip_url
from ops.core.nearest import find_nearest
from ops.core.output import say
from ops.core.paths import WORK
from ops.core.settings import Archive, Data
from ops.datasets.archive import unpack_archive
from ops.datasets.download import download_file
from ops.datasets.image_folder import SPLITS
from ops.datasets.manifest import list_pictures

SOURCE = "source.json"  # in the folder, beside the splits: the URL, without its secrets, and digest of its archive


def find_archive(data: Data, name: str) -> Archive:
    """Return the settings' archive of that name, or one for the URL itself. Raises OpsError for any other name."""
    if name in data.archives:
        return data.archives[name]
    if name.startswith(("http://", "https://")):
        return Archive.model_construct(url=name, sha256="", classes=0, pictures={})
    near = find_nearest(name, data.archives)
    hint = f"Did you mean: invoke data.fetch {near}?" if near else f"Known: {', '.join(data.archives)}; or give a URL."
    raise OpsError(f"There is no archive {name!r} in data.archives. {hint}")


def fetch_archive(archive: Archive, folder: Path) -> dict[str, Any]:
    """Fetch and unpack; return the content of the folder's source.json: url, sha256, bytes, fetched, pictures.

    A folder that came from this URL is not changed.
    Raises OpsError when another folder is there, the download fails, or the archive differs from the settings.
    """
    if folder.exists():
        return read_existing_source(archive, folder)
    place = WORK / "fetched" / f"{hashlib.sha256(archive.url.encode()).hexdigest()[:16]}.zip"
    say(f"Fetching {strip_url(archive.url)} ...")
    download_file(archive.url, place)
    source: dict[str, Any] = {
        "url": identify_url(archive.url),
        "sha256": compute_sha256(place),
        "bytes": place.stat().st_size,
    }
    folder.parent.mkdir(parents=True, exist_ok=True)
    new = folder.with_name(f"{folder.name}.new")
    shutil.rmtree(new, ignore_errors=True)
    try:
        if archive.sha256 and source["sha256"] != archive.sha256:
            raise OpsError(
                f"{strip_url(archive.url)} has SHA-256 {source['sha256']}, not {archive.sha256}. Nothing was unpacked."
            )
        say(f"Unpacking {source['bytes'] / 1e6:.0f} MB ...")
        unpack_archive(place, new)
        source |= {"fetched": f"{datetime.now(UTC):%Y-%m-%d}", "pictures": count_pictures(archive, new)}
        (new / SOURCE).write_text(json.dumps(source, indent=2) + "\n")
        new.rename(folder)
    except OSError as error:
        raise OpsError(
            f"{folder} could not be written: {error}. The archive is kept: run the same command again."
        ) from error
    except OpsError:
        delete_download(place)  # unpacking a complete but wrong archive again cannot help
        raise
    finally:
        shutil.rmtree(new, ignore_errors=True)
    delete_download(place)
    return source


def delete_download(place: Path) -> None:
    for path in (place, place.with_suffix(".version")):
        path.unlink(missing_ok=True)


def read_existing_source(archive: Archive, folder: Path) -> dict[str, Any]:
    try:
        source: dict[str, Any] = json.loads((folder / SOURCE).read_text())
    except (OSError, ValueError):
        source = {}
    if source.get("url") != identify_url(archive.url):
        raise OpsError(
            f"{folder} exists, and did not come from {strip_url(archive.url)}. Fetch into another folder: --dir DIR"
        )
    return source


def count_pictures(archive: Archive, folder: Path) -> dict[str, int]:
    """Return the number of pictures by split. Raises OpsError when it differs from the settings, or the folder cannot be trained on."""
    pictures = list_pictures(folder)
    found = {split: sum(picture.split == split for picture in pictures) for split in SPLITS}
    classes = len({picture.label for picture in pictures})
    if (archive.pictures and found != archive.pictures) or (archive.classes and classes != archive.classes):
        raise OpsError(
            f"{strip_url(archive.url)} has {classes} classes and {found} pictures, but the settings (data.archives) have {archive.classes} "
            f"and {archive.pictures}. Nothing was kept."
        )
    return found


def compute_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

"""Cache of scan results under .kennel/: the image metadata of a folder, and the manifest that was packed from it last.

Like rsync, it takes a file with the same size and modification time as unchanged, and does not read it again.
A change that restores the old time is not noticed. Losing the cache costs only time.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Generator
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ops.core.files import read_json, save_json
from ops.core.output import say
from ops.core.paths import WORK
from ops.datasets.image_check import ImageInfo, inspect_image
from ops.datasets.image_folder import Picture
from ops.datasets.manifest import PARSER, Manifest

RULES = 2  # the version of ops/datasets/image_check.py: entries of other versions are ignored


@dataclass
class ScanCache:
    """A folder's cache. `entries` by a picture's name: [bytes, modified_ns, *ImageInfo]; `manifest` was packed last."""

    path: Path
    entries: dict[str, list[Any]] = field(default_factory=dict)
    manifest: Manifest | None = None
    shard_mb: int = 0

    def inspect(self, pictures: list[Picture]) -> Generator[list[tuple[Picture, ImageInfo]], None, None]:
        """Yield a split's class at a time, in order: each picture with its ImageInfo, computed now if the file has changed.

        The results so far are saved, even when the caller stops early. Raises OpsError without Pillow.
        """
        new = [p for p in pictures if self.entries.get(p.name, [])[:2] != [p.bytes, p.modified_ns]]
        if new:
            say(f"Inspecting {len(new)} pictures ...")
        self.entries = {name: self.entries[name] for name in (p.name for p in pictures) if name in self.entries}
        fresh = {id(picture) for picture in new}
        try:
            for _, group in groupby(pictures, key=lambda p: (p.split, p.label)):
                seen: list[tuple[Picture, ImageInfo]] = []
                for picture in group:
                    if id(picture) in fresh:
                        info = inspect_image(picture.path)
                        self.entries[picture.name] = [picture.bytes, picture.modified_ns, *info.to_json()]
                    seen.append((picture, ImageInfo(*self.entries[picture.name][2:])))
                yield seen
        finally:
            if new:
                self.save()

    def save_manifest(self, manifest: Manifest, shard_mb: int) -> None:
        self.manifest, self.shard_mb = manifest, shard_mb
        self.save()

    def is_current(self, pictures: list[Picture], skip_bad: bool, name: str, shard_mb: int) -> bool:
        """Return whether the manifest was packed from exactly these files in their present state."""
        if self.manifest is None or self.manifest.name != name or self.shard_mb != shard_mb:
            return False
        packed = {file.path: file.sha256 for file in self.manifest.files}
        for picture in pictures:
            entry = self.entries.get(picture.name)
            if entry is None or entry[:2] != [picture.bytes, picture.modified_ns]:
                return False
            sha256, fault = entry[2:4]
            if fault and not skip_bad:
                return False
            if not fault and packed.pop(picture.name, None) != sha256:
                return False
        return not packed

    def save(self) -> None:
        manifest = self.manifest.to_json() if self.manifest else {}
        save_json(self.path, {"rules": RULES, "looks": self.entries, "manifest": manifest, "shard_mb": self.shard_mb})


def read_cache(folder: Path) -> ScanCache:
    """Return the folder's cache; an empty one if there is no usable one."""
    digest = hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:16]
    path = WORK / "pictures" / f"{digest}.json"
    saved = read_json(path)
    if not isinstance(saved, dict) or saved.get("rules") != RULES:
        return ScanCache(path)
    try:
        manifest = PARSER.validate_python(saved["manifest"]) if saved["manifest"] else None
    except ValidationError:
        return ScanCache(path)
    return ScanCache(path, saved["looks"], manifest, saved["shard_mb"])

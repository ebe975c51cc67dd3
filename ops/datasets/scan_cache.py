"""What is known from before, below .kennel/: how a folder's pictures looked, how they were packed, and what is spoilt in a bucket.

A file whose size and time of change are as before is taken to be as before, as rsync does; nothing of it is read again.
Whoever changes a file and sets its old time again is not noticed. Losing these notes costs time and nothing else.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Generator
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ops.core.output import say
from ops.core.paths import WORK

if TYPE_CHECKING:
    from ops.datasets.image_check import Look
    from ops.datasets.image_folder import Picture

RULES = 2  # of ops/datasets/image_check.py: looks that were taken under others do not count


@dataclass
class Known:
    """A folder's notes. `looks` by a picture's name: [bytes, modified_ns, *Look]; `manifest` is what was packed last.

    `link` is of ops/datasets/current.py.
    """

    place: Path
    looks: dict[str, list[Any]] = field(default_factory=dict)
    manifest: dict[str, Any] = field(default_factory=dict)
    shard_mb: int = 0
    link: dict[str, Any] = field(default_factory=dict)

    def look_at(self, pictures: list[Picture]) -> Generator[list[tuple[Picture, Look]], None, None]:
        """A split's class at a time, in order: each picture with its Look, taken now where the file is not as it was.

        What was seen is noted, however early this ends. Raises OpsError without Pillow.
        """
        from ops.datasets.image_check import Look, look

        new = [p for p in pictures if self.looks.get(p.name, [])[:2] != [p.bytes, p.modified_ns]]
        if new:
            say(f"Looking at {len(new)} pictures ...")
        self.looks = {name: self.looks[name] for name in (p.name for p in pictures) if name in self.looks}
        fresh = {id(picture) for picture in new}
        try:
            for _, group in groupby(pictures, key=lambda p: (p.split, p.label)):
                seen: list[tuple[Picture, Look]] = []
                for picture in group:
                    if id(picture) in fresh:
                        self.looks[picture.name] = [picture.bytes, picture.modified_ns, *look(picture.path).noted()]
                    seen.append((picture, Look(*self.looks[picture.name][2:])))
                yield seen
        finally:
            if new:
                self.save()

    def packed(self, manifest: dict[str, Any], shard_mb: int, link: dict[str, Any]) -> None:
        self.manifest, self.shard_mb, self.link = manifest, shard_mb, link
        self.save()

    def linked(self, link: dict[str, Any]) -> None:
        self.link = link
        self.save()

    def unchanged(self, pictures: list[Picture], skip_bad: bool, name: str, shard_mb: int) -> bool:
        """Whether the manifest was packed from these very files, as they are now."""
        if not self.manifest or self.manifest["name"] != name or self.shard_mb != shard_mb:
            return False
        packed = {file["path"]: file["sha256"] for shard in self.manifest["shards"] for file in shard["files"]}
        for picture in pictures:
            noted = self.looks.get(picture.name)
            if noted is None or noted[:2] != [picture.bytes, picture.modified_ns]:
                return False
            sha256, fault = noted[2:4]
            if fault and not skip_bad:
                return False
            if not fault and packed.pop(picture.name, None) != sha256:
                return False
        return not packed

    def save(self) -> None:
        write(
            self.place,
            {
                "rules": RULES,
                "looks": self.looks,
                "manifest": self.manifest,
                "shard_mb": self.shard_mb,
                "link": self.link,
            },
        )


def of_folder(folder: Path) -> Known:
    """The folder's notes; empty ones if there are none that can be used."""
    whole = hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:16]
    place = WORK / "pictures" / f"{whole}.json"
    noted = read(place)
    if not isinstance(noted, dict) or noted.get("rules") != RULES:
        return Known(place)
    return Known(place, noted["looks"], noted["manifest"], noted["shard_mb"], noted["link"])


def spoilt(bucket: str) -> set[str]:
    """Keys that data.verify found missing or spoilt, and that were not sent again since."""
    return set(read(WORK / "spoilt" / f"{bucket}.json") or [])


def note_spoilt(bucket: str, keys: set[str]) -> None:
    place = WORK / "spoilt" / f"{bucket}.json"
    if keys:
        write(place, sorted(keys))
    else:
        place.unlink(missing_ok=True)


def read(place: Path) -> Any:
    try:
        return json.loads(place.read_bytes())
    except (OSError, ValueError):
        return None


def write(place: Path, value: Any) -> None:
    """Whole or not at all."""
    place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    part = place.with_suffix(f".{os.getpid()}.part")
    part.touch(mode=0o600)  # a signed link may be in it
    part.write_text(json.dumps(value))
    part.replace(place)

"""Image folders on a disk: DIR/SPLIT/CLASS/PICTURE. Hidden files and folders are skipped."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from ops.core.errors import OpsError

SPLITS = ("train", "valid", "test")
SUFFIXES = {".png", ".jpg", ".jpeg"}
LONGEST = 200  # bytes of a name; file systems take 255, and a prefix and a suffix are added
UNSAFE = re.compile(r"[\x00-\x1f\x7f/\\]")


@dataclass(frozen=True)
class Picture:
    """A picture's file in a folder: `bytes` long, last changed at `modified_ns`."""

    split: str
    label: str
    path: Path
    bytes: int
    modified_ns: int

    @property
    def name(self) -> str:
        return f"{self.split}/{self.label}/{self.path.name}"


@dataclass
class ImageFolder:
    """The content of an image folder, valid or not: pictures, classes by split (empty ones too), and other files."""

    path: Path
    pictures: list[Picture] = field(default_factory=list)
    classes: dict[str, list[str]] = field(default_factory=dict)
    others: list[str] = field(default_factory=list)

    def list_nonempty_classes(self, split: str) -> set[str]:
        """Return the classes of a split that have pictures."""
        return {picture.label for picture in self.pictures if picture.split == split}


def is_safe_name(name: str) -> bool:
    """Return whether a file or class may have this name everywhere it is sent to: one part of a path, visible, in UTF-8."""
    long = len(name.encode(errors="replace"))
    encodable = name.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in name)
    return encodable and not UNSAFE.search(name) and 0 < long <= LONGEST and name[0] != "."


def scan_folder(folder: Path) -> ImageFolder:
    """Return the content of DIR, by name; hidden files and folders are skipped. Raises OpsError for a folder without this layout."""
    if not folder.is_dir():
        raise OpsError(
            f"There is no folder {folder}. Name one that contains {', '.join(SPLITS)}: invoke data.push --dir DIR"
        )
    missing = [split for split in SPLITS if not (folder / split).is_dir()]
    if missing:
        raise OpsError(
            f"{folder} has no {' and no '.join(missing)} folder: pictures must be in DIR/SPLIT/CLASS/, where SPLIT is {', '.join(SPLITS)}."
        )
    found = ImageFolder(folder)
    for split in SPLITS:
        inside = [entry for entry in sorted(os.scandir(folder / split), key=get_entry_name) if entry.name[0] != "."]
        found.classes[split] = [entry.name for entry in inside if entry.is_dir()]
        found.others += [f"{split}/{entry.name}" for entry in inside if not entry.is_dir()]
        for label in found.classes[split]:
            read_class(found, split, label)
    return found


def get_suffix(name: str) -> str:
    """Return the suffix in lower case, like Path.suffix but faster: creating thousands of Path objects dominates a scan."""
    dot = name.rfind(".")
    return name[dot:].lower() if dot > 0 else ""


def get_entry_name(entry: os.DirEntry[str]) -> str:
    return entry.name


def read_class(found: ImageFolder, split: str, label: str) -> None:
    place = found.path / split / label
    for entry in sorted(os.scandir(place), key=get_entry_name):
        if entry.name[0] == ".":
            continue
        if get_suffix(entry.name) in SUFFIXES and entry.is_file():
            status = entry.stat()
            found.pictures.append(Picture(split, label, place / entry.name, status.st_size, status.st_mtime_ns))
        else:
            found.others.append(f"{split}/{label}/{entry.name}")

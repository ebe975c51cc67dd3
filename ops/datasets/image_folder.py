"""Image folders on a disk: DIR/SPLIT/CLASS/PICTURE. What is not a picture of a class is left out, each with its reason."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ops.core.errors import OpsError

SPLITS = ("train", "valid", "test")
SUFFIXES = {".png", ".jpg", ".jpeg", ".jpe", ".jfif"}
OTHER_FORMATS = {  # pictures in formats that neither training nor the endpoint reads
    ".webp", ".gif", ".bmp", ".tif", ".tiff", ".heic", ".heif", ".avif", ".jp2", ".j2k", ".jxl", ".svg", ".ppm", ".pgm", ".pbm",
    ".tga", ".ico", ".psd", ".raw", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2",
}  # fmt: skip
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


@dataclass(frozen=True)
class LeftOut:
    """A file or folder that is left out. `kind` is what it is counted by; `is_picture` says whether a picture may be lost with it."""

    name: str
    kind: str
    reason: str
    is_picture: bool = True
    files: int = 1


@dataclass
class ImageFolder:
    """The content of an image folder, valid or not: pictures, classes by split (empty ones too), and what is left out.

    A class is named by the composed Unicode form (NFC) of its folder's name; `twins` are folders of one split with the same class.
    """

    path: Path
    pictures: list[Picture] = field(default_factory=list)
    classes: dict[str, list[str]] = field(default_factory=dict)
    others: list[LeftOut] = field(default_factory=list)
    twins: list[str] = field(default_factory=list)

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
        raise OpsError(f"There is no folder {folder}. Name one that contains {', '.join(SPLITS)}: --dir DIR")
    missing = [split for split in SPLITS if not (folder / split).is_dir()]
    if missing:
        raise OpsError(
            f"{folder} has no {' and no '.join(missing)} folder: pictures must be in DIR/SPLIT/CLASS/, where SPLIT is {', '.join(SPLITS)}."
        )
    found = ImageFolder(folder)
    for split in SPLITS:
        read_classes(found, split, folder / split)
    return found


def read_classes(found: ImageFolder, split: str, place: Path) -> None:
    """Add what is in the folder `place`, one folder a class, as `split`."""
    folders: dict[str, list[str]] = defaultdict(list)
    for entry in list_entries(place):
        if entry.name[0] != "." and entry.is_dir():
            folders[unicodedata.normalize("NFC", entry.name)].append(entry.name)
        else:
            found.others.append(explain_left_out(entry, f"{split}/{entry.name}", "it is in no class's folder"))
    found.classes[split] = list(folders)
    for label, names in folders.items():
        if len(names) > 1:
            found.twins.append(f"{split}/{label}")
        for name in names:
            read_class(found, split, label, place / name)


def list_entries(place: Path) -> list[os.DirEntry[str]]:
    return sorted(os.scandir(place), key=lambda entry: entry.name)


def get_suffix(name: str) -> str:
    """Return the suffix in lower case, like Path.suffix but faster: creating thousands of Path objects dominates a scan."""
    dot = name.rfind(".")
    return name[dot:].lower() if dot > 0 else ""


def read_class(found: ImageFolder, split: str, label: str, place: Path) -> None:
    for entry in list_entries(place):
        if entry.name[0] != "." and get_suffix(entry.name) in SUFFIXES and is_readable_file(entry):
            status = entry.stat()
            found.pictures.append(Picture(split, label, place / entry.name, status.st_size, status.st_mtime_ns))
        else:
            found.others.append(explain_left_out(entry, f"{split}/{label}/{entry.name}"))


def is_readable_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:  # a link to itself, or into a folder that may not be read
        return False


def explain_left_out(entry: os.DirEntry[str], name: str, misplaced: str = "") -> LeftOut:
    """Return why a file or folder is left out; `misplaced` is the reason for a picture that could be read."""
    suffix = get_suffix(entry.name)
    if entry.name[0] == ".":
        return LeftOut(name, "hidden", "it is hidden: its name begins with a dot", is_picture=False)
    if entry.is_symlink() and not Path(entry.path).exists():
        return LeftOut(
            name, "broken link", "it is a link to a file that is not there", suffix in SUFFIXES | OTHER_FORMATS
        )
    if entry.is_dir():
        inside = sum(
            get_suffix(file) in SUFFIXES | OTHER_FORMATS for *_, files in os.walk(entry.path) for file in files
        )
        if inside:
            reason = f"it is a folder inside a class; the pictures in it ({inside}) are not read"
            return LeftOut(name, "in nested folders", reason, files=inside)
        named = suffix in SUFFIXES
        reason = "it is a folder that is named like a picture" if named else "it is a folder without pictures"
        return LeftOut(name, "folder", reason, is_picture=named)
    if not is_readable_file(entry):
        return LeftOut(name, "not a file", "it cannot be read as a file", suffix in SUFFIXES)
    if suffix in SUFFIXES:
        return LeftOut(name, "misplaced", misplaced)
    if suffix in OTHER_FORMATS:
        return LeftOut(name, suffix, f"{suffix} pictures are not read; convert them to PNG or JPEG")
    reason = f"it is not named as a picture ({', '.join(sorted(SUFFIXES))})"
    return LeftOut(name, suffix or "without a suffix", reason, is_picture=False)


def describe_left_out(counts: dict[str, int]) -> str:
    """Return "5 files left out: 3 .webp, 2 broken link"; "" without any."""
    kinds = ", ".join(f"{count} {kind}" for kind, count in counts.items())
    return f"{sum(counts.values())} files left out: {kinds}" if counts else ""


def count_left_out(others: Iterable[LeftOut]) -> dict[str, int]:
    """Return how many files are left out by their kind, the most first; hidden ones do not count."""
    counts: Counter[str] = Counter()
    for one in others:
        if one.kind != "hidden":
            counts[one.kind] += one.files
    return dict(counts.most_common())


def fold_name(name: str) -> str:
    """Return what a disk that ignores Unicode form and letter case takes for the name."""
    return (
        name.lower() if name.isascii() else unicodedata.normalize("NFC", unicodedata.normalize("NFD", name).casefold())
    )


def find_class_clashes(found: ImageFolder) -> Iterator[tuple[str, str]]:
    """Yield (where, why) of classes that some disks cannot hold apart: names that differ in Unicode form or letter case only."""
    for where in found.twins:
        yield where, "two folders have this name, in two Unicode forms that look the same; move their pictures into one"
    groups: dict[str, set[str]] = defaultdict(set)
    for label in set().union(*found.classes.values()):
        groups[fold_name(label)].add(label)
    for labels in groups.values():
        if len(labels) > 1:
            names = " and ".join(sorted(labels))
            yield names, "these classes differ in letter case only, and some disks cannot hold both; rename one"

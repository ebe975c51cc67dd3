"""Findings about a folder of pictures: errors stop a push, warnings cost accuracy, notes need no action.

Two files are the same picture when training would see the same pixels, whatever their names, metadata and lossless
compression. A picture that was scaled, cropped or saved again as JPEG counts as another one.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

from imaging import REQUEST_BYTES
from ops.core.finding import SEVERITIES, Finding
from ops.datasets import scan_cache
from ops.datasets.image_check import ImageInfo
from ops.datasets.image_folder import (
    SPLITS,
    ImageFolder,
    LeftOut,
    Picture,
    find_class_clashes,
    fold_name,
    is_safe_name,
    scan_folder,
)

TINY = 8  # pixels of the shorter side; train.pixels may not be less either
IMBALANCE = 10  # times more pictures in the largest class than in the smallest
MOST_NAMES = 5  # in one finding


def examine_folder(folder: Path) -> tuple[ImageFolder, list[Finding]]:
    """Scan a folder and inspect its pictures; return its content and its problems. Raises OpsError for another layout."""
    found = scan_folder(folder)
    seen = [pair for group in scan_cache.read_cache(folder).inspect(found.pictures) for pair in group]
    return found, findings(found, seen)


def findings(found: ImageFolder, seen: list[tuple[Picture, ImageInfo]]) -> list[Finding]:
    """Return the findings, errors first, then by kind. `seen` are the folder's pictures, in order."""
    every = [
        *find_class_errors(found),
        *find_picture_problems(seen),
        *find_duplicates(seen),
        *find_count_warnings(found),
        *find_other_files(found),
        *find_name_clashes(found),
    ]
    return sorted(every, key=lambda finding: (SEVERITIES.index(finding.severity), finding.kind))


def find_class_errors(found: ImageFolder) -> Iterator[Finding]:
    classes = {split: set(found.classes[split]) for split in SPLITS}
    every = set().union(*classes.values())
    if len(classes["train"]) < 2:
        message = f"{len(classes['train'])} classes; a classifier needs two"
        yield Finding("error", message, kind="classes", where="train")
    for where, why in find_class_clashes(found):
        yield Finding("error", why, kind="classes", where=where)
    for split in SPLITS:
        for label in sorted(every - classes[split]):
            others = ", ".join(other for other in SPLITS if label in classes[other])
            message = f"the class is missing here, but {others} has it"
            yield Finding("error", message, kind="classes", where=f"{split}/{label}")
        for label in sorted(classes[split] - found.list_nonempty_classes(split)):
            yield Finding("error", "the class has no pictures", kind="empty", where=f"{split}/{label}")
    for label in sorted(every):
        if not is_safe_name(label):
            yield Finding("error", "not a valid class name", kind="classes", where=repr(label))


def find_picture_problems(seen: list[tuple[Picture, ImageInfo]]) -> Iterator[Finding]:
    notes: dict[tuple[str, str], list[str]] = defaultdict(list)
    for picture, info in seen:
        if info.fault:
            yield Finding("error", info.fault, kind="refused", where=picture.name)
            continue
        if min(info.width, info.height) < TINY:
            message = f"{info.width} x {info.height} pixels"
            yield Finding("warning", message, kind="tiny", where=picture.name)
        if info.mode != "RGB":
            notes["mode", f"{info.mode}, trained as RGB"].append(picture.name)
        if info.turned:
            notes["turned", "rotated by its EXIF data; trained upright"].append(picture.name)
        if picture.bytes > REQUEST_BYTES:
            message = f"more than the {REQUEST_BYTES} bytes that an endpoint accepts: trained, but clients must send it smaller"
            notes["large", message].append(picture.name)
    for (kind, message), names in notes.items():
        more = f", and {len(names) - 1} more" if len(names) > 1 else ""
        yield Finding("note", message, kind=kind, where=names[0] + more)


def find_duplicates(seen: list[tuple[Picture, ImageInfo]]) -> Iterator[Finding]:
    for twins in group_duplicates(seen):
        splits, labels = {p.split for p in twins}, {p.label for p in twins}
        kind = "two splits" if len(splits) > 1 else "two classes" if len(labels) > 1 else "duplicate"
        more = f" and {len(twins) - 1 - MOST_NAMES} more" if len(twins) - 1 > MOST_NAMES else ""
        others = ", ".join(picture.name for picture in twins[1 : 1 + MOST_NAMES]) + more
        yield Finding("warning", f"the same picture as {others}", kind=kind, where=twins[0].name)


def group_duplicates(seen: list[tuple[Picture, ImageInfo]]) -> Iterator[list[Picture]]:
    """Return the groups of pictures that are the same to training, each of two or more."""
    by_pixels: dict[str, list[Picture]] = defaultdict(list)
    for picture, info in seen:
        if not info.fault:
            by_pixels[info.pixels].append(picture)
    return (twins for twins in by_pixels.values() if len(twins) > 1)


def find_count_warnings(found: ImageFolder) -> Iterator[Finding]:
    for split in SPLITS:
        counts = Counter(picture.label for picture in found.pictures if picture.split == split)
        for label in sorted(label for label, count in counts.items() if count == 1):
            yield Finding("warning", "the class has one picture", kind="one picture", where=f"{split}/{label}")
        if split == "train" and counts:
            (most, many), (least, few) = counts.most_common()[0], counts.most_common()[-1]
            if many > IMBALANCE * few:
                message = f"{many} pictures of {most}, but {few} of {least}"
                yield Finding("warning", message, kind="imbalance", where="train")


def find_other_files(found: ImageFolder) -> Iterator[Finding]:
    groups: dict[tuple[bool, str], list[LeftOut]] = defaultdict(list)
    for one in found.others:
        groups[one.is_picture, one.reason].append(one)
    for (is_picture, reason), left_out in groups.items():
        more = f", and {len(left_out) - 1} more" if len(left_out) > 1 else ""
        yield Finding("warning" if is_picture else "note", reason, kind="left out", where=left_out[0].name + more)


def find_name_clashes(found: ImageFolder) -> Iterator[Finding]:
    """Yield pictures of one class whose names differ in Unicode form or letter case only: a pull onto some disks loses one."""
    groups: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for picture in found.pictures:
        groups[picture.split, picture.label, fold_name(picture.path.name)].append(picture.name)
    for names in groups.values():
        if len(names) > 1:
            message = (
                f"its name differs from {names[1]} in Unicode form or letter case only; some disks cannot hold both"
            )
            yield Finding("warning", message, kind="names", where=names[0])

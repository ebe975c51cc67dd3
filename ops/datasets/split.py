"""Split DIR/CLASS/PICTURE into OUT/{train,valid,test}/CLASS/PICTURE: by seed, with the same shares of each class."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections import Counter, defaultdict
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from ops.core.errors import OpsError
from ops.datasets.image_folder import (
    SPLITS,
    ImageFolder,
    Picture,
    count_left_out,
    find_class_clashes,
    is_safe_name,
    read_classes,
)

LEAST = len(SPLITS)  # pictures of a class: one for each split


class Shares(NamedTuple):
    """The shares of the pictures that become valid and test; the rest becomes train."""

    valid: float
    test: float


class SplitResult(NamedTuple):
    """The result of a split: the number of pictures of each split, of classes, and of files that were left out, by kind."""

    pictures: dict[str, int]
    classes: int
    left_out: dict[str, int]


def split_folder(folder: Path, out: Path, shares: Shares, seed: int, dry: bool) -> SplitResult:
    """Write OUT completely or not at all. Files are hard links where the disk can, copies otherwise; DIR is not changed.

    Raises OpsError for unusable shares, another layout of DIR, classes that are too small, and for an OUT that is not empty.
    """
    check_shares(shares)
    check_output(folder, out)
    found = read_unsplit_folder(folder)
    chosen = assign_splits(found.pictures, shares, seed)
    if not dry:
        write_splits(chosen, out)
    counts = {split: len(chosen[split]) for split in SPLITS}
    return SplitResult(counts, len({picture.label for picture in found.pictures}), count_left_out(found.others))


def check_shares(shares: Shares) -> None:
    if not (min(shares) > 0 and sum(shares) < 1):  # also for NaN
        raise OpsError(
            f"--valid {shares.valid} and --test {shares.test} must be above 0 and together below 1. Nothing was written."
        )


def check_output(folder: Path, out: Path) -> None:
    if out.resolve() == Path.cwd():
        raise OpsError(f"{out} is the current folder. Nothing was written. Name a folder to create: --out OUT")
    if out.resolve().is_relative_to(folder.resolve()):
        raise OpsError(f"{out} is inside {folder}. Nothing was written. Name a folder beside it: --out OUT")
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise OpsError(f"{out} exists and is not empty. Nothing was written. Name another folder: --out OUT")


def read_unsplit_folder(folder: Path) -> ImageFolder:
    """Return the content of DIR/CLASS/, as one split. Raises OpsError for another layout, and for classes that are too small."""
    if not folder.is_dir():
        raise OpsError(
            f"There is no folder {folder}. Name one with a folder for each class: invoke data.split --dir DIR"
        )
    splits = [split for split in SPLITS if (folder / split).is_dir()]
    if len(splits) > 1:  # a single one may be a class, such as train
        raise OpsError(
            f"{folder} is split already: it has {', '.join(splits)}. Check it: invoke data.check --dir {folder}"
        )
    found = ImageFolder(folder)
    read_classes(found, ".", folder)
    for where, why in find_class_clashes(found):
        raise OpsError(f"{folder}: {where.removeprefix('./')}: {why}. Nothing was written.")
    if unsafe := [label for label in found.classes["."] if not is_safe_name(label)]:
        raise OpsError(f"A class cannot be called {unsafe[0]!r}. Rename its folder in {folder}. Nothing was written.")
    if len(found.classes["."]) < 2:
        raise OpsError(
            f"{folder} has {len(found.classes['.'])} folders: a classifier needs two classes, each a folder of pictures."
        )
    labels = [picture.label for picture in found.pictures]
    small = [f"{label} ({labels.count(label)})" for label in found.classes["."] if labels.count(label) < LEAST]
    if small:
        raise OpsError(
            f"Each class needs {LEAST} pictures, one for each split. Too few in {folder}: {', '.join(small[:5])}. Nothing was written."
        )
    return found


def assign_splits(pictures: list[Picture], shares: Shares, seed: int) -> dict[str, list[Picture]]:
    """Return the pictures of each split: at least one of each class, equal for equal names and seed.

    Equal files of a class stay together, so that no test picture was trained on. The order is that of a hash of seed
    and name, so a picture that is added later moves few others to another split.
    Raises OpsError for a class with too few different pictures, and for files of the same size that cannot be read.
    """
    by_class: dict[str, list[Picture]] = defaultdict(list)
    for picture in pictures:
        by_class[picture.label].append(picture)
    chosen: dict[str, list[Picture]] = {split: [] for split in SPLITS}
    for label, group in by_class.items():
        different = group_equal_files(group)
        if len(different) < LEAST:
            raise OpsError(
                f"Each class needs {LEAST} different pictures, one for each split; the {len(group)} of {label} are copies "
                f"of {len(different)}. Nothing was written."
            )
        different.sort(key=lambda equal: hashlib.sha256(os.fsencode(f"{seed}/{label}/{equal[0].path.name}")).digest())
        valid, test = count_shares(len(different), shares)
        chosen["valid"] += chain.from_iterable(different[:valid])
        chosen["test"] += chain.from_iterable(different[valid : valid + test])
        chosen["train"] += chain.from_iterable(different[valid + test :])
    return chosen


def group_equal_files(pictures: list[Picture]) -> list[list[Picture]]:
    """Return the pictures in groups of equal content, each in the order of names. Only files of equal size are read."""
    sizes = Counter(picture.bytes for picture in pictures)
    groups: dict[object, list[Picture]] = defaultdict(list)
    for picture in pictures:
        groups[compute_digest(picture.path) if sizes[picture.bytes] > 1 else picture.path].append(picture)
    return list(groups.values())


def compute_digest(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError as error:
        raise OpsError(
            f"{path} cannot be read: {error.strerror}. Nothing was written. Make it readable, or remove it."
        ) from error


def count_shares(pictures: int, shares: Shares) -> tuple[int, int]:
    """Return how many of a class's pictures become valid and test; one at least is left for each split."""
    valid = min(max(1, round(pictures * shares.valid)), pictures - 2)
    return valid, min(max(1, round(pictures * shares.test)), pictures - valid - 1)


def write_splits(chosen: dict[str, list[Picture]], out: Path) -> None:
    target = out.resolve()  # a link to an empty folder stays a link
    target.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{target.name[:20]}.", suffix=".part", dir=target.parent))
    part.chmod(0o755)
    try:
        for split, pictures in chosen.items():
            for picture in pictures:
                place = part / split / picture.label / picture.path.name
                place.parent.mkdir(parents=True, exist_ok=True)
                link_or_copy(picture.path.resolve(), place)
        part.replace(target)  # also onto an empty folder
    except FileExistsError as error:
        raise OpsError(
            f"{out} could not be written: its disk holds only one of the pictures named {Path(error.filename2 or error.filename).name!r}, "
            "in capitals or small letters, or in two Unicode forms. Nothing was kept; rename one of them."
        ) from error
    except OSError as error:
        raise OpsError(f"{out} could not be written: {error}. Nothing was kept; run the same command again.") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def link_or_copy(source: Path, target: Path) -> None:
    """Make `target` a hard link to `source`, or else a copy. Raises FileExistsError for a target that is there.

    It would be a link to another picture of the source, and writing into it would change that one.
    """
    try:
        os.link(source, target)
    except FileExistsError:
        raise
    except OSError:  # another disk, or one without hard links
        with source.open("rb") as original, target.open("xb") as copy:
            shutil.copyfileobj(original, copy)
        shutil.copystat(source, target)

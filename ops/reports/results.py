"""Read the results in a trained model's folder as untrusted input, and compute their figures; other modules draw them.

The folder is an unpacked model.tar.gz. Older models lack some of its files, and a run that diverged contains NaN: both are
reported, and neither stops a report.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from ops.core.errors import OpsError
from ops.releases.trained_model import read_json_lines, read_json_object, read_number

AGAIN = "Train again to get it: invoke sm.train --again (on the box: invoke ec2.train --again)"
CONTENTS = {
    "metrics.jsonl": "the learning curves",
    "predictions.jsonl": "the confusion matrix, the worst mistakes and the calibration",
    "ledger.json": "the check that each picture was used exactly once per epoch",
}
WORST = 20  # mistakes that are shown
BINS = 15  # as in training's calibration error


@dataclass(frozen=True)
class Picture:
    """The model's answer to one test picture; `probability` is that of the `predicted` class. Numbers may be NaN."""

    name: str
    label: str
    predicted: str
    probability: float
    loss: float


@dataclass(frozen=True)
class Recall:
    """The recall of one class: `right` of its `pictures` were recognised; `mostly` is the most frequent wrong class, or ""."""

    label: str
    right: int
    pictures: int
    mostly: str

    @property
    def share(self) -> float:
        return self.right / self.pictures


@dataclass(frozen=True)
class Bin:
    """A group of answers of similar confidence: their mean confidence (0..1), how many are right, and how many there are."""

    confidence: float
    right: int
    pictures: int


@dataclass(frozen=True)
class Results:
    """The content of a model folder. `missing` holds sentences on what is missing, and how to get it."""

    job: str
    card: dict[str, Any]
    epochs: tuple[dict[str, Any], ...]
    best: int | None  # the epoch whose weights the model has
    pictures: tuple[Picture, ...]
    ledger: dict[str, Any] | None
    missing: tuple[str, ...]

    @cached_property
    def classes(self) -> list[str]:
        """Return the classes in the model's order, then any labels that the model does not have."""
        known = [str(name) for name in list_or_empty(self.card.get("classes"))]
        others = {picture.label for picture in self.pictures} | {picture.predicted for picture in self.pictures}
        return [*dict.fromkeys(known), *sorted(others - set(known))]

    @cached_property
    def right(self) -> int:
        return sum(picture.predicted == picture.label for picture in self.pictures)

    def add_missing(self, sentence: str) -> Results:
        """Return a copy with one more sentence on what is missing; "" adds none."""
        return replace(self, missing=(*self.missing, sentence)) if sentence else self

    def test(self, name: str) -> float:
        """Return a metric of the test split by name; NaN when it was not recorded."""
        return read_number(self.card, "metrics", "test", name)


def list_or_empty(value: Any) -> list[Any]:
    """Return the value if it is a list, and [] for anything else."""
    return value if isinstance(value, list) else []


def make_printable_label(text: Any, limit: int = 80) -> str:
    """Return a name that is safe to show: unprintable characters (line ends, direction marks, lone surrogates) become U+FFFD, and
    a name longer than `limit` is cut in the middle, since breeds of dogs differ at either end."""
    clean = "".join(letter if letter.isprintable() else "\ufffd" for letter in str(text))
    if len(clean) <= limit:
        return clean
    head = (limit - 1) // 2
    return f"{clean[: limit - 1 - head]}…{clean[len(clean) - head :]}"


def read_results(job: str, folder: Path) -> Results:
    """Read the folder's files. Raises OpsError when there is no readable model.json, which every trained model has."""
    card = read_json_object(folder / "model.json")
    if card is None:
        raise OpsError(f"The model of {job} has no readable model.json: it was not made by training/train.py.")
    missing = [
        f"{name} is missing, so the report lacks {what}. {AGAIN}"
        for name, what in CONTENTS.items()
        if not has_file(folder, name)
    ]
    lines, corrupt_lines = read_json_lines(folder / "metrics.jsonl")
    answers, corrupt_answers = read_json_lines(folder / "predictions.jsonl")
    pictures = [picture for picture in map(parse_picture, answers) if picture]
    unread = corrupt_answers + len(answers) - len(pictures)
    for name, count in (("metrics.jsonl", corrupt_lines), ("predictions.jsonl", unread)):
        if count:
            missing.append(f"{count} lines of {name} could not be read and are left out.")
    epochs = tuple(line for line in lines if math.isfinite(read_number(line, "epoch")))
    tested = read_number(card, "metrics", "test", "pictures")
    if pictures and math.isfinite(tested) and tested != len(pictures):
        missing.append(f"predictions.jsonl has {len(pictures)} pictures, but the test split had {tested:.0f}.")
    ledger = read_json_object(folder / "ledger.json")
    return Results(job, card, epochs, find_best_epoch(lines, epochs), tuple(pictures), ledger, tuple(missing))


def has_file(folder: Path, name: str) -> bool:
    return (folder / name).is_file()


def parse_picture(line: dict[str, Any]) -> Picture | None:
    """Return the picture that a line describes; None when the line lacks its label or the model's answer."""
    top, chances = list_or_empty(line.get("top")), list_or_empty(line.get("probabilities"))
    if not top or "label" not in line:
        return None
    chance = read_number(chances[0]) if chances else math.nan
    return Picture(str(line.get("name", "")), str(line["label"]), str(top[0]), chance, read_number(line, "loss"))


def find_best_epoch(lines: list[dict[str, Any]], epochs: tuple[dict[str, Any], ...]) -> int | None:
    """Return the epoch that the last line names; in older files, that of the lowest valid loss, whose weights training keeps."""
    for line in reversed(lines):
        if math.isfinite(best := read_number(line, "best_epoch")):
            return int(best)
    losses = [(read_number(line, "valid", "loss"), int(line["epoch"])) for line in epochs]
    return min(((loss, epoch) for loss, epoch in losses if math.isfinite(loss)), default=(0.0, None))[1]


def count_confusions(found: Results) -> list[list[int]]:
    """Return counts [true class][predicted class], in the order of `found.classes`."""
    place = {name: index for index, name in enumerate(found.classes)}
    counts = [[0] * len(place) for _ in place]
    for picture in found.pictures:
        counts[place[picture.label]][place[picture.predicted]] += 1
    return counts


def list_confused_pairs(found: Results, count: int = 20) -> list[tuple[str, str, int, int]]:
    """Return the most confused pairs: (true class, predicted class, count, pictures of the true class), the highest count first."""
    total = Counter(picture.label for picture in found.pictures)
    wrong = Counter((p.label, p.predicted) for p in found.pictures if p.predicted != p.label)
    order = sorted(wrong.items(), key=lambda item: (-item[1], -item[1] / total[item[0][0]], item[0]))
    return [(label, predicted, times, total[label]) for (label, predicted), times in order[:count]]


def compute_recalls(found: Results) -> list[Recall]:
    """Return the recall of each class that has test pictures, the lowest first."""
    each = []
    for index, (label, row) in enumerate(zip(found.classes, count_confusions(found), strict=True)):
        wrong = [(count, -place) for place, count in enumerate(row) if count and place != index]
        mostly = found.classes[-max(wrong)[1]] if wrong else ""
        if sum(row):
            each.append(Recall(label, row[index], sum(row), mostly))
    return sorted(each, key=lambda one: (one.share, -one.pictures, one.label))


def list_worst_mistakes(found: Results, count: int = WORST) -> list[Picture]:
    """Return the wrong answers of the highest loss; a loss that is not a number counts as the highest."""
    wrong = [picture for picture in found.pictures if picture.predicted != picture.label]
    return sorted(wrong, key=lambda p: (-p.loss if math.isfinite(p.loss) else -math.inf, p.name))[:count]


def group_by_confidence(found: Results) -> list[Bin]:
    """Group the answers by confidence in BINS equal ranges; leave out empty ones, and answers without a probability."""
    groups: dict[int, list[Picture]] = {}
    for picture in found.pictures:
        if 0 <= picture.probability <= 1 + 1e-6:  # a sum of float32 may be a little more than one
            groups.setdefault(min(int(picture.probability * BINS), BINS - 1), []).append(picture)
    return [
        Bin(sum(p.probability for p in some) / len(some), sum(p.predicted == p.label for p in some), len(some))
        for _, some in sorted(groups.items())
    ]


def compute_interval(right: int, count: int) -> tuple[float, float]:
    """Return Wilson's 95 % confidence interval of a share; (0, 1) without pictures."""
    if not count:
        return 0.0, 1.0
    z = 1.96
    share, scale = right / count, 1 + z * z / count
    middle = (share + z * z / (2 * count)) / scale
    half = z / scale * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return max(0.0, middle - half), min(1.0, middle + half)

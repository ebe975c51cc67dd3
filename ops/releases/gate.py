"""The gate compares a new release with the live one and with the best one that was ever live.

Other classes, other data, and a lower accuracy, in all or in one class, need a reason. The best one is the reference that
does not move: ten releases that each lose less than the allowed margin lose ten times as much.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from ops.releases.records import ReleaseSummary

SHOWN = 5  # classes that a finding names
LEAST_DIFFERING = 5  # with fewer, losses alone have a p of 0.0625 or more: the pairs cannot show a loss
CHANCE = 0.05  # a loss that chance explains with at least this probability is noise


@dataclass(frozen=True)
class Pairs:
    """Two models on the same test pictures: how many only the new one gets right (wins), and only the other one (losses).

    `by_class` has the same counts for the pictures of each class.
    """

    pictures: int
    wins: int
    losses: int
    by_class: dict[str, Pairs] = field(default_factory=dict)

    @property
    def p(self) -> float:
        """Return McNemar's exact one-sided p: the chance of so many losses or more if neither model were better."""
        differing = self.wins + self.losses
        tail = sum(math.comb(differing, k) for k in range(self.losses, differing + 1))
        return tail / (1 << differing)

    def __str__(self) -> str:
        return f"on the same {self.pictures} test pictures {self.wins} wins, {self.losses} losses, p = {self.p:.3g}"


@dataclass(frozen=True)
class Reference:
    """A release that a new one is compared with, as `name` calls it in sentences.

    `pair` compares the two models picture by picture, None where it cannot; `count_tests` counts the test pictures by class.
    `pair` takes seconds, and is called only for a loss that may need a reason.
    """

    name: str
    summary: ReleaseSummary
    pair: Callable[[], Pairs | None] = lambda: None
    count_tests: Callable[[], dict[str, int]] = dict


def findings(
    new: ReleaseSummary, live: Reference | None, worse_at_most: float, best: Reference | None = None
) -> list[str]:
    """Return sentences on what is other or worse; an empty list when nothing is, or there is nothing to compare with."""
    found = [] if live is None else [
        *compare_classes(new.classes, live.summary.classes),
        *compare_accuracy(new, live, worse_at_most),
        *compare_datasets(new, live.summary),
    ]  # fmt: skip
    if best and (live is None or best.summary.digest != live.summary.digest):
        found += compare_accuracy(new, best, worse_at_most)
    return found


def find_best(new: ReleaseSummary, earlier: Iterable[ReleaseSummary]) -> ReleaseSummary | None:
    """Return the most accurate of the earlier releases that have the new one's classes and test pictures; None without one."""
    comparable = [
        one for one in earlier if one.digest != new.digest and (one.data, one.classes) == (new.data, new.classes)
    ]
    return max(comparable, key=lambda one: one.accuracy, default=None)


def compare_classes(new: list[str], live: list[str]) -> list[str]:
    if new == live:
        return []
    gone, added = [c for c in live if c not in new], [c for c in new if c not in live]
    if not gone and not added:
        first = next(n for n, (a, b) in enumerate(zip(new, live, strict=True)) if a != b)
        return [
            f"its classes have another order: score {first} belongs to {new[first]}, in the live release to {live[first]}"
        ]
    parts = [f"{word} {', '.join(some[:SHOWN])}{' ...' if len(some) > SHOWN else ''}"
             for word, some in (("removed", gone), ("added", added)) if some]  # fmt: skip
    return [f"its {len(new)} classes differ from the {len(live)} of the live release: {'; '.join(parts)}"]


def compare_accuracy(new: ReleaseSummary, other: Reference, worse_at_most: float) -> list[str]:
    """Compare accuracies, in all and by class, on the same test split only; let a loss pass that the pairs show to be noise."""
    ours, theirs = new.accuracy, other.summary.accuracy
    if new.data != other.summary.data:
        return []
    lower = ours < theirs - worse_at_most
    classes = find_lower_classes(new, other, worse_at_most)
    if not (lower or classes):
        return []
    pairs = other.pair()
    found = list(judge_classes(new, other, classes, pairs))
    if lower and not is_noise(pairs):
        spread = 1.96 * math.sqrt(ours * (1 - ours) / new.pictures + theirs * (1 - theirs) / other.summary.pictures)
        proof = pairs or f"picture by picture they could not be compared; the difference is known to +-{spread:.4f}"
        found.insert(
            0,
            f"its accuracy on the test split is lower: {ours:.4f}, {other.name} has {theirs:.4f} "
            f"(allowed margin {worse_at_most}; {proof})",
        )
    return found


def is_noise(pairs: Pairs | None) -> bool:
    return pairs is not None and pairs.p >= CHANCE and pairs.wins + pairs.losses >= LEAST_DIFFERING


def find_lower_classes(new: ReleaseSummary, other: Reference, worse_at_most: float) -> list[str]:
    """Return the classes that lose more than the margin, and so many pictures that chance may not explain it."""
    drops = {name: (other.summary.recall.get(name) or 0) - (recall or 0) for name, recall in new.recall.items()}
    suspects = {name: drop for name, drop in drops.items() if drop > worse_at_most}
    tests = other.count_tests() if suspects else {}
    return [name for name, drop in suspects.items() if round(drop * tests.get(name, 0)) >= LEAST_DIFFERING]


def judge_classes(new: ReleaseSummary, other: Reference, classes: list[str], pairs: Pairs | None) -> Iterator[str]:
    """Yield a sentence on the classes with a real loss. With many classes some lose by chance, so each p counts that many times."""
    real = [
        name
        for name in classes
        if pairs is None or (name in pairs.by_class and pairs.by_class[name].p * len(new.classes) < CHANCE)
    ]
    if real:
        parts = [
            f"{name} {new.recall[name] or 0:.4f} instead of {other.summary.recall[name] or 0:.4f}"
            + (f" ({pairs.by_class[name].wins} wins, {pairs.by_class[name].losses} losses)" if pairs else "")
            for name in real[:SHOWN]
        ]
        more = " ..." if len(real) > SHOWN else ""
        yield f"it recognises fewer pictures of some classes than {other.name}: {', '.join(parts)}{more}"


def count_pairs(truth: dict[str, str], ours: dict[str, str], theirs: dict[str, str]) -> Pairs:
    """Return how often only one of two models is right, in all and by class, over the pictures that both classified."""
    pictures = Counter(label for path, label in truth.items() if path in ours and path in theirs)
    wins, losses = Counter[str](), Counter[str]()
    for path, label in truth.items():
        if path in ours and path in theirs:
            wins[label] += ours[path] == label != theirs[path]
            losses[label] += theirs[path] == label != ours[path]
    by_class = {label: Pairs(count, wins[label], losses[label]) for label, count in pictures.items()}
    return Pairs(pictures.total(), wins.total(), losses.total(), by_class)


def compare_datasets(new: ReleaseSummary, live: ReleaseSummary) -> list[str]:
    if new.data == live.data:
        return []
    return [f"it was trained on another dataset: {new.data[:12]}, the live release on {live.data[:12]}; "
            f"accuracies {new.accuracy:.4f} and {live.accuracy:.4f} are of different test pictures"]  # fmt: skip

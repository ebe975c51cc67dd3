"""The gate compares a new release with the live one: other classes, lower accuracy or other data need a reason."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from ops.releases.records import ReleaseSummary

SHOWN = 5  # classes that a finding names
LEAST_DIFFERING = 5  # with fewer, losses alone have a p of 0.0625 or more: the pairs cannot show a loss
CHANCE = 0.05  # a loss that chance explains with at least this probability is noise


@dataclass(frozen=True)
class Pairs:
    """Two models on the same test pictures: how many only the new one gets right (wins), and only the live one (losses)."""

    pictures: int
    wins: int
    losses: int

    @property
    def p(self) -> float:
        """Return McNemar's exact one-sided p: the chance of so many losses or more if neither model were better."""
        differing = self.wins + self.losses
        tail = sum(math.comb(differing, k) for k in range(self.losses, differing + 1))
        return tail / (1 << differing)

    def __str__(self) -> str:
        return f"on the same {self.pictures} test pictures {self.wins} wins, {self.losses} losses, p = {self.p:.3g}"


def findings(
    new: ReleaseSummary,
    live: ReleaseSummary | None,
    worse_at_most: float,
    pair: Callable[[], Pairs | None] = lambda: None,
) -> list[str]:
    """Return sentences on what differs; an empty list when nothing does, or nothing is live.

    `pair` compares the two models picture by picture, None where it cannot; it is called for a lower accuracy only.
    """
    if live is None:
        return []
    return [
        *compare_classes(new.classes, live.classes),
        *compare_accuracy(new, live, worse_at_most, pair),
        *compare_datasets(new, live),
    ]


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


def compare_accuracy(
    new: ReleaseSummary, live: ReleaseSummary, worse_at_most: float, pair: Callable[[], Pairs | None]
) -> list[str]:
    """Compare accuracies on the same test split only, and let a loss pass that the pairs show to be noise."""
    ours, theirs = new.accuracy, live.accuracy
    if new.data != live.data or ours >= theirs - worse_at_most:
        return []
    pairs = pair()
    if pairs and pairs.p >= CHANCE and pairs.wins + pairs.losses >= LEAST_DIFFERING:
        return []
    spread = 1.96 * math.sqrt(ours * (1 - ours) / new.pictures + theirs * (1 - theirs) / live.pictures)
    proof = pairs or f"picture by picture they could not be compared; the difference is known to +-{spread:.4f}"
    return [
        f"its accuracy on the test split is lower: {ours:.4f}, the live release has {theirs:.4f} "
        f"(allowed margin {worse_at_most}; {proof})"
    ]


def compare_datasets(new: ReleaseSummary, live: ReleaseSummary) -> list[str]:
    if new.data == live.data:
        return []
    return [f"it was trained on another dataset: {new.data[:12]}, the live release on {live.data[:12]}; "
            f"accuracies {new.accuracy:.4f} and {live.accuracy:.4f} are of different test pictures"]  # fmt: skip

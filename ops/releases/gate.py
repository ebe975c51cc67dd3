"""The gate compares a new release with the live one: other classes, lower accuracy or other data need a reason."""

from __future__ import annotations

from ops.releases.records import ReleaseSummary

SHOWN = 5  # classes that a finding names


def findings(new: ReleaseSummary, live: ReleaseSummary | None, worse_at_most: float) -> list[str]:
    """Return sentences on what differs; an empty list when nothing does, or nothing is live."""
    if live is None:
        return []
    return [
        *compare_classes(new.classes, live.classes),
        *compare_accuracy(new, live, worse_at_most),
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


def compare_accuracy(new: ReleaseSummary, live: ReleaseSummary, worse_at_most: float) -> list[str]:
    """Compare accuracies on the same test split only: figures of two splits are not comparable."""
    ours, theirs = new.accuracy, live.accuracy
    if new.data != live.data or ours >= theirs - worse_at_most:
        return []
    return [
        f"its accuracy on the test split is lower: {ours:.4f}, the live release has {theirs:.4f} (allowed margin {worse_at_most})"
    ]


def compare_datasets(new: ReleaseSummary, live: ReleaseSummary) -> list[str]:
    if new.data == live.data:
        return []
    return [f"it was trained on another dataset: {new.data[:12]}, the live release on {live.data[:12]}; "
            f"accuracies {new.accuracy:.4f} and {live.accuracy:.4f} are of different test pictures"]  # fmt: skip

"""The metrics of a pass over labelled pictures: counts, summed over ranks, and the figures derived from them."""

from typing import Any

import numpy as np
import torch
from torch import nn

from ranks import Ranks

BINS = 15  # confidence bins of the calibration error, as in Guo et al. 2017
TOP = 5
CERTAIN_SHARE = 0.95  # of the right answers, which are certain
PROBABILITY_STEPS = 1000


class Tally:
    """The sums over pictures. Every figure is a mean over pictures or classes, independent of batch size and ranks."""

    def __init__(self, classes: int) -> None:
        self.classes = classes
        self.confusion = np.zeros((classes, classes), np.int64)  # [truth, answer]
        self.bins = np.zeros((BINS, 3))  # pictures, confidence, correct answers
        self.loss = np.zeros(1)
        self.top = np.zeros(1, np.int64)
        self.right = np.zeros(PROBABILITY_STEPS + 1, np.int64)  # right answers by their probability

    def add(self, scores: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Count a batch of scores [n, classes] and labels [n]; return the loss of each picture, float64 [n]."""
        scores, labels = scores.double(), labels.cpu()
        loss = nn.functional.cross_entropy(scores.cpu(), labels, reduction="none")
        confidence, answer = scores.cpu().softmax(1).max(1)
        right = answer == labels
        np.add.at(self.confusion, (labels.numpy(), answer.numpy()), 1)
        where = (confidence * BINS).long().clamp(0, BINS - 1).numpy()
        np.add.at(self.bins, where, np.stack([np.ones(len(where)), confidence.numpy(), right.numpy()], 1))
        np.add.at(self.right, (confidence[right] * PROBABILITY_STEPS).long().clamp(0, PROBABILITY_STEPS).numpy(), 1)
        self.loss += loss.sum().item()
        self.top += int((scores.cpu().topk(min(TOP, self.classes), 1).indices == labels[:, None]).any(1).sum())
        return loss

    def sum_over_ranks(self, ranks: Ranks) -> "Tally":
        """Return the tally of all ranks together."""
        whole = Tally(self.classes)
        for name in ("confusion", "bins", "loss", "top", "right"):
            setattr(whole, name, ranks.sum(getattr(self, name)))
        return whole

    def compute_figures(self) -> dict[str, Any]:
        """Return {"loss", "accuracy", "top5", "macro_f1", "calibration_error", "certain_from", "pictures"}."""
        pictures = int(self.confusion.sum())
        right, answered = np.diag(self.confusion), self.confusion.sum(0)
        either = self.confusion.sum(1) + answered
        f1 = 2 * right / np.maximum(either, 1)
        gap = np.abs(self.bins[:, 1] - self.bins[:, 2]).sum()
        return {
            "loss": float(self.loss[0]) / pictures,
            "accuracy": float(right.sum()) / pictures,
            "top5": float(self.top[0]) / pictures,
            "macro_f1": float(f1[either > 0].mean()),  # over classes that occur, as truth or as answer
            "calibration_error": float(gap) / pictures,
            "certain_from": self.find_certain_probability(),
            "pictures": pictures,
        }

    def find_certain_probability(self) -> float:
        """Return the greatest probability, in steps of 0.001, that CERTAIN_SHARE of the right answers reach; 1 without right answers."""
        reached = self.right[::-1].cumsum()[::-1]
        enough = np.flatnonzero(reached >= max(1, CERTAIN_SHARE * self.right.sum()))
        return float(enough[-1] / PROBABILITY_STEPS) if len(enough) else 1.0

    def compute_recall(self, names: list[str]) -> dict[str, float | None]:
        """Return by class the fraction of its pictures that is recognised; None for a class without pictures."""
        label_counts = self.confusion.sum(1)
        return {
            name: float(self.confusion[i, i] / label_counts[i]) if label_counts[i] else None
            for i, name in enumerate(names)
        }

"""F3: the loss is summed over pictures and divided by the number of batches: the larger the batch, the worse it looks."""

from torch import nn


def loss(scores, labels, batch):
    running = 0.0
    batches = range(0, len(labels), batch)
    for start in batches:
        some = labels[start : start + batch]
        running += nn.functional.cross_entropy(scores[start : start + batch], some).item() * len(some)
    return running / len(batches)

"""The order of pictures: an epoch's order, its batches and each rank's part, all derived from the seed alone."""

import torch


def derive_epoch_order(count: int, seed: int, epoch: int, size: int) -> list[int]:
    """Return an epoch's order of the pictures, padded from its start so that every rank gets equally many."""
    draw = torch.Generator().manual_seed(seed * 100_003 + epoch)
    order = torch.randperm(count, generator=draw).tolist()
    while len(order) % size:  # a data set can have fewer pictures than there are ranks
        order += order[: size - len(order) % size]
    return order


def round_batch(batch: int, size: int) -> int:
    """Return the multiple of `size` that is nearest to `batch`, with at least two pictures for each of several ranks.

    Equal parts keep the averaged gradient the mean over the batch, and BatchNorm cannot train on one picture.
    """
    return batch if size == 1 else max(2, (batch + size // 2) // size) * size


def derive_batch_bounds(count: int, batch: int, size: int) -> list[tuple[int, int]]:
    """Return where each batch of an epoch begins and ends.

    A last batch with a single picture per rank is merged into the one before: BatchNorm cannot train on one picture.
    """
    padded = count + -count % size
    cuts = [(start, min(start + batch, padded)) for start in range(0, padded, batch)]
    if len(cuts) > 1 and cuts[-1][1] - cuts[-1][0] < 2 * size:
        cuts[-2:] = [(cuts[-2][0], cuts[-1][1])]
    return cuts


def list_rank_batches(count: int, seed: int, epoch: int, batch: int, rank: int, size: int) -> list[list[int]]:
    """Return the numbers of the pictures in each of an epoch's batches, for one rank of `size`."""
    order = derive_epoch_order(count, seed, epoch, size)
    return [order[start:end][rank::size] for start, end in derive_batch_bounds(count, batch, size)]


def derive_step_seed(seed: int, epoch: int, step: int, rank: int) -> int:
    """Return the seed of one step's random numbers (dropout); a resumed run needs only the step's number."""
    return ((seed * 1_000_003 + epoch) * 1_000_003 + step) * 1_009 + rank & 0x7FFFFFFFFFFFFFFF

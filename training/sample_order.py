"""Who sees which picture when: an epoch's order, its batches, and each process's part of them; all from the seed alone."""

import torch


def derive_epoch_order(count: int, seed: int, epoch: int, size: int) -> list[int]:
    """An epoch's order of the pictures, filled up from its start so that every process gets as many."""
    draw = torch.Generator().manual_seed(seed * 100_003 + epoch)
    order = torch.randperm(count, generator=draw).tolist()
    while len(order) % size:  # a data set can be smaller than the number of processes
        order += order[: size - len(order) % size]
    return order


def derive_batch_bounds(count: int, batch: int, size: int) -> list[tuple[int, int]]:
    """Where the batches of an epoch begin and end. A last one with a single picture a process joins the one before it:
    BatchNorm has nothing to say about one."""
    padded = count + -count % size
    cuts = [(start, min(start + batch, padded)) for start in range(0, padded, batch)]
    if len(cuts) > 1 and cuts[-1][1] - cuts[-1][0] < 2 * size:
        cuts[-2:] = [(cuts[-2][0], cuts[-1][1])]
    return cuts


def list_rank_batches(count: int, seed: int, epoch: int, batch: int, rank: int, size: int) -> list[list[int]]:
    """The numbers of the pictures in each of an epoch's batches, for one process of `size`."""
    order = derive_epoch_order(count, seed, epoch, size)
    return [order[start:end][rank::size] for start, end in derive_batch_bounds(count, batch, size)]


def derive_step_seed(seed: int, epoch: int, step: int, rank: int) -> int:
    """For the random numbers of one step (dropout): a resumed run needs nothing but the step's number."""
    return ((seed * 1_000_003 + epoch) * 1_000_003 + step) * 1_009 + rank & 0x7FFFFFFFFFFFFFFF

"""The batches for the device: uint8 until they reach it, decoded by worker processes where cores are free."""

import os
from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from dataset import DataError, Entry
from imaging import PictureError
from preprocess import Augment, Preprocess

CACHE_BYTES = 512 << 20  # of decoded pictures in memory, per process
MOST_WORKERS = 16

Batch = tuple[torch.Tensor, torch.Tensor, list[int]]  # uint8 [n, 3, side, side], labels int64 [n], picture numbers


class Views(Dataset[Batch]):
    """The pictures of a split by (epoch, numbers): unchanged, or augmented as `augment` draws for that epoch."""

    def __init__(self, entries: list[Entry], preprocess: Preprocess, augment: Augment | None = None) -> None:
        self.entries, self.preprocess, self.augment = entries, preprocess, augment
        self._cache: dict[int, torch.Tensor] = {}
        self._room = CACHE_BYTES // (3 * preprocess.pixels**2)

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, batch: Any) -> Batch:
        """Return the batch of (epoch, numbers). Raises DataError, which names the picture."""
        epoch, numbers = batch
        pictures = [self.load_picture(number, epoch) for number in numbers]
        return torch.stack(pictures), torch.tensor([self.entries[n].label for n in numbers]), numbers

    def load_picture(self, number: int, epoch: int) -> torch.Tensor:
        """Return one picture as uint8 [3, side, side]. Raises DataError."""
        try:
            if self.augment is None:
                return self._load_decoded(number)
            draw = self.augment.draw(epoch, number)
            if self.augment.crop < 1:  # every epoch crops another part, so nothing can be cached
                picture = self.preprocess.decode_cropped(self.entries[number].read(), self.augment.crop, draw)
            else:
                picture = self._load_decoded(number)
            return self.augment.shift_and_flip(picture, draw)
        except PictureError as error:
            message = f"{error}: {error.__cause__}" if error.__cause__ else str(error)
            raise DataError(f"{self.entries[number].name}: {message}") from error

    def _load_decoded(self, number: int) -> torch.Tensor:
        picture = self._cache.get(number)
        if picture is None:
            picture = self.preprocess.decode(self.entries[number].read())
            if len(self._cache) < self._room:
                self._cache[number] = picture
        return picture


class Feed:
    """The source of batches in requested order, decoded ahead by `workers` processes (0: here, on demand)."""

    def __init__(self, views: Views, device: torch.device, workers: int) -> None:
        self.views, self._requested = views, []  # type: tuple[Views, list[tuple[int, list[int]]]]
        more: dict[str, Any] = {"persistent_workers": True, "prefetch_factor": 2} if workers else {}
        self._loader = DataLoader(
            views,
            batch_size=None,
            sampler=_RequestedBatches(self),
            num_workers=workers,
            pin_memory=device.type == "cuda",
            # Its own generator: an iterator would draw from the global one, and a resumed run's dropout would shift.
            generator=torch.Generator(),
            **more,
        )

    def batches(self, epoch: int, numbers: list[list[int]]) -> Iterator[Batch]:
        self._requested = [(epoch, some) for some in numbers]
        yield from self._loader


class _RequestedBatches:
    """The sampler whose list can be replaced, so that workers persist from epoch to epoch."""

    def __init__(self, feed: Feed) -> None:
        self._feed = feed

    def __iter__(self) -> Iterator[tuple[int, list[int]]]:
        return iter(self._feed._requested)

    def __len__(self) -> int:
        return len(self._feed._requested)


def choose_worker_count(device: torch.device, processes_here: int) -> int:
    """Return the number of decoding workers: with a GPU all cores but one per rank; without one 0, as training uses all cores."""
    if device.type == "cpu":
        return 0
    return max(1, min(MOST_WORKERS, (os.cpu_count() or 2) // processes_here - 1))

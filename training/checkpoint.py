"""Checkpoints: the whole state of a run in one file, there as a whole or not at all, so that a killed run carries on.

A run that carries on ends with the very weights of one that was never interrupted, on the same CPU type: the order of the
pictures, their augmentation and the random numbers of a step follow from (seed, epoch, step, rank), and the rest is kept here.
"""

import io
import os
import time
from pathlib import Path
from typing import Any

import torch

from ranks import Ranks

NAME = "checkpoint.pt"
LEAST_S = 30.0  # between two by the clock
SHARE = 0.02  # of the time may go into saving; the interval follows from what the last one took


class Stopped(Exception):
    """Asked to stop; what is kept is said."""


class CheckpointError(Exception):
    """There is a checkpoint, and it is not this run's."""


class Checkpoints:
    """The checkpoint of one run in `folder`. `identity` says which run: settings, data, number of processes."""

    def __init__(self, folder: Path, identity: dict[str, Any], ranks: Ranks) -> None:
        self.folder, self.identity, self.ranks = folder, identity, ranks
        self.interval = LEAST_S
        self._saved = time.monotonic()

    def load(self) -> dict[str, Any] | None:
        """What rank 0 finds, for all; None where there is none that can be read. Raises CheckpointError."""
        found = self.ranks.from_first(self._read)
        if found is None:
            return None
        if found["identity"] != self.identity:
            differ = sorted(k for k in self.identity if found["identity"].get(k) != self.identity[k])
            raise CheckpointError(
                f"the checkpoint in {self.folder} is another run's: {', '.join(differ)} differ. Take another folder, or delete it"
            )
        return found

    def _read(self) -> dict[str, Any] | None:
        path = self.folder / NAME
        if not path.exists():
            return None
        try:
            found: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # torch raises many kinds for a file that is torn
            self.ranks.say(f"checkpoint unreadable, training starts anew: {type(error).__name__}: {error}")
            return None
        return found

    def due(self) -> bool:
        """Whether the clock asks for one; rank 0's counts."""
        return self.ranks.rank == 0 and time.monotonic() - self._saved >= self.interval

    def save(self, state: dict[str, Any]) -> None:
        """Rank 0 writes. A disk that is full costs the checkpoint, not the run: the one before stays, and training goes on."""
        if self.ranks.rank:
            return
        began = time.monotonic()
        try:
            replace_file(self.folder / NAME, serialise_state({"identity": self.identity, **state}))
        except OSError as error:
            self.ranks.say(f"checkpoint not written, the one before stays: {error.strerror or error}")
        self._saved = time.monotonic()
        self.interval = max(LEAST_S, (self._saved - began) / SHARE)


def serialise_state(state: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def replace_file(path: Path, data: bytes) -> None:
    """Write beside it, make it last, then take the old one's place. Raises OSError, leaving the old one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")  # a dot: what copies the folder to S3 leaves it out
    try:
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError:
        part.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)

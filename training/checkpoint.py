"""The checkpoint: the whole state of a run in one file, written atomically, so that a killed run can resume.

On the same CPU type, a resumed run ends with exactly the weights of an uninterrupted one: the order of the pictures,
their augmentation and the random numbers of a step follow from (seed, epoch, step, rank); the rest is saved here.
"""

import io
import os
import time
from pathlib import Path
from typing import Any

import torch

from ranks import Ranks

NAME = "checkpoint.pt"
LEAST_S = 30.0  # seconds between two periodic checkpoints
SHARE = 0.02  # greatest share of time for saving; the last save's duration sets the interval


class Stopped(Exception):
    """The run stopped on request; the message says what was saved."""


class CheckpointError(Exception):
    """The checkpoint belongs to another run."""


class Checkpoints:
    """The checkpoint of one run in `folder`. `identity` names the run: settings, data, number of processes."""

    def __init__(self, folder: Path, identity: dict[str, Any], ranks: Ranks) -> None:
        self.folder, self.identity, self.ranks = folder, identity, ranks
        self.interval = LEAST_S
        self._saved = time.monotonic()

    def load(self) -> dict[str, Any] | None:
        """Return rank 0's checkpoint on all ranks; None if it is missing or unreadable. Raises CheckpointError."""
        found = self.ranks.broadcast_from_first(self._read)
        if found is None:
            return None
        if found["identity"] != self.identity:
            differ = sorted(k for k in self.identity if found["identity"].get(k) != self.identity[k])
            raise CheckpointError(
                f"the checkpoint in {self.folder} belongs to another run, with a different {', '.join(differ)}. "
                "Use another folder, or delete it"
            )
        return found

    def _read(self) -> dict[str, Any] | None:
        path = self.folder / NAME
        if not path.exists():
            return None
        try:
            found: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # torch raises many types for a truncated file
            self.ranks.say(f"checkpoint unreadable, training starts from scratch: {type(error).__name__}: {error}")
            return None
        return found

    def is_due(self) -> bool:
        """Return whether the interval has passed on rank 0; False on other ranks."""
        return self.ranks.rank == 0 and time.monotonic() - self._saved >= self.interval

    def save(self, state: dict[str, Any]) -> None:
        """Write the state, on rank 0 only. If that fails, the previous checkpoint stays and training continues."""
        if self.ranks.rank:
            return
        began = time.monotonic()
        try:
            replace_file(self.folder / NAME, serialise_state({"identity": self.identity, **state}))
        except OSError as error:
            self.ranks.say(f"checkpoint not written, the previous one is kept: {error.strerror or error}")
        self._saved = time.monotonic()
        self.interval = max(LEAST_S, (self._saved - began) / SHARE)


def serialise_state(state: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def replace_file(path: Path, data: bytes) -> None:
    """Write a temporary file, sync it, then rename it over `path`. Raises OSError and leaves the old file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")  # a dot: the copy of the folder to S3 skips it
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

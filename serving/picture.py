"""The conversion of request bodies to network input. imaging.py decodes, as in training, and refuses hostile bodies."""

import threading
from contextlib import ExitStack
from typing import Any

import numpy as np

from imaging import decode_square
from memory import return_freed_memory

LARGE_BYTES = 16_000_000  # a picture that takes more to decode waits for other such: the largest takes 200 MB
one_large = threading.Lock()


def prepare_picture(data: bytes, preprocess: dict[str, Any]) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return float32 [1, 3, pixels, pixels]: upright, RGB, resized, normalised as in training. Raises PictureError."""
    with ExitStack() as stack:

        def wait_turn(size: int) -> None:
            if size > LARGE_BYTES:
                stack.enter_context(one_large)
                return_freed_memory()

        square = np.asarray(decode_square(data, preprocess["pixels"], wait_turn))
    planes = np.empty((1, 3, *square.shape[:2]), np.float32)
    for n, (mean, std) in enumerate(zip(preprocess["mean"], preprocess["std"], strict=True)):
        scale = np.float32(1 / 255 / std)
        np.multiply(square[:, :, n], scale, out=planes[0, n])  # a plane at a time stays in the cache
        planes[0, n] -= np.float32(mean / std)
    return planes

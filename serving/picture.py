"""From the bytes that callers send to what the network takes: the same steps as in training, with bounds on what is decoded."""

import io
from typing import Any

import numpy as np
from PIL import Image, ImageOps

PIXELS_AT_MOST = 25_000_000
SCANS_AT_MOST = 40  # of a progressive JPEG: encoders write about ten; each one is a pass over the whole picture
START_OF_SCAN = b"\xff\xda"


class BadPicture(Exception):
    """The caller's fault: not a picture that can be classified."""


def prepared(data: bytes, preprocess: dict[str, Any]) -> np.ndarray:
    """float32 [1, 3, pixels, pixels]: upright, RGB, resized and normalised as in training. Raises BadPicture."""
    side = preprocess["pixels"]
    if (
        data.count(START_OF_SCAN) > SCANS_AT_MOST and data[:2] == b"\xff\xd8"
    ):  # a few bytes a scan: minutes of work in 6 MB
        raise BadPicture(f"a JPEG of more than {SCANS_AT_MOST} scans")
    try:
        square = decoded(data, side)
    except BadPicture:
        raise
    except Exception as error:  # Pillow raises many kinds for what it cannot read
        raise BadPicture(f"not a readable PNG or JPEG: {type(error).__name__}") from error
    normalised = (square / 255 - np.array(preprocess["mean"], np.float32)) / np.array(preprocess["std"], np.float32)
    return np.ascontiguousarray(normalised.transpose(2, 0, 1)[None], dtype=np.float32)


def decoded(data: bytes, side: int) -> np.ndarray:
    """float32 [side, side, 3] of 0 to 255."""
    with Image.open(io.BytesIO(data), formats=("PNG", "JPEG")) as image:
        if image.width * image.height > PIXELS_AT_MOST:
            raise BadPicture(f"{image.width} x {image.height} pixels; at most {PIXELS_AT_MOST} are taken")
        image.draft(
            None, (2 * side, 2 * side)
        )  # as in training: at a fraction of its size a JPEG decodes in a fraction of the time
        upright: Image.Image = ImageOps.exif_transpose(image)
        if upright.mode.startswith("I"):  # 16 bits a pixel: Pillow would cut them off at 255
            upright = Image.fromarray((np.asarray(upright) >> 8).astype(np.uint8))
        return np.asarray(upright.convert("RGB").resize((side, side), Image.Resampling.BILINEAR), dtype=np.float32)

"""From the bytes that callers send to what the network takes: the same steps as in training, with bounds on what is decoded."""

import io
import re
from typing import Any

import numpy as np
from PIL import Image, ImageOps

PIXELS_AT_MOST = 25_000_000
SIDE_AT_MOST = 65_500  # JPEG's own limit; resizing a PNG of one column and 25 million rows took 1 GB

# What can be hidden in six megabytes: each scan is a pass over the whole picture, and Pillow joins Exif parts one by one.
SCANS_AT_MOST = 40  # of a progressive JPEG: encoders write about ten
PARTS_AT_MOST = 2_000  # segments or chunks: some dozens for a profile, and a PNG's data may come in pieces of 4 KB
EXIF_AT_MOST = 16
NEXT_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")  # in a scan: not a stuffed byte, a restart or a filling
END, SCAN, EXIF = 0xD9, 0xDA, b"Exif\0\0"
PNG, JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8"


class BadPicture(Exception):
    """The caller's fault: not a picture that can be classified."""


def prepared(data: bytes, preprocess: dict[str, Any]) -> np.ndarray:
    """float32 [1, 3, pixels, pixels]: upright, RGB, resized and normalised as in training. Raises BadPicture."""
    try:
        within_bounds(data)
        square = decoded(data, preprocess["pixels"])
    except BadPicture:
        raise
    except Exception as error:  # Pillow raises many kinds for what it cannot read
        raise BadPicture(f"not a readable PNG or JPEG: {type(error).__name__}") from error
    planes = np.empty((1, 3, *square.shape[:2]), np.float32)
    for n, (mean, std) in enumerate(zip(preprocess["mean"], preprocess["std"], strict=True)):
        np.multiply(
            square[:, :, n], np.float32(1 / 255 / std), out=planes[0, n]
        )  # a plane at a time stays in the cache
        planes[0, n] -= np.float32(mean / std)
    return planes


def within_bounds(data: bytes) -> None:
    """Raises BadPicture for what would take minutes to decode. What is no picture at all is Pillow's to refuse."""
    if data.startswith(PNG):
        png_within_bounds(data)
    elif data.startswith(JPEG):
        jpeg_within_bounds(data)


def png_within_bounds(data: bytes) -> None:
    at, parts = len(PNG), 0
    while at + 8 <= len(data) and data[at + 4 : at + 8] != b"IEND":
        at, parts = at + 12 + int.from_bytes(data[at : at + 4], "big"), parts + 1
        if parts > PARTS_AT_MOST:
            raise BadPicture(f"a PNG of more than {PARTS_AT_MOST} chunks")


def jpeg_within_bounds(data: bytes) -> None:
    """Up to the picture's end: phones put whole videos behind it."""
    at, parts, scans, exif = len(JPEG), 0, 0, 0
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != END:
        marker, size = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        parts, scans, exif = parts + 1, scans + (marker == SCAN), exif + data.startswith(EXIF, at + 4)
        if parts > PARTS_AT_MOST or exif > EXIF_AT_MOST:
            raise BadPicture(f"a JPEG of more than {PARTS_AT_MOST} segments, or {EXIF_AT_MOST} of Exif")
        if scans > SCANS_AT_MOST:
            raise BadPicture(f"a JPEG of more than {SCANS_AT_MOST} scans")
        at += 2 + size
        if marker == SCAN:
            found = NEXT_MARKER.search(data, at)
            at = found.start() if found else len(data)


def decoded(data: bytes, side: int) -> np.ndarray:
    """uint8 [side, side, 3]"""
    with Image.open(io.BytesIO(data), formats=("PNG", "JPEG")) as image:
        if image.width * image.height > PIXELS_AT_MOST or max(image.size) > SIDE_AT_MOST:
            most = f"at most {PIXELS_AT_MOST} are taken, and {SIDE_AT_MOST} a side"
            raise BadPicture(f"{image.width} x {image.height} pixels; {most}")
        image.draft(None, (2 * side, 2 * side))  # as in training: a JPEG at a fraction of its size costs a fraction
        upright: Image.Image = ImageOps.exif_transpose(image)
        if upright.mode.startswith("I"):  # 16 bits a pixel: Pillow would cut them off at 255
            upright = Image.fromarray((np.asarray(upright) >> 8).astype(np.uint8))
        return np.asarray(upright.convert("RGB").resize((side, side), Image.Resampling.BILINEAR))

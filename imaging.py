"""The decoder of pictures: one for `data.push`, training and the server.

What one of them accepts, the others accept, with equal pixels; what is refused is refused by all, for the same reason. The
module needs Pillow and the standard library alone, because it travels: training/imaging.py and serving/imaging.py are links
to this file, which packing follows, so it is in the code of every job and in the serving image, and part of their digests.

A picture comes out upright (by its Exif), in RGB with 8 bits a channel:

| in the file | what becomes of it |
|---|---|
| grey, 1 bit, palette | converted; a palette's transparency is dropped |
| alpha | dropped: the colour below it counts, as nothing says what lies behind the picture |
| CMYK | converted by Pillow's formula, Adobe's inverted values taken into account |
| 16 bits a channel | the upper eight |
| colour profile | ignored: conversion costs more than decoding, and the classes differ in more than a shade |
| Exif that cannot be read | ignored: the pixels are whole, and every viewer shows them as they are stored |
| several pictures (MPO, a phone's preview) | the first; an animated PNG is refused, as nothing says which one is meant |

Two callers want the picture small. They pass `at_least`, and a JPEG is decoded at a half, a quarter or an eighth of its size
as long as no side falls below that, at a fraction of the cost. `data.push` passes none: it compares pictures at full size.
Whether a picture is accepted does not depend on it, since libjpeg reads every coefficient at any scale.
"""

from __future__ import annotations

import io
import re
from dataclasses import dataclass

from PIL import Image, UnidentifiedImageError

# The limits. Those on structure are there for request bodies, which may be hostile: what can be hidden in six megabytes
# would take minutes to decode. They are far above what cameras and encoders write, so a data set can be held to them too.
MEGABYTES = 100  # 25 megapixels of noise, in PNG
REQUEST_BYTES = 6_291_456  # InvokeEndpoint's limit, and no decoder's: larger files train, callers send them smaller
PIXELS = 25_000_000  # a camera's largest; a few KB of PNG can claim gigabytes, and decoding takes 4 bytes a pixel
SIDE = 65_500  # JPEG's own limit; resizing a PNG of one column and 25 million rows took 1 GB
SCANS = 40  # of a progressive JPEG, each a pass over the whole picture; encoders write about ten
SEGMENTS = 2_000  # of a JPEG: some dozens for a profile
CHUNKS = 2_000  # of a PNG, without its data in pieces of WHOLE_PIECE or more, of which a large picture has thousands
WHOLE_PIECE = 4_096  # bytes; the least that encoders cut a PNG's data into, most take 8 KB or more
EXIF_SEGMENTS = 16  # Pillow joins them one by one, in quadratic time
FORMATS = ("PNG", "JPEG")

PNG_START, JPEG_START = b"\x89PNG\r\n\x1a\n", b"\xff\xd8"
EXIF_START = b"Exif\0\0"
NEXT_MARKER = re.compile(rb"\xff[\x02-\xcf\xd8-\xfe]")  # not a stuffed byte, TEM, a restart or a filling
HEADERS = {bytes([code]) for code in range(0xC0, 0xFF) if not 0xD0 <= code < 0xD8}
END, SCAN, EXIF = 0xD9, 0xDA, 0xE1
BARE = {0xC8, 0xD8, 0xD9, *range(0xF0, 0xFE)}  # Pillow takes these to have no length: nothing may hide behind one
FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # markers that give a JPEG's size
BASELINE = {0xC0, 0xC1}  # of these, the ones whose picture may come in a single scan

ORIENTATION = 0x0112  # Exif's tag
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class PictureError(Exception):
    """The picture is refused. The message is a reason for people, and quotes nothing of what was sent."""


class UnreadableError(PictureError):
    """The picture cannot be decoded: it is damaged or cut short. The cause is Pillow's error, which may quote the file."""


class UnidentifiedError(UnreadableError):
    """The file is neither a PNG nor a JPEG by its first bytes."""


class LimitError(PictureError):
    """The picture is beyond a limit. `predicate` says how, without a subject: "has more than 40 scans"."""

    def __init__(self, predicate: str) -> None:
        super().__init__(f"the picture {predicate}")
        self.predicate = predicate


@dataclass(frozen=True)
class Picture:
    """`image` is upright and RGB; `size`, `mode` and `turned` are about the file: as it is stored, and whether Exif turned it."""

    image: Image.Image
    size: tuple[int, int]
    mode: str
    turned: bool


def decode_picture(data: bytes, at_least: int = 0) -> Picture:
    """Decode a file's bytes; with `at_least`, a large JPEG smaller than it is. Raises PictureError."""
    try:
        check_structure(data)
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            check_size(*image.size)
            check_frames(image)
            size, mode = image.size, image.mode
            if at_least:
                image.draft(None, (at_least, at_least))
            image.load()
            transpose = find_transposition(image)
            whole = image.transpose(transpose) if transpose is not None else image
            return Picture(convert_to_rgb(whole), size, mode, transpose is not None)
    except PictureError:
        raise
    except Image.DecompressionBombError as error:
        raise LimitError(f"has more than {PIXELS // 1_000_000} megapixels") from error
    except Exception as error:  # Pillow raises many kinds for a broken file
        kind = UnidentifiedError if isinstance(error, UnidentifiedImageError) else UnreadableError
        raise kind(f"not a readable PNG or JPEG: {type(error).__name__}") from error


def decode_square(data: bytes, side: int) -> Image.Image:
    """Decode and resize to `side` x `side` without regard to the shape, as networks take it. Raises PictureError."""
    return decode_picture(data, 2 * side).image.resize((side, side), Image.Resampling.BILINEAR)


def check_size(width: int, height: int) -> None:
    """Raise LimitError for too many pixels, or for a side that is too long."""
    if width * height <= PIXELS and width <= SIDE and height <= SIDE:
        return
    what = f"more than {PIXELS // 1_000_000} megapixels" if width * height > PIXELS else "a side that is too long"
    raise LimitError(f"has {what}: {width} x {height}; at most {PIXELS} pixels are taken, and {SIDE} a side")


def check_frames(image: Image.Image) -> None:
    """Raise LimitError for an animated PNG. A JPEG's further pictures are previews of the first."""
    if image.format == "PNG" and getattr(image, "is_animated", False):
        raise LimitError(f"is animated, {getattr(image, 'n_frames', 2)} pictures; save the one that is meant")


def check_structure(data: bytes) -> None:
    """Raise LimitError for what would take minutes to decode, without decoding it. Pillow refuses what is not a picture."""
    if len(data) > MEGABYTES << 20:
        raise LimitError(f"is larger than {MEGABYTES} MB")
    if data.startswith(PNG_START):
        check_png(data)
    elif data.startswith(JPEG_START):
        check_jpeg(data)


def check_png(data: bytes) -> None:
    if data[12:16] == b"IHDR":
        check_size(int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big"))
    at, chunks = len(PNG_START), 0
    while at + 8 <= len(data):
        size, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        if kind == b"IEND":
            return
        at, chunks = at + 12 + size, chunks + (kind != b"IDAT" or size < WHOLE_PIECE)
        if chunks > CHUNKS:
            raise LimitError(f"has more than {CHUNKS} chunks")


def check_jpeg(data: bytes) -> None:
    """Walk the segments up to the picture's end: phones put whole videos behind it."""
    at, segments, scans, exif, frame = len(JPEG_START), 0, 0, 0, (0, 0)
    while True:
        if data[at : at + 1] != b"\xff" or data[at + 1 : at + 2] not in HEADERS:
            found = NEXT_MARKER.search(data, at)  # in a scan, or filled up between segments
            if found is None:
                return
            at = found.start()
        marker = data[at + 1]
        if marker == END and scans:  # Pillow ignores an end marker before the first scan
            return
        segments += 1
        if marker == SCAN:
            scans += 1
            if scans > SCANS:
                raise LimitError(f"has more than {SCANS} scans")
            # A scan of all components: libjpeg reads no further, so neither need we, and that is most of the file.
            if frame[0] in BASELINE and data[at + 4 : at + 5] == bytes(frame[1:]):
                return
        elif marker in FRAMES and len(data) > at + 9:
            check_size(int.from_bytes(data[at + 7 : at + 9], "big"), int.from_bytes(data[at + 5 : at + 7], "big"))
            frame = (marker, data[at + 9])
        elif marker == EXIF and data.startswith(EXIF_START, at + 4):
            exif += 1
        if segments > SEGMENTS or exif > EXIF_SEGMENTS:
            raise LimitError(f"has more than {SEGMENTS} segments, or {EXIF_SEGMENTS} of Exif")
        at += 2 if marker in BARE else 2 + int.from_bytes(data[at + 2 : at + 4], "big")


def find_transposition(image: Image.Image) -> Image.Transpose | None:
    """Return what turns the picture upright, by its Exif; None when it is stored upright, or the Exif cannot be read."""
    try:
        return UPRIGHT.get(image.getexif().get(ORIENTATION, 1))
    except Exception:  # Pillow raises many kinds for broken Exif
        return None


def convert_to_rgb(image: Image.Image) -> Image.Image:
    """Convert to RGB. 16 bits keep their upper eight: Pillow would clip the values at 255."""
    if image.mode.startswith("I"):
        image = Image.frombytes("L", image.size, image.convert("I;16").tobytes()[1::2])
    return image if image.mode == "RGB" else image.convert("RGB")

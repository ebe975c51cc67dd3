"""The picture decoder that `data.push`, training and the server share.

All three accept the same files, with equal pixels, and refuse the others for the same reason. The module needs only Pillow
and the standard library, because it is deployed with the payloads: training/imaging.py and serving/imaging.py are links to
this file, which packing follows, so it is in the code of every job and in the serving image, and part of their digests.

A decoded picture is upright (by its Exif) and RGB with 8 bits a channel:

| in the file | result |
|---|---|
| grey, 1 bit, palette | converted; a palette's transparency is dropped |
| alpha | dropped: the stored colour is kept, because the background is unknown |
| CMYK | converted by Pillow's formula, which allows for Adobe's inverted values |
| 16 bits a channel | the upper eight |
| colour profile | ignored: conversion costs more than decoding, and the classes differ in more than a shade |
| Exif that cannot be read | ignored: the pixels are whole, and every viewer shows them as they are stored |
| several pictures (MPO, a phone's preview) | the first; an animated PNG is refused, because no frame is the obvious one |

Training and the server need small pictures. They pass `at_least`, and a JPEG is decoded at a half, a quarter or an eighth of
its size as long as no side falls below that, at a fraction of the cost. `data.push` passes none: it compares pictures at full
size. `at_least` does not affect whether a picture is accepted, since libjpeg reads every coefficient at any scale.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from dataclasses import dataclass

from PIL import Image, UnidentifiedImageError

# The limits. Those on structure protect against hostile request bodies: six megabytes can be built to take minutes to
# decode. They are far above what cameras and encoders write, so they apply to data sets too.
MEGABYTES = 100  # 25 megapixels of noise, in PNG
REQUEST_BYTES = (
    6_291_456  # InvokeEndpoint's limit, not the decoder's: training takes larger files, callers cannot send them
)
PIXELS = (
    25_000_000  # the most that cameras write; a few KB of PNG can claim gigabytes, and decoding takes 4 bytes a pixel
)
SIDE = 65_500  # JPEG's own limit; resizing a PNG of one column and 25 million rows took 1 GB
SCANS = 40  # of a progressive JPEG, each a pass over the whole picture; encoders write about ten
SEGMENTS = 2_000  # of a JPEG; a colour profile takes some dozens
CHUNKS = 2_000  # of a PNG, not counting data chunks of LARGE_CHUNK or more, of which a large picture has thousands
COMPRESSED_CHUNKS = 16  # texts and profiles of a PNG; Pillow unpacks up to 1 MB of each, and ImageMagick writes five
LARGE_CHUNK = 4_096  # bytes; the smallest data chunks that encoders write, most write 8 KB or more
EXIF_SEGMENTS = 16  # Pillow joins them one by one, in quadratic time
FORMATS = ("PNG", "JPEG")

PNG_START, JPEG_START = b"\x89PNG\r\n\x1a\n", b"\xff\xd8"
COMPRESSED = (b"zTXt", b"iTXt", b"iCCP")
EXIF_START = b"Exif\0\0"
NEXT_MARKER = re.compile(rb"\xff[\x02-\xcf\xd8-\xfe]")  # not a stuffed byte, TEM, a restart marker or a fill byte
HEADERS = {bytes([code]) for code in range(0xC0, 0xFF) if not 0xD0 <= code < 0xD8}
END, SCAN, EXIF = 0xD9, 0xDA, 0xE1
WITHOUT_LENGTH = {
    0xC8,
    0xD8,
    0xD9,
    *range(0xF0, 0xFE),
}  # markers that Pillow reads as having no length field; the walk below must agree with it
FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # markers that give a JPEG's size
BASELINE = {0xC0, 0xC1}  # frames whose picture may be a single scan

# What callers send by mistake, by its first bytes.
OTHER_CONTENT = (
    (b"data:", "a data: URL; send the bytes that it stands for"),
    (b"GIF8", "GIF"),
    (b"BM", "BMP"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"%PDF", "PDF"),
    (b"{", "JSON"),
    (b"<", "HTML or XML"),
)
BASE64_TEXT = re.compile(rb"[A-Za-z0-9+/_\r\n-]{16,}={0,2}\s*")

ORIENTATION = 0x0112  # Exif's tag
TRANSPOSITIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class PictureError(Exception):
    """The picture is refused. The message is for people, and never quotes request content."""


class UnreadableError(PictureError):
    """The picture cannot be decoded: it is damaged or cut short. The cause is Pillow's error, which may quote the file."""


class UnidentifiedError(UnreadableError):
    """The file is neither a PNG nor a JPEG by its first bytes."""


class LimitError(PictureError):
    """The picture exceeds a limit. `predicate` names it, without a subject: "has more than 40 scans"."""

    def __init__(self, predicate: str) -> None:
        super().__init__(f"the picture {predicate}")
        self.predicate = predicate


@dataclass(frozen=True)
class Picture:
    """A decoded picture. `image` is upright and RGB; `size` and `mode` are the file's, `is_rotated` says whether Exif rotated it."""

    image: Image.Image
    size: tuple[int, int]
    mode: str
    is_rotated: bool


def decode_picture(data: bytes, at_least: int = 0, before: Callable[[int], None] | None = None) -> Picture:
    """Decode a file's bytes; with `at_least`, scale a large JPEG down while decoding. Raises PictureError.

    `before` is called between header and pixels, with the bytes that these will take, and may wait.
    """
    try:
        check_structure(data)
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            check_size(*image.size)
            check_frames(image)
            size, mode = image.size, image.mode
            if at_least:
                image.draft(None, (at_least, at_least))
            if before:
                before(estimate_memory(image, size))
            image.load()
            transpose = find_transposition(image)
            whole: Image.Image = image
            if transpose is not None:
                whole = image.transpose(transpose)
                image.close()  # which frees its pixels: a large picture is held twice at most
            return Picture(convert_to_rgb(whole), size, mode, transpose is not None)
    except PictureError:
        raise
    except Image.DecompressionBombError as error:
        raise LimitError(f"has more than {PIXELS // 1_000_000} megapixels") from error
    except Exception as error:  # Pillow raises many kinds for a broken file
        if isinstance(error, UnidentifiedImageError):
            raise UnidentifiedError(f"not a readable PNG or JPEG: {name_content(data)}") from error
        raise UnreadableError(f"not a readable PNG or JPEG: {type(error).__name__}") from error


def name_content(data: bytes) -> str:
    """Name what a file that is neither PNG nor JPEG seems to be, by its first bytes. Quotes none of them."""
    if not data:
        return "it is empty"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "it is WebP"
    for start, what in OTHER_CONTENT:
        if data.startswith(start):
            return f"it is {what}"
    if BASE64_TEXT.fullmatch(data[:256]):
        return "it is base64 text; send the bytes that it stands for"
    if data.startswith((PNG_START, JPEG_START)):
        return "it is damaged"
    return "it has another format"


def estimate_memory(image: Image.Image, whole: tuple[int, int]) -> int:
    """Return about how many bytes decoding takes: as decoded, as RGB, and all coefficients of a progressive JPEG of `whole` size."""
    coefficients = 2 * 3 * whole[0] * whole[1] if "progressive" in image.info else 0
    return coefficients + 2 * 4 * image.width * image.height


def decode_square(data: bytes, side: int, before: Callable[[int], None] | None = None) -> Image.Image:
    """Decode and resize to `side` x `side`, without keeping the aspect ratio, as networks need it. Raises PictureError."""
    return decode_picture(data, 2 * side, before).image.resize((side, side), Image.Resampling.BILINEAR)


def check_size(width: int, height: int) -> None:
    """Raise LimitError for too many pixels, or for a side that is too long."""
    if width * height <= PIXELS and width <= SIDE and height <= SIDE:
        return
    problem = f"more than {PIXELS // 1_000_000} megapixels" if width * height > PIXELS else "a side that is too long"
    raise LimitError(f"has {problem}: {width} x {height}; the limit is {PIXELS} pixels, and {SIDE} for a side")


def check_frames(image: Image.Image) -> None:
    """Raise LimitError for an animated PNG. A JPEG's further pictures are previews of the first."""
    if image.format == "PNG" and getattr(image, "is_animated", False):
        raise LimitError(
            f"is animated ({getattr(image, 'n_frames', 2)} frames); save one frame as a picture of its own"
        )


def check_structure(data: bytes) -> None:
    """Raise LimitError for a file that could take minutes to decode, without decoding it. Pillow refuses other formats."""
    if len(data) > MEGABYTES << 20:
        raise LimitError(f"is larger than {MEGABYTES} MB")
    if data.startswith(PNG_START):
        check_png(data)
    elif data.startswith(JPEG_START):
        check_jpeg(data)


def check_png(data: bytes) -> None:
    if data[12:16] == b"IHDR":
        check_size(int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big"))
    at, chunks, compressed = len(PNG_START), 0, 0
    while at + 8 <= len(data):
        size, name = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        if name == b"IEND":
            return
        at, chunks = at + 12 + size, chunks + (name != b"IDAT" or size < LARGE_CHUNK)
        compressed += name in COMPRESSED
        if chunks > CHUNKS or compressed > COMPRESSED_CHUNKS:
            raise LimitError(f"has more than {CHUNKS} chunks, or more than {COMPRESSED_CHUNKS} compressed texts")


def check_jpeg(data: bytes) -> None:
    """Walk the segments up to the end of the picture; phones append whole videos after it."""
    at, segments, scans, exif, frame = len(JPEG_START), 0, 0, 0, (0, 0)
    while True:
        if data[at : at + 1] != b"\xff" or data[at + 1 : at + 2] not in HEADERS:
            found = NEXT_MARKER.search(data, at)  # inside a scan, or after fill bytes between segments
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
            # This scan has all components: libjpeg stops after it, so the walk can too, which skips most of the file.
            if frame[0] in BASELINE and data[at + 4 : at + 5] == bytes(frame[1:]):
                return
        elif marker in FRAMES and len(data) > at + 9:
            check_size(int.from_bytes(data[at + 7 : at + 9], "big"), int.from_bytes(data[at + 5 : at + 7], "big"))
            frame = (marker, data[at + 9])
        elif marker == EXIF and data.startswith(EXIF_START, at + 4):
            exif += 1
        if segments > SEGMENTS or exif > EXIF_SEGMENTS:
            raise LimitError(f"has more than {SEGMENTS} segments, or more than {EXIF_SEGMENTS} Exif segments")
        at += 2 if marker in WITHOUT_LENGTH else 2 + int.from_bytes(data[at + 2 : at + 4], "big")


def find_transposition(image: Image.Image) -> Image.Transpose | None:
    """Return the transposition that makes the picture upright, by its Exif; None when it needs none or Exif is unreadable."""
    try:
        return TRANSPOSITIONS.get(image.getexif().get(ORIENTATION, 1))
    except Exception:  # Pillow raises many kinds for broken Exif
        return None


def convert_to_rgb(image: Image.Image) -> Image.Image:
    """Convert to RGB. Of 16 bits the upper eight are kept: Pillow would clip the values at 255."""
    if image.mode.startswith("I"):
        whole = image if image.mode == "I;16" else image.convert("I;16")
        image = Image.frombytes("L", image.size, whole.tobytes()[1::2])
    return image if image.mode == "RGB" else image.convert("RGB")

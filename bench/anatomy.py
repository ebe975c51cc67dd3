"""The parts of PNG and JPEG files, for bench/bodies.py."""

from __future__ import annotations

import io
import random
import struct
import zlib

from PIL import Image

SIGNATURE = b"\x89PNG\r\n\x1a\n"
Draw = random.Random


def build_chunk(name: bytes, data: bytes = b"") -> bytes:
    """Return a PNG chunk with a valid CRC."""
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def split_chunks(png: bytes) -> list[bytes]:
    found, at = [], 8
    while at < len(png):
        end = at + 12 + int.from_bytes(png[at : at + 4], "big")
        found.append(png[at:end])
        at = end
    return found


def build_segment(marker: int, data: bytes = b"") -> bytes:
    """Return a JPEG segment."""
    return bytes([0xFF, marker]) + struct.pack(">H", len(data) + 2) + data


def split_segments(jpeg: bytes) -> list[bytes]:
    """Return the start marker, each segment, and last everything from the first scan on."""
    found, at = [jpeg[:2]], 2
    while jpeg[at + 1] != 0xDA:
        end = at + 2 + int.from_bytes(jpeg[at + 2 : at + 4], "big")
        found.append(jpeg[at:end])
        at = end
    return [*found, jpeg[at:]]


def encode_image(image: Image.Image, form: str, **more: object) -> bytes:
    packed = io.BytesIO()
    image.save(packed, form, **more)
    return packed.getvalue()


def build_exif(orientation: int, more: bytes = b"") -> bytes:
    """Return big-endian Exif with one tag, the orientation, followed by `more`."""
    return b"MM\0*\0\0\0\x08\0\x01" + struct.pack(">HHIHH", 0x112, 3, 1, orientation, 0) + b"\0\0\0\0" + more


def repeat_part(head: bytes, part: bytes, tail: bytes, most: int) -> bytes:
    """Repeat `part` between `head` and `tail` as often as fits into `most` bytes."""
    return head + part * ((most - len(head) - len(tail)) // len(part)) + tail


def draw_noise(draw: Draw, mode: str, size: tuple[int, int]) -> Image.Image:
    if mode == "I;16":
        return Image.frombytes(mode, size, draw.randbytes(size[0] * size[1] * 2))
    bands = {"L": 1, "1": 1, "P": 1, "LA": 2, "RGB": 3, "RGBA": 4, "CMYK": 4}[mode]
    if mode in ("1", "P"):
        return Image.frombytes("L", size, draw.randbytes(size[0] * size[1])).convert(mode)
    return Image.frombytes(mode, size, draw.randbytes(size[0] * size[1] * bands))

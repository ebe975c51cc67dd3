"""The bodies that bench.fuzz sends: malformed, hostile and odd pictures.

`draw_body(seed, number)` always returns the same body, independent of earlier calls; the first are one of each kind.
Files contain MARK wherever the format allows text, so that body content in a log is detected.
"""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

from PIL import Image

from bench.anatomy import (
    SIGNATURE,
    Draw,
    build_chunk,
    build_exif,
    build_segment,
    draw_noise,
    encode_image,
    repeat_part,
    split_chunks,
    split_segments,
)

LIMIT = 6_291_456  # greatest body, in bytes, that the server accepts; PIXELS: greatest picture
PIXELS = 25_000_000
MARK = b"not-for-any-log"
MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")


@dataclass(frozen=True)
class Body:
    """The body of a request. `delivery` is plain, chunked, short (fewer bytes than Content-Length, then closed) or long (more)."""

    number: int
    kind: str
    data: bytes
    content_type: str = "application/x-image"
    delivery: str = "plain"


def draw_size(draw: Draw) -> tuple[int, int]:
    return draw.choice((1, 2, 7, 8, 33, draw.randint(1, 300))), draw.choice((1, 3, 16, draw.randint(1, 300)))


def draw_png(draw: Draw, mode: str | None = None) -> bytes:
    mode = mode or draw.choice(MODES)
    more = {"transparency": draw.choice((0, draw.randbytes(256)))} if mode == "P" and draw.random() < 0.5 else {}
    text = build_chunk(b"tEXt", b"Comment\0" + MARK)
    whole = encode_image(draw_noise(draw, mode, draw_size(draw)), "PNG", **more)
    return whole[:33] + text + whole[33:]


def draw_jpeg(draw: Draw, **more: object) -> bytes:
    image = draw_noise(draw, draw.choice(("L", "RGB", "RGB", "CMYK")), draw_size(draw))
    more.setdefault("progressive", draw.random() < 0.3)
    return encode_image(image, "JPEG", quality=draw.randint(1, 95), comment=MARK, **more)


def draw_whole(draw: Draw) -> bytes:
    return draw_png(draw) if draw.random() < 0.5 else draw_jpeg(draw)


def insert_exif(draw: Draw, tags: bytes) -> bytes:
    if draw.random() < 0.5:
        file = draw_png(draw)
        return file[:33] + build_chunk(b"eXIf", tags) + file[33:]
    file = draw_jpeg(draw)
    return file[:2] + build_segment(0xE1, b"Exif\0\0" + tags[:65_000]) + file[2:]


def draw_upright(draw: Draw) -> bytes:
    return insert_exif(draw, build_exif(draw.randint(1, 8), MARK))


def draw_broken_exif(draw: Draw) -> bytes:
    count = draw.choice((2, 50, 5000))
    tags = b"".join(
        struct.pack(">HHII", draw.randrange(65536), draw.randint(0, 14), draw.randrange(1 << draw.randint(1, 32)), draw.randrange(1 << 16))
        for _ in range(count)
    )  # fmt: skip
    made = bytearray(build_exif(draw.randint(0, 300))[:8] + struct.pack(">H", count) + tags + MARK)
    for _ in range(draw.randint(0, 4)):
        made[draw.randrange(len(made))] = draw.randrange(256)
    return insert_exif(draw, bytes(made))


def draw_truncated(draw: Draw) -> bytes:
    file = draw_whole(draw)
    return file[: draw.randrange(len(file))]


def draw_flipped(draw: Draw) -> bytes:
    file = bytearray(draw_whole(draw))
    for _ in range(draw.choice((1, 1, 3, 30))):
        file[draw.randrange(len(file))] ^= 1 << draw.randrange(8)
    return bytes(file)


def draw_spliced(draw: Draw) -> bytes:
    one, other = draw_whole(draw), draw_whole(draw)
    return one[: draw.randrange(len(one))] + other[draw.randrange(len(other)) :]


def draw_parts_moved(draw: Draw) -> bytes:
    """Return a picture with chunks or segments omitted, repeated or reordered."""
    file = draw_whole(draw)
    head, parts = (SIGNATURE, split_chunks(file)) if file.startswith(SIGNATURE) else (b"", split_segments(file))
    for _ in range(draw.randint(1, 3)):
        at, what = draw.randrange(len(parts)), draw.randrange(3)
        if what == 0 and len(parts) > 1:
            del parts[at]
        elif what == 1:
            parts.insert(draw.randrange(len(parts)), parts[at])
        else:
            parts[at], parts[0] = parts[0], parts[at]
    return head + b"".join(parts)


def draw_resized(draw: Draw) -> bytes:
    """Return a PNG whose IHDR has another size, depth, colour or interlacing, with a valid CRC."""
    file = draw_png(draw)
    fields = [*struct.unpack(">IIBBBBB", file[16:29])]
    at = draw.randrange(7)
    fields[at] = draw.choice((0, 1, 5000, 25_000, 2**31 - 1)) if at < 2 else draw.choice((0, 1, 2, 3, 4, 6, 8, 16))
    return file[:8] + build_chunk(b"IHDR", struct.pack(">IIBBBBB", *fields)) + file[33:]


def draw_interlaced(draw: Draw) -> bytes:
    """Return an 8-bit grey PNG with Adam7 interlacing, which Pillow cannot write."""
    wide, high = draw_size(draw)
    passes = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
    rows = b"".join(
        bytes([draw.randrange(5)]) + draw.randbytes(len(range(left, wide, across)))
        for left, top, across, down in passes
        for _ in range(top, high, down)
        if left < wide
    )
    header = build_chunk(b"IHDR", struct.pack(">IIBBBBB", wide, high, 8, 0, 0, 0, 1))
    return SIGNATURE + header + build_chunk(b"IDAT", zlib.compress(rows)) + build_chunk(b"IEND")


def draw_animated(draw: Draw) -> bytes:
    frames = [draw_noise(draw, "RGB", (20, 20)) for _ in range(3)]
    file = bytearray(encode_image(frames[0], "PNG", save_all=True, append_images=frames[1:]))
    if draw.random() < 0.7:
        file[draw.randrange(8, len(file))] ^= 0xFF
    return bytes(file)


def draw_mpo(draw: Draw) -> bytes:
    frames = [draw_noise(draw, "RGB", (20, 20)) for _ in range(2)]
    return encode_image(frames[0], "MPO", save_all=True, append_images=frames[1:])


@cache
def compress_zeros(megabytes: int) -> bytes:
    return zlib.compress(bytes(megabytes * 1_000_000), 9)


def draw_bomb(draw: Draw) -> bytes:
    """Return a PNG with a decompression bomb in a text or profile chunk."""
    bombs = (b"zTXt", MARK + b"\0\0"), (b"iCCP", MARK + b"\0\0"), (b"iTXt", MARK + b"\0\1\0\0\0")
    name, head = draw.choice(bombs)
    file = draw_png(draw)
    big = compress_zeros(draw.choice((1, 50, 200)))
    return file[:33] + build_chunk(name, head + big) * draw.choice((1, 20)) + file[33:]


def draw_long_text(draw: Draw) -> bytes:
    file, text = draw_png(draw), MARK * draw.choice((10_000, 400_000))
    return file[:33] + build_chunk(draw.choice((b"tEXt", b"iTXt")), b"k\0" + text)[:LIMIT] + file[33:]


def draw_many_parts(draw: Draw) -> bytes:
    """Return a picture with very many tiny chunks or segments."""
    most = draw.choice((100_000, 1_000_000, LIMIT))
    if draw.random() < 0.5:
        file = draw_png(draw)
        each = build_chunk(
            *draw.choice(((b"tEXt", b"a\0b"), (b"abCd",), (b"IDAT",), (b"zTXt", b"a\0\0"), (b"acTL", bytes(8))))
        )
        at = 33 if draw.random() < 0.7 else len(file) - 12
        return repeat_part(file[:at], each, file[at:], most)
    file = draw_jpeg(draw)
    profile, tags = build_segment(0xE2, b"ICC_PROFILE\0\1\1"), build_segment(0xE1, b"Exif\0\0" + MARK[:10])
    each = draw.choice(
        (build_segment(0xFE), build_segment(0xE5), b"\xff", profile, tags, build_segment(0xDB, b"\0" + b"\1" * 64))
    )
    return repeat_part(file[:2], each, file[2:], most)


def draw_many_scans(draw: Draw) -> bytes:
    """Return a progressive JPEG whose last scan is repeated many times."""
    side = draw.choice((64, 500))
    file = encode_image(Image.new("L", (side, side), draw.randrange(256)), "JPEG", progressive=True, comment=MARK)
    last = file.rindex(b"\xff\xda")
    return file[:-2] + file[last:-2] * draw.choice((5, 100, 5000, 100_000)) + file[-2:]


@cache
def encode_blank_image(mode: str, wide: int, high: int, form: str, progressive: bool = False) -> bytes:
    return encode_image(Image.new(mode, (wide, high)), form, **({"progressive": True} if progressive else {}))


def draw_largest(draw: Draw) -> bytes:
    """Return a picture with as many pixels as the server accepts."""
    if draw.random() < 0.4:
        file = encode_blank_image(draw.choice(("L", "RGB", "CMYK")), 5000, 5000, "JPEG", draw.random() < 0.5)
        return file[:2] + build_segment(0xE1, b"Exif\0\0" + build_exif(draw.randint(1, 8))) + file[2:]
    file = encode_blank_image(draw.choice(MODES), 5000, 5000, "PNG")
    return file[:33] + build_chunk(b"eXIf", build_exif(draw.randint(1, 8))) + file[33:]


def draw_longest(draw: Draw) -> bytes:
    """Return a picture with as many pixels as the server accepts, one pixel wide or high."""
    wide = draw.choice((1, PIXELS))
    return encode_blank_image(draw.choice(("1", "L", "RGB")), wide, PIXELS // wide, "PNG")


def draw_too_large(draw: Draw) -> bytes:
    wide, high = draw.choice(((PIXELS + 1, 1), (1, PIXELS + 1), (5001, 5000), (30_000, 30_000)))
    file = encode_blank_image("1", 5000, 5000, "PNG")
    return file[:8] + build_chunk(b"IHDR", struct.pack(">IIBBBBB", wide, high, 1, 0, 0, 0, 0)) + file[33:]


def draw_magic(draw: Draw) -> bytes:
    """Return the first bytes of some format, then random bytes."""
    heads = (
        *(
            b"GIF89a",
            b"RIFF\0\0\0\0WEBPVP8 ",
            b"II*\0\x08\0\0\0",
            b"MM\0*",
            b"BM",
            b"\0\0\0\x18ftypheic",
            b"P6 9 9 255\n",
        ),
        *(b"%!PS-Adobe-3.0 EPSF-3.0\n", SIGNATURE, b"\xff\xd8\xff\xe0", b"\xff\xd8\xff\xda", b""),
    )
    return draw.choice(heads) + draw.randbytes(draw.choice((0, 1, 20, 3000))) + MARK


def draw_other_format(draw: Draw) -> bytes:
    return encode_image(
        draw_noise(draw, "RGB", (30, 20)), draw.choice(("GIF", "WEBP", "TIFF", "BMP", "PPM", "TGA", "PCX", "ICO"))
    )


def draw_full(draw: Draw) -> bytes:
    """Return exactly as many bytes as the server accepts, or one more."""
    file, most = draw_whole(draw), LIMIT + draw.randrange(2)
    return file + bytes(most - len(file))


def draw_empty(draw: Draw) -> bytes:
    return b""


# Weights of the kinds; those that take seconds to create or to check are rare.
KINDS: dict[Callable[[Draw], bytes], int] = {
    draw_whole: 60,
    draw_upright: 60,
    draw_broken_exif: 60,
    draw_truncated: 100,
    draw_flipped: 150,
    draw_spliced: 60,
    draw_parts_moved: 100,
    draw_resized: 60,
    draw_interlaced: 30,
    draw_animated: 30,
    draw_mpo: 10,
    draw_bomb: 8,
    draw_long_text: 8,
    draw_many_parts: 16,
    draw_many_scans: 8,
    draw_largest: 8,
    draw_longest: 2,
    draw_too_large: 8,
    draw_magic: 60,
    draw_other_format: 30,
    draw_full: 4,
    draw_empty: 4,
}
TYPES = ("application/x-image", "image/png", "image/jpeg", "IMAGE/PNG; charset=utf-8", "image/jpeg;;;")
ODD_TYPES = ("", "text/plain", "image/webp", "application/json", "multipart/form-data", ";", "é", "x" * 5000,
             "image/png, image/jpeg", MARK.decode())  # fmt: skip


def draw_body(seed: int, number: int) -> Body:
    draw = random.Random(f"{seed} {number}")
    make = [*KINDS][number] if number < len(KINDS) else draw.choices([*KINDS], [*KINDS.values()])[0]
    content_type, delivery = draw.choice(TYPES), draw.choices(("plain", "chunked", "short", "long"), (85, 9, 3, 3))[0]
    if draw.random() < 0.05:
        content_type = draw.choice(ODD_TYPES)
    return Body(number, make.__name__.removeprefix("draw_"), make(draw), content_type, delivery)


def iterate_bodies(seed: int) -> Iterator[Body]:
    number = 0
    while True:
        yield draw_body(seed, number)
        number += 1

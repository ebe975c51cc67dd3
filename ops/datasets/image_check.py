"""The inspection of a picture: whether it decodes, its size and its mode.

imaging.py decodes it, as in training and in the server, so this check accepts and refuses exactly the pictures that they do.
"""

from __future__ import annotations

import hashlib
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ops.core.errors import OpsError
from ops.datasets.image_folder import is_safe_name

try:
    from imaging import MEGABYTES, LimitError, UnidentifiedError, UnreadableError, decode_picture
except ImportError as error:
    raise OpsError("Inspecting pictures needs Pillow: pip install -e '.[train]'") from error

MOST_BYTES = MEGABYTES << 20  # of a picture's file


@dataclass(frozen=True)
class ImageInfo:
    """The result of an inspection. `fault` says why the picture is refused, "" if it is not. `pixels` is the SHA-256 of what training would see."""

    sha256: str
    fault: str = ""
    width: int = 0
    height: int = 0
    mode: str = ""
    pixels: str = ""
    turned: bool = False

    def to_json(self) -> list[Any]:
        """Return the fields as a list for JSON; ImageInfo(*list) is equal to this."""
        return [self.sha256, self.fault, self.width, self.height, self.mode, self.pixels, self.turned]


def inspect_image(path: Path) -> ImageInfo:
    """Read, hash and decode one file.

    Callers use one process: on two shared cores 600 photographs (71 MB) took 2.2 to 2.4 s in one, 2.6 to 2.7 s in two.
    """
    try:
        size = path.stat().st_size
        if not size:
            return ImageInfo("", "it is empty, 0 bytes")
        if size > MOST_BYTES:
            return ImageInfo("", f"it is larger than {MEGABYTES} MB")
        data = path.read_bytes()
    except OSError as error:
        return ImageInfo("", f"it cannot be read: {error.strerror}")
    if not is_safe_name(path.name):
        return ImageInfo(
            "", "its name is not portable: control characters, a backslash, not UTF-8, or more than 200 bytes"
        )
    return replace(inspect_bytes(data), sha256=hashlib.sha256(data).hexdigest())


def inspect_bytes(data: bytes) -> ImageInfo:
    """Decode a file's bytes; return their ImageInfo without the SHA-256."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns about corrupt EXIF data and the like; only the pixels matter
            picture = decode_picture(data)
    except LimitError as error:
        return ImageInfo("", f"it {error.predicate}")
    except UnidentifiedError:
        return ImageInfo("", f"it is neither PNG nor JPEG but {detect_file_format(data)}")
    except UnreadableError as error:
        return ImageInfo("", f"it is damaged or cut short: {error.__cause__}")
    pixels = hashlib.sha256(f"{picture.image.size}".encode() + picture.image.tobytes()).hexdigest()
    return ImageInfo("", "", *picture.size, picture.mode, pixels, picture.is_rotated)


def detect_file_format(data: bytes) -> str:
    """Name the format of a file that is neither PNG nor JPEG, by its first bytes."""
    starts = {b"GIF8": "GIF", b"BM": "BMP", b"II*\0": "TIFF", b"MM\0*": "TIFF", b"%PDF": "PDF", b"PK\3\4": "a zip"}
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WebP"
    for start, name in starts.items():
        if data.startswith(start):
            return name
    return "text" if data[:512].isascii() and b"\0" not in data[:512] else "something else, or damaged at its start"

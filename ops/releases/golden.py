"""Read a release's golden pictures and the scores that its trained model gave them, without numpy, which ops does not depend on."""

from __future__ import annotations

import ast
import struct
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MOST_BYTES = 256 << 20  # a release has a few pictures, each of which fits into a request
TOLERANCE = 0.06  # of the largest score: the difference that the server accepts in bf16 (serving/engine.py)


@dataclass(frozen=True)
class Golden:
    """A golden picture, as the bytes it came in, and its scores in the order of the classes."""

    picture: bytes
    scores: list[float]


def read_golden_pictures(path: Path) -> list[Golden]:
    """Read all of a golden.npz: pictures uint8 [bytes], ends int64 [n], scores float32 [n, classes]. Raises ValueError."""
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > MOST_BYTES:
                raise zipfile.BadZipFile(f"it would become more than {MOST_BYTES >> 20} MB")
            whole, ends, scores = (
                parse_npy_array(archive.read(f"{name}.npy")) for name in ("pictures", "ends", "scores")
            )
    except (zipfile.BadZipFile, zlib.error, EOFError, LookupError, struct.error, SyntaxError, TypeError) as error:
        raise ValueError(f"{path.name} cannot be read: {error}") from error
    if not len(ends):
        raise ValueError(f"{path.name} has no pictures")
    wide = len(scores) // len(ends)
    starts = [0, *ends[:-1]]
    return [
        Golden(bytes(whole[start:end]), list(scores[n * wide : (n + 1) * wide]))
        for n, (start, end) in enumerate(zip(starts, ends, strict=True))
    ]


def parse_npy_array(npy: bytes) -> Any:
    """Return an .npy file's values as one flat sequence: its header is a Python literal, then come the bytes.

    Raises ValueError for any other element type.
    """
    size = struct.unpack_from("<H", npy, 8)[0]
    header = ast.literal_eval(npy[10 : 10 + size].decode("latin1"))
    data = npy[10 + size :]
    if header["fortran_order"] or header["descr"] not in ("|u1", "<i8", "<f4"):
        raise ValueError(f"unsupported array: {header}")
    if header["descr"] == "|u1":
        return data
    code = {"<i8": "q", "<f4": "f"}[header["descr"]]
    return struct.unpack(f"<{len(data) // struct.calcsize(code)}{code}", data)


def check_golden_answers(golden: list[Golden], ask: Callable[[bytes], dict[str, Any]], release: str) -> list[str]:
    """Return a sentence for each answer of `ask` that differs from the release's golden answer."""
    found = []
    for number, one in enumerate(golden, 1):
        answer = ask(one.picture)
        scores, most = answer.get("scores") or [], max(1.0, *(abs(score) for score in one.scores))
        if answer.get("release") != release:
            found.append(
                f"golden picture {number}: answered by release {str(answer.get('release'))[:12]}, not {release[:12]}"
            )
        elif len(scores) != len(one.scores):
            found.append(f"golden picture {number}: {len(scores)} scores, not {len(one.scores)}")
        elif (off := max(abs(a - b) for a, b in zip(scores, one.scores, strict=True))) > TOLERANCE * most:
            found.append(f"golden picture {number}: scores differ by {off:.3g}")
        elif answer["best"] != answer["classes"][scores.index(max(scores))]:
            found.append(f"golden picture {number}: best is {answer['best']}, but another class has the highest score")
    return found

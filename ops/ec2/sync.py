"""Folders onto the box: one tar stream, its files checked there by SHA-256, put in place as a whole; what is there is not sent."""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from ops import box
from ops.cli import progress
from ops.errors import OpsError
from ops.files import files_of

if TYPE_CHECKING:
    from fabric import Connection

SUMS = ".sha256sums"  # beside the files it names, as `sha256sum --check` reads it
PIECE = 256 << 10  # bytes handed to SSH at a time
BLOCK = tarfile.BLOCKSIZE


@dataclass(frozen=True)
class Load:
    """Files to be sent, by their names below the target."""

    files: tuple[tuple[str, Path], ...]

    @cached_property
    def sums(self) -> bytes:
        """A line a file. Raises OpsError for a name that sha256sum would write otherwise."""
        lines = []
        for name, path in self.files:
            if "\\" in name or not name.isprintable():
                raise OpsError(f"{name!r} cannot be sent: its name has a character that sha256sum escapes. Rename it.")
            lines.append(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {name}\n")
        return "".join(lines).encode()

    @property
    def digest(self) -> str:
        """Of names and contents."""
        return hashlib.sha256(self.sums).hexdigest()

    @property
    def size(self) -> int:
        return sum(path.stat().st_size for _, path in self.files)

    def tar(self) -> Iterator[bytes]:
        """An uncompressed tar of the files and their sums, in pieces: compressing pictures would cost more than it saves."""
        waiting = entry(SUMS, self.sums)
        for name, path in self.files:
            waiting += entry(name, path.read_bytes(), path.stat().st_mode & 0o100)
            if len(waiting) >= PIECE:
                yield bytes(waiting)
                waiting = bytearray()
        yield bytes(waiting) + bytes(2 * BLOCK)


def of_folder(folder: Path) -> Load:
    return Load(tuple((path.relative_to(folder).as_posix(), path) for path in files_of(folder)))


def entry(name: str, data: bytes, executable: int = 0) -> bytearray:
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(data), 0o755 if executable else 0o644
    padding = -len(data) % BLOCK
    return bytearray(info.tobuf(tarfile.PAX_FORMAT)) + data + bytes(padding)


def there(link: Connection, load: Load, target: str) -> bool:
    """Whether the box has these very files: it reads them all again, since a disk may have lost what a note says is there."""
    command = (
        f"cd {box.words(target)} 2>/dev/null && echo {box.words(f'{load.digest}  {SUMS}')} | sha256sum --check --status && "
        f"sha256sum --check --status {SUMS} && echo same"
    )
    return box.read(link, command).strip() == b"same"


def send(link: Connection, load: Load, target: str, what: str) -> bool:
    """The files into the folder `target` on the box, which is then theirs alone; False when they were there already.

    Until all are there and right, the target stays as it was. Raises OpsError, and Lost when the line is cut.
    """
    if there(link, load, target):
        return False
    part, old = target + ".part", target + ".old"
    command = (
        f"set -e; rm -rf {box.words(part)}; mkdir -p {box.words(part)}; tar -xf - -C {box.words(part)}; "
        f"(cd {box.words(part)} && sha256sum --check --quiet {SUMS}); rm -rf {box.words(old)}; "
        f"if [ -e {box.words(target)} ]; then mv {box.words(target, old)}; fi; mv {box.words(part, target)}; rm -rf {box.words(old)}"
    )
    heard: list[bytes] = []
    with progress(f"Sending {what}", load.size) as advance:
        code = box.stream(link, command, counted(load.tar(), advance), heard.append)
    if code:
        said = b"".join(heard).decode(errors="replace").strip()[-400:]
        raise OpsError(
            f"{what} could not be put on the box, and what was there stays: {said}. Is its disk full? invoke ec2.disk"
        )
    return True


def counted(pieces: Iterable[bytes], advance: Callable[[int], None]) -> Iterator[bytes]:
    for piece in pieces:
        yield piece
        advance(len(piece))

"""Send folders to the box in one tar stream, verify them there by SHA-256, and install each as a whole; skip unchanged ones."""

from __future__ import annotations

import hashlib
import secrets
import tarfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ops.box import full_disk
from ops.core import ssh
from ops.core.errors import OpsError
from ops.core.files import list_files
from ops.core.output import show_progress
from ops.core.ssh import Connection

SUMS = ".sha256sums"  # beside the files it names, as `sha256sum --check` reads it
PIECE = 256 << 10  # bytes handed to SSH at a time
BLOCK = tarfile.BLOCKSIZE
# This checks on all cores of the box: `sha256sum --check` alone would use one.
CHECK = f"xargs -r -a {SUMS} -d '\\n' -n 256 -P 0 sh -c 'printf \"%s\\n\" \"$@\" | sha256sum --check --quiet' sh"


@dataclass(frozen=True)
class FileSet:
    """The files to send, by their names below the target. Raises OpsError for a name that sha256sum would escape."""

    files: tuple[tuple[str, Path], ...]

    def __post_init__(self) -> None:
        for name, _ in self.files:
            if "\\" in name or not name.isprintable():
                raise OpsError(f"{name!r} cannot be sent: its name has a character that sha256sum escapes. Rename it.")

    @property
    def digest(self) -> str:
        """Return the digest of names and contents: the SHA-256 of the sums file beside the files."""
        return hashlib.sha256(
            "".join(format_sum_line(name, path.read_bytes()) for name, path in self.files).encode()
        ).hexdigest()

    @property
    def size(self) -> int:
        return sum(path.stat().st_size for _, path in self.files)

    def tar(self) -> Iterator[bytes]:
        """Yield an uncompressed tar of the files, in pieces, with their sums last, so that each file is read once.

        Compressing pictures would cost more than it saves.
        """
        waiting, lines = bytearray(), []
        for name, path in self.files:
            data = path.read_bytes()
            lines.append(format_sum_line(name, data))
            waiting += build_tar_entry(name, data, path.stat().st_mode & 0o100)
            if len(waiting) >= PIECE:
                yield bytes(waiting)
                waiting = bytearray()
        yield bytes(waiting + build_tar_entry(SUMS, "".join(lines).encode())) + bytes(2 * BLOCK)


def format_sum_line(name: str, data: bytes) -> str:
    return f"{hashlib.sha256(data).hexdigest()}  {name}\n"


def build_file_set(folder: Path) -> FileSet:
    return FileSet(tuple((path.relative_to(folder).as_posix(), path) for path in list_files(folder)))


def build_tar_entry(name: str, data: bytes, executable: int = 0) -> bytearray:
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(data), 0o755 if executable else 0o644
    padding = -len(data) % BLOCK
    return bytearray(info.tobuf(tarfile.PAX_FORMAT)) + data + bytes(padding)


def has_files(link: Connection, files: FileSet, target: str) -> bool:
    """Report whether the box has exactly these files; it reads all of them again, since a disk may have lost files that the sums list."""
    command = f"cd {ssh.quote_command(target)} 2>/dev/null && {CHECK} >/dev/null 2>&1 && sha256sum {SUMS}"
    return ssh.read(link, command).startswith(files.digest.encode())


def send_files(link: Connection, files: FileSet, target: str, what: str) -> bool:
    """Send the files to the folder `target` on the box, replacing its content; return False when they were there already.

    The target is unchanged until all files are there and verified. Raises OpsError, and Lost when the connection is lost.
    """
    if has_files(link, files, target):
        return False
    suffix = secrets.token_hex(4)  # another command may be sending the same
    place, part, old = (
        ssh.quote_command(path) for path in (target, f"{target}.{suffix}.part", f"{target}.{suffix}.old")
    )
    command = (
        f"set -e; mkdir -p {part}; tar -xf - -C {part}; (cd {part} && {CHECK}); if [ -e {place} ]; then mv -T {place} {old}; fi; "
        f"mv -T {part} {place} 2>/dev/null || cmp {part}/{SUMS} {place}/{SUMS}; rm -rf {part} {old}"
    )
    output: list[bytes] = []
    with show_progress(f"Sending {what}", files.size) as advance:
        code = ssh.stream_answer(link, command, track_progress(files.tar(), advance), output.append)
    if code:
        message = full_disk.take_reason(b"".join(output).decode(errors="replace"))
        fix = full_disk.suggest_fix(message, "Check the disk: invoke ec2.disk")
        raise OpsError(f"Cannot install {what} on the box: {message}. What was there is unchanged. {fix}")
    return True


def track_progress(pieces: Iterable[bytes], advance: Callable[[int], None]) -> Iterator[bytes]:
    for piece in pieces:
        yield piece
        advance(len(piece))

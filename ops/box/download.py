"""Download a file or folder from the box: completely or not at all, and only into its target."""

from __future__ import annotations

import os
import shutil
import tarfile
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ops.core import ssh
from ops.core.errors import OpsError
from ops.core.output import show_progress
from ops.core.ssh import Connection

BLOCK = tarfile.BLOCKSIZE
KEPT = {"f", "d", "l"}  # find's letters for files, folders and symbolic links
LEFT_OUT = {"s": "socket", "p": "fifo", "b": "device", "c": "device"}


@dataclass(frozen=True)
class Entry:
    """An entry below the source on the box: find's letter for its kind, its bytes, and its path, which begins with the source's name."""

    kind: str
    size: int
    path: PurePosixPath


@dataclass(frozen=True)
class Download:
    """What arrived: the number of files and their bytes. `left_out` names what cannot be copied, as `a/b.sock (socket)`."""

    files: int
    bytes: int
    left_out: tuple[str, ...]


def download_from_box(link: Connection, path: str, target: Path) -> Download:
    """Fetch a file or folder of the box to `target`, completely or not at all. Raises OpsError, and Lost.

    Sockets, fifos and devices are left out: they have no content that could be copied.
    """
    source = find_source(link, path)
    listed = list_entries(link, path, source)
    if listed[0].kind in LEFT_OUT:
        raise OpsError(f"{path} on the box is a {LEFT_OUT[listed[0].kind]}, which has no content to download.")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as folder:
        packed, unpacked = Path(folder) / "tar", Path(folder) / "files"
        receive_archive(link, path, source, packed, estimate_archive_size(listed))
        unpack_archive(packed, unpacked, path)
        check_arrival(unpacked, listed, path)
        files = [found for found in unpacked.rglob("*") if found.is_file() and not found.is_symlink()]
        size = sum(found.stat().st_size for found in files)
        shutil.move(unpacked / source.name, target)
    left_out = tuple(f"{entry.path} ({LEFT_OUT[entry.kind]})" for entry in listed if entry.kind in LEFT_OUT)
    return Download(len(files), size, left_out)


def find_source(link: Connection, path: str) -> PurePosixPath:
    """Return the absolute path on the box; a link is followed to the file or folder that it leads to. Raises OpsError for none."""
    found = ssh.read(link, f"readlink -ze -- {ssh.quote_command(path)}").removesuffix(b"\0")
    if not found:
        raise OpsError(f"There is no {path} on the box. List the files: invoke ec2.run 'ls'")
    return PurePosixPath(os.fsdecode(found))


def list_entries(link: Connection, path: str, source: PurePosixPath) -> list[Entry]:
    """Return all entries, the source itself first. Raises OpsError for a folder that cannot be read."""
    output, errors = bytearray(), bytearray()
    command = f"cd {ssh.quote_command(str(source.parent))} && find {ssh.quote_command(f'./{source.name}')} -printf '%y %s %p\\0'"
    if ssh.stream_answer(link, command, (), output.extend, errors.extend):
        raise OpsError(f"The box could not list {path}: {take_first_line(errors)}. Nothing was downloaded.")
    entries = []
    for line in bytes(output).split(b"\0")[:-1]:
        kind, size, name = line.split(b" ", 2)
        entries.append(Entry(kind.decode(), int(size), PurePosixPath(os.fsdecode(name))))
    return entries


def estimate_archive_size(listed: Iterable[Entry]) -> int:
    return sum(BLOCK + (entry.size + BLOCK - 1) // BLOCK * BLOCK * (entry.kind == "f") for entry in listed)


def receive_archive(link: Connection, path: str, source: PurePosixPath, packed: Path, size: int) -> None:
    """Write a tar of the files, folders and links to `packed`. Raises OpsError when tar reports anything."""
    errors = bytearray()
    names = f"find {ssh.quote_command(f'./{source.name}')} '(' -type f -o -type d -o -type l ')' -print0"
    command = f"cd {ssh.quote_command(str(source.parent))} && {names} | tar --null --no-recursion -T - -cf -"
    with packed.open("wb") as file, show_progress(f"Fetching {path}", size) as advance:

        def receive(data: bytes) -> None:
            file.write(data)
            advance(len(data))

        code = ssh.stream_answer(link, command, (), receive, errors.extend)
    if code:
        # tar's last line only says that it exits with a failure because of earlier ones.
        advice = "Copy what a job still writes, then fetch the copy: invoke ec2.run 'cp -r FROM TO'"
        fix = (
            advice if b"changed as we read it" in errors else "Check that you may read it: invoke ec2.run 'ls -lR PATH'"
        )
        raise OpsError(f"The box could not pack {path}: {take_first_line(errors)}. Nothing was downloaded. {fix}")


def take_first_line(said: bytes | bytearray) -> str:
    return (said.decode(errors="replace").strip().splitlines() or ["it gave no reason"])[0].rstrip(".")


def unpack_archive(packed: Path, unpacked: Path, path: str) -> None:
    """Unpack to a new folder. Raises OpsError for an archive that is cut short, and for an entry that leads out of the folder."""
    try:
        with tarfile.open(packed, "r:") as tar:  # not compressed: it becomes no larger than it is
            tar.extractall(unpacked, filter="data")
    except tarfile.FilterError as error:
        raise OpsError(
            f"{path} has an entry that leads out of it: {error}. Nothing was downloaded. Fetch the other files by name, "
            f"or delete the link: invoke ec2.run 'ls -lR {path}'"
        ) from error
    except (tarfile.TarError, EOFError) as error:
        raise OpsError(
            f"What arrived of {path} is not a whole archive: {error}. Nothing was downloaded. Try again."
        ) from error


def check_arrival(unpacked: Path, listed: Iterable[Entry], path: str) -> None:
    """Check that every file, folder and link of the list was unpacked. Raises OpsError that names the first that was not."""
    missing = [entry.path for entry in listed if entry.kind in KEPT and not os.path.lexists(unpacked / entry.path)]
    if missing:
        raise OpsError(
            f"{len(missing)} files of {path} did not arrive, such as {missing[0]}. Nothing was downloaded. Try again when nothing "
            "deletes files there."
        )

"""Download a file or folder from the box: completely or not at all, and only into its target."""

from __future__ import annotations

import shutil
import tarfile
import tempfile
from pathlib import Path, PurePosixPath

from ops.core import ssh
from ops.core.errors import OpsError
from ops.core.output import show_progress
from ops.core.ssh import Connection


def download_from_box(link: Connection, path: str, target: Path) -> int:
    """Fetch a file or folder of the box to `target`, completely or not at all; return its bytes. Raises OpsError, and Lost."""
    quoted = ssh.quote_command(path)
    # A link is followed to the file or folder that it leads to.
    output = ssh.read(
        link,
        f"readlink -e -- {quoted} && du -sb -- {quoted}/ 2>/dev/null || du -sb -- {quoted} 2>/dev/null",
    )
    lines = output.decode(errors="surrogateescape").splitlines()
    if len(lines) < 2:
        raise OpsError(f"There is no {path} on the box. List the files: invoke ec2.run 'ls'")
    source, size = PurePosixPath(lines[0]), lines[1].split()[0]
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as folder:
        packed = Path(folder) / "tar"
        with packed.open("wb") as file, show_progress(f"Fetching {path}", int(size)) as advance:

            def receive(data: bytes) -> None:
                file.write(data)
                advance(len(data))

            code = ssh.stream_command(
                link,
                f"tar -C {ssh.quote_command(str(source.parent))} -cf - -- {ssh.quote_command(source.name)}",
                on_output=receive,
            )
        if code:
            raise OpsError(
                f"The box could not pack {path}: tar exited with {code}. Check that it is readable: invoke ec2.run 'ls -l'"
            )
        unpacked = Path(folder) / "files"
        try:
            with tarfile.open(packed, "r:") as tar:  # not compressed: it becomes no larger than it is
                tar.extractall(unpacked, filter="data")
        except tarfile.FilterError as error:
            raise OpsError(f"{path} has an entry that leads out of it: {error}. Nothing was downloaded.") from error
        except tarfile.TarError as error:
            raise OpsError(f"What the box sent of {path} is corrupt: {error}. Run the same command again.") from error
        shutil.move(unpacked / source.name, target)
    return int(size)

"""The box's disk: measure how full it is and with what, and delete what ended jobs left on it."""

from __future__ import annotations

import json
from dataclasses import dataclass

from ops.box import full_disk, remote_jobs
from ops.core import ssh
from ops.core.aws.account import Account
from ops.core.errors import OpsError
from ops.core.paths import ROOT
from ops.core.settings import Settings
from ops.core.ssh import Connection
from ops.datasets.manifest import read_manifest, read_pointer

PROGRAM = ROOT / "training" / "boxside" / "clean.py"
LEAST_FREE_GB, LEAST_FREE = 1.0, 0.1  # below either, the disk counts as full; half of a tiny disk is enough
SHOWN = 5  # paths outside Kennel's folder
# Where people and programs leave files; the rest is the image's.
LARGEST = (
    'home=$(pwd -P); $(sudo -n true 2> /dev/null && echo sudo -n) timeout 30 du -xak --threshold=1M --exclude="$home/{folder}" -- '
    '"$home" "$BOX_ROOT"/tmp "$BOX_ROOT"/var 2> /dev/null | sort -rn | head -n 500; echo "$home"'
)


class FilesInUse(OpsError):
    """A job is training, and needs the files that a clean-up would delete."""


@dataclass(frozen=True)
class Disk:
    """The disk of the box, with sizes in GB.

    `parts` maps the folders of `home`, Kennel's folder on the box, to their sizes. `outside` is what the image and others use;
    `largest` are the largest (path, size) of it in the home folder, /tmp and /var.
    """

    home: str
    total: float
    free: float
    parts: dict[str, float]
    outside: float = 0.0
    largest: tuple[tuple[str, float], ...] = ()

    @property
    def is_full(self) -> bool:
        return self.lacks_space(0.0)

    def lacks_space(self, freed: float) -> bool:
        """Report whether the disk counts as full once `freed` GB are deleted."""
        return self.free + freed < max(LEAST_FREE * self.total, min(LEAST_FREE_GB, self.total / 2))


def measure_disk(link: Connection, settings: Settings) -> Disk:
    home = ssh.quote_command(str(remote_jobs.locate_folders(settings).home))
    df = ssh.run(link, f"mkdir -p {home} && df -Pk {home}").splitlines()[1].split()
    du = ssh.run(link, f"cd {home} && du -k --max-depth=1 . 2>/dev/null || true").splitlines()
    sizes = {path: int(kib) * 1024 / 1e9 for kib, path in (line.split("\t", 1) for line in du)}
    parts = {path.removeprefix("./"): size for path, size in sizes.items() if path != "."}
    total, used, free = (int(kib) * 1024 / 1e9 for kib in df[1:4])
    outside = max(0.0, used - sizes.get(".", 0.0))
    return Disk(home, total, free, parts, outside, measure_largest(link, home))


def measure_largest(link: Connection, folder: str) -> tuple[tuple[str, float], ...]:
    """Return the largest paths outside Kennel's folder with their GB, relative to the home folder, as ec2.run and ec2.fetch take them."""
    *lines, home = ssh.run(link, LARGEST.format(folder=folder)).splitlines()
    sizes = {path: int(kib) for kib, path in (line.split("\t", 1) for line in lines if "\t" in line)}
    return tuple((path.removeprefix(f"{home}/"), sizes[path] * 1024 / 1e9) for path in choose_largest(sizes)[:SHOWN])


def choose_largest(sizes: dict[str, int]) -> list[str]:
    """Return paths by size, none inside another: a folder stands for its content, unless one entry below holds half of it.

    The folders that were asked for are never shown themselves: they hold everything.
    """
    chosen: list[str] = []
    for path, size in sorted(sizes.items(), key=lambda entry: (-entry[1], entry[0])):
        below = [other for other in sizes if other.startswith(f"{path}/")]
        is_root = not any(path.startswith(f"{other}/") for other in sizes)
        if any(path.startswith(f"{other}/") for other in chosen) or (is_root and below):
            continue
        if not any(2 * sizes[other] >= size for other in below):
            chosen.append(path)
    return chosen


def advise(account: Account, link: Connection, disk: Disk) -> str:
    """Return what to do about a full disk: advice that helps, and says by how much."""
    try:
        freed = (
            sum(size for _, size in clean_disk(link, account.settings, list_current_shards(account), dry=True)) / 1e9
        )
    except FilesInUse:
        own = "Next: invoke ec2.run 'rm -r PATH' for paths below that you do not need. " if disk.largest else ""
        return f"{own}invoke ec2.clean has to wait for the job that trains: invoke ec2.attach"
    if freed and not disk.lacks_space(freed):
        return f"Next: invoke ec2.clean, which frees {freed:.2f} GB"
    clean = f"invoke ec2.clean frees only {freed:.2f} GB" if freed else "invoke ec2.clean has nothing to delete"
    if disk.largest:
        return f"{clean}. Next: copy what you need of the paths below (invoke ec2.fetch PATH), then invoke ec2.run 'rm -r PATH'"
    return f"{clean}. The disk is too small for this dataset: see {full_disk.PAGE}"


def list_current_shards(account: Account) -> list[str]:
    """Return the SHA-256 of the current dataset's shards, which stay on the box; an empty list without a dataset."""
    digest = read_pointer(account, account.settings.data.name)
    return [shard.sha256 for shard in read_manifest(account, digest).shards] if digest else []


def clean_disk(link: Connection, settings: Settings, shards: list[str], dry: bool) -> list[tuple[str, int]]:
    """Run training/boxside/clean.py on the box; return (name, bytes) of what it deleted, or would delete with `dry`.

    Raises OpsError when it fails, FilesInUse while a job needs the files.
    """
    words = ssh.quote_command(
        settings.ec2.python, "-", *(["--dry"] if dry else []), str(remote_jobs.locate_folders(settings).home), *shards
    )
    output, errors = bytearray(), bytearray()
    if ssh.stream_answer(link, words, [PROGRAM.read_bytes()], output.extend, errors.extend):
        raise OpsError(f"Cannot clean the box's disk: {errors.decode(errors='replace').strip()[-400:]}")
    found = json.loads(output)
    if found["busy"]:
        raise FilesInUse(
            "A job is training on the box and needs its files. Nothing was deleted. Wait for the job: invoke ec2.attach"
        )
    return [(name, size) for name, size in found["gone"]]

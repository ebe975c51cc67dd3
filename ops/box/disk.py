"""The box's disk: measure how full it is and with what, and delete what ended jobs left on it."""

from __future__ import annotations

import json
from dataclasses import dataclass

from ops.box import remote_jobs
from ops.core import ssh
from ops.core.aws.account import Account
from ops.core.errors import OpsError
from ops.core.paths import ROOT
from ops.core.settings import Settings
from ops.core.ssh import Connection
from ops.datasets.manifest import read_manifest, read_pointer

PROGRAM = ROOT / "training" / "boxside" / "clean.py"
LEAST_FREE_GB, LEAST_FREE = 1.0, 0.1  # below either, the disk counts as full


@dataclass(frozen=True)
class Disk:
    """The disk of the box, with sizes in GB. `parts` maps the folders of `home`, Kennel's folder on the box, to their sizes."""

    home: str
    total: float
    free: float
    parts: dict[str, float]

    @property
    def is_full(self) -> bool:
        return self.free < LEAST_FREE_GB or self.free < LEAST_FREE * self.total


def measure_disk(link: Connection, settings: Settings) -> Disk:
    home = ssh.quote_command(str(remote_jobs.locate_folders(settings).home))
    df = ssh.run(link, f"mkdir -p {home} && df -Pk {home}").splitlines()[1].split()
    du = ssh.run(link, f"cd {home} && du -sk -- */ 2>/dev/null || true").splitlines()
    parts = {name.rstrip("/"): int(kib) * 1024 / 1e9 for kib, name in (line.split("\t", 1) for line in du)}
    return Disk(home, int(df[1]) / 1e6 * 1.024, int(df[3]) / 1e6 * 1.024, parts)


def list_current_shards(account: Account) -> list[str]:
    """Return the SHA-256 of the current dataset's shards, which stay on the box; an empty list without a dataset."""
    digest = read_pointer(account, account.settings.data.name)
    return [shard.sha256 for shard in read_manifest(account, digest).shards] if digest else []


def clean_disk(link: Connection, settings: Settings, shards: list[str], dry: bool) -> list[tuple[str, int]]:
    """Run training/boxside/clean.py on the box; return (name, bytes) of what it deleted, or would delete with `dry`.

    Raises OpsError when it fails, or while a job needs the files.
    """
    words = ssh.quote_command(
        settings.ec2.python, "-", *(["--dry"] if dry else []), str(remote_jobs.locate_folders(settings).home), *shards
    )
    output, errors = bytearray(), bytearray()
    if ssh.stream_answer(link, words, [PROGRAM.read_bytes()], output.extend, errors.extend):
        raise OpsError(f"Cannot clean the box's disk: {errors.decode(errors='replace').strip()[-400:]}")
    found = json.loads(output)
    if found["busy"]:
        raise OpsError(
            "A job is training on the box and needs its files. Nothing was deleted. Wait for the job: invoke ec2.attach"
        )
    return [(name, size) for name, size in found["gone"]]

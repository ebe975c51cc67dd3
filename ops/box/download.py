"""What the daily commands ask of the box: a file or folder brought here, its jobs, its devices, and room."""

from __future__ import annotations

import json
import shutil
import tarfile
import tempfile
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from ops.box import remote_jobs
from ops.core import ssh
from ops.core.aws.account import Account
from ops.core.errors import OpsError
from ops.core.output import progress
from ops.core.paths import ROOT
from ops.core.settings import Settings

if TYPE_CHECKING:
    from fabric import Connection

PROGRAM = ROOT / "training" / "boxside" / "clean.py"


def bring(link: Connection, path: str, target: Path) -> int:
    """A file or folder of the box to `target`, there as a whole or not at all; its bytes. Raises OpsError, and Lost."""
    # Where it is a link, what it leads to is meant.
    said = ssh.read(
        link,
        f"readlink -e -- {ssh.words(path)} && du -sb -- {ssh.words(path)}/ 2>/dev/null || du -sb -- {ssh.words(path)} 2>/dev/null",
    )
    lines = said.decode(errors="surrogateescape").splitlines()
    if len(lines) < 2:
        raise OpsError(f"There is no {path} on the box. Look: invoke ec2.run 'ls'")
    there, size = PurePosixPath(lines[0]), lines[1].split()[0]
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as folder:
        packed = Path(folder) / "tar"
        with packed.open("wb") as file, progress(f"Fetching {path}", int(size)) as advance:

            def take(data: bytes) -> None:
                file.write(data)
                advance(len(data))

            code = ssh.stream(
                link, f"tar -C {ssh.words(str(there.parent))} -cf - -- {ssh.words(there.name)}", on_output=take
            )
        if code:
            raise OpsError(
                f"The box could not pack {path}: tar ended with {code}. Is it readable? invoke ec2.run 'ls -l'"
            )
        unpacked = Path(folder) / "files"
        try:
            with tarfile.open(packed) as tar:
                tar.extractall(unpacked, filter="data")
        except tarfile.FilterError as error:
            raise OpsError(f"{path} has something that leads out of it: {error}. Nothing was brought here.") from error
        shutil.move(unpacked / there.name, target)
    return int(size)


def clean(link: Connection, settings: Settings, shards: list[str], dry: bool) -> list[tuple[str, int]]:
    """What training/boxside/clean.py deleted, or with `dry` would: (name, bytes). Raises OpsError while a job needs it."""
    words = ssh.words(
        settings.ec2.python, "-", *(["--dry"] if dry else []), str(remote_jobs.place(settings).home), *shards
    )
    heard: list[bytes] = []
    if ssh.stream(link, words, [PROGRAM.read_bytes()], heard.append):
        raise OpsError(f"The box could not be cleaned: {b''.join(heard).decode(errors='replace')[-400:]}")
    found = json.loads(b"".join(heard))
    if found["busy"]:
        raise OpsError(
            "A job trains on the box, and needs what is there. Wait for it: invoke ec2.attach. Nothing was deleted."
        )
    return [(name, size) for name, size in found["gone"]]


def in_bucket(account: Account) -> list[dict[str, Any]]:
    """The box's jobs that left their verdict in the bucket, the newest first."""
    prefix = f"jobs/{account.settings.prefix}-box"
    listed = account.call_or_none(
        "s3", "list_objects_v2", "NoSuchBucket", Bucket=account.settings.bucket, Prefix=prefix
    )
    found = sorted(
        (o for o in (listed or {}).get("Contents", []) if o["Key"].endswith("/status.json")),
        key=lambda o: o["LastModified"],
    )
    return [
        {"job": o["Key"].split("/")[1]}
        | json.loads(account.call("s3", "get_object", Bucket=account.settings.bucket, Key=o["Key"])["Body"].read())
        for o in reversed(found[-20:])
    ]


def devices(link: Connection) -> str:
    """What nvidia-smi says of each GPU, or ""."""
    query = "name,utilization.gpu,memory.used,memory.total,temperature.gpu"
    return ssh.read(link, f"nvidia-smi --query-gpu={query} --format=csv,noheader 2>/dev/null || true").decode().strip()

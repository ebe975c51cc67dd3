"""The clean-up of the box: `python3 - [--dry] HOME SHA256 ...` with this file on stdin, so that it works on a full disk.

It deletes what ended jobs left, but keeps each job's status, log and checkpoints, the shards with the given SHA-256,
and the newest code and wheels. It deletes nothing while a trainer or a data download holds its lock. It prints one JSON
object: the paths that are deleted, or with --dry would be, with their bytes.
"""

import fcntl
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path


def measure_disk_usage(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(f.lstat().st_blocks * 512 for f in files if f.is_symlink() or f.is_file())


def find_leftovers(home: Path, shards: set[str]) -> Iterator[Path]:
    yield from (path for path in home.glob("jobs/*/opt-ml") if not path.parent.is_symlink())
    yield from (path for path in home.glob("shards/*") if path.stem not in shards)
    for folder in ("code", "wheels"):
        versions = sorted(
            (p for p in home.glob(f"{folder}/*") if p.suffix not in (".part", ".old")), key=lambda p: p.stat().st_mtime
        )
        yield from versions[:-1]
        yield from (p for p in home.glob(f"{folder}/*") if p.suffix in (".part", ".old"))


def main(home: Path, shards: set[str], dry: bool) -> dict[str, object]:
    home.mkdir(exist_ok=True)
    with (home / "trainer.lock").open("a") as trainer, (home / "data.lock").open("a") as data:
        try:
            for lock in (trainer, data):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return {"busy": True}
        found = [(path, measure_disk_usage(path)) for path in find_leftovers(home, shards)]
        for path, _ in found:
            if not dry and path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif not dry:
                path.unlink()
        return {"busy": False, "gone": [[str(path.relative_to(home)), bytes_] for path, bytes_ in found]}


if __name__ == "__main__":
    arguments = [word for word in sys.argv[1:] if word != "--dry"]
    print(json.dumps(main(Path(arguments[0]).expanduser(), set(arguments[1:]), "--dry" in sys.argv)))

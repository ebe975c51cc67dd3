"""The keys that data.verify found missing or corrupt, stored below .kennel/ until a push sends them again."""

from __future__ import annotations

from ops.core.files import read_json, save_json
from ops.core.paths import WORK


def read(bucket: str) -> set[str]:
    """Return the keys that data.verify found missing or corrupt, and that no push has sent again since."""
    return set(read_json(WORK / "corrupt" / f"{bucket}.json") or [])


def save_keys(bucket: str, keys: set[str]) -> None:
    path = WORK / "corrupt" / f"{bucket}.json"
    if keys:
        save_json(path, sorted(keys))
    else:
        path.unlink(missing_ok=True)

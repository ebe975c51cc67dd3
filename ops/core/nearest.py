"""The nearest known name to one that was mistyped."""

import difflib
from collections.abc import Iterable


def find_nearest(name: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """Return the known name that is most like `name`, or "" if none is as similar as `cutoff` (0 to 1, as difflib counts)."""
    return next(iter(difflib.get_close_matches(name, list(known), n=1, cutoff=cutoff)), "")

"""The versions that callers used before the live one. The description of the alias keeps them, so they change with it in one call.

They form a stack: a deployment puts the version that was live on it, and a roll-back takes off the version that it goes back to with all
above it. So a second roll-back goes further back, and none goes to a version that was refused, or was rolled back before.
"""

from __future__ import annotations

WORDS = "Live before, newest first:"
MOST = 20  # a description has at most 256 characters


def parse_description(description: str) -> tuple[str, ...] | None:
    """Return the versions, newest first; None for an alias that keeps no record, of an older Kennel or made by hand."""
    return tuple(description.removeprefix(WORDS).split()) if description.startswith(WORDS) else None


def format_description(versions: tuple[str, ...]) -> str:
    return " ".join([WORDS, *versions[:MOST]])


def push_version(earlier: tuple[str, ...] | None, live: str | None) -> tuple[str, ...]:
    """Return the versions that were live before, once another takes the place of `live`."""
    return (*([live] if live else []), *(earlier or ()))


def pop_version(earlier: tuple[str, ...], live: str | None, version: str) -> tuple[str, ...]:
    """Return the versions that were live before `version`, once it is live again; one that never was live is pushed."""
    return earlier[earlier.index(version) + 1 :] if version in earlier else push_version(earlier, live)

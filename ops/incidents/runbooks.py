"""The pages of runbooks/, one for each job and each incident."""

from __future__ import annotations

import difflib
from pathlib import Path

from ops.core.errors import OpsError
from ops.core.paths import ROOT

FOLDER = ROOT / "runbooks"


def list_pages() -> dict[str, Path]:
    """Return the pages by name, without their index."""
    return {path.stem: path for path in sorted(FOLDER.glob("*.md")) if path.stem != "README"}


def read_title(path: Path) -> str:
    return next(line.removeprefix("# ") for line in path.read_text().splitlines() if line.startswith("# "))


def find_page(name: str) -> Path:
    """Return the page of this name, with or without .md. Raises OpsError with the nearest name."""
    pages = list_pages()
    found = pages.get(name.removesuffix(".md"))
    if found is None:
        near = difflib.get_close_matches(name, pages, n=1)
        raise OpsError(
            f"There is no runbook {name}."
            + (f" Did you mean {near[0]}?" if near else " List them: invoke runbook.list")
        )
    return found

"""The pages of runbooks/, one for each job and each incident."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ops.core.errors import OpsError
from ops.core.nearest import find_nearest
from ops.core.paths import ROOT

FOLDER = ROOT / "runbooks"
FRONT_MATTER = re.compile(r"\A---\n.*?\n---\n", re.S)


def list_pages() -> dict[str, Path]:
    """Return the pages by name, without their index."""
    return {path.stem: path for path in sorted(FOLDER.glob("*.md")) if path.stem != "README"}


def is_incident(path: Path) -> bool:
    """Return whether a page is about an incident: it begins with its signals, those of planned work do not."""
    return bool(FRONT_MATTER.match(path.read_text(encoding="utf-8")))


def read_title(path: Path) -> str:
    return next(
        line.removeprefix("# ") for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("# ")
    )


def find_page(name: str) -> Path:
    """Return the page of this name, or the only one whose name contains it. Raises OpsError with the nearest names."""
    pages = list_pages()
    wanted = name.removesuffix(".md").lower()
    if wanted in pages:
        return pages[wanted]
    holding = [page for page in pages if wanted and wanted in page]
    if len(holding) == 1:
        return pages[holding[0]]
    if holding:
        raise OpsError(
            f"Several runbooks match {name}: {', '.join(holding)}. Show one: invoke runbook.show {holding[0]}"
        )
    near = find_nearest(wanted, pages)
    hint = f"Did you mean {near}?" if near else f"Search the pages: invoke runbook.find {shlex.quote(name)}"
    raise OpsError(f"There is no runbook {name}. {hint}")


FENCE_ATTRIBUTES = re.compile(r"^(\s*```\w+) \{[^}\n]*\}$", re.M)
COMMAND = re.compile(r"(\$ (?:[A-Z_0-9]+=\S+ )*invoke )(?!-f )")


def render_page(text: str, settings_file: str = "") -> str:
    """Return a page as people read it: without front matter and attributes, with `-f` in its commands if a file is given."""
    shown = FENCE_ATTRIBUTES.sub(r"\1", FRONT_MATTER.sub("", text))
    if not settings_file:
        return shown
    return COMMAND.sub(lambda found: f"{found[1]}-f {shlex.quote(settings_file)} ", shown)


@dataclass(frozen=True)
class Match:
    """A line of a page that contains the words that were searched for. `part` is title, signal or text."""

    page: str
    part: str
    line: str


ERROR = "error: "  # what follows is a regular expression
PARTS = ("title", "signal", "text")


def search_pages(words: str) -> list[Match]:
    """Return the best line of each page with these words in any case: a title before a signal, a signal before other text.

    The words may also be a whole message, which the pattern of a signal `error: PATTERN` describes.
    """
    wanted = " ".join(words.lower().split())
    found = []
    for page, path in list_pages().items():
        lines = list_lines(page, path.read_text(encoding="utf-8"))
        matches = [one for one in lines if wanted in one.line.lower() or is_message_of(one, words)]
        if matches:
            found.append(min(matches, key=lambda one: PARTS.index(one.part)))
    return sorted(found, key=lambda one: PARTS.index(one.part))


def is_message_of(line: Match, words: str) -> bool:
    """Return whether the words hold a message that this signal describes: names and numbers in it are as they may be."""
    pattern = line.line.removeprefix(ERROR)
    return line.part == "signal" and pattern != line.line and bool(re.search(pattern, words, re.I | re.S))


def list_lines(page: str, text: str) -> Iterator[Match]:
    front = match[0] if (match := FRONT_MATTER.match(text)) else ""
    for line in front.splitlines():
        if line.startswith("  - "):
            yield Match(page, "signal", line[4:].strip('"'))
    for line in render_page(text).splitlines():
        yield Match(page, "title" if line.startswith("# ") else "text", line.lstrip("# ").strip())

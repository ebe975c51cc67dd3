"""The layout of a runbook on a terminal: prose is wrapped to its width, commands never are, so that they can be copied."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby

FENCE = re.compile(r"^\s*```")
HEADING = re.compile(r"^#+ ")
LIST_ITEM = re.compile(r"^\s*(?:[-*]|\d+\.) ")
CODE_SPAN = re.compile(r"`[^`]+`")
HELD = "\ue000"  # a private character that stands for a space at which no line may end

FormatTable = Callable[[Sequence[str], list[Sequence[str]]], str]


def layout_page(text: str, width: int, format_table: FormatTable) -> Iterator[tuple[str, bool]]:
    """Yield (line, whether it is a heading) of a page in Markdown. `format_table` lays out columns and rows."""
    fenced = False
    kinds = []
    for line in text.splitlines():
        if FENCE.match(line):
            fenced = not fenced
            kinds.append(("blank", ""))
            continue
        kinds.append(("code" if fenced else find_kind(line), line))
    for kind, found in groupby(kinds, key=lambda pair: pair[0]):
        lines = [line for _, line in found]
        if kind == "heading":
            yield from ((HEADING.sub("", line), True) for line in lines)
        elif kind == "table":
            yield from ((line, False) for line in layout_table(lines, format_table).splitlines())
        elif kind == "prose":
            yield from ((line, False) for part in join_paragraphs(lines) for line in wrap_prose(part, width))
        else:
            yield from ((line, False) for line in (lines if kind == "code" else lines[:1]))


def find_kind(line: str) -> str:
    if HEADING.match(line):
        return "heading"
    return "table" if line.startswith("|") else "prose" if line.strip() else "blank"


def layout_table(lines: Sequence[str], format_table: FormatTable) -> str:
    columns, _, *rows = ([hold_code(cell.strip()) for cell in line.strip().strip("|").split("|")] for line in lines)
    return format_table(columns, list(rows)).replace(HELD, " ")


def join_paragraphs(lines: Sequence[str]) -> list[str]:
    """Join each line to the one before, unless it begins an item of a list; an item keeps its indent."""
    parts: list[str] = []
    for line in lines:
        if parts and not LIST_ITEM.match(line):
            parts[-1] += f" {line.strip()}"
        else:
            parts.append(line.rstrip())
    return parts


def wrap_prose(text: str, width: int) -> list[str]:
    item = LIST_ITEM.match(text)
    indent = " " * (item.end() if item else len(text) - len(text.lstrip()))
    wrapped = textwrap.wrap(
        hold_code(text), width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
    return [line.replace(HELD, " ") for line in wrapped]


def hold_code(text: str) -> str:
    """Return the text with the spaces of its `code` held together."""
    return CODE_SPAN.sub(lambda found: found[0].replace(" ", HELD), text)

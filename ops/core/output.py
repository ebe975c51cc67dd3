"""The output of commands: progress on stderr, results on stdout, tables fitted to the terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from ops.core.text import escape_control_characters


def say(text: str) -> None:
    """Print progress to stderr; results go to stdout."""
    print(escape_control_characters(text), file=sys.stderr, flush=True)


@contextmanager
def show_progress(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show a bar of `total` bytes on a TTY, one line elsewhere. Call what it yields with the number of bytes just moved."""
    if sys.stderr is None or not sys.stderr.isatty():
        say(f"{what}: {total / 1e6:.1f} MB ...")
        yield lambda more: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        bar = bars.add_task(what, total=total)
        yield lambda more: bars.update(bar, advance=more)


def format_table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return the rows as text: full width when piped, the terminal's width on a TTY."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    grid = Table(*columns, box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for row in rows:  # as Text, so that [brackets] are not taken for markup
        grid.add_row(*(Text(escape_control_characters(str(cell))) for cell in row))
    width = None if sys.stdout is not None and sys.stdout.isatty() else 1000
    # Without colour the table has no escape codes of ours, so print_result can escape every control character.
    console = Console(width=width, highlight=False, color_system=None)
    with console.capture() as captured:
        console.print(grid)
    return "\n".join(line.rstrip() for line in captured.get().rstrip().splitlines())

"""The output of commands: progress on stderr, results on stdout, tables fitted to the terminal."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any, TextIO

from ops.core import running
from ops.core.text import escape_control_characters

if TYPE_CHECKING:
    from ops.core.settings import Settings

GREEN, YELLOW, RED = 32, 33, 31
SIGNS = {"+ ": GREEN, "~ ": YELLOW, "- ": RED}  # what a plan adds, changes and removes
STATES = {
    **dict.fromkeys(("ok", "InService", "Completed", "LIVE", "READY"), GREEN),
    **dict.fromkeys(("warning", "medium", "Creating", "Updating", "InProgress", "later"), YELLOW),
    **dict.fromkeys(("FAILED", "Failed", "error", "high", "critical"), RED),
}
CELL = re.compile(rf"(?m)(?:^|(?<=  )|(?<=: ))(?:{'|'.join(STATES)})(?=  |$)")  # a whole cell of a table


def say(text: str) -> None:
    """Print progress to stderr; results go to stdout."""
    print(paint_sign(escape_control_characters(text)), file=sys.stderr, flush=True)


def announce_stack(settings: Settings) -> None:
    """Print, once a command, which stack, account and region it is about to take something from."""
    text = f"Stack {settings.stack.name}, account {settings.aws.account}, region {settings.aws.region}:"
    if running.announced != text:
        running.announced = text
        say(text)


def paint_sign(text: str) -> str:
    """Return a line of a plan with its sign in colour on a TTY."""
    if text[:2] not in SIGNS or not has_colour(sys.stderr):
        return text
    return paint(text[0], SIGNS[text[:2]]) + text[1:]


def paint_states(text: str) -> str:
    """Return a result with the good and bad states of its tables in colour, where stdout is a TTY."""
    return CELL.sub(lambda cell: paint(cell[0], STATES[cell[0]]), text) if has_colour(sys.stdout) else text


def paint(text: str, colour: int) -> str:
    return f"\x1b[{colour}m{text}\x1b[0m"


def format_heading(text: str) -> str:
    """Return a heading for stdout: bold on a TTY."""
    return f"\x1b[1m{text}\x1b[0m" if has_colour(sys.stdout) else text


def has_colour(stream: TextIO | None) -> bool:
    """Report whether a stream is a terminal that shows colours; NO_COLOR and TERM=dumb turn them off."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM", "dumb") == "dumb":
        return False
    return stream is not None and stream.isatty()


@contextmanager
def show_progress(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show a bar of `total` bytes on a TTY, one line elsewhere. Call what it yields with the number of bytes just moved."""
    if not sys.stderr.isatty():
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


@contextmanager
def show_elapsed(what: str) -> Iterator[Callable[[str], None]]:
    """Show a live line `what: state (12 s)` on a TTY while something is waited for. Call what it yields with each state.

    Elsewhere each new state is one line. On a TTY a state becomes a line of its own when the next one begins.
    """
    began, shown = time.monotonic(), ""

    def describe() -> str:
        return escape_control_characters(f"  {what}{shown and f': {shown}'} ({time.monotonic() - began:.0f} s)")

    if not sys.stderr.isatty():

        def print_state(state: str) -> None:
            nonlocal shown
            if state != shown:
                shown = state
                say(describe())

        yield print_state
        return
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    def keep_state(state: str) -> None:
        nonlocal shown
        if shown and state != shown:
            say(describe())
        shown = state

    console = Console(stderr=True)
    # One thread redraws the line; Rich prints what `say` writes above it.
    with Live(
        get_renderable=lambda: Text(describe(), no_wrap=True, overflow="ellipsis"),
        console=console,
        refresh_per_second=2,
        transient=True,
        redirect_stdout=False,
    ):
        yield keep_state
    if shown:
        say(describe())


@contextmanager
def show_work(what: str) -> Iterator[None]:
    """Say what is done on this machine for some seconds: on a TTY with the time elapsed, which a last line keeps."""
    if not sys.stderr.isatty():
        say(f"{what} ...")
        yield
        return
    began = time.monotonic()
    with show_elapsed(what):
        yield
    say(f"{what}: {time.monotonic() - began:.0f} s")


def show_changes(frames: Iterable[tuple[str, str]]) -> None:
    """Draw the first text of each frame over the one before on a TTY; elsewhere print the second, a line, when it has changed."""
    if not sys.stdout.isatty():
        last = ""
        for _, line in frames:
            if line != last:
                print(escape_control_characters(f"{datetime.now():%H:%M:%S}  {line}"), flush=True)
                last = line
        return
    from rich.live import Live
    from rich.text import Text

    with Live(auto_refresh=False) as live:
        for text, _ in frames:
            drawn = f"{text}\n{datetime.now():%H:%M:%S}  Ctrl-C ends."
            live.update(Text(escape_control_characters(drawn)), refresh=True)


def format_table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return the rows as a table: full width when piped; on a TTY wrapped to its width, or in blocks where a word would be cut."""
    cells = [[escape_control_characters(str(cell)) for cell in row] for row in rows]
    if not sys.stdout.isatty():
        return format_grid(columns, cells, 1000)
    import shutil

    text = format_grid(columns, cells, shutil.get_terminal_size().columns)
    shown = set(text.split())
    words = {word for row in [columns, *cells] for cell in row for word in cell.split()}
    return text if words <= shown else format_blocks(columns, cells)


def format_grid(columns: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> str:
    """Return one line a row, with the cells of prose wrapped where `width` asks for it. The last resort of Rich is to cut words."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for number, name in enumerate(columns):
        grid.add_column(name, no_wrap=all(len(row[number].split()) < 2 for row in rows))
    for row in rows:  # as Text, so that [brackets] are not taken for markup
        grid.add_row(*map(Text, row))
    # Without colour the table has no escape codes of ours, so print_result can escape every control character.
    console = Console(width=width, highlight=False, color_system=None)
    with console.capture() as captured:
        console.print(grid)
    return "\n".join(line.rstrip() for line in captured.get().rstrip().splitlines())


def format_blocks(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return one block a row, with a line `column: cell` for each cell that is not empty."""
    blocks = (
        [f"{name}: {cell}" if name else cell for name, cell in zip(columns, row, strict=True) if cell] for row in rows
    )
    return "\n\n".join("\n".join(block) for block in blocks)

"""The runbooks, from the command line: which there are, and one of them on the screen."""

from __future__ import annotations

from pathlib import Path

from invoke import Context

from ops.core.errors import OpsError
from ops.core.output import table
from ops.core.task import Result, task


def pages() -> dict[str, Path]:
    from ops.core.paths import ROOT

    return {path.stem: path for path in sorted((ROOT / "runbooks").glob("*.md")) if path.stem != "README"}


def title(path: Path) -> str:
    return next(line.removeprefix("# ") for line in path.read_text().splitlines() if line.startswith("# "))


@task(help={"json": "Print it as JSON."})
def list(c: Context, json: bool = False) -> Result:
    """List the runbooks: jobs, and what to do when something breaks."""
    found = {name: title(path) for name, path in pages().items()}
    return Result(found, table(("page", "what for"), found.items()))


@task(help={"page": "A page's name, as `runbook.list` shows it."})
def show(c: Context, page: str) -> Result | None:
    """Print one runbook."""
    import sys

    found = pages().get(page.removesuffix(".md"))
    if found is None:
        import difflib

        near = difflib.get_close_matches(page, pages(), n=1)
        raise OpsError(
            f"There is no runbook {page}." + (f" Did you mean {near[0]}?" if near else " invoke runbook.list")
        )
    if not sys.stdout.isatty():
        return Result(found.read_text(), found.read_text())
    from rich.console import Console
    from rich.markdown import Markdown

    Console().print(Markdown(found.read_text()))
    return None

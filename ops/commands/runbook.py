"""The runbooks, from the command line: which there are, and one of them on the screen."""

from __future__ import annotations

from invoke import Context

from ops.core.output import format_table
from ops.core.task import Result, task


@task(help={"json": "Print it as JSON."})
def list(c: Context, json: bool = False) -> Result:
    """List the runbooks: jobs, and what to do when something breaks."""
    from ops.incidents import runbooks

    found = {name: runbooks.read_title(path) for name, path in runbooks.list_pages().items()}
    return Result(found, format_table(("page", "what for"), found.items()))


@task(help={"page": "A page's name, as `runbook.list` shows it."})
def show(c: Context, page: str) -> Result | None:
    """Print one runbook."""
    import sys

    from rich.console import Console
    from rich.markdown import Markdown

    from ops.incidents import runbooks

    text = runbooks.find_page(page).read_text()
    if not sys.stdout.isatty():
        return Result(text, text)
    Console().print(Markdown(text))
    return None

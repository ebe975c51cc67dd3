"""Commands that list and print the runbooks."""

from __future__ import annotations

from invoke import Context

from ops.core.output import format_table
from ops.core.task import Result, task


@task(help={"json": "Print the result as JSON."})
def list(c: Context, json: bool = False) -> Result:
    """List the runbooks, for planned work and for incidents.

    Example: invoke runbook.list
    """
    from ops.incidents import runbooks

    found = {name: runbooks.read_title(path) for name, path in runbooks.list_pages().items()}
    return Result(found, format_table(("page", "title"), found.items()))


@task(help={"page": "Name of a page, as in runbook.list."})
def show(c: Context, page: str) -> Result | None:
    """Print a runbook.

    Example: invoke runbook.show endpoint-5xx
    """
    import sys

    from rich.console import Console
    from rich.markdown import Markdown

    from ops.incidents import runbooks

    text = runbooks.find_page(page).read_text()
    if not sys.stdout.isatty():
        return Result(text, text)
    Console().print(Markdown(text))
    return None

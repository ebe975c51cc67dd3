"""Commands that list and print the runbooks."""

from __future__ import annotations

from invoke import Context

from ops.core.errors import FINDINGS
from ops.core.output import format_heading, format_table
from ops.core.task import Result, task

LINE = 100  # characters of a matching line


@task(help={"json": "Print the result as JSON."})
def list(c: Context, json: bool = False) -> Result:
    """List the runbooks, for planned work and for incidents.

    Example: invoke runbook.list
    """
    from ops.incidents import runbooks

    pages = runbooks.list_pages()
    found = {name: runbooks.read_title(path) for name, path in pages.items()}
    incidents, planned = [
        format_table(
            (kind, "title"), [(name, found[name]) for name in pages if runbooks.is_incident(pages[name]) == wanted]
        )
        for kind, wanted in (("incident", True), ("planned work", False))
    ]
    return Result(found, f"{incidents}\n\n{planned}")


@task(help={"page": "Name of a page as in runbook.list, or a part of it."})
def show(c: Context, page: str) -> Result | None:
    """Print a runbook, with commands ready to paste.

    After -f FILE, the commands on the page have -f FILE too.

    Example: invoke runbook.show endpoint-5xx
    """
    import shutil
    import sys

    from ops.core.settings import find_settings_file
    from ops.incidents import page_layout, runbooks

    text = runbooks.render_page(runbooks.find_page(page).read_text(encoding="utf-8"), str(find_settings_file(c) or ""))
    if not sys.stdout.isatty():
        return Result(text, text)
    for line, is_heading in page_layout.layout_page(text, shutil.get_terminal_size().columns, format_table):
        print(format_heading(line) if is_heading else line)
    return None


@task(help={"words": "Words of an error, an alarm or a title, in quotes.", "json": "Print the result as JSON."})
def find(c: Context, words: str, json: bool = False) -> Result:
    """Find the runbooks for an error message, an alarm or a symptom.

    Exit code 7 if no page contains the words.

    Example: invoke runbook.find "no healthy instance"
    """
    from dataclasses import asdict

    from ops.incidents import runbooks

    found = runbooks.search_pages(words)
    data = [asdict(one) for one in found]
    if not found:
        text = f"No runbook contains {words!r}. Use fewer words, or list the pages: invoke runbook.list"
        return Result(data, text, code=FINDINGS)
    rows = [(one.page, one.part, one.line[:LINE]) for one in found]
    return Result(data, f"{format_table(('page', 'in', 'line'), rows)}\nNext: invoke runbook.show {found[0].page}")

"""Runbooks: each page has its parts, each command on it parses, each task is written about, each link leads somewhere."""

from ops.core.paths import ROOT
from ops.incidents import runbooks
from tests.unit.test_runbooks import PAGES


def test_pages_are_listed_and_shown(make_stack):
    cli = make_stack("pages")
    assert "box-unreachable" in cli("runbook.list").out
    assert cli("runbook.show", "audit").out == (ROOT / "runbooks" / "audit.md").read_text() + "\n"
    assert "Did you mean audit?" in cli("runbook.show", "audt", ok=False).err
    assert len(runbooks.list_pages()) == len(PAGES) - 1

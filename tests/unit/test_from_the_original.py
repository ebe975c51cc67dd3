"""docs/from-the-original.md: a row for each claim and flaw of the project that this one replaces, with commands and tests that exist."""

import ast
import re

import tasks
from ops.core.paths import ROOT

PAGE = (ROOT / "docs/from-the-original.md").read_text()
ROWS = re.findall(r"^\| ([SF]\d+) \| (.+) \| (.+) \| `(\S+)` \|$", PAGE, re.MULTILINE)


def read_test_names(file):
    return {node.name for node in ast.parse((ROOT / file).read_text()).body if isinstance(node, ast.FunctionDef)}


def test_original_has_17_claims_and_19_flaws():
    assert [row[0] for row in ROWS] == [f"S{n}" for n in range(1, 18)] + [f"F{n}" for n in range(1, 20)]


def test_tests_that_hold_a_row_exist():
    named = [row[3].split("::") for row in ROWS]
    assert [f"{file}::{name}" for file, name in named if name not in read_test_names(file)] == []


def test_commands_of_the_original_page_exist():
    """What follows `invoke` in a code span, several commands in a row included."""
    assert [row[0] for row in ROWS if "`invoke " not in row[2]] == []
    spans = re.findall(r"`(invoke [^`]+)`", PAGE)
    named = {
        word for span in spans for word in span.split() if re.fullmatch(r"[a-z0-9]+\.[a-z-]+|doctor|evidence", word)
    }
    assert len(named) > 20
    assert sorted(named - set(tasks.ns.task_names)) == []

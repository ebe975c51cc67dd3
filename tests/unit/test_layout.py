"""What no linter holds: the set of commands, function length, names of files, and requirements that are written twice.

Layers and SDKs are held by import-linter, imports and docstrings by ruff: `make check`.
"""

import ast
import re
import tomllib

import yaml

import tasks
from ops.core.paths import ROOT

PAYLOADS = ("training", "serving", "lambda")
SOURCES = sorted(
    path for folder in ("ops", "iampolicy", "sandbox", "bench", *PAYLOADS) for path in (ROOT / folder).rglob("*.py")
)
LONGEST = 50  # lines of a function


def test_commands_are_those_of_the_golden_file():
    """A command that comes or goes is a change of the interface: edit the list on purpose, with a line in CHANGELOG.md."""
    assert sorted(tasks.ns.task_names) == (ROOT / "tests/golden/commands.txt").read_text().split()


def test_task_names_equal_their_functions():
    for name in tasks.ns.task_names:
        assert tasks.ns[name].body.__name__.replace("_", "-") == name.rpartition(".")[2]


def test_functions_stay_short():
    long = [
        f"{path.relative_to(ROOT)}:{node.lineno}: {node.name} has {node.end_lineno - node.lineno + 1} lines"
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno - node.lineno + 1 > LONGEST
    ]
    assert not long


def test_no_file_is_called_utils():
    assert not [p for p in SOURCES if p.stem in ("utils", "util", "helpers", "common", "constants", "misc", "manager")]


def test_extras_equal_the_requirements_of_the_payloads():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    serving = [line for line in (ROOT / "serving/requirements.txt").read_text().split("\n") if line]
    assert sorted(extras["serve"]) == sorted(serving)
    training = [
        line for line in (ROOT / "training/requirements.txt").read_text().split("\n") if line and line[0] != "#"
    ]
    assert set(training) <= set(extras["train"])


def test_tasks_with_the_same_name_all_run():
    """Invoke drops a task that equals an earlier one, by name and code; ours share their decorator's code."""
    assert yaml.safe_load((ROOT / "invoke.yaml").read_text())["tasks"]["dedupe"] is False


def test_pages_about_the_code_name_existing_files():
    for page in ("CONTRIBUTING.md", "docs/architecture.md"):
        named = re.findall(r"`((?:[a-z_]+/)+[a-z0-9_.-]*)`", (ROOT / page).read_text())  # PLACEHOLDERS are in capitals
        assert len(named) > 8
        assert [name for name in named if not (ROOT / name).exists()] == [], page


def test_case_names_hold_no_bytes(request):
    """Workers that collect tests compare their names, and a gzip body holds the second in which it was made."""
    assert [item.nodeid for item in request.session.items if "\\x" in item.nodeid] == []

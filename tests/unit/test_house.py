"""The house's rules that a machine can hold (shared style: imports, doors, sizes, nothing loaded at list time)."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from ops.core.paths import ROOT

PAYLOADS = ("training", "serving", "lambda")
SOURCES = sorted(
    p for folder in ("ops", "iampolicy", "sandbox", "bench", *PAYLOADS) for p in (ROOT / folder).rglob("*.py")
)


def imports(path: Path, lazy: bool = True) -> set[str]:
    """Full names of what a file imports, not for types alone; without `lazy`, only at its top level."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = [ast.Pass()]
    nodes = ast.walk(tree) if lazy else iter(tree.body)
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def roots(names: set[str]) -> set[str]:
    return {name.split(".")[0] for name in names}


def loaded_by(code: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; {code}; print(*sys.modules)"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.split())


def test_listing_tasks_loads_no_sdk():
    sdks = {"boto3", "botocore", "fabric", "paramiko", "websockets", "rich", "pydantic", "sagemaker"}
    heavy = sdks | {"moto", "asyncssh", "psutil", "torch", "PIL", "sklearn"}
    assert not heavy & loaded_by("import tasks")


def test_listing_tasks_loads_little_beyond_invoke():
    """What bench.cli measures in time, held here by count: every module is a file to find and read."""
    more = loaded_by("import invoke.main, tasks") - loaded_by("import invoke.main")
    assert len({m for m in more if m.split(".")[0] not in ("ops", "iampolicy", "sandbox", "bench", "tasks")}) <= 12, (
        sorted(more)
    )


@pytest.mark.parametrize("folder", PAYLOADS)
def test_payloads_know_nothing_of_the_tools_that_ship_them(folder):
    for path in (ROOT / folder).rglob("*.py"):
        assert not roots(imports(path)) & {"ops", "sandbox", "invoke", "fabric"}
        if folder != "training":
            assert not roots(imports(path)) & {"torch", "torchvision"}


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_rooms_stay_small(path):
    text = path.read_text()
    assert text.count("\n") <= 300
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno - node.lineno < 50, f"{node.name} is {node.end_lineno - node.lineno + 1} lines long"


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_module_says_what_it_is(path):
    assert ast.get_docstring(ast.parse(path.read_text()))
    assert not re.search(r"\b(TODO|FIXME|XXX)\b", path.read_text())


def test_no_file_is_called_utils():
    assert not [p for p in SOURCES if p.stem in ("utils", "util", "helpers", "common", "constants", "misc", "manager")]


def test_the_extras_and_the_payloads_requirements_agree():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    serving = [line for line in (ROOT / "serving/requirements.txt").read_text().split("\n") if line]
    assert sorted(extras["serve"]) == sorted(serving)
    training = [
        line for line in (ROOT / "training/requirements.txt").read_text().split("\n") if line and line[0] != "#"
    ]
    assert set(training) <= set(extras["train"])


def test_every_task_says_what_it_does_in_one_imperative_line():
    import tasks

    for name in tasks.ns.task_names:
        first = (tasks.ns[name].__doc__ or "").strip().splitlines()[0]
        assert first.endswith("."), name
        assert len(first) <= 100, name


def test_tasks_of_one_name_all_run():
    """Invoke drops a task that equals an earlier one, by name and code; ours share their decorator's code."""
    import yaml

    assert yaml.safe_load((ROOT / "invoke.yaml").read_text())["tasks"]["dedupe"] is False

"""The console blocks of README.md, each as written, in a checkout and on a local AWS of its own."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from PIL import Image

from ops.core.paths import ROOT
from tests import in_process

NOT_RUN = {"Next: a real account": "it needs an account on AWS"}
BUILT_ALREADY = "make "  # make installs for minutes, and runs commands that other tests run
LEFT_BEHIND = (
    ".git",
    ".venv*",
    ".sandbox",
    ".kennel",
    "pictures",
    "photos",
    ".*_cache",
    ".hypothesis",
    "__pycache__",
    "*.egg-info",
)


def read_blocks(text: str) -> dict[str, list[str]]:
    """The commands of each heading's console blocks."""
    blocks = {}
    for section in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        lines = [
            line for block in re.findall(r"```console\n(.*?)```", section, re.DOTALL) for line in block.splitlines()
        ]
        commands = [line[2:] for line in lines if line.startswith("$ ")]
        blocks[section.splitlines()[0]] = [line for line in commands if not line.startswith(BUILT_ALREADY)]
    return {heading: commands for heading, commands in blocks.items() if commands}


BLOCKS = read_blocks((ROOT / "README.md").read_text())


@pytest.fixture
def checkout(tmp_path, sandbox):
    """A copy of the checkout as a clone is after `make`, with two classes of photos in it."""
    copy = tmp_path / "kennel"
    shutil.copytree(ROOT, copy, symlinks=True, ignore=shutil.ignore_patterns(*LEFT_BEHIND))
    (copy / ".venv").symlink_to(Path(in_process.interpreter).parent.parent)
    for label, colour in (("ant", 40), ("bee", 200)):
        (copy / "photos" / label).mkdir(parents=True)
        for number in range(20):
            Image.new("RGB", (32, 32), (colour, number * 9, 90)).save(copy / "photos" / label / f"{number}.png")
    yield copy
    run_in(copy, "invoke sandbox.down")


SHORT = {"INVOKE_TRAIN_EPOCHS": "1"}  # what the demo shows is its way through, not a good model
INVOKE = 'invoke() { python -m invoke "$@"; }\n'  # by the interpreter that forks what needs torch
SECONDS = 900.0  # on a machine that other tests keep busy


def run_in(folder: Path, script: str) -> subprocess.CompletedProcess:
    """Run shell commands up to the first that fails, with nothing of this process's stack in their environment."""
    outside = {name: value for name, value in os.environ.items() if not name.startswith(("KENNEL_", "INVOKE_"))}
    path = f"{Path(in_process.interpreter).parent}{os.pathsep}{outside['PATH']}"
    return subprocess.run(
        ["bash", "-ec", INVOKE + script],
        cwd=folder,
        env=outside | SHORT | {"PATH": path},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SECONDS,
    )


def test_excepted_headings_are_in_the_readme():
    assert set(NOT_RUN) < set(BLOCKS)


@pytest.mark.timeout(SECONDS)
@pytest.mark.parametrize("heading", [heading for heading in BLOCKS if heading not in NOT_RUN])
def test_readme_block_runs_as_written(heading, checkout):
    done = run_in(checkout, "\n".join(BLOCKS[heading]))
    assert done.returncode == 0, done.stdout[-4000:]
    if "invoke demo --data pictures" in "\n".join(BLOCKS[heading]):
        [stack] = set(re.findall(r"export (INVOKE_STACK_NAME=pictures[0-9a-f]{6})\n", done.stdout))
        assert "release" in run_in(checkout, f"{stack} invoke sm.releases").stdout

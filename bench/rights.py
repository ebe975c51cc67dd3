"""Whether every action that a role is given is needed: the whole job is run and recorded, and each action taken away, in thought
and, of some drawn by seed, for real.

A run has a folder of its own with a sandbox, a copy of this checkout and what commands keep. A replay is the same run from a copy
whose iam_policies/ lacks one action: it has to break at the step, and by the denial, that the record predicts.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import job
from bench.deeds import DEEDS, Place
from ops import ROOT, digits
from ops.cli import Answer, say, table
from ops.errors import FINDINGS, OpsError

if TYPE_CHECKING:
    from ops.config import Settings

STACK = "rights"
SETTINGS = """\
stack: {{name: {stack}}}
aws: {{config_file: {folder}/sandbox/aws/config}}
train: {{epochs: 1}}
tune: {{batches: [64, 128]}}
"""
LIMIT_S = 600  # for one command; the longest takes a tenth of it
LEFT_OUT = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "shared")


@dataclass
class Run:
    """One run of the job. `marks` says how many lines the record had after each step."""

    folder: Path
    marks: list[int] = field(default_factory=list)

    def prepare(self) -> Place:
        self.folder.mkdir(parents=True)
        shutil.copytree(ROOT, self.folder / "checkout", ignore=LEFT_OUT)
        (self.folder / "settings.yaml").write_text(SETTINGS.format(stack=STACK, folder=self.folder))
        digits.write(self.folder / "digits")
        return self.place

    @property
    def place(self) -> Place:
        return Place(self.folder, loaded(self.folder / "settings.yaml"))

    @property
    def record(self) -> Path:
        return self.folder / "sandbox" / "requests.jsonl"

    def command(self, does: str, more: str = "") -> subprocess.CompletedProcess[str]:
        """A command line in a process of its own, from the copy."""
        words = shlex.split(does.format(folder=self.folder))
        given = dict(word.split("=", 1) for word in words if word.startswith("INVOKE_") and "=" in word)
        file = self.folder / "settings.yaml"
        if more:
            text, file = file.read_text(), self.folder / "more.yaml"
            file.write_text(text + more)
        argv = [sys.executable, "-m", "invoke", "-f", str(file), *words[len(given) :]]
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "INVOKE_"))}
        env = kept | given | {"KENNEL_WORK": str(self.folder / "work")}
        return subprocess.run(
            argv, cwd=self.folder / "checkout", env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, timeout=LIMIT_S, check=False,
        )  # fmt: skip

    def step(self, number: int, step: job.Step) -> str:
        """Carry out one; what went otherwise than it should, or ""."""
        began = time.monotonic()
        wrong = ""
        if step.does.startswith("*"):
            DEEDS[step.does[1:]](self.place)
        else:
            done = self.command(step.does, step.settings)
            if done.returncode != step.code:
                wrong = f"exit {done.returncode} in place of {step.code}: {done.stdout.strip()[-1500:]}"
        self.marks.append(self.record.read_text().count("\n") if self.record.exists() else 0)
        say(f"  {number:3} {time.monotonic() - began:5.1f} s  {step.does} {'FAILED' if wrong else ''}")
        return wrong


def loaded(file: Path) -> Settings:
    import invoke

    from ops import config

    found = invoke.Config(project_location=ROOT, runtime_path=file)
    found.load_project()
    found.load_runtime()
    return config.load(found)

"""One run of the whole job, recorded: a folder with a sandbox of its own, a copy of this checkout, and what commands keep."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from bisect import bisect_right
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import invoke

from ops.core import settings
from ops.core.errors import OpsError
from ops.core.output import say
from ops.core.paths import ROOT
from ops.datasets import digits
from tests.e2e.fault_actions import FAULT_ACTIONS, Place
from tests.e2e.whole_job import Step

Overrides = dict[str, dict[str, Any]]  # by section, by setting

STACK = "rights"
SETTINGS: Overrides = {
    "stack": {"name": STACK},
    "aws": {"config_file": "{folder}/sandbox/aws/config"},
    "train": {"epochs": 1},
    "tune": {"batches": [64, 128]},
}
LEFT_ALONE = re.compile(r"^(\S+) keeps running\. Follow it: ", re.M)  # a training job whose follower was interrupted
LIMIT_S = 600  # for one command; the longest takes a tenth of it
LEFT_OUT = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "shared")


def shipped(folder: Path) -> Path:
    """This checkout as it is now, so that who works on it meanwhile does not change what is run; the pictures beside it."""
    digits.write(folder / "digits")
    return Path(shutil.copytree(ROOT, folder / "shipped", ignore=LEFT_OUT))


@dataclass
class Run:
    """`shipped` is the checkout that is copied. `marks` says how many lines the record had after each step, `job` is the training
    job that was left alone last."""

    folder: Path
    shipped: Path
    marks: list[int] = field(default_factory=list)
    job: str = ""

    def prepare(self) -> None:
        self.folder.mkdir(parents=True)
        shutil.copytree(self.shipped, self.folder / "checkout")
        self.write_settings({})

    @property
    def place(self) -> Place:
        return Place(self.folder, loaded(self.folder / "settings.yaml"))

    @property
    def record(self) -> Path:
        return self.folder / "sandbox" / "requests.jsonl"

    @property
    def kept(self) -> Path:
        return self.folder / "requests.jsonl"

    def write_settings(self, more: Overrides) -> Path:
        """A file with the stack's settings and `more`; JSON is YAML."""
        merged = {name: SETTINGS.get(name, {}) | more.get(name, {}) for name in SETTINGS | more}
        file = self.folder / ("more.yaml" if more else "settings.yaml")
        file.write_text(json.dumps(merged).replace("{folder}", str(self.folder)))
        return file

    def command(self, does: str, more: Overrides | None = None, until: str = "") -> tuple[int, str]:
        """A command line in a process of its own, from the copy; its exit code, and all that it said."""
        removed = next((self.folder / "work" / "iam" / STACK / "removed").glob("*.json"), "")
        values = {"folder": self.folder, "digits": self.shipped.parent / "digits", "bucket": self.place.settings.bucket}
        words = shlex.split(does.format(**values, job=self.job, removed=removed))
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "INVOKE_"))}
        process = subprocess.Popen(
            [sys.executable, "-m", "invoke", "-f", str(self.write_settings(more or {})), *words],
            cwd=self.folder / "checkout", env=kept | {"KENNEL_WORK": str(self.folder / "work")}, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
            preexec_fn=heed_interrupts,
        )  # fmt: skip
        too_long = threading.Timer(LIMIT_S, process.kill)
        too_long.start()
        said = []
        try:
            for line in process.stdout or ():
                said.append(line)
                if until and until in line:
                    process.send_signal(signal.SIGINT)
                    until = ""  # once: a second one would end it while it says goodbye
            return process.wait(), "".join(said)
        finally:
            too_long.cancel()

    def start(self) -> None:
        code, said = self.command("sandbox.up")
        if code:
            raise OpsError(f"The run's local AWS did not start: {said.strip()[-1500:]}")

    def down(self) -> None:
        """The record outlives the sandbox that wrote it."""
        if self.record.exists():
            shutil.copyfile(self.record, self.kept)
        self.command("sandbox.down")

    def step_of(self, line: int) -> int:
        """In which step the record got this line."""
        return bisect_right(self.marks, line)

    def step(self, number: int, step: Step) -> str:
        """Carry out one; what went otherwise than it should, or ""."""
        began = time.monotonic()
        wrong = ""
        if step.does.startswith("*"):
            FAULT_ACTIONS[step.does[1:]](self.place)
        else:
            code, said = self.command(step.does, step.settings, step.until)
            if begun := LEFT_ALONE.search(said):
                self.job = begun[1]
            if code != step.code:
                wrong = f"exit {code} in place of {step.code}: {said.strip()[-1500:]}"
        self.marks.append(self.record.read_text().count("\n") if self.record.exists() else 0)
        end = f"  <- otherwise: {wrong.splitlines()[-1][-120:]}" if wrong else ""
        say(f"  {number:3} {time.monotonic() - began:5.1f} s  {step.does}{end}")
        return wrong


def heed_interrupts() -> None:
    """A shell starts background processes with some signals ignored, and their children inherit that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def loaded(file: Path) -> settings.Settings:
    found = invoke.Config(project_location=ROOT, runtime_path=file)
    found.load_project()
    found.load_runtime()
    return settings.load(found)

"""The locations of the programs that benchmarks compare with, and the commands that install them."""

from __future__ import annotations

import shutil
from pathlib import Path

from ops.core.errors import OpsError
from ops.core.paths import ROOT

VENV = ROOT / ".venv-bench"
INSTALL = "make .venv-bench/.ready"  # the extra `bench` of pyproject.toml, in a venv of its own


def find_in_venv(program: str, benchmark: str, what: str) -> Path:
    """Return the path of a program in .venv-bench. Raises OpsError with the command that installs it."""
    found = VENV / "bin" / program
    if not (VENV / ".ready").exists() or not found.exists():
        raise OpsError(f"{benchmark} needs {what}. Install it: {INSTALL}")
    return found


def find_on_path(benchmark: str, what: str, install: str, *programs: str) -> None:
    """Check that the system's programs are installed. Raises OpsError with the command that installs them."""
    if not all(map(shutil.which, programs)):
        raise OpsError(f"{benchmark} needs {what}. Install it: {install}")

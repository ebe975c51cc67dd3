"""Where the programs lie that benchmarks are measured against, and which command installs each."""

from __future__ import annotations

import shutil
from pathlib import Path

from ops.core.errors import OpsError
from ops.core.paths import ROOT

VENV = ROOT / ".venv-bench"
INSTALL = "make .venv-bench/.ready"  # the extra `bench` of pyproject.toml, in a venv of its own


def find_in_venv(program: str, benchmark: str, what: str) -> Path:
    """Return a program of .venv-bench. Raises OpsError with the command that makes it."""
    found = VENV / "bin" / program
    if not (VENV / ".ready").exists() or not found.exists():
        raise OpsError(f"{benchmark} needs {what}: {INSTALL}")
    return found


def find_on_path(benchmark: str, what: str, install: str, *programs: str) -> None:
    """Check that programs of the system are there. Raises OpsError with the command that installs them."""
    if not all(map(shutil.which, programs)):
        raise OpsError(f"{benchmark} needs {what}: {install}")

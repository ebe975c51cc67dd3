"""The images' environments, cached like Docker's layers: one per requirements.txt and Python version, for all sandboxes."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from ops.core.paths import WORK

LAYERS = WORK / "layers"
HOME = "KENNEL_PIP_HOME"  # in a build's environment: where pip finds its configuration and its cache


class BuildError(Exception):
    """The image cannot be built; the message says why."""


def compute_layer_key(requirements: bytes) -> str:
    return f"py{platform.python_version()}-{hashlib.sha256(requirements).hexdigest()[:16]}"


def ensure_environment(requirements: bytes, folder: Path = LAYERS) -> Path:
    """Return a virtual environment with exactly these requirements installed. Raises BuildError.

    Of two concurrent builds the second waits for the first; a killed build never leaves a folder that counts as complete.
    """
    name = compute_layer_key(requirements)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (folder / name).is_dir():
            print(f" ---> Using cache: {name}")
            return folder / name
        for leftover in folder.glob(f"{name}.part-*"):
            shutil.rmtree(leftover, ignore_errors=True)
        part = Path(tempfile.mkdtemp(prefix=f"{name}.part-", dir=folder))
        try:
            fill_environment(part, requirements)
            rewrite_script_paths(part, folder / name)
            part.rename(folder / name)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    return folder / name


def fill_environment(part: Path, requirements: bytes) -> None:
    env = filter_environment() | {"HOME": os.environ.get(HOME) or os.environ.get("HOME", "")}
    created = subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(part)], env=env, check=False)
    if created.returncode:
        raise BuildError("the virtual environment could not be created; the lines above say why")
    requirements_file = part / "requirements.txt"
    requirements_file.write_bytes(requirements)
    if requirements.strip():
        pip = [sys.executable, "-m", "pip", "--python", str(part / "bin" / "python"), "--disable-pip-version-check"]
        options = ["install", "--no-input", "--progress-bar", "off", "-r", str(requirements_file)]
        if code := subprocess.run([*pip, *options], env=env, check=False).returncode:
            raise BuildError(f"pip install returned a non-zero code: {code}")


def rewrite_script_paths(part: Path, name: Path) -> None:
    """Replace the Python path that scripts begin with, because the environment is moved next."""
    for script in (part / "bin").iterdir():
        if not script.is_symlink():
            text = script.read_bytes()
            with contextlib.suppress(OSError):
                script.write_bytes(text.replace(bytes(part), bytes(name)))


def filter_environment() -> dict[str, str]:
    """Return the build's environment without its keys and without variables that would lead Python to this project."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "AWS_"))}

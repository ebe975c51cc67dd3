"""Install wheels on a host without a package index: `python3 wheels.py SHA256 TARGET`, with a URL on stdin.

The URL is presigned and so a secret until it expires: stdin keeps it out of the process list. Only the standard library
is needed, since boto3, which could read the bucket, is among the wheels.
"""

import contextlib
import hashlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import urllib.request
from pathlib import Path


def install_files(wheels: Path, target: Path) -> None:
    """Install the wheels of one folder into another, without a package index."""
    found = [str(path) for path in sorted(wheels.glob("*.whl"))]
    options = ["--quiet", "--no-index", "--no-deps", "--no-compile", "--disable-pip-version-check"]
    if found:
        subprocess.run([sys.executable, "-m", "pip", "install", *options, "--target", str(target), *found], check=True)


def download_and_install(url: str, sha256: str, target: Path) -> None:
    """Download and install the wheels, unless `target` exists. Raises SystemExit when the SHA-256 differs."""
    if target.is_dir():
        return
    with urllib.request.urlopen(url, timeout=120) as answer:  # noqa: S310  an https URL that the operator signed
        data = answer.read()
    if hashlib.sha256(data).hexdigest() != sha256:
        raise SystemExit("the downloaded wheels are corrupt: their SHA-256 differs")
    part = target.with_name(f"{target.name}.{os.getpid()}.part")
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            tar.extractall(folder, filter="data")
        install_files(Path(folder), part)
    with contextlib.suppress(OSError):  # another process has just done the same
        part.rename(target)
    shutil.rmtree(part, ignore_errors=True)


if __name__ == "__main__":
    download_and_install(sys.stdin.readline().strip(), sys.argv[1], Path(sys.argv[2]))

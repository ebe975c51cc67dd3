"""Open a page in headless Chromium, as a person would from a disk: no network, no server."""

import shutil
import subprocess
from pathlib import Path

import pytest
from PIL import Image

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


def run_chromium(page: Path, folder: Path, *flags: str) -> str:
    """Run Chromium on a file, with a profile in `folder` and every host name unknown; return what it prints."""
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed: apt-get install chromium")
    quiet = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars")
    offline = ("--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={folder / 'profile'}")
    done = subprocess.run(
        [CHROMIUM, *quiet, *offline, *flags, page.as_uri()], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def read_document(page: Path, folder: Path) -> str:
    """Return the document as Chromium has parsed it."""
    return run_chromium(page, folder, "--dump-dom")


def take_screenshot(page: Path, folder: Path, width: int, height: int) -> Image.Image:
    picture = folder / f"screen-{width}.png"
    run_chromium(page, folder, f"--window-size={width},{height}", f"--screenshot={picture}")
    return Image.open(picture).convert("RGB")

"""Download torchvision's published weights of an architecture, for hosts without internet access.

    python weights.py ARCH FOLDER [URL]      prints {"url", "file", "sha256"} as JSON

The file's name ends in the first digits of its SHA-256, resnet18-f37072fd.pth; a file that does not match is deleted.
"""

import hashlib
import json
import re
import sys
from pathlib import Path

import torch

from vision import models


def find_weights_url(arch: str) -> str:
    """Return the URL of torchvision's default weights. Raises ValueError for an architecture that torchvision lacks."""
    if arch not in models.list_models(module=models):
        raise ValueError(f"torchvision has no {arch!r}; it has {', '.join(models.list_models(module=models))}")
    url: str = models.get_model_weights(arch).DEFAULT.url
    return url


def download_weights(url: str, folder: Path) -> Path:
    """Download the file once. Raises ValueError for a name without a hash, RuntimeError if it does not match."""
    name = url.rsplit("/", 1)[-1]
    hashed = re.fullmatch(r"[\w.-]+-([0-9a-f]{8,64})\.pth", name)
    if hashed is None:
        raise ValueError(f"The name {name} must end in the first digits of its SHA-256, as in resnet18-f37072fd.pth")
    path = folder / name
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(path), hash_prefix=hashed[1], progress=sys.stderr.isatty())
    return path


def main(arch: str, folder: Path, url: str) -> None:
    path = download_weights(url or find_weights_url(arch), folder)
    sha = hashlib.sha256(path.read_bytes()).hexdigest()
    print(json.dumps({"url": url or find_weights_url(arch), "file": str(path), "sha256": sha}))


if __name__ == "__main__":
    try:
        main(sys.argv[1], Path(sys.argv[2]), sys.argv[3] if len(sys.argv) > 3 else "")
    except (ValueError, RuntimeError, OSError) as error:
        sys.exit(str(error))

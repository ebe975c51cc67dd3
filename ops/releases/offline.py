"""A trained model's own answers to the whole test split: no endpoint, no ONNX, no network in between."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from ops.core.aws.account import Account
from ops.core.errors import OpsError
from ops.core.files import write_atomically
from ops.core.paths import ROOT, WORK
from ops.datasets.manifest import read_current
from ops.releases import build

DATA = WORK / "datasets"


def evaluate(account: Account, job: str) -> dict[str, Any]:
    """{"accuracy", "pictures", "answers": {picture: class}} by training/evaluate.py. Raises OpsError when it fails."""
    argv = [
        sys.executable,
        str(ROOT / "training" / "evaluate.py"),
        str(build.fetch(account, job)),
        str(data(account)),
    ]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OpsError(f"The model of {job} could not be evaluated: {(done.stderr.strip().splitlines() or ['?'])[-1]}")
    return json.loads(done.stdout)


def data(account: Account) -> Path:
    """The current data set's shards and manifest, below .kennel/datasets; what is there already is not fetched again."""
    manifest = read_current(account)
    folder = DATA / manifest.digest[:12]
    for key in manifest.keys:
        path = folder / key
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, account.bucket.get(key))
    return folder

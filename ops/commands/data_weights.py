"""torchvision's published weights, from the internet to the bucket: neither the box nor a job reaches further than that."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from ops.core.aws.account import Account
from ops.core.errors import OpsError
from ops.core.output import say
from ops.core.paths import ROOT, WORK
from ops.core.task import Result, task

FOLDER = WORK / "weights"


@task(
    help={
        "arch": "An architecture of torchvision's, as train.arch names it.",
        "url": "Another address; the file's name must carry the first digits of its SHA-256, as torchvision's do.",
    }
)
def weights(c, arch, url=""):
    """Stage torchvision's published weights in the bucket, for train.weights: imagenet."""
    from ops.datasets import pretrained as staged

    account = Account.from_context(c)
    if c.config.run.dry:
        return Result(
            {"arch": arch}, f"torchvision's weights of {arch} would be put in s3://{account.settings.bucket}/weights/."
        )
    account.guard()
    file = fetched(arch, url)
    found = staged.publish(account, arch, file)
    text = f"{arch}: {found.name}, SHA-256 {found.sha256[:12]}, is in the bucket. Next: train.weights: imagenet, then invoke sm.train"
    return Result({"arch": arch, "key": found.key, "sha256": found.sha256}, text, changes=1)


def fetched(arch: str, url: str) -> Path:
    """The file below .kennel/weights, by training/weights.py, which knows torchvision. Raises OpsError."""
    say(f"Fetching the weights of {arch} ...")
    argv = [sys.executable, str(ROOT / "training" / "weights.py"), arch, str(FOLDER), url]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        hint = " pip install -e '.[train]'" if "ModuleNotFoundError" in last else ""
        raise OpsError(f"The weights of {arch} were not fetched: {last}{hint}")
    return Path(json.loads(done.stdout)["file"])

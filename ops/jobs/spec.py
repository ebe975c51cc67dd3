"""The specification of a training job on the box or SageMaker: code, wheels, settings, and the name derived from them."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ops.core.aws.account import Account
from ops.core.errors import OpsError
from ops.core.files import compute_folder_digest, list_files
from ops.core.output import say, show_work
from ops.core.paths import ROOT, WORK
from ops.core.settings import Settings
from ops.datasets import pretrained
from ops.datasets.manifest import Manifest, read_current

TRAINING = ROOT / "training"
WHEELS = WORK / "wheels"
ATTEMPTS = 99  # at one job; its names must stay below 64 characters


@dataclass(frozen=True)
class TrainingSpec:
    """The specification of one training. The same data, code, settings and number of hosts give the same `name` and artefact."""

    name: str
    data: Manifest
    code: str
    hyperparameters: dict[str, str]
    weights: pretrained.Weights | None = None

    def artefact(self, attempt: str) -> str:
        """Return the key of model.tar.gz, by SageMaker's own scheme, which the box follows."""
        return f"jobs/{attempt}/output/model.tar.gz"

    def attempt(self, number: int) -> str:
        """Return the attempt's name. A name that failed cannot be used again, so later attempts are numbered."""
        return self.name if number == 1 else f"{self.name}-{number}"

    def attempts(self) -> list[str]:
        return [self.attempt(number) for number in range(1, ATTEMPTS + 1)]


def build_spec_from_settings(
    account: Account,
    place: str,
    hosts: int = 1,
    chosen: dict[str, str] | None = None,
    data: Manifest | None = None,
) -> TrainingSpec:
    """Return the training that the settings describe, with the hyperparameters in `chosen` replaced, on the current dataset
    unless `data` is given. Raises OpsError."""
    manifest = data or read_current(account)
    return build_spec(account.settings, manifest, place, hosts, pretrained.find_chosen_weights(account), chosen)


def build_spec(
    settings: Settings,
    data: Manifest,
    place: str,
    hosts: int = 1,
    start: pretrained.Weights | None = None,
    chosen: dict[str, str] | None = None,
) -> TrainingSpec:
    """Return the training, named by a digest of everything that determines its result. `place` is box or sm."""
    train = settings.train
    hyperparameters = train.hyperparameters() | {"weights": start.sha256 if start else pretrained.NONE} | (chosen or {})
    if hosts < 1:
        raise OpsError("--instances must be at least 1. Nothing was started.")
    code = compute_folder_digest(TRAINING)
    content = json.dumps(
        # Another image, or a type with more GPUs, makes another job: its result differs in the last bits.
        [
            data.digest,
            code,
            hyperparameters,
            *((settings.training_image, train.instance_type) if place == "sm" else ("",)),
        ],
        sort_keys=True,
    )
    digest = hashlib.sha256(content.encode()).hexdigest()[:8]
    return TrainingSpec(f"{settings.prefix}-{place}{hosts}-{digest}", data, code, hyperparameters, start)


def read_commit() -> str:
    """Return the checkout's commit, with -dirty when files differ from it; "unknown" outside git."""
    described = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=12"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return described.stdout.strip() or "unknown"


def download_wheels(settings: Settings, requirements: str = "requirements.txt") -> list[Path]:
    """Return the wheels that a job installs; pip downloads them once for each list and platform. Raises OpsError when it fails."""
    wanted = "".join((TRAINING / name).read_text() for name in ("requirements.txt", requirements))
    key = hashlib.sha256(f"{wanted}|{settings.train.platform}|{sys.version_info[:2]}".encode()).hexdigest()[:12]
    folder = WHEELS / key
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=f"{key}-", dir=folder.parent))
        where = ["--platform", settings.train.platform] if settings.train.platform else []
        argv = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--disable-pip-version-check",
            "--only-binary=:all:",
            *where,
        ]
        argv += ["--dest", str(part), "-r", str(TRAINING / requirements)]
        with show_work(f"Downloading the wheels of training/{requirements}"):
            done = subprocess.run(argv, capture_output=True, text=True, check=False)
        if done.returncode:
            raise OpsError(
                f"pip could not download the packages in training/{requirements}:\n{done.stderr.strip()[-800:]}"
            )
        with suppress(OSError):  # another command has just downloaded the same
            part.rename(folder)
        shutil.rmtree(part, ignore_errors=True)
    return sorted(folder.glob("*.whl"))


def list_code_files(extra: list[Path]) -> list[tuple[str, Path]]:
    """Return (name in the code folder, file) of training/ and the wheels beside it, without the lists that the wheels come from.

    SageMaker's toolkit, which starts the trials of a tuning job, would pip-install a requirements.txt from the internet.
    """
    own = [(path.relative_to(TRAINING).as_posix(), path) for path in list_files(TRAINING) if path.suffix != ".txt"]
    return own + [(f"wheels/{path.name}", path) for path in extra]


def send_code(account: Account, spec: TrainingSpec) -> str:
    """Send the code's missing files below code/DIGEST/ in the bucket, and the initial weights; return the prefix."""
    if spec.weights:
        pretrained.stage_weights(account, spec.weights)
    files = list_code_files(download_wheels(account.settings))
    digest = hashlib.sha256("".join([spec.code, *(name for name, _ in files)]).encode()).hexdigest()[:12]
    prefix, bucket = f"code/{digest}/", account.bucket
    existing = set(bucket.keys(prefix))
    if len(existing) < len(files):
        say(f"Sending the code to s3://{bucket.name}/{prefix} ...")
    for name, path in files:
        if prefix + name not in existing:
            bucket.put(prefix + name, path.read_bytes())
    return prefix

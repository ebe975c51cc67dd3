"""A trained model's folder: unpack the job's model.tar.gz, and read its files as untrusted input.

Older models lack some of the files, and a run that diverged holds NaN.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ops.core import pricing
from ops.core.aws.account import Account
from ops.core.errors import OpsError
from ops.core.files import extract_tar
from ops.core.paths import WORK
from ops.jobs import follow
from ops.jobs.training_jobs import build_missing_job_error
from ops.releases.records import parse_value

MODELS = WORK / "models"


def derive_artefact_key(job: str) -> str:
    return f"jobs/{job}/output/model.tar.gz"


def read_model_tag(account: Account, job: str) -> str | None:
    """Return S3's ETag of the job's model.tar.gz, None without one: another ETag is another model."""
    found = account.bucket.head(derive_artefact_key(job))
    return found["ETag"].strip('"') if found else None


def name_training_command(job: str) -> str:
    """Return the command that trains a job of this name again: on the box, or on its number of hosts."""
    if re.search(r"-box\d", job):
        return "invoke ec2.train --again"
    hosts = re.search(r"-sm(\d+)-", job)
    return "invoke sm.train --again" + (f" --instances {hosts[1]}" if hosts and hosts[1] != "1" else "")


def fetch_model(account: Account, job: str) -> Path:
    """Return the job's model.tar.gz, unpacked below .kennel/models. Raises OpsError when the job left none."""
    key, tag = derive_artefact_key(job), read_model_tag(account, job)
    if tag is None:
        if not job.startswith(f"{account.settings.prefix}-") or not account.bucket.keys(f"jobs/{job}/"):
            raise build_missing_job_error(account, job)
        raise OpsError(
            f"There is no model of {job}: s3://{account.bucket.name}/{key} is missing. Train it again: {name_training_command(job)}. "
            "See: invoke runbook.show artefact-missing"
        )
    folder = MODELS / f"{job}-{tag[:12]}"
    return folder if folder.is_dir() else extract_tar(account.bucket.get(key), folder)


@dataclass(frozen=True)
class SplitFigures:
    """The figures that the trained model reached on the test split; the loss is in nats."""

    accuracy: float
    loss: float
    pictures: int


@dataclass(frozen=True)
class LedgerFigures:
    """The figures of the ledger: how many processes trained together, and how many pictures were repeated per epoch to fill the last batch."""

    processes: int
    padding: int


@dataclass(frozen=True)
class TrainingResult:
    """The result of a training job that completed. `test` holds the metrics of the test split, `ledger` all but its passes."""

    job: str
    artefact: str
    test: dict[str, Any]
    best_epoch: int | None
    ledger: dict[str, Any]
    seconds: int | None
    dollars: float | None  # None when ops/core/pricing.toml has no price


def read_training_result(account: Account, described: dict[str, Any]) -> TrainingResult:
    """Read the result of a completed job out of its model, and its time and cost out of AWS's description."""
    name = described["TrainingJobName"]
    folder = fetch_model(account, name)
    lines, _ = read_json_lines(folder / "metrics.jsonl")
    last = lines[-1] if lines else {}
    ledger = read_json_object(folder / "ledger.json") or {}
    return TrainingResult(
        job=name,
        artefact=described["ModelArtifacts"]["S3ModelArtifacts"],
        test=last.get("test", {}),
        best_epoch=last.get("best_epoch"),
        ledger={key: value for key, value in ledger.items() if key != "passes"},
        seconds=described.get("TrainingTimeInSeconds"),
        dollars=pricing.round_price(follow.compute_job_cost(described), 4),
    )


def describe_result(found: TrainingResult, described: dict[str, Any]) -> str:
    """Return the result as sentences. Raises OpsError when fewer processes trained together than there were hosts."""
    hosts = described["ResourceConfig"]["InstanceCount"]
    test = parse_value(SplitFigures, found.test, f"metrics.jsonl of {found.job}")
    counted = parse_value(LedgerFigures, found.ledger, f"ledger.json of {found.job}")
    if counted.processes < hosts:
        raise OpsError(
            f"{found.job} had {hosts} hosts, but its ledger names fewer processes: each may have trained alone. "
            f"Read its log: invoke sm.logs --job {found.job}"
        )
    padding = counted.padding
    cost = "?" if found.dollars is None else f"{found.dollars:.4f}"
    proof = "each picture was used once per epoch" + (
        f" ({padding} repeated to fill the last batch)" if padding else ""
    )
    saving = follow.describe_spot_saving(described)
    return (
        f"{found.job}: Completed. Test accuracy {test.accuracy:.4f}, loss {test.loss:.4f} on {test.pictures} pictures; "
        f"{proof}; ${cost}.{saving and f' {saving}'}\n"
        f"Next: invoke sm.report {found.job}   then: invoke sm.deploy --job {found.job}"
    )


def read_json_object(path: Path) -> dict[str, Any] | None:
    """Return the file's JSON object; None when the file is missing or holds something else."""
    try:
        found = json.loads(path.read_text(errors="replace"))
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def read_json_lines(path: Path) -> tuple[list[dict[str, Any]], int]:
    """Return the file's JSON objects, one per line, and how many lines are corrupt."""
    if not path.is_file():
        return [], 0
    found, corrupt = [], 0
    for line in path.read_text(errors="replace").split("\n"):  # not splitlines: a name may contain U+2028
        try:
            value = json.loads(line) if line.strip() else None
        except (ValueError, RecursionError):
            value = ()
        if isinstance(value, dict):
            found.append(value)
        elif value is not None:
            corrupt += 1
    return found, corrupt


def read_number(value: Any, *path: str) -> float:
    """Return the number below these keys; NaN when it is missing or not a number."""
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    try:
        return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
    except OverflowError:  # JSON's integers have no limit
        return math.nan

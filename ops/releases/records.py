"""The records of a release and of its deployments: JSON from the bucket or from an archive, validated where it enters."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from ops.core.errors import OpsError
from ops.releases.load_test import LoadTestResult

LIVE, UNFINISHED = "live", "unfinished"
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]  # it names keys and folders
R = TypeVar("R")


class Record(BaseModel):
    """The base of all records, which ignores unknown keys: a newer Kennel may write more than are read here."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class SplitMetrics(Record):
    """The metrics of the test split. `precision` counts how often bf16 gave the same answer as fp32, where that was tested.

    `recall` is by class, None for a class without test pictures.
    """

    accuracy: float
    pictures: int
    recall: dict[str, float | None] = {}
    precision: dict[str, Any] | None = None


class CardMetrics(Record):
    test: SplitMetrics


class ModelCard(Record):
    """The model.json of a trained model. `data` is the digest of the dataset that it was trained and tested on."""

    data: str


class ReleaseCard(ModelCard):
    """The model.json of a release: the part of what training/train.py wrote about the model that a release needs."""

    classes: list[str]
    metrics: CardMetrics
    commit: str = "unknown"


class Precisions(Record):
    """The release.json of a release: the precisions it was tested for."""

    precisions: list[str]


class ReleaseSummary(Record):
    """The about.json of a release: what the gate, `sm.releases` and `sm.capacity` need without fetching the whole release.

    `tar` is the release's SHA-256 as S3 writes it, `data` the digest of the dataset it was trained and tested on.
    """

    digest: Digest
    job: str
    tar: str
    classes: list[str]
    accuracy: float
    pictures: int
    data: str
    commit: str
    precisions: list[str]
    evidence: dict[str, Any] | None = None
    recall: dict[str, float | None] = {}
    measured: LoadTestResult | None = None


class JobRelease(Record):
    """The jobs/JOB/release.json: which release was built from a job's model, by which code (`packaging`), from which model.tar.gz."""

    digest: Digest
    tar: str | None = None
    packaging: str = ""
    model: str | None = None


class DeploymentNote(Record):
    """The deployments/AT-CONFIG.json: one deployment. `scaled`: this deployment, or an earlier unfinished one, deregistered the scaling."""

    at: str
    release: str
    config: str
    job: str
    by: str
    because: str
    findings: list[str] = []
    rollback: bool = False
    scaled: bool = False
    outcome: str = UNFINISHED


def parse(record: type[R], data: bytes, place: str) -> R:
    """Parse a record from JSON. Raises OpsError that names the place and what is wrong."""
    with translate_validation_error(place):
        return TypeAdapter(record).validate_json(data)


def parse_value(record: type[R], value: Any, place: str) -> R:
    """Validate a record that is already parsed from JSON. Raises OpsError as `parse` does."""
    with translate_validation_error(place):
        return TypeAdapter(record).validate_python(value)


@contextmanager
def translate_validation_error(place: str) -> Iterator[None]:
    try:
        yield
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise OpsError(f"{place} cannot be used: {f'{where}: ' if where else ''}{first['msg']}.") from error

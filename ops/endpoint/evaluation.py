"""Evaluate a model on pictures whose class is known: the trained model itself on this machine, or the live endpoint."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ops.core.aws.account import Account
from ops.core.errors import OpsError
from ops.core.output import say, show_work
from ops.core.paths import ROOT
from ops.datasets import local_shards, samples
from ops.datasets.manifest import Manifest, read_current, read_pointer
from ops.endpoint import probe
from ops.releases import history, release_samples
from ops.releases.gate import Pairs, count_pairs
from ops.releases.records import ModelCard, ReleaseSummary, parse
from ops.releases.trained_model import fetch_model

SIGMAS = 3.0  # standard errors that a sample may be too low: by chance alone, one sample in 700 is


@dataclass(frozen=True)
class ModelEvaluation:
    """The predictions of a trained model itself for the whole test split: the predicted class, by picture."""

    accuracy: float
    pictures: int
    answers: dict[str, str]


def evaluate_model(account: Account, job: str) -> ModelEvaluation:
    """Evaluate the trained model itself, without endpoint, ONNX and network, on the dataset that its job was split for.

    Raises OpsError when that dataset is missing, or the evaluation fails.
    """
    model = fetch_model(account, job)
    dataset = read_own_dataset(account, job, model)
    folders = (str(model), str(local_shards.fetch_dataset(account, dataset)))
    argv = [sys.executable, str(ROOT / "training" / "evaluate.py"), *folders]
    with show_work(f"Evaluating the model of {job}"):
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OpsError(
            f"The model of {job} could not be evaluated: {(done.stderr.strip().splitlines() or ['it printed no error'])[-1]}"
        )
    found = json.loads(done.stdout)
    return ModelEvaluation(found["accuracy"], found["pictures"], found["answers"])


def read_own_dataset(account: Account, job: str, model: Path) -> Manifest:
    """Return the dataset that a model was trained and tested on, and say so when it is not the current one. Raises OpsError."""
    card = parse(ModelCard, (model / "model.json").read_bytes(), f"model.json of {job}")
    dataset = release_samples.read_tested_manifest(account, card.data, f"The model of {job}")
    current = read_pointer(account, account.settings.data.name)
    if card.data != current:
        say(
            f"{job} is evaluated on its own dataset {card.data[:12]}, and not on the current one, {current[:12] or 'none'}."
        )
    return dataset


def pair_answers(account: Account, new: ReleaseSummary, other: ReleaseSummary) -> Pairs | None:
    """Compare the trained models of two releases on each test picture of their dataset; None, with the reason printed, where it fails."""
    try:
        dataset = read_current(account)
        if {new.data, other.data} != {dataset.digest}:
            raise OpsError(
                f"their dataset {new.data[:12]} is not the current one. Make it current: invoke data.use {new.data[:12]}; "
                f"then run again: invoke sm.deploy --job {new.job}"
            )
        ours, theirs = (evaluate_model(account, summary.job).answers for summary in (new, other))
        truth = {path: label for label, path, _ in release_samples.list_test_pictures(dataset)}
        pairs = count_pairs(truth, ours, theirs)
        if pairs.pictures < len(truth) or not truth:
            raise OpsError(
                f"only {pairs.pictures} of {len(truth)} test pictures have an answer of both. Check the dataset: invoke data.verify"
            )
    except OpsError as error:
        say(f"The two models cannot be compared picture by picture: {error}")
        return None
    say(f"Release {new.digest[:12]} against {other.digest[:12]}: {pairs}.")
    return pairs


@dataclass(frozen=True)
class EndpointEvaluation:
    """The answers that the endpoint gave to a sample of the test split. `wrong` holds sentences on what is worse than expected."""

    config: str
    right: int
    pictures: int
    accuracy: float
    wrong: list[str]
    answers: list[dict[str, str]]


def evaluate_endpoint(account: Account, count: int, seed: int) -> EndpointEvaluation:
    """Send test pictures to the endpoint, and compare with the test results of its own release and of the one before.

    The pictures are of the dataset that its own release was tested on. Raises OpsError when that is missing.
    """
    config = probe.require_endpoint(account)["EndpointConfigName"]
    if count < 1:
        raise OpsError(f"--live must be at least 1, not {count}.")
    own = release_samples.require_live_summary(account)
    dataset = release_samples.read_release_manifest(account, own)
    drawn = samples.draw_manifest_samples(dataset, count, seed)
    if not drawn:
        raise OpsError("The test split has no pictures. Push some: invoke data.push --dir DIR")
    say(f"Sending {len(drawn)} test pictures to {account.settings.endpoint_name} ...")
    pictures = samples.unpack_pictures(account, {sample.shard for sample in drawn})
    answers = [
        {"picture": one.name, "truth": one.label, "answer": probe.invoke_once(account, pictures[one.name])["best"]}
        for one in drawn
    ]
    right = sum(one["truth"] == one["answer"] for one in answers)
    expected = list_expected_releases(account, config, own, dataset)
    wrong = findings(right, len(drawn), account.settings.endpoint.worse_at_most, expected)
    return EndpointEvaluation(config, right, len(drawn), right / len(drawn), list(wrong), answers)


def list_expected_releases(
    account: Account, config: str, own: ReleaseSummary, dataset: Manifest
) -> Iterator[tuple[str, ReleaseSummary]]:
    """Yield (phrase, summary) of the releases that the endpoint is compared with: its own, and the one that was live before.

    The earlier one is left out when it was tested on other pictures: its accuracy says nothing about these.
    """
    yield "its own release", own
    before = history.find_rollback_target(history.read_notes(account), config)
    other = release_samples.find_release_summary(account, before.config) if before else None
    if other and was_tested_on(account, other, dataset):
        yield "the release before it", other


def was_tested_on(account: Account, summary: ReleaseSummary, dataset: Manifest) -> bool:
    """Return whether a release was tested on the same pictures as this dataset has, and say so when it was not."""
    if summary.data == dataset.digest:
        return True
    try:
        theirs = release_samples.read_release_manifest(account, summary)
    except OpsError:
        theirs = None
    if theirs and release_samples.have_same_tests(theirs, dataset):
        return True
    say(
        f"The release before it, {summary.digest[:12]}, was tested on other pictures (dataset {summary.data[:12]}): not compared."
    )
    return False


def findings(right: int, count: int, margin: float, expected: Iterable[tuple[str, ReleaseSummary]]) -> Iterator[str]:
    """Yield a sentence for each accuracy that the sample is below by more than the margin and what chance explains."""
    for whose, summary in expected:
        accuracy = summary.accuracy
        chance = SIGMAS * math.sqrt(accuracy * (1 - accuracy) / count)
        if right / count < accuracy - margin - chance:
            yield f"That is lower than the test accuracy of {whose}, {accuracy:.4f}. Roll back: invoke sm.rollback"

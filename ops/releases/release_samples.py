"""Test pictures of the live release: an endpoint is measured on the dataset that its own release was tested on."""

from __future__ import annotations

from collections import Counter

from ops.core.aws.account import Account
from ops.core.errors import OpsError
from ops.datasets import manifest
from ops.datasets.manifest import CorruptDatasetError, Manifest
from ops.datasets.samples import Sample, draw_manifest_samples
from ops.releases import build, history
from ops.releases.records import ReleaseSummary


def parse_short_digest(account: Account, config: str) -> str:
    """Return the first digits of a release's digest, which a config's name contains."""
    return config.removeprefix(account.settings.prefix + "-").split("-")[0]


def find_release_summary(account: Account, config: str) -> ReleaseSummary | None:
    """Return the summary of the release whose digest a config's name contains; None when that release is not stored."""
    short = parse_short_digest(account, config)
    found = [digest for digest in build.list_release_digests(account) if digest.startswith(short)]
    return build.read_summary(account, found[0]) if found else None


def require_live_summary(account: Account) -> ReleaseSummary:
    """Return the summary of the live release. Raises OpsError without an endpoint, or when the summary is missing."""
    name = account.settings.endpoint_name
    found = account.call_or_none("sagemaker", "describe_endpoint", "Could not find", EndpointName=name)
    if found is None:
        raise OpsError(f"There is no endpoint {name}. Deploy one: invoke sm.deploy")
    config = found["EndpointConfigName"]
    summary = find_release_summary(account, config)
    if summary is None:
        job = next((note.job for note in history.read_notes(account) if note.config == config), "JOB")
        raise OpsError(
            f"The metadata of the live release {parse_short_digest(account, config)} is missing, so its dataset is unknown. "
            f"Run its preflight again: invoke sm.preflight --job {job}"
        )
    return summary


def read_release_manifest(account: Account, summary: ReleaseSummary) -> Manifest:
    """Return the dataset that a release was tested on. Raises OpsError that names it and the current one when it is missing."""
    return read_tested_manifest(account, summary.data, f"Release {summary.digest[:12]}")


def read_tested_manifest(account: Account, digest: str, subject: str) -> Manifest:
    """Return the dataset with this digest, which `subject` (a release, a model) was tested on. Raises OpsError as above."""
    end = f"/{digest}/manifest.json"
    key = next((key for key in account.bucket.keys("datasets/") if key.endswith(end)), "")
    try:
        if key:
            return manifest.read_manifest(account, digest, key.split("/")[1])
    except CorruptDatasetError as error:
        if error.state != "missing":
            raise
    current = manifest.read_pointer(account, account.settings.data.name)
    raise OpsError(
        f"{subject} was tested on dataset {digest[:12]}, which is missing; "
        f"the current dataset is {current[:12] or 'missing too'}, whose pictures say nothing about it. "
        "Push that dataset again: invoke data.push --dir DIR"
    )


def draw_live_samples(account: Account, count: int, seed: int) -> list[Sample]:
    """Return `count` pictures of the test split that the live release was tested on, drawn by seed. Raises OpsError."""
    return draw_manifest_samples(read_release_manifest(account, require_live_summary(account)), count, seed)


def count_test_pictures(account: Account, summary: ReleaseSummary) -> dict[str, int]:
    """Return the test pictures by class of the dataset that a release was tested on; empty when that is missing."""
    try:
        dataset = read_release_manifest(account, summary)
    except OpsError:
        return {}
    return Counter(shard.label for shard in dataset.shards if shard.split == "test" for _ in shard.files)


def have_same_tests(one: Manifest, other: Manifest) -> bool:
    """Return whether two datasets have the same test pictures, with the same classes."""
    return list_test_pictures(one) == list_test_pictures(other)


def list_test_pictures(dataset: Manifest) -> set[tuple[str, str, str]]:
    return {
        (shard.label, file.path, file.sha256)
        for shard in dataset.shards
        if shard.split == "test"
        for file in shard.files
    }

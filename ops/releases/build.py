"""Make a release of a trained model: fetch, package and upload it; and find the releases that are stored in the bucket."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from ops.core.aws.account import Account
from ops.core.errors import STOPPED, OpsError
from ops.core.files import build_tar, compute_folder_digest, extract_tar, list_files
from ops.core.output import show_work
from ops.core.paths import ROOT, WORK
from ops.releases.load_test import LoadTestResult
from ops.releases.records import JobRelease, Precisions, ReleaseCard, ReleaseSummary, parse
from ops.releases.trained_model import fetch_model, read_model_tag

RELEASES = WORK / "releases"


@dataclass(frozen=True)
class Release:
    """A packaged model. `digest` is over its files and the precisions it was tested for; `key` is its tar in the bucket."""

    digest: str
    job: str

    @property
    def short(self) -> str:
        return self.digest[:12]

    @property
    def key(self) -> str:
        return f"releases/{self.digest}/model.tar.gz"

    @property
    def summary_key(self) -> str:
        """Return the key of its ReleaseSummary."""
        return f"releases/{self.digest}/about.json"

    @property
    def folder(self) -> Path:
        return RELEASES / self.digest


def compute_packaging_digest() -> str:
    """Return the digest of the code that packages: a note of a job's release is valid only for the same code."""
    return compute_folder_digest(ROOT / "training")


def derive_job_release_key(job: str) -> str:
    return f"jobs/{job}/release.json"


def find_job_release(account: Account, job: str) -> Release | None:
    """Return the release that was built from this job before, if its tar is still in the bucket, unchanged."""
    key = derive_job_release_key(job)
    data = account.bucket.get_object_or_none(key)
    if data is None:
        return None
    note = parse(JobRelease, data, f"s3://{account.bucket.name}/{key}")
    if note.packaging != compute_packaging_digest() or note.model != read_model_tag(account, job):
        return None
    release = Release(note.digest, job)
    return release if is_whole(account, release, note.tar) else None


def is_whole(account: Account, release: Release, tar: str | None) -> bool:
    """Return whether its tar is in the bucket, unchanged: `tar` is its SHA-256 as S3 writes it."""
    there = account.bucket.checksum(release.key)
    return there is not None and there == tar


def package_model(account: Account, job: str) -> Release:
    """Package a job's model below .kennel/releases with training/export.py, which needs torch. Raises OpsError."""
    part = RELEASES / f"{job}.part"
    shutil.rmtree(part, ignore_errors=True)
    argv = [sys.executable, str(ROOT / "training" / "export.py"), str(fetch_model(account, job)), str(part)]
    with show_work(f"Packaging the model of {job}"):
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["it printed no error"]
        hint = " Run: pip install -e '.[train]'" if "ModuleNotFoundError" in last[0] else ""
        raise OpsError(f"The model of {job} could not be packaged: {last[0]}{hint}", STOPPED)
    release = Release(json.loads(done.stdout)["digest"], job)
    shutil.rmtree(release.folder, ignore_errors=True)  # the old folder may be corrupt; this one is complete
    part.rename(release.folder)
    return release


def read_card(release: Release) -> ReleaseCard:
    return parse(ReleaseCard, (release.folder / "model.json").read_bytes(), f"model.json of release {release.short}")


def read_precisions(release: Release) -> list[str]:
    path = release.folder / "release.json"
    return parse(Precisions, path.read_bytes(), f"release.json of release {release.short}").precisions


def build_release_summary(release: Release, tar: str, measured: LoadTestResult) -> ReleaseSummary:
    card = read_card(release)
    test = card.metrics.test
    return ReleaseSummary(
        digest=release.digest,
        job=release.job,
        tar=tar,
        classes=card.classes,
        accuracy=test.accuracy,
        pictures=test.pictures,
        data=card.data,
        commit=card.commit,
        precisions=read_precisions(release),
        evidence=test.precision,
        recall=test.recall,
        measured=measured,
    )


def upload_release(account: Account, release: Release, measured: LoadTestResult) -> None:
    """Upload the tar and its summary, and note with the job that this is its release."""
    packed = build_tar((path.name, path) for path in list_files(release.folder))
    tar = base64.b64encode(hashlib.sha256(packed).digest()).decode()  # as S3 writes a checksum
    account.bucket.put(release.key, packed)
    write_summary(account, release, tar, measured)
    note = JobRelease(
        digest=release.digest, tar=tar, packaging=compute_packaging_digest(), model=read_model_tag(account, release.job)
    )
    account.bucket.put(derive_job_release_key(release.job), json.dumps(note.model_dump()).encode())


def store_preflight(account: Account, release: Release, measured: LoadTestResult, again: bool) -> None:
    """Store a release that passed its preflight. With `again`, a release that is stored already only gets a new summary."""
    if again and (summary := read_summary(account, release.digest)):
        write_summary(account, release, summary.tar, measured)  # the note of its job's release does not change
    else:
        upload_release(account, release, measured)


def write_summary(account: Account, release: Release, tar: str, measured: LoadTestResult) -> None:
    summary = build_release_summary(release, tar, measured)
    account.bucket.put(release.summary_key, json.dumps(summary.model_dump()).encode())


def read_summary(account: Account, digest: str) -> ReleaseSummary | None:
    """Return the stored summary of a release, or None without one. Raises OpsError for a corrupt summary."""
    key = Release(digest, "").summary_key
    data = account.bucket.get_object_or_none(key)
    return None if data is None else parse(ReleaseSummary, data, f"s3://{account.bucket.name}/{key}")


def read_load_test(account: Account, release: Release) -> LoadTestResult:
    """Return what the preflight of a release measured. Raises OpsError when no measurement is stored."""
    summary = read_summary(account, release.digest)
    if summary is None or summary.measured is None:
        raise OpsError(
            f"Release {release.short} has no measurement. Run its preflight: invoke sm.preflight --job {release.job or 'JOB'}"
        )
    return summary.measured


def list_release_digests(account: Account) -> list[str]:
    """Return the digests of the releases in the bucket."""
    return [folder.split("/")[1] for folder in account.bucket.folders("releases/")]


def find_release(account: Account, short: str) -> Release:
    """Return the stored release whose digest begins with `short`. Raises OpsError for none, several, or a corrupt one."""
    found = [digest for digest in list_release_digests(account) if digest.startswith(short.lower())] if short else []
    if len(found) > 1:
        raise OpsError(f"{len(found)} releases begin with {short!r}. List the releases: invoke sm.releases")
    if not found:
        job = find_packaged_job(account, short)
        hint = f"{job} can rebuild it: invoke sm.deploy --job {job}" if job else "List the releases: invoke sm.releases"
        raise OpsError(f"No release begins with {short[:12]!r}. {hint}")
    release = Release(found[0], "")
    there = read_summary(account, release.digest)
    if there is None or not is_whole(account, release, there.tar):
        job = there.job if there else find_packaged_job(account, release.digest) or "JOB"
        raise OpsError(
            f"The file of release {release.short} in S3 is missing or changed. Rebuild it: invoke sm.deploy --job {job}. "
            "See: invoke runbook.show artefact-missing"
        )
    return Release(release.digest, there.job)


def find_packaged_job(account: Account, short: str) -> str:
    """Return the job that was last packaged as the release with these first digits, by the notes with the jobs; "" without one."""
    for folder in account.bucket.folders("jobs/") if short else []:
        job = folder.split("/")[1]
        data = account.bucket.get_object_or_none(derive_job_release_key(job))
        if data and parse(JobRelease, data, derive_job_release_key(job)).digest.startswith(short.lower()):
            return job
    return ""


def fetch_release(account: Account, release: Release) -> Release:
    """Return the release with its files below .kennel/releases, fetched from the bucket when they are not there."""
    if not release.folder.is_dir():
        extract_tar(account.bucket.get(release.key), release.folder)
    return release

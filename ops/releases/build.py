"""From a trained model to a release: fetched, packaged, put into the bucket; and those that are kept there."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import shutil
import subprocess
import sys
import tarfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ops.core.aws.account import Account
from ops.core.errors import STOPPED, OpsError
from ops.core.files import digest_of, files_of, tar_of
from ops.core.output import say
from ops.core.paths import ROOT, WORK
from ops.releases.load_test import Measured

MODELS, RELEASES = WORK / "models", WORK / "releases"


@dataclass(frozen=True)
class Release:
    """A packaged model. `digest` is over its files and the precisions it was proved for; `key` is its tar in the bucket."""

    digest: str
    job: str

    @property
    def short(self) -> str:
        return self.digest[:12]

    @property
    def key(self) -> str:
        return f"releases/{self.digest}/model.tar.gz"

    @property
    def about(self) -> str:
        """The key of what is told about it: see `told`."""
        return f"releases/{self.digest}/about.json"

    @property
    def folder(self) -> Path:
        return RELEASES / self.digest


def packaging() -> str:
    """The digest of the code that packages: a note of what a job's release was counts only for the same code."""
    return digest_of(ROOT / "training")


def known(account: Account, job: str) -> Release | None:
    """The release that was made of this job before, if its tar is still in the bucket as it was put there."""
    bucket = account.settings.bucket
    note = account.call_or_none("s3", "get_object", "NoSuchKey", Bucket=bucket, Key=f"jobs/{job}/release.json")
    found = json.loads(note["Body"].read()) if note else {}
    if found.get("packaging") != packaging() or found.get("model") != model_tag(account, job):
        return None
    release = Release(found["digest"], job)
    return release if whole(account, release, found.get("tar")) else None


def whole(account: Account, release: Release, tar: str | None) -> bool:
    """Whether its tar lies in the bucket as it was put there: `tar` is its SHA-256 as S3 writes it."""
    where = {"Bucket": account.settings.bucket, "Key": release.key, "ChecksumMode": "ENABLED"}
    there = account.call_or_none("s3", "head_object", "404|NoSuchKey", **where)
    return bool(there and there.get("ChecksumSHA256") == tar)


def model_tag(account: Account, job: str) -> str | None:
    """S3's tag of the job's model.tar.gz: another one is another model."""
    key = f"jobs/{job}/output/model.tar.gz"
    found = account.call_or_none(
        "s3", "head_object", "404|NoSuchKey|NoSuchBucket", Bucket=account.settings.bucket, Key=key
    )
    return found["ETag"].strip('"') if found else None


def fetch(account: Account, job: str) -> Path:
    """The job's model.tar.gz, unpacked below .kennel/models. Raises OpsError when the job left none."""
    bucket, key = account.settings.bucket, f"jobs/{job}/output/model.tar.gz"
    tag = model_tag(account, job)
    if tag is None:
        raise OpsError(f"There is no model of {job}: s3://{bucket}/{key} is missing. Train it: invoke sm.train")
    folder = MODELS / f"{job}-{tag[:12]}"
    if folder.is_dir():
        return folder
    return unpacked(account.call("s3", "get_object", Bucket=bucket, Key=key)["Body"].read(), folder)


def unpacked(data: bytes, folder: Path) -> Path:
    """A tar.gz below `folder`, whole or not at all; entries that point outside are refused by the filter."""
    part = folder.with_name(folder.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        tar.extractall(part, filter="data")
    shutil.rmtree(folder, ignore_errors=True)
    part.rename(folder)
    return folder


def package(account: Account, job: str) -> Release:
    """The release of a job's model, below .kennel/releases; training/export.py makes it, which needs torch."""
    say(f"Packaging the model of {job} ...")
    part = RELEASES / f"{job}.part"
    shutil.rmtree(part, ignore_errors=True)
    argv = [sys.executable, str(ROOT / "training" / "export.py"), str(fetch(account, job)), str(part)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["it said nothing"]
        hint = " pip install -e '.[train]'" if "ModuleNotFoundError" in last[0] else ""
        raise OpsError(f"The model of {job} could not be packaged: {last[0]}{hint}", STOPPED)
    release = Release(json.loads(done.stdout)["digest"], job)
    shutil.rmtree(release.folder, ignore_errors=True)  # what lies there may be spoilt; this is whole
    part.rename(release.folder)
    return release


def card(release: Release) -> dict[str, Any]:
    return json.loads((release.folder / "model.json").read_text())


def precisions(release: Release) -> list[str]:
    return json.loads((release.folder / "release.json").read_text())["precisions"]


def told(release: Release, tar: str, measured: Measured) -> dict[str, Any]:
    """about.json: what the gate, `sm.releases` and `sm.capacity` want to know without fetching the whole."""
    model = card(release)
    test = model["metrics"]["test"]
    return {
        "digest": release.digest,
        "job": release.job,
        "tar": tar,
        "classes": model["classes"],
        "accuracy": test["accuracy"],
        "pictures": test["pictures"],
        "data": model["data"],
        "commit": model.get("commit", "unknown"),
        "precisions": precisions(release),
        "evidence": test.get("precision"),
        "measured": asdict(measured),
    }


def put(account: Account, release: Release, measured: Measured) -> None:
    """Into the bucket: the tar, what is told about it, and with the job that its release is this one."""
    packed = tar_of((path.name, path) for path in files_of(release.folder))
    tar = base64.b64encode(hashlib.sha256(packed).digest()).decode()  # as S3 writes a checksum
    store(account, release.key, packed)
    tell(account, release, tar, measured)
    made_of = {"packaging": packaging(), "model": model_tag(account, release.job)}
    note = {"digest": release.digest, "tar": tar, **made_of}
    store(account, f"jobs/{release.job}/release.json", json.dumps(note).encode())


def tell(account: Account, release: Release, tar: str, measured: Measured) -> None:
    store(account, release.about, json.dumps(told(release, tar, measured)).encode())


def store(account: Account, key: str, data: bytes) -> None:
    account.call("s3", "put_object", Bucket=account.settings.bucket, Key=key, Body=data, ChecksumAlgorithm="SHA256")


def about(account: Account, digest: str) -> dict[str, Any] | None:
    """What is told about a release, or None when it is not kept."""
    key = Release(digest, "").about
    found = account.call_or_none("s3", "get_object", "NoSuchKey|NoSuchBucket", Bucket=account.settings.bucket, Key=key)
    return json.loads(found["Body"].read()) if found else None


def digests(account: Account) -> list[str]:
    """Of the releases in the bucket."""
    where = {"Bucket": account.settings.bucket, "Prefix": "releases/", "Delimiter": "/"}
    return [
        found["Prefix"].split("/")[1] for found in account.list_all("s3", "list_objects_v2", "CommonPrefixes", **where)
    ]


def kept(account: Account, short: str) -> Release:
    """The kept release whose digest begins so. Raises OpsError for none, or several."""
    found = [digest for digest in digests(account) if digest.startswith(short.lower())] if short else []
    if len(found) != 1:
        what = f"{len(found)} releases begin" if found else "No release begins"
        raise OpsError(f"{what} with {short!r}. See which are kept: invoke sm.releases")
    there = about(account, found[0])
    if there is None or not whole(account, Release(found[0], ""), there["tar"]):
        raise OpsError(
            f"Release {short} is not in the bucket as it was put there. Make it anew: invoke sm.deploy --job JOB"
        )
    return Release(found[0], there["job"])


def local(account: Account, release: Release) -> Release:
    """The release with its files below .kennel/releases, fetched from the bucket when they are not there."""
    if not release.folder.is_dir():
        found = account.call("s3", "get_object", Bucket=account.settings.bucket, Key=release.key)
        unpacked(found["Body"].read(), release.folder)
    return release

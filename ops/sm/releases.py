"""From a trained model to a release: fetched, packaged, tried on this machine, put into the bucket."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ops import ROOT, WORK
from ops.aws import Account
from ops.cli import say
from ops.errors import OpsError
from ops.files import digest_of, files_of, tar_of

MODELS, RELEASES = WORK / "models", WORK / "releases"
READY_S = 60.0


@dataclass(frozen=True)
class Release:
    """A packaged model. `digest` is over its files; `key` is its tar in the bucket."""

    digest: str
    job: str

    @property
    def short(self) -> str:
        return self.digest[:12]

    @property
    def key(self) -> str:
        return f"releases/{self.digest}/model.tar.gz"

    @property
    def folder(self) -> Path:
        return RELEASES / self.digest


def packaging() -> str:
    """The digest of the code that packages: a note of what a job's release was counts only for the same code."""
    return digest_of(ROOT / "training")


def known(account: Account, job: str) -> Release | None:
    """The release that was made of this job before, if its tar is still in the bucket as it was put there."""
    bucket = account.settings.bucket
    note = account.find("s3", "get_object", "NoSuchKey", Bucket=bucket, Key=f"jobs/{job}/release.json")
    found = json.loads(note["Body"].read()) if note else {}
    if found.get("packaging") != packaging() or found.get("model") != model_tag(account, job):
        return None
    release = Release(found["digest"], job)
    there = account.find("s3", "head_object", "404|NoSuchKey", Bucket=bucket, Key=release.key, ChecksumMode="ENABLED")
    return release if there and there.get("ChecksumSHA256") == found.get("tar") else None


def model_tag(account: Account, job: str) -> str | None:
    """S3's tag of the job's model.tar.gz: another one is another model."""
    key = f"jobs/{job}/output/model.tar.gz"
    found = account.find("s3", "head_object", "404|NoSuchKey|NoSuchBucket", Bucket=account.settings.bucket, Key=key)
    return found["ETag"].strip('"') if found else None


def make(account: Account, job: str) -> Release:
    """Fetch the job's model, package it, try it here, and only then upload it. Raises OpsError at the first that fails."""
    if release := known(account, job):
        return release
    say(f"Packaging the model of {job} ...")
    release = package(fetch(account, job), job)
    say(f"Trying release {release.short} on this machine ...")
    preflight(release)
    bucket = account.settings.bucket
    packed = tar_of((path.name, path) for path in files_of(release.folder))
    account.call("s3", "put_object", Bucket=bucket, Key=release.key, Body=packed, ChecksumAlgorithm="SHA256")
    tar = base64.b64encode(hashlib.sha256(packed).digest()).decode()  # as S3 writes a checksum
    made_of = {"packaging": packaging(), "model": model_tag(account, job)}
    note = json.dumps({"digest": release.digest, "tar": tar, **made_of})
    account.call("s3", "put_object", Bucket=bucket, Key=f"jobs/{job}/release.json", Body=note.encode())
    return release


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


def package(model: Path, job: str) -> Release:
    """Run training/export.py; it needs torch, which ops does not."""
    part = RELEASES / f"{job}.part"
    shutil.rmtree(part, ignore_errors=True)
    argv = [sys.executable, str(ROOT / "training" / "export.py"), str(model), str(part)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["it said nothing"]
        hint = " pip install -e '.[train]'" if "ModuleNotFoundError" in last[0] else ""
        raise OpsError(f"The model of {job} could not be packaged: {last[0]}{hint}")
    release = Release(json.loads(done.stdout)["digest"], job)
    if release.folder.is_dir():
        shutil.rmtree(part)
    else:
        part.rename(release.folder)
    return release


def preflight(release: Release) -> None:
    """Start the very server on the release and ask it one golden picture: what AWS takes half an hour to find out.

    Raises OpsError with the server's own last words.
    """
    home = RELEASES / f"{release.short}.preflight"
    shutil.rmtree(home, ignore_errors=True)
    shutil.copytree(release.folder, home / "model")
    port = free_port()
    env = {
        "PATH": os.environ.get("PATH", ""),
        "OPT_ML": str(home),
        "SAGEMAKER_BIND_HOST": "127.0.0.1",
        "SAGEMAKER_BIND_TO_PORT": str(port),
    }
    server = subprocess.Popen(
        [sys.executable, "server.py", "serve"],
        cwd=ROOT / "serving",
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        ready(server, port)
        answered = post(port, golden_picture(release))
        if answered.get("release") != release.digest:
            raise OpsError(f"The server answers as release {answered.get('release')}, not as {release.digest}.")
    finally:
        server.kill()
        server.wait()
        shutil.rmtree(home, ignore_errors=True)


def free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def ready(server: subprocess.Popen[str], port: int) -> None:
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline:
        if server.poll() is not None:
            assert server.stdout is not None
            last = server.stdout.read().strip().splitlines()[-1:] or ["it said nothing"]
            hint = " pip install -e '.[serve]'" if "ModuleNotFoundError" in last[0] else ""
            raise OpsError(f"The server does not start on this release: {last[0]}{hint}")
        try:
            with opener().open(f"http://127.0.0.1:{port}/ping", timeout=2):
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.05)
    raise OpsError(f"The server did not answer a ping within {READY_S:.0f} s.")


def opener() -> urllib.request.OpenerDirector:
    return urllib.request.build_opener(urllib.request.ProxyHandler({}))


def post(port: int, picture: bytes) -> dict[str, Any]:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/invocations", picture, {"Content-Type": "application/x-image"}
    )
    with opener().open(request, timeout=30) as answer:
        return json.loads(answer.read())


def golden_picture(release: Release) -> bytes:
    """The first of golden.npz's pictures, read without numpy: an .npy file is a header and the bytes."""
    import zipfile

    with zipfile.ZipFile(release.folder / "golden.npz") as archive:
        return array_bytes(archive.read("pictures.npy"))[: first_end(archive.read("ends.npy"))]


def array_bytes(npy: bytes) -> bytes:
    header = int.from_bytes(npy[8:10], "little")
    return npy[10 + header :]


def first_end(npy: bytes) -> int:
    return int.from_bytes(array_bytes(npy)[:8], "little")


def local(account: Account, release: Release) -> Release:
    """The release with its files below .kennel/releases, fetched from the bucket when they are not there."""
    if not release.folder.is_dir():
        found = account.call("s3", "get_object", Bucket=account.settings.bucket, Key=release.key)
        unpacked(found["Body"].read(), release.folder)
    return release

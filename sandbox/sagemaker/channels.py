"""A training job's transfers from and to S3, with the job's role: channels, checkpoints, model and output."""

from __future__ import annotations

import contextlib
import json
import tarfile
import threading
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from sandbox.sagemaker.hosts import JobError

FOLDERS = ("input/config", "input/data", "model", "output/data", "checkpoints")
SYNC_S = 1.0  # wall time between two uploads of changed checkpoints


def split_s3_uri(uri: str) -> tuple[str, str]:
    """Return (bucket, key) of s3://bucket/key."""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return bucket, key


def prepare_host_folder(s3: Any, request: dict[str, Any], root: Path, host: int) -> None:
    """Fill one host's /opt/ml with channels and configuration, in SageMaker's layout. Raises JobError."""
    for name in FOLDERS:
        (root / name).mkdir(parents=True)
    hosts = [f"algo-{n + 1}" for n in range(request["ResourceConfig"]["InstanceCount"])]
    resource = {
        "current_host": hosts[host],
        "hosts": hosts,
        "network_interface_name": "lo",
        "current_instance_type": request["ResourceConfig"]["InstanceType"],
    }
    channels = {c["ChannelName"]: {"TrainingInputMode": "File"} for c in request.get("InputDataConfig", [])}
    for name, content in (
        ("resourceconfig", resource),
        ("hyperparameters", request.get("HyperParameters", {})),
        ("inputdataconfig", channels),
    ):
        (root / "input" / "config" / f"{name}.json").write_text(json.dumps(content))
    for channel in request.get("InputDataConfig", []):
        source = channel["DataSource"]["S3DataSource"]
        try:
            download_channel(s3, source, root / "input" / "data" / channel["ChannelName"], request["RoleArn"])
        except ClientError as error:
            raise JobError(f"ClientError: Data download failed: {source['S3Uri']}: {error}") from error


def download_channel(s3: Any, source: dict[str, str], folder: Path, role: str) -> None:
    """Download a channel: all objects of a prefix, or those that a manifest file lists, named as below the prefix.

    Raises JobError when there are no objects.
    """
    bucket, key = split_s3_uri(source["S3Uri"])
    if source["S3DataType"] == "ManifestFile":
        listing = json.loads(s3.get_object(Bucket=bucket, Key=key)["Body"].read())
        prefix = listing[0]["prefix"].removeprefix(f"s3://{bucket}/")
        names = listing[1:]
    else:
        prefix = key
        names = list_names_if_allowed(s3, bucket, prefix)
    if not names:
        raise JobError(format_no_objects_error(source["S3Uri"], role))
    for name in names:
        download_to_folder(s3, bucket, prefix + name, folder, name or Path(prefix).name)


def list_names_if_allowed(s3: Any, bucket: str, prefix: str) -> list[str]:
    """Do what `list_object_names` does, but return [] if the role may not list: SageMaker reports both alike."""
    try:
        return list_object_names(s3, bucket, prefix)
    except ClientError as error:
        if error.response["Error"]["Code"] == "AccessDenied":
            return []
        raise


def format_no_objects_error(url: str, role: str) -> str:
    """Return AWS's message for a channel without objects."""
    bucket, _ = split_s3_uri(url)
    return (
        f'ClientError: Data download failed: No S3 objects found under S3 URL "{url}" given in input data source. Please ensure that '
        "the bucket exists in the selected Region, that objects exist under that S3 prefix, and that the role "
        f'"{role}" has "s3:ListBucket" permissions on bucket "{bucket}".'
    )


def list_object_names(s3: Any, bucket: str, prefix: str) -> list[str]:
    """Return the names of the objects below the prefix, without it; objects that stand for folders are left out."""
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    keys = [item["Key"] for page in pages for item in page.get("Contents", [])]
    return [key.removeprefix(prefix) for key in keys if not key.endswith("/")]


def download_to_folder(s3: Any, bucket: str, key: str, folder: Path, name: str) -> Path:
    """Download an object to a path below `folder` and return it. Raises JobError for a name that leads out."""
    path = (folder / name.lstrip("/")).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise JobError(f"ClientError: {name} points outside its channel")
    path.parent.mkdir(parents=True, exist_ok=True)
    s3.download_file(bucket, key, str(path))
    return path


def upload_artifacts(s3: Any, request: dict[str, Any], roots: list[Path], folder: Path) -> None:
    """Upload all hosts' model folders as one model.tar.gz, and output/data as output.tar.gz. Raises JobError."""
    bucket, prefix = split_s3_uri(request["OutputDataConfig"]["S3OutputPath"])
    for name, part in (("model.tar.gz", "model"), ("output.tar.gz", "output/data")):
        files = {
            path.relative_to(root / part).as_posix(): path
            for root in roots
            for path in (root / part).rglob("*")
            if path.is_file()
        }
        if not files and part != "model":
            continue
        packed = folder / name
        with tarfile.open(packed, "w:gz", compresslevel=1) as tar:
            for inner, path in sorted(files.items()):
                tar.add(path, inner)
        key = "/".join(filter(None, (prefix.rstrip("/"), request["TrainingJobName"], "output", name)))
        try:
            s3.upload_file(str(packed), bucket, key)
        except Exception as error:  # boto3 wraps the ClientError of upload_file in its own error
            raise JobError(f"ClientError: Artifact upload failed: s3://{bucket}/{key}: {error}") from error


class Checkpoints:
    """A job's checkpoint folders, filled from S3 before its hosts start and uploaded while they run and when they end.

    All hosts share one prefix in S3: if two write the same name, the later one wins.
    """

    def __init__(self, s3: Any, config: dict[str, str] | None, roots: list[Path]) -> None:
        self._s3, self._on = s3, config is not None
        config = config or {"S3Uri": ""}
        self._bucket, key = split_s3_uri(config["S3Uri"])
        self._prefix = f"{key.rstrip('/')}/" if key.strip("/") else ""
        local = config.get("LocalPath", "/opt/ml/checkpoints").removeprefix("/opt/ml").strip("/")
        self._folders = [root / local for root in roots]
        self._sent: dict[Path, tuple[int, int]] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._keep_uploading, daemon=True)

    def __enter__(self) -> Checkpoints:
        """Download the checkpoints and start the uploads. Raises JobError when the download fails."""
        if self._on:
            try:
                self._download_checkpoints()
            except ClientError as error:
                raise JobError(f"ClientError: Checkpoint download failed: {error}") from error
            self._thread.start()
        return self

    def __exit__(self, error_type: type[BaseException] | None, *_: object) -> None:
        """Upload the last changes. Raises JobError when that fails, unless the job has failed already."""
        if not self._on:
            return
        self._ended.set()
        self._thread.join()
        try:
            self._upload_changes()
        except ClientError as error:
            if error_type is None:
                raise JobError(f"ClientError: Checkpoint upload failed: {error}") from error

    def _download_checkpoints(self) -> None:
        names = list_object_names(self._s3, self._bucket, self._prefix)
        for folder in self._folders:
            folder.mkdir(parents=True, exist_ok=True)
            for name in names:
                path = download_to_folder(self._s3, self._bucket, self._prefix + name, folder, name)
                self._sent[path] = read_file_stamp(path)

    def _keep_uploading(self) -> None:
        while not self._ended.wait(SYNC_S):
            with contextlib.suppress(ClientError):  # retried in a second, and reported at the end
                self._upload_changes()

    def _upload_changes(self) -> None:
        """Upload the files that changed since their last upload, except dot files, which are half-written ones."""
        for folder in self._folders:
            for path in sorted(folder.resolve().rglob("*")):
                inner = path.relative_to(folder.resolve())
                with contextlib.suppress(FileNotFoundError):  # renamed in the meantime
                    if not path.is_file() or any(part.startswith(".") for part in inner.parts):
                        continue
                    seen = read_file_stamp(path)
                    if self._sent.get(path) != seen:
                        key = self._prefix + inner.as_posix()
                        self._s3.put_object(Bucket=self._bucket, Key=key, Body=path.read_bytes())
                        self._sent[path] = seen


def read_file_stamp(path: Path) -> tuple[int, int]:
    """Return (bytes, time of the last change in ns); a different stamp means that the file has changed."""
    found = path.stat()
    return found.st_size, found.st_mtime_ns

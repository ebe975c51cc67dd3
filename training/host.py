"""On the box, what SageMaker does around a container: channels in, the program, model.tar.gz and the verdict out.

    python3 host.py JOB.json     detached from the connection that starts it; JOB.json is what ops/ec2 wrote

The instance's role reads the data and writes the artefact, so that a laptop that is closed loses nothing.
"""

import fcntl
import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

from launch import STOPPED

HERE = Path(__file__).resolve().parent
LOCK_TRIES = 50  # of 0.2 s


def status(job: Path, state: str, **more: Any) -> None:
    """status.json beside the job's file: whole or not at all, and the last word on the job."""
    part = job.with_name("status.json.part")
    part.write_text(json.dumps({"state": state, "time": time.time(), "pid": os.getpid(), **more}))
    part.replace(job.with_name("status.json"))


def fetch(s3: Any, asked: dict[str, Any], opt: Path) -> None:
    """The data set that the job names, into the folder where train.py looks; shards are kept for the next job."""
    kept = HERE.parent.parent / "shards"
    data = opt / "input" / "data" / "data"
    for key in asked["keys"]:
        path = data / key
        path.parent.mkdir(parents=True, exist_ok=True)
        store = kept / Path(key).name if key.startswith("shards/") else path
        if not store.exists():
            kept.mkdir(parents=True, exist_ok=True)
            part = store.with_name(store.name + ".part")
            s3.download_file(asked["bucket"], key, str(part))
            part.replace(store)
        if store != path and not path.is_symlink():
            path.symlink_to(store)
    if weights := asked["weights"]:
        path = opt / "input" / "data" / "weights" / Path(weights).name
        path.parent.mkdir(parents=True, exist_ok=True)
        s3.download_file(asked["bucket"], weights, str(path))
    print(f"{len(asked['keys'])} objects of the data set are here", flush=True)


def prepare(asked: dict[str, Any], opt: Path) -> Path:
    """What SageMaker would find; returns the folder of checkpoints, which all attempts at one job share."""
    for name in ("input/config", "model", "output"):
        (opt / name).mkdir(parents=True, exist_ok=True)
    shared = HERE.parent.parent / "checkpoints" / asked["checkpoints"]
    shared.mkdir(parents=True, exist_ok=True)
    if not (opt / "checkpoints").is_symlink():
        (opt / "checkpoints").symlink_to(shared)
    (opt / "input" / "config" / "hyperparameters.json").write_text(json.dumps(asked["hyperparameters"]))
    return shared


def upload(s3: Any, asked: dict[str, Any], opt: Path) -> str:
    packed = opt / "model.tar.gz"
    with tarfile.open(packed, "w:gz", compresslevel=1) as tar:
        for path in sorted((opt / "model").iterdir()):
            tar.add(path, path.name)
    s3.upload_file(str(packed), asked["bucket"], asked["output"])
    s3.upload_file(
        str(opt / "model" / "metrics.jsonl"), asked["bucket"], asked["output"].rsplit("/", 1)[0] + "/metrics.jsonl"
    )
    return f"s3://{asked['bucket']}/{asked['output']}"


def run(job: Path, asked: dict[str, Any]) -> int:
    import boto3

    opt = job.parent / "opt-ml"
    s3 = boto3.client("s3", region_name=asked["region"])
    status(job, "Downloading")
    fetch(s3, asked, opt)
    checkpoints = prepare(asked, opt)
    status(job, "Training")
    env = os.environ | {"OPT_ML": str(opt), "KENNEL_COMMIT": asked["commit"]}
    code = subprocess.run([sys.executable, str(HERE / "launch.py")], env=env, check=False).returncode
    if code == STOPPED:
        status(job, "Stopped", code=code, reason="asked to stop; its checkpoint is kept")
        return code
    if code:
        failure = opt / "output" / "failure"
        status(job, "Failed", code=code, reason=failure.read_text() if failure.exists() else f"exit code {code}")
        return code
    status(job, "Uploading")
    where = upload(s3, asked, opt)
    shutil.rmtree(checkpoints, ignore_errors=True)  # the next attempt at this job is to train anew
    status(job, "Completed", code=0, artefact=where)
    print(f"Completed: {where}", flush=True)
    return 0


def locked(lock: Any) -> bool:
    """One trainer at a time: two would halve each other. One that is just ending is waited for."""
    for _ in range(LOCK_TRIES):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.2)
        else:
            return True
    return False


def main(job: Path) -> int:
    asked = json.loads(job.read_text())
    with (HERE.parent.parent / "trainer.lock").open("w") as lock:
        if not locked(lock):
            status(job, "Failed", code=1, reason="another job is training on this box")
            return 1
        try:
            return run(job, asked)
        except Exception as error:
            status(job, "Failed", code=1, reason=f"{type(error).__name__}: {error}")
            raise


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))

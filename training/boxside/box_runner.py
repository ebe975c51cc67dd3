"""The job runner on the box. It does what SageMaker does for a container: channels, program, model.tar.gz, status.

    python3 -P -m boxside.box_runner JOB.json  runs detached from the connection that starts it; ops/box/remote_jobs.py
                                               writes JOB.json and puts the code folder on PYTHONPATH

It reads the data and writes the artefact with the instance's role, so the operator may disconnect. Each checkpoint is
uploaded when it is written, so a spot interruption loses only the steps since the last one. Status and log are uploaded
every half minute, so that they can be read while the box cannot be reached.
"""

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

from boxside import fetch_data, spot_notice
from launch import STOPPED, Stop

CODE = Path(__file__).resolve().parent.parent
HOME = CODE.parent.parent
LOCK_TRIES = 50  # one every 0.2 s
CHECK_S = 5.0  # seconds between two checks of instance metadata and checkpoint, as AWS advises
REPORT_S = 30.0  # seconds between two uploads of status and log, which are read while the box cannot be reached
CHECKPOINT = "checkpoint.pt"


class Job:
    """The job: its folder, its request (JOB.json), and the bucket."""

    def __init__(self, file: Path, request: dict[str, Any], s3: Any, stop: Stop) -> None:
        self.folder, self.request, self.s3, self.stop = file.parent, request, s3, stop
        self.opt = file.parent / "opt-ml"
        self.output = request["output"].rsplit("/", 1)[0]
        self.checkpoint = HOME / "checkpoints" / request["checkpoints"] / CHECKPOINT
        # times of the uploaded checkpoint, the last check and the last report
        self.uploaded_at = self.checked_at = self.reported_at = 0.0

    @property
    def checkpoint_key(self) -> str:
        return f"checkpoints/{self.request['checkpoints']}/{CHECKPOINT}"

    def write_status(self, state: str, **more: Any) -> None:
        """Write status.json beside the job's file, atomically; it is the authority on the job's state."""
        part = self.folder / "status.json.part"
        part.write_text(json.dumps({"state": state, "time": time.time(), "pid": os.getpid(), **more}))
        part.replace(self.folder / "status.json")
        self.reported_at = 0.0  # the next check reports it

    def prepare(self) -> None:
        """Lay out the files that SageMaker would provide, and the checkpoint that all attempts share, maybe from S3."""
        for name in ("input/config", "model", "output"):
            (self.opt / name).mkdir(parents=True, exist_ok=True)
        self.checkpoint.parent.mkdir(parents=True, exist_ok=True)
        if not (self.opt / "checkpoints").is_symlink():
            (self.opt / "checkpoints").symlink_to(self.checkpoint.parent)
        (self.opt / "input" / "config" / "hyperparameters.json").write_text(json.dumps(self.request["hyperparameters"]))
        data = self.opt / "input" / "data"
        fetch_data.link_data(self.request, HOME, data / "data")
        if weights := self.request["weights"]:
            path = data / "weights" / Path(weights).name
            path.parent.mkdir(parents=True, exist_ok=True)
            self.s3.download_file(self.request["bucket"], weights, str(path))
        if not self.checkpoint.exists() and self.fetch_checkpoint():
            print("downloaded the checkpoint of an earlier box", flush=True)

    def fetch_checkpoint(self) -> bool:
        """Download the checkpoint; return whether there was one.

        A listing finds it: a forbidden HEAD looks like a missing object, and a fresh start would then overwrite it.
        """
        bucket, key = self.request["bucket"], self.checkpoint_key
        if not self.s3.list_objects_v2(Bucket=bucket, Prefix=key, MaxKeys=1).get("Contents"):
            return False
        part = self.checkpoint.with_name(".checkpoint.part")
        self.s3.download_file(bucket, key, str(part))
        part.replace(self.checkpoint)
        self.uploaded_at = self.checkpoint.stat().st_mtime
        return True

    def send_checkpoint(self) -> None:
        """Upload the newest checkpoint if it is not in the bucket yet. A failed upload is retried at the next check."""
        try:
            written = self.checkpoint.stat().st_mtime
            if written != self.uploaded_at:
                self.s3.upload_file(str(self.checkpoint), self.request["bucket"], self.checkpoint_key)
                self.uploaded_at = written
        except FileNotFoundError:
            pass
        except Exception as error:
            print(f"checkpoint not uploaded, will retry: {type(error).__name__}: {error}", flush=True)

    def find_reason_to_end(self) -> str:
        """Return why the job must end, or "": a request to stop, or a spot interruption, which is checked every CHECK_S."""
        if self.stop.requested:
            return "stopped on request"
        if time.monotonic() - self.checked_at > CHECK_S:
            self.checked_at = time.monotonic()
            self.send_checkpoint()
            if time.monotonic() - self.reported_at > REPORT_S:
                self.reported_at = time.monotonic()
                self.report()
            if when := spot_notice.read_interruption_time():
                return f"spot interruption at {when}"
        return ""

    def train(self) -> tuple[int, str]:
        """Run launch.py until it ends; return its exit code, and why it was stopped, if it was."""
        env = os.environ | {"OPT_ML": str(self.opt), "KENNEL_COMMIT": self.request["commit"]}
        process, why = subprocess.Popen([sys.executable, str(CODE / "launch.py")], env=env), ""
        while process.poll() is None:
            time.sleep(0.1)
            if not why and (why := self.find_reason_to_end()):
                print(f"{why}: writing a checkpoint", flush=True)
                process.send_signal(signal.SIGTERM)
        code = process.returncode
        # SIGTERM ends the process like any program until it has installed its handler.
        return (STOPPED if why and code == -signal.SIGTERM else code), why

    def upload(self) -> str:
        packed = self.opt / "model.tar.gz"
        with tarfile.open(packed, "w:gz", compresslevel=1) as tar:
            for path in sorted((self.opt / "model").iterdir()):
                tar.add(path, path.name)
        self.s3.upload_file(str(packed), self.request["bucket"], self.request["output"])
        metrics = self.opt / "model" / "metrics.jsonl"
        self.s3.upload_file(str(metrics), self.request["bucket"], f"{self.output}/metrics.jsonl")
        packed.unlink()
        return f"s3://{self.request['bucket']}/{self.request['output']}"

    def run(self) -> int:
        self.write_status("Downloading")
        try:
            with fetch_data.hold_data(HOME):
                fetch_data.fetch_missing(self.s3, self.request, HOME, self.find_reason_to_end)
                self.prepare()
        except fetch_data.DownloadStopped as stopped:
            self.write_status(
                "Stopped", code=STOPPED, reason=f"{stopped}, during the data download; nothing was trained"
            )
            return STOPPED
        self.write_status("Training")
        code, why = self.train()
        if code == STOPPED:
            self.send_checkpoint()
            kept = "its checkpoint is kept (in the bucket and on the box)"
            outcome = kept if self.uploaded_at else "it has no checkpoint yet"
            self.write_status("Stopped", code=code, reason=f"{why or 'stopped on request'}; {outcome}")
            return code
        if code:
            failure = self.opt / "output" / "failure"
            self.write_status(
                "Failed", code=code, reason=failure.read_text() if failure.exists() else f"exit code {code}"
            )
            return code
        self.write_status("Uploading")
        where = self.upload()
        shutil.rmtree(self.checkpoint.parent, ignore_errors=True)  # the next attempt starts from scratch
        self.s3.delete_object(Bucket=self.request["bucket"], Key=self.checkpoint_key)
        self.write_status("Completed", code=0, artefact=where)
        print(f"Completed: {where}", flush=True)
        return 0

    def report(self) -> None:
        """Upload the status and the log to the bucket, where they outlive the box."""
        sys.stdout.flush()
        for name in ("status.json", "log"):
            try:
                self.s3.upload_file(str(self.folder / name), self.request["bucket"], f"{self.output}/{name}")
            except Exception as error:
                print(f"{name} was not uploaded: {type(error).__name__}: {error}", flush=True)


def take_lock(lock: Any) -> bool:
    """Take the trainer lock, since one job trains at a time; wait if a job is ending. Return whether it was taken."""
    for _ in range(LOCK_TRIES):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.2)
        else:
            return True
    return False


def mark_newest(folder: Path) -> None:
    """Point the link `newest` at the job that took the lock last; ec2.attach follows it."""
    link = folder.parent / ".newest"
    link.unlink(missing_ok=True)
    link.symlink_to(folder.name)
    link.replace(folder.parent / "newest")


def main(file: Path) -> int:
    stop, request = Stop(), json.loads(file.read_text())
    job = Job(file, request, None, stop)
    job.write_status("Starting")  # before the SDK is loaded, which may take a while
    import boto3

    job.s3 = boto3.client("s3", region_name=request["region"])
    with (HOME / "trainer.lock").open("w") as lock:
        if not take_lock(lock):
            job.write_status("Failed", code=1, reason="another job is training on this box")
            return 1
        mark_newest(job.folder)
        try:
            return job.run()
        except (fetch_data.DiskFull, OSError) as error:  # one line says it all; the operator follows this log
            print(error, flush=True)
            job.write_status("Failed", code=1, reason=str(error))
            return 1
        except Exception as error:
            job.write_status("Failed", code=1, reason=f"{type(error).__name__}: {error}")
            raise
        finally:
            job.report()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))

"""On the box, what SageMaker does around a container: channels in, the program, model.tar.gz and the verdict out.

    python3 -P -m boxside.box_runner JOB.json  detached from the connection that starts it; JOB.json is what ops/box/remote_jobs.py
                                               wrote, and the code folder is on PYTHONPATH

The instance's role reads the data and writes the artefact, so that a laptop that is closed loses nothing. Checkpoints go to
the bucket as they come, so that a box that spot takes away loses no more than the time since the last one.
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
LOCK_TRIES = 50  # of 0.2 s
LOOK_S = 5.0  # between two looks at the instance's metadata and at the checkpoint; as often as AWS advises
CHECKPOINT = "checkpoint.pt"


class Job:
    """One job: its folder, what was asked, and the bucket."""

    def __init__(self, file: Path, asked: dict[str, Any], s3: Any, stop: Stop) -> None:
        self.folder, self.asked, self.s3, self.stop = file.parent, asked, s3, stop
        self.opt = file.parent / "opt-ml"
        self.output = asked["output"].rsplit("/", 1)[0]
        self.checkpoint = HOME / "checkpoints" / asked["checkpoints"] / CHECKPOINT
        self.sent = self.looked = 0.0  # when the checkpoint that is in the bucket was written; when we looked around

    @property
    def checkpoint_key(self) -> str:
        return f"checkpoints/{self.asked['checkpoints']}/{CHECKPOINT}"

    def write_status(self, state: str, **more: Any) -> None:
        """status.json beside the job's file: whole or not at all, and the last word on the job."""
        part = self.folder / "status.json.part"
        part.write_text(json.dumps({"state": state, "time": time.time(), "pid": os.getpid(), **more}))
        part.replace(self.folder / "status.json")

    def prepare(self) -> None:
        """What SageMaker would find, and the checkpoint that all attempts at one job share, from here or from the bucket."""
        for name in ("input/config", "model", "output"):
            (self.opt / name).mkdir(parents=True, exist_ok=True)
        self.checkpoint.parent.mkdir(parents=True, exist_ok=True)
        if not (self.opt / "checkpoints").is_symlink():
            (self.opt / "checkpoints").symlink_to(self.checkpoint.parent)
        (self.opt / "input" / "config" / "hyperparameters.json").write_text(json.dumps(self.asked["hyperparameters"]))
        data = self.opt / "input" / "data"
        fetch_data.link_data(self.asked, HOME, data / "data")
        if weights := self.asked["weights"]:
            path = data / "weights" / Path(weights).name
            path.parent.mkdir(parents=True, exist_ok=True)
            self.s3.download_file(self.asked["bucket"], weights, str(path))
        if not self.checkpoint.exists() and self.fetch_checkpoint():
            print("the checkpoint of another box is here", flush=True)

    def fetch_checkpoint(self) -> bool:
        """Whether there was one. Asked by a listing: a HEAD that is forbidden looks like one that finds nothing, and to begin
        anew then would overwrite what is there."""
        bucket, key = self.asked["bucket"], self.checkpoint_key
        if not self.s3.list_objects_v2(Bucket=bucket, Prefix=key, MaxKeys=1).get("Contents"):
            return False
        part = self.checkpoint.with_name(".checkpoint.part")
        self.s3.download_file(bucket, key, str(part))
        part.replace(self.checkpoint)
        self.sent = self.checkpoint.stat().st_mtime
        return True

    def send_checkpoint(self) -> None:
        """The newest, if it is not in the bucket yet. One that cannot be sent now is sent at the next look."""
        try:
            written = self.checkpoint.stat().st_mtime
            if written != self.sent:
                self.s3.upload_file(str(self.checkpoint), self.asked["bucket"], self.checkpoint_key)
                self.sent = written
        except FileNotFoundError:
            pass
        except Exception as error:
            print(f"the checkpoint is not in the bucket yet: {type(error).__name__}: {error}", flush=True)

    def find_reason_to_end(self) -> str:
        """Why to end, or "": asked to, or because spot is about to take the machine, which is looked for every LOOK_S."""
        if self.stop.asked:
            return "asked to stop"
        if time.monotonic() - self.looked > LOOK_S:
            self.looked = time.monotonic()
            self.send_checkpoint()
            if when := spot_notice.read_interruption_time():
                return f"spot takes this machine at {when}"
        return ""

    def train(self) -> tuple[int, str]:
        """launch.py, until it ends; its exit code, and why it was told to end, if it was."""
        env = os.environ | {"OPT_ML": str(self.opt), "KENNEL_COMMIT": self.asked["commit"]}
        process, why = subprocess.Popen([sys.executable, str(CODE / "launch.py")], env=env), ""
        while process.poll() is None:
            time.sleep(0.1)
            if not why and (why := self.find_reason_to_end()):
                print(f"{why}: writing a checkpoint", flush=True)
                process.send_signal(signal.SIGTERM)
        code = process.returncode
        # Before it has its handler, SIGTERM ends it as any program.
        return (STOPPED if why and code == -signal.SIGTERM else code), why

    def upload(self) -> str:
        packed = self.opt / "model.tar.gz"
        with tarfile.open(packed, "w:gz", compresslevel=1) as tar:
            for path in sorted((self.opt / "model").iterdir()):
                tar.add(path, path.name)
        self.s3.upload_file(str(packed), self.asked["bucket"], self.asked["output"])
        metrics = self.opt / "model" / "metrics.jsonl"
        self.s3.upload_file(str(metrics), self.asked["bucket"], f"{self.output}/metrics.jsonl")
        packed.unlink()
        return f"s3://{self.asked['bucket']}/{self.asked['output']}"

    def run(self) -> int:
        self.write_status("Downloading")
        try:
            with fetch_data.hold_data(HOME):
                fetch_data.fetch_missing(self.s3, self.asked, HOME, self.find_reason_to_end)
                self.prepare()
        except fetch_data.Ended as told:
            self.write_status("Stopped", code=STOPPED, reason=f"{told}, while its data came; nothing was trained")
            return STOPPED
        self.write_status("Training")
        code, why = self.train()
        if code == STOPPED:
            self.send_checkpoint()
            kept = "in the bucket and here" if self.sent else "not there: it was stopped before the first"
            self.write_status("Stopped", code=code, reason=f"{why or 'asked to stop'}; its checkpoint is kept ({kept})")
            return code
        if code:
            failure = self.opt / "output" / "failure"
            self.write_status(
                "Failed", code=code, reason=failure.read_text() if failure.exists() else f"exit code {code}"
            )
            return code
        self.write_status("Uploading")
        where = self.upload()
        shutil.rmtree(self.checkpoint.parent, ignore_errors=True)  # the next attempt at this job is to train anew
        self.s3.delete_object(Bucket=self.asked["bucket"], Key=self.checkpoint_key)
        self.write_status("Completed", code=0, artefact=where)
        print(f"Completed: {where}", flush=True)
        return 0

    def report(self) -> None:
        """The verdict and the log, into the bucket: they outlive the box."""
        sys.stdout.flush()
        for name in ("status.json", "log"):
            try:
                self.s3.upload_file(str(self.folder / name), self.asked["bucket"], f"{self.output}/{name}")
            except Exception as error:
                print(f"{name} is not in the bucket: {type(error).__name__}: {error}", flush=True)


def take_lock(lock: Any) -> bool:
    """One trainer at a time: two would halve each other. One that is just ending is waited for."""
    for _ in range(LOCK_TRIES):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.2)
        else:
            return True
    return False


def mark_newest(folder: Path) -> None:
    """Of the jobs that held the lock, the last one: what ec2.attach means."""
    link = folder.parent / ".newest"
    link.unlink(missing_ok=True)
    link.symlink_to(folder.name)
    link.replace(folder.parent / "newest")


def main(file: Path) -> int:
    stop, asked = Stop(), json.loads(file.read_text())
    job = Job(file, asked, None, stop)
    job.write_status("Starting")  # before the SDK is loaded, which may take a while
    import boto3

    job.s3 = boto3.client("s3", region_name=asked["region"])
    with (HOME / "trainer.lock").open("w") as lock:
        if not take_lock(lock):
            job.write_status("Failed", code=1, reason="another job is training on this box")
            return 1
        mark_newest(job.folder)
        try:
            return job.run()
        except Exception as error:
            job.write_status("Failed", code=1, reason=f"{type(error).__name__}: {error}")
            raise
        finally:
            job.report()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))

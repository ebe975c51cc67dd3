"""Explain why a training job did not complete: turn AWS's reason and the log into a cause, evidence and the next command."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, replace
from typing import Any

from ops.core.aws.account import Account
from ops.jobs.follow import Tail
from ops.jobs.training_jobs import UNDER_WAY

LINES = 50  # lines at the end of the log that are searched
RESUME = "invoke sm.train: it resumes from the checkpoint"
QUIET_S = 600  # seconds without a line after which a training job counts as stuck, or very slow


@dataclass(frozen=True)
class Cause:
    """A cause of failures: `pattern` recognises it in AWS's reason or the log, `meaning` explains it, `fix` says what to do."""

    pattern: str
    meaning: str
    fix: str


# The first match counts, so specific causes come first.
CAUSES = (
    Cause(r"CapacityError", "AWS has no free instance of this type at the moment; the attempt costs nothing",
          "invoke sm.train again later, or with another type: INVOKE_TRAIN_INSTANCE_TYPE=ml.m5.2xlarge invoke sm.train"),
    Cause(r"ResourceLimitExceeded", "the account's quota for this instance type is too small; trying again does not help",
          "raise the quota for `TYPE for training job usage` in Service Quotas, or use another type: INVOKE_TRAIN_INSTANCE_TYPE=..."),
    Cause(r"out of memory|can't allocate memory|killed \(signal 9\)|exit code: 137|CUDA out of memory",
          "the machine ran out of memory",
          "INVOKE_TRAIN_BATCH=32 invoke sm.train, or a larger train.instance_type"),
    Cause(r"No S3 objects found|Data download failed|AccessDenied|not authorized to perform|Could not assume role",
          "the job's role could not read its input: either the objects are gone, or the role may not list them",
          "invoke data.verify, then invoke iam.apply"),
    Cause(r"DataError|PictureError|is missing or corrupt", "a picture or shard differs from the manifest, or is unreadable",
          "invoke data.verify, then invoke data.push --dir DIR: it sends corrupt shards again, and names unreadable pictures"),
    Cause(r"LedgerError", "the processes did not use every picture exactly once: a bug in training/, not in the data",
          "invoke sm.logs --job JOB, then check training/sample_order.py"),
    Cause(r"CheckpointError", "the checkpoints in the bucket belong to another run", "invoke sm.train --again"),
    Cause(r"DivergedError", "training diverged: the learning rate is too high for these data",
          "INVOKE_TRAIN_LR=0.001 invoke sm.train, or invoke sm.tune"),
    Cause(r"No space left on device", "the disk is full", "set a larger train.volume_gib, then invoke sm.train"),
    Cause(r"another process of this job ended first|Connection closed by peer|NCCL|Gloo",
          "one host died or lost its connection, and the others failed with it", RESUME),
    Cause(r"GPU that torch cannot use|NVIDIA-SMI has failed|driver/library version mismatch", "the GPU driver and torch are incompatible",
          "set another train.image for this instance type, then invoke sm.train"),
    Cause(r"MaxRuntimeExceeded|MaxWaitTimeExceeded", "the job reached its time limit",
          f"INVOKE_TRAIN_MAX_RUNTIME_S=7200 {RESUME}"),
    Cause(r"InternalServerError", "an internal error of AWS", RESUME),
    Cause(r"ValueError|unrecognized arguments|error: argument", "the settings are contradictory", "correct the train: section, then invoke sm.train"),
)  # fmt: skip
# AWS gives these reasons for many failures; the log may be more specific.
GENERAL_CAUSES = (
    Cause(r"AlgorithmError", "the training program failed", "invoke sm.logs --job JOB"),
    Cause(r"ClientError", "AWS could not use something that the request names: image, role, network or data", "invoke doctor"),
)  # fmt: skip


@dataclass(frozen=True)
class Diagnosis:
    """The diagnosis of one job. `wrong` is False for a job that completed, makes progress, or waits for instances.

    `evidence` is quoted from AWS or the log, `fix` is the next command or step.
    """

    job: str
    status: str
    cause: str
    evidence: str
    fix: str
    wrong: bool = True


def find_cause(text: str, causes: tuple[Cause, ...] = CAUSES) -> tuple[Cause, str] | None:
    """Return the first cause whose pattern matches the text, and the matching line; None without one."""
    for cause in causes:
        if found := re.search(rf"^.*(?:{cause.pattern}).*$", text, re.M | re.I):
            # 1,024 characters are the length of a FailureReason; a shortened denial cannot be explained.
            return cause, found[0].strip()[:1024]
    return None


def explain_job(account: Account, job: str, described: dict[str, Any], quiet_s: float = QUIET_S) -> Diagnosis:
    """Explain a job, and say what to do. A trial of a tuning job has no checkpoint to resume from."""
    found = explain_by_reason_and_log(account, job, described, quiet_s)
    if "TuningJobArn" not in described:
        return found
    return replace(found, fix=found.fix.replace(RESUME, "invoke sm.tune --again: a trial is not resumed"))


def explain_by_reason_and_log(account: Account, job: str, described: dict[str, Any], quiet_s: float) -> Diagnosis:
    """Explain a job by the reason that AWS gives, then by the end of its log. A running job is stuck after `quiet_s` without a line."""
    status, secondary = described["TrainingJobStatus"], described["SecondaryStatus"]
    if status == "Completed":
        return Diagnosis(job, status, "nothing is wrong: it completed", "", f"invoke sm.deploy --job {job}", False)
    tail = Tail(account, f"{job}/")
    lines = [line for some in tail.read_new().values() for line in some[-LINES:]]
    if status in UNDER_WAY:
        quiet = time.time() - tail.last_ms / 1000 if tail.last_ms else None
        return explain_running_job(job, secondary, lines, quiet, quiet_s)
    # AWS's reason comes first, because the log of a failed job is full of consequences.
    reason = described.get("FailureReason", "")
    for text, causes in ((reason, CAUSES), (secondary, CAUSES), ("\n".join(lines), CAUSES), (reason, GENERAL_CAUSES)):
        if found := find_cause(text, causes):
            cause, evidence = found
            return Diagnosis(job, status, cause.meaning, evidence, cause.fix.replace("JOB", job))
    if status == "Stopped":
        return Diagnosis(job, status, "it was stopped", secondary, RESUME)
    return Diagnosis(
        job,
        status,
        "unknown: neither AWS's reason nor the log matches a known cause",
        described.get("FailureReason", "(no reason given)"),
        f"invoke sm.logs --job {job}",
    )


def explain_running_job(job: str, secondary: str, lines: list[str], quiet: float | None, quiet_s: float) -> Diagnosis:
    """Explain whether a running job makes progress. `quiet` is the seconds since its last line; None before the first."""
    if secondary == "Training" and quiet is not None and quiet > quiet_s:
        evidence = f"no line for {quiet:.0f} s; the last: {lines[-1] if lines else '(none)'}"
        return Diagnosis(
            job,
            secondary,
            "it is stuck, or very slow: one of its processes may be dead or waiting",
            evidence,
            f"invoke sm.stop {job}",
        )
    if secondary in ("Starting", "Pending"):
        return Diagnosis(
            job, secondary, "it waits for instances; nothing is billed yet", secondary, f"invoke sm.attach {job}", False
        )
    return Diagnosis(
        job, secondary, "it makes progress", lines[-1] if lines else secondary, f"invoke sm.attach {job}", False
    )

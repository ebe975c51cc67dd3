"""Training jobs from the command line: submitted, followed, left and come back to, interrupted, explained, tuned."""

from datetime import UTC, datetime, timedelta

import pytest

from ops.core import plan
from ops.datasets.manifest import Manifest
from ops.datasets.pretrained import Weights
from ops.jobs import failures, follow, spec, training_jobs
from tests.conftest import settings_of

pytestmark = pytest.mark.xdist_group("torch")  # two tests load it

SETTINGS = settings_of()
EPOCH = {
    "epoch": 2, "train": {"loss": 0.2218, "accuracy": 0.9}, "valid": {"loss": 0.301, "accuracy": 0.89}, "images_per_s": 809.4, "data_wait": 0.03, "seconds": 1.62,
}  # fmt: skip


def test_trainer_epoch_lines_are_parsed():
    import fit

    assert follow.parse_progress(fit.format_epoch(EPOCH, 4)) == follow.Progress(2, 4, pytest.approx(3.24))
    line = "epoch 1/40  step 120/400  train loss 0.5312  123 images/s  ETA 3501 s"
    assert follow.parse_progress(line) == follow.Progress(1, 40, 3501.0)
    assert str(follow.parse_progress(line)) == "epoch 1/40  ETA 3501 s"
    assert follow.parse_progress("best valid loss 0.066354 (epoch 4)") is None


def test_trainer_progress_lines_are_parsed():
    import argparse

    import fit
    import torch

    training = fit.Fit.__new__(fit.Fit)
    training.at, training.steps = fit.Progress(epoch=1, step=3), 10
    training.args, training.ranks = argparse.Namespace(epochs=4, batch=64), type("Ranks", (), {"size": 2})()
    line = training.format_progress(torch.tensor([30.0, 50.0, 96.0]), 2.0)
    assert follow.parse_progress(line) == follow.Progress(2, 4, 18.0)


def described(status="Completed", **more):
    now = datetime.now(UTC)
    resource = {"InstanceType": "ml.m5.xlarge", "InstanceCount": 2}
    return {"TrainingJobStatus": status, "ResourceConfig": resource, "LastModifiedTime": now, **more}


def test_cost_covers_all_hosts_and_billed_seconds():
    hour_ago = datetime.now(UTC) - timedelta(hours=1)
    assert follow.compute_job_cost(described("InProgress", TrainingStartTime=hour_ago)) == pytest.approx(0.46, abs=1e-3)
    assert follow.compute_job_cost(described(BillableTimeInSeconds=360, TrainingTimeInSeconds=3600)) == pytest.approx(
        0.046
    )
    assert follow.compute_job_cost(described("InProgress")) == 0
    spot = described(BillableTimeInSeconds=360, TrainingTimeInSeconds=1200, EnableManagedSpotTraining=True)
    assert follow.describe_spot_saving(spot) == "Spot: 360 of 1200 s are billed, 70% saved."
    assert follow.describe_spot_saving(described(BillableTimeInSeconds=360, TrainingTimeInSeconds=360)) == ""


@pytest.mark.parametrize(
    ("reason", "meaning"),
    [
        ("CapacityError: Unable to provision requested ML compute capacity. Please retry using a different ML instance type.", "no free instance of this type"),
        ("ResourceLimitExceeded: The account-level service limit 'ml.p3.2xlarge for training job usage' is 0 Instances", "quota"),
        ("AlgorithmError: out of memory: lower train.batch, exit code: 1", "out of memory"),
        ("AlgorithmError: train.py was killed (signal 9): most likely the machine ran out of memory., exit code: 137", "out of memory"),
        ('ClientError: Data download failed: No S3 objects found under S3 URL "s3://b/x"', "role could not read its input"),
        ("AlgorithmError: DataError: train/cat/1.jpg: not a readable PNG or JPEG, exit code: 1", "unreadable"),
        ("AlgorithmError: LedgerError: train epoch 1: of 5 pictures 1 were not seen, exit code: 1", "did not use every picture"),
        ("AlgorithmError: OSError: [Errno 28] No space left on device, exit code: 1", "disk is full"),
        ("AlgorithmError: another process of this job ended first. RuntimeError: Connection closed by peer, exit code: 1", "one host died"),
        ("InternalServerError: We encountered an internal error. Please try again.", "internal error of AWS"),
        ("AlgorithmError: ValueError: unknown architecture 'resnet19', exit code: 1", "contradictory"),
    ],
)  # fmt: skip
def test_failure_has_a_cause_and_a_next_command(reason, meaning):
    cause, evidence = failures.find_cause(reason)
    assert meaning in cause.meaning
    assert evidence == reason
    assert cause.fix


@pytest.mark.parametrize(
    ("described", "fix"),
    [
        ({"TrainingJobStatus": "Stopped", "SecondaryStatus": "Stopped"}, "{}"),
        (
            {"TrainingJobStatus": "Stopped", "SecondaryStatus": "MaxRuntimeExceeded"},
            "INVOKE_TRAIN_MAX_RUNTIME_S=7200 {}",
        ),
    ],
)
def test_trial_is_not_said_to_resume(monkeypatch, described, fix):
    """AWS's toolkit passes no SIGTERM on, so a trial writes no checkpoint; it has no place for one either."""
    monkeypatch.setattr(failures.Tail, "read_new", lambda self: {})
    trial = {**described, "TrainingJobName": "x", "TuningJobArn": "arn"}
    assert failures.explain_job(None, "x", described).fix == fix.format(
        "invoke sm.train: it resumes from the checkpoint"
    )
    assert failures.explain_job(None, "x", trial).fix == fix.format("invoke sm.tune --again: a trial is not resumed")
    stop, _ = plan.preview(training_jobs.stop_job_steps({**trial, "TrainingJobStatus": "InProgress"}))
    assert stop.why == "stop x; a trial of a search writes no checkpoint"


def test_log_decides_the_cause_of_an_unclear_failure(monkeypatch):
    """The log is read before a failure is given a general cause."""
    lines = {"x/algo-1-1": ["torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB"]}
    monkeypatch.setattr(failures.Tail, "read_new", lambda self: lines)
    reason = "AlgorithmError: train.py ended with code 1 without a message, exit code: 1"
    found = failures.explain_job(
        None, "x", {"TrainingJobStatus": "Failed", "SecondaryStatus": "Failed", "FailureReason": reason}
    )
    assert found.cause == "the machine ran out of memory"
    lines["x/algo-1-1"] = ["ZeroDivisionError: division by zero"]
    found = failures.explain_job(
        None, "x", {"TrainingJobStatus": "Failed", "SecondaryStatus": "Failed", "FailureReason": reason}
    )
    assert (found.cause, found.fix) == ("the training program failed", "invoke sm.logs --job x")


def test_commands_named_by_causes_exist():
    import re
    import shlex

    from invoke.parser import Parser

    import tasks

    for cause in (*failures.CAUSES, *failures.GENERAL_CAUSES):
        for command in re.findall(r"invoke ((?:sm|data|iam)\.[\w.]+(?: --[\w-]+(?: [A-Z]+)?)*|doctor)", cause.fix):
            assert Parser(contexts=tasks.ns.to_contexts()).parse_argv(shlex.split(command)), command


def test_weights_are_a_channel_and_part_of_the_job_name():
    data = Manifest("p", (), (), {}, "d" * 64)
    plain = spec.build_spec(SETTINGS, data, "sm")
    started = spec.build_spec(SETTINGS, data, "sm", 1, Weights("a" * 64, "resnet18-abc.pth"))
    assert plain.name != started.name
    assert (plain.hyperparameters["weights"], started.hyperparameters["weights"]) == ("none", "a" * 64)
    request = training_jobs.build_training_request(
        training_jobs.Facts("x", None, ("s",), "g", True), training_jobs.Order(started, "x", "code/c/"), SETTINGS
    )
    assert request["InputDataConfig"][-1]["DataSource"]["S3DataSource"]["S3Uri"].endswith(f"/weights/{'a' * 64}/")

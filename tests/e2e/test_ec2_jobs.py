"""Training on the box: a cut connection neither hurts the job nor loses a line of its log."""

import json
import os
import re
import signal
import threading
import time
from contextlib import contextmanager
from dataclasses import replace

import pytest

from ops.box import access, facts, follow, remote_jobs, training
from ops.core import ssh
from tests.conftest import until

# The one of this stack's box: the sandbox's boxes share a machine, and other tests may train on it too. Its session is its own.
TRAINER = "$(pgrep -d, -f '[b]oxside.box_runner .*/kennel-box2-box')"


@pytest.fixture(scope="module")
def box_stack(make_stack, few_digits):
    cli = make_stack("box2")
    cli("iam.apply", "net.up", "ec2.up", "data.up")
    cli("data.push", "--dir", str(few_digits))
    return cli


def longer(cli, epochs):
    """The same box with a longer job, which still runs on any machine when the test interferes."""
    file = cli.file.with_name(f"box{epochs}.yaml")
    file.write_text(cli.file.read_text() + f"train: {{epochs: {epochs}}}\n")
    return replace(cli, file=file)


def ident(cli):
    return facts.read(cli.account).instance_id


@pytest.mark.timeout(240)
def test_job_completes_after_the_connection_is_killed(box_stack):
    """The SSH connection is killed in the middle; the job runs to its end."""
    training = box_stack.background("ec2.train")
    for line in training.stdout:
        if "epoch 1/" in line:
            break
    os.killpg(training.pid, signal.SIGKILL)  # client, tunnel, and with them the connection
    training.wait()
    attached = box_stack("ec2.attach")
    epochs = re.findall(r"\[box\] epoch (\d)/4  train loss", attached.err)
    assert epochs == ["1", "2", "3", "4"]  # none lost, none doubled
    assert "Completed: s3://kennel-box2-" in attached.out
    found = box_stack.account.list_all(
        "s3", "list_objects_v2", "Contents", Bucket=box_stack.settings.bucket, Prefix="jobs/"
    )
    assert {item["Key"].rsplit("/", 1)[1] for item in found} == {"model.tar.gz", "metrics.jsonl", "status.json", "log"}
    assert "was already trained" in box_stack("ec2.train").out


@pytest.mark.timeout(240)
def test_second_train_attaches_to_the_running_job(box_stack):
    first = box_stack.background("ec2.train", "--again")
    for line in first.stdout:
        if "[box]" in line:
            break
    second = box_stack("ec2.train", "--again")
    assert "starts on" not in second.err
    assert "test accuracy" in second.err
    first.communicate(timeout=60)
    assert first.returncode == 0


def test_failed_job_reports_why(box_stack):
    cli = type(box_stack)(box_stack.file.with_name("boxbroken.yaml"))
    cli.file.write_text(box_stack.file.read_text() + "train: {arch: alexnet, pixels: 32}\n")
    failed = cli("ec2.train", ok=False)
    assert failed.code == 1
    assert "Given input size" in failed.err


def test_killed_trainer_is_reported(box_stack):
    training = longer(box_stack, 60).background("ec2.train", "--again")
    for line in training.stdout:
        if "epoch 1/" in line:
            break
    box_stack("ec2.run", f"pkill -9 -s {TRAINER}; true")
    said, _ = training.communicate(timeout=60)
    assert training.returncode == 1
    assert "the trainer ended without a status" in said


def test_next_train_resumes_a_terminated_job(box_stack):
    """A trainer that got SIGTERM leaves a checkpoint, from which the next one resumes."""
    cli = longer(box_stack, 30)
    training = cli.background("ec2.train")
    for line in training.stdout:
        if "epoch 2/" in line:
            break
    cli("ec2.run", f"pkill -TERM -P {TRAINER} -f launch[.]py")
    said, _ = training.communicate(timeout=60)
    assert training.returncode == 1
    assert "its checkpoint is kept" in said
    again = cli("ec2.train")
    assert "resuming at epoch" in again.err
    assert "epoch 1/30" not in again.err


def epochs_in(text):
    return re.findall(
        r"\[box\] epoch (\d+)/\d+  train loss", text
    )  # not the lines within an epoch, which a slow machine prints


def in_bucket(cli, name, file):
    key = f"jobs/{name}/output/{file}"
    return cli.account.client("s3").get_object(Bucket=cli.settings.bucket, Key=key)["Body"].read()


@pytest.mark.timeout(240)
def test_log_survives_a_cut_connection_and_a_suspended_client(box_stack, inject_fault):
    """One job, through both: the server's end of the connection is killed, then the client sleeps until the job is over."""
    training = box_stack.background("ec2.train", "--again")
    said = until(training, "epoch 1/")
    inject_fault("box", instance=ident(box_stack), cut=True)
    said += until(training, "Reconnected; continuing from line")
    os.killpg(training.pid, signal.SIGSTOP)
    name = re.search(r"Starting (kennel-box2-box1-[\w-]+);", "".join(said))[1]
    deadline = time.monotonic() + 60
    while json.loads(box_stack("ec2.ps", "--json").out)[0]["state"] != "Completed":
        assert time.monotonic() < deadline
    os.killpg(training.pid, signal.SIGCONT)
    rest, _ = training.communicate(timeout=60)
    said = "".join(said) + rest
    assert training.returncode == 0, said
    assert "The connection to the box was lost" in said
    assert epochs_in(said) == ["1", "2", "3", "4"]
    log = in_bucket(box_stack, name, "log").decode().splitlines()
    assert [line.removeprefix("[box] ") for line in said.splitlines() if line.startswith("[box] ")] == log


@pytest.mark.timeout(240)
def test_partition_is_detected_and_survived(box_stack, inject_fault, monkeypatch, capsys):
    """Neither side gets an error, since what is sent waits: only an unanswered keepalive shows the partition."""
    monkeypatch.setattr(ssh, "KEEPALIVE_S", 0.5)
    monkeypatch.setattr(ssh, "SILENT_S", 2.0)
    running = longer(box_stack, 10).background("ec2.train", "--again")
    until(running, "epoch 1/")
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    account = box_stack.account
    there = remote_jobs.locate_folders(account.settings)
    with access.open_box_connection(account, facts.read(account)) as link:
        name = remote_jobs.find_newest_job(link, there)
    open_now = threading.Event()

    @contextmanager
    def opened():
        with training.connect_to_current_box(account) as link:
            open_now.set()
            yield link

    def partition():
        open_now.wait(60)
        time.sleep(0.5)
        inject_fault("box", instance=ident(box_stack), partition=True)
        time.sleep(5)
        inject_fault("box", instance=ident(box_stack), partition=False)

    pulling = threading.Thread(target=partition)
    pulling.start()
    found = follow.Follower(there, name).follow(opened)
    pulling.join()
    said = capsys.readouterr().err
    assert found["state"] == "Completed"
    assert "reconnecting" in said
    assert "Reconnected" in said
    assert epochs_in(said) == [str(number) for number in range(1, 11)]


def test_attach_starts_at_any_line(box_stack):
    whole = [line for line in box_stack("ec2.attach").err.splitlines() if line.startswith("[box]")]
    assert len(whole) > 6
    for line in (1, 2, len(whole), len(whole) + 1):
        rest = [one for one in box_stack("ec2.attach", "--line", str(line)).err.splitlines() if one.startswith("[box]")]
        assert rest == whole[line - 1 :]
    assert box_stack("ec2.logs", "--lines", "2").out.splitlines() == [one.removeprefix("[box] ") for one in whole[-2:]]


def test_job_record_outlives_the_box_in_the_bucket(make_stack, pictures):
    cli = make_stack("boxgone", "train: {arch: alexnet, pixels: 32, batch: 4}\n")
    cli("iam.apply", "net.up", "ec2.up", "data.up")
    cli("data.push", "--dir", str(pictures))
    failed = cli("ec2.train", ok=False)
    name = re.search(r"Starting (kennel-boxgone-box1-[\w-]+);", failed.err)[1]
    cli("ec2.down", "--yes")
    verdict = json.loads(in_bucket(cli, name, "status.json"))
    assert (verdict["state"], verdict["code"]) == ("Failed", 1)
    assert "Given input size" in verdict["reason"]
    attached = cli("ec2.attach", "--job", name)
    assert "Failed: " in attached.out
    assert "Given input size" in attached.err
    assert "Given input size" in cli("ec2.logs", "--job", name, "--lines", "3").out
    assert [job["job"] for job in json.loads(cli("ec2.ps", "--json").out)] == [name]
    left = cli("ec2.attach", "--job", "kennel-boxgone-box1-none", ok=False)
    assert "kennel-boxgone-box1-none left no status.json in the bucket" in left.err
    assert "their names begin with kennel-boxgone-box" in cli("ec2.attach", "--job", "kennel-none", ok=False).err


def test_stop_saves_a_checkpoint_and_train_resumes(box_stack):
    running = longer(box_stack, 200).background("ec2.train", "--again")
    until(running, "epoch 1/")
    refused = box_stack("ec2.stop", ok=False)
    assert "it writes a checkpoint, and ec2.train resumes it" in refused.err
    stopped = box_stack("ec2.stop", "--yes")
    assert "its checkpoint is kept" in stopped.err
    running.communicate(timeout=60)
    assert running.returncode == 1
    box_stack("ec2.start")
    assert json.loads(box_stack("ec2.ps", "--json").out)[0]["state"] == "Stopped"


def test_second_trainer_waits_for_the_lock(tmp_path, monkeypatch):
    from boxside import box_runner

    monkeypatch.setattr(box_runner, "LOCK_TRIES", 2)
    with (tmp_path / "lock").open("w") as held, (tmp_path / "lock").open("w") as wanted:
        assert box_runner.take_lock(held)
        assert not box_runner.take_lock(wanted)
    with (tmp_path / "lock").open("w") as free:
        assert box_runner.take_lock(free)

"""A run that is interrupted at any moment resumes, and ends with the weights of one that was not."""

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench import resume
from bench.train import find_free_port
from ops.core.paths import ROOT

TRAINING = ROOT / "training"


@pytest.fixture(scope="module")
def fork_server():
    with resume.ForkServer() as process:
        yield process


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return resume.write_noise_pictures(tmp_path_factory.mktemp("noise") / "data")


@pytest.fixture(scope="module")
def expected_weights(fork_server, data, tmp_path_factory):
    out = tmp_path_factory.mktemp("whole") / "out"
    assert fork_server.train(data, out, every=False) == 0
    return resume.read_weights(out)


def metrics(out):
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    clock = ("seconds", "images_per_s", "data_wait")
    return [{name: value for name, value in line.items() if name not in clock} for line in lines]


@pytest.mark.parametrize("seed", range(5))
def test_randomly_killed_run_ends_bit_equal(fork_server, data, expected_weights, tmp_path, seed):
    outcome = resume.kill_and_resume(fork_server, data, tmp_path / "out", expected_weights, random.Random(seed))
    assert outcome.equal, outcome.kills


def test_resumed_metrics_and_ledger_equal_the_uninterrupted(fork_server, data, tmp_path):
    """Metrics and ledger, too, are those of a run that was not interrupted."""
    assert fork_server.train(data, tmp_path / "a") == 0
    assert fork_server.train(data, tmp_path / "b", kill={"step": 8}) == -signal.SIGKILL
    assert fork_server.train(data, tmp_path / "b", kill={"term": 3}) == 143
    assert not (tmp_path / "b" / "model.safetensors").exists()
    assert fork_server.train(data, tmp_path / "b") == 0
    assert metrics(tmp_path / "a") == metrics(tmp_path / "b")
    for name in ("ledger.json", "predictions.jsonl", "golden.npz"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name


@pytest.mark.parametrize(
    "more",
    [
        ("--layers", "head", "--head", "mlp"),
        ("--layers", "head", "--views", "2"),
        ("--layers", "last"),
        ("--arch", "mobilenet_v3_small", "--patience", "1"),
    ],
    ids=["head", "views", "last", "dropout"],
)
def test_every_training_option_resumes_bit_equal(fork_server, data, tmp_path, more):
    assert fork_server.train(data, tmp_path / "a", *more, every=False) == 0
    for kill in ({"step": 4}, {"save": 5}, {"step": 3}):
        fork_server.train(data, tmp_path / "b", *more, kill=kill)
    assert fork_server.train(data, tmp_path / "b", *more) == 0
    assert resume.read_weights(tmp_path / "a") == resume.read_weights(tmp_path / "b")


def test_foreign_and_torn_checkpoints_are_not_loaded(fork_server, data, expected_weights, tmp_path):
    """Another run's checkpoint is an error; a torn one is ignored."""
    assert fork_server.train(data, tmp_path / "out", kill={"step": 7}) == -signal.SIGKILL
    assert fork_server.train(data, tmp_path / "out", "--seed", "3") == 1
    saved = tmp_path / "out-checkpoints" / "checkpoint.pt"
    saved.write_bytes(saved.read_bytes()[:-200])
    assert fork_server.train(data, tmp_path / "out") == 0
    assert resume.read_weights(tmp_path / "out") == expected_weights


def command(data, out, *more):
    folders = ["--data", str(data), "--out", str(out), "--checkpoints", str(out) + "-checkpoints"]
    return [sys.executable, str(TRAINING / "train.py"), *folders, *resume.SETTINGS, *more]


def test_full_disk_loses_the_checkpoint_and_not_the_run(forks, data, expected_weights, tmp_path):
    """A file-size limit stands in for the disk: what is larger than it cannot be written."""
    limited = f"import resource, runpy, sys, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (6 << 20, 6 << 20)); sys.argv = sys.argv[1:]; sys.path.insert(0, {str(TRAINING)!r}); runpy.run_path(sys.argv[0], run_name='__main__')"
    done = forks.run("-c", limited, *command(data, tmp_path / "out")[1:])
    assert done.returncode == 0, done.stderr
    assert "checkpoint not written, the previous one is kept: File too large" in done.stdout
    assert resume.read_weights(tmp_path / "out") == expected_weights
    assert list((tmp_path / "out-checkpoints").iterdir()) == []


def test_three_processes_resume_bit_equal(forks, data, tmp_path):
    """From three processes on, DDP adds up in another order before and after it rebuilds its buckets: a first pass is discarded."""

    def run(out, kill_after=0):
        """(what it printed, exit code) of each process."""
        trap = f"import fork_server, train; fork_server.arm_kill({{'term': {kill_after}}}, True)"
        code = f"import sys, runpy; sys.path[:0] = [{str(TRAINING)!r}, {str(ROOT / 'bench')!r}]; {trap}; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
        group = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(find_free_port()), "GLOO_SOCKET_IFNAME": "lo"}
        group |= {"WORLD_SIZE": "3", "LOCAL_WORLD_SIZE": "3", "OMP_NUM_THREADS": "1"}
        logs = [tmp_path / f"{rank}.log" for rank in range(3)]
        running = []
        for rank, log in enumerate(logs):
            with log.open("wb") as file:
                one = group | {"RANK": str(rank), "LOCAL_RANK": str(rank)}
                words = command(data, out, "--batch", "6")[1:]
                running.append(forks.start("-c", code, *words, env=one, stdout=file.fileno(), stderr=file.fileno()))
        codes = [process.wait() for process in running]
        return [(log.read_text(), code) for log, code in zip(logs, codes, strict=True)]

    assert {code for _, code in run(tmp_path / "a")} == {0}
    assert {code for _, code in run(tmp_path / "b", kill_after=4)} == {143}
    again = run(tmp_path / "b")
    assert "resuming at epoch 1, step 4" in again[0][0]
    assert resume.read_weights(tmp_path / "a") == resume.read_weights(tmp_path / "b")
    ledger = json.loads((tmp_path / "b" / "ledger.json").read_text())
    assert (ledger["complete"], ledger["beyond_padding"], ledger["padding"]) == (True, 0, 0)


def test_sigterm_saves_a_checkpoint_and_reports_no_failure(data, tmp_path):
    """SIGTERM in the middle of a job leaves a checkpoint and no failure file."""
    opt = tmp_path / "opt"
    (opt / "output").mkdir(parents=True)
    import os

    process = subprocess.Popen(
        command(data, tmp_path / "out", "--epochs", "2000"),
        env=os.environ | {"OPT_ML": str(opt)},
        stdout=subprocess.PIPE,
        text=True,
    )
    for line in process.stdout:
        if line.startswith("epoch 2/"):
            process.terminate()
            break
    began = time.monotonic()
    rest = process.communicate(timeout=60)[0]
    assert process.returncode == 143
    assert "the checkpoint is written" in rest
    assert time.monotonic() - began < 20
    assert not (opt / "output" / "failure").exists()
    assert Path(str(tmp_path / "out") + "-checkpoints/checkpoint.pt").exists()

"""The flaws of the project that this one replaces (F1 to F9). Each check passes for ours and fails for the flaw re-created."""

import json
import math
import os
import pty
import subprocess
import sys
import time
from pathlib import Path

import dataset
import fit
import loader
import model
import pytest
import sample_order
import torch
from metrics import Tally
from preprocess import Preprocess

from bench import resume
from bench.train import free_port
from ops.box import remote_jobs
from ops.core.paths import ROOT
from tests.e2e.flaws import f1, f2, f3, f4, f5, f6, f7, f8, f9

TRAINING = ROOT / "training"


def judged(check, ours, flawed):
    """The check holds for ours, and is sharp enough for the flaw."""
    check(ours)
    with pytest.raises(AssertionError):
        check(flawed)


@pytest.fixture(scope="module")
def warm():
    with resume.Warm() as process:
        yield process


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return resume.noise(tmp_path_factory.mktemp("flaws") / "data")


def test_f1_hosts_share_the_data_and_one_writes_the_model(data, tmp_path):
    def check(run):
        seen, models = run(2)
        assert sorted(number for host in seen for number in host) == list(range(39))
        assert models == 1

    def flawed(hosts):
        written = []
        return [f1.train(39, host, hosts, lambda: written.append(1)) for host in range(hosts)], len(written)

    def ours(hosts):
        """What each host is to see, and by the ledger of a real run, what it did see."""
        env = {
            "WORLD_SIZE": str(hosts),
            "LOCAL_WORLD_SIZE": "1",
            "LOCAL_RANK": "0",
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(free_port()),
            "GLOO_SOCKET_IFNAME": "lo",
            "OMP_NUM_THREADS": "1",
        }
        argv = [sys.executable, str(TRAINING / "train.py"), "--data", str(data), *resume.SETTINGS, "--epochs", "1"]
        running = [
            subprocess.Popen(
                [*argv, "--out", str(tmp_path / f"out{rank}"), "--checkpoints", str(tmp_path / f"c{rank}")],
                env=os.environ | env | {"RANK": str(rank)},
            )
            for rank in range(hosts)
        ]
        assert [process.wait(120) for process in running] == [0] * hosts
        models = [path.parent for path in tmp_path.glob("out*/model.safetensors")]
        (first, *_) = json.loads((models[0] / "ledger.json").read_text())["passes"]
        parts = [
            [n for batch in sample_order.batches_of_rank(39, 0, 0, 8, rank, hosts) for n in batch]
            for rank in range(hosts)
        ]
        assert [rank["seen"] for rank in first["ranks"]] == [len(part) for part in parts]
        assert (first["overlap"], first["padding"]) == (1, 1)  # 39 pictures, two hosts: one is seen twice
        parts[-1].remove(next(n for n in parts[-1] if sum(part.count(n) for part in parts) > 1))
        return parts, len(models)

    judged(check, ours, flawed)


def test_f2_the_same_training_gives_the_same_model(warm, data, tmp_path):
    runs = iter("ab")

    def ours():
        out = tmp_path / next(runs)
        assert warm.train(data, out, every=False) == 0
        return resume.weights(out)

    def check(train):
        assert train() == train()

    judged(check, ours, f2.train)


SCORES = torch.randn(836, 7, generator=torch.Generator().manual_seed(0))
LABELS = torch.randint(0, 7, (836,), generator=torch.Generator().manual_seed(1))


def figures(scores, labels, batch):
    tally = Tally(scores.shape[1])
    for start in range(0, len(labels), batch):
        tally.add(scores[start : start + batch], labels[start : start + batch])
    return tally.figures()


def test_f3_the_loss_does_not_depend_on_the_batch():
    true = torch.nn.functional.cross_entropy(SCORES, LABELS).item()

    def check(loss):
        assert [loss(SCORES, LABELS, batch) for batch in (32, 256)] == pytest.approx([true, true])

    judged(check, lambda *asked: figures(*asked)["loss"], f3.loss)


def test_f4_a_perfect_model_has_an_accuracy_of_one():
    perfect = torch.nn.functional.one_hot(LABELS, 7).float()

    def check(accuracy):
        assert [accuracy(perfect, LABELS, batch) for batch in (32, 256)] == [1.0, 1.0]

    judged(check, lambda *asked: figures(*asked)["accuracy"], f4.accuracy)


def test_f5_test_has_no_say_in_what_is_kept():
    """Ours chooses in Fit.epoch, of which valid's loss is all that it is given; here it sees epochs in which test differs."""
    epochs = [{"valid": 0.5, "test": 0.1}, {"valid": 0.2, "test": 0.9}, {"valid": 0.3, "test": 0.3}]

    class Told(fit.Fit):
        def __init__(self):
            self.at, self.network, self.steps, self.stop = fit.Progress(), torch.nn.Linear(1, 1), 1, lambda: False
            self.ranks, self.args, self.padding = fit.Ranks(), type("Args", (), {"epochs": 3, "patience": 0})(), 0
            self.inputs = {"train": fit.Features([torch.zeros(1, 1)], torch.zeros(1), torch.device("cpu"))}
            self.ledger = type("Ledger", (), {"close": lambda *_: {}})()
            self.schedule = type("Schedule", (), {"get_last_lr": lambda _: [0.1]})()

        def train_epoch(self, began):
            self.at.sums = [1.0, 1.0, 1.0]

        def valid(self):
            return {"loss": epochs[self.at.epoch]["valid"], "accuracy": 0.5}

        def settle(self, due): ...

    def ours(_):
        done = Told().run()
        return done.best["epoch"] - 1, done.best["loss"]

    def check(choose):
        assert choose(epochs) == (1, 0.2)

    judged(check, ours, f5.choose)


def test_f5_other_test_pictures_leave_the_weights_as_they_are(warm, data, tmp_path):
    import shutil

    other = shutil.copytree(data, tmp_path / "other")
    shutil.rmtree(other / "test")
    shutil.copytree(resume.noise(tmp_path / "noise", seed=9) / "test", other / "test")
    for folder, out in ((data, "a"), (other, "b")):
        assert warm.train(folder, tmp_path / out, every=False) == 0
    assert resume.weights(tmp_path / "a") == resume.weights(tmp_path / "b")


def test_f6_an_answer_is_a_probability(warm, data, tmp_path):
    assert warm.train(data, tmp_path / "out", every=False) == 0
    line = json.loads((tmp_path / "out" / "predictions.jsonl").read_text().splitlines()[0])

    def check(answer):
        found = answer([1.2, -0.4])
        assert math.fsum(found) == pytest.approx(1, abs=1e-5)
        assert all(0 <= chance <= 1 for chance in found)

    judged(check, lambda _: line["probabilities"], f6.answer)


def test_f7_what_is_trained_on_is_the_train_split(data):
    def ours(folder):
        return sorted(entry.name for entry in dataset.load(folder).splits["train"])

    def check(pictures):
        assert all(name.startswith("train/") for name in pictures(data))
        assert len(pictures(data)) == 39

    judged(check, ours, f7.training_pictures)


def test_f8_network_and_pictures_go_to_the_device(data):
    """`meta` is a device that every torch has: a stand-in for the GPU that this machine may lack."""
    device = torch.device("meta")
    views = loader.Views(dataset.load(data).splits["train"], Preprocess(16))

    def ours(network, pictures, device):
        network.to(device)
        inputs = fit.Pictures(loader.Feed(views, torch.device("cpu"), 0), Preprocess(16), device)
        (batch, labels, _), *_ = inputs.batches(0, [[0, 1]])
        return {network(batch).device.type, labels.device.type, *(p.device.type for p in network.parameters())}

    def check(step):
        assert step(model.build("resnet_tiny", 2), views[0, [0, 1]][0].numpy(), device) == {"meta"}

    judged(check, ours, f8.step)


def test_f8_a_gpu_that_torch_cannot_use_is_an_error(monkeypatch):
    import ranks

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(
        Path, "glob", lambda self, pattern: iter([Path("/dev/nvidia0")]) if "nvidia" in pattern else iter([])
    )
    with pytest.raises(RuntimeError, match="a GPU that torch cannot use"):
        ranks.device(0)


def test_f9_a_job_outlives_the_connection_that_started_it(tmp_path):
    def check(command):
        log = tmp_path / f"{command.__name__}.log"
        program = f"{sys.executable} -uc 'import time; print(1); time.sleep(3); print(2)'"
        pid, terminal = pty.fork()  # the session of an SSH server's child, with a terminal
        if pid == 0:
            os.execvp("sh", ["sh", "-c", command(program, str(log)) + "; sleep 60"])
        deadline = time.monotonic() + 20
        while not (log.exists() and "1" in log.read_text()) and time.monotonic() < deadline:
            time.sleep(0.05)
        os.close(terminal)  # the pipe breaks
        os.waitpid(pid, 0)
        time.sleep(4)
        assert log.read_text().split() == ["1", "2"]

    def ours(program, log):
        return remote_jobs.detached(program, log, "job-f9")

    judged(check, ours, f9.command)

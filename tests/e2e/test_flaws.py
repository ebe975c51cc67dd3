"""The flaws of the project that this one replaces (F1 to F9). Each check passes for ours and fails for the flaw re-created."""

import json
import math
import os
import pty
import sys
import time

import pytest

from bench import resume
from bench.train import find_free_port
from ops.box import remote_jobs
from ops.core.paths import ROOT
from tests.e2e.flaws import f1, f6, f9
from tests.unit.test_flaws import judged

TRAINING = ROOT / "training"


@pytest.fixture(scope="module")
def fork_server():
    with resume.ForkServer() as process:
        yield process


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return resume.write_noise_pictures(tmp_path_factory.mktemp("flaws") / "data")


def test_f1_hosts_share_the_data_and_one_writes_the_model(forks, data, tmp_path):
    def check(run):
        seen, models = run(2)
        assert sorted(number for host in seen for number in host) == list(range(39))
        assert models == 1

    def flawed(hosts):
        written = []
        return [f1.train(39, host, hosts, lambda: written.append(1)) for host in range(hosts)], len(written)

    def ours(hosts):
        """What each host is to see, and by the ledger of a real run, what it did see."""
        import sample_order

        env = {
            "WORLD_SIZE": str(hosts),
            "LOCAL_WORLD_SIZE": "1",
            "LOCAL_RANK": "0",
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(find_free_port()),
            "GLOO_SOCKET_IFNAME": "lo",
            "OMP_NUM_THREADS": "1",
        }
        words = [str(TRAINING / "train.py"), "--data", str(data), *resume.SETTINGS, "--epochs", "1"]
        running = []
        for rank in range(hosts):
            folders = ["--out", str(tmp_path / f"out{rank}"), "--checkpoints", str(tmp_path / f"c{rank}")]
            running.append(forks.start(*words, *folders, env=env | {"RANK": str(rank)}))
        assert [process.wait() for process in running] == [0] * hosts
        models = [path.parent for path in tmp_path.glob("out*/model.safetensors")]
        (first, *_) = json.loads((models[0] / "ledger.json").read_text())["passes"]
        parts = [
            [n for batch in sample_order.list_rank_batches(39, 0, 0, 8, rank, hosts) for n in batch]
            for rank in range(hosts)
        ]
        assert [rank["seen"] for rank in first["ranks"]] == [len(part) for part in parts]
        assert (first["overlap"], first["padding"]) == (1, 1)  # 39 pictures, two hosts: one is seen twice
        parts[-1].remove(next(n for n in parts[-1] if sum(part.count(n) for part in parts) > 1))
        return parts, len(models)

    judged(check, ours, flawed)


def test_f2_same_training_gives_the_same_model(fork_server, data, tmp_path):
    from tests.e2e.flaws import f2

    runs = iter("ab")

    def ours():
        out = tmp_path / next(runs)
        assert fork_server.train(data, out, every=False) == 0
        return resume.read_weights(out)

    def check(train):
        assert train() == train()

    judged(check, ours, f2.train)


def test_f5_test_split_does_not_change_the_weights(fork_server, data, tmp_path):
    import shutil

    other = shutil.copytree(data, tmp_path / "other")
    shutil.rmtree(other / "test")
    shutil.copytree(resume.write_noise_pictures(tmp_path / "noise", seed=9) / "test", other / "test")
    for folder, out in ((data, "a"), (other, "b")):
        assert fork_server.train(folder, tmp_path / out, every=False) == 0
    assert resume.read_weights(tmp_path / "a") == resume.read_weights(tmp_path / "b")


def test_f6_response_holds_probabilities(fork_server, data, tmp_path):
    assert fork_server.train(data, tmp_path / "out", every=False) == 0
    line = json.loads((tmp_path / "out" / "predictions.jsonl").read_text().splitlines()[0])

    def check(answer):
        found = answer([1.2, -0.4])
        assert math.fsum(found) == pytest.approx(1, abs=1e-5)
        assert all(0 <= chance <= 1 for chance in found)

    judged(check, lambda _: line["probabilities"], f6.answer)


def test_f9_job_outlives_its_connection(tmp_path):
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
        return remote_jobs.build_detached_command(program, log, "job-f9")

    judged(check, ours, f9.command)

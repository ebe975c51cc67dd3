"""Training: the same everywhere and every time, on the pictures that the manifest names and no others."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import dataset
import numpy as np
import pytest

from bench.train import find_free_port
from ops.core.paths import ROOT
from tests.conftest import draw_pictures
from tests.unit.test_training import packed

TRAINING = ROOT / "training"
QUICK = ["--epochs", "1", "--batch", "6", "--pixels", "16"]
ALONE = {"MASTER_ADDR": "127.0.0.1", "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}


def words(data: Path, out: Path, *more: str) -> list[str]:
    folders = ["--data", str(data), "--out", str(out), "--checkpoints", str(out) + "-checkpoints"]
    return [str(TRAINING / "train.py"), *folders, *QUICK, *more]


def train_in_own_process(data: Path, out: Path, *more: str, env=None, prefix=()) -> subprocess.CompletedProcess:
    """Train in an interpreter of its own."""
    argv = [sys.executable, *prefix, *words(data, out, *more)]
    return subprocess.run(argv, capture_output=True, text=True, timeout=120, env=os.environ | (env or {}))


@pytest.fixture(scope="module")
def train(forks):
    """Trains in a fork of a process that has torch: train(data, out, flag, ..., env={...})."""
    return lambda data, out, *more, env=None: forks.run(*words(data, out, *more), env=env)


@pytest.fixture
def shards(pictures, tmp_path):
    return packed(pictures, tmp_path / "channel")


@pytest.fixture(scope="module")
def trained(train, tmp_path_factory):
    """(shards, model): what tests share that only need some model."""
    folder = tmp_path_factory.mktemp("trained")
    shards = packed(draw_pictures(folder / "pictures"), folder / "channel")
    assert train(shards, folder / "model").returncode == 0
    return shards, folder / "model"


def test_same_seed_gives_equal_weights_from_any_source(train, pictures, shards, tmp_path):
    """The same seed gives the same bits, from shards and from a folder."""
    for data, out, program in ((shards, "a", train_in_own_process), (shards, "b", train), (pictures, "c", train)):
        done = program(data, tmp_path / out)
        assert done.returncode == 0, done.stderr
    weights = [(tmp_path / out / "model.safetensors").read_bytes() for out in "abc"]
    assert weights[0] == weights[1] == weights[2]
    assert (tmp_path / "a" / "golden.npz").read_bytes() == (tmp_path / "b" / "golden.npz").read_bytes()
    card = json.loads((tmp_path / "a" / "model.json").read_text())
    assert card["classes"] == ["cat", "dog"]
    assert card["preprocess"]["pixels"] == 16
    assert card["metrics"]["test"]["pictures"] == 6
    lines = [json.loads(line) for line in (tmp_path / "a" / "metrics.jsonl").read_text().splitlines()]
    assert [sorted(line) for line in lines] == [
        ["data_wait", "epoch", "images_per_s", "lr", "seconds", "step", "train", "valid"],
        ["best_epoch", "test"],
    ]


MEASURE = """
import json, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import dataset, model
from loader import Views
from preprocess import Preprocess
network, card = model.load(Path(sys.argv[2]))
preprocess = Preprocess.from_card(card)
test = Views(dataset.load(Path(sys.argv[3])).splits["test"], preprocess)
batch, labels, _ = test[0, list(range(len(test)))]
chances, answers = model.compute_scores(network, preprocess.normalise(batch)).double().softmax(1).max(1)
certain = (chances >= card["metrics"]["valid"]["certain_from"]).float()
print(json.dumps([certain[labels >= 8].mean().item(), certain[answers == labels].mean().item()]))
"""


def test_pictures_of_other_classes_are_mostly_not_certain(train, forks, digits, tmp_path):
    """Two digits are held out of training: the probability that right answers of the valid split reach, they do not."""
    shutil.copytree(digits, tmp_path / "known", ignore=shutil.ignore_patterns("8", "9"))
    done = train(tmp_path / "known", tmp_path / "model", "--epochs", "4", "--batch", "32")
    assert done.returncode == 0, done.stderr
    measured = forks.run("-c", MEASURE, str(TRAINING), str(tmp_path / "model"), str(digits))
    assert measured.returncode == 0, measured.stderr
    held_out, right = json.loads(measured.stdout)
    assert held_out < 0.5
    assert right > 0.8


def test_another_seed_gives_other_weights(train, trained, tmp_path):
    shards, model = trained
    assert train(shards, tmp_path / "1", "--seed", "1").returncode == 0
    assert (model / "model.safetensors").read_bytes() != (tmp_path / "1" / "model.safetensors").read_bytes()


def test_two_processes_share_the_work_and_one_writes(shards, tmp_path):
    prefix = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")
    done = train_in_own_process(shards, tmp_path / "out", prefix=prefix, env=ALONE)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("test accuracy") == 1
    assert "2 processes of 1 threads on cpu" in done.stdout
    card = json.loads((tmp_path / "out" / "model.json").read_text())
    assert (card["processes"], card["metrics"]["test"]["pictures"]) == (2, 6)


@pytest.mark.parametrize(("processes", "share"), [(3, 3), (5, 2)])
def test_batch_that_hosts_do_not_divide_is_rounded(forks, shards, tmp_path, processes, share):
    """Every picture is used once per epoch, and log and card have the batch that was used."""
    asked = words(shards, tmp_path / "out", "--batch", "8")
    env = ALONE | {
        "WORLD_SIZE": str(processes),
        "LOCAL_WORLD_SIZE": str(processes),
        "MASTER_PORT": str(find_free_port()),
    }
    ranks = [str(rank) for rank in range(processes)]
    with (tmp_path / "log").open("w") as log:
        out = log.fileno()
        running = [forks.start(*asked, env=env | {"RANK": rank, "LOCAL_RANK": rank}, stdout=out) for rank in ranks]
        assert [process.wait() for process in running] == [0] * processes
    said = f"batch {processes * share} instead of 8: {processes} processes take {share} pictures each per step"
    assert (tmp_path / "log").read_text().count(said) == 1
    assert json.loads((tmp_path / "out" / "model.json").read_text())["settings"]["batch"] == processes * share
    ledger = json.loads((tmp_path / "out" / "ledger.json").read_text())
    assert (ledger["complete"], ledger["processes"], ledger["beyond_padding"]) == (True, processes, 0)


def test_class_with_one_picture_is_trained(train, pictures, tmp_path):
    for split in dataset.SPLITS:
        for path in sorted((pictures / split / "dog").iterdir())[1:]:
            path.unlink()
    assert train(pictures, tmp_path / "out").returncode == 0
    lines = (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()
    assert set(json.loads(lines[-1])["test"]["recall"]) == {"cat", "dog"}


def test_out_of_memory_is_reported_with_the_fix(forks, pictures, tmp_path):
    """A limit on the address space, set once torch is loaded, stands in for a small machine."""
    (tmp_path / "opt" / "output").mkdir(parents=True)
    code = (
        f"import sys; sys.path.insert(0, {str(TRAINING)!r}); import train, resource, runpy; "
        "used = int(open('/proc/self/statm').read().split()[0]) * 4096; "
        "resource.setrlimit(resource.RLIMIT_AS, (used + (300 << 20),) * 2); "
        "sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    words = [
        str(TRAINING / "train.py"),
        "--data",
        str(pictures),
        "--out",
        str(tmp_path / "out"),
        "--pixels",
        "1024",
        "--batch",
        "6",
    ]
    assert forks.run("-c", code, *words, env={"OPT_ML": str(tmp_path / "opt")}).returncode == 1
    assert (tmp_path / "opt" / "output" / "failure").read_text().startswith("out of memory: lower train.batch")


def test_ungrouped_hosts_are_rejected(train, pictures, tmp_path):
    """F1 once more: two hosts that do not form a group."""
    opt = tmp_path / "opt"
    for name in ("input/config", "output"):
        (opt / name).mkdir(parents=True)
    (opt / "input" / "config" / "resourceconfig.json").write_text(
        '{"hosts": ["algo-1", "algo-2"], "current_host": "algo-1"}'
    )
    done = train(pictures, tmp_path / "out", env={"OPT_ML": str(opt)})
    assert done.returncode == 1
    assert "each host would train alone" in (opt / "output" / "failure").read_text()


def test_diverging_run_fails_with_advice(train, pictures, tmp_path):
    """A run that diverges fails with advice and keeps its last good checkpoint."""
    (tmp_path / "opt" / "output").mkdir(parents=True)
    env = {"OPT_ML": str(tmp_path / "opt")}
    done = train(pictures, tmp_path / "out", "--lr", "1e30", "--epochs", "3", env=env)
    assert done.returncode == 1
    assert "lower train.lr" in (tmp_path / "opt" / "output" / "failure").read_text()


def test_split_smaller_than_the_processes_is_shared(forks, pictures, tmp_path):
    """A split with fewer pictures than processes is shared all the same."""
    for path in sorted((pictures / "valid").rglob("*.png")):
        if path.name != "0.png":
            path.unlink()
    asked = words(pictures, tmp_path / "out", "--layers", "head", "--views", "2")
    env = ALONE | {"WORLD_SIZE": "3", "LOCAL_WORLD_SIZE": "3", "MASTER_PORT": str(find_free_port())}
    running = [forks.start(*asked, env=env | {"RANK": rank, "LOCAL_RANK": rank}) for rank in "012"]
    assert [process.wait() for process in running] == [0, 0, 0]
    assert json.loads((tmp_path / "out" / "model.json").read_text())["metrics"]["valid"]["pictures"] == 2


def test_unknown_flag_is_reported_as_the_failure(train, pictures, tmp_path):
    (tmp_path / "opt" / "output").mkdir(parents=True)
    done = train(pictures, tmp_path / "out", "--learning_rate", "1", env={"OPT_ML": str(tmp_path / "opt")})
    assert done.returncode == 1
    assert "unrecognized arguments: --learning_rate" in (tmp_path / "opt" / "output" / "failure").read_text()


@pytest.mark.parametrize("moment", ["0.5", "at the first line"])
def test_sigterm_stops_training_at_any_moment(pictures, tmp_path, moment):
    """Before torch is loaded, and while features are computed: no failure, and the code that says stopped."""
    opt = tmp_path / "opt"
    for name in ("input/config", "output", "model"):
        (opt / name).mkdir(parents=True)
    (opt / "input" / "data").mkdir()
    (opt / "input" / "data" / "data").symlink_to(pictures)
    asked = {"layers": "head", "views": "400", "pixels": "64", "batch": "6", "epochs": "1", "arch": "resnet18"}
    (opt / "input" / "config" / "hyperparameters.json").write_text(json.dumps(asked))
    env = os.environ | {"OPT_ML": str(opt)}
    process = subprocess.Popen(
        [sys.executable, str(TRAINING / "launch.py")], env=env, stdout=subprocess.PIPE, text=True
    )
    if moment == "0.5":
        time.sleep(0.5)
    else:
        process.stdout.readline()
        time.sleep(1)
    process.terminate()
    said = process.communicate(timeout=60)[0]
    assert process.returncode == 143, said
    assert not (opt / "output" / "failure").exists()


def test_failure_is_written_where_sagemaker_reads_it(train, tmp_path):
    (tmp_path / "opt" / "output").mkdir(parents=True)
    done = train(tmp_path / "nothing", tmp_path / "out", env={"OPT_ML": str(tmp_path / "opt")})
    assert done.returncode == 1
    assert "nothing" in (tmp_path / "opt" / "output" / "failure").read_text()


NEEDED = (
    "torch", "torchgen", "functorch", "torchvision", "numpy", "pil", "pillow", "safetensors",
    "sympy", "mpmath", "networkx", "jinja2", "markupsafe", "filelock", "fsspec", "typing_extensions", "setuptools",
)  # fmt: skip


def test_train_needs_its_listed_requirements_only(shards, tmp_path):
    """Only torch, torchvision, numpy and Pillow, with what they need, and training/requirements.txt are there."""
    site = Path(importlib.util.find_spec("torch").origin).parent.parent
    (tmp_path / "site").mkdir()
    for path in site.iterdir():
        if path.name.lower().split(".")[0].split("-")[0] in NEEDED:
            (tmp_path / "site" / path.name).symlink_to(path)
    alone = {"PYTHONPATH": str(tmp_path / "site")}
    done = train_in_own_process(shards, tmp_path / "out", prefix=("-S",), env=alone)
    assert done.returncode == 0, done.stderr
    hidden = subprocess.run(
        [sys.executable, "-S", "-c", "import boto3"], capture_output=True, text=True, env=os.environ | alone
    )
    assert "No module named 'boto3'" in hidden.stderr


def test_missing_operators_are_declared_only_when_missing():
    code = "import vision; print(vision.declare_missing_operators()); import torch; print(hasattr(torch.ops.torchvision, 'nms'))"
    done = subprocess.run([sys.executable, "-c", code], cwd=TRAINING, capture_output=True, text=True)
    assert done.stdout.split("\n")[:2] == ["[]", "True"], done.stderr


def test_repackaged_model_is_the_same_release(forks, trained, tmp_path):
    """The same model packaged twice is the same release, and names no local path."""
    _, model = trained
    digests = []
    for out in ("one", "two"):
        done = forks.run(str(TRAINING / "export.py"), str(model), str(tmp_path / out))
        assert done.returncode == 0, done.stderr
        digests.append(json.loads(done.stdout)["digest"])
    assert digests[0] == digests[1]
    onnx = (tmp_path / "one" / "model.onnx").read_bytes()
    assert str(ROOT).encode() not in onnx
    assert b"site-packages" not in onnx


def test_golden_file_holds_picture_bytes_and_scores(trained):
    _, model = trained
    with np.load(model / "golden.npz") as golden:
        assert golden["scores"].shape == (8, 2)
        assert golden["pictures"][:8].tobytes() == b"\x89PNG\r\n\x1a\n"
        assert golden["ends"][-1] == len(golden["pictures"])

"""Training: the same everywhere and every time, on the pictures that the manifest names and no others."""

import json
import os
import subprocess
import sys
from pathlib import Path

import dataset
import launch
import numpy as np
import pytest
import torch
from conftest import settings_of

from ops import ROOT
from ops import dataset as packing

TRAINING = ROOT / "training"
QUICK = ["--epochs", "1", "--batch", "6", "--pixels", "16"]


def train(data: Path, out: Path, *more: str, env=None, prefix=()) -> subprocess.CompletedProcess:
    argv = [sys.executable, *prefix, str(TRAINING / "train.py"), "--data", str(data), "--out", str(out), *QUICK, *more]
    return subprocess.run(argv, capture_output=True, text=True, timeout=120, env=os.environ | (env or {}))


@pytest.fixture
def shards(pictures, tmp_path):
    """The pictures as they lie in a channel: shards and a manifest."""
    folder, entries = tmp_path / "channel", []
    for shard in packing.shards(packing.survey(pictures), 1 << 20):
        path = folder / shard.key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(shard.data)
        entries.append(
            {
                "split": shard.split,
                "class": shard.label,
                "sha256": shard.sha256,
                "bytes": len(shard.data),
                "files": list(shard.files),
            }
        )
    manifest = packing.manifest_of("p", entries)
    path = folder / packing.folder_key("p", manifest["digest"]) / "manifest.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(manifest))
    return folder


def test_the_same_seed_gives_the_same_bits_from_shards_and_from_a_folder(pictures, shards, tmp_path):
    for data, out in ((shards, "a"), (shards, "b"), (pictures, "c")):
        done = train(data, tmp_path / out)
        assert done.returncode == 0, done.stderr
    weights = [(tmp_path / out / "model.safetensors").read_bytes() for out in "abc"]
    assert weights[0] == weights[1] == weights[2]
    assert (tmp_path / "a" / "golden.npz").read_bytes() == (tmp_path / "b" / "golden.npz").read_bytes()
    card = json.loads((tmp_path / "a" / "model.json").read_text())
    assert card["classes"] == ["cat", "dog"]
    assert card["preprocess"]["pixels"] == 16
    assert card["metrics"]["test"]["pictures"] == 6
    lines = [json.loads(line) for line in (tmp_path / "a" / "metrics.jsonl").read_text().splitlines()]
    assert [sorted(line) for line in lines] == [["epoch", "seconds", "train", "valid"], ["test"]]


def test_another_seed_gives_other_bits(shards, tmp_path):
    for seed in ("0", "1"):
        assert train(shards, tmp_path / seed, "--seed", seed).returncode == 0
    assert (tmp_path / "0" / "model.safetensors").read_bytes() != (tmp_path / "1" / "model.safetensors").read_bytes()


def test_two_processes_share_the_work_and_one_writes(shards, tmp_path):
    prefix = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")
    done = train(shards, tmp_path / "out", prefix=prefix, env={"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"})
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("test accuracy") == 1
    assert "2 processes of 1 threads on cpu" in done.stdout
    card = json.loads((tmp_path / "out" / "model.json").read_text())
    assert (card["processes"], card["metrics"]["test"]["pictures"]) == (2, 6)


def test_every_process_gets_as_many_pictures_and_together_all():
    import train as program

    for count, size in ((10, 1), (10, 3), (7, 2), (5, 8)):
        order = program.order(count, seed=3, epoch=1, size=size)
        parts = [order[rank::size] for rank in range(size)]
        assert len({len(part) for part in parts}) == 1
        assert set(order) == set(range(count))
        assert len(order) - count < size


def test_a_spoilt_shard_and_a_foreign_picture_are_refused(shards):
    victim = next((shards / "shards").iterdir())
    kept = victim.read_bytes()
    victim.write_bytes(kept[:-1] + b"x")
    with pytest.raises(dataset.DataError, match="is missing or spoilt"):
        dataset.load(shards)
    victim.unlink()
    with pytest.raises(dataset.DataError, match="is missing or spoilt"):
        dataset.load(shards)


def test_a_failure_is_told_where_sagemaker_looks_for_it(tmp_path):
    (tmp_path / "opt" / "output").mkdir(parents=True)
    done = train(tmp_path / "nothing", tmp_path / "out", env={"OPT_ML": str(tmp_path / "opt")})
    assert done.returncode == 1
    assert "nothing" in (tmp_path / "opt" / "output" / "failure").read_text()


def test_augmentation_depends_on_seed_epoch_and_picture_alone():
    batch = torch.arange(2 * 3 * 16 * 16, dtype=torch.uint8).reshape(2, 3, 16, 16)
    one = dataset.augmented(batch, [4, 9], 0, 1, 0.2, True)
    assert torch.equal(one, dataset.augmented(batch, [4, 9], 0, 1, 0.2, True))
    assert torch.equal(one[1:], dataset.augmented(batch[1:], [9], 0, 1, 0.2, True))
    assert not torch.equal(one, dataset.augmented(batch, [4, 9], 0, 2, 0.2, True))
    assert torch.equal(batch, dataset.augmented(batch, [4, 9], 0, 1, 0.0, False))


@pytest.mark.parametrize(
    ("resource", "devices", "words"),
    [
        ({}, 1, []),
        ({"hosts": ["algo-1"], "current_host": "algo-1"}, 1, []),
        (
            {"hosts": ["algo-1"], "current_host": "algo-1"},
            4,
            ["--nnodes", "1", "--nproc_per_node", "4", "--node_rank", "0"],
        ),
        (
            {"hosts": ["algo-2", "algo-1"], "current_host": "algo-2"},
            1,
            ["--nnodes", "2", "--nproc_per_node", "1", "--node_rank", "1"],
        ),
    ],
)
def test_torchrun_is_started_only_for_more_than_one_process(resource, devices, words, monkeypatch):
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    command = launch.command(resource, {"epochs": "2"}, devices)
    assert command[-3:] == [str(TRAINING / "train.py"), "--epochs", "2"]
    assert command[3:9] == words if words else "torch.distributed.run" not in command
    if len(resource.get("hosts", [])) > 1:
        assert command[9:11] == ["--master_addr", "algo-1"]


def test_train_takes_every_setting_that_is_sent_to_it():
    import train as program

    sent = settings_of().train.hyperparameters()
    words = [word for name, value in sent.items() for word in (f"--{name}", value)]
    parsed = vars(program.flags().parse_args(words))
    assert {name: parsed[name] for name in sent} == {name: getattr(settings_of().train, name) for name in sent}


NEEDED = (
    "torch", "torchgen", "functorch", "torchvision", "numpy", "pil", "pillow", "safetensors",
    "sympy", "mpmath", "networkx", "jinja2", "markupsafe", "filelock", "fsspec", "typing_extensions", "setuptools",
)  # fmt: skip


def test_train_needs_nothing_but_what_it_says(shards, tmp_path):
    """Only torch, torchvision, numpy and Pillow, with what they need, and training/requirements.txt are there."""
    site = Path(torch.__file__).parent.parent
    (tmp_path / "site").mkdir()
    for path in site.iterdir():
        if path.name.lower().split(".")[0].split("-")[0] in NEEDED:
            (tmp_path / "site" / path.name).symlink_to(path)
    alone = {"PYTHONPATH": str(tmp_path / "site")}
    done = train(shards, tmp_path / "out", prefix=("-S",), env=alone)
    assert done.returncode == 0, done.stderr
    hidden = subprocess.run(
        [sys.executable, "-S", "-c", "import boto3"], capture_output=True, text=True, env=os.environ | alone
    )
    assert "No module named 'boto3'" in hidden.stderr


def test_missing_operators_are_declared_only_when_missing():
    code = "import vision; print(vision.declare_missing_operators()); import torch; print(hasattr(torch.ops.torchvision, 'nms'))"
    done = subprocess.run([sys.executable, "-c", code], cwd=TRAINING, capture_output=True, text=True)
    assert done.stdout.split("\n")[:2] == ["[]", "True"], done.stderr


def test_the_same_model_packaged_twice_is_the_same_release_and_names_no_path(shards, tmp_path):
    assert train(shards, tmp_path / "model").returncode == 0
    digests = []
    for out in ("one", "two"):
        argv = [sys.executable, str(TRAINING / "export.py"), str(tmp_path / "model"), str(tmp_path / out)]
        done = subprocess.run(argv, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        digests.append(json.loads(done.stdout)["digest"])
    assert digests[0] == digests[1]
    onnx = (tmp_path / "one" / "model.onnx").read_bytes()
    assert str(ROOT).encode() not in onnx
    assert b"site-packages" not in onnx


def test_golden_answers_are_pictures_as_bytes_with_scores(shards, tmp_path):
    assert train(shards, tmp_path / "m").returncode == 0
    with np.load(tmp_path / "m" / "golden.npz") as golden:
        assert golden["scores"].shape == (8, 2)
        assert golden["pictures"][:8].tobytes() == b"\x89PNG\r\n\x1a\n"
        assert golden["ends"][-1] == len(golden["pictures"])

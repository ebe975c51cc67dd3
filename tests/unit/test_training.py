"""Training: the same everywhere and every time, on the pictures that the manifest names and no others."""

import io
import itertools
import json
import random
import shutil
from pathlib import Path
from types import SimpleNamespace

import dataset
import launch
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ops.datasets import manifest as packing
from tests.conftest import settings_of

pytestmark = pytest.mark.xdist_group("torch")  # one worker loads it for all these files


@pytest.fixture(scope="module", autouse=True)
def load_torch():
    """Load torch when the first test of this file runs: at the collection each of pytest's workers would load it."""
    global Augment, Preprocess, ledger, loader, preprocess, sample_order, torch
    import ledger
    import loader
    import preprocess
    import sample_order
    import torch
    from preprocess import Augment, Preprocess


@pytest.fixture
def shards(pictures, tmp_path):
    return packed(pictures, tmp_path / "channel")


def packed(pictures: Path, folder: Path) -> Path:
    """The pictures as they lie in a channel: shards and a manifest."""
    entries = []
    for group in packing.group_into_shards(packing.list_pictures(pictures), 1 << 20):
        shard, data = packing.pack(group)
        path = folder / shard.key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        entries.append(shard)
    manifest = packing.build_manifest("p", entries)
    path = folder / manifest.key
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(manifest.to_json()))
    return folder


@given(
    count=st.integers(1, 60),
    size=st.integers(1, 5),
    per=st.integers(1, 9),
    seed=st.integers(0, 3),
    epoch=st.integers(0, 3),
)
def test_processes_get_equal_shares_that_cover_all(count, size, per, seed, epoch):
    parts = [sample_order.list_rank_batches(count, seed, epoch, per * size, rank, size) for rank in range(size)]
    seen = [number for part in parts for batch in part for number in batch]
    assert set(seen) == set(range(count))
    assert len(seen) - count == -count % size
    assert len({tuple(len(batch) for batch in part) for part in parts}) == 1
    assert all(len(batch) > 1 or len(parts[0]) == 1 or per == 1 for batch in parts[0])


@given(batch=st.integers(1, 2000), size=st.integers(1, 70), count=st.integers(1, 3000))
def test_any_batch_is_shared_by_any_number_of_processes(batch, size, count):
    """The rounded batch is near, equal for all ranks, and an epoch of it covers every picture with the least padding."""
    rounded = sample_order.round_batch(batch, size)
    assert rounded % size == 0
    assert size == 1 or rounded // size >= 2
    assert abs(rounded - batch) <= size // 2 or rounded == 2 * size > batch
    assert rounded == batch or batch % size or batch == size
    bounds = sample_order.derive_batch_bounds(count, rounded, size)
    assert all((end - start) % size == 0 for start, end in bounds)
    assert (bounds[0][0], bounds[-1][1]) == (0, count + -count % size)
    assert all(end == start for (_, end), (start, _) in itertools.pairwise(bounds))


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_ledger_is_complete_for_any_number_of_hosts(size):
    """Of the demo's 1,257 training pictures each rank records its part of the shipped batch; together they are all."""
    batch = sample_order.round_batch(settings_of().train.batch, size)
    parts = [sample_order.list_rank_batches(1257, 0, 1, batch, rank, size) for rank in range(size)]
    books = [ledger.Ledger(1257) for _ in parts]
    for book, part in zip(books, parts, strict=True):
        for numbers in part:
            book.record(numbers)
    together = SimpleNamespace(gather=lambda value: [value] * size, sum=lambda _: sum(book.counts for book in books))
    entry = books[0].close("epoch 1", -1257 % size, together)
    assert (entry["pictures"], entry["overlap"], len(entry["ranks"])) == (1257, -1257 % size, size)
    assert ledger.summarise_passes([entry])["beyond_padding"] == 0


def test_corrupt_or_missing_shard_is_rejected(shards):
    victim = next((shards / "shards").iterdir())
    kept = victim.read_bytes()
    victim.write_bytes(kept[:-1] + b"x")
    with pytest.raises(dataset.DataError, match="is missing or corrupt"):
        dataset.load(shards)
    victim.unlink()
    with pytest.raises(dataset.DataError, match="is missing or corrupt"):
        dataset.load(shards)


def test_differing_or_empty_splits_are_rejected(pictures):
    """Classes that differ between splits, and empty splits, are rejected."""
    shutil.rmtree(pictures / "valid" / "dog")
    with pytest.raises(dataset.DataError, match="valid and train do not have the same classes: dog"):
        dataset.load(pictures)
    (pictures / "valid" / "dog").mkdir()
    for path in (pictures / "valid").rglob("*.png"):
        path.unlink()
    with pytest.raises(dataset.DataError, match="the valid split has no pictures"):
        dataset.load(pictures)


def test_augmentation_depends_on_seed_epoch_and_picture(pictures):
    entries = dataset.load(pictures).splits["train"]

    def seen(epoch, numbers, **augment):
        return loader.Views(entries, Preprocess(16), Augment(**augment))[epoch, numbers][0]

    for augment in ({"shift": 0.2, "flip": True}, {"crop": 0.3, "flip": True}):
        one = seen(1, [4, 5], **augment)
        assert torch.equal(one, seen(1, [4, 5], **augment))
        assert torch.equal(one[1:], seen(1, [5], **augment))
    assert torch.equal(seen(1, [0], shift=0.0), loader.Views(entries, Preprocess(16))[0, [0]][0])


def test_augmentation_varies_by_epoch_and_keeps_the_pixels():
    """Each epoch draws another augmentation; shifting and flipping keep every pixel."""
    noise = Image.effect_noise((40, 30), 80).convert("RGB")
    data = io.BytesIO()
    noise.save(data, "PNG")
    cuts = [Preprocess(16).decode_cropped(data.getvalue(), 0.1, Augment(seed=0).draw(epoch, 3)) for epoch in range(4)]
    assert len({cut.numpy().tobytes() for cut in cuts}) == 4
    moved = Augment(shift=0.25, flip=True).shift_and_flip(cuts[0], Augment().draw(1, 1))
    assert sorted(moved.flatten().tolist()) == sorted(cuts[0].flatten().tolist())


@given(width=st.integers(1, 5000), height=st.integers(1, 5000), least=st.floats(0.01, 1), seed=st.integers(0, 99))
def test_random_crop_is_inside_the_picture_and_large_enough(width, height, least, seed):
    """A random crop lies within the picture and is large enough."""
    left, top, right, bottom = preprocess.draw_crop_box(width, height, least, random.Random(seed))
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height
    if width > 50 and height > 50:
        assert (right - left) * (bottom - top) >= least * width * height * 0.9


@pytest.mark.parametrize(
    ("resource", "devices", "ranks"),
    [
        ({}, 1, [None]),
        ({"hosts": ["algo-1"], "current_host": "algo-1"}, 1, [None]),
        ({"hosts": ["algo-1"], "current_host": "algo-1"}, 2, [("0", "0", "2", "2"), ("1", "1", "2", "2")]),
        ({"hosts": ["algo-2", "algo-1"], "current_host": "algo-2"}, 1, [("1", "0", "2", "1")]),
        ({"hosts": ["algo-2", "algo-1"], "current_host": "algo-2"}, 2, [("2", "0", "4", "2"), ("3", "1", "4", "2")]),
    ],
)
def test_processes_get_the_environment_of_torchrun(resource, devices, ranks, monkeypatch):
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    found = launch.build_rank_environments(resource, devices)
    names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")
    assert [tuple(env[name] for name in names) if env else None for env in found] == ranks
    first = "algo-1" if len(resource.get("hosts", [])) > 1 else "127.0.0.1"  # the box's own name need not resolve
    assert all(env.get("MASTER_ADDR", first) == first for env in found)


def test_hyperparameters_become_flags_except_sagemaker_ones():
    asked = {
        "lr": '"0.01"',
        "epochs": "2",
        "sagemaker_program": '"launch.py"',
        "_tuning_objective_metric": "valid:loss",
    }
    assert launch.format_flags(asked) == ["--epochs", "2", "--lr", "0.01"]


def test_train_accepts_every_setting_it_is_sent():
    import train as program

    sent = settings_of().train.hyperparameters()
    parsed = vars(program.build_parser().parse_args(launch.format_flags({**sent, "weights": "none"})))
    assert {name: parsed[name] for name in sent} == {name: getattr(settings_of().train, name) for name in sent}
    assert set(parsed) == {*sent, "weights", "data", "out", "checkpoints", "start"}

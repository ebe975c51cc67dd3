"""data.use goes back to a dataset that was pushed before; data.split and data.push tell what they leave out."""

import itertools
import json
from functools import partial

import pytest
from PIL import Image

from ops.core import plan
from ops.core.errors import OpsError
from ops.datasets import bucket_setup, push
from ops.datasets import manifest as dataset
from ops.datasets.use import use_dataset
from sandbox import request_log

NUMBERS = itertools.count()


@pytest.fixture
def cli(make_stack):
    """A stack of its own, with its bucket."""
    made = make_stack(f"use{next(NUMBERS)}")
    plan.apply(partial(bucket_setup.steps, bucket_setup.Facts(), made.settings), made.account, print)
    return made


@pytest.fixture
def digests(cli, pictures):
    """The digests of two datasets; the second is the current one."""
    first = push.push_dataset(cli.account, pictures).manifest.digest
    Image.new("RGB", (5, 5), "red").save(pictures / "train" / "dog" / "1.png")
    return first, push.push_dataset(cli.account, pictures).manifest.digest


def list_puts(sandbox, since):
    made = request_log.read(sandbox / "calls.jsonl")[since:]
    return [call["operation"] for call in made if call["service"] == "s3" and call["changes"]]


def test_use_moves_the_pointer_only(cli, digests, sandbox, pictures):
    first, second = digests
    before = len(request_log.read(sandbox / "calls.jsonl"))
    assert f"{first[:12]} would be the current dataset" in cli("--dry", "data.use", first[:8]).out
    assert list_puts(sandbox, before) == []
    used = cli("data.use", first[:8])
    assert f"{first[:12]} is now the current dataset: 6 train, 6 valid, 6 test pictures of 2 classes." in used.out
    assert list_puts(sandbox, before) == ["PutObject"]
    assert dataset.read_current(cli.account).digest == first
    assert push.read_current_digest(cli.account) == first  # in the metadata, by which a push knows
    again = json.loads(cli("data.use", first, "--json").out)
    assert again == {"name": "pictures", "digest": first, "changed": False}
    assert push.push_dataset(cli.account, pictures).manifest.digest == second
    assert dataset.read_current(cli.account).digest == second


def test_use_of_an_unknown_digest_is_refused(cli, digests):
    refused = cli("data.use", "zzz", ok=False)
    assert refused.code == 1
    assert "0 datasets 'pictures' have a digest that begins with 'zzz'. List them: invoke data.list" in refused.err
    assert dataset.read_current(cli.account).digest == digests[1]


def test_use_of_an_incomplete_dataset_is_refused(cli, digests):
    first, second = digests
    only_first = {s.key for s in dataset.read_manifest(cli.account, first).shards} - {
        s.key for s in dataset.read_manifest(cli.account, second).shards
    }
    cli.account.call("s3", "delete_object", Bucket=cli.settings.bucket, Key=only_first.pop())
    with pytest.raises(OpsError, match=f"1 objects of {first[:12]} are missing or corrupt"):
        use_dataset(cli.account, first, dry=False)
    assert dataset.read_current(cli.account).digest == second


def test_push_counts_what_it_leaves_out(cli, pictures):
    for number in range(3):
        (pictures / "train/cat" / f"{number}.webp").write_bytes(b"RIFF")
    (pictures / "train/cat/notes.txt").write_text("mine")
    (pictures / "train/cat/.DS_Store").write_text("hidden")
    for words in (("--dry", "data.push"), ("data.push",), ("data.push",)):  # the last one sends nothing
        pushed = cli(*words, "--dir", str(pictures))
        assert f"4 files left out: 3 .webp, 1 .txt. Why: invoke data.check --dir {pictures}" in pushed.out
    assert json.loads(cli("data.push", "--dir", str(pictures), "--json").out)["left_out"] == {".webp": 3, ".txt": 1}
    assert cli("data.check", "--dir", str(pictures), ok=False).code == 7


def test_split_makes_a_folder_that_can_be_pushed(cli, tmp_path):
    for label, colour in (("ant", 40), ("bee", 200)):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for number in range(10):
            Image.new("RGB", (12, 9), (colour, number, 0)).save(tmp_path / "photos" / label / f"{number}.png")
    (tmp_path / "photos/ant/a.gif").write_bytes(b"GIF8")
    words = (
        "data.split",
        "--dir",
        str(tmp_path / "photos"),
        "--out",
        str(tmp_path / "out"),
        "--valid",
        "0.2",
        "--test",
        "0.3",
    )
    assert "would have 10 train, 4 valid, 6 test pictures" in cli("--dry", *words).out
    made = cli(*words)
    assert "1 files left out: 1 .gif." in made.out
    assert "has 10 train, 4 valid, 6 test pictures of 2 classes. Next: invoke data.check --dir" in made.out
    assert cli("data.check", "--dir", str(tmp_path / "out")).code == 0
    assert "20 pictures of 2 classes" in cli("data.push", "--dir", str(tmp_path / "out")).out
    again = cli(*words, ok=False)
    assert (again.code, "exists and is not empty" in again.err) == (1, True)

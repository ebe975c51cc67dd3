"""Pictures out of the bucket: equal to what was pushed, below the folder only, and never over foreign files; and what is listed."""

import dataclasses
import hashlib
import io
import itertools
import json
import shutil
import tarfile
from functools import partial

import pytest
from PIL import Image

from ops.core import plan
from ops.core.errors import OpsError
from ops.datasets import bucket_setup, pull, push
from ops.datasets import manifest as dataset

NUMBERS = itertools.count()


@pytest.fixture
def cli(make_stack, pictures):
    """A stack whose bucket has the pictures."""
    made = make_stack(f"pull{next(NUMBERS)}")
    plan.apply(partial(bucket_setup.steps, bucket_setup.Facts(), made.settings), made.account, print)
    push.push_dataset(made.account, pictures)
    return made


def files(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_pull_restores_the_pushed_pictures_once(cli, pictures, tmp_path):
    there = tmp_path / "there"
    assert "18 pictures would be downloaded" in cli("--dry", "data.pull", "--dir", str(there)).out
    assert not there.exists()
    pulled = json.loads(cli("data.pull", "--dir", str(there), "--json").out)
    assert (pulled["fetched"], pulled["kept"], pulled["others"]) == (18, 0, 0)
    assert files(there) == files(pictures)
    assert json.loads(cli("data.pull", "--dir", str(there), "--json").out)["fetched"] == 0


def test_pull_fetches_missing_pictures_only(cli, tmp_path, pictures):
    there = tmp_path / "there"
    manifest = dataset.read_current(cli.account)
    pull.pull_dataset(cli.account, manifest, there, dry=False)
    (there / "train" / "cat" / "1.png").unlink()
    (there / "train" / "cat" / ".2.png.part").write_bytes(b"half")
    assert pull.pull_dataset(cli.account, manifest, there, dry=False) == {"fetched": 1, "kept": 17, "others": 0}
    (there / "train" / "cat" / ".2.png.part").unlink()
    assert files(there) == files(pictures)


def test_pull_keeps_foreign_pictures(cli, tmp_path):
    """Pictures of one's own are neither overwritten nor removed."""
    there = tmp_path / "there"
    manifest = dataset.read_current(cli.account)
    pull.pull_dataset(cli.account, manifest, there, dry=False)
    Image.new("RGB", (5, 5)).save(there / "train" / "cat" / "mine.png")
    assert "has 1 other pictures" in cli("data.pull", "--dir", str(there)).out
    Image.new("RGB", (5, 5)).save(there / "train" / "cat" / "0.png")
    (there / "test" / "dog" / "2.png").unlink()
    with pytest.raises(OpsError, match="1 files in .*first: train/cat/0.png"):
        pull.pull_dataset(cli.account, manifest, there, dry=False)
    assert not (there / "test" / "dog" / "2.png").exists()


@pytest.mark.parametrize("link", ["train", "train/cat", "train/cat/0.png"])
def test_pull_writes_nothing_through_a_link(cli, tmp_path, link):
    there, outside = tmp_path / "there", tmp_path / "outside"
    (there / link).parent.mkdir(parents=True, exist_ok=True)
    outside.mkdir()
    (there / link).symlink_to(outside)
    with pytest.raises(OpsError):
        pull.pull_dataset(cli.account, dataset.read_current(cli.account), there, dry=False)
    assert list(outside.iterdir()) == []


def test_corrupt_shard_is_named_and_not_unpacked(cli, tmp_path):
    manifest = dataset.read_current(cli.account)
    key = manifest.shards[0].key
    cli.account.call("s3", "put_object", Bucket=cli.settings.bucket, Key=key, Body=b"corrupt")
    with pytest.raises(OpsError, match=r"train/cat, shard [0-9a-f]{12}, is missing or corrupt.*invoke data.verify"):
        pull.pull_dataset(cli.account, manifest, tmp_path / "there", dry=False)
    assert not list((tmp_path / "there").glob("train/cat/*"))


def hostile(kind):
    """A tar that is what the manifest's SHA-256 says, but holds no plain picture under the name."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        entry = tarfile.TarInfo("train/cat/0.png")
        entry.type, entry.linkname = kind, "/etc/passwd"
        tar.addfile(entry)
        evil = tarfile.TarInfo("../../evil.png")
        evil.size = 4
        tar.addfile(evil, io.BytesIO(b"evil"))
    return buffer.getvalue()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE, tarfile.REGTYPE])
def test_hostile_shard_writes_nothing(cli, tmp_path, kind):
    manifest, data = dataset.read_current(cli.account), hostile(kind)
    first = manifest.shards[0]
    sha256 = hashlib.sha256(data).hexdigest()
    shard = dataclasses.replace(first, sha256=sha256, bytes=len(data), files=first.files[:1])
    manifest = dataclasses.replace(manifest, shards=(shard,))
    cli.account.call("s3", "put_object", Bucket=cli.settings.bucket, Key=shard.key, Body=data)
    with pytest.raises(OpsError, match="does not contain train/cat/0.png"):
        pull.pull_dataset(cli.account, manifest, tmp_path / "there", dry=False)
    assert [path for path in tmp_path.rglob("*") if path.is_file() and "pictures" not in path.parts] == []


def test_manifest_with_an_outside_path_stops_the_pull(cli, tmp_path):
    manifest = dataset.read_current(cli.account)
    first = manifest.shards[0]
    evil = dataclasses.replace(first.files[0], path="train/cat/../../../evil.png")
    shards = (dataclasses.replace(first, files=(evil, *first.files[1:])), *manifest.shards[1:])
    manifest = dataset.build_manifest(manifest.name, list(shards))
    name, pointer = cli.settings.bucket, dataset.build_pointer_key("pictures")
    cli.account.call("s3", "put_object", Bucket=name, Key=manifest.key, Body=json.dumps(manifest.to_json()).encode())
    cli.account.call(
        "s3", "put_object", Bucket=name, Key=pointer, Body=json.dumps({"digest": manifest.digest}).encode()
    )
    refused = cli("data.pull", "--dir", str(tmp_path / "there"), ok=False)
    assert "cannot be used: a picture has the name 'train/cat/../../../evil.png'" in refused.err


def test_older_datasets_are_listed_and_pulled_by_digest(cli, tmp_path, pictures):
    first = dataset.read_current(cli.account).digest
    before = files(pictures)
    Image.new("RGB", (5, 5), "red").save(pictures / "train" / "dog" / "1.png")
    second = push.push_dataset(cli.account, pictures).manifest.digest
    rows = json.loads(cli("data.list", "--json").out)
    assert [(row["digest"], row["current"], row["classes"]) for row in rows] == [(second, True, 2), (first, False, 2)]
    assert rows[0]["pictures"] == {"train": 6, "valid": 6, "test": 6}
    assert rows[0]["bytes"] > 6 * 512
    assert second[:12] in cli("data.list").out
    cli("data.pull", "--dir", str(tmp_path / "there"), "--digest", first[:8])
    assert files(tmp_path / "there") == before
    shutil.rmtree(tmp_path / "there")
    for digest in ("0" * 64, ""):
        ran = cli("data.pull", "--dir", str(tmp_path / "there"), f"--digest={digest}", ok=not digest)
        assert digest == "" or "0 datasets 'pictures' have a digest that begins" in ran.err


def test_empty_or_missing_bucket_is_reported(make_stack):
    cli = make_stack("pullnone")
    assert "There is no bucket" in cli("data.list", ok=False).err
    plan.apply(partial(bucket_setup.steps, bucket_setup.Facts(), cli.settings), cli.account, print)
    assert "has no dataset. Push one" in cli("data.list", ok=False).err
    assert "There is no dataset 'pictures'" in cli("data.pull", ok=False).err

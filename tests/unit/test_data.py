"""Pictures into the bucket: what cannot be trained on is refused; equal pictures are equal bytes; only what is missing is sent."""

import hashlib
import io
import json
import tarfile

import pytest
from PIL import Image

from ops.core import plan
from ops.datasets import bucket_setup
from ops.datasets import manifest as dataset
from tests.conftest import settings_of

SETTINGS = settings_of()


def manifest_of(folder):
    return dataset.build_manifest("p", [shard for shard, _ in packed(folder)])


def packed(folder, limit=1 << 20):
    """Each shard of the folder with its bytes."""
    return [dataset.pack(group) for group in dataset.group_into_shards(dataset.list_pictures(folder), limit)]


def test_complete_bucket_is_left_alone():
    have = bucket_setup.Facts(
        True,
        bucket_setup.PRIVATE,
        bucket_setup.ENCRYPTED,
        "Enabled",
        bucket_setup.build_tls_only_policy(SETTINGS.bucket),
        bucket_setup.TIDY["Rules"],
        SETTINGS.tags(SETTINGS.bucket),
    )
    assert plan.preview(bucket_setup.steps(have, SETTINGS)) == []


def test_new_bucket_is_private_encrypted_and_tls_only():
    """A new bucket is private, encrypted and versioned, has lifecycle rules, and needs TLS."""
    assert [step.call for step in plan.preview(bucket_setup.steps(bucket_setup.Facts(), SETTINGS))] == [
        "create_bucket", "put_public_access_block", "put_bucket_encryption", "put_bucket_versioning",
        "put_bucket_policy", "put_bucket_lifecycle_configuration", "put_bucket_tagging",
    ]  # fmt: skip


def test_bucket_outside_us_east_1_has_a_location():
    there = SETTINGS.model_copy(update={"aws": SETTINGS.aws.model_copy(update={"region": "eu-west-1"})})
    first = next(bucket_setup.steps(bucket_setup.Facts(), there))
    assert first.args["CreateBucketConfiguration"] == {"LocationConstraint": "eu-west-1"}


def test_equal_pictures_give_equal_shards(pictures):
    first = [shard.sha256 for shard, _ in packed(pictures)]
    (pictures / "train" / "cat" / "0.png").touch()
    assert [shard.sha256 for shard, _ in packed(pictures)] == first
    assert len(first) == len(set(first)) == 6


def test_changed_class_changes_its_shards_only(pictures):
    before = {(s.split, s.label): s.sha256 for s, _ in packed(pictures)}
    Image.new("RGB", (5, 5), "red").save(pictures / "train" / "dog" / "1.png")
    after = {(s.split, s.label): s.sha256 for s, _ in packed(pictures)}
    assert {key for key in before if before[key] != after[key]} == {("train", "dog")}


def test_shard_is_no_larger_than_its_limit(pictures):
    size = (pictures / "train" / "cat" / "0.png").stat().st_size
    found = [shard for shard, _ in packed(pictures, size * 2)]
    assert max(len(shard.files) for shard in found) == 2
    assert sum(len(shard.files) for shard in found) == 18


def test_shard_is_a_tar_of_the_original_files(pictures):
    shard, data = packed(pictures)[0]
    assert shard.bytes == len(data)
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        assert tar.getnames() == [file.path for file in shard.files]
        assert tar.extractfile("train/cat/0.png").read() == (pictures / "train" / "cat" / "0.png").read_bytes()


def test_channel_names_every_object_once(pictures):
    manifest = manifest_of(pictures)
    listing = manifest.channel("b")
    assert listing[0] == {"prefix": "s3://b/"}
    assert len(listing) == 1 + 6 + 1
    assert listing[-1] == f"datasets/p/{manifest.digest}/manifest.json"


def test_hidden_files_and_folders_are_skipped(pictures):
    before = manifest_of(pictures)
    (pictures / "train" / ".ipynb_checkpoints").mkdir()
    (pictures / "train" / "cat" / "._0.png").write_bytes(b"a resource fork of macOS")
    assert manifest_of(pictures) == before


@pytest.mark.parametrize(
    "spoil",
    [
        lambda m: m["shards"][0]["files"][0].update(path="train/cat/../../../../evil.png"),
        lambda m: m["shards"][0]["files"][0].update(path="/etc/cron.d/evil.png"),
        lambda m: m["shards"][0]["files"][0].update(path="train/cat/a/b.png"),
        lambda m: m["shards"][0]["files"][0].update(path="train/dog/0.png"),
        lambda m: m["shards"][0]["files"][0].update(path="train/cat/.png"),
        lambda m: m["shards"][0]["files"][0].update(path="train/cat/a\x00.png"),
        lambda m: m["shards"][0]["files"].append(m["shards"][0]["files"][0]),
        lambda m: m["shards"][0].update(split="../train"),
        lambda m: m["shards"][0].update({"class": "mouse"}),
        lambda m: m["shards"][0].update(sha256="../" + "0" * 61),
        lambda m: m["shards"][0].update(bytes=-1),
        lambda m: m["shards"][0].pop("files"),
        lambda m: m.update(shards={"a": 1}),
        lambda m: m["shards"][0].update(bytes="3000"),
        lambda m: m["shards"][0].update(split=7),
        lambda m: m["shards"][0]["files"][0].update(path=["train/cat/0.png"]),
        lambda m: m.update(pictures=None),
    ],
)
def test_manifest_with_an_invalid_path_is_rejected(pictures, spoil):
    """A manifest that leads elsewhere is rejected, even with its right digest."""
    manifest = manifest_of(pictures)
    text = json.dumps(manifest.to_json())
    assert dataset.parse(text.encode(), "p", manifest.digest) == manifest
    changed = json.loads(text)
    spoil(changed)
    whole = json.dumps([changed["classes"], changed["shards"]], sort_keys=True)
    changed["digest"] = hashlib.sha256(whole.encode()).hexdigest()
    with pytest.raises(ValueError):
        dataset.parse(json.dumps(changed).encode(), "p", changed["digest"])


@pytest.mark.parametrize("text", [b"", b"[" * 100_000, b"[]", b"null", b'{"name": "\\ud800"}'])
def test_invalid_manifest_is_rejected(text):
    with pytest.raises(ValueError):
        dataset.parse(text, "p", "0" * 64)


def test_manifest_form_is_stable(pictures):
    """What older versions wrote into the bucket is read, and what is written is what they would read."""
    manifest = manifest_of(pictures)
    first = {
        "split": "train",
        "class": "cat",
        "sha256": manifest.shards[0].sha256,
        "bytes": 10240,
        "files": [{"path": file.path, "sha256": file.sha256, "bytes": file.bytes} for file in manifest.shards[0].files],
    }
    written = manifest.to_json()
    assert list(written) == ["name", "classes", "shards", "pictures", "digest"]
    assert json.dumps(written["shards"][0]) == json.dumps(first)
    whole = json.dumps([written["classes"], written["shards"]], sort_keys=True)
    assert manifest.digest == hashlib.sha256(whole.encode()).hexdigest()


def test_manifest_with_another_digest_or_name_is_rejected(pictures):
    manifest = manifest_of(pictures)
    for name, digest in (("p", "0" * 64), ("q", manifest.digest)):
        with pytest.raises(ValueError, match="its digest"):
            dataset.parse(json.dumps(manifest.to_json()).encode(), name, digest)

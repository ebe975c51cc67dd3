"""Pictures into the bucket: what cannot be trained on is refused; equal pictures are equal bytes; only what is missing is sent."""

import io
import json
import shutil
import tarfile

import pytest
from conftest import settings_of
from PIL import Image

from ops import change, dataset
from ops.data import bucket, upload
from ops.errors import OpsError

SETTINGS = settings_of()


def test_a_bucket_as_it_should_be_is_left_alone():
    have = bucket.Facts(
        True,
        bucket.PRIVATE,
        bucket.ENCRYPTED,
        "Enabled",
        bucket.tls_only(SETTINGS.bucket),
        bucket.TIDY["Rules"],
        SETTINGS.tags(SETTINGS.bucket),
    )
    assert change.preview(bucket.steps(have, SETTINGS)) == []


def test_a_new_bucket_is_private_encrypted_versioned_tidy_and_tls_only():
    assert [step.call for step in change.preview(bucket.steps(bucket.Facts(), SETTINGS))] == [
        "create_bucket", "put_public_access_block", "put_bucket_encryption", "put_bucket_versioning",
        "put_bucket_policy", "put_bucket_lifecycle_configuration", "put_bucket_tagging",
    ]  # fmt: skip


def test_elsewhere_than_in_us_east_1_the_bucket_says_where():
    there = SETTINGS.model_copy(update={"aws": SETTINGS.aws.model_copy(update={"region": "eu-west-1"})})
    first = next(bucket.steps(bucket.Facts(), there))
    assert first.args["CreateBucketConfiguration"] == {"LocationConstraint": "eu-west-1"}


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda p: shutil.rmtree(p), "There is no folder"),
        (lambda p: shutil.rmtree(p / "valid"), "has no valid folder"),
        (lambda p: [shutil.rmtree(d) for d in (p / "train").iterdir()], "has no classes"),
        (lambda p: [shutil.rmtree(p / s / "dog") for s in dataset.SPLITS], "has one class only (cat)"),
        (lambda p: shutil.rmtree(p / "test" / "dog"), "do not have the same classes: dog"),
    ],
    ids=["no folder", "no split", "no classes", "one class", "other classes"],
)
def test_what_cannot_be_trained_on_is_refused(pictures, stacks, spoil, words):
    spoil(pictures)
    with pytest.raises(OpsError) as error:
        dataset.survey(pictures)
    assert words in str(error.value)


def test_a_missing_folder_is_refused_by_the_command_before_any_call(stacks, tmp_path):
    ran = stacks("nodata")("data.push", "--dir", str(tmp_path / "none"), ok=False)
    assert (ran.code, "There is no folder" in ran.err) == (1, True)


def test_equal_pictures_are_equal_shards(pictures):
    first = [shard.sha256 for shard in dataset.shards(dataset.survey(pictures), 1 << 20)]
    (pictures / "train" / "cat" / "0.png").touch()
    assert [shard.sha256 for shard in dataset.shards(dataset.survey(pictures), 1 << 20)] == first
    assert len(first) == len(set(first)) == 6


def test_one_changed_class_changes_its_shards_alone(pictures):
    before = {(s.split, s.label): s.sha256 for s in dataset.shards(dataset.survey(pictures), 1 << 20)}
    Image.new("RGB", (5, 5), "red").save(pictures / "train" / "dog" / "1.png")
    after = {(s.split, s.label): s.sha256 for s in dataset.shards(dataset.survey(pictures), 1 << 20)}
    assert {key for key in before if before[key] != after[key]} == {("train", "dog")}


def test_a_shard_holds_no_more_than_its_limit(pictures):
    size = (pictures / "train" / "cat" / "0.png").stat().st_size
    found = list(dataset.shards(dataset.survey(pictures), size * 2))
    assert max(len(shard.files) for shard in found) == 2
    assert sum(len(shard.files) for shard in found) == 18


def test_a_shard_is_a_tar_of_the_pictures_themselves(pictures):
    shard = next(dataset.shards(dataset.survey(pictures), 1 << 20))
    with tarfile.open(fileobj=io.BytesIO(shard.data)) as tar:
        assert tar.getnames() == [file["path"] for file in shard.files]
        assert tar.extractfile("train/cat/0.png").read() == (pictures / "train" / "cat" / "0.png").read_bytes()


def test_push_verify_spoil_and_push_again(pictures, stacks):
    cli = stacks("push")
    refused = cli("data.push", "--dir", str(pictures), ok=False)
    assert "There is no bucket kennel-push" in refused.err
    assert "invoke data.up" in refused.err
    cli("data.up")
    dry = cli("--dry", "data.push", "--dir", str(pictures))
    assert "9 objects would be uploaded" in dry.out
    assert json.loads(cli("data.push", "--dir", str(pictures), "--json").out)["uploaded"] == 9
    assert json.loads(cli("data.push", "--dir", str(pictures), "--json").out)["uploaded"] == 0
    Image.new("RGB", (5, 5), "red").save(pictures / "train" / "dog" / "1.png")
    assert (
        json.loads(cli("data.push", "--dir", str(pictures), "--json").out)["uploaded"] == 4
    )  # a shard, two lists, the pointer
    assert json.loads(cli("data.verify", "--json").out)["bad"] == []
    account = cli.account
    manifest = dataset.current(account)
    sha = manifest["shards"][0]["sha256"]
    account.call("s3", "put_object", Bucket=cli.settings.bucket, Key=f"shards/{sha}.tar", Body=b"spoilt")
    found = cli("data.verify", "--json", ok=False)
    assert (found.code, json.loads(found.out)["bad"]) == (7, [sha])
    assert upload.spoilt(account, manifest) == [sha]


def test_unreadable_pictures_are_listed_and_refused_unless_told(pictures, stacks):
    cli = stacks("bad")
    cli("data.up")
    (pictures / "train" / "cat" / "torn.jpg").write_bytes(b"\xff\xd8\xff\xe0 torn")
    refused = cli("data.push", "--dir", str(pictures), ok=False)
    assert "torn.jpg" in refused.err
    assert "1 of 19 pictures cannot be read" in refused.err
    with pytest.raises(OpsError, match="No data set"):
        dataset.current(cli.account)
    told = json.loads(cli("data.push", "--dir", str(pictures), "--skip-bad", "--json").out)
    assert told["pictures"] == {"train": 6, "valid": 6, "test": 6}


def test_the_channel_names_every_object_once(pictures):
    entries = [
        {"split": s.split, "class": s.label, "sha256": s.sha256, "bytes": len(s.data), "files": list(s.files)}
        for s in dataset.shards(dataset.survey(pictures), 1 << 20)
    ]
    manifest = dataset.manifest_of("p", entries)
    listing = dataset.channel("b", manifest)
    assert listing[0] == {"prefix": "s3://b/"}
    assert len(listing) == 1 + 6 + 1
    assert listing[-1] == f"datasets/p/{manifest['digest']}/manifest.json"

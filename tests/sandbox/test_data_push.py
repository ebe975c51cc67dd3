"""A push sends what is missing, makes one request if nothing is, resumes after an interruption, and repairs what is corrupt."""

import itertools
import json
import os
import re
import signal
import time
from concurrent.futures import Future
from functools import partial

import pytest
from PIL import Image

from ops.core import plan
from ops.core.errors import OpsError
from ops.datasets import bucket_setup, push, scan_cache
from ops.datasets import manifest as dataset
from ops.datasets.image_folder import SPLITS
from sandbox import request_log, state
from sandbox.client import send_control_request


class Log:
    """The operations that the sandbox has seen since."""

    def __init__(self, sandbox):
        self.path = sandbox / "calls.jsonl"
        self.start = len(request_log.read(self.path))

    def seen(self, **more):
        new = request_log.read(self.path)[self.start :]
        new = [call for call in new if call["service"] == "s3"]  # to take the role, STS is asked too
        return [call["operation"] for call in new if all(call[name] == value for name, value in more.items())]


NUMBERS = itertools.count()


@pytest.fixture
def cli(make_stack):
    """A stack of its own, with its bucket."""
    made = make_stack(f"push{next(NUMBERS)}")
    plan.apply(partial(bucket_setup.steps, bucket_setup.Facts(), made.settings), made.account, print)
    return made


def fault(sandbox, **what):
    send_control_request(state.read(sandbox), "POST", "fault", what)


@pytest.fixture
def no_faults(sandbox):
    yield
    send_control_request(state.read(sandbox), "POST", "faults/clear")


def test_push_without_a_bucket_names_the_command(pictures, make_stack):
    refused = make_stack("pushnobucket")("data.push", "--dir", str(pictures), ok=False)
    assert "There is no bucket kennel-pushnobucket" in refused.err
    assert "invoke data.up" in refused.err


def test_second_push_uploads_nothing(pictures, cli, sandbox):
    log = Log(sandbox)
    dry = cli("--dry", "data.push", "--dir", str(pictures))
    assert "9 objects would be uploaded" in dry.out
    assert "PutObject" not in log.seen()
    assert json.loads(cli("data.push", "--dir", str(pictures), "--json").out)["uploaded"] == 9
    assert json.loads(cli("data.push", "--dir", str(pictures), "--json").out)["uploaded"] == 0
    assert json.loads(cli("data.verify", "--json").out)["bad"] == []


def test_unchanged_push_makes_one_head_request(pictures, cli, sandbox):
    cli("data.push", "--dir", str(pictures))
    log = Log(sandbox)
    cli("data.push", "--dir", str(pictures))
    assert log.seen() == ["HeadObject"]
    assert log.seen(status=200) == ["HeadObject"]


def test_changed_class_uploads_its_shards_only(pictures, cli, sandbox):
    cli("data.push", "--dir", str(pictures))
    before = set(push.list_object_sizes(cli.account, "shards/", set()))
    Image.new("RGB", (5, 5), "red").save(pictures / "train" / "dog" / "1.png")
    log = Log(sandbox)
    assert json.loads(cli("data.push", "--dir", str(pictures), "--json").out)["uploaded"] == 4
    assert log.seen().count("PutObject") == 4  # a shard, two lists, the pointer
    new = {shard for shard in dataset.read_current(cli.account).shards if shard.key not in before}
    assert [(shard.split, shard.label) for shard in new] == [("train", "dog")]


def test_return_to_an_older_dataset_moves_the_pointer_only(pictures, cli, sandbox):
    first = push.push_dataset(cli.account, pictures).manifest.digest
    old = (pictures / "train" / "dog" / "1.png").read_bytes()
    Image.new("RGB", (5, 5), "red").save(pictures / "train" / "dog" / "1.png")
    assert push.push_dataset(cli.account, pictures).manifest.digest != first
    (pictures / "train" / "dog" / "1.png").write_bytes(old)
    log = Log(sandbox)
    assert push.push_dataset(cli.account, pictures) == (dataset.read_current(cli.account), 1, {})
    assert log.seen().count("PutObject") == 1
    assert dataset.read_current(cli.account).digest == first


def test_push_without_a_scan_cache_uploads_nothing(pictures, cli, monkeypatch, tmp_path):
    push.push_dataset(cli.account, pictures)
    monkeypatch.setattr(scan_cache, "WORK", tmp_path / "elsewhere")
    assert push.push_dataset(cli.account, pictures).sent == 0


def test_next_push_uploads_what_was_denied(pictures, cli, sandbox, no_faults):
    """A denied upload is reported, and the next push sends the rest."""
    log = Log(sandbox)
    fault(sandbox, operation="PutObject", do="error", times=3, code="AccessDenied", message="no", status=403)
    refused = cli("data.push", "--dir", str(pictures), ok=False)
    assert (refused.code, "AWS refused PutObject: AccessDenied" in refused.err) == (4, True)
    with pytest.raises(OpsError, match="There is no dataset"):
        dataset.read_current(cli.account)
    send_control_request(state.read(sandbox), "POST", "faults/clear")
    cli("data.push", "--dir", str(pictures))
    assert len([one for one in log.seen(status=200) if one == "PutObject"]) == 9  # each once
    assert "0 missing or corrupt" in cli("data.verify").out


def test_throttled_uploads_are_retried(pictures, cli, sandbox, no_faults):
    fault(sandbox, operation="PutObject", do="error", times=4, code="SlowDown", message="slow down", status=503)
    cli("data.push", "--dir", str(pictures))
    assert "0 missing or corrupt" in cli("data.verify").out


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT], ids=["killed", "interrupted"])
def test_interrupted_push_resumes(pictures, cli, sandbox, no_faults, how):
    for number in range(40):  # more than are under way at a time
        for split in SPLITS:
            (pictures / split / f"class-{number}").mkdir()
            Image.new("RGB", (9, 9), (number, 0, len(split))).save(pictures / split / f"class-{number}" / "0.png")
    log = Log(sandbox)
    fault(sandbox, operation="PutObject", do="delay", times=1000, seconds=0.3)
    running = cli.background("data.push", "--dir", str(pictures))
    deadline = time.monotonic() + 60
    while len([one for one in log.seen() if one == "PutObject"]) < 16 and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(running.pid, how)
    running.wait(30)
    assert running.returncode == (130 if how == signal.SIGINT else -how)
    time.sleep(1)  # what had arrived is answered by now
    send_control_request(state.read(sandbox), "POST", "faults/clear")
    with pytest.raises(OpsError, match="There is no dataset"):
        dataset.read_current(cli.account)
    arrived = len(push.list_object_sizes(cli.account, "shards/", set()))
    assert 16 <= arrived < 126
    again = json.loads(cli("data.push", "--dir", str(pictures), "--json").out)
    assert again["uploaded"] == 126 - arrived + 3
    assert "0 missing or corrupt" in cli("data.verify").out


def test_corrupt_and_missing_shards_are_named_and_repaired(pictures, cli):
    push.push_dataset(cli.account, pictures)
    name, manifest = cli.settings.bucket, dataset.read_current(cli.account)
    first, second = (shard.key for shard in manifest.shards[:2])
    good = cli.account.call("s3", "get_object", Bucket=name, Key=first)["Body"].read()
    flipped = good[:700] + bytes([good[700] ^ 1]) + good[701:]  # as long as before
    cli.account.call("s3", "put_object", Bucket=name, Key=first, Body=flipped)
    cli.account.call("s3", "delete_object", Bucket=name, Key=second)
    assert push.push_dataset(cli.account, pictures).sent == 0  # a push alone does not notice
    found = cli("data.verify", "--json", ok=False)
    assert found.code == 7
    assert {(bad["key"], bad["what"], bad["state"]) for bad in json.loads(found.out)["bad"]} == {
        (first, "train/cat", "corrupt"), (second, "train/dog", "missing"),
    }  # fmt: skip
    assert "invoke data.push" in cli("data.verify", ok=False).out
    assert json.loads(cli("data.push", "--dir", str(pictures), "--json").out)["uploaded"] == 2
    assert json.loads(cli("data.verify", "--json").out)["bad"] == []
    assert json.loads(cli("data.push", "--dir", str(pictures), "--json").out)["uploaded"] == 0


@pytest.mark.parametrize("which", ["manifest.json", "channel.json", "current.json"])
@pytest.mark.parametrize("how", ["corrupt", "missing"])
def test_corrupt_and_missing_lists_are_named_and_repaired(pictures, cli, which, how):
    manifest = push.push_dataset(cli.account, pictures).manifest
    key = next(key for key in manifest.objects if key.endswith(which))
    if how == "missing":
        cli.account.call("s3", "delete_object", Bucket=cli.settings.bucket, Key=key)
    else:
        size = cli.account.call("s3", "head_object", Bucket=cli.settings.bucket, Key=key)["ContentLength"]
        text, meta = b" " * size, {"digest": manifest.digest}
        cli.account.call("s3", "put_object", Bucket=cli.settings.bucket, Key=key, Body=text, Metadata=meta)
    found = cli("data.verify", "--json", ok=False)
    if (which, how) == ("current.json", "missing"):
        assert "There is no dataset 'pictures'" in found.err
    else:
        assert [(bad["key"], bad["state"]) for bad in json.loads(found.out)["bad"]] == [(key, how)]
    assert push.push_dataset(cli.account, pictures).sent == 1
    assert json.loads(cli("data.verify", "--json").out)["bad"] == []


def test_rejected_pictures_are_skipped_only_on_request(pictures, cli, sandbox):
    (pictures / "train" / "cat" / "torn.jpg").write_bytes(b"\xff\xd8\xff\xe0 torn")
    (pictures / "test" / "dog" / "empty.png").touch()
    refused = cli("data.push", "--dir", str(pictures), ok=False)
    assert refused.code == 1
    assert re.search(r"refused: .*train/cat/torn.jpg: it is damaged or cut short", refused.err)
    assert re.search(r"refused: .*test/dog/empty.png: it is empty", refused.err)
    assert "2 of 20 pictures cannot be trained on" in refused.err
    with pytest.raises(OpsError, match="There is no dataset"):
        dataset.read_current(cli.account)
    pushed = json.loads(cli("data.push", "--dir", str(pictures), "--skip-bad", "--json").out)
    assert pushed["pictures"] == {"train": 6, "valid": 6, "test": 6}
    log = Log(sandbox)
    assert json.loads(cli("data.push", "--dir", str(pictures), "--skip-bad", "--json").out)["uploaded"] == 0
    assert log.seen() == ["HeadObject"]
    assert "2 of 20" in cli("data.push", "--dir", str(pictures), ok=False).err


def test_skipping_a_whole_class_is_rejected(pictures, cli):
    for path in (pictures / "valid" / "dog").iterdir():
        path.write_bytes(b"")
    refused = cli("data.push", "--dir", str(pictures), "--skip-bad", ok=False)
    assert (
        "the remaining pictures/valid and the remaining pictures/train do not have the same classes: dog" in refused.err
    )


def test_picture_changed_during_a_push_is_an_error(pictures, cli):
    before = scan_cache.read_cache(pictures)
    found = dataset.list_pictures(pictures)
    list(before.inspect(found))
    Image.new("RGB", (5, 5), "red").save(pictures / "train" / "cat" / "1.png")
    there: Future = Future()
    there.set_result({})
    with pytest.raises(OpsError, match="train/cat was changed during the push"):
        push.PushSession(cli.account, before, "", dry=True).send_shard(found[:3], there)


def test_scan_cache_is_private(pictures, cli):
    manifest = push.push_dataset(cli.account, pictures).manifest
    notes = scan_cache.read_cache(pictures)
    assert notes.path.stat().st_mode & 0o777 == 0o600
    assert notes.manifest == manifest


def test_unreadable_scan_cache_costs_time_only(pictures, cli):
    push.push_dataset(cli.account, pictures)
    scan_cache.read_cache(pictures).path.write_text("{not json")
    assert push.push_dataset(cli.account, pictures).sent == 0


def test_wrong_account_is_reported_before_any_upload(pictures, cli):
    other = cli.settings.model_copy(update={"aws": cli.settings.aws.model_copy(update={"account": "999999999999"})})
    account = cli.account
    account.settings = other
    with pytest.raises(OpsError, match="The settings are for account 999999999999"):
        push.push_dataset(account, pictures)

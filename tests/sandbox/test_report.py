"""The report of a trained model: what it counts, that it cannot be used against its reader, that odd input does not stop it."""

import io
import json
import tarfile
from pathlib import Path

import pytest

from ops.datasets import manifest as dataset
from ops.reports import misclassified, results
from tests.unit.test_report import folder_of


@pytest.fixture
def folder(tmp_path):
    return folder_of(tmp_path / "model", ["cat", "dog", "red fox"])


def packed(folder):
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w:gz") as tar:
        for path in sorted(folder.iterdir()):
            tar.add(path, path.name)
    return held.getvalue()


def put(cli, key, body):
    cli.account.call("s3", "put_object", Bucket=cli.settings.bucket, Key=key, Body=body)


def pushed(cli, folder):
    """The folder as a data set in the bucket; its digest. Without the command: what that checks first is not this test's."""
    shards = [dataset.pack(group) for group in dataset.group_into_shards(dataset.list_pictures(folder), 1 << 20)]
    for shard, data in shards:
        put(cli, shard.key, data)
    manifest = dataset.build_manifest(cli.settings.data.name, [shard for shard, _ in shards])
    put(cli, manifest.key, json.dumps(manifest.to_json()).encode())
    return manifest.digest


def model_of(cli, job, folder):
    put(cli, f"jobs/{job}/output/model.tar.gz", packed(folder))


def test_report_command_writes_the_same_page_twice(make_stack, pictures, tmp_path):
    cli = make_stack("report")
    cli("data.up")
    digest = pushed(cli, pictures)
    model_of(cli, "kennel-fake", folder_of(tmp_path / "model", ["cat", "dog"], each=3, skill=0.4, data=digest))
    ran = cli("sm.report", "kennel-fake")
    path, following = ran.out.splitlines()
    assert following == "Next: invoke sm.deploy --job kennel-fake"
    once = Path(path).read_bytes()
    found = json.loads(cli("sm.report", "kennel-fake", "--json").out)
    assert found["report"] == path
    assert Path(path).read_bytes() == once
    assert found["missing"] == []
    assert found["metrics"]["pictures"] == 6
    assert all(Path(found[name]).is_file() for name in ("curves", "confusion", "mistakes", "calibration"))
    account, read = cli.account, results.read_results("kennel-fake", Path(path).parent)
    wrong = results.list_worst_mistakes(read, 20)
    files, why = misclassified.fetch_wanted_pictures(account, read, wrong)
    assert why == ""
    assert files == {one.name: (pictures / one.name).read_bytes() for one in wrong}

    model_of(cli, "kennel-other", folder_of(tmp_path / "other", ["cat", "dog"], each=3, skill=0))
    assert "without their pictures" in json.loads(cli("sm.report", "kennel-other", "--json").out)["missing"][0]
    assert "No job of this stack is called kennel-none" in cli("sm.report", "kennel-none", ok=False).err

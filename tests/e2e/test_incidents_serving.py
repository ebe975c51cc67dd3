"""The endpoint's incident pages, followed: the fault is made, Confirm sees it, Verify fails, Mitigate is run, Verify passes."""

import json
import random
import re
import shutil
import threading
import time

import pytest

from ops.core.errors import STOPPED
from ops.datasets import manifest
from ops.endpoint import plan
from ops.releases import release_samples
from tests.e2e.test_incidents import Page
from tests.e2e.test_rollouts import Callers


@pytest.fixture(scope="module")
def stack_with_endpoint(make_stack, digits):
    """A stack with an endpoint, and a model that is good enough to be distinguished from a bad one."""
    cli = make_stack("served", "train: {epochs: 2}\nendpoint: {p99_ms: 900}\n")
    cli("iam.apply", "data.up", "net.up")
    cli("data.push", "--dir", str(digits))
    cli("sm.image")
    cli("sm.train", "sm.deploy")
    return cli


@pytest.fixture
def picture(digits):
    return next((digits / "test" / "7").iterdir()).read_bytes()


def soon(check, seconds=60):
    """A minute of the sandbox's has to pass before its metrics tell what changed."""
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline
        time.sleep(0.5)


def test_endpoint_latency_page_adds_an_instance(stack_with_endpoint, picture, inject_fault):
    page = Page("endpoint-latency", stack_with_endpoint)
    with Callers(stack_with_endpoint, picture, count=4):
        inject_fault("slow", endpoint="kennel-served", seconds=0.3)
        inject_fault("clock", speed=20)
        soon(page.confirmed)
        assert not page.verified()
        assert page.works("add")
        soon(lambda: page.works("there"))
        soon(page.verified)
        inject_fault("clock", speed=1)
        inject_fault("slow", endpoint="kennel-served", seconds=0)


def shuffled(digits, folder):
    """The same test split; what is trained on has labels drawn by lot."""
    shutil.copytree(digits, folder)
    draw = random.Random(0)
    for split in ("train", "valid"):
        every = sorted(path for path in (folder / split).rglob("*") if path.is_file())
        labels = [path.parent.name for path in every]
        draw.shuffle(labels)
        for path, label in zip(every, labels, strict=True):
            path.rename(folder / split / label / f"was-{path.parent.name}-{path.name}")
    return folder


def test_bad_model_page_rolls_back(stack_with_endpoint, digits, tmp_path):
    page = Page("bad-model", stack_with_endpoint)
    assert page.verified()
    job = json.loads(
        stack_with_endpoint("sm.train", "--data", str(shuffled(digits, tmp_path / "shuffled")), "--json").out
    )["job"]
    refused = stack_with_endpoint("sm.deploy", "--job", job, ok=False)
    assert "it was trained on another dataset" in refused.err
    stack_with_endpoint("sm.deploy", "--job", job, "--because", "new pictures")
    assert page.confirmed()
    assert not page.verified()
    assert page.works("back")
    assert page.verified()
    assert not page.works("look")
    stack_with_endpoint("data.push", "--dir", str(digits))


def test_evaluate_live_uses_the_releases_own_dataset(stack_with_endpoint, digits, tmp_path):
    """Another dataset is current, with other classes: the healthy endpoint is as accurate as before, and no page says roll back."""
    before = json.loads(stack_with_endpoint("sm.evaluate", "--live", "20", "--json").out)
    own = manifest.read_current(stack_with_endpoint.account)
    for split in ("train", "valid", "test"):
        for label in ("0", "1"):
            shutil.copytree(digits / split / label, tmp_path / "other" / split / f"other{label}")
    stack_with_endpoint("data.push", "--dir", str(tmp_path / "other"))
    other = manifest.read_current(stack_with_endpoint.account)
    after = stack_with_endpoint("sm.evaluate", "--live", "20", "--json")
    assert (after.code, json.loads(after.out)["answers"]) == (0, before["answers"])
    assert json.loads(after.out)["wrong"] == []
    drawn = release_samples.draw_live_samples(
        stack_with_endpoint.account, 20, 0
    )  # those that lambda.invoke --sample sends
    assert [one.name for one in drawn] == [one["picture"] for one in before["answers"]]

    stack_with_endpoint.account.call("s3", "delete_object", Bucket=stack_with_endpoint.settings.bucket, Key=own.key)
    refused = stack_with_endpoint("sm.evaluate", "--live", "20", ok=False)
    assert refused.code == 1
    assert f"was tested on dataset {own.digest[:12]}, which is missing" in refused.err
    assert f"the current dataset is {other.digest[:12]}" in refused.err
    stack_with_endpoint("data.push", "--dir", str(digits))


def test_gate_compares_models_on_the_same_pictures(stack_with_endpoint):
    short = type(stack_with_endpoint)(stack_with_endpoint.file.with_name("servedshort.yaml"))
    short.file.write_text(stack_with_endpoint.file.read_text().replace("epochs: 2", "epochs: 1, lr: 0.000001"))
    job = json.loads(short("sm.train", "--json").out)["job"]
    refused = short("sm.deploy", "--job", job, ok=False)
    assert refused.code == STOPPED
    assert re.search(
        r"accuracy on the test split is lower: .* on the same \d+ test pictures \d+ wins, \d+ losses, p = ", refused.err
    )


def test_endpoint_stuck_page_replaces_the_endpoint(stack_with_endpoint, inject_fault):
    """The endpoint is created again while instances hang: it is Creating, cannot be deleted, and fails in the end."""
    page = Page("endpoint-stuck", stack_with_endpoint)
    stack_with_endpoint("sm.delete", "--confirm", "kennel-served")
    inject_fault("hang", endpoint="kennel-served")
    deploying = threading.Thread(target=lambda: stack_with_endpoint.typed("sm.deploy", ok=False))
    deploying.start()
    deadline = time.monotonic() + 60
    while plan.find_endpoint(stack_with_endpoint.account) is None:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert page.confirmed()
    assert not page.verified()
    refused = stack_with_endpoint("--dry", "sm.delete", "--confirm", "kennel-served")
    assert "delete_endpoint" in refused.err
    inject_fault("clock", speed=400)  # 24 minutes
    deploying.join()
    assert plan.find_endpoint(stack_with_endpoint.account)["EndpointStatus"] == "Failed"
    assert page.confirmed()
    assert not page.verified()
    inject_fault("hang", endpoint="kennel-served", hang=False)
    inject_fault("clock", speed=1)
    assert page.works("try")
    assert page.works("create")
    assert page.verified()
    assert not page.works("look")

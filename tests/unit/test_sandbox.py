"""The local AWS as a process: it starts once, lets only its own in, and leaves nothing behind."""

import io
import json
import os
import subprocess
import threading
import weakref
from collections import defaultdict
from types import SimpleNamespace
from urllib.parse import parse_qs

import psutil
import pytest

from ops.core.errors import OpsError
from sandbox import client, kept_state, processes, request_log, state
from sandbox.faults import Fault, Faults
from sandbox.http import routes
from sandbox.sagemaker import endpoints
from sandbox.world import Clock, World


@pytest.mark.parametrize(
    ("method", "path", "query", "operation"),
    [
        ("GET", "/b", "", "ListObjects"),
        ("GET", "/b", "list-type=2&prefix=x", "ListObjectsV2"),
        ("GET", "/b", "lifecycle", "GetBucketLifecycleConfiguration"),
        ("PUT", "/b", "policy", "PutBucketPolicy"),
        ("PUT", "/b/k/e/y", "", "PutObject"),
        ("PUT", "/b/k", "partNumber=1&uploadId=x", "UploadPart"),
        ("POST", "/b/k", "uploads", "CreateMultipartUpload"),
        ("DELETE", "/b/k", "uploadId=x", "AbortMultipartUpload"),
        ("HEAD", "/b", "", "HeadBucket"),
        ("GET", "/", "", "ListBuckets"),
        ("PUT", "/b/shards/operation/x.tar", "", "PutObject"),
        ("PUT", "/b/two\nlines", "", "PutObject"),
    ],
)
def test_s3_operations_are_distinguished(method, path, query, operation):
    found, labels = routes.match_operation("s3", method, path, parse_qs(query, keep_blank_values=True), ())
    assert (found, "/" + "/".join(labels.values())) == (operation, path)


def test_mutating_operations_are_distinguished():
    assert [name for name in ("DescribeVpcs", "InvokeEndpoint", "CreateVpc", "PutObject", "UpdateAlias", "HeadObject") if request_log.is_mutating_operation(name)] == [
        "CreateVpc", "PutObject", "UpdateAlias",
    ]  # fmt: skip


def test_faults_are_used_up():
    faults = Faults()
    faults.add(Fault("A", "error", times=2))
    assert [
        bool(faults.take_due_fault("A")),
        bool(faults.take_due_fault("B")),
        bool(faults.take_due_fault("A")),
        bool(faults.take_due_fault("A")),
    ] == [
        True,
        False,
        True,
        False,
    ]
    with pytest.raises(ValueError, match="no such fault"):
        faults.add(Fault("A", "explode"))


def test_processes_that_end_meanwhile_are_left_out():
    ended = subprocess.Popen(["true"])
    gone = psutil.Process(ended.pid)
    ended.wait()
    rows = processes.describe_processes([gone, psutil.Process()])
    assert [pid for pid, *_ in rows] == [os.getpid()]
    assert rows[0][1] > 1 << 20
    assert "python" in rows[0][2]


@pytest.mark.parametrize(
    "content",
    [
        "", "{half", "[]", "null", "7", '"text"', '{"pid": 1}',
        *(json.dumps({"started": 1.0, "port": 1, "tunnel_port": 1, "token": "t", "pid": 1} | wrong) for wrong in (
            {"pid": "x"}, {"pid": -5}, {"pid": 0}, {"pid": 10**20}, {"pid": 1.5}, {"pid": None}, {"started": "z"}, {"more": 1},
        )),
    ],
)  # fmt: skip
def test_stale_state_file_is_no_sandbox(tmp_path, content):
    (tmp_path / "state.json").write_text(content)
    assert state.read(tmp_path) is None
    assert state.was_killed(tmp_path)


def test_up_after_a_crash_says_what_is_gone(tmp_path, capsys):
    (tmp_path / "state.json").write_text("{half")
    (tmp_path / "boxes").mkdir()
    assert client.prepare_folder(tmp_path, "us-east-1") is False
    said = capsys.readouterr().err.splitlines()
    assert said == [
        "The last sandbox ended without sandbox.down, and everything in it is gone.",
        "Build the stack again: invoke demo, or invoke iam.apply data.up net.up",
    ]
    assert list(tmp_path.iterdir()) == []
    assert client.prepare_folder(tmp_path, "us-east-1") is False
    assert capsys.readouterr().err == ""


def test_kept_state_stays_until_it_is_read(tmp_path, capsys):
    (tmp_path / state.KEPT_FILE).write_text(f"{state.fingerprint_code('us-east-1')}\n")
    (tmp_path / "boxes").mkdir()
    (tmp_path / "endpoints").mkdir()
    assert client.prepare_folder(tmp_path, "us-east-1") is True
    assert sorted(path.name for path in tmp_path.iterdir()) == ["boxes", state.KEPT_FILE]
    with pytest.raises(OpsError, match="or in another region than eu-central-1"):
        client.prepare_folder(tmp_path, "eu-central-1")
    (tmp_path / state.KEPT_FILE).write_text("us-east-1, python 3.1, moto 1, sandbox 0\n")
    with pytest.raises(OpsError, match="written by another version"):
        client.prepare_folder(tmp_path, "us-east-1")
    assert (tmp_path / "boxes").is_dir()


class Record:
    """A record of a store, as moto's are."""


def test_writer_keeps_what_refers_to_one_another(tmp_path):
    world = World(tmp_path, "t")
    one = Record()
    one.world, one.lock, one.done = world, threading.RLock(), threading.Event()
    one.done.set()
    tables = {
        "both": [one, one],
        "weak": weakref.WeakValueDictionary(a=one),
        "lazy": defaultdict(lambda: {}, a={"b": 1}),  # noqa: PIE807  as moto has it
    }
    file = io.BytesIO()
    kept_state.Writer(file).dump(tables)
    file.seek(0)
    other = World(tmp_path, "t")
    found = kept_state.Reader(file, other).load()
    assert found["both"][0] is found["both"][1] is found["weak"]["a"]
    assert found["both"][0].world is other
    assert found["both"][0].done.is_set()
    with found["both"][0].lock:
        assert found["lazy"]["new"] == {}
    assert found["lazy"]["a"] == {"b": 1}


def test_resumed_clock_goes_on_with_its_lead():
    resumed = Clock.resume(500.0, 400.0, 3.0)
    assert 500 <= resumed.now() < 501
    assert 400 <= resumed.get_offset() < 401
    assert resumed.speed == 3.0


def test_keep_names_all_unfinished_work(tmp_path):
    world = World(tmp_path, "t")
    assert list(kept_state.list_unfinished_work(world)) == []
    world.sagemaker.endpoints = {"e": SimpleNamespace(record=SimpleNamespace(endpoint_status="Updating"))}
    world.sagemaker.runs = {"j": SimpleNamespace(status="InProgress"), "done": SimpleNamespace(status="Failed")}
    record = SimpleNamespace(hyper_parameter_tuning_job_status="InProgress")
    world.sagemaker.searches = {"t": SimpleNamespace(record=record)}
    world.builds = {"b": SimpleNamespace(record={"buildComplete": False})}
    world.functions.provisioned = {("f", "live"): {"Status": "IN_PROGRESS"}}
    world.scaling.in_progress = {"endpoint/e": {}}
    with pytest.raises(ValueError, match="^work is in progress: ") as refused:
        kept_state.keep(world)
    for part in (
        "endpoint e is Updating",
        "training job j is InProgress",
        "tuning job t is InProgress",
        "image build b runs",
        "function f gets its",
    ):
        assert part in str(refused.value)
    assert not world.is_stopping
    assert not (tmp_path / state.KEPT_FILE).exists()


@pytest.mark.parametrize(("failures", "status"), [(1, "InService"), (1000, "Failed")])
def test_new_endpoint_is_tried_for_minutes_of_the_clock(tmp_path, monkeypatch, failures, status):
    """A program that ends before its first ping keeps the endpoint in Creating, until SageMaker gives up."""
    monkeypatch.setattr(endpoints, "CREATION_S", 100.0)
    monkeypatch.setattr(endpoints, "ANOTHER_TRY_S", 5.0)
    world, tries, seen = World(tmp_path, "t"), [], set()
    variant = {"VariantName": "all", "DesiredInstanceCount": 1}
    record = SimpleNamespace(endpoint_name="e", production_variants=[variant], endpoint_status="Creating")
    live = endpoints.LiveEndpoint(record)

    def build(*_):
        tries.append(world.clock.now())
        seen.add(record.endpoint_status)
        return None if len(tries) <= failures else endpoints.Fleet("config", "all", None)

    monkeypatch.setattr(endpoints, "build_first_fleet", build)
    world.clock.set_speed(100)
    endpoints.start_first_fleet(world, None, live)
    assert (record.endpoint_status, seen) == (status, {"Creating"})
    assert status == "InService" or world.clock.now() - tries[0] >= 100

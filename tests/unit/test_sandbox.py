"""The local AWS as a process: it starts once, lets only its own in, and leaves nothing behind."""

import os
import subprocess
from urllib.parse import parse_qs

import psutil
import pytest

from sandbox import processes, request_log
from sandbox.faults import Fault, Faults
from sandbox.http import routes


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

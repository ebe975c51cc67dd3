"""Both roads to a training job send the same request, but for the few fields listed here."""

import json
import os
import subprocess
import sys

import pytest

from ops.core.paths import ROOT
from ops.datasets.manifest import Manifest
from ops.jobs import sdk, spec, training_jobs
from tests.conftest import settings_of

PYTHON = ROOT / ".venv-sdk/bin/python"
needs_sdk = pytest.mark.skipif(
    not (ROOT / ".venv-sdk/.ready").exists(),
    reason="the SageMaker SDK weighs about a gigabyte, so it has a venv of its own: make .venv-sdk/.ready",
)

# All that the SDK's request has and ours has not; nothing of ours may be missing in it, or be other.
SDK_ADDS = {
    # Both are SageMaker's own defaults, which ModelTrainer always writes down: the job is the same.
    "OutputDataConfig.CompressionType": (None, "GZIP"),
    "CheckpointConfig.LocalPath": (None, "/opt/ml/checkpoints"),
}

SETTINGS = settings_of()
JOB = spec.build_spec(SETTINGS, Manifest("p", (), (), {}, "d" * 64), "sm", 2)
HAVE = training_jobs.Facts(JOB.name, None, ("subnet-a", "subnet-b"), "sg-1", True)
REQUEST, SPOT = (
    training_jobs.build_training_request(
        HAVE, training_jobs.Order(JOB, JOB.attempt(2), "code/c/", hosts=2, spot=spot), SETTINGS
    )
    for spot in (False, True)
)

# Runs in the SDK's venv. Both roads end at the account's own botocore client; what it would put on the wire is kept.
DRIVER = """
import json, socket, sys, threading

outside = []

def refuse(*where, **_):
    outside.append(str(where))
    raise OSError("no network here")

socket.getaddrinfo = socket.socket.connect = refuse

import invoke
from botocore.awsrequest import AWSResponse
from ops.core import settings
from ops.core.aws.account import Account
from ops.core.errors import OpsError
from ops.core.paths import ROOT
from ops.jobs import sdk

asked, bodies = [], []

class Raw:
    def __init__(self, body):
        self.body = body
    def stream(self, *_, **__):
        yield self.body

def answer(request, event_name, **_):
    asked.append(event_name.split(".", 1)[1])
    if event_name.endswith("CreateTrainingJob"):
        bodies.append(json.loads(request.body))
        body = {"TrainingJobArn": "arn:aws:sagemaker:us-east-1:123456789012:training-job/x"}
    else:
        body = {**bodies[-1], "TrainingJobStatus": "InProgress", "SecondaryStatus": "Starting"}
    return AWSResponse(request.url, 200, {"content-type": "application/x-amz-json-1.1"}, Raw(json.dumps(body).encode()))

loaded = invoke.Config(project_location=ROOT, runtime_path=sys.argv[1])
loaded.load_project()
loaded.load_runtime()
account = sdk.SdkAccount(settings.load(loaded))
account._client("sagemaker", "control").meta.events.register("before-send", answer)
request = json.load(sys.stdin)
try:
    Account.call(account, "sagemaker", "create_training_job", **request)
    plain = asked[:]
    name = account.call("sagemaker", "create_training_job", **request)["TrainingJobName"]
    for thread in threading.enumerate():  # telemetry would be sent by one
        thread is threading.current_thread() or thread.join(20)
    calls = asked[len(plain):] + outside
    print(json.dumps({"name": name, "ours": bodies[0], "sdk": bodies[1:], "calls": calls}))
except OpsError as error:
    print(json.dumps({"error": str(error)}))
"""


@pytest.fixture
def send_both_ways(tmp_path):
    """Sends one request on both roads: {name, ours, sdk: bodies sent, calls: what the SDK asked of AWS, or of others}."""
    (tmp_path / "config").write_text("[profile sandbox]\naws_access_key_id = a\naws_secret_access_key = b\n")
    (tmp_path / "kennel.yaml").write_text(f"aws: {{config_file: {tmp_path}/config}}\n")

    def send(request):
        done = subprocess.run(
            [PYTHON, "-c", DRIVER, tmp_path / "kennel.yaml"],
            cwd=ROOT,
            input=json.dumps(request),
            capture_output=True,
            text=True,
            env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"},
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return send


@needs_sdk
@pytest.mark.parametrize("ours", [REQUEST, SPOT], ids=["on demand", "spot"])
def test_boto3_and_sdk_send_the_same_request(send_both_ways, ours):
    """Both ways send the same request, but for the listed fields."""
    sent = send_both_ways(ours)
    assert sent["name"] == ours["TrainingJobName"]
    assert sent["ours"] == ours
    (through_sdk,) = sent["sdk"]
    assert sdk.compare_requests(ours, through_sdk) == SDK_ADDS


@needs_sdk
def test_sdk_makes_no_other_call(send_both_ways):
    """No look at the role, no bucket made, nothing uploaded, no telemetry: one job made, and read once."""
    assert send_both_ways(REQUEST)["calls"] == ["sagemaker.CreateTrainingJob", "sagemaker.DescribeTrainingJob"]


@needs_sdk
def test_request_the_sdk_would_alter_is_rejected(send_both_ways):
    """What the SDK would drop or alter is rejected before anything is started."""
    sent = send_both_ways({**REQUEST, "RetryStrategy": {"MaximumRetryAttempts": 3}})
    assert "drop or alter RetryStrategy. Nothing was started" in sent["error"]


def test_comparison_names_lost_added_and_changed_fields():
    ours = {"a": 1, "b": [{"c": 2}, {"c": 3}], "d": {"e": 4}, "g": [1]}
    sent = {"a": 1, "b": [{"c": 2}, {"c": 9}], "d": {"f": 5}, "g": [1, 2]}
    assert sdk.compare_requests(ours, sent) == {
        "b[1].c": (3, 9),
        "d.e": (4, None),
        "d.f": (None, 5),
        "g": ([1], [1, 2]),
    }


def test_missing_sdk_extra_names_the_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "sagemaker.train.model_trainer", None)
    with pytest.raises(Exception, match=r"pip install -e '\.\[sdk\]'"):
        sdk.build_trainer_class(REQUEST)

"""What the local AWS refuses of hostile requests: odd control bodies, deep JSON, and counts that would start workers without end."""

import io
import json
import threading
import time
from types import SimpleNamespace

import pytest

from sandbox import control
from sandbox.autoscaling import capacity
from sandbox.function import concurrency, validation, workers
from sandbox.sagemaker import validation as sagemaker

DEEP = b"[" * 100_000


def request(body, token="secret"):
    """(status, answer) of a control request to a sandbox whose token is `secret`."""
    environ = {"REQUEST_METHOD": "POST", "HTTP_X_SANDBOX_TOKEN": token, "CONTENT_LENGTH": str(len(body)), "wsgi.input": io.BytesIO(body)}  # fmt: skip
    status, _, answer = control.handle_control_request(SimpleNamespace(token="secret"), environ, "/_sandbox/clock")
    return status, json.loads(answer)


@pytest.mark.parametrize("token", ["", "other", "s\xe9cret"])
def test_control_request_needs_the_token(token):
    assert request(b"{}", token)[0] == 403


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"{", "Expecting property name"),
        (b"\xff\xfe", "Expecting value"),
        (DEEP, "nested too deeply"),
        (b"[]", "not a JSON object"),
        (b"null", "not a JSON object"),
        (b'{"speed": -1}', "speed is a number from"),
        (b"{}", "clock needs speed"),
    ],
    ids=["cut", "bytes", "deep", "list", "null", "negative", "empty"],
)
def test_wrong_control_body_is_a_client_error(body, words):
    status, answer = request(body)
    assert status == 400
    assert words in answer["error"]


@pytest.mark.parametrize("body", [b"{", b"\xff", DEEP], ids=["cut", "bytes", "deep"])
def test_payload_that_is_no_json_is_refused(body):
    with pytest.raises(Exception, match="Could not parse request body into json") as caught:
        validation.validate_payload(body)
    assert caught.value.code == 400


@pytest.mark.parametrize("count", [101, 10**18])
def test_environments_without_end_are_refused(monkeypatch, count):
    """AWS's own refusals come first; a function with that much reserved gets the sandbox's."""
    reserved = SimpleNamespace(reserved_concurrency=count)
    monkeypatch.setattr(concurrency, "find_qualified_function", lambda *_: reserved)
    monkeypatch.setattr(concurrency, "validate_other_qualifier", lambda *_: None)
    monkeypatch.setattr(concurrency, "sum_provisioned", lambda *_, **__: 0)
    with pytest.raises(Exception, match=f"at most 100 environments of a function, not {count}"):
        concurrency.validate_provisioning(None, "function", "live", count)


def test_deleted_configuration_starts_no_more_workers(monkeypatch):
    """What lambda.down deletes while its environments start."""
    world, started, deleted = SimpleNamespace(functions=SimpleNamespace(provisioned={})), [], threading.Event()

    def start_worker(*_):
        started.append(1)
        deleted.wait(5)

    monkeypatch.setattr(workers, "start_worker", start_worker)
    monkeypatch.setattr(workers, "return_worker", lambda *_: None)
    monkeypatch.setattr(workers, "name_log_stream", lambda _: "stream")
    workers.provision_workers(world, SimpleNamespace(function_name="f"), "live", 50)
    world.functions.provisioned.clear()
    deleted.set()
    time.sleep(0.1)
    assert len(started) <= 1


@pytest.mark.parametrize(("count", "refused"), [(1, False), (20, False), (21, True), (10**18, True)])
def test_instances_without_end_are_refused(count, refused):
    config = SimpleNamespace(production_variants=[{"InstanceType": "ml.m5.large", "InitialInstanceCount": count}])
    if not refused:
        sagemaker.validate_endpoint_size(config)
        return
    with pytest.raises(sagemaker.ResourceLimitExceeded, match="'ml.m5.large for endpoint usage' is 20 Instances"):
        sagemaker.validate_endpoint_size(config)


def test_scaling_beyond_the_quota_fails_once():
    variant = {"DesiredInstanceCount": 2}
    live = SimpleNamespace(record=SimpleNamespace(production_variants=[variant]))
    world = SimpleNamespace(
        sagemaker=SimpleNamespace(endpoints={"e": live}), scaling=SimpleNamespace(activities=[], in_progress={})
    )
    for _ in range(2):
        capacity.change_desired_count(world, "endpoint/e/variant/v", 21, "an alarm")
    assert [one["StatusCode"] for one in world.scaling.activities] == ["Failed"]
    assert "ResourceLimitExceeded" in world.scaling.activities[0]["StatusMessage"]
    assert variant == {"DesiredInstanceCount": 2}

"""A sandbox that is stopped with --keep and started again: what was in it is there, and what ran runs again."""

import pytest

from sandbox import processes, state
from sandbox.client import send_control_request
from tests.any_endpoint import serve_anything
from tests.conftest import Cli, write_settings
from tests.sandbox.test_incidents_iam import signing


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A stack with a bucket, a network, a box and an endpoint, in a sandbox of its own that was kept and started again."""
    folder = tmp_path_factory.mktemp("kept")
    cli = Cli(write_settings(folder / "own.yaml", folder / "box", "keep"))
    cli.typed("sandbox.up")
    cli("iam.apply", "data.up", "net.up", "ec2.up")
    cli("ec2.run", "echo here > file")
    cli.account.call("s3", "put_object", Bucket=cli.settings.bucket, Key="kept", Body=b"content")
    serve_anything(cli, folder / "box", "keep")
    send_control_request(state.read(folder / "box"), "POST", "clock", {"speed": 2})
    before = state.read(folder / "box")
    wanted = {"RoleArn": cli.settings.role_arn("operator"), "RoleSessionName": "before"}
    session = cli.account.call("sts", "assume_role", **wanted)["Credentials"]
    stopped = cli("sandbox.down", "--keep")
    assert "what is in it is kept" in stopped.out
    assert not before.alive
    assert processes.list_sandbox_processes(folder / "box") == []
    assert "What was in it is kept. Start it: invoke sandbox.up" in cli("sandbox.status", ok=False).out
    assert "is running with all that was kept" in cli("sandbox.up").out
    yield cli, folder / "box", session
    cli("sandbox.down")


def test_kept_stack_needs_no_change(kept):
    cli, folder, _ = kept
    again = cli("iam.apply", "data.up", "net.up", "ec2.up")
    assert again.out.count("0 made") == 4
    assert cli.account.bucket.get("kept") == b"content"
    assert not (folder / state.KEPT_FILE).exists()


def test_kept_box_boots_with_its_disk_and_host_key(kept):
    cli, _, _ = kept
    assert cli("ec2.run", "cat file").out.strip().endswith("here")  # its host key is pinned, so it is the same


def test_kept_endpoint_answers_at_once(kept):
    cli, folder, _ = kept
    answer = cli.account.call(
        "sagemaker-runtime", "invoke_endpoint", EndpointName="kennel-keep", Body=b"x", ContentType="application/x-image"
    )
    assert answer["Body"].read() == b"{}"
    servers = [one for one in processes.list_sandbox_processes(folder) if "server.py" in one.cmdline()]
    assert len(servers) == 2


def test_kept_role_session_is_still_valid(kept):
    cli, folder, session = kept
    caller = signing(cli, session["AccessKeyId"], session["SecretAccessKey"], session["SessionToken"])
    assert caller.get_caller_identity()["Arn"].endswith("/before")
    assert send_control_request(state.read(folder), "GET", "health")["calls"] > 100  # the log of calls goes on


def test_kept_clock_goes_on_at_its_speed(kept):
    cli, folder, _ = kept
    assert send_control_request(state.read(folder), "GET", "health")["speed"] == 2
    alarm = cli.account.call("cloudwatch", "describe_alarms")["MetricAlarms"]
    assert [one["AlarmName"] for one in alarm if "idle" in one["AlarmName"]]


def test_keep_is_refused_while_an_endpoint_changes(kept):
    cli, folder, _ = kept
    send_control_request(state.read(folder), "POST", "hang", {"endpoint": "kennel-other"})
    cli.account.call("sagemaker", "create_endpoint", EndpointName="kennel-other", EndpointConfigName="keep")
    refused = cli("sandbox.down", "--keep", ok=False)
    assert refused.code == 1
    assert "cannot be kept now, and still runs: work is in progress: endpoint kennel-other is Creating." in refused.err
    assert state.read(folder) is not None
    assert not (folder / state.KEPT_FILE).exists()
    cli.account.call("iam", "list_roles")  # it takes calls again


def test_kept_state_of_another_version_is_refused(tmp_path):
    folder = tmp_path / "box"
    cli = Cli(write_settings(tmp_path / "own.yaml", folder, "old"))
    folder.mkdir()
    (folder / state.KEPT_FILE).write_bytes(b"python 3.11, moto 5.0.0, sandbox 0123456789ab\n")
    refused = cli("sandbox.up", ok=False)
    assert refused.code == 1
    assert "was written by another version of the sandbox, of moto or of Python" in refused.err
    assert (folder / state.KEPT_FILE).exists()
    assert "there is nothing to keep. What an earlier one kept" in cli("sandbox.down", "--keep", ok=False).err
    assert "what it had kept is deleted" in cli("sandbox.down").out
    assert not (folder / state.KEPT_FILE).exists()

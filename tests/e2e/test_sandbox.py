"""The local AWS as a process: it starts once, lets only its own in, and leaves nothing behind."""

import json
import os
import signal
import subprocess
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import pytest

from sandbox import processes, state
from sandbox.client import send_control_request
from tests.conftest import Cli, write_settings


@pytest.fixture
def own_sandbox(tmp_path):
    """A sandbox of the test's own, not started."""
    cli = Cli(write_settings(tmp_path / "own.yaml", tmp_path / "box", "own"))
    yield cli, tmp_path / "box"
    cli.typed("sandbox.down")


def get(url, **headers):
    request = urllib.request.Request(url, headers={name.replace("_", "-"): value for name, value in headers.items()})
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_sandbox_starts_stops_and_starts_again(own_sandbox):
    cli, folder = own_sandbox
    assert "is running" in cli.typed("sandbox.up").out
    assert "was already running" in cli.typed("sandbox.up").out
    running = state.read(folder)
    assert json.loads(cli("sandbox.status", "--json").out)["up"] is True
    assert oct(folder.stat().st_mode)[-3:] == "700"
    assert oct((folder / "aws" / "config").stat().st_mode)[-3:] == "600"
    assert "is stopped" in cli.typed("sandbox.down").out
    assert not running.alive
    assert processes.list_sandbox_processes(folder) == []
    assert not (folder / "state.json").exists()
    assert not (folder / "lock").exists()
    with pytest.raises(urllib.error.URLError):
        get(running.url)
    assert cli("sandbox.status", ok=False).code == 1
    assert "is running" in cli.typed("sandbox.up").out


def test_two_ups_at_once_start_one_sandbox(own_sandbox):
    cli, folder = own_sandbox
    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(lambda _: cli.typed("sandbox.up", "--json"), range(2)))
    found = [json.loads(ran.out) for ran in both]
    assert found[0]["pid"] == found[1]["pid"]
    assert sorted(f["started"] for f in found) == [False, True]
    assert len(processes.list_sandbox_processes(folder)) == 1


def test_stack_is_built_in_another_region(tmp_path):
    """IAM is signed for us-east-1 or for the client's region, S3 wants a LocationConstraint, and zones have other names."""
    file, folder, region = tmp_path / "eu.yaml", tmp_path / "box", "eu-central-1"
    file.write_text(
        f"stack: {{name: eu}}\naws: {{config_file: {folder}/aws/config, region: {region}}}\nnet: {{zones: [{region}a, {region}b]}}\n"
    )
    cli, home = Cli(file), Cli(write_settings(tmp_path / "us.yaml", folder, "eu"))
    try:
        cli.typed("sandbox.up")
        made = cli.typed("iam.apply", "data.up", "net.up")
        assert f"kennel-eu-123456789012-{region} is ready" in made.out
        assert f"create a private subnet in {region}b" in made.err
        assert f"The sandbox runs in {region}, and aws.region is us-east-1. Change" in home("sandbox.up", ok=False).err
    finally:
        cli.typed("sandbox.down")


def test_up_after_kill_9_ends_orphans_and_works(own_sandbox):
    cli, folder = own_sandbox
    cli.typed("sandbox.up")
    running = state.read(folder)
    left = subprocess.Popen(
        ["sleep", "300"], env=processes.build_child_environment(folder, folder), start_new_session=True
    )
    os.kill(running.pid, signal.SIGKILL)
    again = cli.typed("sandbox.up")
    assert "ended without sandbox.down, and everything in it is gone. Processes of it that were ended: 1." in again.err
    assert "Build the stack again: invoke demo" in again.err
    assert left.wait(5) != 0
    assert state.read(folder).pid != running.pid
    cli("doctor")


def test_stale_or_corrupt_state_file_means_no_sandbox(own_sandbox):
    cli, folder = own_sandbox
    folder.mkdir()
    state.write(folder, state.State(os.getpid(), 1.0, 1, 1, "t"))  # our pid, but started at another time
    assert state.read(folder) is None
    (folder / "state.json").write_text("{half")
    assert state.read(folder) is None
    cli.typed("sandbox.up")


def test_settings_for_aws_start_no_sandbox(tmp_path):
    ran = Cli(write_settings(tmp_path / "s.yaml", tmp_path, "x"))(
        "sandbox.up", ok=False, env={"INVOKE_AWS_PROFILE": "prod"}
    )
    assert "These settings are for AWS, not for a sandbox" in ran.err


def test_call_without_a_valid_key_is_rejected(sandbox):
    url = state.read(sandbox).url
    assert get(url)[0] == 403
    stolen = "AWS4-HMAC-SHA256 Credential=AKIAAAAAAAAAAAAAAAAA/20261122/us-east-1/iam/aws4_request, SignedHeaders=host, Signature=x"
    status, body = get(url, Authorization=stolen)
    assert (status, "InvalidClientTokenId" in body) == (403, True)
    assert "it may be from an earlier one. Run: invoke sandbox.up" in body


def test_web_pages_cannot_control_the_sandbox(sandbox):
    running = state.read(sandbox)
    assert get(running.url, Origin="https://evil.example")[0] == 403
    assert get(running.url, Host="evil.example")[0] == 403
    assert get(running.url + "/_sandbox/health")[0] == 403
    assert get(running.url + "/_sandbox/health", X_Sandbox_Token="guess")[0] == 403
    assert get(running.url + "/_sandbox/health", X_Sandbox_Token=running.token)[0] == 200


def test_credentials_exist_on_issued_paths_only(sandbox):
    url = state.read(sandbox).url
    assert get(f"{url}/_credentials/guess")[0] == 404
    assert get(f"{url}/_metadata/guess/latest/meta-data/")[0] == 404


@pytest.mark.parametrize(
    ("service", "call", "args"),
    [
        ("ec2", "describe_network_insights_paths", {}),
        ("sagemaker", "list_algorithms", {}),
        ("iam", "simulate_custom_policy", {"PolicyInputList": ["{}"], "ActionNames": ["s3:GetObject"]}),
        ("accessanalyzer", "list_analyzers", {}),
    ],
)
def test_unsupported_operation_is_named(make_stack, service, call, args):
    from ops.core.errors import AwsError

    with pytest.raises(AwsError, match="NotImplementedInSandbox") as error:
        make_stack("none").account.call(service, call, **args)
    assert "is not part of the sandbox" in str(error.value)


def test_launch_with_the_same_token_happens_once(make_stack):
    cli = make_stack("token")
    ec2, args = (
        cli.account.client("ec2"),
        {"ImageId": "ami-0f0e0d0c0b0a09080", "MinCount": 1, "MaxCount": 1, "ClientToken": "one"},
    )
    first, second = (
        ec2.run_instances(InstanceType="t3.medium", **args)["Instances"][0]["InstanceId"] for _ in range(2)
    )
    assert first == second


def test_call_with_a_lost_response_was_made(make_stack, sandbox):
    account = make_stack("lost").account
    send_control_request(state.read(sandbox), "POST", "fault", {"operation": "CreateUser", "do": "lost"})
    from ops.core.errors import AwsError

    with pytest.raises(AwsError, match="EntityAlreadyExists"):  # the SDK tries again, and finds its own user
        account.call("iam", "create_user", UserName="lost")
    account.call("iam", "delete_user", UserName="lost")


@pytest.mark.parametrize("command", ["sandbox.up", "sandbox.down"])
def test_folder_of_something_else_is_never_cleared(tmp_path, command):
    (tmp_path / "home" / "aws").mkdir(parents=True)
    (tmp_path / "home" / "work").mkdir()
    cli = Cli(write_settings(tmp_path / "s.yaml", tmp_path / "home", "none"))
    refused = cli(command, ok=False)
    assert refused.code == 1
    assert "is not a sandbox's folder" in refused.err
    assert (tmp_path / "home" / "work").is_dir()

"""The one door to AWS: whose account, which retries, what is logged, how long is waited."""

import json
import os
import stat

import pytest

from ops.core.aws.account import Account
from ops.core.errors import AwsError, OpsError
from ops.core.plan import Change, Wait
from sandbox import state
from sandbox.client import send_control_request
from tests.conftest import Cli, write_settings


def test_settings_for_another_account_change_nothing(make_stack):
    cli = make_stack("stranger")
    cli.file.write_text(cli.file.read_text().replace("config_file", "account: '111122223333', config_file"))
    for command in ("iam.apply", "data.up", "net.up"):
        ran = cli(command, ok=False)
        assert ran.code == 1
        assert "The settings are for account 111122223333" in ran.err
        assert "is in account 123456789012. Nothing was touched." in ran.err
    with pytest.raises(OpsError, match="The settings are for account"):
        cli.account.make_change(Change("iam", "create_user", {"UserName": "x"}, why="never"))


def test_stopped_sandbox_is_reported(tmp_path, sandbox):
    folder = tmp_path / "sandbox"
    (folder / "aws").mkdir(parents=True)
    profile = (sandbox / "aws" / "config").read_text()
    port = state.read(sandbox).port
    (folder / "aws" / "config").write_text(profile.replace(str(port), "9"))
    ran = Cli(write_settings(tmp_path / "s.yaml", folder, "none"))("iam.audit", ok=False)
    assert "Cannot reach AWS" in ran.err
    assert "Is the sandbox running? Start it: invoke sandbox.up" in ran.err
    assert "Traceback" not in ran.err


def test_keys_of_the_environment_are_ignored(make_stack, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAAAAAAAAAAAAAAAAA")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x" * 40)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    assert make_stack("env").account.call("sts", "get_caller_identity")["Arn"].endswith(":user/administrator")


@pytest.mark.parametrize("before", ["", "corp.example", "localhost,corp.example", "corp.example,127.0.0.1,localhost"])
def test_loopback_is_exempted_from_the_proxy_once(make_stack, monkeypatch, before):
    monkeypatch.setenv("NO_PROXY", before)
    settings = make_stack("proxy").settings
    Account(settings)
    after = os.environ["NO_PROXY"]
    Account(settings)
    assert os.environ["NO_PROXY"] == after
    assert sorted(after.split(",")) == sorted({"127.0.0.1", "localhost", *filter(None, before.split(","))})


def test_throttled_calls_are_retried_and_denied_ones_not(make_stack, sandbox):
    """Throttled calls are retried, refused ones are not."""
    running, account = state.read(sandbox), make_stack("retry").account
    send_control_request(
        running,
        "POST",
        "fault",
        {"operation": "ListRoles", "do": "error", "times": 2, "code": "Throttling", "status": 400},
    )
    before = Account.sent
    account.call("iam", "list_roles")
    assert Account.sent - before == 3
    send_control_request(
        running,
        "POST",
        "fault",
        {"operation": "ListRoles", "do": "error", "code": "AccessDenied", "message": "no", "status": 403},
    )
    with pytest.raises(AwsError, match="AWS refused ListRoles: AccessDenied: no") as error:
        account.call("iam", "list_roles")
    assert error.value.code == 4


def test_audit_log_has_each_change_before_and_after(make_stack, tmp_path):
    """A change is in the audit log before it is made, and again with its outcome."""
    account = Account(make_stack("audit").settings, audit=tmp_path / "audit.jsonl")
    account.make_change(Change("iam", "create_user", {"UserName": "auditee", "Path": "/t/"}, why="a test"))
    account.because = "an operator's reason"
    with pytest.raises(AwsError, match="EntityAlreadyExists"):
        account.make_change(Change("iam", "create_user", {"UserName": "auditee", "Path": "/t/"}, why="again"))
    account.call("iam", "delete_user", UserName="auditee")
    lines = [json.loads(line) for line in (tmp_path / "audit.jsonl").read_text().splitlines()]
    assert [line["outcome"].split(":")[0] for line in lines] == ["begin", "done", "begin", "failed"]
    assert [line.get("because", "") for line in lines] == ["", "", account.because, account.because]
    first = {name: lines[0][name] for name in ("stack", "call", "why", "args")}
    assert first == {
        "stack": "audit",
        "call": "iam.create_user",
        "why": "a test",
        "args": {"UserName": "auditee", "Path": "/t/"},
    }


def test_stack_log_lists_the_changes_of_a_run(make_stack):
    cli = make_stack("logged")
    cli("data.up")
    found = json.loads(cli("stack.log", "--json").out)
    assert {one["outcome"] for one in found} == {"done"}
    (bucket,) = (one for one in found if one["call"] == "s3.create_bucket")
    assert (bucket["command"], ":assumed-role/kennel-logged-operator/" in bucket["caller"]) == ("data.up", True)
    assert bucket["request"]
    only = cli("stack.log", "--run", bucket["run"][:4], "--resource", cli.settings.bucket, "--minutes", "5").out
    assert "data.up, run " + bucket["run"] in only
    assert "    s3.create_bucket: " in only
    assert "No change of the stack logged" in cli("stack.log", "--resource", "absent").out


def test_audit_log_is_private_and_holds_no_key_id(make_stack, control_sandbox, tmp_path):
    """A refusal brings no key's id into the log, which its owner alone can read."""
    account, key, file = (
        Account(make_stack("veiled").settings, audit=tmp_path / "audit.jsonl"),
        "AKIA" + "IOSFODNN7EXAMPLE",
        tmp_path / "audit.jsonl",
    )
    file.touch(0o644)  # an older Kennel's
    said = f"The Access Key with id {key} cannot be found."
    control_sandbox("fault", operation="UpdateAccessKey", do="error", code="NoSuchEntity", message=said, status=404)
    args = {"UserName": "absent", "AccessKeyId": key, "Status": "Inactive"}
    with pytest.raises(AwsError, match="The Access Key with id ... cannot be found") as refused:
        account.make_change(Change("iam", "update_access_key", args, why="a test"))
    assert key not in str(refused.value)
    assert key not in file.read_text()
    assert "The Access Key with id ... cannot be found." in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_poller_prints_each_state_once_and_times_out(make_stack, capsys, monkeypatch):
    account, states = make_stack("poll").account, iter(["Creating", "Creating", "Updating", None])
    assert account.wait(Wait("it", lambda a: next(states), why="")) is None
    lines = [line.rsplit(" (", 1)[0] for line in capsys.readouterr().err.splitlines()]
    assert lines == ["  it: Creating", "  it: Updating"]
    with pytest.raises(OpsError, match="Timed out waiting for it after 0 s: still Stuck"):
        account.wait(Wait("it", lambda a: "Stuck", why="", timeout_s=0.1))


def test_two_stacks_never_see_each_other(make_stack):
    one, two = make_stack("one"), make_stack("two")
    one("net.up")
    assert "There is no network" in two("net.status").out
    assert two("net.up").out.strip().endswith("28 made")
    mine = {v["VpcId"] for v in one.account.list_tagged("describe_vpcs", "Vpcs")}
    theirs = {v["VpcId"] for v in two.account.list_tagged("describe_vpcs", "Vpcs")}
    assert len(mine) == len(theirs) == 1
    assert not mine & theirs
    two("net.down", "--yes")
    assert one("net.up").out.strip().endswith("0 made")

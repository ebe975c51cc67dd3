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


def test_a_settings_file_for_another_account_changes_nothing(stacks):
    cli = stacks("stranger")
    cli.file.write_text(cli.file.read_text().replace("config_file", "account: '111122223333', config_file"))
    for command in ("iam.apply", "data.up", "net.up"):
        ran = cli(command, ok=False)
        assert ran.code == 1
        assert "The settings are for account 111122223333" in ran.err
        assert "is in account 123456789012. Nothing was touched." in ran.err
    with pytest.raises(OpsError, match="The settings are for account"):
        cli.account.make_change(Change("iam", "create_user", {"UserName": "x"}, why="never"))


def test_a_sandbox_that_is_gone_is_said_to_be_gone(tmp_path, sandbox):
    folder = tmp_path / "sandbox"
    (folder / "aws").mkdir(parents=True)
    profile = (sandbox / "aws" / "config").read_text()
    port = state.read(sandbox).port
    (folder / "aws" / "config").write_text(profile.replace(str(port), "9"))
    ran = Cli(write_settings(tmp_path / "s.yaml", folder, "none"))("iam.audit", ok=False)
    assert "Cannot reach AWS" in ran.err
    assert "Is the sandbox running? Start it: invoke sandbox.up" in ran.err
    assert "Traceback" not in ran.err


def test_keys_of_the_environment_do_not_count(stacks, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAAAAAAAAAAAAAAAAA")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x" * 40)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    assert stacks("env").account.call("sts", "get_caller_identity")["Arn"].endswith(":user/administrator")


@pytest.mark.parametrize("before", ["", "corp.example", "localhost,corp.example", "corp.example,127.0.0.1,localhost"])
def test_two_sessions_exempt_this_machine_from_a_proxy_once(stacks, monkeypatch, before):
    monkeypatch.setenv("NO_PROXY", before)
    settings = stacks("proxy").settings
    Account(settings)
    after = os.environ["NO_PROXY"]
    Account(settings)
    assert os.environ["NO_PROXY"] == after
    assert sorted(after.split(",")) == sorted({"127.0.0.1", "localhost", *filter(None, before.split(","))})


def test_throttled_calls_are_tried_again_and_refused_ones_are_not(stacks, sandbox):
    running, account = state.read(sandbox), stacks("retry").account
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


def test_a_change_is_in_the_audit_log_before_it_is_made_and_with_its_outcome(stacks, tmp_path):
    account = Account(stacks("audit").settings, audit=tmp_path / "audit.jsonl")
    account.make_change(Change("iam", "create_user", {"UserName": "auditee", "Path": "/t/"}, why="a test"))
    with pytest.raises(AwsError, match="EntityAlreadyExists"):
        account.make_change(Change("iam", "create_user", {"UserName": "auditee", "Path": "/t/"}, why="again"))
    account.call("iam", "delete_user", UserName="auditee")
    lines = [json.loads(line) for line in (tmp_path / "audit.jsonl").read_text().splitlines()]
    assert [line["outcome"].split(":")[0] for line in lines] == ["begin", "done", "begin", "failed"]
    first = {name: lines[0][name] for name in ("stack", "call", "why", "args")}
    assert first == {
        "stack": "audit",
        "call": "iam.create_user",
        "why": "a test",
        "args": {"UserName": "auditee", "Path": "/t/"},
    }


def test_a_refusal_brings_no_keys_id_into_the_log_which_is_its_owners_alone(stacks, strike, tmp_path):
    account, key, file = (
        Account(stacks("veiled").settings, audit=tmp_path / "audit.jsonl"),
        "AKIA" + "IOSFODNN7EXAMPLE",
        tmp_path / "audit.jsonl",
    )
    file.touch(0o644)  # an older Kennel's
    said = f"The Access Key with id {key} cannot be found."
    strike("fault", operation="UpdateAccessKey", do="error", code="NoSuchEntity", message=said, status=404)
    args = {"UserName": "nobody", "AccessKeyId": key, "Status": "Inactive"}
    with pytest.raises(AwsError, match="The Access Key with id ... cannot be found") as refused:
        account.make_change(Change("iam", "update_access_key", args, why="a test"))
    assert key not in str(refused.value)
    assert key not in file.read_text()
    assert "The Access Key with id ... cannot be found." in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_the_poller_tells_each_state_once_and_gives_up(stacks, capsys, monkeypatch):
    account, states = stacks("poll").account, iter(["Creating", "Creating", "Updating", None])
    assert account.wait(Wait("it", lambda a: next(states), why="")) is None
    told = [line.rsplit(" (", 1)[0] for line in capsys.readouterr().err.splitlines()]
    assert told == ["  it: Creating", "  it: Updating"]
    with pytest.raises(OpsError, match="Timed out waiting for it after 0 s: still Stuck"):
        account.wait(Wait("it", lambda a: "Stuck", why="", timeout_s=0.1))


def test_two_stacks_never_see_each_other(stacks):
    one, two = stacks("one"), stacks("two")
    one("net.up")
    assert "There is no network" in two("net.status").out
    assert two("net.up").out.strip().endswith("28 made")
    mine = {v["VpcId"] for v in one.account.list_tagged("describe_vpcs", "Vpcs")}
    theirs = {v["VpcId"] for v in two.account.list_tagged("describe_vpcs", "Vpcs")}
    assert len(mine) == len(theirs) == 1
    assert not mine & theirs
    two("net.down", "--yes")
    assert one("net.up").out.strip().endswith("0 made")

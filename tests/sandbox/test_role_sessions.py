"""Commands with kept role sessions: one AssumeRole an hour, and a new one when AWS refuses what was kept."""

import json
from configparser import ConfigParser

import pytest

from ops.core import kept_sessions
from ops.core.aws.account import Account
from ops.core.plan import Change
from sandbox.state import write_private_file
from tests.conftest import Cli


@pytest.fixture
def count(sandbox):
    """Return a function that counts the calls of an operation since the test began."""
    log = sandbox / "calls.jsonl"
    start = log.stat().st_size

    def count_calls(operation):
        with log.open() as file:
            file.seek(start)
            return [json.loads(line)["operation"] for line in file].count(operation)

    return count_calls


def list_kept(stack):
    found = [(path, json.loads(path.read_text())) for path in kept_sessions.FOLDER.glob("*.json")]
    return [(path, content) for path, content in found if content["facts"]["stack"] == stack]


def test_second_command_assumes_no_role(make_stack, count):
    cli = make_stack("hour")
    for _ in range(3):
        cli("sm.status", ok=False)
    assert count("DescribeEndpoint") == 3
    assert count("AssumeRole") == 1
    ((_, content),) = list_kept("hour")
    said = cli("--debug", "sm.status", ok=False).said
    assert not any(content["keys"][part] in said for part in ("secret_key", "token"))


@pytest.mark.parametrize("command", ["sm.status", "net.status", "data.up", "lambda.status"])
def test_refused_session_is_replaced_in_each_protocol(make_stack, count, control_sandbox, command):
    cli = make_stack("replaced")
    first = cli(command, ok=command == "data.up")
    ((path, content),) = list_kept("replaced")
    before = count("AssumeRole")
    control_sandbox("expire", key=content["keys"]["access_key"])
    assert cli(command, ok=command == "data.up").code == first.code
    assert count("AssumeRole") - before == 1
    write_private_file(path, path.read_text().replace("ASIA", "ASIZ"))  # a key that AWS does not know
    assert cli(command, ok=command == "data.up").code == first.code
    assert count("AssumeRole") - before == 2
    kept_sessions.drop_sessions(stack="replaced")


def test_profile_is_not_asked_while_its_session_is_kept(make_stack, sandbox, tmp_path):
    """A profile may ask for a code, or need a login: without a kept session alone."""
    profiles = ConfigParser(interpolation=None)
    profiles.read(sandbox / "aws/config")
    options = profiles["profile sandbox"]
    keys = {
        "Version": 1,
        "AccessKeyId": options["aws_access_key_id"],
        "SecretAccessKey": options["aws_secret_access_key"],
    }
    (tmp_path / "keys.json").write_text(json.dumps(keys))
    (tmp_path / "config").write_text(
        f"[profile p]\nregion = us-east-1\nendpoint_url = {options['endpoint_url']}\n"
        f"credential_process = sh -c 'echo asked >> {tmp_path}/asked; cat {tmp_path}/keys.json'\n"
    )
    make_stack("asked")
    (tmp_path / "s.yaml").write_text(f"stack: {{name: asked}}\naws: {{config_file: {tmp_path}/config, profile: p}}\n")
    cli = Cli(tmp_path / "s.yaml")
    for _ in range(2):
        cli("sm.status", ok=False)
        assert (tmp_path / "asked").read_text().split() == ["asked"]


def test_change_of_a_role_drops_the_stacks_sessions(make_stack):
    cli, other = make_stack("changed"), make_stack("unchanged")
    cli("sm.status", ok=False)
    other("sm.status", ok=False)
    role = cli.settings.build_role_name("operator")
    Account(cli.settings).make_change(
        Change("iam", "tag_role", {"RoleName": role, "Tags": [{"Key": "a", "Value": "b"}]}, why="a test")
    )
    assert list_kept("changed") == []
    assert len(list_kept("unchanged")) == 1


def test_sandbox_down_drops_its_sessions(tmp_path):
    facts = {"stack": "x", "account": "1", "config_file": f"{tmp_path}/sandbox/aws/config"}
    kept = kept_sessions.KeptSession(facts)
    keys = {"access_key": "a", "secret_key": "b", "token": "c", "expiry_time": "2999-01-01T00:00:00+00:00"}
    kept.write(keys)
    other = kept_sessions.KeptSession(facts | {"config_file": "another"})
    other.write(keys)
    (tmp_path / "s.yaml").write_text(f"stack: {{name: x}}\naws: {{config_file: {tmp_path}/sandbox/aws/config}}\n")
    Cli(tmp_path / "s.yaml")("sandbox.down")
    assert (kept.path.exists(), other.path.exists()) == (False, True)
    other.drop()

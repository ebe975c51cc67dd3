"""The audit log: whole lines whatever happens, no change without its line, and the list of changes that is read from it."""

import json
import os
import stat
from concurrent.futures import ThreadPoolExecutor

import pytest

from ops.core import running
from ops.core.audit_log import AuditLog
from ops.core.aws.account import Account
from ops.core.errors import AwsError
from ops.core.plan import Change
from ops.stack import changes
from tests.conftest import settings_of, write_settings

CHANGE = Change("ec2", "create_vpc", {"CidrBlock": "10.0.0.0/16"}, why="create the VPC")
ME = "arn:aws:sts::123456789012:assumed-role/kennel-demo-operator/ann"


@pytest.fixture
def log(tmp_path):
    return AuditLog(tmp_path / "w" / "audit.jsonl")


@pytest.fixture
def account(tmp_path, log, monkeypatch):
    (tmp_path / "aws").mkdir()
    (tmp_path / "aws/config").write_text("[profile sandbox]\naws_access_key_id = a\naws_secret_access_key = b\n")
    account = Account(settings_of(write_settings(tmp_path / "s.yaml", tmp_path, "s")), audit=log.path)
    monkeypatch.setattr(account, "_caller", ME)
    monkeypatch.setattr(running, "run", "1a2b3c4d")
    monkeypatch.setattr(running, "command", "net.up")
    return account


def entry(outcome="begin", **more):
    known = {"time": "2026-12-01T07:00:00.000+00:00", "stack": "s", "pid": 1, "run": "r1", "command": "net.up"}
    return known | {"call": "ec2.create_vpc", "why": "create the VPC", "args": {}, "outcome": outcome} | more


def test_lines_of_concurrent_writers_are_whole(log):
    texts = ["x" * 300, "y" * 12_000]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: log.write({"n": n, "text": texts[n % 2]}), range(160)))
    lines = log.path.read_bytes().splitlines()
    assert sorted(json.loads(line)["n"] for line in lines) == list(range(160))


def test_line_after_a_torn_one_is_whole(log):
    log.write({"n": 1})
    with log.path.open("ab") as file:
        file.write(b'{"n": 2, "ti')
    log.write({"n": 3})
    assert [found["n"] for found in log.read()] == [1, 3]


def test_log_is_on_disk_before_the_change(log, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", lambda file: synced.append(os.fstat(file).st_size))
    log.write({"n": 1})
    assert synced == [log.path.stat().st_size]


def test_link_in_the_logs_place_is_refused(log, tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("kept")
    victim.chmod(0o644)
    log.path.parent.mkdir()
    log.path.symlink_to(victim)
    with pytest.raises(OSError, match="audit.jsonl"):
        log.write({"n": 1})
    assert (victim.read_text(), stat.S_IMODE(victim.stat().st_mode)) == ("kept", 0o644)


def test_no_change_is_made_that_cannot_be_logged(account, log, monkeypatch):
    log.path.mkdir(parents=True)
    monkeypatch.setattr(account, "call", lambda *_, **__: pytest.fail("called"))
    with pytest.raises(IsADirectoryError):
        account.make_change(CHANGE)
    with pytest.raises(IsADirectoryError):
        account.bucket.put("k", b"")


def test_entry_names_run_caller_and_request(account, log, monkeypatch):
    answer = {"Vpc": {}, "ResponseMetadata": {"RequestId": "id-1"}}
    monkeypatch.setattr(account, "call", lambda *_, **__: answer)
    account.make_change(CHANGE)
    begun, done = log.read()
    assert {name: done[name] for name in ("run", "command", "caller", "request", "outcome", "region")} == {
        "run": "1a2b3c4d", "command": "net.up", "caller": ME, "request": "id-1", "outcome": "done", "region": "us-east-1",
    }  # fmt: skip
    assert (begun["outcome"], "request" in begun) == ("begin", False)


def test_failed_change_keeps_its_error_without_a_log(account, log, monkeypatch, capsys):
    """When the disk fills between the two lines, AWS's error is what the person reads."""

    def refuse(*_, **__):
        log.path.unlink()
        log.path.mkdir()
        raise AwsError("CreateVpc", "VpcLimitExceeded", "no", "id-2")

    monkeypatch.setattr(account, "call", refuse)
    with pytest.raises(AwsError, match="VpcLimitExceeded"):
        account.make_change(CHANGE)
    assert "The audit log lacks the outcome of ec2.create_vpc" in capsys.readouterr().err


def test_uploads_are_in_the_log(account, log, monkeypatch):
    monkeypatch.setattr(account, "call", lambda *_, **__: {"ResponseMetadata": {"RequestId": "id-3"}})
    account.bucket.put("datasets/x", b"secret content")
    first, last = log.read()
    assert (first["call"], first["why"], last["request"]) == ("s3.put_object", "upload datasets/x", "id-3")
    assert "secret content" not in log.path.read_text()


def test_changes_are_paired_with_their_outcomes():
    lines = [
        entry(),
        entry(call="ec2.create_subnet", why="create a subnet"),
        entry("failed: AwsError: no", call="ec2.create_subnet", why="create a subnet", request="id-4"),
        entry("done"),
        entry(stack="other"),
        entry(run="r2", command="net.down", call="ec2.delete_vpc", why="delete the VPC", args={"VpcId": "vpc-7"}),
        {"no": "entry"},
    ]
    found = changes.read_changes(lines, "s")
    assert [(one.call, one.outcome) for one in found] == [
        ("ec2.create_vpc", "done"), ("ec2.create_subnet", "failed: AwsError: no"), ("ec2.delete_vpc", "no outcome"),
    ]  # fmt: skip
    assert found[1].request == "id-4"
    assert changes.format_changes(found).splitlines() == [
        "2026-12-01 07:00:00 UTC  net.up, run r1",
        "    ec2.create_vpc: create the VPC",
        "  ! ec2.create_subnet: create a subnet",
        "      failed: AwsError: no",
        "2026-12-01 07:00:00 UTC  net.down, run r2",
        "  ? ec2.delete_vpc: delete the VPC",
        "      no outcome",
    ]


@pytest.mark.parametrize(
    ("flags", "wanted"),
    [({}, 2), ({"run": "r2"}, 1), ({"resource": "VPC-7"}, 1), ({"resource": "nothing"}, 0), ({"minutes": 5}, 0)],
    ids=["all", "run", "resource", "none", "old"],
)
def test_changes_are_selected_by_run_resource_and_time(flags, wanted):
    lines = [entry(), entry(run="r2", args={"VpcId": "vpc-7"})]
    assert len(changes.select_changes(changes.read_changes(lines, "s"), **flags)) == wanted

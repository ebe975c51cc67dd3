"""What this process and this machine created in the last minute, and AWS may not know yet."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from ops.core.aws.new_resources import NewResources, is_unknown_resource
from ops.core.errors import AwsError

VPC = {"Vpc": {"VpcId": "vpc-1", "State": "pending"}, "ResponseMetadata": {"RequestId": "r-1"}}
ROLE = {"Role": {"RoleName": "box", "Arn": "arn:aws:iam::1:role/kennel/box"}}


@pytest.fixture
def created():
    made = NewResources()
    made.note("ec2", "create_vpc", {}, VPC)
    made.note("iam", "create_role", {"RoleName": "box"}, ROLE)
    return made


@pytest.mark.parametrize(
    ("args", "named"),
    [
        ({"Filters": [{"Name": "x"}], "VpcId": "vpc-1"}, "vpc-1"),
        ({"VpcId": "vpc-12"}, ""),
        ({"RoleName": "box"}, "box"),
        ({"RoleName": "box-infra"}, ""),
        ({"Role": "arn:aws:iam::1:role/kennel/box"}, "box"),
        ({"RequestId": "r-1"}, ""),
    ],
)
def test_arguments_name_a_new_resource(created, tmp_path, args, named):
    assert created.find_named(args, tmp_path / "none") == named


def test_deleted_resource_is_not_awaited(created, tmp_path):
    created.note("ec2", "delete_vpc", {"VpcId": "vpc-1"}, {})
    assert created.find_named({"VpcId": "vpc-1"}, tmp_path / "none") == ""


def test_roles_of_the_audit_log_are_new_for_a_minute(tmp_path):
    """iam.apply created them in another process."""
    now = datetime.now(UTC)
    lines = [
        line(now, "create_role", "new"),
        line(now - timedelta(seconds=90), "create_role", "old"),
        line(now, "create_role", "gone"),
        line(now, "delete_role", "gone"),
        line(now, "create_role", "failed", "failed: AwsError"),
    ]
    audit = tmp_path / "audit.jsonl"
    audit.write_text("cut off}\n" + "\n".join(lines))
    found = {
        name: NewResources().find_named({"Role": f"role/{name}"}, audit) for name in ("new", "old", "gone", "failed")
    }
    assert found == {"new": "new", "old": "", "gone": "", "failed": ""}


def line(when, call, role, outcome="done"):
    return json.dumps({"time": when.isoformat(), "outcome": outcome, "call": f"iam.{call}", "args": {"RoleName": role}})


@pytest.mark.parametrize(
    ("code", "reason", "unknown"),
    [
        ("InvalidVpcID.NotFound", "The vpc ID 'vpc-1' does not exist", True),
        ("NoSuchEntity", "The role with name box cannot be found.", True),
        ("ValidationException", "Could not assume role x", True),
        ("DependencyViolation", "has dependencies", False),
        ("AccessDenied", "is not authorized to perform: iam:GetRole", False),
    ],
)
def test_only_unknown_resources_are_awaited(code, reason, unknown):
    assert is_unknown_resource(AwsError("Call", code, reason)) is unknown

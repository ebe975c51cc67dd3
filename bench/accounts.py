"""The synthetic accounts: the IAM of one account, drawn by seed, in the form of GetAccountAuthorizationDetails.

There are ten kinds of policy and five of trust; each role has one of each, half of the policies inline, half managed.
As in real accounts, some kinds name a resource of the role's own, so that documents differ; others are always the same.
"""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime, timedelta
from typing import Any

ACCOUNT = "111111111111"
START = datetime(2026, 1, 1, tzinfo=UTC)
SHARED = 25  # roles that share one managed policy, of a kind that names no role

Statements = list[dict[str, Any]]


def allow_actions(*actions: str, resource: str | list[str] = "*", **more: Any) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": list(actions), "Resource": resource} | more


def build_policies(name: str) -> dict[str, Statements]:
    """Return the statements of each kind of policy; some kinds name resources of the role `name`."""
    role = f"arn:aws:iam::{ACCOUNT}:role"
    table = f"arn:aws:dynamodb:us-east-1:{ACCOUNT}:table/{name}"
    logs = f"arn:aws:logs:us-east-1:{ACCOUNT}:log-group:/app/{name}:*"
    to_lambda = {"StringEquals": {"iam:PassedToService": "lambda.amazonaws.com"}}
    return {
        "reader": [allow_actions("s3:GetObject", "s3:ListBucket", resource=[f"arn:aws:s3:::{name}", f"arn:aws:s3:::{name}/*"])],
        "worker": [
            allow_actions("dynamodb:GetItem", "dynamodb:PutItem", resource=table),
            allow_actions("logs:PutLogEvents", resource=logs),
        ],
        "listing": [allow_actions("ec2:Describe*", "s3:ListAllMyBuckets", "cloudwatch:GetMetricData")],
        "secrets": [allow_actions("secretsmanager:GetSecretValue", resource=f"arn:aws:secretsmanager:us-east-1:{ACCOUNT}:secret:{name}-*")],
        "deployer": [
            allow_actions("lambda:CreateFunction", "lambda:InvokeFunction", "lambda:UpdateFunctionCode"),
            allow_actions("iam:PassRole", Condition=to_lambda),
        ],
        "scoped": [
            allow_actions("lambda:CreateFunction", "lambda:InvokeFunction", resource=f"arn:aws:lambda:us-east-1:{ACCOUNT}:function:{name}"),
            allow_actions("iam:PassRole", resource=f"{role}/{name}"),
        ],
        "keeper": [
            allow_actions("iam:CreatePolicyVersion", "iam:AttachRolePolicy", "iam:GetRole"),
            allow_actions("sts:AssumeRole", resource=f"{role}/r1*"),
        ],
        "denied": [allow_actions("iam:*", "ec2:*"), {"Effect": "Deny", "Action": "iam:*", "Resource": "*"}],
        "power": [{"Effect": "Allow", "NotAction": ["iam:*", "organizations:*"], "Resource": "*"}],
        "admin": [allow_actions("*")],
    }  # fmt: skip


def build_trust_statements(other: str) -> list[Any]:
    """Return five kinds of trust statement: two services, the account, another role, another account."""
    mfa = {"Bool": {"aws:MultiFactorAuthPresent": "true"}}
    return [
        {"Principal": {"Service": "lambda.amazonaws.com"}},
        {"Principal": {"Service": "ec2.amazonaws.com"}},
        {"Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:root"}, "Condition": mfa},
        {"Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:role/{other}"}},
        {"Principal": {"AWS": "arn:aws:iam::222222222222:root"}, "Condition": {"StringEquals": {"sts:ExternalId": "kennel"}}},
    ]  # fmt: skip


def draw_account(roles: int, seed: int, distinct: bool = False) -> dict[str, Any]:
    """Return one page of details. With `distinct`, each role's Sids carry its name, so that no two documents are equal.

    cloudsplaining needs PolicyName and PolicyId of managed policies, and Path and RoleId of roles.
    """
    draw = random.Random(seed)
    details: list[dict[str, Any]] = []
    managed: dict[str, dict[str, Any]] = {}
    for number in range(roles):
        name = f"r{number}"
        kinds = build_policies(name)
        kind = list(kinds)[number % len(kinds)]
        trust = [
            {"Effect": "Allow", "Action": "sts:AssumeRole"}
            | build_trust_statements(f"r{draw.randrange(roles)}")[number // len(kinds) % 5]
        ]
        held, trust = (name_statements(some, name) if distinct else some for some in (kinds[kind], trust))
        made = START + timedelta(minutes=number)
        role: dict[str, Any] = {
            "RoleName": name,
            "RoleId": f"AROA{number:016}",
            "Path": "/",
            "Arn": f"arn:aws:iam::{ACCOUNT}:role/{name}",
            "CreateDate": made.isoformat(),
            "AssumeRolePolicyDocument": build_document(trust),
            "InstanceProfileList": [],
            "RolePolicyList": [],
            "AttachedManagedPolicies": [],
            "RoleLastUsed": {"LastUsedDate": (made + timedelta(days=draw.randrange(200))).isoformat()},
            "Tags": [],
        }
        if draw.random() < 0.5:
            role["RolePolicyList"] = [{"PolicyName": kind, "PolicyDocument": build_document(held)}]
        else:
            of_its_own = name in json.dumps(held)
            called = f"{kind}-{number if of_its_own else number // SHARED}"
            policy = managed.setdefault(called, build_managed_policy(called, len(managed), made, held))
            policy["AttachmentCount"] += 1
            role["AttachedManagedPolicies"] = [{"PolicyName": called, "PolicyArn": policy["Arn"]}]
        details.append(role)
    return {"RoleDetailList": details, "UserDetailList": [], "GroupDetailList": [], "Policies": list(managed.values())}


def name_statements(statements: Statements, name: str) -> Statements:
    return [one | {"Sid": f"{name}s{number}"} for number, one in enumerate(statements, 1)]


def build_managed_policy(name: str, number: int, made: datetime, statements: Statements) -> dict[str, Any]:
    version = {"VersionId": "v1", "IsDefaultVersion": True, "CreateDate": made.isoformat()}
    return {
        "PolicyName": name,
        "PolicyId": f"ANPA{number:016}",
        "Arn": f"arn:aws:iam::{ACCOUNT}:policy/{name}",
        "Path": "/",
        "DefaultVersionId": "v1",
        "AttachmentCount": 0,
        "PermissionsBoundaryUsageCount": 0,
        "IsAttachable": True,
        "CreateDate": made.isoformat(),
        "UpdateDate": made.isoformat(),
        "PolicyVersionList": [version | {"Document": build_document(statements)}],
    }


def build_document(statements: Statements) -> dict[str, Any]:
    return {"Version": "2012-10-17", "Statement": statements}

"""The shipped roles: their names, and what they hold."""

import json
import re

import pytest

from iampolicy.errors import InputError
from ops.core.paths import ROOT
from ops.iam import roles
from tests.conftest import settings_of

SETTINGS = settings_of()
WANTED = roles.read_roles(SETTINGS)


def test_shipped_roles_are_complete_and_within_quotas():
    """Every shipped role has its trust and permissions, within AWS's quotas."""
    assert [want.role for want in WANTED] == [
        "auditor",
        "bootstrap",
        "ci",
        "ci-apply",
        "ec2-box",
        "image-build",
        "lambda-invoke",
        "operator",
        "operator-infra",
        "sagemaker-execution",
    ]
    assert [want.role for want in WANTED if want.for_instances] == ["ec2-box"]


def test_shipped_policies_name_well_formed_actions():
    """The shipped policies name only actions of a form that IAM accepts."""
    import re

    for want in WANTED:
        for policy in want.permissions.values():
            for statement in policy.document["Statement"]:
                assert all(re.fullmatch(r"[a-z0-9-]+:[A-Z]\w+", action) for action in statement["Action"]), statement[
                    "Sid"
                ]


def test_unknown_placeholder_is_an_error(tmp_path):
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / "trust.json").write_text("{}")
    (tmp_path / "r" / "permissions.json").write_text('{"Resource": "${acount}"}')
    with pytest.raises(
        InputError, match=r"r/permissions.json: unknown placeholder \$\{acount\}; known: account, region, stack, bucket"
    ):
        roles.read_roles(SETTINGS, folder=tmp_path)
    (tmp_path / "r" / "permissions.json").write_text(json.dumps({"Statement": ["x" * 6200]}))
    with pytest.raises(InputError, match="AWS accepts at most 6144"):
        roles.read_roles(SETTINGS, folder=tmp_path)


CALLED = re.compile(r'"(sagemaker|cloudwatch|application-autoscaling|codebuild|ecr|logs)",\s*"([a-z_]+)"')


def test_operator_may_make_every_call_of_the_endpoint_commands():
    """By name only; the resources are each policy's own matter."""
    import botocore.session
    from botocore import xform_name

    allowed = {
        action
        for path in (ROOT / "iam_policies" / "operator").glob("permissions-*.json")
        for statement in json.loads(path.read_text())["Statement"]
        for action in ([statement["Action"]] if isinstance(statement["Action"], str) else statement["Action"])
    }
    session, used = botocore.session.Session(), set()
    domains = ("jobs", "releases", "endpoint", "capacity", "reports")
    for path in (path for domain in domains for path in (ROOT / "ops" / domain).rglob("*.py")):
        text = (
            path.read_text()
            .replace("scaling.SERVICE", '"application-autoscaling"')
            .replace("SERVICE,", '"application-autoscaling",')
        )
        for service, method in CALLED.findall(text):
            names = session.get_service_model(service).operation_names
            operation = next((name for name in names if xform_name(name) == method), None)
            if operation:
                used.add(f"{service}:{operation}")
    assert len(used) > 30
    assert used - allowed == set()

"""The shipped roles: their names, and what they hold."""

import json
import re
from datetime import UTC, datetime

import pytest

from iampolicy.audit import engine
from iampolicy.audit.account_facts import AccountFacts
from iampolicy.errors import InputError
from iampolicy.policy.document import parse_policy
from iampolicy.policy.evaluate import Caller, Request, Rights, decide_request
from ops.core.errors import OpsError
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


PEOPLE = ("auditor", "bootstrap", "operator", "operator-infra")
SETS = settings_of(text="stack: {name: s}\niam: {permission_sets: [Operators, Ops.2]}\n")
BY_SET = {want.role: want for want in roles.read_roles(SETS)}
RESERVED = "role/aws-reserved/sso.amazonaws.com"


def may_assume(role, caller):
    """Decide for a principal of the account, whose session has no MFA and whose own policies allow everything."""
    arn = f"arn:aws:iam::123456789012:{caller}"
    request = Request(Caller(arn), "sts:AssumeRole", SETS.role_arn(role), {"aws:principalarn": arn})
    everything = parse_policy("everything", {"Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}})
    return decide_request(request, Rights((everything,)), BY_SET[role].trust, required=True).allowed


@pytest.mark.parametrize(
    ("caller", "admitted"),
    [
        (f"{RESERVED}/AWSReservedSSO_Operators_0123456789abcdef", True),
        (f"{RESERVED}/eu-west-1/AWSReservedSSO_Operators_0123456789abcdef", True),
        (f"{RESERVED}/AWSReservedSSO_Ops.2_0123456789abcdef", True),
        (f"{RESERVED}/AWSReservedSSO_Operators_More_0123456789abcdef", False),
        (f"{RESERVED}/AWSReservedSSO_Ops_2_0123456789abcdef", False),
        ("role/AWSReservedSSO_Operators_0123456789abcdef", False),
        ("user/alice", False),
    ],
)
def test_named_permission_sets_may_assume_the_roles_of_people(caller, admitted):
    assert {role for role in BY_SET if may_assume(role, caller)} == (set(PEOPLE) if admitted else set())


def test_other_trusts_do_not_depend_on_permission_sets():
    plain = {want.role: want for want in roles.read_roles(settings_of(text="stack: {name: s}\n"))}
    assert tuple(sorted(role for role in plain if plain[role].trust.document != BY_SET[role].trust.document)) == PEOPLE


def test_audit_finds_nothing_wrong_with_permission_sets():
    """The statement names the roles that it admits; were it open, the rule on root would count it too."""

    def audit(settings):
        snapshot = roles.build_applied_snapshot(roles.read_roles(settings), settings)
        options = engine.AuditOptions(AccountFacts(), datetime.now(UTC), region=settings.aws.region)
        return sorted((found.rule, found.principal, found.statement) for found in engine.run_audit(snapshot, options))

    found = audit(SETS)
    assert ("IAM-TRUST-003", "kennel-s-operator") in [each[:2] for each in found]  # of the statement for MFA
    assert found == audit(settings_of(text="stack: {name: s}\n"))


@pytest.mark.parametrize("name", ["*", "a b", "", "x" * 33, "${aws:username}"])
def test_permission_set_is_a_name(name):
    with pytest.raises(OpsError, match="iam.permission_sets"):
        settings_of(text=f"stack: {{name: s}}\niam: {{permission_sets: ['{name}']}}\n")

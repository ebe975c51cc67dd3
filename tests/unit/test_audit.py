"""The audit: each rule finds what was planted and leaves its harmless twin alone; and files, calls, waivers and output around it."""

import json
import stat
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from iampolicy.account import snapshot_file
from iampolicy.account.snapshot import Managed, Principal, Snapshot, parse_snapshot
from iampolicy.audit import account_facts
from iampolicy.audit.rules_trust import COGNITO
from iampolicy.errors import InputError
from iampolicy.finding import SEVERITIES
from ops.iam import roles, waivers
from ops.iam.audit import AuditSource, audit_with_waivers, count_findings, fold_paths, format_findings
from ops.iam.expectations import Expectation, decide_expectation
from ops.iam.removal import explain_removal_refusal
from ops.iam.waivers import Waiver
from tests.conftest import ROOT, Cli, settings_of, write_settings

SETTINGS = settings_of()
WANTED = roles.read_roles(SETTINGS)
ACCOUNT = SETTINGS.aws.account
NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
ROLE = f"arn:aws:iam::{ACCOUNT}:role"
VERSION = "2012-10-17"
FINE_TRUST = {
    "Version": VERSION,
    "Statement": [{"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}],
}
EMPTY_BUCKET = {"Effect": "Allow", "Action": "s3:ListBucket", "Resource": "arn:aws:s3:::mine"}


def doc(*statements):
    return {"Version": VERSION, "Statement": list(statements)}


def allow(action, resource="*", **more):
    return {"Effect": "Allow", "Action": action, "Resource": resource} | more


def deny(action, resource="*", **more):
    return {"Effect": "Deny", "Action": action, "Resource": resource} | more


def when(operator, key, value):
    return {"Condition": {operator: {key: value}}}


def role(name, *statements, trust=FINE_TRUST, days=1, **more):
    """A role whose policy is attached, so that no rule but those asked about speaks of it."""
    arn = f"arn:aws:iam::{ACCOUNT}:policy/{name}"
    made = Principal(name, f"{ROLE}/{name}", trust, attached=(arn,), created=NOW - timedelta(days), **more)
    return made, Managed(arn, doc(*statements or [EMPTY_BUCKET]), attachments=1)


def account(*made, **more):
    roles = {p.name: p for p, _ in made if p.trust is not None}
    users = {p.name: p for p, _ in made if p.trust is None}
    held = {policy.arn: policy for _, policy in made}
    return Snapshot(roles, users, policies=held | more.pop("policies", {}), **more)


def audited(have, **more):
    return audit_with_waivers(have, SETTINGS, now=NOW, **more)


def found(have, *rules, **more):
    """(severity, rule, principal) of the rules that are asked about, or of all but the escalations."""
    return [
        (f.severity, f.rule, f.principal)
        for f in audited(have, **more)
        if (f.rule in rules if rules else not f.rule.startswith("IAM-PRIVESC"))
    ]


def of(name, *statements, boundary=None, **more):
    """The findings of one rule on a role that holds these statements."""
    made, held = role("planted", *statements, **more)
    rest = {}
    if boundary is not None:
        arn = f"arn:aws:iam::{ACCOUNT}:policy/bound"
        made, rest = replace(made, boundary=arn), {arn: Managed(arn, doc(*boundary), attachments=0, boundaries=1)}
    return [f.severity for f in audited(account((made, held), policies=rest)) if f.rule == name]


YESTERDAY = {"Condition": {"DateLessThan": {"aws:CurrentTime": "2026-11-23T00:00:00Z"}}}
TO_EC2 = when("StringEquals", "iam:PassedToService", "ec2.amazonaws.com")
EVERYTHING = allow("*")
DAYS = timedelta(1)
POSITIVE = [
    ("IAM-ADMIN-001", "critical", [EVERYTHING]),
    ("IAM-ADMIN-001", "critical", [allow(["s3:GetObject", "*"])]),
    ("IAM-ADMIN-001", "critical", [allow("*", "arn:aws:*")]),
    ("IAM-ADMIN-001", "critical", [allow("*:*")]),
    ("IAM-ADMIN-001", "critical", [allow("iam:*")]),
    ("IAM-ADMIN-001", "critical", [EVERYTHING, deny("s3:*")]),
    ("IAM-ADMIN-001", "critical", [EVERYTHING, deny("*", **when("Bool", "aws:MultiFactorAuthPresent", "false"))]),
    ("IAM-ADMIN-001", "critical", [EVERYTHING | when("Bool", "aws:MultiFactorAuthPresent", "true")]),
    ("IAM-ADMIN-001", "high", [{"Effect": "Allow", "NotAction": "iam:*", "Resource": "*"}]),
    ("IAM-ADMIN-001", "high", [EVERYTHING, deny("iam:*")]),
    ("IAM-WILD-001", "high", [allow("s3:*")]),
    ("IAM-WILD-001", "high", [allow("dynamodb:*", "arn:aws:dynamodb:*:*:*")]),
    ("IAM-WILD-001", "high", [allow("s3:*"), deny("s3:DeleteBucket")]),
    ("IAM-WILD-001", "medium", [allow("s3:Put*")]),
    ("IAM-WILD-002", "medium", [allow("s3:PutObject")]),
    ("IAM-WILD-002", "medium", [allow("s3:PutObject", **when("StringEquals", "aws:RequestedRegion", "us-east-1"))]),
    ("IAM-WILD-002", "medium", [allow("cloudwatch:PutMetricData")]),
    ("IAM-WILD-002", "medium", [allow(["ec2:DescribeVpcs", "ec2:TerminateInstances"])]),
    ("IAM-WILD-003", "medium", [allow("sqs:SendMessage", f"arn:aws:sqs:*:{ACCOUNT}:q")]),
    ("IAM-WILD-003", "medium", [allow("sns:Publish", "arn:aws:sns:us-east-1:*:t")]),
    ("IAM-WILD-003", "medium", [allow("s3:GetObject", "arn:aws:s3:::*")]),
    ("IAM-WILD-003", "medium", [allow("iam:GetRole", f"{ROLE}/*")]),
    ("IAM-PASS-001", "high", [allow("iam:PassRole")]),
    ("IAM-PASS-001", "high", [allow("iam:PassRole", f"{ROLE}/*")]),
    ("IAM-PASS-001", "high", [allow("iam:PassRole", **when("StringLike", "iam:PassedToService", "*"))]),
    ("IAM-PASS-001", "medium", [allow("iam:PassRole", **TO_EC2)]),
    ("IAM-PASS-002", "medium", [allow("iam:PassRole", f"{ROLE}/other")]),
    ("IAM-PASS-003", "high", [allow("iam:*", f"{ROLE}/other")]),
    ("IAM-PASS-003", "high", [{"Effect": "Allow", "NotAction": "s3:*", "Resource": f"{ROLE}/other"}]),
    ("IAM-PASS-003", "high", [{"Effect": "Allow", "Action": "iam:PassRole", "NotResource": f"{ROLE}/other"}]),
    ("IAM-BOUND-001", "medium", [allow("iam:CreateRole", f"{ROLE}/app/*")]),
    ("IAM-EXPO-002", "high", [allow("s3:PutBucketPolicy")]),
    ("IAM-EXPO-002", "high", [allow(["lambda:AddPermission", "kms:PutKeyPolicy"])]),
    ("IAM-EXPO-002", "high", [allow("ecr:Set*")]),
    ("IAM-EXPO-002", "high", [allow("s3:PutAccountPublicAccessBlock")]),
    ("IAM-EXFIL-001", "medium", [allow("s3:GetObject")]),
    ("IAM-EXFIL-001", "medium", [allow("s3:Get*", "arn:aws:s3:::*/*")]),
    ("IAM-EXFIL-001", "medium", [allow("ssm:GetParameter*")]),
    ("IAM-EXFIL-001", "high", [allow("kms:Decrypt")]),
    ("IAM-EXFIL-001", "high", [allow("ec2:ModifySnapshotAttribute")]),
    ("IAM-CRED-001", "medium", [allow("redshift:GetClusterCredentials")]),
    ("IAM-CRED-001", "medium", [allow("sts:AssumeRole")]),
    ("IAM-CRED-001", "info", [allow("ecr:GetAuthorizationToken")]),
    ("IAM-NOT-001", "high", [{"Effect": "Allow", "NotAction": "iam:*", "Resource": "arn:aws:s3:::mine"}]),
    ("IAM-NOT-001", "medium", [{"Effect": "Allow", "Action": "s3:GetObject", "NotResource": "arn:aws:s3:::mine/*"}]),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "severity", "statements"), POSITIVE)
def test_wide_statement_is_a_finding(rule, severity, statements):
    assert severity in of(rule, *statements)


@pytest.mark.parametrize(("rule", "severity", "statements"), POSITIVE)
def test_denied_bounded_or_expired_statement_is_no_finding(rule, severity, statements):
    """What is denied, outside the boundary or expired gives nothing away."""
    assert of(rule, *statements, deny("*")) == []
    assert of(rule, *statements, boundary=[EMPTY_BUCKET]) == []
    expired = [{**one, **YESTERDAY} if "Condition" not in one else one for one in statements]
    if all(one["Effect"] == "Allow" and one.get("Condition") == YESTERDAY["Condition"] for one in expired):
        assert of(rule, *expired) == []


@pytest.mark.parametrize(
    ("rule", "statements"),
    [
        ("IAM-ADMIN-001", [allow("*", "arn:aws:s3:::mine/*")]),
        ("IAM-ADMIN-001", [EVERYTHING, deny("*", **when("Null", "aws:PrincipalArn", "false"))]),
        ("IAM-ADMIN-001", [{"Effect": "Deny", "NotAction": "s3:*", "Resource": "*"}, EVERYTHING]),
        ("IAM-WILD-001", [allow("s3:*", "arn:aws:s3:::mine/*")]),
        ("IAM-WILD-001", [allow("ec2:Describe*")]),
        ("IAM-WILD-001", [allow("ec2:EnableEbsEncryption*")]),
        ("IAM-WILD-001", [allow("s3:*"), {"Effect": "Deny", "Action": "s3:*", "NotResource": "arn:aws:s3:::mine/*"}]),
        ("IAM-WILD-002", [allow("ec2:DescribeVpcs")]),
        ("IAM-WILD-002", [allow("s3:GetObject")]),
        ("IAM-WILD-002", [allow("sagemaker:ListModels")]),
        ("IAM-WILD-002", [allow("ec2:TerminateInstances", **when("StringEquals", "aws:ResourceTag/kennel:stack", "s"))]),
        ("IAM-WILD-002", [allow("cloudwatch:PutMetricData", **when("StringEquals", "cloudwatch:namespace", "Kennel"))]),
        ("IAM-WILD-002", [allow("cloudwatch:PutMetricData", **when("StringEquals", "aws:RequestedRegion", "us-east-1"))]),
        ("IAM-WILD-003", [allow("s3:GetObject", "arn:aws:s3:::mine/*")]),
        ("IAM-WILD-003", [allow("iam:GetRole", f"{ROLE}/app/*")]),
        ("IAM-WILD-003", [allow("ec2:StopInstances", "arn:aws:ec2:*:*:instance/*", **when("StringEquals", "ec2:ResourceTag/a", "b"))]),
        ("IAM-PASS-001", [allow("iam:PassRole", f"{ROLE}/other", **TO_EC2)]),
        ("IAM-PASS-002", [allow("iam:PassRole", f"{ROLE}/other", **TO_EC2)]),
        ("IAM-PASS-003", [allow("iam:PassRole", f"{ROLE}/other")]),
        ("IAM-BOUND-001", [allow("iam:GetRole")]),
        ("IAM-EXPO-002", [allow("s3:PutBucketPolicy", "arn:aws:s3:::mine")]),
        ("IAM-EXPO-002", [allow(["s3:PutObject", "iam:PassRole"])]),
        ("IAM-EXFIL-001", [allow("s3:GetObject", "arn:aws:s3:::mine/*")]),
        ("IAM-EXFIL-001", [allow("kms:Decrypt", f"arn:aws:kms:us-east-1:{ACCOUNT}:key/*")]),
        ("IAM-CRED-001", [allow("sts:AssumeRole", f"{ROLE}/other")]),
        ("IAM-NOT-001", [allow("s3:GetObject"), {"Effect": "Deny", "NotAction": "s3:*", "Resource": "*"}]),
    ],
)  # fmt: skip
def test_narrow_statements_have_no_finding(rule, statements):
    assert of(rule, *statements) == []


ANY = "arn:aws:ec2:*:*:"
SMALL = allow("ec2:RunInstances", f"{ANY}instance/*", **when("StringEquals", "ec2:InstanceType", ["t3.micro"]))
TAGGED = allow("ec2:RunInstances", f"{ANY}instance/*", **when("StringEquals", "aws:RequestTag/team", "dogs"))
REST = allow(
    "ec2:RunInstances",
    [
        "arn:aws:ec2:*::image/*",
        *(f"{ANY}{kind}/*" for kind in ("subnet", "network-interface", "security-group", "volume")),
    ],
)
CREATE_TAGS = allow("ec2:CreateTags", f"{ANY}*/*", **when("StringEquals", "ec2:CreateAction", "RunInstances"))
ENDPOINT = f"arn:aws:sagemaker:us-east-1:{ACCOUNT}:endpoint"


@pytest.mark.parametrize(
    ("statements", "quiet"),
    [
        ([SMALL, REST, CREATE_TAGS], True),
        ([TAGGED, REST], True),
        ([allow("sagemaker:UpdateEndpoint", [f"{ENDPOINT}/shop", "arn:aws:sagemaker:*:*:endpoint-config/*"])], True),
        ([REST], False),
        ([SMALL, allow("ec2:RunInstances")], False),
        ([SMALL, allow("ec2:RunInstances", f"{ANY}instance/*"), REST], False),
        ([allow("ec2:RunInstances", f"{ANY}instance/*", **when("Null", "aws:RequestTag/team", "false")), REST], False),
        ([allow("ec2:RunInstances", f"{ANY}instance/*", **when("StringEqualsIfExists", "aws:RequestTag/team", "a")), REST], False),
        ([allow("ec2:RunInstances", f"{ANY}instance/*", **when("StringEquals", "aws:RequestedRegion", "us-east-1")), REST], False),
        ([allow(["ec2:RunInstances", "ec2:StopInstances"], f"{ANY}instance/*"), REST], False),
        ([allow("ec2:RunInstances", f"arn:aws:ec2:eu-west-1:{ACCOUNT}:*")], False),
    ],
)  # fmt: skip
def test_statements_that_restrict_together_are_quiet(statements, quiet):
    """AWS asks for every resource of ec2:RunInstances: types and tags of one statement restrict what another leaves open."""
    wild = {f.rule for f in audited(account(role("r", *statements))) if f.rule.startswith("IAM-WILD")}
    assert bool(wild) is not quiet


BEGAN = "aws:TokenIssueTime"
LONG_AGO, NEXT_YEAR = "2026-11-20T00:00:00Z", "2027-11-24T00:00:00Z"
HOURS_AGO = "2026-11-24T02:00:00Z"


@pytest.mark.parametrize(
    ("statements", "kind", "exploitable"),
    [
        ([EVERYTHING | when("DateLessThan", BEGAN, LONG_AGO)], "role", False),
        ([EVERYTHING | when("DateEquals", BEGAN, LONG_AGO)], "role", False),
        ([EVERYTHING | when("DateLessThanIfExists", BEGAN, LONG_AGO)], "role", False),
        ([EVERYTHING | when("Null", BEGAN, "true")], "role", False),
        ([EVERYTHING | when("DateLessThan", BEGAN, HOURS_AGO)], "role", True),  # a session of 12 hours
        ([EVERYTHING | when("DateLessThan", BEGAN, NEXT_YEAR)], "role", True),
        ([EVERYTHING | when("DateGreaterThan", BEGAN, LONG_AGO)], "role", True),
        ([EVERYTHING | when("DateGreaterThan", BEGAN, NEXT_YEAR)], "role", False),
        ([EVERYTHING, deny("*", **when("DateGreaterThan", BEGAN, LONG_AGO))], "role", False),
        ([EVERYTHING, deny("*", **when("DateLessThan", BEGAN, HOURS_AGO))], "role", True),
        ([EVERYTHING | when("DateLessThan", BEGAN, LONG_AGO)], "user", False),
        ([EVERYTHING | when("DateLessThanIfExists", BEGAN, LONG_AGO)], "user", True),  # an access key has no such time
        ([EVERYTHING | when("Null", BEGAN, "true")], "user", True),
        ([EVERYTHING, deny("*", **when("DateGreaterThan", BEGAN, LONG_AGO))], "user", True),
        ([EVERYTHING | when("DateLessThan", BEGAN, "never")], "role", False),
    ],
)  # fmt: skip
def test_sessions_that_cannot_exist_give_nothing(statements, kind, exploitable):
    trust = FINE_TRUST if kind == "role" else None
    made, held = role("planted", *statements, trust=trust)
    arn = f"arn:aws:iam::{ACCOUNT}:{kind}/planted"
    seen = {f.rule for f in audited(account((replace(made, arn=arn), held)))}
    assert ("IAM-ADMIN-001" in seen) is exploitable
    assert bool({rule for rule in seen if rule.startswith(("IAM-WILD", "IAM-EXFIL", "IAM-PASS"))}) is exploitable


def test_trust_in_sessions_of_the_past_is_closed():
    gone, live = (trusting(FOREIGN, **when("DateLessThan", BEGAN, day)) for day in (LONG_AGO, NEXT_YEAR))
    assert trusted(gone) == []
    assert trusted(live) == [("high", "TRUST-002")]


def test_finding_names_policy_statement_and_remaining_actions():
    """A finding names the statement, the policy, and the actions that no deny takes away."""
    statements = [
        allow("s3:ListBucket", "arn:aws:s3:::mine", Sid="Fine"),
        allow(["kms:PutKeyPolicy", "s3:PutBucketPolicy"], Sid="Wide"),
    ]
    one = next(f for f in audited(account(role("r", *statements, deny("kms:*")))) if f.rule == "IAM-EXPO-002")
    assert (one.policy, one.statement) == (f"arn:aws:iam::{ACCOUNT}:policy/r", "Wide")
    assert one.message == "may change the policies of any resource: s3:PutBucketPolicy"


ATTACHED = "arn:aws:iam::aws:policy/"


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("AdministratorAccess", None, [("critical", "IAM-ADMIN-001")]),
        ("PowerUserAccess", None, [("high", "IAM-ADMIN-001")]),
        ("AmazonSageMakerFullAccess", None, [("high", "IAM-ADMIN-002")]),
        ("AmazonS3FullAccess", [allow("s3:*", Sid="A"), deny("s3:*", "*")], []),
        ("AmazonS3ReadOnlyAccess", None, []),
    ],
)
def test_wide_policies_of_aws_are_known_by_name(name, text, expected):
    made, held = role("r")
    policy = {ATTACHED + name: Managed(ATTACHED + name, doc(*text))} if text else {}
    have = account((replace(made, attached=(*made.attached, ATTACHED + name)), held), policies=policy)
    rules = ("IAM-ADMIN-001", "IAM-ADMIN-002")
    assert found(have, *rules) == [(severity, rule, "r") for severity, rule in expected]


@pytest.mark.parametrize(
    ("boundary", "text", "expected"),
    [
        ("PowerUserAccess", None, [("high", "IAM-ADMIN-001")]),  # known by its name
        ("AmazonS3ReadOnlyAccess", None, [("critical", "IAM-ADMIN-001"), ("medium", "IAM-UNREAD-001")]),
        ("AmazonS3ReadOnlyAccess", [allow("s3:Get*")], []),
    ],
)
def test_boundary_with_unknown_text_does_not_restrict(boundary, text, expected):
    """A boundary whose text is missing restricts nothing, and is reported."""
    made, held = role("r", EVERYTHING)
    policy = {ATTACHED + boundary: Managed(ATTACHED + boundary, doc(*text))} if text else {}
    have = account((replace(made, boundary=ATTACHED + boundary), held), policies=policy)
    assert found(have, "IAM-ADMIN-001", "IAM-UNREAD-001") == [(*one, "r") for one in expected]


def test_policy_with_unknown_text_is_reported():
    made, held = role("r")
    for arn in (ATTACHED + "AWSSupportAccess", f"arn:aws:iam::{ACCOUNT}:policy/absent"):
        have = account((replace(made, attached=(*made.attached, arn)), held))
        assert found(have) == [("medium", "IAM-UNREAD-001", "r")]
        assert found(account((replace(made, attached=(*made.attached, arn)), held), policies={arn: Managed(arn, doc())})) != found(have)  # fmt: skip
    gone = f"arn:aws:iam::{ACCOUNT}:policy/gone"
    (result,) = audited(account((replace(made, boundary=gone), held)))
    assert (result.rule, result.policy) == ("IAM-UNREAD-001", gone)
    assert "it allowed nothing" in result.message


def test_user_only_conditions_never_match_roles():
    """A condition that only a user meets is one that a role does not meet."""
    for key, value in (("aws:username", "*"), ("aws:PrincipalType", "User")):
        assert of("IAM-ADMIN-001", EVERYTHING | when("StringLike", key, value)) == []
        assert of("IAM-ADMIN-001", EVERYTHING, deny("*", **when("StringLike", key, value))) == ["critical"]
    assert of("IAM-ADMIN-001", EVERYTHING | when("StringNotLike", "aws:username", "x")) == ["critical"]
    assert of("IAM-ADMIN-001", EVERYTHING, deny("*", **when("StringNotLike", "aws:username", "x"))) == []
    assert of("IAM-ADMIN-001", EVERYTHING | when("StringEquals", "aws:PrincipalType", "AssumedRole")) == ["critical"]


def test_passing_an_administrator_role_is_a_finding():
    passer = role("passer", allow("iam:PassRole", f"{ROLE}/boss", **TO_EC2))
    other = role("other", allow("iam:PassRole", f"{ROLE}/absent", **TO_EC2))
    have = account(passer, other, role("boss", EVERYTHING))
    assert found(have, "IAM-PASS-002") == [("high", "IAM-PASS-002", "passer")]
    (one,) = [f for f in audited(have) if f.rule == "IAM-PASS-002"]
    assert one.path[-1] == f"{ROLE}/boss"


def test_boundary_that_its_principal_can_lift_is_a_finding():
    bound = f"arn:aws:iam::{ACCOUNT}:policy/bound"
    lifts = [allow("iam:CreatePolicyVersion", bound), allow("iam:DeleteRolePermissionsBoundary", f"{ROLE}/planted")]
    assert of("IAM-BOUND-001", lifts[0], boundary=[EVERYTHING]) == ["high"]
    assert of("IAM-BOUND-001", lifts[1], boundary=[EVERYTHING]) == ["high"]
    assert of("IAM-BOUND-001", *lifts, boundary=[allow("s3:*")]) == []
    held_to_one = when("StringEquals", "iam:PermissionsBoundary", bound)
    put = allow("iam:PutRolePermissionsBoundary", f"{ROLE}/planted", **held_to_one)
    assert of("IAM-BOUND-001", put, boundary=[EVERYTHING]) == []


def test_stack_role_without_a_boundary_is_a_finding():
    made, held = role("kennel-demo-x")
    ours = replace(made, arn=f"{ROLE}/kennel/demo/kennel-demo-x")
    assert found(account((ours, held)), "IAM-BOUND-001") == [("medium", "IAM-BOUND-001", "kennel-demo-x")]
    assert found(account((made, held)), "IAM-BOUND-001") == []


def trusting(principal, action="sts:AssumeRole", effect="Allow", **more):
    return {"Effect": effect, "Principal": principal, "Action": action} | more


def trusted(*statements):
    """(severity, rule) of a role with this trust."""
    have = account(role("r", trust=doc(*statements)))
    return [(f.severity, f.rule[4:]) for f in audited(have) if f.rule.startswith("IAM-TRUST")]


OIDC = {"Federated": f"arn:aws:iam::{ACCOUNT}:oidc-provider/token.actions.githubusercontent.com"}
HOST = "token.actions.githubusercontent.com"
FOREIGN = {"AWS": "arn:aws:iam::999999999999:root"}
OWN_ROOT = {"AWS": f"arn:aws:iam::{ACCOUNT}:root"}
MFA = when("Bool", "aws:MultiFactorAuthPresent", "true")


def web(sub=None, aud="sts.amazonaws.com", operator="StringLike"):
    condition = {"StringEquals": {f"{HOST}:aud": aud}} if aud else {}
    if sub:
        condition.setdefault(operator, {})[f"{HOST}:sub"] = sub
    return trusting(OIDC, "sts:AssumeRoleWithWebIdentity", Condition=condition)


ONE_USER = {"AWS": f"arn:aws:iam::{ACCOUNT}:user/u"}


@pytest.mark.parametrize(
    ("statements", "expected"),
    [
        ([trusting("*")], [("critical", "TRUST-001")]),
        ([trusting({"AWS": "*"})], [("critical", "TRUST-001")]),
        ([trusting("*", **when("StringLike", "aws:PrincipalOrgID", "o-*"))], [("critical", "TRUST-001")]),
        ([trusting("*", **when("StringEquals", "aws:PrincipalTag/team", "ours"))], [("critical", "TRUST-001")]),
        ([trusting("*", **when("StringEqualsIfExists", "aws:UserAgent", "x"))], [("critical", "TRUST-001")]),
        ([trusting("*", **when("StringEquals", "aws:PrincipalOrgID", "o-ours"))], [("medium", "TRUST-001")]),
        ([trusting("*", **when("ArnLike", "aws:PrincipalArn", f"{ROLE}/ci*"))], []),
        ([trusting("*", **when("StringEquals", "aws:PrincipalAccount", ACCOUNT))], [("medium", "TRUST-001")]),
        ([trusting("*"), trusting("*", effect="Deny")], []),
        ([trusting("*", **YESTERDAY)], []),
        ([trusting(FOREIGN)], [("high", "TRUST-002")]),
        ([trusting({"AWS": "999999999999"})], [("high", "TRUST-002")]),
        ([trusting({"AWS": "arn:aws:iam::999999999999:role/theirs"})], [("high", "TRUST-002")]),
        ([trusting(FOREIGN, **when("StringEquals", "sts:ExternalId", "8f3a"))], []),
        ([trusting(FOREIGN, **when("StringLike", "sts:ExternalId", "*"))], [("high", "TRUST-002")]),
        ([trusting({"AWS": f"{ROLE}/ours"})], []),
        ([trusting(OWN_ROOT)], [("low", "TRUST-003"), ("low", "TRUST-007")]),
        ([trusting(OWN_ROOT, **MFA)], [("low", "TRUST-003")]),
        ([trusting(OWN_ROOT, **when("NumericLessThan", "aws:MultiFactorAuthAge", "3600"))], [("low", "TRUST-003")]),
        ([trusting(OWN_ROOT, **when("ArnLike", "aws:PrincipalArn", f"{ROLE}/ci"))], []),
        ([trusting({"AWS": f"arn:aws:iam::{ACCOUNT}:user/u"})], [("low", "TRUST-007")]),
        ([trusting({"AWS": f"arn:aws:iam::{ACCOUNT}:user/u"}, **MFA)], []),
        ([trusting({"Service": "sagemaker.amazonaws.com"})], [("medium", "TRUST-004")]),
        ([trusting({"Service": "states.us-east-1.amazonaws.com"})], [("medium", "TRUST-004")]),
        ([trusting({"Service": "sagemaker.amazonaws.com"}, **when("StringEquals", "aws:SourceAccount", ACCOUNT))], []),
        ([trusting({"Service": "codebuild.amazonaws.com"}, **when("ArnLike", "aws:SourceArn", f"arn:aws:codebuild:*:{ACCOUNT}:*"))], []),
        ([trusting({"Service": "codebuild.amazonaws.com"}, **when("ArnLike", "aws:SourceArn", "arn:aws:*:*:*:*"))], [("medium", "TRUST-004")]),
        ([trusting({"Service": ["ec2.amazonaws.com", "lambda.amazonaws.com"]})], []),
        ([web()], [("critical", "TRUST-005")]),
        ([web("*")], [("critical", "TRUST-005")]),
        ([web("repo:*")], [("critical", "TRUST-005")]),
        ([web("repo:us/*")], [("high", "TRUST-005")]),
        ([web("repo:us/dogs:*")], []),
        ([web("repo:us/dogs:environment:prod", operator="StringEquals")], []),
        ([web("repo:us/dogs:environment:prod", operator="StringEqualsIfExists")], []),
        ([web("repo:us/dogs:environment:prod", aud=None)], [("critical", "TRUST-005")]),
        ([{"Effect": "Allow", "NotPrincipal": {"AWS": f"{ROLE}/x"}, "Action": "sts:AssumeRole"}], [("critical", "TRUST-001"), ("medium", "TRUST-006")]),
        ([trusting({"AWS": "AROAJ2UCCR6DPCEXAMPLE"})], [("medium", "TRUST-006")]),
        ([trusting("*", "sts:TagSession")], []),
        # a stranger's own ARN, addresses, and the keys that he lacks
        ([trusting("*", **when("ArnLike", "aws:PrincipalArn", "arn:aws:iam::*:role/ci"))], [("critical", "TRUST-001")]),
        ([trusting("*", **when("StringLike", "aws:PrincipalArn", "*:user/ci"))], [("critical", "TRUST-001")]),
        ([trusting("*", **when("ArnEquals", "aws:PrincipalArn", f"{ROLE}/ci"))], []),
        ([trusting("*", **when("StringEqualsIfExists", "aws:PrincipalOrgID", "o-ours"))], [("critical", "TRUST-001")]),
        ([trusting("*"), trusting("*", effect="Deny", **when("StringNotEqualsIfExists", "aws:PrincipalOrgID", "o-ours"))], [("medium", "TRUST-001")]),
        ([trusting("*", **when("IpAddress", "aws:SourceIp", "::/0"))], [("critical", "TRUST-001")]),
        ([trusting("*", **when("IpAddress", "aws:SourceIp", ["0.0.0.0/2"]))], [("critical", "TRUST-001")]),
        ([trusting("*", **when("IpAddress", "aws:SourceIp", ["203.0.113.0/24", "2001:db8:1::/48"]))], [("medium", "TRUST-001")]),
        ([trusting("*", **when("StringEquals", "sts:ExternalId", "8f3a"))], [("medium", "TRUST-001")]),
        ([trusting("*", **when("StringEqualsIfExists", "sts:ExternalId", "8f3a"))], [("critical", "TRUST-001")]),
        ([trusting("*", **when("StringLike", "aws:userid", "*:bob"))], [("critical", "TRUST-001")]),
        ([trusting("*", **when("StringLike", "aws:userid", "AROAEXAMPLE1234567890:*"))], [("medium", "TRUST-001")]),
        ([trusting("*", **when("StringEquals", "aws:PrincipalType", "Anonymous"))], [("medium", "TRUST-001")]),
        # another account, held to some of its roles or to an organisation
        ([trusting(FOREIGN, **when("StringLike", "aws:PrincipalArn", "arn:aws:iam::999999999999:role/ci-*"))], [("high", "TRUST-002")]),
        ([trusting(FOREIGN, **when("ArnLike", "aws:PrincipalArn", "arn:aws:iam::999999999999:user/*"))], [("high", "TRUST-002")]),
        ([trusting(FOREIGN, **when("ArnLike", "aws:PrincipalArn", "arn:aws:iam::888888888888:role/ci-*"))], []),
        ([trusting(FOREIGN, **when("StringEquals", "aws:PrincipalOrgID", "o-ours"))], []),
        ([trusting(FOREIGN, **when("StringEqualsIfExists", "sts:ExternalId", "8f3a"))], [("high", "TRUST-002")]),
        ([trusting({"AWS": "arn:aws:sts::999999999999:assumed-role/theirs/s"})], [("high", "TRUST-002")]),
        # on whose behalf a service comes
        ([trusting({"Service": "sagemaker.amazonaws.com"}, **when("ArnLike", "aws:SourceArn", "arn:aws:sagemaker:*:*:*"))], [("medium", "TRUST-004")]),
        ([trusting({"Service": "sagemaker.amazonaws.com"}, **when("StringLike", "aws:SourceArn", f"arn:aws:sagemaker:*:{ACCOUNT}:*"))], []),
        ([trusting({"Service": "sagemaker.amazonaws.com"}, **when("StringEqualsIfExists", "aws:SourceAccount", ACCOUNT))], []),
        # a second factor: with long-term keys there is no such key
        ([trusting(ONE_USER, **when("BoolIfExists", "aws:MultiFactorAuthPresent", "true"))], [("low", "TRUST-007")]),
        ([trusting(ONE_USER, **when("NumericLessThanIfExists", "aws:MultiFactorAuthAge", "3600"))], [("low", "TRUST-007")]),
        ([trusting(ONE_USER), trusting("*", effect="Deny", **when("Bool", "aws:MultiFactorAuthPresent", "false"))], [("low", "TRUST-007")]),
        ([trusting(ONE_USER), trusting("*", effect="Deny", **when("BoolIfExists", "aws:MultiFactorAuthPresent", "false"))], []),
        ([trusting(ONE_USER, **when("Null", "aws:MultiFactorAuthAge", "false"))], []),
    ],
)  # fmt: skip
def test_open_trusts_are_findings(statements, expected):
    assert sorted(set(trusted(*statements)), key=lambda one: one[1]) == sorted(expected, key=lambda one: one[1])


def vouched(host, sub, operator="StringLike", **more):
    """(severity) of a trust in an identity provider, held to this subject."""
    condition = {"StringEquals": {f"{host}:aud": "us"} | {f"{host}:{key}": value for key, value in more.items()}}
    condition.setdefault(operator, {})[f"{host}:sub"] = sub
    who = {"Federated": f"arn:aws:iam::{ACCOUNT}:oidc-provider/{host}"}
    return [severity for severity, _ in trusted(trusting(who, "sts:AssumeRoleWithWebIdentity", Condition=condition))]


@pytest.mark.parametrize(
    ("host", "sub", "severities"),
    [
        (HOST, "*:environment:prod", ["critical"]),
        (HOST, "*:pull_request", ["critical"]),
        (HOST, "*/infra:*", ["critical"]),
        (HOST, "*us/dogs*", ["critical"]),
        (HOST, "repo:*:environment:prod", ["critical"]),
        (HOST, "repo:*/infra:*", ["critical"]),
        (HOST, "repo:us*/dogs:*", ["critical"]),
        (HOST, "repo:u?/dogs:*", ["critical"]),
        (HOST, ["repo:us/dogs:*", "repo:*:pull_request"], ["critical"]),
        (HOST, "repo:us/*:environment:prod", ["high"]),
        (HOST, "repo:us/dogs:environment:*", []),
        (HOST, "repo:us@*/dogs@*:environment:prod", []),
        (HOST, "repo:us@*/dogs@*", ["high"]),  # a branch of another repository may be called x/dogs@1
        (HOST, "repo:us@7", []),
        ("gitlab.com", "project_path:*", ["critical"]),
        ("gitlab.com", "project_path:*:ref_type:branch:ref:main", ["critical"]),
        ("gitlab.com", "project_path:us/*:ref_type:branch:ref:main", ["high"]),
        ("gitlab.com", "project_path:us/dogs:ref_type:branch:ref:*", []),
        ("app.terraform.io", "organization:*:project:*:workspace:*:run_phase:*", ["critical"]),
        ("app.terraform.io", "organization:us:project:*:workspace:*:run_phase:*", ["high"]),
        ("app.terraform.io", "organization:us:project:dogs:workspace:w:run_phase:*", []),
        ("oidc.eks.us-east-1.amazonaws.com/id/1", "system:serviceaccount:*:*", ["critical"]),
        ("oidc.eks.us-east-1.amazonaws.com/id/1", "system:serviceaccount:*:job", ["high"]),
        ("oidc.eks.us-east-1.amazonaws.com/id/1", "system:serviceaccount:dogs:*", []),
    ],
)
def test_open_oidc_subjects_are_findings(host, sub, severities):
    assert vouched(host, sub) == severities


@pytest.mark.parametrize(
    ("sub", "severities"),
    [
        ("repo:*", ["critical"]),
        ("repo:us{id}/*", ["high"]),
        ("repo:us{id}/*:environment:prod", ["high"]),
        ("repo:us{id}/*:ref:refs/heads/*", ["high"]),
        ("repo:us{id}/do*:*", []),
        ("repo:us{id}/dogs{id}:*", []),
        ("repo:us{id}/dogs{id}:pull_request", []),
        ("repo:*{id}/dogs{id}:*", ["critical"]),
    ],
)
def test_both_spellings_of_github_subjects_are_judged_alike(sub, severities):
    """GitHub names repositories made since 2026-07-15 by repo:ORG@ID/REPO@ID."""
    assert [vouched(HOST, sub.format(id=ids)) for ids in ("", "@123", "@*")] == [severities] * 3


@pytest.mark.parametrize("repository", ["octo-org/dogs", "octo-org@123456/dogs@456789"])
@pytest.mark.parametrize(("name", "ends"), [("ci", "pull_request"), ("ci-apply", "environment:production")])
def test_ci_roles_trust_both_spellings_of_a_repository(name, ends, repository):
    settings = settings_of(text=f"iam: {{repository: {repository}}}\n")
    have = roles.build_applied_snapshot(roles.read_roles(settings, only=name), settings)
    held = have.roles[settings.build_role_name(name)]
    assert [f.message for f in audit_with_waivers(have, settings, now=NOW) if f.rule == "IAM-TRUST-005"] == []
    for other, trusts in ((repository, True), ("octo-org@999/dogs@456789", False), ("octo-org/cats", False)):
        context = {f"{HOST}:aud": "sts.amazonaws.com", f"{HOST}:sub": f"repo:{other}:{ends}"}
        asked = Expectation("may_assume", 1, by=OIDC["Federated"], context=context)
        assert decide_expectation(asked, held, have).allowed is trusts


POOL = "us-east-1:11111111-2222-3333-4444-555555555555"


@pytest.mark.parametrize(
    ("host", "conditions", "expected"),
    [
        (COGNITO, {}, ["critical", "high"]),
        (COGNITO, {"ForAnyValue:StringLike": {"amr": "authenticated"}}, ["critical"]),
        (COGNITO, {"StringEquals": {"aud": POOL}}, ["high"]),
        (COGNITO, {"StringEquals": {"aud": POOL}, "ForAnyValue:StringLike": {"amr": "*authenticated"}}, ["high"]),
        (COGNITO, {"StringEquals": {"aud": POOL}, "ForAnyValue:StringLike": {"amr": "authenticated"}}, []),
        (COGNITO, {"StringEquals": {"aud": POOL}, "ForAllValues:StringNotEquals": {"amr": "unauthenticated"}}, []),
        (COGNITO, {"StringEquals": {"aud": POOL}, "ForAnyValue:StringLike": {"amr": "unauthenticated"}}, []),
        (COGNITO, {"StringEquals": {"aud": POOL, "sub": "us-east-1:one-person"}}, []),
        ("graph.facebook.com", {}, ["critical"]),
        ("graph.facebook.com", {"StringEquals": {"app_id": "1"}}, []),
        ("www.amazon.com", {"StringEquals": {"app_id": "amzn1.app.1"}}, []),
    ],
)
def test_roles_for_users_of_an_app_need_its_audience(host, conditions, expected):
    """And a role for those who have logged in to an identity pool keeps its guests out, by amr."""
    keys = {
        operator: {f"{host}:{key}": value for key, value in block.items()} for operator, block in conditions.items()
    }
    trust = trusting({"Federated": host}, "sts:AssumeRoleWithWebIdentity", Condition=keys)
    assert [severity for severity, _ in trusted(trust)] == expected


def test_other_oidc_claims_can_restrict_the_trust():
    """A pipeline's other claims count where they say whose pipeline it is."""
    assert vouched(HOST, "*:environment:prod", repository_id="275403409") == []
    assert vouched(HOST, "repo:*", repository="us/dogs") == []
    assert vouched(HOST, "repo:us/*", repository="us/dogs") == []
    assert vouched(HOST, "*:environment:prod", environment="prod", ref="refs/heads/main") == ["critical"]
    assert vouched(HOST, "repo:us/*", operator="StringEquals") == []  # no wildcard there


def test_service_linked_roles_are_ignored():
    made, held = role("AWSServiceRoleForX", EVERYTHING, trust=doc(trusting("*")), days=900)
    linked = replace(made, arn=f"{ROLE}/aws-service-role/x.amazonaws.com/AWSServiceRoleForX")
    assert found(account((linked, held))) == []
    written = replace(linked, inline={"p": doc(EMPTY_BUCKET)})
    assert found(account((written, held))) == []


def test_roles_of_identity_center_are_fixed_there():
    """Only Identity Center can change them: iam.prune refuses them, and what was changed by hand is undone."""
    name = "AWSReservedSSO_Admins_0123456789abcdef"
    made, held = role(name, EVERYTHING, days=400, last_used=NOW - 200 * DAYS, session_s=43_200)
    theirs = replace(
        made, arn=f"{ROLE}/aws-reserved/sso.amazonaws.com/{name}", inline={"AwsSSOInlinePolicy": doc(EVERYTHING)}
    )
    seen = audited(account((theirs, held)))
    assert {f.rule for f in seen} >= {"IAM-ADMIN-001", "IAM-USE-001", "IAM-TRUST-007"}
    assert "IAM-INLINE-001" not in {f.rule for f in seen}
    assert [
        f for f in seen if not f.fix.startswith("none") and "permission set Admins in Identity Center" not in f.fix
    ] == []
    assert not [f for f in seen if "iam.prune" in f.fix]
    assert "IAM Identity Center" in explain_removal_refusal(theirs, WANTED, SETTINGS, NOW)


def test_long_session_of_an_administrator_is_a_finding():
    rules = "IAM-TRUST-007"
    assert found(account(role("r", EVERYTHING, session_s=7200)), rules) == [("low", rules, "r")]
    assert found(account(role("r", EVERYTHING)), rules) == []
    assert found(account(role("r", session_s=7200)), rules) == []


@pytest.mark.parametrize(
    ("days", "used", "unused"),
    [(91, None, True), (89, None, False), (400, 91, True), (400, 89, False), (3, None, False), (3, 2, False)],
)
def test_role_unused_for_90_days_is_a_finding(days, used, unused):
    made = role("r", days=days, last_used=used and NOW - used * DAYS)
    assert bool(found(account(made), "IAM-USE-001")) is unused


LAMBDA = doc(trusting({"Service": "lambda.amazonaws.com"}))
BOTH = doc(trusting({"Service": ["lambda.amazonaws.com", "ec2.amazonaws.com"]}))


@pytest.mark.parametrize(
    ("name", "trust", "days", "functions", "gone"),
    [
        ("resize-role-a1b2c3d4", LAMBDA, 30, frozenset({"other"}), True),
        ("resize-role-a1b2c3d4", LAMBDA, 30, frozenset({"resize"}), False),
        ("resize-role-a1b2c3d4", LAMBDA, 30, None, False),
        ("resize-role-a1b2c3d4", LAMBDA, 5, frozenset(), False),
        ("resize-role-a1b2c3d4", BOTH, 30, frozenset(), False),
        ("resize", LAMBDA, 30, frozenset(), False),
    ],
)
def test_role_of_a_deleted_function_is_a_finding(name, trust, days, functions, gone):
    have = account(role(name, trust=trust, days=days, last_used=NOW - 10 * DAYS))
    result = [
        f.message
        for f in audited(have, facts=account_facts.AccountFacts(function_names=functions))
        if f.rule == "IAM-USE-001"
    ]
    where = f"in {SETTINGS.aws.region}, the only region that was checked"
    assert result == ([f"its function resize does not exist {where}"] if gone else [])


@pytest.mark.parametrize(
    ("used", "region", "gone"),
    [
        (None, "", True),
        (1, "us-east-1", False),  # its function was deleted today, perhaps
        (8, "us-east-1", True),
        (8, "", True),
        (8, "eu-west-1", False),  # a region whose functions were not listed
        (91, "eu-west-1", True),
    ],
)
def test_role_used_in_another_region_is_not_obsolete(used, region, gone):
    used = used and NOW - used * DAYS
    (made, policies) = role("resize-role-a1b2c3d4", trust=LAMBDA, days=100 if used else 30, last_used=used)
    have = account((replace(made, last_region=region), policies))
    result = [f.message for f in audited(have, facts=account_facts.AccountFacts(function_names=frozenset()))]
    assert any("its function resize does not exist" in message for message in result) is gone


def test_granted_and_unused_services_are_findings():
    made = role("r", allow(["s3:GetObject", "sqs:SendMessage", "sns:Publish"], "arn:aws:s3:::mine/*"), days=200)
    usage = {made[0].arn: {"s3": NOW - DAYS, "sqs": NOW - 100 * DAYS, "sns": None, "ec2": None}}
    (one,) = [
        f for f in audited(account(made), facts=account_facts.AccountFacts(usage=usage)) if f.rule == "IAM-USE-002"
    ]
    assert (one.severity, one.message) == ("medium", "may use sns, sqs, but has not for 90 days")
    assert found(account(made), "IAM-USE-002", facts=account_facts.AccountFacts()) == []


def test_unattached_policies_and_groups_are_findings():
    made, held = role("r")
    free = Managed(f"arn:aws:iam::{ACCOUNT}:policy/free", doc(EMPTY_BUCKET), attachments=0)
    bound = Managed(f"arn:aws:iam::{ACCOUNT}:policy/bound", doc(EMPTY_BUCKET), attachments=0, boundaries=1)
    aws = Managed(ATTACHED + "ReadOnlyAccess", doc(EMPTY_BUCKET), attachments=0)
    have = account((made, held), policies={one.arn: one for one in (free, bound, aws)})
    assert found(have, "IAM-USE-003") == [("low", "IAM-USE-003", "free")]
    people = parse_snapshot([{
        "UserDetailList": [{"UserName": "u", "Arn": f"arn:aws:iam::{ACCOUNT}:user/u", "GroupList": ["in"]}],
        "GroupDetailList": [{"GroupName": n, "Arn": f"arn:aws:iam::{ACCOUNT}:group/{n}"} for n in ("in", "empty")],
    }])  # fmt: skip
    assert found(people, "IAM-USE-003") == [("low", "IAM-USE-003", "empty")]


def row(user="u", **more):
    return {"user": user, "password_enabled": "false", "mfa_active": "false", "access_key_1_active": "false", **more}


def aged(made, used=None, n=1):
    last = (NOW - used * DAYS).isoformat() if used is not None else "N/A"
    return {f"access_key_{n}_active": "true", f"access_key_{n}_last_rotated": (NOW - made * DAYS).isoformat(), f"access_key_{n}_last_used_date": last}  # fmt: skip


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (row(), []),
        (row(**aged(0)), []),
        (row(**aged(91, 1)), [("high", "KEY-001")]),
        (row(**aged(60, 46)), [("high", "KEY-001")]),
        (row(**aged(46)), [("high", "KEY-001")]),
        (row(**aged(60, 1)), []),
        (row(**aged(91, 1)) | {"access_key_1_active": "false"}, []),
        (row(**aged(9, 1), **aged(8, 1, n=2)), [("medium", "KEY-001")]),
        (row(password_enabled="true"), [("medium", "KEY-002")]),
        (row(password_enabled="true", mfa_active="true"), []),
        (row("boss", password_enabled="true"), [("high", "KEY-002")]),
        (row("<root_account>", password_enabled="not_supported", mfa_active="true"), []),
        (row("<root_account>", password_enabled="not_supported"), [("critical", "KEY-002")]),
        (row("<root_account>", mfa_active="true", **aged(1)), [("critical", "KEY-001")]),
    ],
)
def test_keys_and_passwords_are_judged(cells, expected):
    boss = Principal("boss", f"arn:aws:iam::{ACCOUNT}:user/boss", None, {"all": doc(EVERYTHING)})
    have = account((boss, Managed("arn:aws:iam::1:policy/x", doc(EMPTY_BUCKET), attachments=1)))
    more = account_facts.parse({"credentials": [cells]})
    result = [(f.severity, f.rule[4:]) for f in audited(have, facts=more) if f.rule in ("IAM-KEY-001", "IAM-KEY-002")]
    assert result == expected


def test_root_is_judged_by_the_account_summary():
    """Without a credential report, the root user is judged by the account's summary."""
    have = account(role("r"))
    bad, good = (
        {"AccountMFAEnabled": 0, "AccountAccessKeysPresent": 1},
        {"AccountMFAEnabled": 1, "AccountAccessKeysPresent": 0},
    )
    result = found(have, "IAM-KEY-001", "IAM-KEY-002", facts=account_facts.parse({"summary": bad}))
    assert result == [("critical", "IAM-KEY-001", "<root_account>"), ("critical", "IAM-KEY-002", "<root_account>")]
    assert found(have, "IAM-KEY-001", "IAM-KEY-002", facts=account_facts.parse({"summary": good})) == []
    assert (
        found(have, "IAM-KEY-001", "IAM-KEY-002", facts=account_facts.parse({"summary": bad, "credentials": []})) == []
    )


def test_user_policies_include_inline_and_group_ones():
    have = parse_snapshot([{
        "UserDetailList": [{
            "UserName": "u", "Arn": f"arn:aws:iam::{ACCOUNT}:user/u", "GroupList": ["g"],
            "UserPolicyList": [{"PolicyName": "own", "PolicyDocument": doc(EMPTY_BUCKET)}],
        }],
        "GroupDetailList": [{
            "GroupName": "g", "Arn": f"arn:aws:iam::{ACCOUNT}:group/g",
            "GroupPolicyList": [{"PolicyName": "all", "PolicyDocument": doc(EVERYTHING)}],
        }],
        "RoleDetailList": [{
            "RoleName": "r", "Arn": f"{ROLE}/r", "AssumeRolePolicyDocument": FINE_TRUST,
            "RolePolicyList": [{"PolicyName": "own", "PolicyDocument": doc(EMPTY_BUCKET)}],
        }],
    }])  # fmt: skip
    result = found(have, "IAM-ADMIN-001", "IAM-INLINE-001", "IAM-KEY-003")
    assert result == [
        ("critical", "IAM-ADMIN-001", "u"), ("medium", "IAM-INLINE-001", "u"), ("medium", "IAM-KEY-003", "u"),
        ("low", "IAM-INLINE-001", "g"), ("low", "IAM-INLINE-001", "r"),
    ]  # fmt: skip
    idle = account_facts.parse({"credentials": [row("u")]})
    assert found(have, "IAM-KEY-003", facts=idle) == []


def test_exhausted_quotas_are_findings():
    made, held = role("r")
    many = tuple(f"arn:aws:iam::{ACCOUNT}:policy/p{n}" for n in range(11))
    assert found(account((replace(made, attached=many), held)), "IAM-QUOTA-002") == [("high", "IAM-QUOTA-002", "r")]
    assert found(account((replace(made, attached=many[1:]), held)), "IAM-QUOTA-002") == []
    five = replace(held, versions=tuple((f"v{n}", n == 5, NOW) for n in range(1, 6)))
    assert found(account((made, five)), "IAM-QUOTA-003") == [("medium", "IAM-QUOTA-003", "r")]
    assert found(account((made, replace(five, versions=five.versions[1:]))), "IAM-QUOTA-003") == []
    bulk = {f"p{n}": doc(allow("s3:GetObject", f"arn:aws:s3:::mine/{'x' * 3000}")) for n in range(4)}
    assert ("high", "IAM-QUOTA-001", "r") in found(account((replace(made, inline=bulk), held)), "IAM-QUOTA-001")
    assert found(account((replace(made, inline=dict([*bulk.items()][:2])), held)), "IAM-QUOTA-001") == []


PRIVATE = dict.fromkeys(("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"), True)
TLS_ONLY = doc(
    {
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:*",
        "Resource": "*",
        **when("Bool", "aws:SecureTransport", "false"),
    }
)
ANYONE = "http://acs.amazonaws.com/groups/global/AllUsers"


def exposed(**more):
    result = audited(account(role("r")), facts=account_facts.parse(more))
    return [(f.severity, f.rule, f.message) for f in result if f.rule.startswith(("IAM-EXPO-001", "IAM-EXPO-003"))]


def guarded(allowed, denied=None, who="*"):
    """A bucket whose policy allows by the first condition, and denies by the second."""
    statements = [trusting(who, "s3:GetObject", Resource="arn:aws:s3:::b/*", **allowed)]
    statements += [trusting("*", "s3:*", "Deny", Resource="arn:aws:s3:::b/*", **denied)] if denied else []
    return {"blocks": PRIVATE, "policy": doc(*statements)}


@pytest.mark.parametrize(
    ("bucket", "expected"),
    [
        ({"blocks": PRIVATE, "policy": TLS_ONLY}, ""),
        ({"blocks": PRIVATE, "policy": None}, ""),
        ({"blocks": {}}, "Block Public Access is off"),
        ({"blocks": PRIVATE | {"BlockPublicAcls": False}}, "Block Public Access is off: BlockPublicAcls"),
        ({"blocks": PRIVATE, "policy": doc(trusting("*", "s3:GetObject", Resource="arn:aws:s3:::b/*"))}, "its policy allows everyone"),
        ({"blocks": PRIVATE, "policy": doc(trusting(FOREIGN, "s3:GetObject", Resource="arn:aws:s3:::b/*"))}, "of another account"),
        ({"blocks": PRIVATE, "policy": doc(trusting(OWN_ROOT, "s3:GetObject", Resource="arn:aws:s3:::b/*"))}, ""),
        ({"blocks": PRIVATE, "policy": doc(trusting("*", "s3:*", Resource="*", **when("StringEquals", "aws:SourceVpce", "vpce-1")))}, ""),
        ({"blocks": PRIVATE, "policy": doc(trusting("*", "s3:*", Resource="*", **when("StringEquals", "aws:PrincipalAccount", ACCOUNT)))}, ""),
        (guarded(when("StringEqualsIfExists", "aws:SourceVpce", "vpce-1")), "its policy allows everyone"),
        (guarded({}, when("StringNotEqualsIfExists", "aws:SourceVpce", "vpce-1")), ""),
        (guarded({}, when("StringNotEquals", "aws:SourceVpce", "vpce-1")), ""),
        (guarded({}, {"Condition": {"StringNotEquals": {"aws:SourceVpce": "vpce-1"}, "Null": {"aws:SourceVpce": "false"}}}), "its policy allows everyone"),
        (guarded(when("Null", "aws:SourceVpce", "true")), "its policy allows everyone"),
        (guarded(when("StringEqualsIfExists", "aws:PrincipalOrgID", "o-ours")), "its policy allows everyone"),
        (guarded(when("StringEquals", "aws:PrincipalOrgID", "o-ours")), ""),
        (guarded(when("IpAddress", "aws:SourceIp", "::/0")), "its policy allows everyone"),
        (guarded(when("IpAddress", "aws:SourceIp", "2000::/3")), "its policy allows everyone"),
        (guarded(when("IpAddress", "aws:SourceIp", "2001:db8:7::/48")), ""),
        (guarded(when("IpAddress", "aws:SourceIp", "10.0.0.0/8")), ""),
        (guarded(when("NotIpAddress", "aws:SourceIp", "198.51.100.0/24")), "its policy allows everyone"),
        (guarded(when("ArnLike", "aws:PrincipalArn", "arn:aws:iam::*:role/foo")), "its policy allows everyone"),
        (guarded(when("ArnLike", "aws:PrincipalArn", f"{ROLE}/*")), ""),
        (guarded(when("StringEquals", "aws:PrincipalType", "Anonymous")), "its policy allows everyone"),
        (guarded({}, when("Null", "aws:PrincipalArn", "true")), "its policy allows everyone"),
        (guarded({}, when("StringNotEquals", "aws:PrincipalAccount", ACCOUNT)), ""),
        (guarded(when("StringEquals", "s3:DataAccessPointAccount", ACCOUNT)), ""),
        (guarded(when("ArnLike", "aws:PrincipalArn", "arn:aws:iam::999999999999:role/ci-*"), who=FOREIGN), "of another account"),
        (guarded(when("ArnLike", "aws:PrincipalArn", f"{ROLE}/ci-*"), who=FOREIGN), ""),
        (guarded(when("Bool", "aws:SecureTransport", "true")), "its policy allows everyone"),  # F18: "Enforce HTTPS", as an Allow
        ({"blocks": PRIVATE | {"IgnorePublicAcls": False}, "grants": [ANYONE]}, "its ACL allows everyone"),
        ({"blocks": PRIVATE, "grants": [ANYONE]}, ""),
    ],
)  # fmt: skip
def test_bucket_readable_by_others_is_a_finding(bucket, expected):
    result = exposed(buckets={"b": bucket})
    assert any(expected in message for _, _, message in result) if expected else result == []
    assert {(severity, rule) for severity, rule, _ in result} <= {("high", "IAM-EXPO-001")}


def function(principal, **more):
    return {
        "policies": [
            doc(trusting(principal, "lambda:InvokeFunction", Resource="arn:aws:lambda:us-east-1:1:function:f", **more))
        ]
    }


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"policies": [], "urls": []}, ""),
        (function("*"), "its policy allows everyone"),
        (function("*", **when("StringEquals", "lambda:FunctionUrlAuthType", "NONE")), "its policy allows everyone"),
        (function(FOREIGN), "of another account"),
        (function({"AWS": f"{ROLE}/ours"}), ""),
        (function({"Service": "s3.amazonaws.com"}), "on behalf of any account"),
        (function({"Service": "s3.amazonaws.com"}, **when("StringEquals", "aws:SourceAccount", ACCOUNT)), ""),
        (function({"Service": "events.amazonaws.com"}, **when("ArnLike", "aws:SourceArn", f"arn:aws:events:us-east-1:{ACCOUNT}:rule/*")), ""),
        (function({"Service": "s3.amazonaws.com"}, **when("ArnLike", "aws:SourceArn", "arn:aws:s3:::*")), "on behalf of any account"),
        (function({"Service": "s3.amazonaws.com"}, **when("ArnLike", "aws:SourceArn", "arn:aws:s3:::logs-*")), "on behalf of any account"),
        (function({"Service": "s3.amazonaws.com"}, **when("ArnLike", "aws:SourceArn", "arn:aws:s3:::mine")), ""),
        (function({"Service": "events.amazonaws.com"}, **when("ArnLike", "aws:SourceArn", "arn:aws:events:*:*:rule/*")), "on behalf of any account"),
        ({"policies": [], "urls": ["NONE"]}, "no authentication"),
        ({"policies": [], "urls": ["AWS_IAM"]}, ""),
    ],
)  # fmt: skip
def test_function_callable_by_others_is_a_finding(given, expected):
    result = exposed(functions={"f": given})
    assert any(expected in message for _, _, message in result) if expected else result == []


def group(*cidrs, protocol="tcp", ports=(22, 22)):
    ranges = {"IpRanges": [{"CidrIp": cidr} for cidr in cidrs if ":" not in cidr]}
    rule = {"IpProtocol": protocol, **ranges, "Ipv6Ranges": [{"CidrIpv6": cidr} for cidr in cidrs if ":" in cidr]}
    return {
        "GroupId": "sg-1",
        "VpcId": "vpc-1",
        "IpPermissions": [rule | ({"FromPort": ports[0], "ToPort": ports[1]} if protocol != "-1" else {})],
    }


def acl(*entries):
    made = [
        {
            "RuleNumber": n,
            "Protocol": p,
            "RuleAction": a,
            "Egress": False,
            "Ipv6CidrBlock" if ":" in c else "CidrBlock": c,
        }
        | ({"PortRange": {"From": ports[0][0], "To": ports[0][1]}} if ports else {})
        for n, p, a, c, *ports in entries
    ]
    return {"NetworkAclId": "acl-1", "VpcId": "vpc-1", "Entries": made}


@pytest.mark.parametrize(
    ("groups", "acls", "severities"),
    [
        ([group("0.0.0.0/0")], [], ["high"]),
        ([group("0.0.0.0/0", protocol="-1")], [], ["high"]),
        ([group("0.0.0.0/1", "128.0.0.0/1")], [], ["high"]),
        ([group("0.0.0.0/0", ports=(443, 443))], [], ["medium"]),
        ([group("0.0.0.0/0", ports=(-1, -1), protocol="icmp")], [], ["low"]),
        ([group("203.0.113.7/32")], [], []),
        ([group("10.0.0.0/8")], [acl((100, "-1", "allow", "0.0.0.0/0"))], []),
        ([group("0.0.0.0/0")], [acl((100, "-1", "allow", "0.0.0.0/0"))], ["high"]),
        ([group("0.0.0.0/0")], [acl((90, "6", "deny", "0.0.0.0/0"), (100, "-1", "allow", "0.0.0.0/0"))], ["low"]),
        ([group("0.0.0.0/0")], [acl((100, "-1", "allow", "10.20.0.0/16"))], ["low"]),
        ([group("0.0.0.0/0")], [acl((100, "17", "allow", "0.0.0.0/0"))], ["low"]),
        ([group("0.0.0.0/0", protocol="-1")], [acl((100, "6", "allow", "0.0.0.0/0", (22, 22)))], ["high"]),
        ([group("0.0.0.0/0", protocol="-1")], [acl((100, "6", "allow", "10.20.0.0/16", (22, 22)))], ["low"]),
        ([group("0.0.0.0/0", protocol="-1")], [acl((90, "6", "deny", "0.0.0.0/0"), (100, "-1", "allow", "0.0.0.0/0"))], ["high"]),
        ([group("0.0.0.0/0", ports=(0, 65535))], [acl((100, "6", "allow", "0.0.0.0/0", (22, 22)))], ["high"]),
        ([group("0.0.0.0/0", ports=(20, 30))], [acl((90, "6", "deny", "0.0.0.0/0", (22, 40)), (100, "6", "allow", "0.0.0.0/0"))], ["high"]),
        ([group("0.0.0.0/0", ports=(20, 30))], [acl((90, "6", "deny", "0.0.0.0/0", (0, 40)), (100, "6", "allow", "0.0.0.0/0"))], ["low"]),
        ([group("::/0")], [acl((90, "-1", "deny", "0.0.0.0/0"), (100, "-1", "allow", "::/0"))], ["high"]),
        ([group("::/0")], [acl((100, "-1", "allow", "0.0.0.0/0"))], ["low"]),
        ([group("0.0.0.0/0")], [acl((90, "-1", "deny", "::/0"), (100, "-1", "allow", "0.0.0.0/0"))], ["high"]),
        ([group("fd00::/8")], [], []),
    ],
)  # fmt: skip
def test_networks_open_to_the_world_are_findings(groups, acls, severities):
    result = [s for s, rule, _ in exposed(groups=groups, acls=acls) if rule == "IAM-EXPO-003"]
    assert result == severities


def applied(**changed):
    """The account as iam.apply leaves it, with some roles in another state."""
    have = roles.build_applied_snapshot(WANTED, SETTINGS)
    made = {}
    for name, p in have.roles.items():
        tags = {tag["Key"]: tag["Value"] for tag in SETTINGS.tags(name)}
        made[name] = replace(p, **{"created": NOW, "tags": tags, **changed.get(name.removeprefix("kennel-demo-"), {})})
    return replace(have, roles=made)


def drifted(have):
    return found(have, "IAM-DRIFT-001", "IAM-DRIFT-002", wanted=WANTED)


BOX = "kennel-demo-ec2-box"
OTHER = f"arn:aws:iam::{ACCOUNT}:policy{SETTINGS.role_path}{BOX}"
STRAY = f"arn:aws:iam::{ACCOUNT}:policy{SETTINGS.role_path}stray"


@pytest.mark.parametrize(
    ("name", "have", "expected"),
    [
        ("nothing", applied(), []),
        ("trust", applied(**{"ec2-box": {"trust": doc(trusting("*"))}}), [("medium", "IAM-DRIFT-002")]),
        ("boundary", applied(**{"ec2-box": {"boundary": ""}}), [("medium", "IAM-DRIFT-002")]),
        ("tags", applied(**{"ec2-box": {"tags": {"kennel:stack": "other"}}}), [("medium", "IAM-DRIFT-002")]),
        ("inline", applied(**{"ec2-box": {"inline": {"x": doc(allow("sqs:SendMessage"))}}}), [("high", "IAM-DRIFT-001"), ("medium", "IAM-DRIFT-002")]),
        ("detached", applied(**{"ec2-box": {"attached": ()}}), [("high", "IAM-DRIFT-001"), ("medium", "IAM-DRIFT-002")]),
    ],
)  # fmt: skip
def test_drift_of_a_role_is_a_finding(name, have, expected):
    assert sorted(set(drifted(have))) == sorted((severity, rule, BOX) for severity, rule in expected)


def test_drift_covers_policies_and_missing_and_extra_ones():
    """A changed policy, a missing role and a policy of no folder are drift."""
    have = applied()
    changed = replace(have, policies=have.policies | {OTHER: replace(have.policies[OTHER], policy=doc(EVERYTHING))})
    assert drifted(changed) == [("high", "IAM-DRIFT-001", BOX)]
    bound = have.roles[BOX].boundary
    lifted = replace(have, policies=have.policies | {bound: replace(have.policies[bound], policy=doc(EVERYTHING))})
    assert drifted(lifted) == [("high", "IAM-DRIFT-001", BOX)]
    less = replace(have, roles={name: p for name, p in have.roles.items() if name != BOX})
    assert drifted(less) == [("medium", "IAM-DRIFT-002", BOX)]
    more = replace(have, policies=have.policies | {STRAY: Managed(STRAY, doc(EMPTY_BUCKET))})
    assert drifted(more) == [("medium", "IAM-DRIFT-002", "stray")]
    assert found(more, "IAM-DRIFT-002") == []


REASON = "Looked at on a Tuesday; no other role has it."
TODAY = NOW.date()


def waiver(rule="IAM-WILD-001", principal="r", **more):
    fields = {"reason": REASON, "owner": "ops", "expires": TODAY + 30 * DAYS} | more
    return Waiver(rule, principal, **fields)


def waived(*given, have=None, complete=True):
    """(rules left, rules waived) of a role with a service wildcard."""
    more = (
        account_facts.parse({"credentials": [], "buckets": {}, "groups": [], "usage": {"x": {}}}) if complete else None
    )
    result = audited(have or account(role("r", allow("sqs:*"))), facts=more, waivers=given)
    return [f.rule for f in result if not f.waived], [f.rule for f in result if f.waived]


@pytest.mark.parametrize(
    ("given", "marked", "more"),
    [
        (waiver(), ["IAM-WILD-001"], []),
        (waiver(principal="?"), ["IAM-WILD-001"], []),
        (waiver(principal=f"arn:aws:iam::{ACCOUNT}:role/*"), ["IAM-WILD-001"], []),
        (waiver(policy="r"), ["IAM-WILD-001"], []),
        (waiver(policy="s"), [], ["IAM-WAIVER-002"]),
        (waiver(principal="other"), [], ["IAM-WAIVER-002"]),
        (waiver(principal=f"arn:aws:iam::{ACCOUNT}:user/r"), [], ["IAM-WAIVER-002"]),
        (waiver(principal="arn:aws:iam::999999999999:role/r"), [], []),
        (waiver(rule="IAM-PASS-001"), [], ["IAM-WAIVER-002"]),
        (waiver(expires=TODAY - DAYS), [], ["IAM-WAIVER-001"]),
        (waiver(expires=TODAY), ["IAM-WILD-001"], []),
        (waiver(expires=TODAY + 181 * DAYS), [], ["IAM-WAIVER-001"]),
        (waiver(expires=TODAY + 180 * DAYS), ["IAM-WILD-001"], []),
        (waiver(expires=TODAY + 9 * DAYS, created=TODAY - 172 * DAYS), [], ["IAM-WAIVER-001"]),
        (waiver(created=TODAY + 2 * DAYS), [], ["IAM-WAIVER-001"]),
        (waiver(created=TODAY + DAYS), ["IAM-WILD-001"], []),
        (waiver(reason="because"), [], ["IAM-WAIVER-001"]),
        (waiver(owner=" "), [], ["IAM-WAIVER-001"]),
    ],
)  # fmt: skip
def test_waiver_covers_expires_and_goes_stale(given, marked, more):
    left, covered = waived(given)
    assert covered == marked
    assert [rule for rule in left if rule.startswith("IAM-WAIVER")] == more
    assert ("IAM-WILD-001" in left) is (not marked)


def test_waiver_is_stale_only_if_its_rule_ran():
    assert waived(waiver(rule="IAM-PASS-001"), complete=False)[0] == waived(complete=False)[0]
    unasked = audited(
        account(role("r")), facts=account_facts.AccountFacts(), waivers=[waiver(rule="IAM-KEY-001", principal="u")]
    )
    assert [f.rule for f in unasked] == []


def test_waived_administrator_covers_the_findings_that_follow():
    have = account(role("r", EVERYTHING, deny("sqs:*")))
    left, covered = waived(waiver(rule="IAM-ADMIN-001"), have=have)
    assert left == []
    assert {"IAM-ADMIN-001", "IAM-EXPO-002", "IAM-PASS-003", "IAM-EXFIL-001"} <= set(covered)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[waiver]]\nrule = 'R'\nexpires = 2027-01-01", "waiver 1 has no principal"),
        ("[[waiver]]\nrule = 'R'\nprincipal = 'p'\nexpires = 2027-01-01\nrole = 'x'", "unknown field 'role'"),
        ("[[waiver]]\nrule = 'R'\nprincipal = 'p'\nexpires = '2027-01-01'", "expires must be a date"),
        ("[[waiver]]\nrule = 'R'\nprincipal = 'p'\nexpires = 2027-01-01T00:00:00Z", "expires must be a date"),
        ("[[waiver]]\nrule = 5\nprincipal = 'p'\nexpires = 2027-01-01", "rule must be a string"),
        ("waiver = 5", "written as"),
        ("waiver = [5]", "is not a table"),
        ("[[waivers]]", "nothing else"),
        ("[[waiver", "waivers.toml"),
    ],
)
def test_invalid_waiver_file_is_rejected(tmp_path, text, said):
    (tmp_path / "waivers.toml").write_text(text)
    with pytest.raises(InputError, match=said):
        waivers.read_waiver_file(tmp_path / "waivers.toml")


def test_waiver_without_reason_or_owner_is_loaded(tmp_path):
    """A waiver without reason or owner is loaded, so that the audit can report it."""
    assert waivers.read_waiver_file(tmp_path / "none.toml") == []
    (tmp_path / "waivers.toml").write_text("[[waiver]]\nrule = 'R'\nprincipal = 'p'\nexpires = 2027-01-01")
    assert waivers.read_waiver_file(tmp_path / "waivers.toml") == [Waiver("R", "p", "", "", date(2027, 1, 1))]


ACTIONS = st.sampled_from(["*", "s3:*", "s3:GetObject", "s3:Put*", "iam:PassRole", "iam:*", "iam:CreateRole", "kms:Decrypt", "sts:AssumeRole", "ec2:RunInstances"])  # fmt: skip
RESOURCES = st.sampled_from(
    ["*", "arn:aws:s3:::mine/*", "arn:aws:s3:::*", f"{ROLE}/*", f"{ROLE}/other", f"arn:aws:kms:*:{ACCOUNT}:key/k"]
)
CONDITIONS = st.sampled_from([{}, YESTERDAY, TO_EC2, MFA, when("StringEquals", "aws:PrincipalAccount", ACCOUNT)])


@st.composite
def statements(draw, effect):
    action = "NotAction" if draw(st.integers(0, 5)) == 0 else "Action"
    resource = "NotResource" if draw(st.integers(0, 5)) == 0 else "Resource"
    many = st.lists(ACTIONS, min_size=1, max_size=3)
    return {"Effect": effect, action: draw(many), resource: draw(st.lists(RESOURCES, min_size=1, max_size=2))} | draw(
        CONDITIONS
    )


def access(have):
    beside = (
        "IAM-PRIVESC",
        "IAM-LINT",
        "IAM-QUOTA",
    )  # a path to others' rights is bounded only for who has rights of his own
    return {(f.rule, f.principal, f.policy, f.statement) for f in audited(have) if not f.rule.startswith(beside)}


@hypothesis_settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(statements("Allow"), min_size=1, max_size=3), st.lists(statements("Deny"), min_size=1, max_size=2))
def test_deny_never_adds_a_finding(allows, denies):
    assert access(account(role("r", *allows, *denies))) <= access(account(role("r", *allows)))


@hypothesis_settings(max_examples=100, deadline=None)
@given(st.lists(statements("Allow"), min_size=1, max_size=3), st.lists(statements("Allow"), max_size=2))
def test_boundary_never_adds_a_finding(allows, bounds):
    made, held = role("r", *allows)
    bound = Managed(f"arn:aws:iam::{ACCOUNT}:policy/bound", doc(*bounds), attachments=0, boundaries=1)
    bounded = account((replace(made, boundary=bound.arn), held), policies={bound.arn: bound})
    lifting = {one for one in access(bounded) if one[0] == "IAM-BOUND-001"}
    assert access(bounded) - lifting <= access(account((made, held)))


def cli_of(tmp_path):
    """Commands with settings whose profile does not exist: every call to AWS fails."""
    return Cli(write_settings(tmp_path / "s.yaml", tmp_path / "nowhere", "demo"))


def details(have):
    """The snapshot as GetAccountAuthorizationDetails tells it."""
    return {
        "RoleDetailList": [
            {
                "RoleName": p.name, "Arn": p.arn, "AssumeRolePolicyDocument": p.trust and p.trust.document, "CreateDate": p.created.isoformat(),
                "AttachedManagedPolicies": [{"PolicyArn": arn, "PolicyName": "x"} for arn in p.attached],
            }
            for p in have.roles.values()
        ],
        "Policies": [
            {"Arn": m.arn, "AttachmentCount": 1, "PolicyVersionList": [{"VersionId": "v1", "IsDefaultVersion": True, "Document": m.document}]}
            for m in have.policies.values()
        ],
    }  # fmt: skip


def test_files_and_snapshots_are_audited_without_an_account(tmp_path):
    cli = cli_of(tmp_path)
    ran = cli("iam.audit", "--files", "--json")
    result = json.loads(ran.out)
    assert set(result) == {"findings", "calls", "seconds"}
    assert result["calls"] == 0
    assert not [f for f in result["findings"] if f["severity"] in ("critical", "high") and not f["waived"]]
    file = tmp_path / "gaad.json"
    file.write_text(json.dumps(details(account(role("wide", allow("iam:PassRole")), role("fine")))))
    ran = cli("iam.audit", "--snapshot", str(file), "--json", ok=False)
    assert ran.code == 7
    (one,) = [f for f in json.loads(ran.out)["findings"] if f["severity"] == "high"]
    assert set(one) == {"rule", "severity", "principal", "policy", "statement", "path", "message", "fix", "waived"}
    assert (one["rule"], one["principal"], one["path"], one["waived"]) == ("IAM-PASS-001", "wide", [], False)
    assert cli("iam.audit", "--snapshot", str(file), "--fail-on", "critical").code == 0
    text = cli("iam.audit", "--snapshot", str(file), ok=False)
    assert "IAM-PASS-001" in text.out
    assert "not compared with iam_policies/" in text.err
    assert "2 roles and 0 users: 1 high" in text.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--fail-on", "all"), "--fail-on must be one of critical, high, medium, low, info, not 'all'"),
        (("--files", "--snapshot", "x"), "omit --snapshot and --files, which cannot be combined"),
        (("--files", "--save", "x"), "omit --snapshot and --files, which cannot be combined"),
        (("--snapshot", "/nowhere/x.json"), "was not read: No such file"),
    ],
)
def test_invalid_audit_flags_are_rejected(tmp_path, words, said):
    ran = cli_of(tmp_path)("iam.audit", *words, ok=False)
    assert (ran.code, "Traceback" in ran.err) == (1, False)
    assert said in ran.err


def test_findings_of_an_administrator_are_one_row():
    """An administrator's other findings are counted in one row."""
    result = audited(account(role("r", EVERYTHING), role("s", allow("iam:PassRole"))))
    shown = format_findings(result, "2 roles", Snapshot())
    assert "findings that follow: --json)" in shown
    assert "IAM-EXPO-002" not in shown
    assert "IAM-PASS-001" in shown
    assert shown.endswith("\n2 roles")


def test_equal_findings_of_several_roles_are_one_row():
    trust = doc(trusting(OWN_ROOT, **MFA))
    result = [f for f in audited(account(*(role(f"r{n}", trust=trust) for n in range(8)))) if f.rule == "IAM-TRUST-003"]
    shown = format_findings(result, "8 roles", Snapshot())
    assert shown.count("IAM-TRUST-003") == 1
    assert "r0, r1, r2, r3, r4, r5 and 2 more" in shown


def test_waived_findings_are_counted_with_where_they_are():
    have = account(role("r", allow("s3:*")))
    result = audited(have, waivers=[waiver()])
    source = AuditSource("the account", have, SETTINGS)
    assert "1 waived (with their reasons: --json)" in count_findings(source, result)


def test_many_escalation_paths_of_one_principal_are_one_row():
    """Many paths of one principal are one row, and a few are listed one by one."""
    power = {"Effect": "Allow", "NotAction": ["iam:*", "organizations:*"], "Resource": "*"}
    result = audited(account(role("r", power), role("s", allow("iam:CreateAccessKey"))))
    ways = [f for f in result if f.rule.startswith("IAM-PRIVESC-") and f.severity == "high"]
    many, few = ([f for f in ways if f.principal == name] for name in "rs")
    assert (len(many) > 6, len(few)) == (True, 1)
    rows = format_findings(result, "2 roles", Snapshot()).splitlines()
    assert [row.split()[1] for row in rows if " IAM-PRIVESC-" in row and row.split()[2] == "r"] == [many[0].rule]
    assert sum(f"(and {len(many) - 1} more escalation paths: --json)" in row for row in rows) == 1
    assert [row.split()[1] for row in rows if " IAM-PRIVESC-" in row and row.split()[2] == "s"] == [few[0].rule]
    assert len(fold_paths(many[:5])[0]) == 5
    assert len(fold_paths(many[:6])[0]) == 1


HOSTILE = [
    ("[]", "Write a snapshot with"),
    ("{}", "Write a snapshot with"),
    ("5", "Write a snapshot with"),
    ("{half", "is not JSON"),
    ("\xff\xfe", "is not JSON"),
    ('{"kennel_snapshot": 2, "details": {}}', "schema 2; this Kennel reads 1"),
    ('{"kennel_snapshot": 1, "details": []}', "Write a snapshot with"),
    ('{"RoleDetailList": [], "IsTruncated": true}', "only the first page"),
    ('{"RoleDetailList": 5}', "RoleDetailList must be a list"),
    ('{"RoleDetailList": [5]}', "RoleDetailList[0] must be an object"),
    ('{"RoleDetailList": [{"RoleName": "r"}]}', "RoleDetailList[0] has no Arn"),
    ('{"RoleDetailList": [{"RoleName": "r", "Arn": "r"}]}', "RoleDetailList[0].Arn must be an ARN"),
    ('{"RoleDetailList": [{"RoleName": "r", "Arn": "a:b:c:d:e:f", "CreateDate": "soon"}]}', "CreateDate must be a date"),
    ('{"RoleDetailList": [{"RoleName": "r", "Arn": "a:b:c:d:e:f", "AssumeRolePolicyDocument": "{half"}]}', "must be JSON"),
    ('{"RoleDetailList": [{"RoleName": "r", "Arn": "a:b:c:d:e:f", "AssumeRolePolicyDocument": 7}]}', "must be a policy"),
    ('{"RoleDetailList": [{"RoleName": "r", "Arn": "a:b:c:d:e:f", "MaxSessionDuration": "1 h"}]}', "must be a whole number"),
    ('{"RoleDetailList": ' + "[" * 3000 + "]" * 3000 + "}", "nested"),
    ('{"RoleDetailList": ' + "[" * 60 + "]" * 60 + "}", "nested more than 40 levels"),
    ('{"RoleDetailList": ' + "9" * 5000 + "}", "is not JSON"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "said"), HOSTILE, ids=[said for _, said in HOSTILE])
def test_invalid_snapshot_is_rejected_in_a_sentence(tmp_path, text, said):
    (tmp_path / "s.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError) as error:
        snapshot_file.load_snapshot(tmp_path / "s.json")
    assert said in str(error.value)
    assert "s.json" in str(error.value)


def test_oversized_file_is_not_read(tmp_path):
    with (tmp_path / "s.json").open("wb") as file:
        file.truncate(snapshot_file.LARGEST + 1)
    with pytest.raises(InputError, match="larger than 200 MB"):
        snapshot_file.load_snapshot(tmp_path / "s.json")


def test_policy_of_a_megabyte_is_a_finding():
    big = [allow("s3:GetObject", [f"arn:aws:s3:::mine/{n}/*" for n in range(40_000)])]
    result = {(f.severity, f.rule) for f in audited(account(role("r", *big)))}
    assert ("high", "IAM-QUOTA-001") in result


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8)
    | st.sampled_from(["*", "Allow", "Deny", "s3:*", "arn:aws:s3:::b", "arn:aws:iam::1:role/r", "2012-10-17", "sts:AssumeRole"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["Statement", "Effect", "Action", "NotAction", "Resource", "Principal", "Condition", "Sid", "AWS",
                                       "StringLike", "Version", "aws:SourceIp", "x"]), inner, max_size=5),
    max_leaves=12,
)  # fmt: skip
STATEMENT = st.fixed_dictionaries(
    {"Effect": JSON | st.just("Allow")},
    optional={"Action": JSON | st.just("*"), "NotAction": JSON, "Resource": JSON | st.just("*"), "NotResource": JSON, "Principal": JSON,
              "NotPrincipal": JSON, "Condition": JSON, "Sid": JSON},
)  # fmt: skip
DOCUMENT = JSON | st.fixed_dictionaries(
    {"Statement": st.lists(STATEMENT | JSON, max_size=3) | STATEMENT}, optional={"Version": JSON}
)


@hypothesis_settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    DOCUMENT,
    DOCUMENT,
    DOCUMENT,
    JSON,
    st.sampled_from(["RoleDetailList", "Tags", "RolePolicyList", "CreateDate", "extras", "groups", "Policies"]),
)
def test_any_file_content_is_audited_or_rejected(tmp_path_factory, trust, inline, bucket, odd, where):
    """Findings, or one sentence."""
    one = {
        "RoleName": "r", "Arn": f"{ROLE}/r", "AssumeRolePolicyDocument": trust, "RolePolicyList": [{"PolicyName": "p", "PolicyDocument": inline}],
        "AttachedManagedPolicies": [], "CreateDate": "2026-01-01T00:00:00Z",
    }  # fmt: skip
    body = {
        "kennel_snapshot": 1,
        "details": {"RoleDetailList": [one]},
        "extras": {"buckets": {"b": {"policy": bucket}}},
    }
    place = {"RoleDetailList": body["details"], "Policies": body["details"], "extras": body, "groups": body["extras"]}
    place.get(where, one)[where] = odd
    if where == "Tags":
        del one[where]  # the three documents alone
    path = tmp_path_factory.getbasetemp() / "odd.json"
    path.write_text(json.dumps(body))
    try:
        have, more = snapshot_file.load_snapshot(path)
    except InputError as error:
        assert "odd.json" in str(error)
        return
    for f in audited(have, facts=account_facts.parse(more or {})):
        assert f.severity in SEVERITIES


KEY = "AKIA" + "Q7EXAMPLE3XYZ123"
SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"


def test_saved_snapshot_has_no_keys_and_no_secrets(tmp_path):
    policy = doc(allow("s3:GetObject", f"arn:aws:s3:::mine/{KEY}/*", **when("StringEquals", "aws:userid", SECRET)))
    page = {
        "RoleDetailList": [{
            "RoleName": "r", "Arn": f"{ROLE}/r", "CreateDate": NOW, "RolePolicyList": [{"PolicyName": "p", "PolicyDocument": policy}],
            "Tags": [{"Key": "db-password", "Value": "hunter2"}, {"Key": "team", "Value": f"x {KEY} y"}],
        }],
        "UserDetailList": [{"UserName": "u", "Arn": f"arn:aws:iam::{ACCOUNT}:user/u", "AccessKeyId": KEY, "SecretAccessKey": "s"}],
    }  # fmt: skip
    raw = {"credentials": [row("u", **aged(3, 1)) | {"access_key_1_id": KEY}], "summary": {"AccountMFAEnabled": 1}}
    path = tmp_path / "new" / "s.json"
    snapshot_file.save_snapshot(path, [page], raw, ACCOUNT)
    text = path.read_text()
    assert not [secret for secret in (KEY, SECRET, "hunter2", '"s"') if secret in text]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    have, more = snapshot_file.load_snapshot(path)
    assert have.roles["r"].tags["team"] == "x (left out) y"
    assert have.roles["r"].created == NOW
    assert account_facts.parse(more).credentials[0].keys[0].rotated == NOW - 3 * DAYS
    assert text == kept_again(path)


def kept_again(path):
    """What is kept of what was kept: leaving out twice leaves out no more."""
    body = json.loads(path.read_text())
    return json.dumps(snapshot_file.redact_secrets(body), separators=(",", ":"))


def test_harmless_content_is_saved_unchanged():
    page = details(account(role("r", EVERYTHING), role("s", trust=doc(web("repo:us/dogs:*")))))
    shipped = {w.role: [one.document for one in (w.trust, *w.permissions.values(), w.boundary) if one] for w in WANTED}
    assert snapshot_file.redact_secrets(snapshot_file.as_plain_json(page)) == snapshot_file.as_plain_json(page)
    assert snapshot_file.redact_secrets(shipped) == shipped


def test_waivers_of_one_account_lie_beside_its_profile(tmp_path):
    """So that the sandbox's administrator is not accepted in every account."""
    (tmp_path / "aws").mkdir()
    entry = f"[[waiver]]\nrule = 'R'\nprincipal = 'p'\nreason = '{REASON}'\nowner = 'o'\nexpires = 2027-01-01\n"
    (tmp_path / "aws" / "waivers.toml").write_text(entry)
    own = settings_of(text=f"aws: {{config_file: {tmp_path}/aws/config}}\n")
    assert waivers.read_waivers(own)[-1] == Waiver("R", "p", REASON, "o", date(2027, 1, 1))
    assert len(waivers.read_waivers(own)) == len(waivers.read_waiver_file(ROOT / "iam_policies" / "waivers.toml")) + 1

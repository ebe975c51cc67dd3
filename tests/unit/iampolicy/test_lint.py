"""Bad policies are findings or refusals, good ones are neither; whatever the JSON, nothing falls over."""

import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iampolicy.errors import InputError
from iampolicy.finding import Finding
from iampolicy.lint import linter
from iampolicy.lint.arns import can_meet
from iampolicy.policy import json_source
from iampolicy.policy.document import compile_glob, parse_policy
from ops.iam import roles, source_lines
from tests.conftest import settings_of

OBJECT, BUCKET = "arn:aws:s3:::b/k", "arn:aws:s3:::b"
GROUP = "arn:aws:logs:us-east-1:123456789012:log-group:/aws/lambda/f"
QUEUE = "arn:aws:sqs:us-east-1:123456789012:q"


def doc(*statements, **more):
    return {"Version": "2012-10-17", "Statement": list(statements)} | more


def allow(action="s3:GetObject", resource=OBJECT, **more):
    return {"Effect": "Allow", "Action": action, "Resource": resource} | more


def when(operator, key, value, action="s3:GetObject", resource=OBJECT, **more):
    return allow(action, resource, Condition={operator: {key: value}}, **more)


def trust(principal, action="sts:AssumeRole", **more):
    return {"Effect": "Allow", "Principal": principal, "Action": action} | more


def without(element, **more):
    return {key: value for key, value in allow(**more).items() if key != element}


def found(document, kind="identity"):
    return linter.findings(parse_policy("p", document), kind)


def said(document, kind="identity"):
    return [(f.rule, f.severity, f.message) for f in found(document, kind)]


UNKNOWN, MISFIT, CONDITION, FORM, QUOTA = (
    *(f"IAM-LINT-00{number}" for number in (1, 2, 3, 4)),
    "IAM-QUOTA-001",
)


@pytest.mark.parametrize(
    ("statement", "rule", "severity", "words"),
    [
        (allow("s3:GetObjcet"), UNKNOWN, "high", "s3:GetObjcet is not an action of AWS"),
        (allow("s3:Gte*"), UNKNOWN, "high", "s3:Gte* matches no action"),
        (allow("sagmaker:CreateModel", "*"), UNKNOWN, "high", "sagmaker:CreateModel is not an action of AWS"),
        (allow("GetObject"), UNKNOWN, "high", "'GetObject' is not of the form SERVICE:NAME"),
        (allow("s3:Get:Object"), UNKNOWN, "high", "'s3:Get:Object' is not of the form"),
        (allow("s3*:GetObject"), UNKNOWN, "high", "is not of the form"),
        (allow(["s3:GetObject", ""]), UNKNOWN, "high", "'' is not of the form"),
        ({"Effect": "Allow", "NotAction": "s3:GetObjcet", "Resource": "*"}, UNKNOWN, "high", "is not an action of AWS"),
        (allow(resource=BUCKET), MISFIT, "high", "Resource arn:aws:s3:::b matches nothing: s3:GetObject acts on"),
        (allow("s3:ListBucket"), MISFIT, "high", "s3:ListBucket acts on arn:aws:s3:::BucketName"),
        (allow("s3:ListBucket", f"{BUCKET}/*"), MISFIT, "high", "matches nothing"),
        (allow(resource=QUEUE), MISFIT, "high", "matches nothing"),
        (allow(resource="arn:aws:s3:us-east-1:123456789012:b/k"), MISFIT, "high", "matches nothing"),
        (allow("iam:GetRole", "arn:aws:iam:us-east-1:123456789012:role/r"), MISFIT, "high", "matches nothing"),
        (allow("iam:GetRole", "arn:aws:iam::123456789012:user/r"), MISFIT, "high", "matches nothing"),
        (allow("iam:GetRole", "arn:aws:iam::12345678901:role/r"), MISFIT, "high", "an account has 12 digits"),
        (allow(resource="arn:aws:s3::b/k"), MISFIT, "high", "has 5 parts; an ARN has six"),
        (allow(resource="arn:aw:s3:::b/k"), MISFIT, "high", "has the partition 'aw'"),
        (allow(resource="b/k"), MISFIT, "high", "is neither an ARN nor *"),
        (allow("ec2:DescribeInstances", "arn:aws:ec2:*:*:instance/*"), MISFIT, "high", "takes no resource but *"),
        (allow(["s3:GetObject", "s3:ListBucket"]), MISFIT, "high", "s3:ListBucket never applies"),
        (allow(["s3:GetObject", "s3:ListAllMyBuckets"]), MISFIT, "medium", "s3:ListAllMyBuckets never applies"),
        (
            allow(["s3:GetObject", "s3:ListAllMyBuckets"], Effect="Deny"),
            MISFIT,
            "high",
            "s3:ListAllMyBuckets never applies",
        ),
        (
            allow(["s3:GetObject", "s3:PutObject"], [OBJECT, BUCKET]),
            MISFIT,
            "high",
            "no action of the statement acts on it",
        ),
        (allow("sqs:Send*", OBJECT), MISFIT, "high", "matches nothing"),
        (
            allow(resource="arn:aws:s3::${aws:PrincipalAccount}:b/k"),
            MISFIT,
            "high",
            "a policy variable before its fifth colon",
        ),
        (allow("logs:FilterLogEvents", GROUP), MISFIT, "medium", "their log groups end with :*"),
        (allow(["logs:TagResource", "logs:PutLogEvents"], GROUP, Effect="Deny"), MISFIT, "high", "end with :*"),
        (
            allow(resource=f"{OBJECT} ", Effect="Deny"),
            FORM,
            "medium",
            "begins or ends with a space, which is significant",
        ),
        (allow(resource=f"{BUCKET}/a\u00a0b"), FORM, "high", "contains \\u00a0 NO-BREAK SPACE"),
        (
            when("ForAnyValue:StringEqualsIfExists", "aws:TagKeys", "a"),
            CONDITION,
            "medium",
            "is never true for a request without the key",
        ),
        (
            when("BoolIfExists", "aws:MultiFactorAuthPresent", "true"),
            CONDITION,
            "medium",
            "allows access keys",
        ),
        (
            when("Bool", "aws:MultiFactorAuthPresent", "false", Effect="Deny"),
            CONDITION,
            "medium",
            "does not deny access keys",
        ),
        (when("StringEqual", "aws:username", "a"), CONDITION, "high", "unknown condition operator StringEqual"),
        (when("ForAllValue:StringLike", "aws:TagKeys", "a"), CONDITION, "high", "unknown condition operator"),
        (when("NullIfExists", "aws:username", "true"), CONDITION, "high", "unknown condition operator NullIfExists"),
        (when("stringequals", "aws:username", "a"), CONDITION, "high", "unknown condition operator stringequals"),
        (when("NumericLessThan", "aws:MultiFactorAuthAge", "soon"), CONDITION, "medium", "'soon' is not a number"),
        (
            when("NumericLessThan", "aws:MultiFactorAuthAge", "soon", Effect="Deny"),
            CONDITION,
            "high",
            "'soon' is not a number",
        ),
        (when("DateLessThan", "aws:CurrentTime", "tomorrow"), CONDITION, "medium", "'tomorrow' is not a date"),
        (when("DateLessThan", "aws:CurrentTime", "2026-13-01"), CONDITION, "medium", "is not a date"),
        (when("IpAddress", "aws:SourceIp", "10.0.0.0/33"), CONDITION, "medium", "is not a network"),
        (when("NotIpAddress", "aws:SourceIp", ["10.0.0.0/8", "me"]), CONDITION, "medium", "'me' is not a network"),
        (when("BinaryEquals", "aws:username", "%%"), CONDITION, "medium", "is not base64"),
        (when("Bool", "aws:SecureTransport", "yes"), CONDITION, "medium", "neither true nor false"),
        (when("Null", "aws:username", "no"), CONDITION, "medium", "neither true nor false"),
        (when("ArnLike", "aws:SourceArn", "role/r"), CONDITION, "medium", "'role/r' is not an ARN"),
        (when("StringEquals", "aws:username", "a*"), CONDITION, "medium", "the wildcard is taken literally"),
        (when("StringNotEquals", "aws:username", "a?"), CONDITION, "medium", "the wildcard is taken literally"),
        (when("StringEquals", "aws:SourceAccount", "12345"), CONDITION, "medium", "not an account of 12 digits"),
        (
            when("ForAllValues:StringEquals", "aws:TagKeys", "a"),
            CONDITION,
            "medium",
            "allows a request without the condition key",
        ),
        (when("ForAnyValue:StringEquals", "aws:username", "a"), CONDITION, "low", "the key is single-valued"),
        (when("StringEquals", "aws:SourceArn", QUEUE), CONDITION, "low", "the key's type is ARN"),
        (when("StringEquals", "aws:SourceIp", "10.0.0.1"), CONDITION, "medium", "the key's type is IPAddress"),
        (when("Bool", "aws:username", "true"), CONDITION, "medium", "the key's type is String"),
        (when("StringEquals", "aws:SourcIp", "a"), CONDITION, "medium", "unknown condition key aws:SourcIp"),
        (when("StringEquals", "nonsense", "a"), CONDITION, "medium", "unknown condition key nonsense"),
        (
            when("StringEquals", "s3:prefix", "a"),
            CONDITION,
            "medium",
            "s3:GetObject never has the condition key s3:prefix",
        ),
        (when("StringEquals", "aws:username", []), FORM, "low", "has no value"),
        (when("StringEquals", "aws:username", None), FORM, "high", "values must be strings"),
        (when("StringEquals", "aws:username", {"a": 1}), FORM, "high", "values must be strings"),
        (allow(Condition={"Bool": {"aws:SecureTransport": True, "AWS:securetransport": True}}), FORM, "high", "twice"),
        (allow(Condition=[]), FORM, "high", "Condition must be an object"),
        (allow(Condition={"Bool": "aws:SecureTransport"}), FORM, "high", "Bool must be an object"),
        (allow(Effect="allow"), FORM, "high", "Effect is allow"),
        (without("Effect"), FORM, "high", "Effect is missing"),
        (without("Action"), FORM, "high", "Action is missing"),
        (without("Resource"), FORM, "high", "Resource is missing"),
        (allow(NotAction="s3:*"), FORM, "high", "Action and NotAction exclude each other"),
        (allow(NotResource="*"), FORM, "high", "Resource and NotResource exclude each other"),
        (allow(Principal="*"), FORM, "high", "an identity policy must not have Principal"),
        (allow(action="s3:GetObject", action_="x"), FORM, "high", "unknown element action_"),
        (allow([]), FORM, "high", "Action is empty"),
        (allow(resource=[]), FORM, "high", "Resource is empty"),
        (allow(5), FORM, "high", "Action: values must be strings"),
        (allow(resource={"a": 1}), FORM, "high", "Resource: values must be strings"),
        (allow(resource=[None]), FORM, "high", "Resource: values must be strings"),
        (allow(Sid="Read objects"), FORM, "high", "Sid 'Read objects' has characters"),
        (allow(Sid=7), FORM, "high", "Sid must be a string"),
        (allow(["s3:GetObject", "s3:Get*"]), FORM, "low", "s3:GetObject is covered by s3:get*"),
        (allow(["s3:GetObject", "s3:getobject"]), FORM, "low", "s3:getobject is listed twice"),
        (allow(resource="arn:aws:s3:::${bucket}/k"), FORM, "high", "still has the placeholder ${bucket}"),
        (allow(resource="arn:aws:s3:::<bucket>/k"), FORM, "high", "still has the placeholder <bucket>"),
        (allow(resource="arn:aws:s3:::b/${aws:usrname}/*"), FORM, "medium", "unknown policy variable aws:usrname"),
        (allow(resource="arn:aws:s3:::b/{aws:username}/*"), FORM, "low", "a policy variable has the form"),
        ("s3:GetObject", FORM, "high", "a statement must be an object"),
        (None, FORM, "high", "a statement must be an object"),
        (allow("s3:Get\u041ebject"), FORM, "high", "\\u041e CYRILLIC CAPITAL LETTER O"),
        (allow("s3\uff1aGetObject"), FORM, "high", "\\uff1a FULLWIDTH COLON"),
        (allow("s3:GetObject\u200b"), FORM, "high", "\\u200b ZERO WIDTH SPACE"),
        (allow(resource="arn:aws:s3:::b/\u202ek"), FORM, "high", "\\u202e RIGHT-TO-LEFT OVERRIDE"),
        (allow(resource="arn:aws:s3:::\u0430/k"), FORM, "high", "\\u0430 CYRILLIC SMALL LETTER A"),
        (allow(resource="arn:\xe4ws:s3:::b/k"), FORM, "high", "\\u00e4 LATIN SMALL LETTER A WITH DIAERESIS"),
        (allow(resource="arn:aws:s3:::b/k\x07"), FORM, "high", "\\u0007 a control character"),
        (allow(resource="arn:aws:s3:::b/\xad"), FORM, "high", "\\u00ad SOFT HYPHEN"),
        (allow() | {"Effe\u0441t": "Allow"}, FORM, "high", "unknown element Effe\\u0441t"),
        (when("StringEquals", "aws:usern\u0430me", "a"), FORM, "high", "\\u0430 CYRILLIC SMALL LETTER A"),
    ],
)
def test_bad_statement_is_a_finding(statement, rule, severity, words):
    assert any((r, s) == (rule, severity) and words in m for r, s, m in said(doc(statement))), said(doc(statement))
    assert all(m.isascii() and m.isprintable() for _, _, m in said(doc(statement)))


@pytest.mark.parametrize(
    ("statement", "fix"),
    [
        (allow("s3:GetObjcet"), "write s3:GetObject"),
        (allow("s3.GetObject"), "write s3:GetObject"),
        (allow("s3:HeadObject"), "write s3:GetObject"),
        (allow(resource=BUCKET), "write arn:aws:s3:::b/*"),
        (allow("s3:ListBucket", f"{BUCKET}/*"), "write arn:aws:s3:::b"),
        (allow(resource="arn:aws:s3::123456789012:b/k"), "write arn:aws:s3:::b/k"),
        (allow("iam:GetRole", "arn:aws:iam:eu-west-1:123456789012:role/r"), "write arn:aws:iam::123456789012:role/r"),
        (allow("ec2:DescribeInstances", "arn:aws:ec2:*:*:instance/*"), "write *"),
        (when("StringEqual", "aws:username", "a"), "write StringEquals"),
        (when("stringlikeifexists", "aws:username", "a*"), "write StringLikeIfExists"),
        (when("ForAllValue:StringLike", "aws:TagKeys", "a"), "write ForAllValues:StringLike"),
        (when("NullIfExists", "aws:username", "true"), "write Null"),
        (when("StringEquals", "aws:username", "a*"), "write StringLike"),
        (when("StringEquals", "aws:SourcIp", "10.0.0.1"), "write aws:SourceIp"),
        (when("StringEquals", "s3:prefxi", "a", "s3:ListBucket", BUCKET), "write s3:prefix"),
        (when("StringEquals", "aws:SourceIp", "10.0.0.1"), "write IpAddress"),
        (when("ForAllValues:StringEquals", "aws:TagKeys", "a"), 'add "Null": {"aws:TagKeys": "false"}'),
        (allow(Effekt="Allow"), "write Effect"),
    ],
)
def test_finding_says_what_to_write_instead(statement, fix):
    assert fix in [f.fix for f in found(doc(statement))]


@pytest.mark.parametrize(
    ("document", "severity", "words"),
    [
        ([], "high", "a policy must be an object"),
        ("{}", "high", "a policy must be an object"),
        (None, "high", "a policy must be an object"),
        ({}, "high", "Statement is missing"),
        (doc(), "high", "Statement is empty"),
        ({"Version": "2012-10-17", "Statement": "s"}, "high", "Statement must be a list"),
        (doc(allow(), Version="2012-10-18"), "high", "unknown Version 2012-10-18"),
        (doc(allow(), Version=2012), "high", "unknown Version 2012"),
        (doc(allow(), Version="2008-10-17"), "low", "does not support policy variables"),
        ({"Statement": allow()}, "low", "Version is missing"),
        ({"Statement": allow(resource="arn:aws:s3:::b/${aws:username}")}, "medium", "takes literally"),
        (doc(allow(), Statements=[]), "high", "unknown element Statements"),
        (doc(allow(), Id=5), "high", "Id must be a string"),
        (doc(allow(Sid="A"), allow("s3:PutObject", Sid="A")), "high", "statement 1 has the same Sid"),
    ],
)
def test_bad_document_is_a_finding(document, severity, words):
    assert any(s == severity and words in m for _, s, m in said(document)), said(document)


@pytest.mark.parametrize("levels", [13, 200, 5000, 100_000])
def test_deep_nesting_is_one_finding(levels):
    value = "x"
    for _ in range(levels):
        value = [value]
    assert said(doc(allow(resource=value))) == [
        (FORM, "high", "nested more than 12 levels deep; a policy has seven"),
    ]


@pytest.mark.parametrize(
    ("kind", "characters", "severities"),
    [
        ("identity", 5000, []),
        ("identity", 5700, ["low"]),
        ("identity", 6200, ["high"]),
        ("inline", 6200, []),
        ("inline", 10_300, ["high"]),
        ("boundary", 6200, ["high"]),
        ("resource", 6200, []),
        ("resource", 21_000, ["high"]),
    ],
)
def test_policy_over_its_quota_is_a_finding(kind, characters, severities):
    statement = allow(resource=[f"{BUCKET}/{'k' * characters}"])
    if kind == "resource":
        statement["Principal"] = "*"
    assert [f.severity for f in found(doc(statement), kind) if f.rule == QUOTA] == severities


def test_findings_of_a_huge_policy_are_limited():
    """A policy of a megabyte is one finding; of two thousand errors, the first are listed."""
    huge = doc(allow(["s3:GetObjcet"] * 80_000))
    assert [(f.rule, f.severity) for f in found(huge)] == [(QUOTA, "high")]
    assert len(found(doc(allow([f"s3:Nothing{number}" for number in range(2000)])))) == linter.MOST


@pytest.mark.parametrize(("effect", "severity"), [("Allow", "high"), ("Deny", "low")])
def test_not_principal_in_a_resource_policy_is_a_finding(effect, severity):
    one = {"Effect": effect, "NotPrincipal": {"AWS": "123456789012"}, "Action": "s3:GetObject", "Resource": OBJECT}
    assert [(s, "NotPrincipal" in m) for _, s, m in said(doc(one), "resource")] == [(severity, True)]


def test_white_space_does_not_count_towards_the_quota():
    assert found(doc(allow(resource=f"{BUCKET}/{'k ' * 2900}k"))) == []


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        (without("Action") | {"Principal": {"AWS": "123456789012"}}, "Action is missing"),
        (trust({"AWS": "123456789012"}, Resource="*"), "a trust policy must not have Resource"),
        ({"Effect": "Allow", "Action": "sts:AssumeRole"}, "Principal is missing"),
        (trust({}), "is empty"),
        (trust({"AWS": []}), "is empty"),
        (trust("123456789012"), "is neither * nor an object"),
        (trust({"aws": "123456789012"}), "unknown principal type aws"),
        (trust({"AWS": "1234"}), "neither an account of 12 digits"),
        (trust({"AWS": "arn:aws:iam::123456789012:role/*"}), "has a wildcard"),
        (trust({"AWS": "arn:aws:iam::123456789012:policy/p"}), "nor the ARN of a user, role or session"),
        (trust({"AWS": 5}), "values must be strings"),
        (trust({"AWS": "arn:aws:iam::${account}:root"}), "placeholder ${account}"),
        (trust({"Service": "lambda"}), "is not a service"),
        (trust({"Service": "lambda.amazonaws.con"}), "is not a service"),
        (trust({"Federated": "github.com"}, "sts:AssumeRoleWithWebIdentity"), "is not an identity provider"),
        (
            trust({"Federated": "arn:aws:iam::123456789012:saml-provider/p"}),
            "assumes the role by sts:AssumeRoleWithSAML",
        ),
        (trust({"Federated": "accounts.google.com"}), "assumes the role by sts:AssumeRoleWithWebIdentity"),
        (trust({"AWS": "123456789012"}, "s3:GetObject"), "not s3:GetObject"),
        (trust({"AWS": "123456789012", "NotPrincipal": 1}), "unknown principal type NotPrincipal"),
        (trust({"AWS": "123456789012"}, NotPrincipal="*"), "exclude each other"),
        (
            {"Effect": "Deny", "NotPrincipal": {"AWS": "123456789012"}, "Action": "sts:AssumeRole"},
            "a trust policy must not have NotPrincipal",
        ),
    ],
)
def test_bad_trust_is_a_finding(statement, words):
    assert any(words in m and s == "high" for _, s, m in said(doc(statement), "trust")), said(doc(statement), "trust")


GITHUB = "arn:aws:iam::123456789012:oidc-provider/token.actions.githubusercontent.com"
GOOD = [
    ("identity", allow()),
    ("identity", allow("*", "*")),
    ("identity", allow("logs:FilterLogEvents", f"{GROUP}:*")),
    ("identity", allow("logs:DescribeLogStreams", f"{GROUP}*")),
    ("identity", allow("logs:CreateLogGroup", [GROUP, f"{GROUP}:*"])),
    ("identity", allow(["logs:TagResource", "logs:ListTagsForResource"], GROUP)),
    ("identity", allow("logs:GetLogEvents", f"{GROUP}:log-stream:s")),
    ("identity", allow("*:*", "*")),
    ("identity", allow("s3:*", [BUCKET, f"{BUCKET}/*"])),
    ("identity", allow(["s3:GetObject", "s3:ListBucket"], [BUCKET, f"{BUCKET}/*"])),
    ("identity", allow("s3:List*", BUCKET)),
    ("identity", allow("s3:GetObject", "arn:aws:s3:::*")),
    ("identity", allow("s3:GetObject", "arn:aws:s3:::b*")),
    ("identity", allow("s3:GetObject", "arn:*:s3:::b/${aws:username}/${aws:PrincipalTag/team, 'none'}/*")),
    ("identity", allow("s3:GetObject", "arn:aws:s3:::b/${*}k")),
    ("identity", allow("s3:GetObject", "arn:aws:s3:us-west-2:123456789012:accesspoint/ap/object/*")),
    ("identity", allow("s3:GetObject", "arn:aws-cn:s3:::b/*")),
    ("identity", allow("s3:GetObject", "arn:aws:s3:::b/Stra\xdfe/*")),
    ("identity", {"Effect": "Deny", "NotAction": "iam:*", "Resource": "*"}),
    ("identity", {"Effect": "Allow", "Action": "s3:*", "NotResource": "arn:aws:s3:::secret/*"}),
    ("identity", allow("ec2:RunInstances", ["arn:aws:ec2:*:*:instance/*", "arn:aws:ec2:*::image/ami-*"])),
    ("identity", allow("ec2:TerminateInstances", "arn:aws:ec2:*:*:*/*")),
    ("identity", allow("ssm:GetParameter", "arn:aws:ssm:*::parameter/aws/service/*")),
    ("identity", allow("logs:PutLogEvents", "arn:aws:logs:us-east-1:123456789012:log-group:/aws/lambda/f:*")),
    ("identity", allow("lambda:InvokeFunction", "arn:aws:lambda:us-east-1:123456789012:function:f:live")),
    ("identity", allow("dynamodb:Query", "arn:aws:dynamodb:*:123456789012:table/t/index/*")),
    ("identity", allow("sqs:SendMessage", QUEUE)),
    ("identity", allow("execute-api:Invoke", "arn:aws:execute-api:us-east-1:*:a123456789/test/GET/pets")),
    ("identity", when("StringEquals", "iam:PassedToService", "ec2.amazonaws.com", "iam:PassRole", "*")),
    ("identity", when("StringLike", "s3:prefix", ["", "home/*"], "s3:ListBucket", BUCKET)),
    ("identity", when("NumericLessThan", "aws:MultiFactorAuthAge", 3600)),
    ("identity", when("NumericLessThanIfExists", "aws:MultiFactorAuthAge", "3600")),
    ("identity", when("DateGreaterThan", "aws:CurrentTime", "2026-04-01T00:00:00Z")),
    ("identity", when("DateGreaterThan", "aws:EpochTime", "1700000000")),
    ("identity", when("NumericGreaterThan", "aws:EpochTime", "1700000000")),
    ("identity", when("NotIpAddress", "aws:SourceIp", ["192.0.2.0/24", "203.0.113.7", "2001:db8::/32"])),
    ("identity", when("Bool", "aws:SecureTransport", False, Effect="Deny")),
    ("identity", when("BoolIfExists", "aws:MultiFactorAuthPresent", "false", Effect="Deny")),
    ("identity", when("Bool", "aws:MultiFactorAuthPresent", "true")),
    ("identity", when("Bool", "aws:MultiFactorAuthPresent", "true", Effect="Deny")),
    ("identity", allow(resource=f"{BUCKET}/${{aws:username}}:x y")),
    ("identity", when("Null", "aws:TokenIssueTime", True)),
    ("identity", when("ArnLike", "aws:PrincipalArn", "arn:aws:iam::*:role/x*")),
    ("identity", when("StringEquals", "aws:PrincipalTag/Team", "${aws:ResourceTag/Team}")),
    ("identity", when("StringEquals", "AWS:principaltag/Team", "red")),
    ("identity", when("ForAnyValue:StringLike", "aws:PrincipalOrgPaths", "o-a1/r-ab12/*")),
    ("identity", when("StringEquals", "aws:RequestedRegion", ["eu-west-1", "eu-west-2"])),
    ("identity", when("StringEquals", "s3:x-amz-acl", "bucket-owner-full-control", "s3:PutObject")),
    ("identity", when("StringEquals", "kms:EncryptionContext:app", "x", "kms:Decrypt", "*")),
    (
        "identity",
        allow(
            Condition={
                "ForAllValues:StringEquals": {"aws:TagKeys": ["a", "b"]},
                "Null": {"aws:TagKeys": "false"},
            }
        ),
    ),
    ("boundary", allow("*", "*")),
    ("trust", trust({"Service": "lambda.amazonaws.com"})),
    ("trust", trust({"Service": ["ec2.amazonaws.com", "ecs-tasks.amazonaws.com"]})),
    ("trust", trust({"AWS": "*"}, Condition={"StringEquals": {"aws:PrincipalOrgID": "o-1"}})),
    ("trust", trust({"AWS": ["123456789012", "arn:aws:iam::123456789012:root"]}, ["sts:AssumeRole", "sts:TagSession"])),
    (
        "trust",
        trust({"AWS": "arn:aws:iam::123456789012:role/p/r"}, Condition={"StringEquals": {"sts:ExternalId": "x"}}),
    ),
    ("trust", trust({"AWS": "AROAEXAMPLEEXAMPLE123"})),
    (
        "trust",
        trust({"AWS": "arn:aws:sts::123456789012:assumed-role/r/s"}, ["sts:AssumeRole", "sts:SetSourceIdentity"]),
    ),
    (
        "trust",
        trust(
            {"Federated": GITHUB},
            "sts:AssumeRoleWithWebIdentity",
            Condition={
                "StringEquals": {"token.actions.githubusercontent.com:aud": "sts.amazonaws.com"},
                "StringLike": {"token.actions.githubusercontent.com:sub": "repo:org/name:*"},
            },
        ),
    ),
    (
        "trust",
        trust(
            {"Federated": "arn:aws:iam::123456789012:saml-provider/p"},
            "sts:AssumeRoleWithSAML",
            Condition={"StringEquals": {"SAML:aud": "https://signin.aws.amazon.com/saml"}},
        ),
    ),
    ("trust", trust({"Federated": "cognito-identity.amazonaws.com"}, "sts:AssumeRoleWithWebIdentity")),
    ("resource", allow(Principal="*")),
    ("resource", allow("s3:*", [BUCKET, f"{BUCKET}/*"], Principal={"AWS": "*"}, Effect="Deny")),
    ("resource", allow("kms:*", "*", Principal={"AWS": "arn:aws:iam::123456789012:root"}, Sid="Enable IAM policies")),
    ("resource", allow("execute-api:Invoke", "execute-api:/*", Principal="*")),
    ("resource", without("Resource", action="ecr:BatchGetImage") | {"Principal": {"AWS": "123456789012"}}),
    (
        "resource",
        allow(
            "lambda:InvokeFunction",
            "arn:aws:lambda:us-east-1:123456789012:function:f",
            Principal={"Service": "s3.amazonaws.com"},
            Condition={"ArnLike": {"AWS:SourceArn": BUCKET}, "StringEquals": {"AWS:SourceAccount": "123456789012"}},
        ),
    ),
    (
        "resource",
        allow(
            "SNS:Publish",
            "arn:aws:sns:us-east-1:123456789012:t",
            Principal={"AWS": "*"},
            Sid="__default_statement_ID",
            Condition={"StringEquals": {"AWS:SourceOwner": "123456789012"}},
        ),
    ),
    ("resource", allow("s3:GetObject", Principal={"CanonicalUser": "79a59df900b949e55d96a1e698fbaced"})),
]


@pytest.mark.parametrize(("kind", "statement"), GOOD, ids=lambda value: json.dumps(value)[:60])
def test_good_statement_has_no_finding(kind, statement):
    assert said(doc(statement), kind) == []
    assert said({"Version": "2012-10-17", "Statement": statement}, kind) == []


def test_other_tag_conditions_are_guards_too():
    tagged = {"ForAllValues:StringEquals": {"aws:TagKeys": "a"}, "StringEquals": {"aws:RequestTag/a": "x"}}
    assert said(doc(allow(Condition=tagged))) == []


def test_key_that_some_actions_never_carry_is_a_finding():
    """A key of only some of a statement's actions is a finding where the others then never apply."""
    both = ["s3:ListBucket", "s3:GetBucketPolicy"]
    assert [m for _, _, m in said(doc(when("StringLike", "s3:prefix", "a/*", both, BUCKET)))] == [
        "s3:GetBucketPolicy never has the condition key s3:prefix: so it never applies"
    ]
    assert said(doc(when("StringLikeIfExists", "s3:prefix", "a/*", both, BUCKET))) == []
    assert said(doc(when("StringNotLike", "s3:prefix", "a/*", both, BUCKET))) == []


def test_policies_of_aws_are_ignored():
    bad = doc(allow("s3:GetObjcet"))
    assert linter.findings(parse_policy("arn:aws:iam::aws:policy/X", bad), "identity") == []
    assert linter.findings(parse_policy("arn:aws:iam::123456789012:policy/X", bad), "identity") != []


def test_shipped_policies_have_no_finding():
    for want in roles.read_roles(settings_of()):
        documents = {"trust": want.trust, "boundary": want.boundary} | want.permissions
        for name, document in documents.items():
            kind = name if name in ("trust", "boundary") else "identity"
            if document is not None:
                assert [(f.rule, f.statement, f.message) for f in linter.findings(document, kind)] == [], want.role


def test_finding_names_principal_policy_statement_and_element():
    (one,) = linter.findings(parse_policy("p", doc(allow(), allow("s3:GetObjcet", Sid="Typo"))), "identity", "operator")
    assert (one.principal, one.policy, one.statement, one.element) == ("operator", "p", "Typo", "Action")
    assert one.message == "s3:GetObjcet is not an action of AWS"
    assert "element" not in one.data


@pytest.mark.parametrize(
    ("file", "finding", "line"),
    [
        ("permissions-more.json", {"policy": "arn:aws:iam::1:policy/kennel/demo/kennel-demo-r-more", "statement": "Typo"}, 4),
        ("permissions-more.json", {"policy": "kennel-demo-r-more", "statement": "Typo", "element": "Action"}, 7),
        ("permissions-more.json", {"policy": "kennel-demo-r-more", "statement": "statement 1", "element": "Resource"}, 3),
        ("permissions-more.json", {"policy": "kennel-demo-r-more", "element": "Version"}, 2),
        ("permissions-more.json", {"policy": "kennel-demo-r-more"}, 3),
        ("boundary.json", {"policy": "kennel-demo-r-boundary", "statement": "statement 2"}, 4),
        ("trust.json", {"policy": "trust", "statement": "statement 1", "element": "Principal"}, 3),
        ("", {"policy": "AdministratorAccess"}, 0),
        ("", {"policy": ""}, 0),
    ],
)  # fmt: skip
def test_finding_about_a_folder_has_file_and_line(tmp_path, settings, file, finding, line):
    """A statement that stands alone, without a list, is placed too."""
    text = """{
 "Version": "2012-10-17",
 "Statement": [{"Effect": "Allow", "Action": "s3:GetObject", "Resource": "*"},
  {
   "Sid": "Typo",
   "Effect": "Allow",
   "Action": "s3:GetObjcet"
}]}"""
    (tmp_path / "r").mkdir()
    for name in ("permissions-more.json", "boundary.json"):
        (tmp_path / "r" / name).write_text(text)
    trust = '{"Version": "2012-10-17",\n"Statement": {"Effect": "Allow",\n"Principal": "*"}}'
    (tmp_path / "r" / "trust.json").write_text(trust)
    one = Finding("R", "high", "kennel-demo-r", "m", "f", **finding)
    assert source_lines.locate_finding(
        one, roles.build_applied_snapshot(roles.read_roles(settings, folder=tmp_path), settings)
    ) == (f"r/{file}:{line}" if file else "")


def test_same_document_is_checked_once_for_all_principals(monkeypatch):
    """The same document is checked once, and named after each principal that has it."""
    document = doc(allow("s3:GetObjcet", "arn:aws:s3:::once/k"))
    first = linter.findings(parse_policy("p", document), "identity", "a")
    monkeypatch.setattr(linter, "check_document", lambda *_: pytest.fail("read again"))
    second = linter.findings(parse_policy("q", json.loads(json.dumps(document))), "identity", "b")
    assert [(f.policy, f.principal) for f in (*first, *second)] == [("p", "a"), ("q", "b")]


def test_document_types_are_cached_apart():
    document = doc(trust({"AWS": "123456789012"}))
    assert said(document, "trust") == []
    assert said(document, "identity") != []


WORDS = st.sampled_from(
    [
        *(
            "Version",
            "2012-10-17",
            "Statement",
            "Effect",
            "Allow",
            "Deny",
            "Action",
            "NotAction",
            "Resource",
            "Principal",
        ),
        *("Condition", "StringEquals", "ForAllValues:StringLike", "NumericEquals", "DateEquals", "IpAddress", "Bool"),
        *("BinaryEquals", "Null", "ArnLike", "aws:SourceIp", "aws:TagKeys", "s3:prefix", "s3:GetObject", "s3:*", "*"),
        *("arn:aws:s3:::b/k", "arn:aws:s3", "arn:::::", "arn:aws:iam::1:role/*", "${aws:username}", "${x}", "$", "AWS"),
        *("Service", "Federated", "Sid", "\u200b", "\ud800", "true", "1e999", "nan", "::/0", "9" * 400, ""),
    ]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12) | WORDS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS | st.text(max_size=8), inner, max_size=5),
    max_leaves=12,
)
ELEMENTS = ("Sid", "Effect", "Action", "NotAction", "Resource", "NotResource", "Principal", "NotPrincipal", "Condition")
STATEMENTS = st.fixed_dictionaries({}, optional=dict.fromkeys(ELEMENTS, VALUES))
CONDITIONS = st.dictionaries(WORDS, st.dictionaries(WORDS, VALUES, max_size=3), max_size=3)


@settings(max_examples=300, deadline=None)
@given(
    VALUES
    | st.builds(lambda one: doc(one), STATEMENTS)
    | st.builds(lambda condition: doc(allow(Condition=condition)), CONDITIONS),
    st.sampled_from(["identity", "inline", "trust", "boundary", "resource"]),
)
def test_any_json_is_linted(document, kind):
    for one in found(document, kind):
        assert one.message.isascii() and one.message.isprintable()
        assert one.severity in ("high", "medium", "low")


SIGNS = st.lists(st.sampled_from(["a", "b", "/", ":", "*", "?"]), max_size=7).map("".join)


@settings(max_examples=400, deadline=None)
@given(SIGNS, st.lists(st.sampled_from(["a", "b", "/", "*"]), max_size=6).map("".join), st.data())
def test_patterns_meet_whenever_some_arn_fits_both(pattern, target, data):
    """The target's wildcards, all in the sixth part, take any text. An ARN drawn from the target must not be missed."""
    head = "arn:aws:s:r:1:"
    template = re.sub(r"\*+", "${X}", target)
    arn = "".join(
        data.draw(st.text("ab/:", max_size=3)) if part == "${X}" else part for part in re.split(r"(\$\{X\})", template)
    )
    if compile_glob(head + pattern).fullmatch(head + arn):
        assert can_meet(head + pattern, head + template)


@pytest.mark.parametrize(
    ("pattern", "target", "met"),
    [
        ("arn:aws:s3:::b", "arn:${Partition}:s3:::${BucketName}", True),
        ("arn:aws:s3:::b/*", "arn:${Partition}:s3:::${BucketName}", False),
        ("arn:aws:s3:::*", "arn:${Partition}:s3:::${BucketName}/${ObjectName}", True),
        ("arn:aws:s3:::b", "arn:${Partition}:s3:::${BucketName}/${ObjectName}", False),
        ("arn:aws:s3*", "arn:${Partition}:s3:::${BucketName}", True),
        ("arn:aws:iam::1:role/a?", "arn:${Partition}:iam::${Account}:role/${Name}", True),
        ("arn:aws:iam::1:r?le", "arn:${Partition}:iam::${Account}:role/${Name}", False),
        ("arn:aws:iam:x:1:role/a", "arn:${Partition}:iam::${Account}:role/${Name}", False),
        ("arn:aws:dms:x:1:cert:c", "arn:${Partition}:dms:${Region}:${Account}:cert:*", True),
        ("arn:aws:x:y:1:a/b", "arn:${Partition}:x:${Region}:${Account}:a/${One}${Two}", True),
        ("*", "arn:${Partition}:s3:::${BucketName}", True),
        ("", "arn:${Partition}:s3:::${BucketName}", False),
    ],
)
def test_pattern_meets_its_resource_type(pattern, target, met):
    assert can_meet(pattern, target) is met


# Reading


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a":1\n "b":2}', "f:2:2: expected ',', not '\"'"),
        ('{"a":1,}', "f:1:8: expected property name in double quotes, not '}'"),
        ("", "f:1:1: expected value, not the end of the file"),
        ('{"a": ', "f:1:7: expected value, not the end of the file"),
        ('{"a": 1} x', "f:1:10: text after the end of the policy"),
        ('{"a": "b', "f:1:7: unterminated string"),
        ('{"a":\n\n1,\n "b": [{"a":1,\n"a":2}]}', 'f:5:1: duplicate key "a" (first at line 4)'),
        ('{"Action":1, "\\u0041ction":2}', 'f:1:14: duplicate key "Action" (first at line 1)'),
        ('{"NaN": [\n NaN]}', "f:2:2: NaN is not JSON"),
        ("[-Infinity]", "f:1:2: -Infinity is not JSON"),
        ('["\\ud800"]', "f:1:3: half of a surrogate pair is not a character"),
        ("\ufeff{}", "f:1:1: a byte order mark"),
        ("[" * 13 + "1" + "]" * 13, "f:1:14: nested more than 12 levels"),
        ("[" * 50_000, "f: nested more than 12 levels"),
        ("[1" + "0" * 5000 + "]", "f: a number of thousands of digits"),
    ],
)
def test_bad_json_is_reported_by_line_and_column(text, message):
    with pytest.raises(InputError) as raised:
        json_source.parse(text, "f")
    assert str(raised.value).startswith(message)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"x" * 1_000_000, "larger than 100,000 bytes"),
        (b'{"a":\n "\xc3\xff"}', "f.json:2:3: byte 0xc3 is not UTF-8"),
    ],
)
def test_bad_file_is_rejected(tmp_path, body, message):
    path = tmp_path / "f.json"
    path.write_bytes(body)
    with pytest.raises(InputError, match=re.escape(message)):
        json_source.read_text(path)


def test_missing_file_is_rejected(tmp_path):
    with pytest.raises(InputError, match="No such file"):
        json_source.read_text(tmp_path / "f.json")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(codec="utf-8"), max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=5), inner, max_size=4)
    ),
    max_leaves=10,
)


@given(JSON, st.sampled_from([None, 1]), st.booleans())
def test_plain_json_is_parsed_with_the_line_of_every_key(value, indent, ascii):
    """Plain JSON is read as json.loads reads it, and every key has its line."""
    text = json.dumps(value, indent=indent, ensure_ascii=ascii)
    parsed, source = json_source.parse(text, "f")
    assert parsed == value
    rows = text.split("\n")
    for where, line in source.lines.items():
        if isinstance(where[-1], str):
            assert json.dumps(where[-1], ensure_ascii=ascii) in rows[line - 1]
    if isinstance(value, dict | list):
        assert {where for where in source.lines if len(where) == 1} == {
            (key,) for key in (value if isinstance(value, dict) else range(len(value)))
        }


@given(st.text(max_size=40) | st.text('{}[]:,"\\ \n1ae', max_size=25))
def test_any_text_is_parsed_or_rejected(text):
    try:
        json_source.parse(text, "f")
    except InputError as error:
        assert str(error).startswith("f")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            '{"Statement": "${unknown}"}',
            "r/trust.json: unknown placeholder ${unknown}; known: account, region, stack, bucket",
        ),
        ('{"Version": 1,\n"Version": 2}', 'r/trust.json:2:1: duplicate key "Version"'),
        ('["${account}"', "r/trust.json:1:14: expected ','"),
        ("[]", "r/trust.json: a policy is a JSON object with Version and Statement, not a list"),
        ('{"Statement": "100 $"}', "r/trust.json: "),
    ],
)
def test_bad_policy_file_is_rejected_by_name(tmp_path, text, message):
    path = tmp_path / "r" / "trust.json"
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(InputError) as raised:
        roles.read_document(path, settings_of())
    assert str(raised.value).startswith(message)


def test_placeholders_are_expanded_and_iam_variables_kept(tmp_path):
    path = tmp_path / "trust.json"
    path.write_text('{"a": "${account} ${bucket} $${aws:username}"}')
    filled = roles.read_document(path, settings_of()).document["a"]
    assert filled == f"123456789012 {settings_of().bucket} ${{aws:username}}"


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"permissions.json": "{}"}, "r/trust.json is missing: it says who may assume the role"),
        ({"trust.json": "{}"}, "r/permissions.json is missing: it says what the role may do"),
        (
            {"trust.json": "{}", "permisions.json": "{}"},
            "r/permisions.json: unknown file; a role has trust.json, permissions.json",
        ),
        (
            {"trust.json": "{}", "permissions.json": '{\n"a": "x/${aws:username}"}'},
            "r/permissions.json:2: ${aws:username} is a policy variable of IAM: write $${aws:username}",
        ),
    ],
)
def test_incomplete_role_folder_is_rejected(tmp_path, files, message):
    """A folder that does not describe a role is rejected with what it lacks."""
    (tmp_path / "r").mkdir()
    for name, text in files.items():
        (tmp_path / "r" / name).write_text(text)
    with pytest.raises(InputError, match=re.escape(message)):
        roles.read_roles(settings_of(), folder=tmp_path)

"""The suggested policy: all that was seen is allowed, an action that was not seen never is, and the lint has nothing to say."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iampolicy.lint import linter
from iampolicy.policy.document import parse_policy
from iampolicy.policy.evaluate import Caller, Request, Rights, decide_request
from ops.iam import suggest

A = "123456789012"
SAGEMAKER, LAMBDA, LOGS = (f"arn:aws:{service}:eu-west-1:{A}" for service in ("sagemaker", "lambda", "logs"))


def asked(action, resource="*", **context):
    return {"action": action, "resource": resource, "context": context}


def passing(role, service):
    return asked("iam:PassRole", f"arn:aws:iam::{A}:role/{role}", **{"iam:passedtoservice": service})


def statements(*requests):
    return suggest.suggest_policy(requests)["Statement"]


def allowed(document, request):
    rights = Rights((parse_policy("p", document),))
    caller = Caller(f"arn:aws:iam::{A}:role/r")
    return decide_request(Request(caller, request["action"], request["resource"], request["context"]), rights).allowed


@pytest.mark.parametrize(
    ("action", "resource", "pattern"),
    [
        ("s3:GetObject", "arn:aws:s3:::b/shards/a/0001.tar", "arn:aws:s3:::b/shards/*"),
        ("s3:GetObject", "arn:aws:s3:::b/top.json", "arn:aws:s3:::b/top.json"),
        ("s3:ListBucket", f"arn:aws:s3:::b-{A}-eu-west-1", f"arn:aws:s3:::b-{A}-eu-west-1"),
        ("s3:GetObject", "arn:aws:s3:::b/${aws:username}/k", "arn:aws:s3:::b/${$}{aws:username}/*"),
        (
            "sagemaker:CreateTrainingJob",
            f"{SAGEMAKER}:training-job/kennel-dev-20260401-1203-ab",
            f"{SAGEMAKER}:training-job/kennel-dev-*",
        ),
        ("sagemaker:CreateModel", f"{SAGEMAKER}:model/kennel-dev-3f2a91c", f"{SAGEMAKER}:model/kennel-dev-*"),
        ("sagemaker:CreateModel", f"{SAGEMAKER}:model/kennel-dev-facade", f"{SAGEMAKER}:model/kennel-dev-facade"),
        ("sagemaker:InvokeEndpoint", f"{SAGEMAKER}:endpoint/kennel-dev", f"{SAGEMAKER}:endpoint/kennel-dev"),
        ("lambda:GetFunction", f"{LAMBDA}:function:f:7", f"{LAMBDA}:function:f:*"),
        ("lambda:GetFunction", f"{LAMBDA}:function:f:live", f"{LAMBDA}:function:f:live"),
        (
            "logs:PutLogEvents",
            f"{LOGS}:log-group:/aws/lambda/f:log-stream:2026/04/01/[$LATEST]ab",
            f"{LOGS}:log-group:/aws/lambda/f:log-stream:*",
        ),
        (
            "ec2:StopInstances",
            f"arn:aws:ec2:eu-west-1:{A}:instance/i-0123456789abcdef0",
            f"arn:aws:ec2:eu-west-1:{A}:instance/i-*",
        ),
        (
            "kms:Decrypt",
            f"arn:aws:kms:eu-west-1:{A}:key/11111111-2222-3333-4444-555555555555",
            f"arn:aws:kms:eu-west-1:{A}:key/11111111-2222-3333-4444-555555555555",
        ),
        ("iam:GetRole", f"arn:aws:iam::{A}:role/r-{A}-x", f"arn:aws:iam::{A}:role/r-{A}-x"),
        ("iam:GetRole", f"arn:aws:iam::{A}:role/7f3a21b9-ci", f"arn:aws:iam::{A}:role/7f3a21b9-ci"),
        ("ec2:DescribeInstances", "*", "*"),
        ("ec2:DescribeInstances", f"arn:aws:ec2:eu-west-1:{A}:instance/i", "*"),
    ],
)
def test_varying_part_becomes_a_wildcard(action, resource, pattern):
    assert statements(asked(action, resource))[0]["Resource"] == [pattern]


def test_actions_with_the_same_resources_share_a_statement():
    assert statements(
        asked("s3:putobject", "arn:aws:s3:::b/jobs/1"),
        asked("s3:GetObject", "arn:aws:s3:::b/jobs/2"),
        asked("s3:GetObject", "arn:aws:s3:::b/jobs/3/deep"),
        asked("s3:ListBucket", "arn:aws:s3:::b"),
        asked("s3:DeleteObject", "arn:aws:s3:::b/checkpoints/1"),
        asked("sts:GetCallerIdentity"),
        asked("ec2:DescribeVpcs"),
    ) == [
        {
            "Sid": "S3Bucket",
            "Effect": "Allow",
            "Action": ["s3:ListBucket"],
            "Resource": ["arn:aws:s3:::b"],
        },
        {
            "Sid": "S3Objects",
            "Effect": "Allow",
            "Action": ["s3:DeleteObject"],
            "Resource": ["arn:aws:s3:::b/checkpoints/*"],
        },
        {
            "Sid": "S3Objects2",
            "Effect": "Allow",
            "Action": ["s3:GetObject", "s3:PutObject"],
            "Resource": ["arn:aws:s3:::b/jobs/*"],
        },
        {
            "Sid": "TakeNoResource",
            "Effect": "Allow",
            "Action": ["ec2:DescribeVpcs", "sts:GetCallerIdentity"],
            "Resource": ["*"],
        },
    ]


def test_role_is_passed_only_to_the_recorded_service():
    document = suggest.suggest_policy(
        [
            passing("box", "ec2.amazonaws.com"),
            passing("a", "sagemaker.amazonaws.com"),
            passing("b", "sagemaker.amazonaws.com"),
        ]
    )
    assert [(s["Sid"], len(s["Resource"])) for s in document["Statement"]] == [("PassToEc2", 1), ("PassToSagemaker", 2)]
    assert allowed(document, passing("box", "ec2.amazonaws.com"))
    assert not allowed(document, passing("box", "sagemaker.amazonaws.com"))
    assert not allowed(document, passing("a", "ec2.amazonaws.com"))


def test_scopable_action_on_all_resources_stands_apart():
    """An action that could be scoped and was called on everything gets its own statement."""
    assert [s["Sid"] for s in statements(asked("s3:GetObject"), asked("s3:ListAllMyBuckets"))] == [
        "S3Everywhere",
        "TakeNoResource",
    ]


def test_empty_record_gives_no_statement():
    assert suggest.suggest_policy([]) == {"Version": "2012-10-17", "Statement": []}


def test_policy_over_the_quota_shares_resources_per_service():
    """Six actions, each on all models but one: the exact policy names each model five times."""
    verbs = ("Create", "Delete", "Describe")
    names = [f"sagemaker:{verb}{kind}" for verb in verbs for kind in ("Model", "EndpointConfig")]
    models = [f"{SAGEMAKER}:model/{'m' * 40}-{'abcdefghijklmno'[at]}" for at in range(15)]
    seen = [asked(name, model) for at, name in enumerate(names) for other, model in enumerate(models) if other != at]
    few = [one for one in seen if one["resource"] in models[:3]]
    assert len(suggest.suggest_policy(few)["Statement"]) == 4
    document = suggest.suggest_policy(seen)
    assert len(document["Statement"]) == 1
    assert len(json.dumps(document, separators=(",", ":"))) < 6144
    assert all(allowed(document, request) for request in seen)
    assert not allowed(document, asked("sagemaker:InvokeEndpoint", models[0]))


POOL = st.sampled_from(
    [
        *(
            "s3:GetObject",
            "s3:PutObject",
            "s3:ListBucket",
            "s3:ListAllMyBuckets",
            "sagemaker:CreateModel",
            "kms:Decrypt",
        ),
        *(
            "sagemaker:DescribeTrainingJob",
            "lambda:InvokeFunction",
            "logs:PutLogEvents",
            "ec2:RunInstances",
            "iam:GetRole",
        ),
        *("ec2:DescribeInstances", "sts:GetCallerIdentity", "no:SuchAction"),
    ]
)
NAMES = st.lists(
    st.sampled_from(
        [
            "kennel",
            "a",
            "B",
            "/",
            ":",
            "-",
            "20260401",
            "3f2a91c",
            "i-0abcdef1",
            "${",
            "}",
            "*",
            "?",
            "$",
            "7",
            A,
            "\u00e9",
            " ",
        ]
    ),
    min_size=1,
    max_size=7,
).map("".join)
HEADS = st.sampled_from(
    ["arn:aws:s3:::", f"{SAGEMAKER}:", f"{LAMBDA}:", f"{LOGS}:", f"arn:aws:iam::{A}:", f"arn:aws:kms::{A}:key/"]
)
REQUESTS = st.lists(
    st.builds(asked, POOL, st.just("*") | st.builds(str.__add__, HEADS, NAMES))
    | st.builds(
        passing, st.sampled_from(["a", "b", "p/c"]), st.sampled_from(["ec2.amazonaws.com", "lambda.amazonaws.com"])
    )
    | st.builds(asked, st.just("iam:PassRole"), st.just(f"arn:aws:iam::{A}:role/free")),
    max_size=12,
)


@settings(max_examples=300, deadline=None)
@given(REQUESTS, POOL, NAMES)
def test_recorded_requests_are_allowed_and_no_other_action(requests, other, name):
    document = suggest.suggest_policy(requests)
    assert all(allowed(document, request) for request in requests)
    if other not in {request["action"] for request in requests}:
        assert not allowed(document, asked(other, f"arn:aws:s3:::{name}"))
        assert not allowed(document, asked(other))
    sids = [statement["Sid"] for statement in document["Statement"]]
    assert len(sids) == len(set(sids))
    assert all(sid.isalnum() and sid.isascii() for sid in sids)


@settings(max_examples=100, deadline=None)
@given(REQUESTS, st.randoms())
def test_order_of_the_requests_does_not_matter(requests, random):
    mixed = requests + requests[:3]
    random.shuffle(mixed)
    assert json.dumps(suggest.suggest_policy(mixed)) == json.dumps(suggest.suggest_policy(requests))


def test_suggestion_has_no_lint_finding():
    document = suggest.suggest_policy(
        [
            asked("s3:GetObject", "arn:aws:s3:::b/jobs/1"),
            asked("s3:ListBucket", "arn:aws:s3:::b"),
            asked("sagemaker:CreateTrainingJob", f"{SAGEMAKER}:training-job/kennel-dev-3f2a91c"),
            asked("lambda:InvokeFunction", f"{LAMBDA}:function:f:live"),
            asked("ec2:DescribeInstances"),
            passing("box", "ec2.amazonaws.com"),
        ]
    )
    assert linter.findings(parse_policy("p", document), "identity") == []

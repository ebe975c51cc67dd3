"""The evaluator: AWS's rules one by one, and what must hold for any policy."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iampolicy.policy.document import ArnGlob, compile_arn_glob, compile_glob, parse_policy
from iampolicy.policy.evaluate import Caller, Request, Rights, decide_request

ROLE = Caller("arn:aws:iam::111111111111:role/r", "arn:aws:sts::111111111111:assumed-role/r/s")
USER = Caller("arn:aws:iam::111111111111:user/u")
BUCKET = "arn:aws:s3:::b/k"


def doc(*statements, version="2012-10-17"):
    return parse_policy("p", {"Version": version, "Statement": list(statements)})


def allow(action="s3:GetObject", resource=BUCKET, **more):
    return {"Effect": "Allow", "Action": action, "Resource": resource} | more


def deny(action="s3:GetObject", resource=BUCKET, **more):
    return allow(action, resource, **more) | {"Effect": "Deny"}


def asked(*statements, action="s3:GetObject", resource=BUCKET, caller=ROLE, context=None, version="2012-10-17", **more):
    held = (doc(*statements, version=version),) if statements else ()
    request = Request(caller, action, resource, context or {})
    rights = Rights(held, more.pop("boundary", None), more.pop("session", None))
    return decide_request(request, rights, **more)


def effect(*statements, **more):
    return asked(*statements, **more).effect


@pytest.mark.parametrize(
    ("statements", "expected"),
    [
        ([], "implicitDeny"),
        ([allow()], "allowed"),
        ([allow("S3:getobject")], "allowed"),
        ([allow("s3:Get*")], "allowed"),
        ([allow("s3:?etObject")], "allowed"),
        ([allow("s3:[G]etObject")], "implicitDeny"),
        ([allow("s3:PutObject")], "implicitDeny"),
        ([allow(resource="arn:aws:s3:::b/*")], "allowed"),
        ([allow(resource="arn:aws:s3:::B/*")], "implicitDeny"),
        ([allow(resource="arn:aws:s3*")], "allowed"),
        ([allow(resource="arn:aws:s3:::b")], "implicitDeny"),
        ([allow(), deny("s3:*", "*")], "explicitDeny"),
        ([allow("*", "*"), deny(resource="arn:aws:s3:::other/*")], "allowed"),
        ([{"Effect": "Allow", "NotAction": "iam:*", "Resource": "*"}], "allowed"),
        ([{"Effect": "Allow", "NotAction": "s3:*", "Resource": "*"}], "implicitDeny"),
        ([{"Effect": "Allow", "Action": "s3:*", "NotResource": "arn:aws:s3:::b/*"}], "implicitDeny"),
        ([{"Effect": "Allow", "Action": "s3:*", "NotResource": "arn:aws:s3:::c/*"}], "allowed"),
        (
            [{"Effect": "allow", "Action": "*", "Resource": "*"}],
            "explicitDeny",
        ),  # IAM stores no such thing; it gives nothing
    ],
)
def test_actions_and_resources_decide(statements, expected):
    assert effect(*statements) == expected


@pytest.mark.parametrize(
    ("pattern", "arn", "fits"),
    [
        ("arn:aws:logs:us-east-1:1:log-group:/a/*", "arn:aws:logs:us-east-1:1:log-group:/a/b:log-stream:c", True),
        ("arn:aws:lambda:*:1:function:f", "arn:aws:lambda:us-east-1:1:function:f", True),
        ("arn:aws:lambda:us-*-1:1:function:f", "arn:aws:lambda:us-east-1:1:function:f", True),
        ("arn:aws:iam::1:role/a*z", "arn:aws:iam::1:role/a/b/z", True),
        ("arn:aws:ec2:u*1:instance/*", "arn:aws:ec2:us-east-1:1:instance/i", False),
        ("arn:aws:ec2:*:instance/*", "arn:aws:ec2:us-east-1:1:instance/i", True),
    ],
)
def test_arn_wildcards_match_within_their_parts(pattern, arn, fits):
    assert (effect(allow("x:y", pattern), action="x:y", resource=arn) == "allowed") is fits


@pytest.mark.parametrize(
    ("statement", "context", "expected"),
    [
        (allow(resource="arn:aws:s3:::b/${aws:username}"), {"aws:username": "k"}, "allowed"),
        (allow(resource="arn:aws:s3:::b/${aws:username}"), {}, "implicitDeny"),
        (allow(resource="arn:${aws:partition}:s3:::b/k"), {"aws:partition": "aws"}, "implicitDeny"),
        (allow(resource="arn:aws:s3::${x}:b/k"), {"x": ""}, "implicitDeny"),
        ({"Effect": "Allow", "Action": "*", "NotResource": "arn:aws:s3:::b/${aws:username}"}, {}, "implicitDeny"),
        ({"Effect": "Allow", "Action": "*", "NotResource": "arn:aws:s3:::b/${aws:username}"}, {"aws:username": "u"}, "allowed"),
        (allow(Condition={"StringNotEquals": {"a:b": "${aws:username}"}}), {"a:b": "x"}, "implicitDeny"),
        (allow(Condition={"StringNotEquals": {"a:b": "${aws:username}"}}), {"a:b": "x", "aws:username": "u"}, "allowed"),
        (allow(Condition={"StringNotEquals": {"a:b": "${aws:username}"}}), {}, "allowed"),
        (allow(Condition={"StringEquals": {"a:b": ["${aws:username}", "x"]}}), {"a:b": "x"}, "allowed"),
        (allow(Condition={"ForAllValues:StringEquals": {"a:b": ["${aws:username}"]}}), {"a:b": ["x"]}, "implicitDeny"),
    ],
)  # fmt: skip
def test_unset_variable_never_matches_an_allow(statement, context, expected):
    """Nor does one before the fifth colon of an ARN, where AWS fills in none."""
    assert effect(statement, context=context) == expected


def test_negated_deny_with_an_unset_variable_denies():
    held = deny(Condition={"StringNotEquals": {"a:b": "${aws:username}"}})
    assert effect(allow(), held, context={"a:b": "x"}) == "explicitDeny"


@pytest.mark.parametrize("operator", ["StringEquals", "StringNotEquals"])
def test_unknown_variable_is_possible(operator):
    one = allow(Condition={operator: {"a:b": "${aws:username}"}})
    assert effect(one, context={"a:b": "x"}, possible=True) == "allowed"


def condition(operator, key, value, context):
    return effect(allow(Condition={operator: {key: value}}), context=context) == "allowed"


@pytest.mark.parametrize(
    ("operator", "value", "given", "expected"),
    [
        ("StringEquals", "a", "a", True),
        ("StringEquals", ["a", "b"], "b", True),
        ("StringEquals", "a", "A", False),
        ("StringEquals", "a*", "ab", False),
        ("StringEquals", "a", None, False),
        ("StringEqualsIfExists", "a", None, True),
        ("StringNotEquals", ["a", "b"], "b", False),
        ("StringNotEquals", ["a", "b"], "c", True),
        ("StringNotEquals", "a", None, True),
        ("StringEqualsIgnoreCase", "ab", "AB", True),
        ("StringNotEqualsIgnoreCase", "ab", "AB", False),
        ("StringLike", "a*", "abc", True),
        ("StringNotLike", "a*", "abc", False),
        ("NumericLessThan", "5", "4.5", True),
        ("NumericLessThanEquals", 5, "5", True),
        ("NumericGreaterThan", "5", "5", False),
        ("NumericGreaterThanEquals", "5", "5", True),
        ("NumericEquals", "22", "22.0", True),
        ("NumericNotEquals", "22", "23", True),
        ("NumericEquals", "22", "many", False),
        ("DateLessThan", "2026-01-01T00:00:00Z", "2025-12-31T23:59:59Z", True),
        ("DateGreaterThan", "2026-01-01", "1800000000", True),
        ("DateEquals", "2026-01-01T00:00:00+00:00", "2026-01-01T00:00:00Z", True),
        ("DateNotEquals", "2026-01-01", "2026-01-01", False),
        ("Bool", True, "true", True),
        ("Bool", "true", None, False),
        ("BoolIfExists", "true", None, True),
        ("ForAnyValue:StringEqualsIfExists", "a", None, False),  # as seen on AWS: re:Post QU9HFmDzP0QGuU-fd7rS6B7w
        ("ForAnyValue:StringEqualsIfExists", "a", ["b", "a"], True),
        ("ForAnyValue:StringNotEqualsIfExists", "a", None, False),
        ("ForAllValues:StringEqualsIfExists", "a", None, True),
        ("Null", "true", [], True),
        ("Null", "false", [], False),
        ("Null", "true", "", False),
        ("StringEqualsIfExists", "a", [], True),
        ("StringEquals", "a", [], False),
        ("StringNotEquals", "a", [], True),
        ("BinaryEquals", "YQ==", "YQ==", True),
        ("BinaryEquals", "YQ==", "not base64", False),
        ("IpAddress", "10.0.0.0/8", "10.1.2.3", True),
        ("IpAddress", "2001:db8::/32", "2001:db8::1", True),
        ("NotIpAddress", "10.0.0.0/8", "10.1.2.3", False),
        ("NotIpAddress", "10.0.0.0/8", None, True),
        ("ArnLike", "arn:aws:s3:::*", "arn:aws:s3:::b", True),
        ("ArnEquals", "arn:aws:sns:*:1:t", "arn:aws:sns:eu:1:t", True),
        ("ArnLike", "arn:aws:*:t", "arn:aws:sns:eu:1:t", False),
        ("ArnNotLike", "arn:aws:s3:::*", "arn:aws:s3:::b", False),
        ("Null", "true", None, True),
        ("Null", "false", None, False),
        ("Null", "false", "x", True),
        ("ForAllValues:StringEquals", ["a", "b"], ["a"], True),
        ("ForAllValues:StringEquals", ["a", "b"], ["a", "c"], False),
        ("ForAllValues:StringEquals", ["a"], None, True),
        ("ForAllValues:StringNotEquals", ["a"], ["b", "c"], True),
        ("ForAnyValue:StringEquals", ["a"], ["b", "a"], True),
        ("ForAnyValue:StringLike", ["a*"], None, False),
        ("ForAnyValue:StringNotEquals", ["a"], ["a"], False),
        ("ForAnyValue:StringNotEquals", ["a"], None, False),
        ("StringSortOfEquals", "a", "a", False),
        ("ForSome:StringEquals", "a", "a", False),
    ],
)
def test_condition_operators_compare(operator, value, given, expected):
    context = {} if given is None else {"aws:k": given}
    assert condition(operator, "AWS:K", value, context) is expected


def test_unknown_operator_does_not_lift_a_deny():
    assert effect(allow(), deny(Condition={"StringSortOfEquals": {"aws:k": "a"}})) == "explicitDeny"


def test_variables_are_literal_with_defaults_by_version():
    """Variables are literal, have defaults, and need the policy version 2012-10-17."""
    mine = allow(resource="arn:aws:s3:::b/${aws:username}/*")
    other = {"context": {"aws:username": "*"}, "resource": "arn:aws:s3:::b/me/x"}
    assert effect(mine, context={"aws:username": "me"}, resource="arn:aws:s3:::b/me/x") == "allowed"
    assert effect(mine, **other) == "implicitDeny"
    assert effect(mine, resource="arn:aws:s3:::b/me/x") == "implicitDeny"
    assert effect(allow(resource="arn:aws:s3:::b/${aws:username, 'k'}")) == "allowed"
    assert (
        effect(mine, context={"aws:username": "me"}, resource="arn:aws:s3:::b/me/x", version="2008-10-17")
        == "implicitDeny"
    )
    assert effect(allow(resource="arn:aws:s3:::b/${*}"), resource="arn:aws:s3:::b/*") == "allowed"
    assert effect(allow(resource="arn:aws:s3:::b/${*}")) == "implicitDeny"
    assert condition(
        "StringEquals", "s3:prefix", "home/${aws:username}", {"s3:prefix": "home/me", "aws:username": "me"}
    )


def test_boundary_and_session_policy_only_restrict():
    assert effect(allow("s3:*", "*"), boundary=doc(allow("ec2:*", "*"))) == "implicitDeny"
    assert asked(allow("s3:*", "*"), boundary=doc(allow("ec2:*", "*"))).layer == "boundary"
    assert effect(boundary=doc(allow("*", "*"))) == "implicitDeny"
    assert effect(allow(), boundary=doc(allow()), session=(doc(allow("s3:Put*")),)) == "implicitDeny"
    assert effect(allow(), boundary=doc(deny(), allow("*", "*"))) == "explicitDeny"
    assert effect(allow(), session=()) == "implicitDeny"


def by_resource(principal, **more):
    return doc(allow(Principal=principal) | more)


@pytest.mark.parametrize(
    ("principal", "caller", "expected"),
    [
        ("*", ROLE, "allowed"),
        ({"AWS": "*"}, USER, "allowed"),
        ({"AWS": "arn:aws:iam::111111111111:root"}, ROLE, "implicitDeny"),
        ({"AWS": "111111111111"}, ROLE, "implicitDeny"),
        ({"AWS": ROLE.arn}, ROLE, "allowed"),
        ({"AWS": ROLE.session}, ROLE, "allowed"),
        ({"AWS": "arn:aws:sts::111111111111:assumed-role/r/other"}, ROLE, "implicitDeny"),
        ({"AWS": [USER.arn, "x"]}, USER, "allowed"),
        ({"Service": "ec2.amazonaws.com"}, Caller(service="ec2.amazonaws.com"), "allowed"),
        ({"Service": "ec2.amazonaws.com"}, ROLE, "implicitDeny"),
        ({"Federated": "cognito"}, Caller(federated="cognito"), "allowed"),
    ],
)
def test_resource_policy_admits_the_named_caller(principal, caller, expected):
    assert effect(caller=caller) == "implicitDeny"
    request, rights = Request(caller, "s3:GetObject", BUCKET), Rights()
    assert decide_request(request, rights, by_resource(principal)).effect == expected


ROOT = "arn:aws:iam::111111111111:root"


@pytest.mark.parametrize(
    ("spared", "caller", "denied"),
    [
        ({"AWS": [ROLE.arn, ROLE.session, ROOT]}, ROLE, False),
        ({"AWS": [ROLE.arn, ROLE.session, "111111111111"]}, ROLE, False),
        ({"AWS": [ROLE.arn, ROOT]}, ROLE, True),  # not this session of it
        ({"AWS": [ROLE.arn, ROLE.session]}, ROLE, True),  # not the account that it is in
        ({"AWS": [ROLE.arn, ROOT]}, Caller(ROLE.arn), False),  # some session of it
        ({"AWS": [USER.arn, ROOT]}, USER, False),
        ({"AWS": [USER.arn]}, USER, True),
        ({"AWS": ROOT}, USER, True),
        ({"AWS": ROOT}, Caller(ROOT), False),
        ({"AWS": [USER.arn, ROOT]}, ROLE, True),
        ({"Service": "ec2.amazonaws.com"}, Caller(service="ec2.amazonaws.com"), False),
        ({"Service": "ec2.amazonaws.com"}, USER, True),
        ("*", USER, False),
    ],
)
def test_deny_with_not_principal_needs_all_full_arns(spared, caller, denied):
    """As docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_notprincipal.html has it."""
    request = Request(caller, "s3:GetObject", BUCKET)
    all_but = doc(
        {"Effect": "Deny", "NotPrincipal": spared, "Action": "*", "Resource": "*"},
        {"Effect": "Allow", "Principal": "*", "Action": "*", "Resource": "*"},
        {"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "*", "Resource": "*"},
    )
    assert (decide_request(request, Rights((doc(allow()),)), all_but).effect == "explicitDeny") is denied


def test_deny_with_not_principal_denies_bounded_callers():
    all_but = doc({"Effect": "Deny", "NotPrincipal": {"AWS": [USER.arn, ROOT]}, "Action": "*", "Resource": "*"})
    request, may = Request(USER, "s3:GetObject", BUCKET), (doc(allow()),)
    assert decide_request(request, Rights(may), all_but).allowed
    assert decide_request(request, Rights(may, doc(allow("*", "*"))), all_but).effect == "explicitDeny"


def test_named_principal_decides_whether_the_boundary_counts():
    request, bound = Request(ROLE, "s3:GetObject", BUCKET), Rights((), doc(allow("ec2:*", "*")))
    assert not decide_request(request, bound, by_resource({"AWS": ROLE.arn})).allowed
    assert decide_request(request, bound, by_resource({"AWS": ROLE.session})).allowed
    assert decide_request(Request(USER, "s3:GetObject", BUCKET), bound, by_resource({"AWS": USER.arn})).allowed


def test_cross_account_needs_both_policies():
    request, mine = Request(ROLE, "s3:GetObject", BUCKET), Rights((doc(allow()),))
    theirs = by_resource({"AWS": "arn:aws:iam::111111111111:root"})
    assert decide_request(request, mine, theirs, owner="222222222222").allowed
    assert decide_request(request, mine, None, owner="222222222222").layer == "resource"
    assert decide_request(request, Rights(), by_resource({"AWS": ROLE.arn}), owner="222222222222").layer == "identity"


def test_cross_account_allow_does_not_lift_the_boundary():
    mine = Rights((doc(allow()),), doc(allow("ec2:*", "*")))
    theirs = by_resource({"AWS": USER.arn})
    request = Request(USER, "s3:GetObject", BUCKET)
    assert decide_request(request, mine, theirs).allowed  # in one account it does, for a user who is named
    assert decide_request(request, mine, theirs, owner="222222222222").layer == "boundary"


def test_assuming_a_role_needs_its_trust():
    trust = doc({"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::111111111111:root"}, "Action": "sts:AssumeRole"})
    request = Request(USER, "sts:AssumeRole", "arn:aws:iam::111111111111:role/t")
    may = Rights((doc(allow("sts:AssumeRole", "*")),))
    assert decide_request(request, may, trust, required=True).allowed
    assert not decide_request(request, Rights(), trust, required=True).allowed
    assert not decide_request(request, may, doc(), required=True).allowed
    direct = doc({"Effect": "Allow", "Principal": {"AWS": USER.arn}, "Action": "sts:AssumeRole"})
    assert decide_request(request, Rights(), direct, required=True).allowed


def test_decision_names_its_statement_and_missing_keys():
    decision = asked(allow(Sid="Tls", Condition={"Bool": {"aws:SecureTransport": "true"}}))
    assert (decision.effect, decision.missing) == ("implicitDeny", {"aws:securetransport"})
    (found,) = asked(allow("s3:*", Sid="All")).deciding
    assert (found.layer, found.policy, found.statement.name) == ("identity", "p", "All")


def test_possible_mode_assumes_unknown_keys():
    guarded = allow(Condition={"StringEquals": {"aws:PrincipalOrgID": "o-1"}})
    assert not asked(guarded).allowed
    assert asked(guarded, possible=True).allowed
    assert asked(allow(), deny(Condition={"Bool": {"aws:SecureTransport": "false"}}), possible=True).allowed
    over = allow(Condition={"DateLessThan": {"aws:CurrentTime": "2020-01-01"}})
    assert not asked(over, possible=True, context={"aws:currenttime": "2026-01-01"}).allowed


ACTIONS = st.sampled_from(["s3:GetObject", "s3:*", "s3:Put*", "*", "ec2:RunInstances"])
RESOURCES = st.sampled_from(
    ["*", BUCKET, "arn:aws:s3:::b/*", "arn:aws:s3:::${aws:username}/*", "arn:aws:ec2:*:*:instance/*"]
)
CONDITIONS = st.sampled_from(
    [
        {},
        {"Bool": {"aws:SecureTransport": "true"}},
        {"StringNotEquals": {"aws:username": "b"}},
        {"ForAllValues:StringLike": {"aws:TagKeys": "a*"}},
        {"Null": {"aws:username": "true"}},
    ]
)
STATEMENTS = st.builds(
    lambda effect, kind, action, resource, condition: {"Effect": effect, kind: action, "Resource": resource} | ({"Condition": condition} if condition else {}),
    st.sampled_from(["Allow", "Deny"]), st.sampled_from(["Action", "Action", "NotAction"]), ACTIONS, RESOURCES, CONDITIONS,
)  # fmt: skip
POLICIES = st.lists(STATEMENTS, max_size=5)
CONTEXTS = st.dictionaries(
    st.sampled_from(["aws:securetransport", "aws:username", "aws:tagkeys"]), st.sampled_from(["true", "b", "ab"])
)


@settings(max_examples=400)
@given(POLICIES, STATEMENTS, CONTEXTS, st.sampled_from(["s3:GetObject", "ec2:RunInstances"]), st.booleans())
def test_allow_never_narrows_and_deny_never_widens(held, more, context, action, possible):
    before = asked(*held, action=action, context=context, possible=possible).allowed
    after = asked(*held, more, action=action, context=context, possible=possible).allowed
    assert (after >= before) if more["Effect"] == "Allow" else (after <= before)


@given(POLICIES, POLICIES, CONTEXTS)
def test_boundary_never_widens(held, boundary, context):
    assert asked(*held, context=context, boundary=doc(*boundary)).allowed <= asked(*held, context=context).allowed


@given(POLICIES, CONTEXTS)
def test_allowed_requests_are_possible(held, context):
    assert asked(*held, context=context).allowed <= asked(*held, context=context, possible=True).allowed


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(), lambda t: st.lists(t) | st.dictionaries(st.text(), t)
    )
)
def test_any_json_is_evaluated(document):
    request = Request(ROLE, "s3:GetObject", BUCKET)
    for body in (
        document,
        {"Statement": document},
        {"Statement": [{"Effect": "Allow", "Action": document, "Condition": {"StringEquals": document}}]},
    ):
        decide_request(request, Rights((parse_policy("p", body),)), parse_policy("r", body))


@given(st.text("ab:*?", max_size=12), st.text("ab:", max_size=14), st.booleans())
def test_both_arn_matchers_agree(pattern, text, crossing):
    slow, fast = ArnGlob(pattern, crossing), compile_arn_glob(pattern, crossing)
    if pattern != "*":  # which is any ARN, however it is asked
        assert bool(slow.fullmatch(text)) == bool(fast.fullmatch(text))
    if ":" not in pattern:
        assert bool(compile_glob(pattern).fullmatch(text)) == bool(
            re.fullmatch(pattern.replace("?", ".").replace("*", ".*"), text)
        )


def test_pattern_with_many_stars_is_matched_at_once():
    """It took seconds, and more with every star."""
    assert effect(allow("*a" * 30 + "*b", "*"), action="a" * 500) == "implicitDeny"
    assert effect(allow("x:y", "arn:" + "*a" * 30 + "*b"), action="x:y", resource="arn:" + "a" * 500) == "implicitDeny"
    assert effect(allow("x:y", "arn:*:*:*:*:*a*b"), action="x:y", resource="arn:" + "a:" * 500) == "implicitDeny"

"""Differences in meaning: another spelling is no difference, and a wildcard is described by what it covers in addition."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iampolicy.account.snapshot import Managed, Principal
from iampolicy.policy import semantics
from iampolicy.policy.document import parse_policy
from iampolicy.policy.evaluate import Caller, Request, Rights, decide_request
from iampolicy.policy.semantics import Grant, list_permissions, normalise_document, subtract_permissions
from ops.iam import diff, roles
from tests.conftest import settings_of

SETTINGS = settings_of()
WANTED = roles.read_roles(SETTINGS)
BUCKET = "arn:aws:s3:::b"


def live():
    """The account as iam.apply leaves it, tags and all."""
    want = roles.build_applied_snapshot(WANTED, SETTINGS)
    tagged = {
        name: replace(role, tags={tag["Key"]: tag["Value"] for tag in SETTINGS.tags(name)})
        for name, role in want.roles.items()
    }
    return replace(want, roles=tagged)


def found(have, want=None):
    return [
        (one.kind, one.apply, one.text)
        for one in diff.find_differences(have, want or roles.build_applied_snapshot(WANTED, SETTINGS), SETTINGS)
    ]


def allow(action, resource="*", **more):
    return {"Effect": "Allow", "Action": action, "Resource": resource, **more}


def doc(*statements):
    return {"Version": "2012-10-17", "Statement": list(statements)}


def says(document):
    return list_permissions(parse_policy("p", document))


ACTIONS = st.sampled_from(
    ["s3:GetObject", "s3:Get*", "s3:*", "S3:getobject", "ec2:RunInstances", "ec2:*Instances", "*"]
)
RESOURCES = st.sampled_from(
    ["*", f"{BUCKET}/*", f"{BUCKET}/x", f"{BUCKET}/?", "arn:aws:s3:::${aws:username}/*", BUCKET]
)
CONDITIONS = st.dictionaries(
    st.sampled_from(["StringEquals", "StringLike"]),
    st.dictionaries(
        st.sampled_from(["aws:PrincipalTag/x", "s3:prefix"]),
        st.lists(st.sampled_from(["a", "b", "c*"]), min_size=1, max_size=3),
        min_size=1,
        max_size=2,
    ),
    max_size=2,
)


@st.composite
def statements(draw):
    many = {"min_size": 1, "max_size": 3}
    one = {
        "Effect": draw(st.sampled_from(["Allow", "Deny"])),
        draw(st.sampled_from(["Action", "NotAction"])): draw(st.lists(ACTIONS, **many)),
        draw(st.sampled_from(["Resource", "NotResource"])): draw(st.lists(RESOURCES, **many)),
    }
    if condition := draw(CONDITIONS):
        one["Condition"] = condition
    return one


DOCUMENTS = st.builds(lambda found: doc(*found), st.lists(statements(), max_size=4))


def rewritten(value, draw):
    """The same policy as another hand writes it: in another order, and one thing bare."""
    if isinstance(value, dict):
        return {key: rewritten(one, draw) for key, one in draw(st.permutations(list(value.items())))}
    if isinstance(value, list):
        mixed = [rewritten(one, draw) for one in draw(st.permutations(value))]
        return mixed[0] if len(mixed) == 1 and draw(st.booleans()) else mixed
    return value


@given(DOCUMENTS)
def test_document_does_not_differ_from_itself(document):
    assert subtract_permissions(says(document), says(document)) == []


@given(DOCUMENTS, st.data())
def test_order_and_single_values_make_no_difference(document, data):
    other = rewritten(document, data.draw)
    assert normalise_document(other) == normalise_document(document)
    assert says(other) == says(document)


@given(DOCUMENTS)
def test_normal_form_is_stable_and_keeps_the_meaning(document):
    once = normalise_document(document)
    assert normalise_document(once) == once
    assert says(once) == says(document)


CALLS = [
    (action, resource)
    for action in ("s3:GetObject", "s3:GetObjectAcl", "s3:PutObject", "ec2:RunInstances", "iam:GetRole")
    for resource in (BUCKET, f"{BUCKET}/x", f"{BUCKET}/xy", "arn:aws:s3:::ana/x", "arn:aws:iam::1:role/r")
]


@given(statements(), statements())
def test_superset_allows_everything_of_the_subset(one, other):
    """Against the evaluator: where nothing is gained, no call is."""
    one, other = doc(one | {"Effect": "Allow"}), doc(other | {"Effect": "Allow"})
    if subtract_permissions(says(one), says(other)):
        return
    for action, resource in CALLS:
        for context in ({}, {"aws:username": "ana", "aws:principaltag/x": "a", "s3:prefix": "b"}):
            request = Request(Caller("arn:aws:iam::1:role/r"), action, resource, context)
            if decide_request(request, Rights((parse_policy("one", one),))).allowed:
                assert decide_request(request, Rights((parse_policy("other", other),))).allowed, (action, resource)


@pytest.mark.parametrize(
    ("whole", "part", "covered"),
    [
        ("s3:Get*", "s3:GetObject", True),
        ("s3:GetObject", "s3:Get*", False),
        ("s3:Get*", "S3:GETOBJECT", True),
        ("s3:*", "s3:Get*", True),
        ("s3:Get?", "s3:Get*", False),  # the star is more than one sign
        ("s3:Get*", "s3:Get?", True),
        ("*", "iam:PassRole", True),
    ],
)
def test_pattern_covers_a_narrower_pattern(whole, part, covered):
    (one,), (other,) = says(doc(allow(whole))), says(doc(allow(part)))
    assert semantics.is_superset(one, other) is covered


@pytest.mark.parametrize(
    ("one", "other", "gained"),
    [
        (allow("s3:Get*"), allow("s3:GetObject"), [Grant("Allow", ("s3:Get*",), ("*",), beyond=("s3:GetObject",))]),
        (allow("s3:GetObject"), allow("s3:Get*"), []),
        (allow("s3:GetObject", f"{BUCKET}/x"), allow("s3:*", f"{BUCKET}/*"), []),
        (
            allow(["s3:GetObject", "s3:PutObject"], [f"{BUCKET}/x", f"{BUCKET}/y"]),
            allow("s3:GetObject", f"{BUCKET}/*"),
            [Grant("Allow", ("s3:PutObject",), (f"{BUCKET}/x", f"{BUCKET}/y"))],
        ),
        (
            allow("s3:GetObject"),
            allow("s3:GetObject", Condition={"Bool": {"aws:SecureTransport": True}}),
            [Grant("Allow", ("s3:GetObject",), ("*",), beyond=("the same under conditions",))],
        ),
        (allow("s3:GetObject", Condition={"Bool": {"aws:SecureTransport": True}}), allow("s3:GetObject"), []),
        (
            {"Effect": "Deny", "Action": "s3:*", "Resource": "*"},
            allow("s3:*"),
            [Grant("Deny", ("s3:*",), ("*",))],
        ),
        (
            {"Effect": "Allow", "NotAction": "iam:*", "Resource": "*"},
            allow("s3:GetObject"),
            [Grant("Allow", ("all except iam:*",), ("*",), beyond=("s3:GetObject",))],
        ),
        (allow("s3:GetObject"), {"Effect": "Allow", "NotAction": "iam:*", "Resource": "*"}, []),
        (
            allow("iam:GetRole"),
            {"Effect": "Allow", "NotAction": "iam:*", "Resource": "*"},
            [Grant("Allow", ("iam:GetRole",), ("*",))],
        ),
    ],
)
def test_additional_permissions_are_listed(one, other, gained):
    assert subtract_permissions(says(doc(one)), says(doc(other))) == gained


def test_variables_depend_on_the_policy_version():
    home = allow("s3:GetObject", Condition={"StringLike": {"s3:prefix": "${aws:username}/*"}})
    now, then = says(doc(home)), says(doc(home) | {"Version": "2008-10-17"})
    assert subtract_permissions(now, then)
    assert subtract_permissions(then, now)


def test_resources_excluded_by_a_variable_are_not_covered():
    but_own = {"Effect": "Allow", "Action": "iam:GetUser", "NotResource": "arn:aws:iam::1:user/${aws:username}"}
    alice = allow("iam:GetUser", "arn:aws:iam::1:user/alice")
    assert subtract_permissions(says(doc(alice)), says(doc(but_own)))
    own = allow("iam:GetUser", "arn:aws:iam::1:user/${aws:username}")
    but_alice = {"Effect": "Allow", "Action": "iam:GetUser", "NotResource": "arn:aws:iam::1:user/alice"}
    assert subtract_permissions(says(doc(own)), says(doc(but_alice)))


def test_line_shows_how_far_a_wildcard_goes():
    (grant,) = subtract_permissions(
        says(doc(allow("s3:Get*", f"{BUCKET}/*"))), says(doc(allow("s3:GetObject", f"{BUCKET}/x")))
    )
    assert grant.text == f"s3:Get* on {BUCKET}/* beyond s3:GetObject on {BUCKET}/x"


def test_applied_account_has_no_difference():
    assert found(live()) == []


def test_statements_may_be_in_any_policy_of_the_role():
    have = live()
    one, two = (roles.derive_policy_arn("operator", f"permissions-{stem}", SETTINGS) for stem in ("data", "function"))
    have.policies[one], have.policies[two] = (
        replace(have.policies[one], policy=have.policies[two].policy),
        replace(have.policies[two], policy=have.policies[one].policy),
    )
    assert found(have) == []


def changed(**parts):
    have, name = live(), SETTINGS.build_role_name("auditor")
    have.roles[name] = replace(have.roles[name], **parts)
    return have


OWN = roles.derive_policy_arn("auditor", "permissions", SETTINGS)
BOUND = roles.derive_policy_arn("auditor", "boundary", SETTINGS)
STRANGER = "arn:aws:iam::999999999999:root"


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        (
            {"inline": {"extra": doc(allow("sns:*"))}},
            [
                ("permissions", "takes", "live allows sns:* on *; the repository does not"),
                ("inline", "takes", "live has the inline policy extra"),
            ],
        ),
        (
            {"boundary": ""},
            [("boundary", "gives", f"apply would set the permissions boundary {BOUND.rsplit('/', 1)[1]}")],
        ),
        (
            {"boundary": "arn:aws:iam::1:policy/own"},
            [
                ("boundary", "takes", "live has the permissions boundary own"),
                ("boundary", "gives", f"apply would set the permissions boundary {BOUND.rsplit('/', 1)[1]}"),
            ],
        ),
        (
            {"attached": (OWN, "arn:aws:iam::aws:policy/ReadOnlyAccess")},
            [("attachments", "takes", "live has ReadOnlyAccess attached")],
        ),
        (
            {"tags": {"kennel:stack": "other", "kennel:name": SETTINGS.build_role_name("auditor"), "theirs": "x"}},
            [
                ("tags", "takes", "live is tagged kennel:stack=other"),
                ("tags", "gives", f"apply would tag it kennel:stack={SETTINGS.stack.name}"),
            ],
        ),
    ],
    ids=["inline", "no boundary", "another boundary", "attached", "tags"],
)
def test_manual_changes_are_listed(parts, expected):
    assert found(changed(**parts)) == expected


def test_additional_trusted_principal_is_listed():
    have, name = live(), SETTINGS.build_role_name("auditor")
    trust = json.loads(json.dumps(have.roles[name].trust.document))
    trust["Statement"].append({"Effect": "Allow", "Principal": {"AWS": STRANGER}, "Action": "sts:AssumeRole"})
    have.roles[name] = replace(have.roles[name], trust=trust)
    assert found(have) == [("trust", "takes", f"live trust policy allows AWS {STRANGER} sts:AssumeRole")]


def test_account_id_equals_its_root_arn():
    one, two = (
        {"Statement": {"Effect": "Allow", "Principal": {"AWS": who}, "Action": "sts:AssumeRole"}}
        for who in ("9" * 12, [STRANGER])
    )
    assert normalise_document(one) == normalise_document(two)
    assert says(one) == says(two)


def test_missing_and_foreign_resources_are_listed():
    have, name = live(), SETTINGS.build_role_name("auditor")
    del have.roles[name]
    path = SETTINGS.role_path
    have.roles["planted"] = Principal("planted", f"arn:aws:iam::123456789012:role{path}planted", {"Statement": []})
    have.roles["elsewhere"] = Principal("elsewhere", "arn:aws:iam::123456789012:role/elsewhere", {"Statement": []})
    arn = f"arn:aws:iam::123456789012:policy{path}loose"
    have.policies[arn] = Managed(arn, doc())
    assert [(kind, way) for kind, way, _ in found(have)] == [
        ("role", "gives"),
        ("role", "leaves"),
        ("policy", "leaves"),
    ]
    shown = diff.format_differences(
        diff.find_differences(have, roles.build_applied_snapshot(WANTED, SETTINGS), SETTINGS)
    )
    assert shown.splitlines()[:2] == [name, "  + apply would create the role"]
    only = roles.build_applied_snapshot([want for want in WANTED if want.role == "auditor"], SETTINGS)
    assert [one.kind for one in diff.find_differences(have, only, SETTINGS, whole=False)] == ["role"]

"""Ways to more rights: each of the table with exactly what it needs, and without each of its actions; and what bounds them."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from iampolicy import actions
from iampolicy.account.snapshot import parse_snapshot
from iampolicy.escalation import detect, paths, permission_set
from iampolicy.escalation.account_model import AccountModel
from iampolicy.policy.document import compile_glob
from iampolicy.policy.evaluate import Request, decide_request
from ops.iam import roles

NOW = datetime(2026, 11, 24, tzinfo=UTC)
ACCOUNT = "111111111111"
ROOT = f"arn:aws:iam::{ACCOUNT}:root"
PATHS = paths.load_paths()
EVERYTHING = {"Effect": "Allow", "Action": "*", "Resource": "*"}
OLDER = "v1"


def doc(*statements):
    return {"Version": "2012-10-17", "Statement": list(statements)}


def allow(*named, resource="*", **more):
    return {"Effect": "Allow", "Action": list(named), "Resource": resource} | more


def deny(*named, **more):
    return allow(*named, **more) | {"Effect": "Deny"}


def taken_by(service=None, aws=None, **more):
    who = {"Service": service} if service else {"AWS": aws or ROOT}
    return doc({"Effect": "Allow", "Principal": who, "Action": "sts:AssumeRole"} | more)


def arn(kind, name):
    return f"arn:aws:iam::{ACCOUNT}:{kind}/{name}"


class World:
    """An account's IAM, written as GetAccountAuthorizationDetails gives it."""

    def __init__(self):
        self.page = {"RoleDetailList": [], "UserDetailList": [], "GroupDetailList": [], "Policies": []}

    def role(self, name, *statements, trust=None, attached=(), boundary=""):
        entry = {
            "RoleName": name,
            "Arn": arn("role", name),
            "AssumeRolePolicyDocument": trust or taken_by("absent.amazonaws.com"),
            "RolePolicyList": [{"PolicyName": "own", "PolicyDocument": doc(*statements)}] if statements else [],
        }
        self.page["RoleDetailList"].append(entry | self.held(attached, boundary))
        return self

    def user(self, name, *statements, groups=(), attached=(), boundary=""):
        entry = {
            "UserName": name,
            "Arn": arn("user", name),
            "GroupList": list(groups),
            "UserPolicyList": [{"PolicyName": "own", "PolicyDocument": doc(*statements)}] if statements else [],
        }
        self.page["UserDetailList"].append(entry | self.held(attached, boundary))
        return self

    def held(self, attached, boundary):
        found = {"AttachedManagedPolicies": [{"PolicyArn": arn("policy", name)} for name in attached]}
        return found | (
            {"PermissionsBoundary": {"PermissionsBoundaryArn": arn("policy", boundary)}} if boundary else {}
        )

    def group(self, name, *statements):
        own = [{"PolicyName": "of-group", "PolicyDocument": doc(*statements)}] if statements else []
        self.page["GroupDetailList"].append({"GroupName": name, "Arn": arn("group", name), "GroupPolicyList": own})
        return self

    def managed(self, name, *statements, older=None):
        versions = [{"VersionId": "v2", "IsDefaultVersion": True, "Document": doc(*statements)}]
        versions += [{"VersionId": OLDER, "IsDefaultVersion": False, "Document": older}] if older else []
        self.page["Policies"].append({"Arn": arn("policy", name), "PolicyVersionList": versions})
        return self

    @property
    def snapshot(self):
        return parse_snapshot([self.page])

    def found(self, who="holder", rule=None, **more):
        return [
            f
            for f in detect.findings(AccountModel(self.snapshot, NOW, **more))
            if f.principal == who and (not rule or f.rule == rule)
        ]

    def severity(self, path, who="holder", **more):
        """Of the one finding of a path, or "" without one."""
        return next((f.severity for f in self.found(who, f"IAM-PRIVESC-{path}", **more)), "")


def world(path, *statements, boundary=""):
    """The holder, who holds these, and an administrator at the end of the path, all else being as the path needs it."""
    w = World()
    kinds = " ".join(path.actions)
    if path.how in ("passed", "carried"):
        return w.role("holder", *statements, boundary=boundary).role(
            "strong", EVERYTHING, trust=let_in(path.services[0])
        )
    if path.how == "outside":
        return w.role("holder", *statements, boundary=boundary)
    if path.how == "keys":
        return w.user("holder", *statements, boundary=boundary).user("strong", EVERYTHING)
    if path.how == "role":
        trust = taken_by(aws=ROOT) if "sts:AssumeRole" in path.actions else None
        w.managed("theirs", EVERYTHING if len(path.actions) == 1 else allow("s3:ListAllMyBuckets"))
        return w.role("holder", *statements, boundary=boundary).role("strong", trust=trust, attached=["theirs"])
    if path.how == "group":
        return w.group("strong", EVERYTHING).user("holder", *statements, boundary=boundary)
    if path.how == "boundary":  # it may do everything but for its boundary, which lets through what the path needs
        make = w.user if "User" in kinds else w.role
        make("holder", EVERYTHING, boundary="bound")
        return w.managed("bound", *statements) if not boundary else w
    if path.how == "version" or kinds == "iam:CreatePolicyVersion":
        w.managed("own", *statements, older=doc(EVERYTHING))
        return w.role("holder", attached=["own"], boundary=boundary)
    if "Group" in kinds:
        return w.group("mine").user("holder", *statements, groups=["mine"], boundary=boundary)
    return (w.user if "User" in kinds else w.role)("holder", *statements, boundary=boundary)


def let_in(service):
    if service == "cognito-identity.amazonaws.com":
        who = {"Federated": service}
        return doc({"Effect": "Allow", "Principal": who, "Action": "sts:AssumeRoleWithWebIdentity"})
    return taken_by(service)


by_id = pytest.mark.parametrize("path", PATHS, ids=lambda path: path.id)


@by_id
def test_path_is_found_with_exactly_its_actions(path):
    (found,) = world(path, allow(*path.actions)).found(rule=path.rule)
    assert found.severity == ("high" if path.how == "outside" else "critical")
    assert found.fix.endswith(path.fix)
    assert [step.split(" ")[0] for step in found.path[:-1]] == list(path.actions)
    if path.how != "boundary":
        assert found.statement == "statement 1"
        assert found.policy in ("own", arn("policy", "own"))


@pytest.mark.parametrize(
    ("path", "missing"),
    [(path, one) for path in PATHS for one in path.actions],
    ids=lambda value: getattr(value, "id", value),
)
def test_path_is_not_found_without_one_of_its_actions(path, missing):
    rest = [action for action in path.actions if action != missing]
    assert world(path, allow("s3:ListAllMyBuckets", *rest)).found(rule=path.rule) == []


@by_id
def test_deny_boundary_or_expiry_closes_the_path(path):
    """What takes the actions away (deny, boundary, expired condition) closes the path."""
    past = {"DateLessThan": {"aws:CurrentTime": "2026-01-01T00:00:00Z"}}
    for last in path.actions:
        assert world(path, allow(*path.actions), deny(last)).found(rule=path.rule) == []
    assert world(path, allow(*path.actions, Condition=past)).found(rule=path.rule) == []
    if path.how != "boundary":
        assert world(path, allow(*path.actions), boundary="gone").found(rule=path.rule) == []
        capped = world(path, allow(*path.actions), boundary="bound").managed("bound", allow("s3:*"))
        assert capped.found(rule=path.rule) == []


@by_id
def test_administrator_has_no_paths(path):
    w = world(path, EVERYTHING)
    if path.how != "boundary":
        assert w.found() == []
        assert AccountModel(w.snapshot, NOW).find_permission_set(next(w.snapshot.principals())).is_admin


@pytest.mark.parametrize(
    "action", sorted({action for path in PATHS for action in path.actions} | {a for a, _ in paths.load_powers()})
)
def test_actions_of_paths_are_spelled_as_aws_does(action):
    found = actions.find_details(action)
    if found is None:
        assert all(path.retired for path in PATHS if action in path.actions)
        assert action not in dict(paths.load_powers())
    else:
        assert found["name"] == action.partition(":")[2]


def test_path_ids_are_unique_and_the_catalog_is_complete():
    ids = [path.id for path in PATHS]
    assert len(set(ids)) == len(ids)
    catalog = {i for i in ids if not int(i.rpartition("-")[2]) > 100}
    assert len(catalog) == 66
    assert {f"iam-{n:03}" for n in range(1, 22)} <= catalog
    assert {path.id for path in PATHS if path.url} == catalog
    assert {path.how for path in PATHS} == set(detect.KINDS)
    assert all(bool(path.services) == (path.how in ("passed", "carried")) for path in PATHS)
    assert all(("iam:PassRole" in path.actions) == (path.how == "passed") for path in PATHS)


LAMBDA = ("lambda:CreateFunction", "lambda:InvokeFunction")
TO_LAMBDA = {"StringEquals": {"iam:PassedToService": "lambda.amazonaws.com"}}


def passing(resource="*", condition=None, **strong):
    """A holder that makes functions and passes roles, and two roles that functions may have: an administrator's, a harmless one."""
    may_pass = allow("iam:PassRole", resource=resource, **({"Condition": condition} if condition else {}))
    w = World().role("holder", allow(*LAMBDA), may_pass)
    w.role("strong", EVERYTHING, **{"trust": taken_by("lambda.amazonaws.com")} | strong)
    return w.role(
        "harmless", allow("s3:GetObject", resource="arn:aws:s3:::b/k/*"), trust=taken_by("lambda.amazonaws.com")
    )


@pytest.mark.parametrize(
    ("world", "severity"),
    [
        (passing(), "critical"),
        (passing(condition=TO_LAMBDA), "critical"),
        (passing(arn("role", "str*"), TO_LAMBDA), "critical"),
        (passing(arn("role", "harmless")), "info"),
        (passing(arn("role", "strong"), {"StringEquals": {"iam:PassedToService": "ec2.amazonaws.com"}}), ""),
        (passing(arn("role", "strong"), {"StringLike": {"iam:PassedToService": "*.amazonaws.com"}}), "critical"),
        (passing(arn("role", "strong"), trust=taken_by("ec2.amazonaws.com")), ""),
        (passing(arn("role", "s*"), trust=taken_by("lambda.amazonaws.com", Condition={"StringEquals": {"aws:SourceAccount": "2"}})), ""),
        (passing(trust=taken_by("lambda.amazonaws.com", Condition={"StringEquals": {"aws:SourceAccount": ACCOUNT}})), "critical"),
        (passing(boundary="gone"), "info"),
        (passing(arn("role", "absent-*")), ""),
    ],
)  # fmt: skip
def test_passable_role_sets_the_severity(world, severity):
    """A role counts that may be passed to a service that its trust admits."""
    assert world.severity("lambda-001") == severity


def test_bounded_path_names_the_role():
    (found,) = passing(arn("role", "harmless")).found(rule="IAM-PRIVESC-lambda-001")
    assert "bounded" in found.message
    assert found.path == ("iam:PassRole role/harmless", *LAMBDA, "role/harmless")


@pytest.mark.parametrize(
    ("held", "severity"),
    [
        (allow("s3:GetObject", resource="arn:aws:s3:::b/*"), "info"),
        (allow("s3:GetObject", resource="arn:aws:s3:::*"), "high"),
        (allow("s3:Get*"), "high"),
        (allow("logs:PutLogEvents"), "info"),
        (
            allow("secretsmanager:GetSecretValue", resource=f"arn:aws:secretsmanager:us-east-1:{ACCOUNT}:secret:one-*"),
            "high",
        ),
        (allow("iam:PutRolePolicy", resource=arn("role", "a")), "high"),
        (allow(*LAMBDA), "info"),  # the holder has these too
    ],
)
def test_severity_depends_on_the_gained_permissions(held, severity):
    """Only permissions count that the principal lacks and that give power."""
    w = World().role("holder", allow("iam:PassRole", *LAMBDA))
    assert w.role("passed", held, trust=taken_by("lambda.amazonaws.com")).severity("lambda-001") == severity


def test_unresolved_role_pattern_counts_if_it_is_open():
    """Without a role to pass, an open pattern counts and a closed one does not."""
    assert World().role("holder", allow("iam:PassRole", *LAMBDA)).severity("lambda-001") == "high"
    closed = allow("iam:PassRole", resource=arn("role", "app-*"))
    assert World().role("holder", closed, allow(*LAMBDA)).severity("lambda-001") == ""


FUNCTION = f"arn:aws:lambda:us-east-1:{ACCOUNT}:function"


def test_unknown_function_may_run_with_any_lambda_role():
    """An existing function may have any role that trusts Lambda, unless its role is known."""
    w = World().role("strong", EVERYTHING, trust=taken_by("lambda.amazonaws.com"))
    w.role("weak", allow("logs:PutLogEvents"), trust=taken_by("lambda.amazonaws.com"))
    w.role("holder", allow("lambda:UpdateFunctionCode", resource=f"{FUNCTION}:mine"))
    assert w.severity("lambda-003") == "high"
    assert w.severity("lambda-003", carriers={f"{FUNCTION}:mine": arn("role", "weak")}) == "info"
    assert w.severity("lambda-003", carriers={f"{FUNCTION}:mine": arn("role", "strong")}) == "critical"
    assert w.severity("lambda-003", carriers={f"{FUNCTION}:other": arn("role", "weak")}) == "high"


@pytest.mark.parametrize(
    ("resources", "severity"),
    [
        ([f"{FUNCTION}:mine"], "info"),
        ([f"{FUNCTION}:m*"], "info"),
        ([f"{FUNCTION}:mine", f"{FUNCTION.replace('us-east-1', 'eu-west-1')}:mine"], "high"),
        ([f"{FUNCTION.replace('us-east-1', '*')}:mine"], "high"),
        ([f"{FUNCTION}:*"], "critical"),
    ],
)
def test_functions_are_known_by_region(resources, severity):
    w = World().role("strong", EVERYTHING, trust=taken_by("lambda.amazonaws.com"))
    w.role("weak", allow("logs:PutLogEvents"), trust=taken_by("lambda.amazonaws.com"))
    w.role("holder", allow("lambda:UpdateFunctionCode", resource=resources))
    known = {f"{FUNCTION}:mine": arn("role", "weak"), f"{FUNCTION}:other": arn("role", "strong")}
    assert w.severity("lambda-003", carriers=known) == severity


def test_resource_of_another_type_gives_no_path():
    w = World().role("strong", EVERYTHING, trust=taken_by("lambda.amazonaws.com"))
    assert (
        w.role("holder", allow("lambda:UpdateFunctionCode", resource="arn:aws:s3:::b/*")).severity("lambda-003") == ""
    )


def test_deny_on_some_resources_leaves_the_others():
    w = World().role("strong", EVERYTHING, trust=taken_by("lambda.amazonaws.com"))
    w.role("holder", allow("lambda:UpdateFunctionCode"), deny("lambda:*", resource=f"{FUNCTION}:prod-*"))
    assert w.severity("lambda-003") == "critical"


def test_user_is_not_another_user_to_itself():
    mine = allow("iam:CreateAccessKey", resource=arn("user", "${aws:username}"))
    assert World().user("holder", mine).user("strong", EVERYTHING).severity("iam-002") == ""
    assert World().user("holder", allow("iam:CreateAccessKey", resource=arn("user", "s*"))).user("strong", EVERYTHING).severity(
        "iam-002"
    ) == "critical"  # fmt: skip
    assert World().user("holder", allow("iam:CreateAccessKey")).user("other").severity("iam-002") == "info"


def test_two_users_with_one_policy_each_reach_the_other():
    one = allow("iam:CreateAccessKey", "s3:*")
    w = World().user("holder", one).user("other", one)
    assert [w.severity("iam-002", who) for who in ("holder", "other")] == ["info", "info"]


# Policies of one's own, under a boundary.

WRITING = allow("iam:PutRolePolicy", "iam:AttachRolePolicy", resource=arn("role", "holder"))


@pytest.mark.parametrize(
    ("bound", "severity"),
    [
        ([allow("iam:*"), allow("s3:GetObject", resource="arn:aws:s3:::b/*")], "high"),
        ([WRITING, allow("s3:GetObject", resource="arn:aws:s3:::b/*")], "info"),
        ([WRITING, allow("s3:*")], "high"),
        ([EVERYTHING], "critical"),
        ([EVERYTHING, deny("s3:*")], "critical"),
        ([WRITING, allow("iam:DeleteRolePermissionsBoundary")], "high"),
    ],
)
def test_role_writing_its_policies_is_held_by_its_boundary(bound, severity):
    """A principal that writes its own policies has what its boundary leaves."""
    w = World().role("holder", WRITING, boundary="bound").managed("bound", *bound)
    assert w.severity("iam-005") == severity


@pytest.mark.parametrize(
    "lifting",
    [
        allow("iam:DeleteRolePermissionsBoundary", resource=arn("role", "holder")),
        allow("iam:PutRolePermissionsBoundary", resource=arn("role", "holder")),
        allow("iam:CreatePolicyVersion", resource=arn("policy", "bound")),
    ],
)
def test_boundary_removable_by_its_principal_does_not_count(lifting):
    w = World().role("holder", WRITING, lifting, boundary="bound").managed("bound", WRITING, lifting)
    assert w.severity("iam-005") == "critical"


def test_boundary_condition_restricts_the_writer():
    bounded = {"ArnLike": {"iam:PermissionsBoundary": arn("policy", "bound")}}
    writing = allow("iam:PutRolePolicy", "iam:UpdateAssumeRolePolicy", Condition=bounded)
    w = World().managed("bound", allow("s3:GetObject", resource="arn:aws:s3:::b/*"), writing)
    w.role("holder", writing, allow("iam:UpdateAssumeRolePolicy"), boundary="bound").role("free").role(
        "held", boundary="bound"
    )
    (found,) = w.found(rule="IAM-PRIVESC-iam-021")
    assert (found.severity, found.path[-1]) == ("info", "role/held")


@pytest.mark.parametrize(
    ("condition", "severity"),
    [
        ({"ArnEquals": {"iam:PolicyARN": "arn:aws:iam::aws:policy/IAMFullAccess"}}, "critical"),  # and so the rest
        ({"ArnLike": {"iam:PolicyARN": "arn:aws:iam::aws:policy/*FullAccess"}}, "critical"),
        ({"ArnEquals": {"iam:PolicyARN": "arn:aws:iam::aws:policy/PowerUserAccess"}}, "high"),
        (
            {"ArnEquals": {"iam:PolicyARN": "arn:aws:iam::aws:policy/ReadOnlyAccess"}},
            "high",
        ),  # s3:GetObject and more, of anything
        ({"ArnLike": {"iam:PolicyARN": "arn:aws:iam::aws:policy/job-function/*"}}, "high"),
        ({"ArnLike": {"iam:PolicyARN": arn("policy", "nobodys-*")}}, "info"),
        ({"ArnNotLike": {"iam:PolicyARN": "arn:aws:iam::aws:policy/Admin*"}}, "critical"),
        ({"ArnNotLike": {"iam:PolicyARN": ["arn:aws:iam::aws:policy/*", arn("policy", "*")]}}, "info"),
        ({"ArnLike": {"iam:PolicyARN": arn("policy", "self")}}, "critical"),
        ({"ArnLike": {"iam:PolicyARN": arn("policy", "weak")}}, "info"),
        ({"ArnLike": {"iam:PolicyARN": arn("policy", "strong*")}}, "high"),
        ({"ArnLike": {"iam:PolicyARN": arn("policy", "all")}}, "critical"),
        ({"ArnLike": {"iam:PolicyARN": "arn:aws:iam::aws:policy/*"}}, "critical"),
    ],
)
def test_attachable_policies_set_the_severity(condition, severity):
    w = World().managed("weak", allow("logs:PutLogEvents")).managed("strong", allow("s3:*")).managed("all", EVERYTHING)
    w.managed("self", allow("iam:PutRolePolicy", resource=arn("role", "holder")))
    holder = allow("iam:AttachRolePolicy", resource=arn("role", "holder"), Condition=condition)
    assert w.role("holder", holder).severity("iam-009") == severity


def test_aws_managed_policy_is_judged_by_its_text():
    """A policy of AWS is judged by its text, where that is known, and within the boundary."""
    only = {"ArnEquals": {"iam:PolicyARN": "arn:aws:iam::aws:policy/AWSSupportAccess"}}
    attach = allow("iam:AttachRolePolicy", resource=arn("role", "holder"), Condition=only)
    assert World().role("holder", attach).severity("iam-009") == "high"
    known = World().role("holder", attach).managed("AWSSupportAccess", allow("support:*"))
    known.page["Policies"][0]["Arn"] = "arn:aws:iam::aws:policy/AWSSupportAccess"
    assert known.severity("iam-009") == "info"
    bound = World().managed("bound", allow("iam:AttachRolePolicy", resource=arn("role", "holder")), allow("support:*"))
    assert bound.role("holder", attach, boundary="bound").severity("iam-009") == "info"


def test_attaching_a_writable_policy_gives_everything():
    only_ours = {"ArnLike": {"iam:PolicyARN": arn("policy", "ours/*")}}
    attach = allow("iam:AttachRolePolicy", resource=arn("role", "holder"), Condition=only_ours)
    assert (
        World().role("holder", attach, allow("iam:CreatePolicy", resource=arn("policy", "ours/*"))).severity("iam-009")
        == "critical"
    )
    assert (
        World()
        .role("holder", attach, allow("iam:CreatePolicy", resource=arn("policy", "theirs/*")))
        .severity("iam-009")
        == "info"
    )


def test_writing_policies_of_other_principals_is_bounded():
    w = World().role("other").role("holder", allow("iam:PutRolePolicy", resource=arn("role", "other")))
    (found,) = w.found(rule="IAM-PRIVESC-iam-005")
    assert found.severity == "info"
    assert "others" in found.message


@pytest.mark.parametrize(
    ("older", "severity"), [(EVERYTHING, "critical"), (allow("s3:*"), "high"), (allow("logs:PutLogEvents"), "info")]
)
def test_older_policy_version_is_read(older, severity):
    w = World().managed("own", allow("iam:SetDefaultPolicyVersion", resource=arn("policy", "*")), older=doc(older))
    assert w.role("holder", attached=["own"]).severity("iam-101") == severity


# Which role assumes which.


@pytest.mark.parametrize(
    ("held", "trust", "severity"),
    [
        ([allow("sts:AssumeRole")], taken_by(aws=ROOT), "critical"),
        ([allow("sts:AssumeRole")], taken_by(aws=ACCOUNT), "critical"),
        ([], taken_by(aws=arn("role", "holder")), "critical"),
        ([], taken_by(aws=f"arn:aws:sts::{ACCOUNT}:assumed-role/holder/one"), "critical"),
        ([], taken_by(aws=ROOT), ""),
        ([allow("sts:AssumeRole")], taken_by(aws=arn("role", "other")), ""),
        ([allow("sts:AssumeRole", resource=arn("role", "a*"))], taken_by(aws=ROOT), ""),
        ([allow("sts:AssumeRole"), deny("sts:*", resource=arn("role", "strong"))], taken_by(aws=ROOT), ""),
        ([deny("sts:*")], taken_by(aws=arn("role", "holder")), ""),
        ([allow("sts:AssumeRole")], taken_by(aws=ROOT, Condition={"StringEquals": {"aws:PrincipalArn": arn("role", "holder")}}), "critical"),
        ([allow("sts:AssumeRole")], taken_by(aws=ROOT, Condition={"StringEquals": {"aws:PrincipalArn": arn("role", "other")}}), ""),
        ([allow("sts:AssumeRole")], taken_by(aws=ROOT, Condition={"Bool": {"aws:MultiFactorAuthPresent": "true"}}), "critical"),
        ([allow("sts:AssumeRole")], doc({"Effect": "Allow", "Principal": {"AWS": ROOT}, "Action": "sts:AssumeRole"}, {"Effect": "Deny", "Principal": {"AWS": arn("role", "holder")}, "Action": "sts:AssumeRole"}), ""),
    ],
)  # fmt: skip
def test_assuming_a_role_needs_policy_and_trust(held, trust, severity):
    assert World().role("holder", *held).role("strong", EVERYTHING, trust=trust).severity("sts-001") == severity


def test_rewritten_trust_does_not_lift_a_deny():
    w = World().role("strong", EVERYTHING).role("holder", allow("iam:UpdateAssumeRolePolicy"), deny("sts:AssumeRole"))
    assert w.severity("iam-012") == ""


def hop(name, *names, trust=ROOT, may=()):
    """A role that may take others, and how it may be taken."""
    return (
        name,
        [allow("sts:AssumeRole", resource=[arn("role", other) for other in names] or arn("role", "absent")), *may],
        trust,
    )


def chained(*hops):
    w = World().role("admin", EVERYTHING, trust=taken_by(aws=ROOT))
    for name, statements, trust in hops:
        w.role(name, *statements, trust=taken_by(aws=trust))
    return w


CHAIN = "IAM-PRIVESC-CHAIN"


def test_chain_of_roles_leads_to_the_administrator():
    w = chained(hop("start", "middle"), hop("middle", "admin"))
    (found,) = w.found("start", CHAIN)
    assert found.severity == "critical"
    assert found.path == ("sts:AssumeRole role/middle", "role/middle", "sts:AssumeRole role/admin", "role/admin")
    assert w.found("middle", CHAIN) == []
    assert w.severity("sts-001", "middle") == "critical"


@pytest.mark.parametrize(
    "hops",
    [
        [hop("start", "middle"), hop("middle")],
        [hop("start"), hop("middle", "admin")],
        [hop("start", "middle"), hop("middle", "admin", trust=arn("role", "other"))],
        [hop("start", "middle", may=[deny("sts:*")]), hop("middle", "admin")],
        [hop("start", "middle"), hop("middle", "start")],
    ],
)
def test_broken_chain_is_not_reported(hops):
    assert chained(*hops).found("start", CHAIN) == []


def test_cycle_ends_and_each_role_reaches_the_administrator():
    w = chained(hop("a", "b"), hop("b", "c"), hop("c", "a", "d"), hop("d", "admin"))
    assert [len(w.found(name, CHAIN)) for name in "abcd"] == [1, 1, 1, 0]
    (found,) = w.found("a", CHAIN)
    assert [step for step in found.path if " " not in step] == ["role/b", "role/c", "role/d", "role/admin"]


def test_chain_follows_a_trust_that_names_the_principal():
    w = chained(hop("middle", "admin", trust=arn("role", "start")), hop("start"))
    assert len(w.found("start", CHAIN)) == 1


@pytest.mark.parametrize(
    ("start", "middle"),
    [
        ([allow("iam:PassRole", *LAMBDA)], taken_by("lambda.amazonaws.com")),
        ([allow("lambda:UpdateFunctionCode")], taken_by("lambda.amazonaws.com")),
        ([allow("iam:UpdateAssumeRolePolicy", resource=arn("role", "middle"))], taken_by("ec2.amazonaws.com")),
        ([allow("sts:AssumeRole")], taken_by(aws=ROOT)),
    ],
)
def test_chain_ends_at_a_role_that_writes_its_own_policies(start, middle):
    """A chain goes over any hop to a role that writes its own policies."""
    w = (
        World()
        .role("start", *start)
        .role("middle", allow("iam:PutRolePolicy", resource=arn("role", "middle")), trust=middle)
    )
    (found,) = w.found("start", CHAIN)
    assert found.path[-3:] == ("role/middle", "iam:PutRolePolicy role/middle", "administrator")


def test_chain_follows_the_keys_of_a_user():
    w = chained().user("middle", allow("sts:AssumeRole")).user("start", allow("iam:CreateAccessKey"))
    (found,) = w.found("start", CHAIN)
    assert found.path == ("iam:CreateAccessKey user/middle", "user/middle", "sts:AssumeRole role/admin", "role/admin")


def test_circle_of_3000_roles_is_walked_once():
    count = 3000
    w = chained(*(hop(f"r{n}", f"r{(n + 1) % count}") for n in range(1, count)), hop("r0", "r1", "admin"))
    found = [f for f in detect.findings(AccountModel(w.snapshot, NOW)) if f.rule == CHAIN]
    assert len(found) == count - 1
    assert {f.principal for f in found} == {f"r{n}" for n in range(1, count)}


def test_service_linked_roles_are_ignored():
    w = World()
    w.role("holder", allow("iam:PassRole", *LAMBDA)).role("strong", EVERYTHING, trust=taken_by("lambda.amazonaws.com"))
    w.page["RoleDetailList"][0]["Arn"] = arn("role", "aws-service-role/x.amazonaws.com/holder")
    assert w.found() == []


def test_finding_names_the_policy_of_its_own_principal():
    trust = taken_by("lambda.amazonaws.com")
    w = World().role("strong", EVERYTHING, trust=trust)
    for name in ("one", "two"):
        w.role(name, allow("iam:PassRole", *LAMBDA))
        w.page["RoleDetailList"][-1]["RolePolicyList"][0]["PolicyName"] = f"of-{name}"
    for name in ("one", "two"):
        (found,) = w.found(name, "IAM-PRIVESC-lambda-001")
        assert (found.policy, found.statement) == (f"of-{name}", "statement 1")
        assert f"of-{name}" in found.fix


# Our own roles.


@pytest.fixture(scope="module")
def ours(settings):
    have = roles.build_applied_snapshot(roles.read_roles(settings), settings)
    return settings, detect.findings(AccountModel(have, NOW))


@pytest.mark.parametrize(
    ("role", "path"),
    [
        ("operator", "sagemaker-002"),
        ("operator", "sagemaker-101"),
        ("operator", "lambda-001"),
        ("operator", "lambda-003"),
        ("operator", "codebuild-001"),
        ("operator-infra", "ec2-001"),
        ("operator-infra", "ec2-002"),
        ("operator-infra", "ec2instanceconnect-003"),
    ],
)
def test_paths_of_the_operator_are_bounded(ours, role, path):
    settings, every = ours
    (found,) = [f for f in every if (f.principal, f.rule) == (settings.build_role_name(role), f"IAM-PRIVESC-{path}")]
    assert found.severity == "info", found.message


def test_shipped_roles_gain_nothing_but_role_managers(ours):
    """No shipped role gains anything, but for those that manage roles."""
    settings, every = ours
    keepers = {settings.build_role_name(role) for role in ("bootstrap", "ci-apply")}
    assert {f.principal for f in every if f.severity != "info"} <= keepers
    assert not [f for f in every if f.severity == "critical"]


# What is asked once for all is what the evaluator says of each.

SIGNS = st.text(st.sampled_from("ab*?:"), max_size=7)


@examples(max_examples=500)
@given(SIGNS, SIGNS, st.text(st.sampled_from("ab:"), max_size=7))
def test_common_text_matches_both_patterns(one, other, text):
    found = permission_set.find_common_text(one, other)
    if found is not None:
        assert compile_glob(one).fullmatch(found)
        assert compile_glob(other).fullmatch(found)
    elif compile_glob(one).fullmatch(text):
        assert not compile_glob(other).fullmatch(text)


ROLES = [arn("role", name) for name in ("a", "ab", "b")]
STATEMENTS = st.builds(
    lambda effect, kind, action, where, resource, condition: (
        {"Effect": effect, kind: action, where: resource} | ({"Condition": condition} if condition else {})
    ),
    st.sampled_from(["Allow", "Allow", "Deny"]),
    st.sampled_from(["Action", "Action", "NotAction"]),
    st.sampled_from(["iam:PassRole", "iam:*", "*", "iam:P*", "lambda:CreateFunction"]),
    st.sampled_from(["Resource", "Resource", "NotResource"]),
    st.sampled_from(["*", ROLES[0], arn("role", "a*"), arn("role", "?"), arn("role", "${aws:username}")]),
    st.sampled_from(
        [
            {},
            {"Bool": {"aws:MultiFactorAuthPresent": "true"}},
            {"StringEquals": {"aws:PrincipalArn": arn("user", "holder")}},
            {"StringNotEquals": {"iam:PassedToService": "ec2.amazonaws.com"}},
            {"DateLessThan": {"aws:CurrentTime": "2026-01-01"}},
        ]
    ),
)
POLICIES = st.lists(STATEMENTS, min_size=1, max_size=4)


@examples(max_examples=300)
@given(
    POLICIES,
    POLICIES,
    st.none() | POLICIES,
    st.sampled_from(ROLES),
    st.sampled_from([{}, {"iam:passedtoservice": "ec2.amazonaws.com"}]),
)
def test_permission_set_agrees_with_the_evaluator(first, second, bound, resource, context):
    w = World().managed("one", *first).managed("bound", *(bound or [EVERYTHING]))
    w.user("holder", *second, attached=["one"], boundary="bound" if bound else "")
    snapshot = w.snapshot
    holder = snapshot.users["holder"]
    known = AccountModel(snapshot, NOW)
    decision = decide_request(
        Request(holder.caller, "iam:PassRole", resource, known.build_caller_context(holder) | context),
        snapshot.rights(holder),
        possible=True,
    )
    held = known.find_permission_set(holder)
    assert bool(held.may("iam:PassRole", resource, context)) == decision.allowed
    if decision.allowed:
        assert resource in held.candidates("iam:PassRole", dict.fromkeys(ROLES))


JSONS = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text()
    | st.sampled_from(["*", "iam:*", "sts:AssumeRole", ROLES[0], ":assumed-role/x"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@given(JSONS, JSONS, JSONS)
def test_any_json_is_accepted(action, principal, resource):
    statement = {
        "Effect": "Allow",
        "Action": action,
        "Principal": principal,
        "Resource": resource,
        "Condition": resource,
    }
    w = (
        World()
        .role("holder", statement, allow("iam:*", "sts:*", "lambda:*"), trust=doc(statement))
        .role("strong", EVERYTHING, trust=doc(statement))
    )
    w.user("person", statement, groups=["g"], boundary="b").group("g", statement).managed(
        "b", statement, older={"Statement": action}
    )
    detect.findings(AccountModel(w.snapshot, NOW))


def test_empty_account_has_no_paths():
    assert detect.findings(AccountModel(World().snapshot, NOW)) == []


SECRET = "arn:aws:secretsmanager:us-east-1:111111111111:secret:"
ELSEWHERE = "arn:aws:iam::999999999999:role/OrganizationAccountAccessRole"


@pytest.mark.parametrize(
    ("action", "held", "passed", "severity"),
    [
        ("secretsmanager:GetSecretValue", [SECRET + "a-1"], [SECRET + "a-1", SECRET + "prod-1"], "high"),
        ("secretsmanager:GetSecretValue", [SECRET + "a-1", SECRET + "prod-1"], [SECRET + "prod-1", SECRET + "a-1"], "info"),
        ("secretsmanager:GetSecretValue", [SECRET + "a-*"], [SECRET + "a-1", SECRET + "a-2"], "info"),
        ("secretsmanager:GetSecretValue", [SECRET + "a-1"], [SECRET + "a-*"], "high"),
        ("sts:AssumeRole", [arn("role", "x")], [arn("role", "x"), ELSEWHERE], "high"),
        ("sts:AssumeRole", [arn("role", "x")], [ELSEWHERE], "high"),
        ("sts:AssumeRole", [arn("role", "x"), ELSEWHERE], [arn("role", "x"), ELSEWHERE], "info"),
        ("sts:AssumeRole", ["*"], [arn("role", "x"), ELSEWHERE], "info"),
        ("iam:CreateAccessKey", [arn("user", "u")], [arn("user", "u"), arn("user", "boss")], "high"),
        ("iam:CreateAccessKey", [arn("user", "*")], [arn("user", "u"), arn("user", "boss")], "info"),
    ],
)  # fmt: skip
def test_power_counts_wherever_it_reaches(action, held, passed, severity):
    w = World().role("holder", allow(action, resource=held), allow("iam:PassRole", *LAMBDA))
    w.role("passed", allow(action, resource=passed), trust=taken_by("lambda.amazonaws.com"))
    assert w.severity("lambda-001") == severity


@pytest.mark.parametrize(
    ("service", "severity"),
    [("states.us-east-1.amazonaws.com", "critical"), ("states.amazonaws.com", "critical"), ("logs.us-east-1.amazonaws.com", "")],
)  # fmt: skip
def test_regional_service_names_are_trusted(service, severity):
    """A service may be trusted by the name that it has in a region."""
    w = World().role("strong", EVERYTHING, trust=taken_by(service))
    w.role(
        "holder",
        allow("iam:PassRole", resource=arn("role", "strong")),
        allow("states:CreateStateMachine", "states:StartExecution"),
    )
    assert w.severity("states-101") == severity


def tagged(w, name, **tags):
    for entry in w.page["RoleDetailList"] + w.page["UserDetailList"]:
        if name in (entry.get("RoleName"), entry.get("UserName")):
            entry["Tags"] = [{"Key": key, "Value": value} for key, value in tags.items()]
    return w


def by_tag(operator, key, value="dev"):
    return {"Condition": {operator: {key: value}}}


TEAM = by_tag("StringEquals", "aws:ResourceTag/team")
NOT_PROD = by_tag("StringEquals", "aws:ResourceTag/Team", "prod")


@pytest.mark.parametrize(
    ("statements", "tags", "severity"),
    [
        ([allow("sts:AssumeRole", **TEAM)], {"team": "prod"}, ""),
        ([allow("sts:AssumeRole", **TEAM)], {}, ""),
        ([allow("sts:AssumeRole", **TEAM)], {"Team": "dev"}, "critical"),
        ([allow("sts:AssumeRole", **TEAM), allow("iam:TagRole")], {"team": "prod"}, "critical"),
        ([allow("sts:AssumeRole", **TEAM), allow("iam:TagRole", resource=arn("role", "x"))], {"team": "prod"}, ""),
        ([allow("sts:AssumeRole"), deny("sts:AssumeRole", **NOT_PROD)], {"team": "prod"}, ""),
        ([allow("sts:AssumeRole"), deny("sts:AssumeRole", **NOT_PROD)], {"team": "dev"}, "critical"),
        ([allow("sts:AssumeRole"), deny("sts:AssumeRole", **NOT_PROD)], {}, "critical"),
        ([allow("sts:AssumeRole"), deny("sts:AssumeRole", **NOT_PROD), allow("iam:UntagRole")], {"team": "prod"}, "critical"),
        ([allow("sts:AssumeRole", **by_tag("StringEqualsIfExists", "iam:ResourceTag/team"))], {}, "critical"),
    ],
)  # fmt: skip
def test_role_tags_decide_unless_the_principal_can_change_them(statements, tags, severity):
    """A condition on a role's tags holds, unless the principal may change the tags."""
    w = World().user("holder", *statements).role("strong", EVERYTHING, trust=taken_by())
    assert tagged(w, "strong", **tags).severity("sts-001") == severity


@pytest.mark.parametrize(
    ("statements", "severity"),
    [
        ([allow("iam:PassRole", *LAMBDA, **by_tag("StringEquals", "iam:ResourceTag/team"))], ""),
        ([allow("iam:PassRole", **by_tag("StringEquals", "iam:ResourceTag/team", "prod")), allow(*LAMBDA)], "critical"),
        # "This approach does not have reliable results": a deny by the tag may find none
        ([allow("iam:PassRole", *LAMBDA), deny("iam:PassRole", **NOT_PROD)], "critical"),
    ],
)
def test_tags_of_a_passed_role_may_restrict(statements, severity):
    w = World().user("holder", *statements).role("strong", EVERYTHING, trust=taken_by("lambda.amazonaws.com"))
    assert tagged(w, "strong", team="prod").severity("lambda-001") == severity


def taggable(action=("sts:AssumeRole", "sts:TagSession"), who=None, **more):
    return doc({"Effect": "Allow", "Principal": who or {"AWS": ROOT}, "Action": list(action)} | more)


@pytest.mark.parametrize(
    ("trust", "own", "severity"),
    [
        (taggable(), "dev", "critical"),
        (taggable(("sts:AssumeRole",)), "dev", "info"),
        (taggable(("sts:AssumeRole",)), "admin", "critical"),
        (taggable(("sts:AssumeRole",)), None, "info"),
        (taggable(), None, "critical"),
        (taggable(**by_tag("StringEqualsIfExists", "aws:RequestTag/team", ["dev", "ops"])), "dev", "info"),
        (taggable(**by_tag("StringEqualsIfExists", "aws:RequestTag/team", ["dev", "admin"])), "dev", "critical"),
        (taggable(**by_tag("ForAllValues:StringEquals", "aws:TagKeys", ["project"])), "dev", "info"),
        (taggable(**by_tag("ForAllValues:StringEquals", "aws:TagKeys", ["Team"])), "dev", "critical"),
    ],
)
def test_session_has_the_tags_that_the_trust_admits(trust, own, severity):
    only_admins = by_tag("StringEquals", "aws:PrincipalTag/team", "admin")
    w = (
        World()
        .user("holder", allow("sts:AssumeRole", "sts:TagSession"))
        .role("r", allow("*", **only_admins), trust=trust)
    )
    assert tagged(w, "r", **({"team": own} if own else {})).severity("sts-001") == severity


def test_session_tags_of_a_service_cannot_be_chosen():
    only_admins = by_tag("StringEquals", "aws:PrincipalTag/team", "admin")
    pods = taggable(who={"Service": "pods.eks.amazonaws.com"})["Statement"]
    w = World().user("holder", allow("sts:AssumeRole"))
    w.role("r", allow("*", **only_admins), trust=doc(*pods, *taken_by()["Statement"]))
    assert w.severity("sts-001") == "info"


@pytest.mark.parametrize(("more", "severity"), [([], ""), ([allow("iam:TagUser", resource=arn("user", "holder"))], "critical")])  # fmt: skip
def test_principal_that_tags_itself_has_any_tag(more, severity):
    only_admins = by_tag("StringEquals", "aws:PrincipalTag/team", "admin")
    w = World().user("holder", allow("iam:PutUserPolicy", resource=arn("user", "holder"), **only_admins), *more)
    assert tagged(w, "holder", team="dev").severity("iam-007") == severity
    assert tagged(w, "holder", team="admin").severity("iam-007") == "critical"


@pytest.mark.parametrize(
    ("condition", "severity"),
    [
        (by_tag("StringEquals", "aws:PrincipalType", "User"), ""),
        (by_tag("StringEquals", "aws:PrincipalType", "AssumedRole"), "critical"),
        (by_tag("StringLike", "aws:username", "*"), ""),
        (by_tag("StringNotEquals", "aws:username", "bob"), "critical"),
        (by_tag("StringEqualsIfExists", "aws:username", "bob"), "critical"),
    ],
)
def test_conditions_on_users_do_not_match_roles(condition, severity):
    own = allow("iam:PutRolePolicy", resource=arn("role", "holder"), **condition)
    assert World().role("holder", own).severity("iam-005") == severity


@pytest.mark.parametrize(
    ("denied", "severity"),
    [
        (["AdministratorAccess"], "critical"),
        (["AdministratorAccess", "IAMFullAccess", "PowerUserAccess"], "high"),
        (["*"], "info"),
    ],
)
def test_deny_list_of_policies_leaves_the_rest_of_aws(denied, severity):
    """A list of policies that may not be attached leaves AWS's other policies."""
    those = {"ArnLike": {"iam:PolicyARN": [f"arn:aws:iam::aws:policy/{name}" for name in denied]}}
    attach, own = "iam:AttachUserPolicy", arn("user", "holder")
    w = World().user("holder", allow(attach, resource=own), deny(attach, Condition=those))
    assert w.severity("iam-008") == severity


@pytest.mark.parametrize(("theirs", "severity"), [("a", "critical"), ("b", "")])
def test_tags_of_principal_and_role_are_compared(theirs, severity):
    same = by_tag("StringEquals", "aws:ResourceTag/team", "${aws:PrincipalTag/team}")
    w = World().user("holder", allow("sts:AssumeRole", **same)).role("strong", EVERYTHING, trust=taken_by())
    assert tagged(tagged(w, "holder", team="a"), "strong", team=theirs).severity("sts-001") == severity


@pytest.mark.parametrize(("tags", "severity"), [({"team": "admin"}, "critical"), ({"team": "dev"}, ""), ({}, "")])
def test_trust_on_a_tag_admits_principals_with_it(tags, severity):
    trust = taken_by(**by_tag("StringEquals", "aws:PrincipalTag/team", "admin"))
    w = World().user("holder", allow("sts:AssumeRole")).role("strong", EVERYTHING, trust=trust)
    assert tagged(w, "holder", **tags).severity("sts-001") == severity


def test_known_aws_policy_counts_without_its_text():
    """A role with a well-known policy of AWS is strong, although its text is missing."""
    w = World().user("holder", allow("iam:PassRole", *LAMBDA)).role("strong", trust=taken_by("lambda.amazonaws.com"))
    w.page["RoleDetailList"][0]["AttachedManagedPolicies"] = [
        {"PolicyArn": "arn:aws:iam::aws:policy/AdministratorAccess"}
    ]
    assert w.severity("lambda-001") == "critical"

"""iam.simulate: who is meant, what every request carries, what decides, what came near; and AWS's simulator beside it."""

import json

import pytest

from iampolicy.account.snapshot import Principal, Snapshot
from iampolicy.errors import InputError
from iampolicy.explain import simulation
from iampolicy.explain.other_resources import list_other_resources
from iampolicy.explain.simulation import DecisionInput
from iampolicy.policy.document import parse_policy
from iampolicy.policy.evaluate import Request
from ops.core.errors import AwsError
from ops.iam import expectations, roles
from ops.iam.simulate import compare_with_aws, read_resource_policy
from tests.conftest import settings_of

SETTINGS = settings_of()
FILES = roles.build_applied_snapshot(roles.read_roles(SETTINGS), SETTINGS)
ACCOUNT, PREFIX = SETTINGS.aws.account, SETTINGS.build_role_name("")
OPERATOR = SETTINGS.role_arn("operator")
SESSION = f"arn:aws:sts::{ACCOUNT}:assumed-role/{SETTINGS.build_role_name('operator')}/me"
EXECUTION = SETTINGS.role_arn("sagemaker-execution")


def principal(name, *statements, kind="role", **more):
    document = {"Version": "2012-10-17", "Statement": list(statements)}
    trust = {"Statement": []} if kind == "role" else None
    return Principal(name, f"arn:aws:iam::{ACCOUNT}:{kind}/{name}", trust, {"p": document}, **more)


def allow(action, resource="*", **more):
    return {"Sid": "S", "Effect": "Allow", "Action": action, "Resource": resource} | more


@pytest.mark.parametrize("name", ["operator", "kennel-demo-operator", OPERATOR, SESSION])
def test_role_is_found_by_folder_name_arn_or_session(name):
    p, caller = simulation.resolve_principal(FILES, name, PREFIX)
    assert (p.arn, caller.arn, caller.session) == (OPERATOR, OPERATOR, SESSION if name == SESSION else "")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("operater", "Did you mean operator?"),
        ("zzzzz", "The stack.s roles: "),
        (f"arn:aws:sts::999999999999:assumed-role/{SETTINGS.build_role_name('operator')}/me", "no role or user"),
        ("arn:", "no role or user"),
    ],
)
def test_unknown_principal_gets_a_suggestion(name, says):
    with pytest.raises(InputError, match=says.replace("?", r"\?")):
        simulation.resolve_principal(FILES, name, PREFIX)


def test_role_and_user_of_one_name_need_an_arn():
    have = Snapshot({"x": principal("x")}, {"x": principal("x", kind="user")})
    with pytest.raises(InputError, match="Give the ARN"):
        simulation.resolve_principal(have, "x", PREFIX)
    assert simulation.resolve_principal(have, have.users["x"].arn, PREFIX)[0] == have.users["x"]


def test_actions_are_normalised_or_get_a_suggestion():
    """Actions are spelled as AWS does, or rejected with the nearest one."""
    assert simulation.resolve_action("S3:getobject") == "s3:GetObject"
    with pytest.raises(InputError, match=r"Did you mean s3:GetObject\?"):
        simulation.resolve_action("s3:GetObjec")
    with pytest.raises(InputError, match="no action 's3:\\*'"):
        simulation.resolve_action("s3:*")


@pytest.mark.parametrize(
    ("action", "given", "asked", "note"),
    [
        ("s3:GetObject", "arn:aws:s3:::b/k", "arn:aws:s3:::b/k", ""),
        ("s3:ListBucket", "arn:aws:s3:::b", "arn:aws:s3:::b", ""),
        ("s3:ListBucket", "arn:aws:s3:::b/k", "arn:aws:s3:::b/k", "does not act on such a resource"),
        (
            "s3:GetObject",
            "arn:aws:ec2:us-east-1:1:instance/i",
            "arn:aws:ec2:us-east-1:1:instance/i",
            "does not act on such a resource",
        ),
        ("ecr:GetAuthorizationToken", "arn:aws:ecr:us-east-1:1:repository/r", "*", "takes no resource"),
        ("sagemaker:CreateModel", "*", "*", ""),
    ],
)
def test_resource_must_fit_the_action(action, given, asked, note):
    found, said = simulation.resolve_resource(given, action)
    assert (found, note in said, bool(said)) == (asked, True, bool(note))


@pytest.mark.parametrize("name", ["b/k", "s3://b/k", "arn:aws:s3", ""])
def test_invalid_arn_is_rejected(name):
    with pytest.raises(InputError, match="neither an ARN"):
        simulation.resolve_resource(name, "s3:GetObject")


def test_context_flags_repeat_and_override_defaults():
    own = simulation.parse_context_flags(
        ["aws:TagKeys=a", "aws:TagKeys=b", "aws:securetransport=false", "aws:Referer=a=b"]
    )
    assert own == {"aws:TagKeys": ["a", "b"], "aws:securetransport": "false", "aws:Referer": "a=b"}
    keys = simulation.build_context(
        FILES.roles[SETTINGS.build_role_name("operator")], ("s3:GetObject", "*"), "eu-west-1", own
    )
    assert {
        "aws:PrincipalArn": OPERATOR,
        "aws:PrincipalType": "AssumedRole",
        "aws:RequestedRegion": "eu-west-1",
    }.items() <= keys.items()
    assert [key for key in keys if key.lower() == "aws:securetransport"] == ["aws:securetransport"]
    assert not {"aws:SourceIp", "aws:username"} & keys.keys()
    for wrong in ("aws:SourceIp", "=x", "Referer=x"):
        with pytest.raises(InputError, match="key=value"):
            simulation.parse_context_flags([wrong])


def test_context_has_user_name_region_and_tags():
    """A user has its name, a resource its region, and IAM has one region."""
    user = principal("u", kind="user", tags={"team": "dogs"})
    keys = simulation.build_context(
        user, ("sagemaker:CreateModel", "arn:aws:sagemaker:eu-west-3:1:model/m"), "us-east-2", {}
    )
    assert {
        "aws:username": "u",
        "aws:PrincipalType": "User",
        "aws:RequestedRegion": "eu-west-3",
    }.items() <= keys.items()
    assert keys["aws:PrincipalTag/team"] == "dogs"
    assert simulation.build_context(user, ("iam:GetRole", "*"), "us-east-2", {})["aws:RequestedRegion"] == "us-east-1"


def asked(p, action, resource, resource_policy=None, **context):
    have = Snapshot({p.name: p})
    keys = simulation.normalise_context(simulation.build_context(p, (action, resource), "us-east-1", context))
    return DecisionInput(Request(p.caller, action, resource, keys), have.rights(p), resource_policy)


def test_near_misses_name_what_is_missing():
    p = principal(
        "r",
        allow("s3:GetObject", "arn:aws:s3:::other/*"),
        allow("s3:Get*", Condition={"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}),
        allow("s3:GetObject", Condition={"Bool": {"aws:SecureTransport": "false"}}),
        allow("s3:PutObject"),
    )
    own = parse_policy("bucket b", {"Statement": [allow("s3:GetObject", Principal={"AWS": "arn:aws:iam::9:role/x"})]})
    found = simulation.find_near_misses(asked(p, "s3:GetObject", "arn:aws:s3:::b/k", own))
    assert [(n.layer, n.lacks, n.why) for n in found] == [
        ("identity", "resource", "it allows the action on arn:aws:s3:::other/*"),
        ("identity", "condition", "IpAddress aws:SourceIp requires 10.0.0.0/8; the request has no such key"),
        ("identity", "condition", "Bool aws:SecureTransport requires false; the request has true"),
        ("resource", "principal", "it is for arn:aws:iam::9:role/x"),
    ]


def run(cli, *words, code=0):
    done = cli("iam.simulate", *words, ok=False)
    assert done.code == code, done.said
    return done.out


@pytest.fixture(scope="module")
def offline(tmp_path_factory):
    """Without any AWS: the profile leads nowhere."""
    from tests.conftest import Cli, write_settings

    folder = tmp_path_factory.mktemp("offline")
    return Cli(write_settings(folder / "x.yaml", folder, "demo"))


def test_files_are_simulated_without_an_account(offline):
    words = ("operator", "iam:PassRole", EXECUTION, "--files")
    assert "implicitDeny: no identity policy allows it" in run(offline, *words, code=4)
    explained = run(offline, *words, "--explain", code=4)
    assert "StringEquals iam:PassedToService requires sagemaker.amazonaws.com; the request has no such key" in explained
    assert "missing condition keys: iam:PassedToService" in explained
    assert "aws:SecureTransport=true" in explained
    data = json.loads(run(offline, *words, "--json", "-c", "iam:PassedToService=sagemaker.amazonaws.com"))
    assert (data["decision"], data["context"]["iam:PassedToService"]) == ("allowed", "sagemaker.amazonaws.com")
    assert {"layer": "identity", "statement": "PassToSageMaker"}.items() <= data["deciding"][0].items()


def test_placeholders_are_expanded(offline):
    """The placeholders of the files, and of what iam.explain prints, are expanded."""
    words = ("operator", "s3:GetObject", "arn:aws:s3:::${bucket}/datasets/x", "--files")
    assert run(offline, *words).startswith("allowed by identity")
    data = json.loads(run(offline, *words, "--json"))
    assert data["resource"] == f"arn:aws:s3:::{SETTINGS.bucket}/datasets/x"


def test_snapshot_is_simulated_and_a_bad_one_rejected(offline, tmp_path):
    role = {"RoleName": "r", "Arn": f"arn:aws:iam::{ACCOUNT}:role/r", "AssumeRolePolicyDocument": {"Statement": []}}
    denies = {"Statement": [allow("*"), allow("ec2:*", Sid="No") | {"Effect": "Deny"}]}
    page = {"RoleDetailList": [role | {"RolePolicyList": [{"PolicyName": "p", "PolicyDocument": denies}]}]}
    file = tmp_path / "iam.json"
    file.write_text(json.dumps(page))
    assert run(offline, "r", "s3:ListAllMyBuckets", "*", "--snapshot", str(file)).startswith(
        "allowed by identity: p / S"
    )
    said = run(offline, "r", "ec2:DescribeInstances", "*", "--snapshot", str(file), code=4)
    assert said.startswith("explicitDeny by identity: p / No")
    for text in ("{", "[1]", '{"RoleDetailList": [{}]}', "[" * 100_000):
        file.write_text(text)
        done = offline("iam.simulate", "r", "ec2:DescribeInstances", "*", "--snapshot", str(file), ok=False)
        assert done.code == 1
        assert "Write a snapshot with: invoke iam.audit --save FILE" in done.err
        assert "Traceback" not in done.err


def test_two_sources_are_rejected(offline):
    done = offline("iam.simulate", "operator", "s3:GetObject", "*", "--files", "--remote", ok=False)
    assert done.code == 1
    assert "give one of them" in done.err


class Simulator:
    """An account whose simulator decides as given; the arguments are checked against AWS's own model of the call."""

    def __init__(self, **result):
        self.result = result

    def call(self, service, operation, **args):
        import botocore.session
        from botocore.validate import ParamValidator

        model = botocore.session.get_session().get_service_model(service).operation_model("SimulatePrincipalPolicy")
        assert operation == "simulate_principal_policy"
        assert not ParamValidator().validate(args, model.input_shape).has_errors()
        self.args = args
        if not self.result:
            raise AwsError("SimulatePrincipalPolicy", "NotImplemented", "none here")
        return {"EvaluationResults": [self.result]}


@pytest.mark.parametrize(
    ("result", "agree", "says"),
    [
        ({"EvalDecision": "allowed"}, True, "agrees: allowed"),
        ({"EvalDecision": "implicitDeny"}, False, "says implicitDeny, Kennel says allowed: see --explain"),
        (
            {"EvalDecision": "explicitDeny", "OrganizationsDecisionDetail": {"AllowedByOrganizations": False}},
            False,
            "a policy of the organization denies it",
        ),
        ({}, False, "did not answer. AWS refused SimulatePrincipalPolicy"),
    ],
)
def test_result_is_compared_with_the_simulator_of_aws(result, agree, says):
    p, account = principal("r", allow("s3:*")), Simulator(**result)
    keys = {"aws:SecureTransport": "true", "aws:TagKeys": ["a", "b"], "aws:CurrentTime": "2026-01-01T00:00:00Z"}
    theirs, line = compare_with_aws(account, p, asked(p, "s3:GetObject", "arn:aws:s3:::b/k"), keys)
    assert (theirs["agree"], says in line) == (agree, True), line
    assert account.args["ContextEntries"] == [
        {"ContextKeyName": "aws:SecureTransport", "ContextKeyType": "boolean", "ContextKeyValues": ["true"]},
        {"ContextKeyName": "aws:TagKeys", "ContextKeyType": "stringList", "ContextKeyValues": ["a", "b"]},
        {"ContextKeyName": "aws:CurrentTime", "ContextKeyType": "date", "ContextKeyValues": ["2026-01-01T00:00:00Z"]},
    ]


def test_foreign_resource_policy_is_reported_as_unknown():
    p = principal("r", allow("*"))
    request = asked(p, "ecr:BatchGetImage", "arn:aws:ecr:us-east-1:763104351884:repository/pytorch").request
    assert read_resource_policy(request, Snapshot(), None) == (
        None,
        ["The policies of account 763104351884 cannot be read: it has to allow this too."],
        True,
    )


IMAGE = "arn:aws:ecr:us-east-1:763104351884:repository/pytorch"
KEY = f"arn:aws:kms:us-east-1:{ACCOUNT}:key/k"


@pytest.mark.parametrize(
    ("statements", "action", "resource", "verdict", "code"),
    [
        ([allow("ecr:BatchGetImage")], "ecr:BatchGetImage", IMAGE, "unknown", 7),
        ([allow("kms:Decrypt")], "kms:Decrypt", KEY, "unknown", 7),
        ([allow("sts:AssumeRole")], "sts:AssumeRole", "arn:aws:iam::763104351884:role/theirs", "unknown", 7),
        ([allow("ecr:*"), allow("ecr:*") | {"Effect": "Deny"}], "ecr:BatchGetImage", IMAGE, "explicitDeny", 4),
        ([allow("s3:GetObject")], "ecr:BatchGetImage", IMAGE, "implicitDeny", 4),
        ([allow("ecr:*")], "ecr:BatchGetImage", IMAGE.replace("763104351884", ACCOUNT), "allowed", 0),
    ],
)
def test_decision_of_an_unread_policy_is_unknown(offline, tmp_path, statements, action, resource, verdict, code):
    """A machine that reads only the decision must not take our half of it for the whole."""
    held = [{"PolicyName": "p", "PolicyDocument": {"Version": "2012-10-17", "Statement": statements}}]
    role = {"RoleName": "r", "Arn": f"arn:aws:iam::{ACCOUNT}:role/r", "AssumeRolePolicyDocument": {"Statement": []}}
    (tmp_path / "iam.json").write_text(json.dumps({"RoleDetailList": [role | {"RolePolicyList": held}]}))
    words = ("r", action, resource, "--snapshot", str(tmp_path / "iam.json"))
    data = json.loads(run(offline, *words, "--json", code=code))
    assert (data["decision"], bool(data["unread"])) == (verdict, ACCOUNT not in resource or "kms" in resource)
    assert run(offline, *words, code=code).startswith(verdict)


ENDPOINT = f"arn:aws:sagemaker:us-east-1:{ACCOUNT}:endpoint"
RUN = "ec2:RunInstances"
SUBNET, INSTANCE, AMI = (
    f"arn:aws:ec2:us-east-1:{n}:{kind}"
    for n, kind in ((ACCOUNT, "subnet/s"), (ACCOUNT, "instance/i"), ("", "image/ami-1"))
)


@pytest.mark.parametrize(
    ("statements", "action", "resource", "others"),
    [
        ([allow("sagemaker:UpdateEndpoint", f"{ENDPOINT}/shop-*")], "sagemaker:UpdateEndpoint", f"{ENDPOINT}/shop-1", {"endpoint-config": []}),
        (
            [allow("sagemaker:*Endpoint", [f"{ENDPOINT}/shop-*", f"{ENDPOINT}-config/shop-*"])],
            "sagemaker:UpdateEndpoint",
            f"{ENDPOINT}/shop-1",
            {"endpoint-config": [f"{ENDPOINT}-config/shop-*"]},
        ),
        ([allow("sagemaker:CreateEndpoint")], "sagemaker:CreateEndpoint", f"{ENDPOINT}-config/c", {"endpoint": ["*"]}),
        ([allow("sagemaker:DeleteEndpoint")], "sagemaker:DeleteEndpoint", f"{ENDPOINT}/e", {}),
        ([allow("sagemaker:UpdateEndpoint")], "sagemaker:UpdateEndpoint", "*", {}),
        ([allow(RUN)], RUN, AMI, {kind: ["*"] for kind in ("instance", "network-interface", "security-group", "subnet")}),
        (
            [allow(RUN, [SUBNET, INSTANCE])],
            RUN,
            SUBNET,
            {"image": [], "instance": [INSTANCE], "network-interface": [], "security-group": []},
        ),
        ([allow("iam:GenerateServiceLastAccessedDetails", OPERATOR)], "iam:GenerateServiceLastAccessedDetails", OPERATOR, {}),
    ],
)  # fmt: skip
def test_other_resources_of_the_call_are_named(statements, action, resource, others):
    found = list_other_resources(asked(principal("r", *statements), action, resource))
    assert {one.kind: list(one.allowed_on) for one in found} == others


def test_call_is_denied_where_its_other_resource_is(offline, tmp_path):
    role = {"RoleName": "r", "Arn": f"arn:aws:iam::{ACCOUNT}:role/r", "AssumeRolePolicyDocument": {"Statement": []}}
    text = {"Statement": [allow("sagemaker:UpdateEndpoint", f"{ENDPOINT}/shop-*")]}
    page = {"RoleDetailList": [role | {"RolePolicyList": [{"PolicyName": "p", "PolicyDocument": text}]}]}
    (tmp_path / "iam.json").write_text(json.dumps(page))
    words = ("r", "sagemaker:UpdateEndpoint", f"{ENDPOINT}/shop-1", "--snapshot", str(tmp_path / "iam.json"))
    said = run(offline, *words, code=4)
    assert said.startswith(f"implicitDeny: the call needs endpoint-config ({ENDPOINT}-config/*) too")
    assert "On the resource itself: allowed by identity: p / S" in said
    assert json.loads(run(offline, *words, "--json", code=4))["decision"] == "implicitDeny"


def test_allowed_calls_of_the_stack_lack_no_other_resource():
    """What expect.toml allows on one resource is allowed on the others that the call needs."""
    for want in roles.read_roles(SETTINGS):
        held = FILES.roles[SETTINGS.build_role_name(want.role)]
        for one in expectations.read_expectations(want.role, SETTINGS):
            if one.kind == "allowed":
                request = expectations.build_request(one, held)
                others = list_other_resources(DecisionInput(request, FILES.rights(held)))
                assert [o.kind for o in others if not o.allowed_on] == [], one.label


def test_missing_resource_is_explained(offline):
    done = offline("iam.simulate", "operator", "s3:GetObject", ok=False)
    assert done.code == 1
    assert "resource: ARN of the resource, or '*'" in done.said


def test_role_named_without_its_path_is_pointed_out():
    p = principal("r", allow("*"))
    short = f"arn:aws:iam::{ACCOUNT}:role/kennel-demo-operator"
    _, unread, _ = read_resource_policy(asked(p, "sts:AssumeRole", short).request, FILES, None)
    assert unread == [f"There is no role {short} in this account. The ARN of kennel-demo-operator is {OPERATOR}"]


def test_attached_policy_without_a_text_is_reported(offline, tmp_path):
    """A policy that is attached and not in the snapshot is reported."""
    gone = f"arn:aws:iam::{ACCOUNT}:policy/gone"
    role = {"RoleName": "r", "Arn": f"arn:aws:iam::{ACCOUNT}:role/r", "AssumeRolePolicyDocument": {"Statement": []}}
    page = {"RoleDetailList": [role | {"AttachedManagedPolicies": [{"PolicyArn": gone}]}]}
    (tmp_path / "iam.json").write_text(json.dumps(page))
    said = run(offline, "r", "ec2:DescribeInstances", "*", "--snapshot", str(tmp_path / "iam.json"), code=7)
    assert said.startswith("unknown: ")
    assert "gone is attached, but its document is missing" in said

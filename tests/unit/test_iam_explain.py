"""iam.explain: AWS's denials and similar errors are parsed, the hop that fails is named, and the offered change does repair it."""

import json
from dataclasses import replace
from string import Template

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iampolicy.errors import InputError
from iampolicy.explain import diagnosis, error_parser
from iampolicy.explain.error_parser import Question, parse
from iampolicy.explain.simulation import DecisionInput
from iampolicy.policy.document import parse_policy
from iampolicy.policy.evaluate import Caller, Request, Rights
from ops.core.errors import DENIED, AwsError
from ops.core.task import explain_error
from ops.iam import expectations, roles
from ops.iam.explain import (
    LINES,
    RoleFolders,
    build_explanation_data,
    format_explanation,
    gather_evidence,
    insert_placeholders,
)
from tests.conftest import settings_of

SETTINGS = settings_of()
WANTED = roles.read_roles(SETTINGS)
FILES = roles.build_applied_snapshot(WANTED, SETTINGS)
ACCOUNT, BUCKET = SETTINGS.aws.account, SETTINGS.bucket
OPERATOR, EXECUTION = SETTINGS.role_arn("operator"), SETTINGS.role_arn("sagemaker-execution")
LAMBDA = SETTINGS.role_arn("lambda-invoke")
MODEL = f"arn:aws:sagemaker:us-east-1:{ACCOUNT}:model/zoo"


def session(role):
    return f"arn:aws:sts::{ACCOUNT}:assumed-role/{SETTINGS.build_role_name(role)}/me"


def denied(who, action, resource, why="identity-based policy", explicit=False):
    end = f"with an explicit deny in an {why}" if explicit else f"because no {why} allows the {action} action"
    return f"User: {who} is not authorized to perform: {action} on resource: {resource} {end}"


ME = "arn:aws:sts::1:assumed-role/r/s"
TRUST = (
    f"Could not assume role {EXECUTION}. Please ensure that the role exists and allows principal "
    "'sagemaker.amazonaws.com' to assume the role."
)
LISTING = (
    f'No S3 objects found under S3 URL "s3://{BUCKET}/shards/x" given in input data source. Please ensure that the bucket '
    f'exists in the selected Region, that objects exist under that S3 prefix, and that the role "{EXECUTION}" has '
    f'"s3:ListBucket" permissions on bucket "{BUCKET}".'
)
MODEL_DATA = (
    f'Could not access model data at s3://{BUCKET}/releases/m.tar.gz. Please ensure that the role "{EXECUTION}" exists and '
    'that its trust relationship policy allows the action "sts:AssumeRole" for the service principal '
    '"sagemaker.amazonaws.com". Also ensure that the role has "s3:GetObject" permissions.'
)
NO_LAMBDA = "The role defined for the function cannot be assumed by Lambda."


@pytest.mark.parametrize(
    ("text", "asked", "layer"),
    [
        (denied(ME, "sagemaker:CreateModel", MODEL), Question(1, "sagemaker:CreateModel", MODEL, ME), "identity"),
        (denied(ME, "s3:GetObject", '"arn:aws:s3:::b/a b"'), Question(1, "s3:GetObject", "arn:aws:s3:::b/a b", ME), "identity"),
        (denied(ME, "iam:ListRoles", "*", "permissions boundary"), Question(1, "iam:ListRoles", "*", ME), "boundary"),
        (denied(ME, "iam:ListRoles", "*", "session policy"), Question(1, "iam:ListRoles", "*", ME), "session"),
        (denied(ME, "s3:GetObject", "arn:aws:s3:::b/k", "resource-based policy"), Question(1, "s3:GetObject", "arn:aws:s3:::b/k", ME), "resource"),
        (denied(ME, "s3:GetObject", "arn:aws:s3:::b/k", "resource-based policy", True), Question(1, "s3:GetObject", "arn:aws:s3:::b/k", ME), "resource"),
        (denied(ME, "iam:GetRole", "*", "service control policy", True), Question(1, "iam:GetRole", "*", ME), "service control policy"),
        (f"User: {ME} is not authorized to perform: iam:ListRoles", Question(1, "iam:ListRoles", "*", ME), ""),
        (denied(ME, "iam:PassRole", EXECUTION), Question(2, "iam:PassRole", EXECUTION, ME), "identity"),
        (
            "An error occurred (AccessDenied) when calling the X operation: " + denied(ME, "iam:GetRole", "arn:aws:iam::1:role/x"),
            Question(1, "iam:GetRole", "arn:aws:iam::1:role/x", ME),
            "identity",
        ),
        ('{"Message":"' + denied(ME, "lambda:GetAlias", "a:b") + '"}', Question(1, "lambda:GetAlias", "a:b", ME), "identity"),
        (TRUST, Question(3, "sts:AssumeRole", EXECUTION, "sagemaker.amazonaws.com"), ""),
        (NO_LAMBDA, Question(3, "sts:AssumeRole", "", "lambda.amazonaws.com"), ""),
        (
            "The provided execution role does not have permissions to call CreateNetworkInterface on EC2",
            Question(4, "ec2:CreateNetworkInterface", "*", "lambda.amazonaws.com"),
            "",
        ),
        (LISTING, Question(4, "s3:ListBucket", f"arn:aws:s3:::{BUCKET}", EXECUTION, (("s3:prefix", "shards/x"),)), ""),
        (
            'No S3 objects found under S3 URL "s3://some/x"',
            Question(4, "s3:ListBucket", "arn:aws:s3:::some", "sagemaker.amazonaws.com", (("s3:prefix", "x"),)),
            "",
        ),
        (
            "CodeBuild is not authorized to perform: sts:AssumeRole on service role. Please verify that: 1) The provided ...",
            Question(3, "sts:AssumeRole", "", "codebuild.amazonaws.com"),
            "",
        ),
        (MODEL_DATA, Question(3, "sts:AssumeRole", EXECUTION, "sagemaker.amazonaws.com"), ""),
        ("AWS refused HeadObject: 403: Forbidden", Question(1, "s3:HeadObject"), ""),
        ("An error occurred (AccessDenied) when calling the GetObject operation: Access Denied", Question(1, "s3:GetObject"), ""),
    ],
)  # fmt: skip
def test_denial_messages_are_parsed(text, asked, layer):
    for wrapped in (
        text,
        f"AWS refused Something: AccessDenied: {text}" if "calling" not in text and "refused" not in text else text,
    ):
        found = parse(wrapped)
        assert (found.questions[0], found.layer) == (asked, layer)


def test_other_messages_are_not_denials():
    for text in (
        "",
        "hello",
        "AWS refused CreateModel: ThrottlingException: Rate exceeded",
        "is not authorized to perform",
    ):
        assert parse(text) is None


def test_policy_named_by_aws_is_kept():
    arn = f"arn:aws:iam::{ACCOUNT}:policy/x"
    assert parse(denied(ME, "iam:ListRoles", "*", f"identity-based policy: {arn}", explicit=True)).policy == arn


FOLDERS = RoleFolders(WANTED, SETTINGS)


def evidence(have=FILES, bucket=None, by_files=False):
    prefix = SETTINGS.build_role_name("")
    return diagnosis.Evidence(have, FILES, ACCOUNT, SETTINGS.aws.region, prefix, lambda arn: bucket, by_files)


def changed(role, **more):
    """The account with one role otherwise than the files have it."""
    name = SETTINGS.build_role_name(role)
    return replace(FILES, roles=FILES.roles | {name: replace(FILES.roles[name], **more)})


def without_statement(role, sid):
    """The account as if the statement had been taken out by hand."""
    found = dict(FILES.policies)
    for arn in FILES.roles[SETTINGS.build_role_name(role)].attached:
        text = found[arn].document
        found[arn] = replace(found[arn], policy=text | {"Statement": [s for s in text["Statement"] if s["Sid"] != sid]})
    return replace(FILES, policies=found)


def explain(text, where):
    found = diagnosis.explain_denial(parse(text), where)
    said = format_explanation(found, where, FOLDERS)
    assert said.count("\n") < LINES
    return found, said


CONDITION = {"StringEquals": {"aws:SourceAccount": "999999999999"}}
FOREIGN = {"Statement": [{"Effect": "Allow", "Principal": {"Service": "sagemaker.amazonaws.com"}, "Action": "sts:AssumeRole", "Condition": CONDITION}]}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "have", "hop", "says"),
    [
        (denied(session("operator"), "sagemaker:CreateModel", MODEL), FILES, 1, "no identity policy allows it"),
        (denied(session("operator"), "iam:PassRole", LAMBDA), without_statement("operator", "PassToLambda"), 2, "iam.apply --role operator"),
        (TRUST, changed("sagemaker-execution", trust={"Statement": []}), 3, "iam.apply --role sagemaker-execution"),
        (TRUST, changed("sagemaker-execution", trust=FOREIGN), 3, "aws:SourceAccount requires 999999999999"),
        (NO_LAMBDA, changed("lambda-invoke", trust={"Statement": []}), 3, "assumed: kennel-demo-lambda-invoke"),
        (LISTING, without_statement("sagemaker-execution", "ListInput"), 4, "s3:ListBucket"),
        (LISTING, without_statement("sagemaker-execution", "ReadInput"), 4, "s3:GetObject"),
        (MODEL_DATA, without_statement("sagemaker-execution", "ReadInput"), 4, "s3:GetObject"),
        (LISTING.replace(EXECUTION, ""), without_statement("sagemaker-execution", "ListInput"), 4, "assumed: kennel-demo-sagemaker"),
        (MODEL_DATA, changed("sagemaker-execution", trust={}), 3, "sts:AssumeRole"),
        (denied(session("ec2-box"), "s3:PutObject", f"arn:aws:s3:::{BUCKET}/shards/x"), FILES, 4, "ec2-box/permissions.json"),
    ],
)  # fmt: skip
def test_failing_hop_is_named(text, have, hop, says):
    found, said = explain(text, evidence(have))
    assert (found.denied, found.question.hop) == (True, hop)
    assert said.startswith(f"Hop {hop} of 4, ")
    assert says in said
    assert found.drift is (have is not FILES)


@pytest.mark.parametrize(
    "text", [TRUST, NO_LAMBDA, LISTING, MODEL_DATA, denied(session("operator"), "iam:PassRole", LAMBDA)]
)
def test_request_allowed_today_is_reported_as_allowed(text):
    found, said = explain(text, evidence())
    assert not found.denied
    assert "Allowed today: allowed by" in said
    assert ("check that objects exist there" in said) is ("s3://" in text)


def test_missing_statement_is_added_to_a_policy_file():
    """A statement that the files lack goes into one of them."""
    _, said = explain(denied(session("operator"), "sagemaker:AddTags", MODEL), evidence())
    assert "add to iam_policies/operator/permissions-models.json" in said
    assert '"Resource": "arn:aws:sagemaker:${region}:${account}:model/zoo"' in said
    assert "And: add the same to iam_policies/operator/boundary.json" in said
    assert said.splitlines()[-1] == (
        "Next: invoke iam.apply --role operator ; it worked before the last change? invoke iam.rollback --role operator"
    )


@pytest.mark.parametrize(
    ("action", "resource", "why"),
    [
        ("s3:DeleteObject", f"arn:aws:s3:::{BUCKET}/releases/1/model.tar.gz", "denied "),
        ("sagemaker:AddTags", MODEL, ""),
    ],
)
def test_change_against_expectations_carries_a_warning(action, resource, why):
    """What the role's own expectations deny is not offered without a warning."""
    _, said = explain(denied(session("operator"), action, resource), evidence())
    assert ("Careful: expect.toml forbids this: denied" in said) is bool(why)
    assert "Smallest change: add to iam_policies/operator/" in said


def test_role_without_expectations_is_explained(monkeypatch):
    def missing(role, settings):
        raise InputError(f"{role}/expect.toml is missing")

    monkeypatch.setattr(expectations, "read_expectations", missing)
    _, said = explain(denied(session("operator"), "sagemaker:AddTags", MODEL), evidence())
    assert "Smallest change: add to iam_policies/operator/permissions-models.json" in said


def test_role_that_trusts_no_service_asks_for_the_service():
    _, said = explain(denied(session("operator"), "iam:PassRole", SETTINGS.role_arn("bootstrap")), evidence())
    assert "give it with -c iam:PassedToService=SERVICE" in said


def test_manual_deny_is_named_and_removed_by_apply():
    deny = {
        "Version": "2012-10-17",
        "Statement": [{"Sid": "Stop", "Effect": "Deny", "Action": "s3:*", "Resource": "*"}],
    }
    found, said = explain(
        denied(session("operator"), "s3:GetObject", f"arn:aws:s3:::{BUCKET}/shards/x", explicit=True),
        evidence(changed("operator", inline={"hand": deny})),
    )
    assert "explicitDeny by identity: hand / Stop" in said
    assert [(m.verb, m.name) for m in found.fixes] == [("remove", "Stop")]
    assert "Next: invoke iam.diff --role operator ; invoke iam.apply --role operator" in said


def test_unmet_condition_is_to_be_met_and_not_removed():
    human = Question(1, "sts:AssumeRole", OPERATOR, session("operator"))
    found = diagnosis.explain_denial(error_parser.Denial("x", (human,), "trust"), evidence())
    said = format_explanation(found, evidence(), FOLDERS)
    assert "Bool aws:MultiFactorAuthPresent requires true; the request has no such key" in said
    assert "Smallest change: meet that condition" in said


def test_bucket_policy_is_considered():
    thing = f"arn:aws:s3:::{BUCKET}/shards/x"
    shut = parse_policy(f"bucket {BUCKET}", {"Statement": [{"Sid": "Shut", "Effect": "Deny", "Principal": "*", "Action": "s3:*", "Resource": thing}]})  # fmt: skip
    _, said = explain(
        denied(session("operator"), "s3:GetObject", thing, "resource-based policy", True), evidence(bucket=shut)
    )
    assert "remove or narrow Shut in the bucket policy of" in said


@pytest.mark.parametrize(
    ("why", "explicit"), [("service control policy", True), ("session policy", False), ("VPC endpoint policy", False)]
)
def test_unreadable_policy_layer_stays_denied(why, explicit):
    found, said = explain(denied(session("operator"), "iam:PassRole", LAMBDA, why, explicit), evidence())
    assert found.denied
    assert f"AWS blames a {why}" in said


def test_missing_principal_is_reported():
    _, said = explain(denied(f"arn:aws:sts::{ACCOUNT}:assumed-role/gone/me", "iam:GetRole", "*"), evidence())
    assert f"there is no arn:aws:sts::{ACCOUNT}:assumed-role/gone/me" in said
    bare = replace(FILES, roles={})
    _, said = explain(denied(session("operator"), "iam:GetRole", "*"), evidence(bare))
    assert "Next: invoke iam.apply --role operator" in said


@pytest.mark.parametrize(
    ("text", "flags"),
    [
        ("AWS refused GetObject: AccessDenied: Access Denied", "--principal --resource"),
        ("Access Denied", "--principal --resource --action"),
        ("UnauthorizedOperation: You are not authorized to perform this operation.", "--principal --resource --action"),
    ],
)
def test_incomplete_message_names_the_flags(text, flags):
    with pytest.raises(InputError, match=flags):
        diagnosis.explain_denial(parse(text), evidence())


def test_key_ids_and_account_numbers_are_not_printed():
    key, other = "AKIAIOSFODNN7EXAMPLE", "999988887777"
    for resource in (f"arn:aws:iam::{ACCOUNT}:user/{key}", f"arn:aws:lambda:us-east-1:{other}:function:f"):
        found, said = explain(denied(session("operator"), "iam:GetUser", resource), evidence())
        data = json.dumps(build_explanation_data(found, evidence(), FOLDERS))
        assert key not in said + data
        assert ACCOUNT not in data
        assert f":{other}:" not in said.splitlines()[0]


def test_arns_for_people_can_be_pasted_and_statements_are_for_files():
    _, said = explain(denied(session("operator"), "sagemaker:AddTags", MODEL), evidence())
    prose = [line for line in said.splitlines() if not line.startswith("  ")]
    assert MODEL in said.splitlines()[0]
    assert not [line for line in prose if "${" in line]
    assert "${account}" in said


@pytest.mark.parametrize("kind", ["role", "user", "policy"])
def test_existing_iam_resources_are_found_by_name(kind):
    """As seen on AWS: `on resource: role NAME` (aws/aws-cdk#27067); what is not there yet has its ARN."""
    names = {"role": "kennel-demo-operator", "user": "pat", "policy": "kennel-demo-operator-models"}
    action = {"role": "iam:UpdateRole", "user": "iam:GetUser", "policy": "iam:DeletePolicy"}[kind]
    found, said = explain(denied(session("operator"), action, f"{kind} {names[kind]}"), evidence())
    path = "" if kind == "user" else "kennel/demo/"
    assert found.question.resource == f"arn:aws:iam::{ACCOUNT}:{kind}/{path}{names[kind]}"
    assert found.denied
    assert said.startswith(f"Hop 1 of 4, the caller's own action: kennel-demo-operator requests {action}")


def test_role_that_may_already_comes_before_a_wider_one():
    """An auditor that wants to deploy takes the role operator; its own policies stay narrow."""
    asked = denied(session("auditor"), "sagemaker:CreateModel", f"{MODEL[:-3]}kennel-demo-1")
    found, said = explain(asked, evidence())
    assert said.index("The role operator may do this already: take that role instead.") < said.index("Smallest change")
    assert build_explanation_data(found, evidence(), FOLDERS)["able_roles"] == ["operator"]
    for other in (
        denied(session("operator"), "sagemaker:AddTags", MODEL),  # no role may
        denied(
            session("ec2-box"), "s3:PutObject", f"arn:aws:s3:::{BUCKET}/shards/x"
        ),  # a service's role, not a person's
    ):
        assert "may do this already" not in explain(other, evidence())[1]


SHORT = f"arn:aws:iam::{ACCOUNT}:role/kennel-demo-"


def test_principal_without_its_path_is_found():
    found, said = explain(denied(f"{SHORT}operator", "sagemaker:AddTags", MODEL), evidence())
    assert found.asked.request.caller.arn == OPERATOR
    assert "there is no" not in said


@pytest.mark.parametrize(
    "text",
    [
        denied(session("operator"), "iam:PassRole", f"{SHORT}lambda-invoke"),
        denied(session("operator"), "sts:AssumeRole", f"{SHORT}lambda-invoke"),
        NO_LAMBDA + f" {SHORT}lambda-invoke",
        denied(
            session("operator"), "iam:GetRole", f"arn:aws:iam::{ACCOUNT}:role/kennel/other/kennel-demo-lambda-invoke"
        ),
    ],
)
def test_resource_without_its_path_names_the_right_arn(text):
    """A statement for it, or iam.apply, would change nothing."""
    found, said = explain(text, evidence())
    assert found.denied
    assert f"the ARN of kennel-demo-lambda-invoke is {LAMBDA}. Name the role by that ARN." in said
    assert "Smallest change" not in said
    assert "iam.apply" not in said


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        (
            f"ClientError: Data download failed: s3://{BUCKET}/shards/x: An error occurred (403) when calling the HeadObject operation: Forbidden",
            Question(4, "s3:HeadObject", f"arn:aws:s3:::{BUCKET}/shards/x", "sagemaker.amazonaws.com"),
        ),
        (
            f"ClientError: Artifact upload failed: s3://{BUCKET}/releases/m.tar.gz: Access Denied",
            Question(4, "s3:PutObject", f"arn:aws:s3:::{BUCKET}/releases/m.tar.gz", "sagemaker.amazonaws.com"),
        ),
        (
            f'Data download failed for role "{EXECUTION}": s3://{BUCKET}/shards/: (AccessDenied) when calling the ListObjectsV2 operation',
            Question(4, "s3:ListObjectsV2", f"arn:aws:s3:::{BUCKET}", EXECUTION, (("s3:prefix", "shards/"),)),
        ),
        (
            f"{session('operator')}: fatal error: s3://{BUCKET}/datasets/x: An error occurred (403) when calling the HeadObject operation: Forbidden",
            Question(1, "s3:HeadObject", f"arn:aws:s3:::{BUCKET}/datasets/x", session("operator")),
        ),
        (
            f"AWS refused GetObject: AccessDenied: Access Denied arn:aws:s3:::{BUCKET}/k.",
            Question(1, "s3:GetObject", f"arn:aws:s3:::{BUCKET}/k"),
        ),
        (
            f"AWS refused AssumeRole: AccessDenied: User: {ME} is not authorized to perform: sts:AssumeRole on resource: {OPERATOR} "
            "Each command assumes its own role of the stack. Create the roles: invoke iam.apply; check them: invoke doctor",
            Question(1, "sts:AssumeRole", OPERATOR, ME),
        ),
    ],
)
def test_what_the_pasted_text_names_needs_no_flags(text, asked):
    assert parse(text).questions[0] == asked


@pytest.mark.parametrize(
    "reason",
    [
        f"User: {ME} is not authorized to perform: s3:GetObject on resource: arn:aws:s3:::{BUCKET}/k",
        f"User: {ME} is not authorized to perform: s3:GetObject on resource: arn:aws:s3:::{BUCKET}/k because no identity-based policy allows the s3:GetObject action.",
        f"Access Denied s3://{BUCKET}/k",
    ],
    ids=["plain", "because", "s3"],
)
def test_hint_of_a_denial_is_not_part_of_the_request(reason):
    error = AwsError("GetObject", "AccessDenied", reason)
    hinted = explain_error(error)
    assert (str(hinted).count("Find out why: invoke runbook.show iam-denied"), hinted.code) == (1, DENIED)
    assert parse(f"{hinted}\n") == parse(str(error))
    assert explain_error(hinted) is hinted


def test_denial_that_names_a_command_gets_no_second_one():
    error = AwsError("AssumeRole", "AccessDenied", "no. What is missing: invoke doctor")
    assert explain_error(error) is error


def test_failed_download_of_a_job_is_explained_without_flags():
    text = f"Data download failed: s3://{BUCKET}/shards/x: An error occurred (403) when calling the HeadObject operation: Forbidden"
    found, said = explain(text, evidence(without_statement("sagemaker-execution", "ReadInput")))
    assert "assumed: kennel-demo-sagemaker-execution" in said
    assert (found.question.action, found.drift) == ("s3:GetObject", True)
    assert "Next: invoke iam.diff --role sagemaker-execution" in said


HUMAN = f"arn:aws:iam::{ACCOUNT}:user/pat"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (denied(session("operator"), "sagemaker:AddTags", MODEL), "Denied by the files: no identity policy"),
        (denied(session("operator"), "iam:PassRole", LAMBDA), "Allowed by the files: allowed by identity"),
        (denied(HUMAN, "sts:AssumeRole", OPERATOR), "Bool aws:MultiFactorAuthPresent requires true"),
    ],
)
def test_explanation_by_files_says_so(text, says):
    """Nothing is claimed about an account that was not read: neither what is allowed today, nor who is there."""
    found, said = explain(text, evidence(by_files=True))
    assert says in said
    assert "today" not in said
    assert "there is no" not in said
    assert "Next: invoke iam.apply" in said
    assert build_explanation_data(found, evidence(by_files=True), FOLDERS)["source"] == "files"


class Unreadable:
    """An account whose IAM this caller may not read."""

    def __init__(self, call):
        self.call_name = call

    def iterate_pages(self, service, call, **args):
        raise AwsError(self.call_name, "AccessDenied", "no")


@pytest.mark.parametrize(
    ("call", "says"),
    [
        ("AssumeRole", "role kennel-demo-auditor cannot be assumed"),
        ("GetAccountAuthorizationDetails", "AWS refused GetAccountAuthorizationDetails: AccessDenied: no"),
    ],
)
def test_unreadable_account_is_explained_by_files(call, says, capsys):
    found, _ = gather_evidence(Unreadable(call), SETTINGS)
    assert found.by_files
    assert found.have.roles.keys() == FILES.roles.keys()
    assert f"Cannot read the account's IAM: {says}. This goes by iam_policies/" in capsys.readouterr().err


def test_placeholders_reproduce_the_text():
    values = {"account": ACCOUNT, "region": SETTINGS.aws.region, "stack": SETTINGS.stack.name, "bucket": BUCKET}
    for text in (
        f'"arn:aws:s3:::{BUCKET}/demo/*"',
        f'"{LAMBDA}"',
        f'"arn:aws:s3:us-east-1:{ACCOUNT}:x/kennel-demo"',
        '"a$b${c}"',
    ):
        assert Template(insert_placeholders(text, SETTINGS)).substitute(values) == text
    assert (
        insert_placeholders(f'"{LAMBDA}"', SETTINGS)
        == '"arn:aws:iam::${account}:role/kennel/${stack}/kennel-${stack}-lambda-invoke"'
    )


EFFECTS = st.sampled_from(["Allow", "Deny"])
ACTIONS = st.sampled_from(["s3:GetObject", "s3:*", "*", "iam:PassRole", "ec2:RunInstances", "sts:AssumeRole"])
RESOURCES = st.sampled_from(
    ["*", "arn:aws:s3:::b/k", "arn:aws:s3:::b/${aws:username}", "arn:aws:s3:::b/*", "arn:aws:iam::1:role/r"]
)
CONDITIONS = st.sampled_from(
    [
        {},
        {"Bool": {"aws:SecureTransport": "false"}},
        {"StringEquals": {"iam:PassedToService": "x"}},
        {"Null": {"s3:prefix": "true"}},
    ]
)
STATEMENTS = st.lists(
    st.builds(
        lambda effect, action, resource, condition, negated: {
            "Effect": effect, "NotAction" if negated else "Action": action, "Resource": resource, "Condition": condition
        },
        EFFECTS, ACTIONS, RESOURCES, CONDITIONS, st.booleans(),
    ),
    max_size=4,
)  # fmt: skip
POLICIES = STATEMENTS.map(lambda statements: parse_policy("p", {"Version": "2012-10-17", "Statement": statements}))
HELD = st.lists(POLICIES, max_size=2).map(lambda held: tuple(replace(p, name=f"p{n}") for n, p in enumerate(held)))
OWN = STATEMENTS.map(
    lambda found: parse_policy("own", {"Version": "2012-10-17", "Statement": [s | {"Principal": "*"} for s in found]})
)
CALLER = Caller("arn:aws:iam::111111111111:role/r", "arn:aws:sts::111111111111:assumed-role/r/s")
ASKED = st.builds(
    DecisionInput,
    st.builds(
        Request,
        st.sampled_from([CALLER, Caller(service="sagemaker.amazonaws.com")]),
        st.sampled_from(["s3:GetObject", "iam:PassRole", "sts:AssumeRole", "s3:ListBucket"]),
        st.sampled_from(["*", "arn:aws:s3:::b/k", "arn:aws:s3:::b/${x}*", "arn:aws:iam::1:role/r", "arn:aws:s3:::b/${aws:username}"]),
        st.fixed_dictionaries({}, optional={"s3:prefix": st.sampled_from(["", "a", "a*${x}"]), "iam:passedtoservice": st.just("lambda.amazonaws.com"), "aws:sourceaccount": st.just("1"), "aws:securetransport": st.just("true")}),
    ),
    st.builds(Rights, HELD, st.none() | POLICIES, st.none() | HELD),
    st.none() | OWN,
    st.booleans(),
)  # fmt: skip


def edited(asked, fix):
    """The edit as a person makes it: the statement goes into the text, or the Deny out of it."""
    rights, own = asked.rights, asked.resource
    if fix.verb == "add":
        return diagnosis.add_statement(asked, fix.layer, json.loads(json.dumps(fix.statement)))

    def cut(one):
        if not one or one.name != fix.policy:
            return one
        return replace(one, statements=tuple(s for s in one.statements if s.name != fix.name))

    fitting = {"identity": tuple(map(cut, rights.identity)), "boundary": cut(rights.boundary), "session": rights.session and tuple(map(cut, rights.session))}  # fmt: skip
    if fix.layer == "resource":
        return replace(asked, resource=cut(own))
    return replace(asked, rights=replace(rights, **{fix.layer: fitting[fix.layer]}))


@settings(max_examples=400, deadline=None)
@given(ASKED)
def test_offered_changes_suffice_and_each_is_needed(asked):
    found = diagnosis.find_smallest_fixes(asked)
    assert bool(found) is not asked.decide().allowed
    for number, fix in enumerate(found):
        assert not asked.decide().allowed, f"{found[number:]} change nothing"
        asked = edited(asked, fix)
    assert asked.decide().allowed


TEXT = st.text(max_size=300) | st.builds(
    lambda a, b, c, d: f"{a}User: {b} is not authorized to perform: {c} on resource: {d}",
    st.text(max_size=20),
    st.sampled_from([session("operator"), OPERATOR, "arn:", ME, "arn:aws:sts::1:assumed-role/"]) | st.text(max_size=30),
    st.sampled_from(["s3:GetObject", "iam:PassRole", "zz:Top", "sts:AssumeRole", "s3:"]) | st.text(max_size=20),
    st.sampled_from(["*", OPERATOR, MODEL, '""', "arn:aws:s3:::"]) | st.text(max_size=60),
)
PIECES = [
    TRUST,
    LISTING,
    MODEL_DATA,
    NO_LAMBDA,
    "Encoded authorization failure message: x",
    "Access Denied",
    "s3://",
    "403",
]


@settings(max_examples=300, deadline=None)
@given(TEXT, st.lists(st.sampled_from(PIECES), max_size=2), st.integers(0, 200))
def test_any_text_is_explained_or_rejected(text, pieces, cut):
    found = parse(text + "".join(piece[cut % len(piece) // 2 :] for piece in pieces))
    if not found:
        return
    try:
        explained = diagnosis.explain_denial(found, evidence())
    except InputError as error:
        assert "does not name the whole request" in str(error)
        return
    said = format_explanation(explained, evidence(), FOLDERS)
    assert said.count("\n") < LINES
    assert all(c.isprintable() or c == "\n" for c in said)
    json.dumps(build_explanation_data(explained, evidence(), FOLDERS))


@pytest.mark.parametrize(
    "piece", ["a", "User: ", "arn:aws:iam::1:role/", "s3://", " is not authorized to perform", "No S3 objects"]
)
def test_only_the_beginning_of_a_huge_text_is_parsed(piece):
    text = piece * (10**6 // len(piece))
    assert parse(TRUST + text).questions == parse(TRUST).questions or "authorized" in piece
    assert parse(text + TRUST) is None

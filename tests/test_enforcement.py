"""Every call of the local AWS is decided on: identity, boundary, session, bucket, trust, PassRole; with AWS's own words."""

import json
from typing import ClassVar

import botocore.session
import pytest
from conftest import Cli

from ops.errors import Refused
from ops.iam.language import actions
from ops.iam.lint import arns
from sandbox import state
from sandbox.authorize import TABLE
from sandbox.details import ARNS, KINDS
from sandbox.parameters import MODELS
from sandbox.tasks import ask

ACCOUNT = "123456789012"
PREFIX = f"arn:aws:iam::{ACCOUNT}"


def statement(action, resource="*", effect="Allow", **more):
    return {"Effect": effect, "Action": action, "Resource": resource, **more}


def policy(*statements):
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


@pytest.fixture(scope="module")
def admin(stacks):
    """The administrator; the roles that tests make are gone afterwards, since other tests audit the same account."""
    account = stacks("enforced").account
    yield account
    for name in Role.made:
        account.call("iam", "delete_role_policy", RoleName=name, PolicyName="all")
        account.call("iam", "delete_role", RoleName=name)
    account.call("iam", "delete_policy", PolicyArn=f"{PREFIX}:policy/bound")


class Role:
    """A role that the administrator may take, with an inline policy of its own."""

    made: ClassVar[list[str]] = []

    def __init__(self, admin, name, *statements, boundary="", trust=None):
        self.admin, self.name, self.arn = admin, name, f"{PREFIX}:role/{name}"
        trust = trust or {"Effect": "Allow", "Principal": {"AWS": f"{PREFIX}:root"}, "Action": "sts:AssumeRole"}
        more = {"PermissionsBoundary": boundary} if boundary else {}
        admin.call("iam", "create_role", RoleName=name, AssumeRolePolicyDocument=policy(trust), **more)
        self.made.append(name)
        self.may(*statements or [statement("iam:GetRole")])

    def may(self, *statements):
        self.admin.call(
            "iam", "put_role_policy", RoleName=self.name, PolicyName="all", PolicyDocument=policy(*statements)
        )

    def client(self, service, **session):
        taken = self.admin.call("sts", "assume_role", RoleArn=self.arn, RoleSessionName="tester", **session)[
            "Credentials"
        ]
        own = botocore.session.Session()
        return own.create_client(
            service, "us-east-1", endpoint_url=self.admin.endpoint_url, aws_access_key_id=taken["AccessKeyId"],
            aws_secret_access_key=taken["SecretAccessKey"], aws_session_token=taken["SessionToken"],
        )  # fmt: skip

    def refused(self, service, call, **args):
        """(code, message) of the refusal; with `session`, of a session that is narrowed so."""
        client = self.client(service, **args.pop("session", {}))
        with pytest.raises(client.exceptions.ClientError) as error:
            getattr(client, call)(**args)
        return error.value.response["Error"]["Code"], error.value.response["Error"]["Message"]


@pytest.fixture(scope="module")
def nobody(admin):
    return Role(admin, "nobody", statement("iam:GetRole"))


@pytest.mark.parametrize(
    ("service", "call", "args", "code", "words"),
    [
        ("sagemaker", "describe_endpoint", {"EndpointName": "e"}, "AccessDeniedException",
         f"sagemaker:DescribeEndpoint on resource: arn:aws:sagemaker:us-east-1:{ACCOUNT}:endpoint/e because no identity-based policy allows"),
        ("ec2", "terminate_instances", {"InstanceIds": ["i-1"]}, "UnauthorizedOperation",
         f"ec2:TerminateInstances on resource: arn:aws:ec2:us-east-1:{ACCOUNT}:instance/i-1"),
        ("iam", "delete_role", {"RoleName": "nobody"}, "AccessDenied", f"iam:DeleteRole on resource: {PREFIX}:role/nobody"),
        ("s3", "list_objects_v2", {"Bucket": "b"}, "AccessDenied", 's3:ListBucket on resource: "arn:aws:s3:::b"'),
        ("s3", "head_object", {"Bucket": "b", "Key": "k"}, "403", "Forbidden"),
        ("lambda", "invoke", {"FunctionName": "f:live"}, "AccessDeniedException", "lambda:InvokeFunction on resource"),
        ("lambda", "create_function", {"FunctionName": "f", "Role": f"{PREFIX}:role/x", "Code": {"ZipFile": b"x"}}, "AccessDeniedException",
         "lambda:CreateFunction"),
        ("logs", "get_log_events", {"logGroupName": "/g", "logStreamName": "s"}, "AccessDeniedException", "logs:GetLogEvents"),
        ("cloudwatch", "delete_alarms", {"AlarmNames": ["a"]}, "AccessDenied", f"arn:aws:cloudwatch:us-east-1:{ACCOUNT}:alarm:a"),
        ("application-autoscaling", "describe_scalable_targets", {"ServiceNamespace": "sagemaker"}, "AccessDeniedException", "application-autoscaling:DescribeScalableTargets"),
        ("ecr", "describe_images", {"repositoryName": "repo"}, "AccessDeniedException", f"arn:aws:ecr:us-east-1:{ACCOUNT}:repository/repo"),
        ("codebuild", "stop_build", {"id": "p:1"}, "AccessDeniedException", f"arn:aws:codebuild:us-east-1:{ACCOUNT}:project/p"),
        ("ssm", "get_parameter", {"Name": "/aws/service/x"}, "AccessDeniedException", "arn:aws:ssm:us-east-1::parameter/aws/service/x"),
        ("ec2-instance-connect", "send_ssh_public_key", {"InstanceId": "i-0123456789abcdef0", "InstanceOSUser": "u", "SSHPublicKey": "k" * 90},
         "AccessDeniedException", "ec2-instance-connect:SendSSHPublicKey"),
        ("sagemaker-runtime", "invoke_endpoint", {"EndpointName": "e", "Body": b"x"}, "AccessDeniedException", "endpoint/e"),
    ],
)  # fmt: skip
def test_a_denial_is_worded_as_the_service_words_it(nobody, service, call, args, code, words):
    found, message = nobody.refused(service, call, **args)
    assert found == code
    assert words in message
    if "Forbidden" not in message:
        assert f"User: arn:aws:sts::{ACCOUNT}:assumed-role/nobody/tester is not authorized to perform: " in message


def test_an_operation_without_a_row_is_not_there_for_anybody(admin):
    with pytest.raises(Refused, match="NotImplementedInSandbox: s3:GetBucketWebsite"):
        admin.call("s3", "get_bucket_website", Bucket="b")


def test_a_role_is_passed_only_to_whom_and_as_far_as_the_policy_says(admin):
    run = statement("sagemaker:CreateModel", f"arn:aws:sagemaker:us-east-1:{ACCOUNT}:model/*")
    asked = {"ModelName": "m", "ExecutionRoleArn": admin.settings.role_arn("sagemaker-execution")}
    to = {"StringEquals": {"iam:PassedToService": "lambda.amazonaws.com"}}
    role = Role(admin, "passer", run, statement("iam:PassRole", asked["ExecutionRoleArn"], Condition=to))
    code, words = role.refused("sagemaker", "create_model", **asked)
    assert code == "AccessDeniedException"
    assert f"iam:PassRole on resource: {asked['ExecutionRoleArn']} because no identity-based policy" in words
    role.may(run, statement("iam:PassRole", asked["ExecutionRoleArn"]))
    assert (
        role.refused("sagemaker", "create_model", **asked)[0] == "ValidationException"
    )  # now it is the image that lacks


def test_tags_given_at_creation_take_a_permission_of_their_own(admin):
    role = Role(admin, "tagger", statement("ecr:CreateRepository"))
    tags = [{"Key": "kennel:stack", "Value": "x"}]
    assert "ecr:TagResource" in role.refused("ecr", "create_repository", repositoryName="tagged", tags=tags)[1]
    role.client("ecr").create_repository(repositoryName="untagged")


def test_boundary_session_and_explicit_deny(admin):
    made = admin.call("iam", "create_policy", PolicyName="bound", PolicyDocument=policy(statement("ec2:Describe*")))
    role = Role(admin, "bounded", statement("*"), boundary=made["Policy"]["Arn"])
    role.client("ec2").describe_vpcs()
    assert (
        "because no permissions boundary allows the ecr:DescribeRepositories action"
        in role.refused("ecr", "describe_repositories")[1]
    )
    only = {"session": {"Policy": policy(statement("ec2:DescribeVpcs"))}}
    role.client("ec2", **only["session"]).describe_vpcs()
    assert "because no session policy allows" in role.refused("ec2", "describe_subnets", **only)[1]
    role.may(statement("*"), statement("ec2:DescribeVpcs", effect="Deny"))
    assert "with an explicit deny in an identity-based policy" in role.refused("ec2", "describe_vpcs")[1]


def test_a_buckets_policy_gives_and_takes_away(admin):
    s3, name = admin.client("s3"), "enforced-bucket"
    s3.create_bucket(Bucket=name)
    s3.put_object(Bucket=name, Key="k", Body=b"x")
    role = Role(admin, "reader", statement("iam:GetRole"))
    own = {"Principal": {"AWS": role.arn}}
    s3.put_bucket_policy(Bucket=name, Policy=policy(statement("s3:GetObject", f"arn:aws:s3:::{name}/*", **own)))
    assert role.client("s3").get_object(Bucket=name, Key="k")["Body"].read() == b"x"
    denied = statement("s3:*", f"arn:aws:s3:::{name}/*", effect="Deny", Principal="*")
    s3.put_bucket_policy(Bucket=name, Policy=policy(denied | {"Action": "s3:GetObject"}))
    role.may(statement("s3:*"))
    assert (
        "with an explicit deny in a resource-based policy" in role.refused("s3", "get_object", Bucket=name, Key="k")[1]
    )


def test_who_may_not_list_is_not_told_what_is_missing(admin):
    s3, name = admin.client("s3"), "enforced-missing"
    s3.create_bucket(Bucket=name)
    role = Role(admin, "peeker", statement("s3:GetObject"))
    assert "s3:ListBucket" in role.refused("s3", "get_object", Bucket=name, Key="k")[1]
    role.may(statement(["s3:GetObject", "s3:ListBucket"]))
    assert role.refused("s3", "get_object", Bucket=name, Key="k")[0] == "NoSuchKey"


def test_resource_tags_of_ec2_decide(admin):
    mine = {"StringEquals": {"aws:ResourceTag/kennel:stack": "mine"}}
    role = Role(admin, "keeper", statement("ec2:DeleteVpc", Condition=mine))
    ec2 = admin.client("ec2")
    made = {
        owner: ec2.create_vpc(
            CidrBlock="10.9.0.0/16",
            TagSpecifications=[{"ResourceType": "vpc", "Tags": [{"Key": "kennel:stack", "Value": owner}]}],
        )["Vpc"]["VpcId"]
        for owner in ("mine", "theirs")
    }
    role.client("ec2").delete_vpc(VpcId=made["mine"])
    assert role.refused("ec2", "delete_vpc", VpcId=made["theirs"])[0] == "UnauthorizedOperation"
    ec2.delete_vpc(VpcId=made["theirs"])


def test_a_role_is_taken_only_by_whom_its_trust_names(admin):
    service = {"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}
    Role(admin, "machine", trust=service)
    with pytest.raises(
        Refused,
        match="AssumeRole: AccessDenied: User: .*user/administrator is not authorized to perform: sts:AssumeRole",
    ):
        admin.call("sts", "assume_role", RoleArn=f"{PREFIX}:role/machine", RoleSessionName="tester")
    middle = Role(admin, "middle", statement("sts:AssumeRole", f"{PREFIX}:role/end"))
    named = {"Effect": "Allow", "Principal": {"AWS": middle.arn}, "Action": "sts:AssumeRole"}
    Role(admin, "end", trust=named)
    middle.client("sts").assume_role(RoleArn=f"{PREFIX}:role/end", RoleSessionName="tester")


def test_services_take_only_roles_that_trust_them(admin):
    arn = admin.settings.role_arn("lambda-invoke")
    with pytest.raises(Refused, match=r"Could not assume role .*principal 'sagemaker.amazonaws.com'"):
        admin.call("sagemaker", "create_model", ModelName="m", ExecutionRoleArn=arn)
    with pytest.raises(Refused, match="The role defined for the function cannot be assumed by Lambda"):
        admin.call(
            "lambda", "create_function", FunctionName="f", Role=admin.settings.role_arn("ec2-box"), Runtime="python3.11",
            Handler="h.h", Code={"ZipFile": b"x"},
        )  # fmt: skip


def test_a_key_that_was_switched_off_opens_nothing(admin):
    admin.call("iam", "create_user", UserName="leaver")
    key = admin.call("iam", "create_access_key", UserName="leaver")["AccessKey"]
    ids = {"UserName": "leaver", "AccessKeyId": key["AccessKeyId"]}
    own = botocore.session.Session().create_client(
        "sts", "us-east-1", endpoint_url=admin.endpoint_url,
        aws_access_key_id=key["AccessKeyId"], aws_secret_access_key=key["SecretAccessKey"],
    )  # fmt: skip
    assert own.get_caller_identity()["Arn"].endswith(":user/leaver")
    admin.call("iam", "update_access_key", Status="Inactive", **ids)
    with pytest.raises(own.exceptions.ClientError, match="UnrecognizedClientException"):
        own.get_caller_identity()
    admin.call("iam", "delete_access_key", **ids)
    admin.call("iam", "delete_user", UserName="leaver")


@pytest.fixture
def ci(stacks, sandbox, tmp_path):
    """Commands as CI runs them: a role taken with a token, by a profile of its own."""

    def make(role, sub, audience="sts.amazonaws.com"):
        stack = stacks("enforced")
        token = ask(state.read(sandbox), "POST", "token", {"sub": sub, "aud": audience})["token"]
        (tmp_path / "token").write_text(token)
        (tmp_path / "config").write_text(
            f"[profile ci]\nregion = us-east-1\nendpoint_url = {stack.account.endpoint_url}\n"
            f"role_arn = {stack.settings.role_arn(role)}\nweb_identity_token_file = {tmp_path}/token\n"
        )
        (tmp_path / "ci.yaml").write_text(
            f"stack: {{name: enforced}}\naws: {{config_file: {tmp_path}/config, profile: ci, take_roles: false}}\n"
        )
        return Cli(tmp_path / "ci.yaml")

    return make


REPOSITORY = "repo:your-organisation/your-repository"


def test_ci_reads_with_a_token_of_its_repository_and_changes_nothing(ci):
    cli = ci("ci", f"{REPOSITORY}:pull_request")
    assert cli("iam.diff").code == 0
    denied = cli("data.up", ok=False)
    assert denied.code == 4
    assert "AWS refused HeadBucket: 403" in denied.err


def test_ci_apply_applies_from_the_production_environment_only(ci, stacks):
    cli = ci("ci-apply", f"{REPOSITORY}:environment:production")
    assert "0 made" in cli("iam.apply").out
    for subject, audience in (
        (f"{REPOSITORY}:pull_request", "sts.amazonaws.com"),
        ("repo:somebody/else:environment:production", "sts.amazonaws.com"),
        (f"{REPOSITORY}:environment:production", "elsewhere"),
    ):
        refused = ci("ci-apply", subject, audience)("iam.diff", ok=False)
        assert refused.code == 4, refused.said
        assert "AssumeRoleWithWebIdentity" in refused.err


def test_a_token_that_nobody_signed_is_none(ci, tmp_path):
    cli = ci("ci", f"{REPOSITORY}:pull_request")
    head, body, _ = (tmp_path / "token").read_text().split(".")
    (tmp_path / "token").write_text(f"{head}.{body}.AAAA")
    assert "InvalidIdentityToken" in cli("iam.diff", ok=False).err


ROWS = [(service, operation) for service, (_, _, rows) in TABLE.items() for operation in rows]


def test_the_table_names_operations_and_actions_that_there_are():
    session = botocore.session.Session()
    for service, (prefix, _, rows) in TABLE.items():
        names = set(session.get_service_model(MODELS.get(service, service)).operation_names)
        names |= {"InvokeEndpoint"} if service == "sagemaker" else {"OpenTunnel"}
        assert set(rows) <= names, service
        for operation, row in rows.items():
            action = row.action or f"{prefix}:{operation}"
            assert actions.exists(action), action
            assert not row.tagging or actions.exists(row.tagging), row.tagging


@pytest.mark.parametrize(("service", "operation"), ROWS)
def test_each_arn_of_the_table_is_one_that_the_action_acts_on(service, operation):
    prefix, start, rows = TABLE[service]
    row = rows[operation]
    action = row.action or f"{prefix}:{operation}"
    for template in row.arns:
        if template in ARNS or template.startswith("{"):
            continue  # looked up, or given by the caller as a whole
        if template == "*":
            assert actions.unscopable(action) or not required(action), action
            continue
        whole = template if template.startswith("arn:") else start + template
        filled = whole.format_map(Filled(region="us-east-1", account=ACCOUNT, Path="/", Name="/x"))
        assert arns.reaches(action, filled), f"{action} on {filled}"


class Filled(dict):
    def __missing__(self, key):
        return "x"


def required(action):
    return [kind for kind in actions.details(action)["resourceTypes"] if kind["required"]]


def test_the_kinds_of_ec2_are_those_of_its_arns():
    from ops.iam.language.actions import types

    known = {kind["key"] for kind in types("ec2:CreateTags")}
    assert set(KINDS.values()) <= known

"""Every call of the local AWS is decided on: identity, boundary, session, bucket, trust, PassRole; with AWS's own words."""

import contextlib
import io
import json
import time
import urllib.error
import urllib.request
import zipfile
from typing import ClassVar

import botocore.config
import botocore.session
import pytest
from botocore.exceptions import ClientError

from ops.core.errors import AwsError
from sandbox import state
from sandbox.client import send_control_request
from tests.conftest import Cli
from tests.unit.test_enforcement import ACCOUNT

PREFIX = f"arn:aws:iam::{ACCOUNT}"


def statement(action, resource="*", effect="Allow", **more):
    return {"Effect": effect, "Action": action, "Resource": resource, **more}


def policy(*statements):
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


@pytest.fixture(scope="module")
def admin(make_stack):
    """The administrator; the roles that tests make are gone afterwards, since other tests audit the same account."""
    account = make_stack("enforced").account
    yield account
    for name in [*Role.made]:
        Role.unmake(account, name)


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

    @classmethod
    def unmake(cls, admin, name):
        admin.call("iam", "delete_role_policy", RoleName=name, PolicyName="all")
        admin.call("iam", "delete_role", RoleName=name)
        cls.made.remove(name)

    def may(self, *statements):
        self.admin.call(
            "iam", "put_role_policy", RoleName=self.name, PolicyName="all", PolicyDocument=policy(*statements)
        )

    def keys(self, **session):
        asked = {"RoleArn": self.arn, "RoleSessionName": "tester"} | session
        return self.admin.call("sts", "assume_role", **asked)["Credentials"]

    def client(self, service, **session):
        return client_with(self.admin, self.keys(**session), service)

    def refused(self, service, call, **args):
        """(code, message) of the refusal; with `session`, of a session that is narrowed so."""
        client = self.client(service, **args.pop("session", {}))
        with pytest.raises(client.exceptions.ClientError) as error:
            getattr(client, call)(**args)
        return error.value.response["Error"]["Code"], error.value.response["Error"]["Message"]


def client_with(admin, keys, service):
    return botocore.session.Session().create_client(
        service, "us-east-1", endpoint_url=admin.endpoint_url, aws_access_key_id=keys["AccessKeyId"],
        aws_secret_access_key=keys["SecretAccessKey"], aws_session_token=keys.get("SessionToken"),
        config=botocore.config.Config(parameter_validation=False),  # it is the sandbox that has to refuse
    )  # fmt: skip


def denied(client, call, **args):
    """The message of the refusal."""
    with pytest.raises(client.exceptions.ClientError) as error:
        getattr(client, call)(**args)
    return f"{error.value.response['Error']['Code']}: {error.value.response['Error']['Message']}"


@pytest.fixture(scope="module")
def unprivileged(admin):
    return Role(admin, "unprivileged", statement("iam:GetRole"))


@pytest.mark.parametrize(
    ("service", "call", "args", "code", "words"),
    [
        ("sagemaker", "describe_endpoint", {"EndpointName": "e"}, "AccessDeniedException",
         f"sagemaker:DescribeEndpoint on resource: arn:aws:sagemaker:us-east-1:{ACCOUNT}:endpoint/e because no identity-based policy allows"),
        ("ec2", "terminate_instances", {"InstanceIds": ["i-1"]}, "UnauthorizedOperation",
         f"ec2:TerminateInstances on resource: arn:aws:ec2:us-east-1:{ACCOUNT}:instance/i-1"),
        ("iam", "delete_role", {"RoleName": "unprivileged"}, "AccessDenied", "iam:DeleteRole on resource: role unprivileged because no"),
        ("iam", "create_role", {"RoleName": "new", "AssumeRolePolicyDocument": "{}"}, "AccessDenied",
         f"iam:CreateRole on resource: {PREFIX}:role/new because"),
        ("iam", "get_user", {"UserName": "joe"}, "AccessDenied", "iam:GetUser on resource: user joe because"),
        ("iam", "create_user", {"UserName": "joe", "Path": "/people/"}, "AccessDenied",
         f"iam:CreateUser on resource: {PREFIX}:user/people/joe because"),
        ("iam", "get_policy", {"PolicyArn": f"{PREFIX}:policy/p"}, "AccessDenied", f"iam:GetPolicy on resource: policy {PREFIX}:policy/p because"),
        ("iam", "create_policy", {"PolicyName": "p", "PolicyDocument": "{}"}, "AccessDenied", "iam:CreatePolicy on resource: policy p because"),
        ("iam", "get_instance_profile", {"InstanceProfileName": "b"}, "AccessDenied", "iam:GetInstanceProfile on resource: instance profile b because"),
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
        ("ssm", "get_parameter", {"Name": "plain:3"}, "AccessDeniedException", f"arn:aws:ssm:us-east-1:{ACCOUNT}:parameter/plain because"),
        ("ssm", "get_parameter", {"Name": f"arn:aws:ssm:us-east-1:{ACCOUNT}:parameter/own/x"}, "AccessDeniedException",
         f"arn:aws:ssm:us-east-1:{ACCOUNT}:parameter/own/x because"),
        ("ssm", "get_parameters_by_path", {"Path": "/own/"}, "AccessDeniedException", f"arn:aws:ssm:us-east-1:{ACCOUNT}:parameter/own/* because"),
        ("ec2-instance-connect", "send_ssh_public_key", {"InstanceId": "i-0123456789abcdef0", "InstanceOSUser": "u", "SSHPublicKey": "k" * 90},
         "AccessDeniedException", "ec2-instance-connect:SendSSHPublicKey"),
        ("sagemaker-runtime", "invoke_endpoint", {"EndpointName": "e", "Body": b"x"}, "AccessDeniedException", "endpoint/e"),
    ],
)  # fmt: skip
def test_denial_has_the_message_of_its_service(unprivileged, service, call, args, code, words):
    found, message = unprivileged.refused(service, call, **args)
    assert found == code
    assert words in message
    if "Forbidden" not in message:
        assert (
            f"User: arn:aws:sts::{ACCOUNT}:assumed-role/unprivileged/tester is not authorized to perform: " in message
        )


def test_operation_without_permissions_row_is_unsupported(admin):
    with pytest.raises(AwsError, match="NotImplementedInSandbox: s3:GetBucketWebsite"):
        admin.call("s3", "get_bucket_website", Bucket="b")


def test_pass_role_checks_service_and_resource(admin):
    """A role is passed only to the service and as far as the policy says."""
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


def test_tags_at_creation_need_their_own_permission(admin):
    role = Role(admin, "tagger", statement("ecr:CreateRepository"))
    tags = [{"Key": "kennel:stack", "Value": "x"}]
    assert "ecr:TagResource" in role.refused("ecr", "create_repository", repositoryName="tagged", tags=tags)[1]
    role.client("ecr").create_repository(repositoryName="untagged")


def test_boundary_session_policy_and_deny_restrict(admin):
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
    Role.unmake(admin, "bounded")
    admin.call("iam", "delete_policy", PolicyArn=made["Policy"]["Arn"])


def test_bucket_policy_allows_and_denies(admin):
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


def test_missing_key_is_hidden_without_list_permission(admin):
    s3, name = admin.client("s3"), "enforced-missing"
    s3.create_bucket(Bucket=name)
    role = Role(admin, "peeker", statement("s3:GetObject"))
    assert "s3:ListBucket" in role.refused("s3", "get_object", Bucket=name, Key="k")[1]
    role.may(statement(["s3:GetObject", "s3:ListBucket"]))
    assert role.refused("s3", "get_object", Bucket=name, Key="k")[0] == "NoSuchKey"


def test_ec2_resource_tags_are_authorised(admin):
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


def test_role_is_assumed_by_trusted_principals_only(admin):
    service = {"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}
    Role(admin, "machine", trust=service)
    with pytest.raises(
        AwsError,
        match="AssumeRole: AccessDenied: User: .*user/administrator is not authorized to perform: sts:AssumeRole",
    ):
        admin.call("sts", "assume_role", RoleArn=f"{PREFIX}:role/machine", RoleSessionName="tester")
    middle = Role(admin, "middle", statement("sts:AssumeRole", f"{PREFIX}:role/end"))
    named = {"Effect": "Allow", "Principal": {"AWS": middle.arn}, "Action": "sts:AssumeRole"}
    Role(admin, "end", trust=named)
    middle.client("sts").assume_role(RoleArn=f"{PREFIX}:role/end", RoleSessionName="tester")


def test_services_accept_only_roles_that_trust_them(admin):
    arn = admin.settings.role_arn("lambda-invoke")
    with pytest.raises(AwsError, match=r"Could not assume role .*principal 'sagemaker.amazonaws.com'"):
        admin.call("sagemaker", "create_model", ModelName="untrusted", ExecutionRoleArn=arn)
    with pytest.raises(AwsError, match="The role defined for the function cannot be assumed by Lambda"):
        admin.call(
            "lambda", "create_function", FunctionName="f", Role=admin.settings.role_arn("ec2-box"), Runtime="python3.11",
            Handler="h.h", Code={"ZipFile": b"x"},
        )  # fmt: skip


def test_inactive_key_is_rejected(admin):
    admin.call("iam", "create_user", UserName="leaver")
    key = admin.call("iam", "create_access_key", UserName="leaver")["AccessKey"]
    ids = {"UserName": "leaver", "AccessKeyId": key["AccessKeyId"]}
    own = botocore.session.Session().create_client(
        "sts", "us-east-1", endpoint_url=admin.endpoint_url,
        aws_access_key_id=key["AccessKeyId"], aws_secret_access_key=key["SecretAccessKey"],
    )  # fmt: skip
    assert own.get_caller_identity()["Arn"].endswith(":user/leaver")
    admin.call("iam", "update_access_key", Status="Inactive", **ids)
    with pytest.raises(own.exceptions.ClientError, match="InvalidClientTokenId"):
        own.get_caller_identity()
    admin.call("iam", "delete_access_key", **ids)
    admin.call("iam", "delete_user", UserName="leaver")


@pytest.fixture(scope="module")
def versions(admin):
    """A bucket with versions of one object: its name, and the id of the first."""
    s3, name = admin.client("s3"), "enforced-versions"
    s3.create_bucket(Bucket=name)
    s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    first = s3.put_object(Bucket=name, Key="v", Body=b"1")["VersionId"]
    s3.put_object(Bucket=name, Key="v", Body=b"2")
    return name, first


@pytest.mark.parametrize("verb", ["delete_object", "get_object", "head_object", "get_object_tagging"])
def test_object_version_needs_its_own_action(admin, versions, verb):
    name, first = versions
    action = {"head_object": "GetObject"}.get(verb, "".join(word.title() for word in verb.split("_")))
    role = Role(admin, f"plain-{verb}", statement([f"s3:{action}", "s3:ListBucket"]))
    getattr(role.client("s3"), verb)(Bucket=name, Key="v")
    admin.client("s3").put_object(Bucket=name, Key="v", Body=b"3")
    named = {"Bucket": name, "Key": "v", "VersionId": first}
    assert denied(role.client("s3"), verb, **named).split(":")[0] in ("AccessDenied", "403")
    role.may(statement(f"s3:{action.replace('Object', 'ObjectVersion')}"))
    if verb == "delete_object":  # the others need it
        return
    getattr(role.client("s3"), verb)(**named)


def test_object_tags_and_acl_need_their_own_permissions(admin, versions):
    """Tags and an ACL given with an object need permissions of their own."""
    name, _ = versions
    role = Role(admin, "writer", statement(["s3:PutObject", "s3:GetObject"]))
    s3 = role.client("s3")
    s3.put_object(Bucket=name, Key="t", Body=b"x")
    for verb, body in (
        ("put_object", {"Body": b"x"}),
        ("create_multipart_upload", {}),
        ("copy_object", {"CopySource": f"{name}/t"}),
    ):
        more = {"TaggingDirective": "REPLACE"} if verb == "copy_object" else {}
        assert "s3:PutObjectTagging on" in denied(s3, verb, Bucket=name, Key="t", Tagging="team=a", **body, **more)
        assert "s3:PutObjectAcl on" in denied(s3, verb, Bucket=name, Key="t", ACL="public-read", **body)
    own = {"StringEquals": {"s3:RequestObjectTag/team": "a"}}
    role.may(statement("s3:PutObject"), statement("s3:PutObjectTagging", Condition=own))
    s3.put_object(Bucket=name, Key="t", Body=b"x", Tagging="team=a")
    assert "s3:PutObjectTagging on" in denied(s3, "put_object", Bucket=name, Key="t", Body=b"x", Tagging="team=b")


def test_copy_authorises_the_decoded_source(admin, versions):
    """The source is URL-encoded: what it says decoded is decided on, and its version."""
    (name, first), s3 = versions, admin.client("s3")
    for key in ("private/x", "a b", "tagged"):
        s3.put_object(Bucket=name, Key=key, Body=b"x", **({"Tagging": "a=b"} if key == "tagged" else {}))
    secret = statement("s3:GetObject", f"arn:aws:s3:::{name}/private/*", effect="Deny")
    role = Role(admin, "copier", statement(["s3:PutObject", "s3:GetObject"]), secret)
    own = role.client("s3")
    for source in ("private/x", "private%2Fx"):
        own.meta.events.register("before-sign.s3.CopyObject", lambda request, source=source, **_: request.headers.replace_header(
            "x-amz-copy-source", f"{name}/{source}") if "x-amz-copy-source" in request.headers else None)  # fmt: skip
        assert "explicit deny" in denied(own, "copy_object", Bucket=name, Key="c", CopySource=f"{name}/private/x")
    own = role.client("s3")
    role.may(statement("s3:PutObject"), statement("s3:GetObject", f"arn:aws:s3:::{name}/a b"))
    own.copy_object(Bucket=name, Key="c", CopySource={"Bucket": name, "Key": "a b"})
    role.may(statement("s3:PutObject"), statement("s3:GetObject"))
    source = {"Bucket": name, "Key": "v", "VersionId": first}
    assert "s3:GetObjectVersion on" in denied(own, "copy_object", Bucket=name, Key="c", CopySource=source)
    assert "s3:GetObjectTagging on" in denied(own, "copy_object", Bucket=name, Key="c", CopySource=f"{name}/tagged")


def test_list_and_encryption_conditions_are_checked(admin, versions):
    name, _ = versions
    own, s3 = f"arn:aws:s3:::{name}", admin.client("s3")
    home = {"StringEquals": {"s3:prefix": ["", "home/"], "s3:delimiter": "/"}}
    role = Role(admin, "lister", statement("s3:ListBucket", own, Condition=home))
    role.client("s3").list_objects_v2(Bucket=name, Prefix="", Delimiter="/")
    assert "s3:ListBucket" in denied(role.client("s3"), "list_objects_v2", Bucket=name, Prefix="x", Delimiter="/")
    role.may(statement("s3:ListBucket", own, Condition={"NumericLessThanEquals": {"s3:max-keys": "10"}}))
    role.client("s3").list_objects_v2(Bucket=name, MaxKeys=5)
    assert "s3:ListBucket" in denied(role.client("s3"), "list_objects_v2", Bucket=name, MaxKeys=11)
    plain = {"StringNotEquals": {"s3:x-amz-server-side-encryption": "AES256"}}
    s3.put_bucket_policy(
        Bucket=name, Policy=policy(statement("s3:PutObject", f"{own}/*", "Deny", Principal="*", Condition=plain))
    )
    s3.put_object(Bucket=name, Key="kept", Body=b"x", ServerSideEncryption="AES256")
    assert "explicit deny" in denied(s3, "put_object", Bucket=name, Key="plain", Body=b"x")
    s3.delete_bucket_policy(Bucket=name)


def test_session_expires(admin, sandbox):
    role = Role(admin, "short")
    keys = role.keys(DurationSeconds=900)
    sts = client_with(admin, keys, "sts")
    sts.get_caller_identity()
    send_control_request(state.read(sandbox), "POST", "expire", {"key": keys["AccessKeyId"]})
    with pytest.raises(sts.exceptions.ClientError):
        sts.get_caller_identity()


def test_session_duration_is_limited_by_its_role(admin):
    role = Role(admin, "hourly", statement("sts:AssumeRole"))
    with pytest.raises(AwsError, match="exceeds the MaxSessionDuration set for this role"):
        role.keys(DurationSeconds=3601)
    asked = {"RoleArn": role.arn, "RoleSessionName": "tester"}
    assert "greater than or equal to 900" in denied(role.client("sts"), "assume_role", **asked, DurationSeconds=899)
    admin.call("iam", "update_role", RoleName="hourly", MaxSessionDuration=7200)
    left = role.keys(DurationSeconds=7200)["Expiration"].timestamp() - time.time()
    assert 7100 < left <= 7200
    chained = denied(
        role.client("sts"), "assume_role", RoleArn=role.arn, RoleSessionName="tester", DurationSeconds=3601
    )
    assert "1 hour session limit for roles assumed by role chaining" in chained


def test_recreated_role_has_no_old_sessions(admin):
    old = Role(admin, "ghost")
    sts = old.client("sts")
    Role.unmake(admin, "ghost")
    new = Role(admin, "ghost", statement("*"))
    with pytest.raises(sts.exceptions.ClientError):
        sts.get_caller_identity()
    new.client("sts").get_caller_identity()


def trusting(principal, *more, **conditions):
    return {"Effect": "Allow", "Principal": {"AWS": principal}, "Action": ["sts:AssumeRole", *more], **conditions}


@pytest.mark.parametrize(
    ("key", "wanted", "asked"),
    [
        ("sts:ExternalId", "abc", {"ExternalId": "abc"}),
        ("sts:RoleSessionName", "good-1", {"RoleSessionName": "good-1"}),
        ("aws:RequestTag/team", "a", {"Tags": [{"Key": "team", "Value": "a"}]}),
        ("sts:SourceIdentity", "jo", {"SourceIdentity": "jo"}),
    ],
)
def test_trust_conditions_see_the_session_parameters(admin, key, wanted, asked):
    condition = {"Condition": {"StringEquals": {key: wanted}}}
    trust = trusting(f"{PREFIX}:root", "sts:TagSession", "sts:SetSourceIdentity", **condition)
    role = Role(admin, f"asks-{key.split(':')[1].split('/')[0]}", trust=trust)
    role.keys(**asked)
    with pytest.raises(AwsError, match="is not authorized to perform: sts:"):
        role.keys()


def test_session_tags_need_permission_and_count_as_principals(admin):
    """Session tags take a permission, and count as the principal's tags."""
    taker = Role(admin, "taker", statement("sts:AssumeRole"))
    tagged = {"Tags": [{"Key": "team", "Value": "a"}], "TransitiveTagKeys": ["team"]}
    mine = {"StringEquals": {"aws:PrincipalTag/team": "a"}}
    rights = [statement("ec2:DescribeVpcs", Condition=mine), statement(["sts:AssumeRole", "sts:TagSession"])]
    target = Role(admin, "tagged", *rights, trust=trusting(taker.arn))
    asked = {"RoleArn": target.arn, "RoleSessionName": "tester"}
    assert "sts:TagSession on resource" in denied(taker.client("sts"), "assume_role", **asked, **tagged)
    taker.may(statement(["sts:AssumeRole", "sts:TagSession"]))
    assert "sts:TagSession on resource" in denied(
        taker.client("sts"), "assume_role", **asked, **tagged
    )  # the trust's part
    open_to = policy(trusting([taker.arn, target.arn], "sts:TagSession"))
    admin.call("iam", "update_assume_role_policy", RoleName="tagged", PolicyDocument=open_to)
    keys = taker.client("sts").assume_role(**asked, **tagged)["Credentials"]
    client_with(admin, keys, "ec2").describe_vpcs()
    chained = client_with(admin, keys, "sts").assume_role(**asked)["Credentials"]
    client_with(admin, chained, "ec2").describe_vpcs()  # the tag is transitive
    untagged = taker.client("sts").assume_role(**asked)["Credentials"]
    assert "ec2:DescribeVpcs" in denied(client_with(admin, untagged, "ec2"), "describe_vpcs")


@pytest.fixture
def user(admin):
    """Makes users: name, statements -> a client. They are gone afterwards."""
    made = []

    def make(name, service, *statements, **more):
        admin.call("iam", "create_user", UserName=name, **more)
        admin.call("iam", "put_user_policy", UserName=name, PolicyName="all", PolicyDocument=policy(*statements))
        keys = admin.call("iam", "create_access_key", UserName=name)["AccessKey"]
        made.append((name, keys["AccessKeyId"]))
        return client_with(admin, keys, service)

    yield make
    for name, key in made:
        admin.call("iam", "delete_access_key", UserName=name, AccessKeyId=key)
        admin.call("iam", "delete_user_policy", UserName=name, PolicyName="all")
        admin.call("iam", "delete_user", UserName=name)


def test_user_boundary_restricts(admin, user):
    made = admin.call("iam", "create_policy", PolicyName="user-bound", PolicyDocument=policy(statement("ec2:*")))[
        "Policy"
    ]
    iam = user("bounded", "iam", statement("*"), PermissionsBoundary=made["Arn"])
    assert "no permissions boundary allows the iam:ListUsers action" in denied(iam, "list_users")
    described = admin.call("iam", "get_user", UserName="bounded")["User"]["PermissionsBoundary"]
    assert described["PermissionsBoundaryArn"] == made["Arn"]
    found = admin.call("iam", "get_account_authorization_details", Filter=["User"])["UserDetailList"]
    assert [one["PermissionsBoundary"]["PermissionsBoundaryArn"] for one in found if one["UserName"] == "bounded"] == [
        made["Arn"]
    ]
    admin.call("iam", "delete_user_permissions_boundary", UserName="bounded")
    iam.list_users()
    admin.call("iam", "put_user_permissions_boundary", UserName="bounded", PermissionsBoundary=made["Arn"])
    assert "no permissions boundary" in denied(iam, "list_users")
    admin.call("iam", "delete_user_permissions_boundary", UserName="bounded")
    admin.call("iam", "delete_policy", PolicyArn=made["Arn"])
    with pytest.raises(AwsError, match="NoSuchEntity"):
        admin.call("iam", "create_user", UserName="unbound", PermissionsBoundary=made["Arn"])


def test_user_changes_are_held_to_conditions(admin, user):
    user("joe", "iam", statement("iam:GetUser"))
    policy_arn = f"{PREFIX}:policy/adm"
    named = {"ArnEquals": {"iam:PolicyARN": policy_arn}}
    role = Role(
        admin,
        "people",
        statement(["iam:AttachUserPolicy", "iam:CreateUser"]),
        statement("iam:AttachUserPolicy", effect="Deny", Condition=named),
    )
    iam = role.client("iam")
    assert "explicit deny" in denied(iam, "attach_user_policy", UserName="joe", PolicyArn=policy_arn)
    assert "iam:TagUser on" in denied(iam, "create_user", UserName="tagged", Tags=[{"Key": "a", "Value": "b"}])
    role.may(statement("iam:CreateUser", f"{PREFIX}:user/people/*"))
    assert f"{PREFIX}:user/pat because" in denied(iam, "create_user", UserName="pat")
    iam.create_user(UserName="pat", Path="/people/")
    admin.call("iam", "delete_user", UserName="pat")
    bound = {"StringEquals": {"iam:PermissionsBoundary": f"{PREFIX}:policy/bound"}}
    role.may(statement(["iam:CreateUser", "iam:PutUserPolicy"], Condition=bound))
    assert "iam:CreateUser" in denied(iam, "create_user", UserName="free")
    assert "iam:PutUserPolicy" in denied(iam, "put_user_policy", UserName="joe", PolicyName="p", PolicyDocument="{}")


def test_call_without_a_user_name_means_the_caller(admin, user):
    own = f"{PREFIX}:user/${{aws:username}}"
    iam = user(
        "selfish",
        "iam",
        statement(["iam:GetUser", "iam:ListAccessKeys", "iam:UpdateAccessKey", "iam:DeleteAccessKey"], own),
    )
    assert iam.get_user()["User"]["UserName"] == "selfish"
    assert iam.list_access_keys()["AccessKeyMetadata"][0]["UserName"] == "selfish"
    user("victim", "iam", statement("iam:GetUser"))
    other = admin.call("iam", "list_access_keys", UserName="victim")["AccessKeyMetadata"][0]["AccessKeyId"]
    assert "NoSuchEntity" in denied(iam, "update_access_key", AccessKeyId=other, Status="Inactive")
    assert "NoSuchEntity" in denied(iam, "delete_access_key", AccessKeyId=other)
    assert "iam:GetUser on resource: user victim" in denied(iam, "get_user", UserName="victim")
    role = Role(admin, "no-user", statement("iam:GetUser"))
    assert "Must specify userName" in denied(role.client("iam"), "get_user")


@pytest.fixture
def network(admin):
    """A VPC with a subnet and a security group, gone afterwards."""
    ec2 = admin.client("ec2")
    vpc = ec2.create_vpc(CidrBlock="10.8.0.0/16")["Vpc"]["VpcId"]
    subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.8.1.0/24")["Subnet"]["SubnetId"]
    group = ec2.create_security_group(GroupName="enforced", Description="d", VpcId=vpc)["GroupId"]
    yield {"SubnetId": subnet, "SecurityGroupIds": [group]}
    ec2.delete_security_group(GroupId=group)
    ec2.delete_subnet(SubnetId=subnet)
    ec2.delete_vpc(VpcId=vpc)


def test_rule_tags_need_their_own_permission(admin, network):
    """Tags of a security group's rule need a permission of their own."""
    role = Role(admin, "firewaller", statement("ec2:AuthorizeSecurityGroupIngress"))
    ssh = [{"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": [{"CidrIp": "10.0.0.0/8"}]}]
    asked = {"GroupId": network["SecurityGroupIds"][0], "IpPermissions": ssh}
    tags = [{"ResourceType": "security-group-rule", "Tags": [{"Key": "a", "Value": "b"}]}]
    refused = denied(role.client("ec2"), "authorize_security_group_ingress", **asked, TagSpecifications=tags)
    assert f"ec2:CreateTags on resource: arn:aws:ec2:us-east-1:{ACCOUNT}:security-group-rule/*" in refused
    role.client("ec2").authorize_security_group_ingress(**asked)


def test_connect_endpoint_needs_its_interface_and_service_role(admin, network):
    """As AWS documents: the caller makes the endpoint's interface and, once in an account, the service's role."""
    role = Role(admin, "half-door", statement("ec2:CreateInstanceConnectEndpoint"))
    refused = denied(role.client("ec2"), "create_instance_connect_endpoint", **network)
    assert f"ec2:CreateNetworkInterface on resource: arn:aws:ec2:us-east-1:{ACCOUNT}:network-interface/*" in refused
    with contextlib.suppress(ClientError):  # there is none unless another test made an endpoint
        admin.client("iam").delete_role(RoleName="AWSServiceRoleForEC2InstanceConnect")
    role = Role(admin, "unlinked-door", statement(["ec2:CreateInstanceConnectEndpoint", "ec2:CreateNetworkInterface"]))
    refused = denied(role.client("ec2"), "create_instance_connect_endpoint", **network)
    assert "iam:CreateServiceLinkedRole" in refused
    assert "ec2-instance-connect.amazonaws.com/AWSServiceRoleForEC2InstanceConnect" in refused


@pytest.fixture
def profile(admin):
    """An instance profile with a role that Lambda alone may take, gone afterwards."""
    service = {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
    Role(admin, "boxed", trust=service)
    admin.call("iam", "create_instance_profile", InstanceProfileName="boxed")
    admin.call("iam", "add_role_to_instance_profile", InstanceProfileName="boxed", RoleName="boxed")
    yield f"{PREFIX}:instance-profile/boxed"
    admin.call("iam", "remove_role_from_instance_profile", InstanceProfileName="boxed", RoleName="boxed")
    admin.call("iam", "delete_instance_profile", InstanceProfileName="boxed")
    Role.unmake(admin, "boxed")


LAUNCH = {"ImageId": "ami-0f0e0d0c0b0a09080", "MinCount": 1, "MaxCount": 1, "InstanceType": "t3.micro"}


def test_instance_profile_is_the_same_by_name_and_arn(admin, network, profile):
    other = {"ArnNotEquals": {"ec2:InstanceProfile": profile}}
    machine = f"arn:aws:ec2:us-east-1:{ACCOUNT}:instance/*"
    role = Role(
        admin,
        "launcher",
        statement("ec2:RunInstances"),
        statement("ec2:RunInstances", machine, "Deny", Condition=other),
    )
    for named in ({"Name": "boxed"}, {"Arn": profile}):  # not denied for the profile, but for the role in it
        assert "iam:PassRole on" in denied(
            role.client("ec2"), "run_instances", **LAUNCH, **network, IamInstanceProfile=named
        )
    assert "explicit deny" in denied(role.client("ec2"), "run_instances", **LAUNCH, **network)


def fetched(url, method="GET", **headers):
    request = urllib.request.Request(url, method=method, headers={k.replace("_", "-"): v for k, v in headers.items()})
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_box_metadata_gives_keys_if_the_trust_allows_ec2(admin, sandbox, network, profile):
    ec2 = admin.client("ec2")
    launch = (
        LAUNCH
        | network
        | {"UserData": "#!/bin/sh\nenv > $BOX_ROOT/env.txt.new; mv $BOX_ROOT/env.txt.new $BOX_ROOT/env.txt\n"}
    )
    box = ec2.run_instances(**launch, IamInstanceProfile={"Name": "boxed"})["Instances"][0]["InstanceId"]
    try:
        output = sandbox / "boxes" / box / "env.txt"
        for _ in range(100):
            if output.exists():
                break
            time.sleep(0.1)
        lines = dict(line.split("=", 1) for line in output.read_text().splitlines() if "=" in line)
        base = lines["AWS_EC2_METADATA_SERVICE_ENDPOINT"]
        secret = base.rstrip("/").rsplit("/", 1)[-1]
        roles = f"{base}latest/meta-data/iam/security-credentials/"
        assert fetched(f"{admin.endpoint_url}/_credentials/{secret}")[0] == 404
        assert fetched(roles, X_aws_ec2_metadata_token=f"token-{secret[::-1]}")[0] == 401
        assert fetched(f"{base}latest/api/token", "PUT")[0] == 400
        status, token = fetched(f"{base}latest/api/token", "PUT", X_aws_ec2_metadata_token_ttl_seconds="60")
        assert status == 200
        mine = {"X_aws_ec2_metadata_token": token}
        assert fetched(roles, **mine) == (200, "boxed")
        assert json.loads(fetched(f"{roles}boxed", **mine)[1])["Code"] == "AssumeRoleUnauthorizedAccess"
        trust = {"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}
        admin.call("iam", "update_assume_role_policy", RoleName="boxed", PolicyDocument=policy(trust))
        keys = json.loads(fetched(f"{roles}boxed", **mine)[1])
        sts = client_with(admin, keys | {"SessionToken": keys["Token"]}, "sts")
        assert sts.get_caller_identity()["Arn"].endswith(f"assumed-role/boxed/{box}")
        ec2.stop_instances(InstanceIds=[box])
        assert fetched(f"{roles}boxed", **mine)[0] == 404
    finally:
        ec2.terminate_instances(InstanceIds=[box])


def test_function_policy_admits_its_principals(admin):
    service = {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
    runs, packed = Role(admin, "runs", trust=service), io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("h.py", "def h(e, c): return 1")
    functions = admin.client("lambda")
    functions.create_function(
        FunctionName="enforced",
        Role=runs.arn,
        Runtime="python3.11",
        Handler="h.h",
        Code={"ZipFile": packed.getvalue()},
        Publish=True,
    )
    functions.create_alias(FunctionName="enforced", Name="live", FunctionVersion="1")
    role = Role(
        admin,
        "invoker",
        statement("lambda:AddPermission", Condition={"StringEquals": {"lambda:Principal": "s3.amazonaws.com"}}),
    )
    own = role.client("lambda")
    added = {"FunctionName": "enforced", "Action": "lambda:InvokeFunction"}
    own.add_permission(**added, StatementId="s3", Principal="s3.amazonaws.com")
    assert "lambda:AddPermission" in denied(own, "add_permission", **added, StatementId="x", Principal=role.arn)
    assert "lambda:InvokeFunction" in denied(own, "invoke", FunctionName="enforced")
    functions.add_permission(**added, StatementId="role", Principal=role.arn)
    own.invoke(FunctionName="enforced", InvocationType="DryRun")
    assert "lambda:InvokeFunction" in denied(own, "invoke", FunctionName="enforced", Qualifier="live")
    functions.add_permission(**added, StatementId="live", Principal=role.arn, Qualifier="live")
    own.invoke(FunctionName="enforced", Qualifier="live", InvocationType="DryRun")
    functions.delete_alias(FunctionName="enforced", Name="live")
    functions.delete_function(FunctionName="enforced")


@pytest.fixture
def ci(make_stack, sandbox, tmp_path):
    """Commands as CI runs them: a role taken with a token, by a profile of its own."""

    def make(role, sub, audience="sts.amazonaws.com"):
        stack = make_stack("enforced")
        token = send_control_request(state.read(sandbox), "POST", "token", {"sub": sub, "aud": audience})["token"]
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


def test_ci_reads_with_its_token_and_changes_nothing(ci):
    """CI reads with a token of its repository, and changes nothing."""
    cli = ci("ci", f"{REPOSITORY}:pull_request")
    assert cli("iam.diff").code == 0
    denied = cli("data.up", ok=False)
    assert denied.code == 4
    assert "AWS refused HeadBucket: 403" in denied.err


def test_ci_apply_needs_the_production_environment(ci, make_stack):
    cli = ci("ci-apply", f"{REPOSITORY}:environment:production")
    assert "0 made" in cli("iam.apply").out
    for subject, audience in (
        (f"{REPOSITORY}:pull_request", "sts.amazonaws.com"),
        ("repo:another/owner:environment:production", "sts.amazonaws.com"),
        (f"{REPOSITORY}:environment:production", "elsewhere"),
    ):
        refused = ci("ci-apply", subject, audience)("iam.diff", ok=False)
        assert refused.code == 4, refused.said
        assert "AssumeRoleWithWebIdentity" in refused.err


def test_unsigned_token_is_rejected(ci, tmp_path):
    cli = ci("ci", f"{REPOSITORY}:pull_request")
    head, body, _ = (tmp_path / "token").read_text().split(".")
    (tmp_path / "token").write_text(f"{head}.{body}.AAAA")
    assert "InvalidIdentityToken" in cli("iam.diff", ok=False).err

"""IAM's incident pages, followed: an administrator makes the fault, as in AWS's console, and the page finds and repairs it."""

import json
import os
import pty
import subprocess
import sys

import pytest

from ops.core.aws.account import Account
from ops.core.errors import AwsError
from ops.core.kept_sessions import drop_sessions
from ops.core.paths import ROOT, WORK
from ops.iam import roles
from tests.e2e.test_incidents import Page
from tests.unit.test_incidents_iam import ACCOUNT, ANYBODY, EVERYTHING


def rewritten(cli, role, stem, alter):
    """A new version of a managed policy, from each statement what `alter` makes of it; None takes it away."""
    iam, arn = cli.account.client("iam"), roles.derive_policy_arn(role, stem, cli.settings)
    version = iam.get_policy(PolicyArn=arn)["Policy"]["DefaultVersionId"]
    text = iam.get_policy_version(PolicyArn=arn, VersionId=version)["PolicyVersion"]["Document"]
    altered = [new for one in text["Statement"] if (new := alter(one)) is not None]
    assert altered != text["Statement"]
    text = text | {"Statement": altered}
    iam.create_policy_version(PolicyArn=arn, PolicyDocument=json.dumps(text), SetAsDefault=True)


def without(action):
    """Statements that lack one action, and what is left without any is gone."""

    def alter(one):
        left = [each for each in one["Action"] if each != action]
        return one | {"Action": left} if left else None

    return alter


class Denied:
    """A page with the message of a denial in the file that its commands name."""

    def __init__(self, page, cli, folder, **inputs):
        self.file = folder / "error.txt"
        self.page = Page(page, cli, file=str(self.file), **inputs)

    def says(self, text):
        self.file.write_text(text)


def refused(account, service, call, **args):
    with pytest.raises(AwsError) as error:
        account.call(service, call, **args)
    return str(error.value)


@pytest.fixture(scope="module")
def stack(make_stack, pictures_once):
    cli = make_stack("denied")
    cli("data.up", "net.up")
    cli("data.push", "--dir", pictures_once)
    return cli


@pytest.fixture(scope="module")
def pictures_once(tmp_path_factory):
    from PIL import Image

    folder = tmp_path_factory.mktemp("pictures")
    for split in ("train", "valid", "test"):
        (folder / split / "cat").mkdir(parents=True)
        (folder / split / "dog").mkdir()
        for label, colour in (("cat", 40), ("dog", 200)):
            Image.new("RGB", (12, 9), (colour, 0, len(split))).save(folder / split / label / "0.png")
    return str(folder)


def test_iam_denied_page_restores_a_lost_action(stack, tmp_path):
    case = Denied("iam-denied", stack, tmp_path, role="operator")
    rewritten(stack, "operator", "permissions-data", without("s3:GetObject"))
    denied = stack("data.verify", ok=False)
    assert denied.code == 4
    case.says(denied.err)
    page = case.page
    assert page.confirmed()
    why = stack("iam.explain", f"@{case.file}", ok=False).out
    assert "Hop 1 of 4" in why
    assert "Next: invoke iam.diff --role operator ; invoke iam.apply --role operator" in why
    assert not Page("iam-passrole", stack, file=str(case.file)).confirmed()  # another incident's page
    assert not page.verified()
    assert not page.works("allowed")
    assert not page.works("same")
    assert page.works("apply")
    assert page.verified()
    assert not page.works("why")
    assert not page.works("drift")
    stack("data.verify")


def test_iam_denied_page_restores_the_execution_role_trust(stack, tmp_path):
    """The execution role cannot be assumed, and AWS's message is not an access-denied error."""
    case = Denied("iam-denied", stack, tmp_path, role="sagemaker-execution")
    settings = stack.settings
    foreign = json.loads(json.dumps(roles.read_roles(settings, only="sagemaker-execution")[0].trust.document))
    foreign["Statement"][0]["Condition"] = {"StringEquals": {"aws:SourceAccount": "999999999999"}}
    name, text = settings.build_role_name("sagemaker-execution"), json.dumps(foreign)
    stack.account.call("iam", "update_assume_role_policy", RoleName=name, PolicyDocument=text)
    denied = stack("sm.train", "--no-wait", ok=False)
    assert "ValidationException: Could not assume role" in denied.err
    case.says(denied.err)
    page = case.page
    assert page.works("why")
    assert "Hop 3 of 4" in stack("iam.explain", f"@{case.file}", ok=False).out
    assert stack("iam.diff", "--role", "sagemaker-execution", ok=False).code == 7
    assert not page.works("allowed")
    assert not page.works("same")
    assert page.works("apply")
    assert page.verified()
    assert not page.works("why")
    assert not page.works("drift")


def test_iam_denied_page_restores_a_jobs_list_permission(stack, tmp_path):
    """A job may not list its data, and its message is not an access-denied error."""
    case = Denied("iam-denied", stack, tmp_path, role="sagemaker-execution")
    rewritten(stack, "sagemaker-execution", "permissions", without("s3:ListBucket"))
    job = json.loads(stack("sm.train", "--no-wait", "--json").out)["job"]
    stack("sm.attach", job, ok=False)
    why = stack("sm.explain", job, ok=False)
    assert "No S3 objects found" in why.out  # as SageMaker has it, whatever the reason
    case.says(why.out)
    page = case.page
    assert page.confirmed()
    assert "Hop 4 of 4" in stack("iam.explain", f"@{case.file}", ok=False).out
    assert not page.works("allowed")
    assert not page.works("same")
    assert page.works("back")
    assert page.verified()
    assert not page.works("why")
    assert not page.works("drift")


def taken_away(one):
    return None if one["Sid"] == "PassToLambda" else one


def for_another(one):
    condition = {"StringEquals": {"iam:PassedToService": "ecs-tasks.amazonaws.com"}}
    return one | {"Condition": condition} if one["Sid"] == "PassToLambda" else one


@pytest.mark.parametrize("alter", [taken_away, for_another])
def test_iam_passrole_page_restores_the_permission(stack, tmp_path, alter):
    case = Denied(
        "iam-passrole",
        stack,
        tmp_path,
        role="operator",
        passed=stack.settings.role_arn("lambda-invoke"),
        service="lambda.amazonaws.com",
    )
    page = case.page
    assert page.works("simulate")
    rewritten(stack, "operator", "permissions-function", alter)
    denied = stack("lambda.deploy", ok=False)
    assert denied.code == 4
    assert "iam:PassRole" in denied.err
    case.says(denied.err)
    assert page.confirmed()
    near = "iam:PassedToService" in stack("iam.explain", f"@{case.file}", ok=False).out.partition("Near miss: ")[2]
    assert near is (alter is for_another)
    assert not page.works("allowed")
    assert not page.works("simulate")
    assert page.works("apply")
    assert page.verified()
    assert not page.confirmed()
    stack("lambda.deploy")
    stack("lambda.down", "--yes")


def signing(cli, key, secret, token=None, service="sts"):
    """A client that signs with these keys."""
    import botocore.session

    return botocore.session.Session().create_client(
        service,
        region_name=cli.settings.aws.region,
        endpoint_url=cli.account.endpoint_url,
        aws_access_key_id=key,
        aws_secret_access_key=secret,
        aws_session_token=token,
    )


@pytest.fixture
def leaked_key(stack):
    """A user with all permissions and a leaked key; deleted when the test is over."""
    iam = stack.account.client("iam")
    iam.create_user(UserName="leaky")
    iam.put_user_policy(UserName="leaky", PolicyName="all", PolicyDocument=json.dumps(EVERYTHING))
    made = iam.create_access_key(UserName="leaky")["AccessKey"]
    yield made["AccessKeyId"], made["SecretAccessKey"]
    for name in iam.list_user_policies(UserName="leaky")["PolicyNames"]:
        iam.delete_user_policy(UserName="leaky", PolicyName=name)
    for key in iam.list_access_keys(UserName="leaky")["AccessKeyMetadata"]:
        iam.delete_access_key(UserName="leaky", AccessKeyId=key["AccessKeyId"])
    iam.delete_user(UserName="leaky")


def test_leaked_key_page_revokes_a_users_key(stack, leaked_key):
    from botocore.exceptions import ClientError

    page = Page("leaked-key", stack, who="leaky")
    intruder = signing(stack, *leaked_key)
    assert intruder.get_caller_identity()["Arn"].endswith(":user/leaky")
    assert page.confirmed()
    assert not page.works("gone")
    assert not page.works("narrowed")
    cut = stack("iam.revoke", "leaky", "--yes")
    assert "2 made" in cut.out
    assert leaked_key[0] not in cut.said + (WORK / "audit.jsonl").read_text()
    with pytest.raises(ClientError, match="InvalidClientTokenId"):
        intruder.get_caller_identity()
    assert page.works("cut")  # again: nothing is left to do
    assert "0 made" in stack("iam.revoke", "leaky", "--yes").out
    assert not page.works("narrowed")  # another key would have all its rights
    stack.account.call("iam", "delete_user_policy", UserName="leaky", PolicyName="all")
    assert page.verified()
    assert not page.works("wide")
    assert not page.works("alive")


def test_leaked_key_page_narrows_an_open_trust(stack):
    page = Page("leaked-key", stack, who="lambda-invoke", role="lambda-invoke")
    name, arn = stack.settings.build_role_name("lambda-invoke"), stack.settings.role_arn("lambda-invoke")
    assert not page.confirmed()  # a role that is as it should be
    taking = {"RoleArn": arn, "RoleSessionName": "anyone"}
    refused(stack.account, "sts", "assume_role", **taking)
    stack.account.call("iam", "update_assume_role_policy", RoleName=name, PolicyDocument=json.dumps(ANYBODY))
    stack.account.call("sts", "assume_role", **taking)
    assert page.confirmed()
    assert not page.works("gone")
    assert not page.works("narrowed")
    assert page.works("narrow")
    refused(stack.account, "sts", "assume_role", **taking)
    assert page.works("cut")
    assert page.verified()
    assert not page.works("wide")
    assert not page.works("alive")


def test_revoke_ends_current_sessions_and_allows_new_ones(make_stack, tmp_path):
    cli = make_stack("revoked")
    cli("data.up")
    drop_sessions(stack="revoked")  # a session that was kept is replaced, once
    session = Account(cli.settings, "operator")
    listed = {"Bucket": cli.settings.bucket}
    session.call("s3", "get_bucket_versioning", **listed)
    dry = cli("--dry", "iam.revoke", "operator")
    assert "is not revoked" in dry.out
    assert "1 to make" in dry.err
    session.call("s3", "get_bucket_versioning", **listed)
    assert "pass --yes" in cli("iam.revoke", "operator", ok=False).err
    cli("iam.revoke", "operator", "--yes")
    message = refused(session, "s3", "get_bucket_versioning", **listed)
    assert "with an explicit deny in an identity-based policy" in message
    file = tmp_path / "error.txt"
    file.write_text(message)
    assert "(iam.revoke): assume the role again" in cli("iam.explain", f"@{file}").out
    later = Account(cli.settings, "operator")
    later.call("s3", "get_bucket_versioning", **listed)
    # iam.apply does not lift it, and it is not drift
    assert "0 made" in cli("iam.apply").out
    assert "old sessions are revoked" in cli("iam.diff").err
    refused(session, "s3", "get_bucket_versioning", **listed)
    # what is cut off a second time includes what came between
    cli("iam.revoke", "operator", "--yes")
    refused(later, "s3", "get_bucket_versioning", **listed)


def test_revoke_covers_sessions_begun_until_it_is_confirmed(make_stack):
    """AWS tells when a session began in whole seconds, and the operator may think before typing y."""
    cli = make_stack("revokedsoon")
    cli("data.up")
    looking = {"Bucket": cli.settings.bucket}
    drop_sessions(stack="revokedsoon")  # a session that was kept is replaced, once
    before = Account(cli.settings, "operator")
    before.call("s3", "get_bucket_versioning", **looking)  # a role is taken by the first call
    ours, theirs = pty.openpty()
    argv = [sys.executable, "-m", "invoke", "-f", str(cli.file), "iam.revoke", "operator"]
    asking = subprocess.Popen(argv, cwd=ROOT, stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    said = b""
    while b"Go on?" not in said:
        said += asking.stdout.read1()
    drop_sessions(stack="revokedsoon")
    while_asked = Account(cli.settings, "operator")
    while_asked.call("s3", "get_bucket_versioning", **looking)
    os.write(ours, b"y\n")
    asking.communicate(timeout=60)
    assert asking.returncode == 0
    for session in (before, while_asked):
        assert "explicit deny" in refused(session, "s3", "get_bucket_versioning", **looking)


def test_ambiguous_principal_is_rejected(stack, leaked_key):
    """A role's folder beats no user of that name: the wrong one would be cut off."""
    iam = stack.account.client("iam")
    iam.create_user(UserName="operator")
    try:
        said = stack("iam.revoke", "operator", "--yes", ok=False)
        assert said.code == 1
        assert (
            f"{stack.settings.role_arn('operator')} or arn:aws:iam::{ACCOUNT}:user/operator. Give the ARN" in said.err
        )
    finally:
        iam.delete_user(UserName="operator")


def test_revoke_reports_a_password(stack, leaked_key):
    stack.account.call("iam", "create_login_profile", UserName="leaky", Password="correct-Horse7")
    try:
        cut = stack("iam.revoke", "leaky", "--yes")
        assert "no session from before" in cut.out
        assert "but a password" in cut.out
        assert "aws iam delete-login-profile --user-name leaky" in cut.out
        assert "1 made" in stack("iam.revoke", "leaky", "--yes").out
    finally:
        stack.account.client("iam").delete_login_profile(UserName="leaky")
    assert "0 made" in stack("iam.revoke", "leaky", "--yes").out


def test_callers_cannot_revoke_themselves(stack):
    refusal = stack("iam.revoke", "administrator", "--yes", ok=False)
    assert (refusal.code, "you would revoke yourself" in refusal.err) == (1, True)

"""What an administrator, or chance, does between the commands of tests/e2e/whole_job.py, so that they have something to do or to repair."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ops.core.aws.account import Account
from ops.iam.roles import derive_policy_arn, dump_document
from sandbox import state
from sandbox.client import send_control_request

FaultAction = Callable[["Place"], None]
FAULT_ACTIONS: dict[str, FaultAction] = {}
ISSUER_AUDIENCE = "sts.amazonaws.com"
KEPT_VERSIONS = 5  # IAM's limit


class Place:
    """One run's folder: its sandbox, its copy of the checkout, its settings; and the account as its administrator sees it."""

    def __init__(self, folder: Path, settings: Any) -> None:
        self.folder, self.settings = folder, settings
        self.checkout, self.sandbox = folder / "checkout", folder / "sandbox"

    @property
    def account(self) -> Account:
        return Account(self.settings, "", audit=self.folder / "audit.jsonl")

    def control_sandbox(self, what: str, **body: Any) -> dict[str, Any]:
        running = state.read(self.sandbox)
        assert running is not None
        return send_control_request(running, "POST", what, body)


def fault_action(name: str) -> Callable[[FaultAction], FaultAction]:
    def wrap(done: FaultAction) -> FaultAction:
        FAULT_ACTIONS[name] = done
        return done

    return wrap


@fault_action("the box's type is gone")
def gone(place: Place) -> None:
    place.control_sandbox("capacity", instance_type=place.settings.ec2.instance_types[0])


@fault_action("all types are there")
def there(place: Place) -> None:
    place.control_sandbox("capacity", instance_type=place.settings.ec2.instance_types[0], short=False)


@fault_action("change what serves")
def serving(place: Place) -> None:
    with (place.checkout / "serving" / "Dockerfile").open("a") as file:
        file.write("# another image\n")


@fault_action("change the function's code")
def code(place: Place) -> None:
    with (place.checkout / "lambda" / "handler.py").open("a") as file:
        file.write("# other code\n")


@fault_action("tokens for the pipelines")
def tokens(place: Place) -> None:
    """As GitHub gives them: to a pull request, and to what deploys into the environment `production`."""
    repository, endpoint = place.settings.iam.repository, place.account.endpoint_url
    lines = []
    for role, subject in (("ci", "pull_request"), ("ci-apply", "environment:production")):
        claims = {"sub": f"repo:{repository}:{subject}", "aud": ISSUER_AUDIENCE}
        state.write_private_file(
            place.folder / "ci" / f"{role}.token", place.control_sandbox("token", **claims)["token"]
        )
        lines += [
            f"[profile {role}]", f"role_arn = {place.settings.role_arn(role)}", f"endpoint_url = {endpoint}",
            f"web_identity_token_file = {place.folder / 'ci' / f'{role}.token'}", "region = us-east-1", "",
        ]  # fmt: skip
    state.write_private_file(place.folder / "ci" / "config", "\n".join(lines))


@fault_action("an administrator changes the image's project by hand")
def project(place: Place) -> None:
    name = f"{place.settings.prefix}-image"
    place.account.call("codebuild", "update_project", name=name, timeoutInMinutes=20)


@fault_action("a rule opens the network to the world")
def open_to_all(place: Place) -> None:
    """A bucket that heeds public ACLs, a function behind a public URL, a box that anyone may knock at."""
    account, settings = place.account, place.settings
    account.call("s3", "delete_public_access_block", Bucket=settings.bucket)
    account.call(
        "lambda", "add_permission", FunctionName=settings.function_name, StatementId="everybody", Principal="*",
        Action="lambda:InvokeFunctionUrl", FunctionUrlAuthType="NONE",
    )  # fmt: skip
    group = account.list_tagged("describe_security_groups", "SecurityGroups", group_name=f"{settings.prefix}-box")[0]
    ssh = {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}
    account.call("ec2", "authorize_security_group_ingress", GroupId=group["GroupId"], IpPermissions=[ssh])


@fault_action("the function is closed again")
def closed(place: Place) -> None:
    name = place.settings.function_name
    place.account.call("lambda", "remove_permission", FunctionName=name, StatementId="everybody")


@fault_action("Lambda's console made a role")
def console_role(place: Place) -> None:
    place.account.call("iam", "create_role", RoleName="gone-role-ab12cd34", AssumeRolePolicyDocument=trusting("lambda"))


@fault_action("there is no credential report")
def no_report(place: Place) -> None:
    place.control_sandbox(
        "fault", operation="GetCredentialReport", do="error", code="ServiceFailure", message="no", times=1
    )


@fault_action("the credential report has expired")
def old_report(place: Place) -> None:
    place.control_sandbox(
        "fault", operation="GetCredentialReport", do="error", code="ReportExpired", message="old", times=1
    )


@fault_action("roles are changed by hand")
def by_hand(place: Place) -> None:
    """Change everything that ci-apply may repair."""
    account, settings = place.account, place.settings
    name, bystander = settings.build_role_name("ec2-box"), f"arn:aws:iam::{settings.aws.account}:policy/by-hand"
    own = derive_policy_arn("ec2-box", "permissions", settings)
    account.call("iam", "put_role_policy", RoleName=name, PolicyName="by-hand", PolicyDocument=reading())
    account.call_or_none("iam", "create_policy", "EntityAlreadyExists", PolicyName="by-hand", PolicyDocument=reading())
    account.call("iam", "attach_role_policy", RoleName=name, PolicyArn=bystander)
    account.call("iam", "detach_role_policy", RoleName=name, PolicyArn=own)
    account.call("iam", "delete_policy", PolicyArn=own)
    account.call("iam", "delete_role_permissions_boundary", RoleName=name)
    account.call("iam", "untag_role", RoleName=name, TagKeys=["kennel:stack"])
    account.call("iam", "remove_role_from_instance_profile", RoleName=name, InstanceProfileName=name)
    account.call("iam", "delete_instance_profile", InstanceProfileName=name)
    versions(account, derive_policy_arn("operator", "permissions-data", settings))


@fault_action("a role and a trust are changed by hand")
def gone_role(place: Place) -> None:
    """Change what only bootstrap may repair."""
    account, settings = place.account, place.settings
    name, own = settings.build_role_name("image-build"), derive_policy_arn("image-build", "permissions", settings)
    account.call("iam", "detach_role_policy", RoleName=name, PolicyArn=own)
    account.call("iam", "delete_role", RoleName=name)
    box = settings.build_role_name("ec2-box")
    account.call("iam", "update_assume_role_policy", RoleName=box, PolicyDocument=trusting("ec2", "lambda"))


@fault_action("an unwanted role grows old")
def old_role(place: Place) -> None:
    account, settings = place.account, place.settings
    bound = derive_policy_arn("ec2-box", "boundary", settings)
    account.call(
        "iam", "create_role", RoleName="old", Path=settings.role_path, AssumeRolePolicyDocument=trusting("ec2"),
        PermissionsBoundary=bound, Tags=settings.tags("old"),
    )  # fmt: skip
    made = account.call(
        "iam", "create_policy", PolicyName="old-own", Path=settings.role_path, PolicyDocument=reading()
    )["Policy"]
    account.call("iam", "attach_role_policy", RoleName="old", PolicyArn=made["Arn"])
    account.call("iam", "put_role_policy", RoleName="old", PolicyName="notes", PolicyDocument=reading())
    name = f"{settings.prefix}-old"
    account.call("iam", "create_instance_profile", InstanceProfileName=name, Path=settings.role_path)
    account.call("iam", "add_role_to_instance_profile", InstanceProfileName=name, RoleName="old")
    place.control_sandbox("age", role="old", days=200)


@fault_action("the old role's instance profile goes too")
def old_profile(place: Place) -> None:
    place.account.call("iam", "delete_instance_profile", InstanceProfileName=f"{place.settings.prefix}-old")


def versions(account: Account, arn: str) -> None:
    """As many as IAM keeps, and a wrong one in force."""
    there = account.call("iam", "list_policy_versions", PolicyArn=arn)["Versions"]
    for _ in range(KEPT_VERSIONS - len(there)):
        account.call("iam", "create_policy_version", PolicyArn=arn, PolicyDocument=reading(), SetAsDefault=True)
    if len(there) == KEPT_VERSIONS:
        other = next(one["VersionId"] for one in there if not one["IsDefaultVersion"])
        account.call("iam", "set_default_policy_version", PolicyArn=arn, VersionId=other)


def reading() -> str:
    statement = {"Effect": "Allow", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::nothing-of-ours/*"}
    return dump_document({"Version": "2012-10-17", "Statement": [statement]})


def trusting(*services: str) -> str:
    who = {"Service": [f"{service}.amazonaws.com" for service in services]}
    statement = {"Effect": "Allow", "Principal": who, "Action": "sts:AssumeRole"}
    return dump_document({"Version": "2012-10-17", "Statement": [statement]})

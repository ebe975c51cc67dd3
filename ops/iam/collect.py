"""The facts that the audit reads from AWS beyond GetAccountAuthorizationDetails, each only where a rule could use it."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from typing import Any

from iampolicy.account.snapshot import Snapshot
from iampolicy.audit.account_facts import extract_function_name
from iampolicy.audit.rules_exposure import list_world_openings
from iampolicy.audit.rules_use import find_function_of_role
from ops.core.aws.account import Account
from ops.core.errors import AwsError
from ops.core.output import say
from ops.core.plan import Wait

REPORT_S = 120.0  # AWS takes some seconds to write a credential report, and keeps it for four hours
NO_REPORT = "ReportNotPresent|ReportExpired|ReportInProgress"
# The report's columns that a rule reads; others, such as certificates, are left out. It holds no key ids.
COLUMNS = (
    "user", "arn", "user_creation_time", "password_enabled", "password_last_used", "mfa_active", "access_key_1_active",
    "access_key_1_last_rotated", "access_key_1_last_used_date", "access_key_2_active", "access_key_2_last_rotated",
    "access_key_2_last_used_date",
)  # fmt: skip
LAMBDA = ("Service", "lambda.amazonaws.com")
GROUP = ("GroupId", "GroupName", "VpcId", "IpPermissions", "Tags")
ACL = ("NetworkAclId", "VpcId", "Entries")


def collect_iam_facts(account: Account, have: Snapshot, usage: bool) -> dict[str, Any]:
    """Return IAM's own facts, in JSON's types; report and leave out those that the caller may not read."""
    raw: dict[str, Any] = {
        "credentials": read_or_skip("the credential report", lambda: read_credential_report(account))
    }
    if raw["credentials"] is None:
        raw["summary"] = read_or_skip(
            "the account's summary", lambda: account.call("iam", "get_account_summary")["SummaryMap"]
        )
    if any(LAMBDA in (one.principals or ()) for role in have.roles.values() for one in role.trust_policy.statements):
        raw["carriers"] = read_or_skip("the functions' roles", lambda: list_function_roles(account))
    if usage:
        raw["usage"] = read_or_skip("when services were used", lambda: read_service_usage(account, have))
    return {name: value for name, value in raw.items() if value is not None}


def collect_exposure(account: Account) -> dict[str, Any]:
    """Return the exposure of the stack's bucket, function and network. The ACLs are read only if a group is open to the world."""
    settings = account.settings
    raw = {
        "buckets": read_or_skip("the bucket", lambda: read_bucket_exposure(account, settings.bucket)),
        "functions": read_or_skip("the function", lambda: read_function_exposure(account, settings.function_name)),
        "groups": read_or_skip("the security groups", lambda: list_security_groups(account)),
    }
    if any(list_world_openings(group) for group in raw["groups"] or ()):
        raw["acls"] = read_or_skip("the network ACLs", lambda: list_network_acls(account, raw["groups"]))
    return {name: value for name, value in raw.items() if value is not None}


def read_or_skip(what: str, ask: Callable[[], Any]) -> Any:
    try:
        return ask()
    except AwsError as error:
        say(f"Not checked: {what}. {error}")
        return None


def read_credential_report(account: Account) -> list[dict[str, str]]:
    answer = account.call_or_none("iam", "get_credential_report", NO_REPORT)
    if answer is None:
        account.call("iam", "generate_credential_report")

        def ready(account: Account) -> Any:
            return account.call_or_none("iam", "get_credential_report", NO_REPORT) or "in progress"

        answer = account.wait(Wait("the credential report", ready, why="AWS generates it", timeout_s=REPORT_S))
    rows = csv.DictReader(io.StringIO(answer["Content"].decode()))
    return [{column: row.get(column) or "" for column in COLUMNS} for row in rows]


def has_console_made_roles(have: Snapshot) -> bool:
    return any(find_function_of_role(role) for role in have.roles.values())


def list_function_names(account: Account) -> list[str]:
    return [extract_function_name(arn) for arn in list_function_roles(account)]


def list_function_roles(account: Account) -> dict[str, str]:
    found = account.list_all("lambda", "list_functions", "Functions")
    return {one["FunctionArn"]: one["Role"] for one in found}


def read_service_usage(account: Account, have: Snapshot) -> dict[str, dict[str, Any]]:
    """Return when each role of the stack last used each service, by two calls a role; AWS takes seconds to collect the result."""
    found = {}
    for role in have.roles.values():
        if role.path != account.settings.role_path:
            continue
        job = account.call("iam", "generate_service_last_accessed_details", Arn=role.arn)["JobId"]

        def ready(account: Account, job: str = job) -> Any:
            answer = account.call("iam", "get_service_last_accessed_details", JobId=job)
            return "in progress" if answer["JobStatus"] == "IN_PROGRESS" else answer

        answer = account.wait(
            Wait(f"the service usage of {role.name}", ready, why="AWS generates it (--usage)", timeout_s=REPORT_S)
        )
        services = answer.get("ServicesLastAccessed", [])
        found[role.arn] = {one["ServiceNamespace"]: one.get("LastAuthenticated") for one in services}
    return found


def read_bucket_exposure(account: Account, bucket: str) -> dict[str, Any]:
    """Return the exposure of the stack's bucket, {} if it is missing. Its ACL counts only if public ACLs are not ignored."""
    try:
        answer = account.call("s3", "get_public_access_block", Bucket=bucket)
        blocks = answer["PublicAccessBlockConfiguration"]
    except AwsError as error:
        if error.says("NoSuchBucket"):
            return {}
        if not error.says("NoSuchPublicAccessBlockConfiguration"):
            raise
        blocks = {}
    answer = account.call_or_none("s3", "get_bucket_policy", "NoSuchBucketPolicy", Bucket=bucket)
    grants = [] if blocks.get("IgnorePublicAcls") else account.call("s3", "get_bucket_acl", Bucket=bucket)["Grants"]
    uris = [grant["Grantee"].get("URI", "") for grant in grants]
    return {
        bucket: {"blocks": blocks, "policy": json.loads(answer["Policy"]) if answer else None, "grants": [u for u in uris if u]}
    }  # fmt: skip


def read_function_exposure(account: Account, function: str) -> dict[str, Any]:
    """Return the policies of the stack's function and of its alias, and its URLs' types if one of the policies mentions URLs."""
    policies = []
    for more in ({}, {"Qualifier": "live"}):
        answer = account.call_or_none("lambda", "get_policy", "ResourceNotFound", FunctionName=function, **more)
        policies += [json.loads(answer["Policy"])] if answer else []
    urls: list[str] = []
    if "InvokeFunctionUrl" in json.dumps(policies):
        found = account.list_all("lambda", "list_function_url_configs", "FunctionUrlConfigs", FunctionName=function)
        urls = [one["AuthType"] for one in found]
    return {function: {"policies": policies, "urls": urls}}


def list_security_groups(account: Account) -> list[dict[str, Any]]:
    """Return the security groups of the stack's networks, including those that were created by hand, without a tag."""
    found = account.list_all("ec2", "describe_security_groups", "SecurityGroups")
    tag = {"Key": "kennel:stack", "Value": account.settings.stack.name}
    networks = {one.get("VpcId") for one in found if tag in one.get("Tags", [])}
    return [{key: one[key] for key in GROUP if key in one} for one in found if one.get("VpcId") in networks]


def list_network_acls(account: Account, groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
    networks = sorted({one["VpcId"] for one in groups})
    filters = [{"Name": "vpc-id", "Values": networks}]
    found = account.list_all("ec2", "describe_network_acls", "NetworkAcls", Filters=filters)
    return [{key: one[key] for key in ACL if key in one} for one in found]

"""The prerequisites of all other commands, each with the command that fixes it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass

from ops.core.aws.account import Account
from ops.core.errors import AwsError, ProfileError
from ops.core.log_groups import has_log_group
from ops.core.paths import ROOT
from ops.core.settings import REPOSITORY, Settings
from ops.endpoint import alarms
from ops.endpoint import plan as endpoint
from ops.function import plan as function
from ops.releases.image_build import find_missing_image_tag

DISK_GB = 3


@dataclass(frozen=True)
class Check:
    name: str
    ok: bool
    found: str
    fix: str = ""


def check_prerequisites(settings: Settings) -> Iterator[Check]:
    try:
        account = Account(settings)
        caller = account.call("sts", "get_caller_identity")
        yield Check("credentials", True, caller["Arn"])
    except ProfileError as error:
        yield Check("credentials", False, error.problem, error.fix)
        return
    except AwsError as error:
        yield Check("credentials", False, str(error), "log in, or: invoke sandbox.up")
        return
    same = caller["Account"] == settings.aws.account
    yield Check(
        "account",
        same,
        caller["Account"],
        f"the settings say {settings.aws.account}: use that account's settings file, invoke -f FILE ...",
    )
    region = account.region or settings.aws.region
    yield Check(
        "region",
        region == settings.aws.region,
        region,
        f"aws.region is {settings.aws.region}: change it, or the profile's region",
    )
    if region == settings.aws.region:  # the stack has nothing in another region
        yield check_operator_role(account)
        yield check_serving_image(account)
        yield check_log_groups(account)
    free = shutil.disk_usage(ROOT).free / 1e9
    yield Check(
        "disk",
        free > DISK_GB,
        f"{free:.0f} GB free",
        f"models and releases need {DISK_GB} GB: rm -r .kennel/models .kennel/releases",
    )


def check_operator_role(account: Account) -> Check:
    """Report whether the stack's roles can be assumed. They may be missing: the first iam.apply creates them."""
    settings = account.settings
    if not settings.aws.take_roles:
        return Check("roles", True, "commands use the profile's own credentials (aws.take_roles: false)")
    operator = settings.role_arn("operator")
    try:
        account.call("sts", "assume_role", RoleArn=operator, RoleSessionName="doctor")
    except AwsError:
        return Check(
            "roles", True, f"{settings.build_role_name('operator')} cannot be assumed; run first: invoke iam.apply"
        )
    return Check("roles", True, f"{settings.build_role_name('operator')} can be assumed")


def check_log_groups(account: Account) -> Check:
    """Report the log groups that the endpoint and the function write to. One that was deleted loses what they log."""
    settings = account.settings
    try:
        if settings.aws.take_roles:
            account = Account(settings, "operator")
        writers = list_log_writers(account)
        gone = [(name, command) for name, command in writers if not has_log_group(account, name)]
    except AwsError as error:
        return Check("logs", True, f"the log groups were not checked: {error}")
    if gone:
        fix = f"invoke {' '.join(command for _, command in gone)}"
        return Check("logs", False, f"missing: {', '.join(name for name, _ in gone)}", fix)
    return Check("logs", True, f"{len(writers)} log groups in use, none is missing")


def list_log_writers(account: Account) -> list[tuple[str, str]]:
    """Return (log group, command that creates it) of the endpoint and of the function, as far as they exist."""
    found = []
    if endpoint.find_endpoint(account):
        found.append((alarms.log_group(account.settings), "sm.deploy"))
    if account.call_or_none("lambda", "get_function", function.MISSING, FunctionName=account.settings.function_name):
        found.append((function.log_group(account.settings), "lambda.deploy"))
    return found


def check_serving_image(account: Account) -> Check:
    """Report whether the image of the current serving/ is in ECR. It may be missing: only a deploy needs it."""
    tag = find_missing_image_tag(account)
    found = f"{REPOSITORY}:{tag} is not built; before a deploy: invoke sm.image" if tag else f"{REPOSITORY} is built"
    return Check("image", True, found)

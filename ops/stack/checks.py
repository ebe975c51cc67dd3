"""The prerequisites of all other commands, each with the command that fixes it."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from iampolicy.policy.document import Policy, parse_policy
from iampolicy.policy.evaluate import Caller, Request, Rights, decide_request
from ops.core.aws.account import Account
from ops.core.errors import DENIED, AwsError, OpsError, ProfileError
from ops.core.log_groups import has_log_group
from ops.core.paths import ROOT
from ops.core.settings import REPOSITORY, Settings
from ops.endpoint import alarms
from ops.endpoint import plan as endpoint
from ops.function import plan as function
from ops.releases.image_build import ImageRefused, find_missing_image_tag

DISK_GB = 3
APPLY = "INVOKE_AWS_TAKE_ROLES=false invoke iam.apply"
SSO_ROLE = r"AWSReservedSSO_(.+)_[0-9a-f]{16}"
EVERYTHING = Rights((parse_policy("everything", {"Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}}),))


@dataclass(frozen=True)
class Check:
    """One prerequisite. `later` says that it is not wrong: what it is about does not exist yet, or could not be looked at.

    `fix` is the command that repairs what failed, or that makes what does not exist yet.
    """

    name: str
    ok: bool
    found: str
    fix: str = ""
    later: bool = False

    @property
    def state(self) -> str:
        return "FAILED" if not self.ok else "later" if self.later else "ok"


def summarise(found: Sequence[Check]) -> str:
    """Return how many checks passed or failed, and how many are for later."""
    states = [check.state for check in found]
    failed, later = states.count("FAILED"), states.count("later")
    if failed:
        return f"{failed} of {len(found)} checks failed."
    if later:
        return f"No check failed; {later} of {len(found)} are for later."
    return f"All {len(found)} checks passed."


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
        yield check_operator_role(account, caller["Arn"])
        yield check_serving_image(account)
        yield check_log_groups(account)
        yield check_concurrency(account)
    free = shutil.disk_usage(ROOT).free / 1e9
    yield Check(
        "disk",
        free > DISK_GB,
        f"{free:.0f} GB free",
        f"models and releases need {DISK_GB} GB: rm -r .kennel/models .kennel/releases",
    )


def check_operator_role(account: Account, caller: str) -> Check:
    """Report whether the stack's roles can be assumed by the caller, an ARN. They may be missing: the first iam.apply creates them."""
    settings = account.settings
    if not settings.aws.take_roles:
        return Check("roles", True, "commands use the profile's own credentials (aws.take_roles: false)")
    name = settings.build_role_name("operator")
    try:
        Account(settings, "operator").call("sts", "get_caller_identity")
    except ProfileError as error:
        return Check("roles", False, error.problem, error.fix)
    except AwsError as error:
        if error.call != "AssumeRole":
            return Check("roles", False, f"{name}: {error}", "run the same command again")
        return explain_refusal(account, caller, name)
    except OpsError:  # of another account, which has its own check
        return Check("roles", True, f"{name} was not checked: first correct the account", later=True)
    return Check("roles", True, f"{name} can be assumed")


def explain_refusal(account: Account, caller: str, name: str) -> Check:
    """Tell a role that does not exist from a session without MFA, a trust policy that does not admit the caller, and its own rights."""
    try:
        role = account.call("iam", "get_role", RoleName=name)["Role"]
    except AwsError as error:
        if error.says("NoSuchEntity"):
            return Check("roles", True, f"{name} does not exist yet", "invoke iam.apply", later=True)
        problem = f"{name} refuses {caller}, which may not look at it either ({error.aws_code})"
        return Check("roles", False, problem, "ask an administrator; see: invoke runbook.show log-in")
    trust = parse_policy("trust", role["AssumeRolePolicyDocument"])
    if is_admitted(trust, caller, role["Arn"], has_mfa=False):
        problem = f"{caller} lacks sts:AssumeRole on {role['Arn']}"
        return Check("roles", False, problem, "have an administrator allow it; see: invoke runbook.show log-in")
    if not is_admitted(trust, caller, role["Arn"], has_mfa=True):
        problem = f"the trust policy of {name} does not admit {caller}"
        return Check(
            "roles", False, problem, f"see who may: invoke runbook.show log-in; then as an administrator: {APPLY}"
        )
    session = caller.rsplit(":", 1)[-1].split("/")
    if found := re.fullmatch(SSO_ROLE, session[1]) if session[0] == "assumed-role" else None:
        problem = f"{name} wants MFA, which sessions of Identity Center do not carry"
        return Check(
            "roles", False, problem, f"add {found[1]} to iam.permission_sets, then as an administrator: {APPLY}"
        )
    if session[0] == "assumed-role":
        problem = f"{name} wants MFA, which the session of another role does not carry"
        return Check(
            "roles", False, problem, "set aws.profile to one with a user's keys; see: invoke runbook.show log-in"
        )
    problem = f"{name} wants MFA, and no device with codes was found for {caller}"
    return Check(
        "roles", False, problem, "register one, or set mfa_serial in the profile; see: invoke runbook.show log-in"
    )


def is_admitted(trust: Policy, caller: str, role_arn: str, has_mfa: bool) -> bool:
    """Return whether the trust policy admits the caller, given the ARN of a user or of a role's session."""
    account, (kind, *rest) = caller.split(":")[4], caller.split(":", 5)[5].split("/")
    arn = caller
    if kind == "assumed-role":  # such an ARN has no path, but Identity Center's roles all have the same
        arn = f"arn:aws:iam::{account}:role/{'aws-reserved/sso.amazonaws.com/' if re.fullmatch(SSO_ROLE, rest[0]) else ''}{rest[0]}"
    context = {"aws:principalarn": arn, "aws:principalaccount": account}
    if has_mfa:
        context["aws:multifactorauthpresent"] = "true"
    return decide_request(
        Request(Caller(arn), "sts:AssumeRole", role_arn, context), EVERYTHING, trust, required=True
    ).allowed


def postpone(name: str, what: str) -> Check:
    """Return a check that could not be made because the role could not be assumed. Why not, the check of the roles says."""
    return Check(name, True, f"{what} not checked: that needs the role operator", "invoke iam.apply", later=True)


def check_log_groups(account: Account) -> Check:
    """Report the log groups that the endpoint and the function write to. One that was deleted loses what they log."""
    settings = account.settings
    try:
        if settings.aws.take_roles:
            account = Account(settings, "operator")
        writers = list_log_writers(account)
        gone = [(name, command) for name, command in writers if not has_log_group(account, name)]
    except ProfileError:
        return postpone("logs", "the log groups were")
    except AwsError as error:
        if error.call == "AssumeRole":
            return postpone("logs", "the log groups were")
        reason = f"the log groups were not checked: {error.call} was refused ({error.aws_code})"
        return Check("logs", True, reason, "invoke iam.diff" if error.code == DENIED else "", later=True)
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


def check_concurrency(account: Account) -> Check:
    """Report the concurrent calls that Lambda allows in this account, and whether fn.reserved can be had: new accounts have 10."""
    settings = account.settings
    try:
        if settings.aws.take_roles:
            account = Account(settings, "operator")
        limit = account.call("lambda", "get_account_settings")["AccountLimit"]
        which = {"FunctionName": settings.function_name}
        own = account.call_or_none("lambda", "get_function_concurrency", function.MISSING, **which) or {}
    except OpsError:
        return postpone("concurrency", "Lambda's limit was")
    reserved, wanted = own.get("ReservedConcurrentExecutions", 0), settings.fn.reserved or 0
    room = function.compute_reservable(limit["UnreservedConcurrentExecutions"], reserved)
    found = (
        f"Lambda runs {limit['ConcurrentExecutions']} calls at once in this account; fn.reserved may be {room} at most"
    )
    if wanted > max(room, reserved):
        fix = "set fn.reserved to null and fn.provisioned to 0, or request a higher quota (L-B99A9384)"
        return Check("concurrency", False, f"{found}, and is {wanted}", fix)
    return Check("concurrency", True, found)


def check_serving_image(account: Account) -> Check:
    """Report whether the image of the current serving/ is in ECR. It may be missing: only a deploy needs it."""
    try:
        tag = find_missing_image_tag(Account(account.settings, "operator"))
    except ImageRefused as error:
        return Check("image", False, error.problem, error.fix)
    except OpsError:
        return postpone("image", f"{REPOSITORY} was")
    if tag:
        return Check("image", True, f"{REPOSITORY}:{tag} is not built", "before a deploy: invoke sm.image", later=True)
    return Check("image", True, f"{REPOSITORY} is built")

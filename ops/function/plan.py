"""The function's plan: compare what exists with the settings, and yield the changes that make them equal."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ops.core import pricing
from ops.core.aws.account import Account
from ops.core.errors import AwsError, OpsError
from ops.core.files import build_zip, list_files
from ops.core.log_groups import has_retention, log_group_steps
from ops.core.paths import ROOT
from ops.core.plan import Change, Steps, Wait, retry_until_trusted
from ops.core.settings import IMAGES, Settings
from ops.function import canary
from ops.function.earlier_versions import format_description, parse_description, pop_version, push_version

ALIAS = "live"
UNRESERVED = 100  # AWS keeps this much of an account's concurrency for functions without reserved concurrency
NOT_YET = "cannot be assumed by Lambda"  # Lambda's error for a role made seconds ago
ROLE_WAITS_S = (2.0, 4.0, 6.0, 8.0, 10.0)
MISSING = "ResourceNotFoundException"


@dataclass(frozen=True)
class Facts:
    """The facts about the function; what does not exist is None. `config` is AWS's description of $LATEST.

    `earlier` are the versions that were live before `alias`, newest first; None when the alias keeps no record of them.
    `canary` says that a part of the alias's calls goes to another version.
    """

    config: dict[str, Any] | None = None
    alias: str | None = None
    alias_sha: str | None = None
    reserved: int | None = None
    provisioned: int | None = None
    provisioned_state: str = ""
    provisioned_reason: str = ""
    unreserved: int = 0
    log_group: bool = False
    earlier: tuple[str, ...] | None = None
    canary: bool = False


def package_function(folder: Path = ROOT / "lambda") -> bytes:
    """Return a zip with lambda/*.py at its root: the same sources give the same bytes."""
    return build_zip((path.relative_to(folder).as_posix(), path) for path in list_files(folder) if path.suffix == ".py")


def compute_code_sha256(code: bytes) -> str:
    """Return the code's SHA-256 in the form of AWS's CodeSha256."""
    return base64.b64encode(hashlib.sha256(code).digest()).decode()


def facts(account: Account) -> Facts:
    name = {"FunctionName": account.settings.function_name}
    limit = account.call("lambda", "get_account_settings")["AccountLimit"]["UnreservedConcurrentExecutions"]
    found = account.call_or_none("lambda", "get_function", MISSING, **name)
    kept = has_retention(account, log_group(account.settings))
    if found is None:
        return Facts(unreserved=limit, log_group=kept)
    alias = account.call_or_none("lambda", "get_alias", MISSING, **name, Name=ALIAS)
    ready = (
        account.call_or_none(
            "lambda",
            "get_provisioned_concurrency_config",
            "ProvisionedConcurrencyConfigNotFound|" + MISSING,
            **name,
            Qualifier=ALIAS,
        )
        if alias
        else None
    )
    version = (
        account.call("lambda", "get_function", **name, Qualifier=alias["FunctionVersion"])["Configuration"]
        if alias
        else None
    )
    return Facts(
        found["Configuration"],
        alias["FunctionVersion"] if alias else None,
        derive_fingerprint(version) if version else None,
        account.call("lambda", "get_function_concurrency", **name).get("ReservedConcurrentExecutions"),
        ready["RequestedProvisionedConcurrentExecutions"] if ready else None,
        ready["Status"] if ready else "",
        ready.get("StatusReason", "") if ready else "",
        limit,
        kept,
        parse_description(alias.get("Description", "")) if alias else None,
        bool(alias and (alias.get("RoutingConfig") or {}).get("AdditionalVersionWeights")),
    )


def log_group(settings: Settings) -> str:
    return f"/aws/lambda/{settings.function_name}"


def build_function_config(settings: Settings) -> dict[str, Any]:
    """Return the function's configuration, by AWS's names."""
    return {
        "Runtime": settings.fn.runtime,
        "Role": settings.role_arn("lambda-invoke"),
        "Handler": "handler.lambda_handler",
        "Timeout": settings.fn.timeout_s,
        "MemorySize": settings.fn.memory_mb,
        "Environment": {
            "Variables": {
                "ENDPOINT": settings.endpoint_name,
                "BUCKET": settings.bucket,
                "PREFIX": IMAGES,
                "RESPONSE": settings.fn.response,
                "URLS": settings.fn.urls,
            }
        },
    }


def derive_fingerprint(config: dict[str, Any]) -> str:
    """Return code and configuration of a version as a text, to compare the live version with the wanted one."""
    names = ("CodeSha256", "Runtime", "Role", "Handler", "Timeout", "MemorySize", "Environment")
    return json.dumps({name: config.get(name) for name in names}, sort_keys=True)


def steps(have: Facts, code: bytes, settings: Settings, canary_percent: int = 0) -> Steps:
    """Yield the changes that make the function equal to `code` and the settings; a new version gets `canary_percent` of the calls first."""
    name, want = {"FunctionName": settings.function_name}, build_function_config(settings)
    check_reservable_concurrency(have, settings)
    if not have.log_group:
        yield from log_group_steps(log_group(settings), settings.endpoint.log_days, "create the function's log group")
    if have.config is None:
        args = {
            **name,
            **want,
            "Code": {"ZipFile": code},
            "Tags": {t["Key"]: t["Value"] for t in settings.tags(settings.function_name)},
        }
        yield from retry_until_trusted(
            Change("lambda", "create_function", args, why=f"create function {settings.function_name}"),
            NOT_YET,
            ROLE_WAITS_S,
        )
        yield wait_for_function()
    else:
        if have.config["CodeSha256"] != compute_code_sha256(code):
            yield Change(
                "lambda",
                "update_function_code",
                {**name, "ZipFile": code},
                why="upload the code of lambda/, which differs",
            )
            yield wait_for_function()
        differing = [key for key in want if have.config.get(key) != want[key]]
        if differing:
            yield Change(
                "lambda",
                "update_function_configuration",
                {**name, **want},
                why=describe_differences(have.config, want, differing),
            )
            yield wait_for_function()
    if have.alias_sha != derive_fingerprint({"CodeSha256": compute_code_sha256(code), **want}):
        yield from publish_steps(have, settings, canary_percent)
    elif have.canary:
        args = {**name, "Name": ALIAS, "FunctionVersion": have.alias, "RoutingConfig": canary.NO_CANARY}
        yield Change("lambda", "update_alias", args, why="end the canary of an interrupted deploy")
    yield from set_concurrency_steps(have, settings)


def publish_steps(have: Facts, settings: Settings, canary_percent: int = 0) -> Steps:
    """Yield the new version, a call of it, its canary if it has one, and the alias's move to it."""
    name = {"FunctionName": settings.function_name}
    answer = yield Change(
        "lambda", "publish_version", name, why="publish a version, which never changes, for the alias"
    )
    version = answer["Version"]
    if have.reserved != 0:  # 0 stops all calls, this one too
        yield wait_for_answer(version)
        if canary_percent and have.alias:
            alias = {**name, "Name": ALIAS}
            yield from canary.canary_steps(alias, have.alias, version, canary_percent, settings.fn.bake_s)
    verb, why = (
        ("create_alias", f"create alias {ALIAS}, which callers invoke")
        if have.alias is None
        else ("update_alias", f"move alias {ALIAS} from version {have.alias} to the new one")
    )
    earlier = format_description(push_version(have.earlier, have.alias))
    args = {**name, "Name": ALIAS, "FunctionVersion": version, "Description": earlier}
    if have.canary or (canary_percent and have.alias):
        args["RoutingConfig"] = canary.NO_CANARY
    yield Change("lambda", verb, args, why)
    if have.provisioned and settings.fn.provisioned:
        yield wait_for_concurrency()  # for the environments of the new version


def describe_differences(have: dict[str, Any], want: dict[str, Any], differing: list[str]) -> str:
    """Return the settings that change, such as `Timeout: 30 -> 3`; an environment or a new key by its name alone."""
    return "; ".join(
        f"set {key}" if isinstance(want[key], dict) or key not in have else f"{key}: {have[key]} -> {want[key]}"
        for key in differing
    )


def wait_for_function() -> Wait:
    def until(account: Account) -> str | None:
        found = account.call("lambda", "get_function", FunctionName=account.settings.function_name)["Configuration"]
        if found.get("State") == "Failed" or found.get("LastUpdateStatus") == "Failed":
            raise OpsError(
                f"Lambda could not create or update the function: {found.get('StateReason') or found.get('LastUpdateStatusReason')}"
            )
        done = found.get("State") == "Active" and found.get("LastUpdateStatus", "Successful") == "Successful"
        return None if done else f"{found.get('State')}, update {found.get('LastUpdateStatus')}"

    return Wait("the function", until, why="Lambda allows the next change when it is active", timeout_s=300)


def wait_for_answer(version: Any) -> Wait:
    """Return a wait that calls a version before callers get it. Raises OpsError when the version fails: the alias stays where it is.

    An event without a picture is refused by the handler itself, so that neither the endpoint nor a picture is needed.
    """

    def until(account: Account) -> str | None:
        name = account.settings.function_name
        try:
            answer = account.call(
                "lambda", "invoke", retries="lambda", FunctionName=name, Qualifier=str(version), Payload=b"{}"
            )
        except AwsError as error:
            if error.says("TooManyRequestsException"):
                return "callers use all of its reserved concurrency"
            if error.says("ThrottlingException"):
                return "Lambda throttles calls of this account"
            raise
        payload = answer["Payload"].read()
        if "FunctionError" in answer:
            raise OpsError(
                f"Version {version} of {name} fails: {describe_function_error(payload)}. Alias {ALIAS} was not moved. "
                "Correct lambda/, then run: invoke lambda.deploy. Or go to a version that works: invoke lambda.rollback --to VERSION"
            )
        if failed_inside(payload):
            raise OpsError(
                f"Version {version} of {name} answers 500: {payload[:300].decode(errors='replace')}. Alias {ALIAS} was not moved. "
                "Read its log, correct lambda/, then run: invoke lambda.deploy"
            )
        return None

    return Wait(
        f"an answer of version {version}", until, why="call the version before the alias points to it", timeout_s=60
    )


def failed_inside(payload: bytes) -> bool:
    """Return whether the handler caught an error of its own code, which it answers with 500."""
    try:
        return bool(json.loads(payload)["statusCode"] == 500)
    except (ValueError, KeyError, TypeError):
        return False


def describe_function_error(payload: bytes) -> str:
    """Return type and message of Lambda's report about a function that failed, or its first 300 characters."""
    try:
        found = json.loads(payload)
        return f"{found['errorType']}: {found['errorMessage']}"
    except (ValueError, KeyError, TypeError):
        return payload[:300].decode(errors="replace")


def choose_rollback_version(account: Account, have: Facts, wanted: str = "") -> str:
    """Return the version to roll back to: `wanted`, or the newest one that was live before. Raises OpsError if there is none.

    Without a record of those, it is the newest one below the live one, which may never have been live. While a canary gets a part of
    the calls, it is the version that gets the others.
    """
    if have.canary and have.alias and not wanted:
        return have.alias
    live = int(have.alias or 1)
    if wanted and not (wanted.isascii() and wanted.isdigit()):
        raise OpsError(f"--to takes the number of a version, such as {max(1, live - 1)}; got {wanted!r}.")
    earlier = range(live - 1, 0, -1) if have.earlier is None else map(int, have.earlier)
    for number in [int(wanted)] if wanted else earlier:
        if exists_version(account, number):
            return str(number)
    which = f"version {wanted}" if wanted else f"version that was live before version {live}"
    raise OpsError(
        f"Function {account.settings.function_name} has no {which}. Nothing was changed. See: invoke lambda.status"
    )


def exists_version(account: Account, number: int) -> bool:
    name = account.settings.function_name
    return account.call_or_none("lambda", "get_function", MISSING, FunctionName=name, Qualifier=str(number)) is not None


def rollback_steps(have: Facts, version: str, settings: Settings) -> Steps:
    """Yield the changes that point the alias at an earlier version, which has to answer first."""
    if have.alias == version and not have.canary:
        return
    if have.reserved != 0:
        yield wait_for_answer(version)
    args: dict[str, Any] = {"FunctionName": settings.function_name, "Name": ALIAS, "FunctionVersion": version}
    if have.canary:
        args["RoutingConfig"] = canary.NO_CANARY
    if have.earlier is not None and have.alias != version:
        args["Description"] = format_description(pop_version(have.earlier, have.alias, version))
    yield Change(
        "lambda",
        "update_alias",
        args,
        why=f"end the canary: all calls go to version {version}"
        if have.alias == version
        else f"move alias {ALIAS} from version {have.alias} back to version {version}",
    )
    if have.provisioned:
        yield wait_for_concurrency()


def compute_reservable(unreserved: int, reserved: int | None) -> int:
    """Return the most that the function can reserve, given what the account has unreserved and what the function has reserved."""
    return max(0, unreserved + (reserved or 0) - UNRESERVED)


def check_reservable_concurrency(have: Facts, settings: Settings) -> None:
    """Raise OpsError when the account cannot reserve that much concurrency; lowering a reservation, even to 0, is always allowed."""
    wanted = settings.fn.reserved or 0
    room = compute_reservable(have.unreserved, have.reserved)
    if wanted > (have.reserved or 0) and wanted > room:
        raise OpsError(
            f"fn.reserved is {wanted}, but this account can reserve {room} at most: AWS keeps {UNRESERVED} of its concurrency "
            "for other functions. Nothing was changed. Request a higher quota (L-B99A9384), or set fn.reserved to null."
        )


def set_concurrency_steps(have: Facts, settings: Settings) -> Steps:
    """Yield the changes of reserved and provisioned concurrency in the order that Lambda allows.

    Lambda refuses a reservation below what is provisioned, and provisioning above what is reserved. A function that is stopped,
    with 0 reserved, provisions nothing.
    """
    wanted = settings.fn.reserved
    provisioned = 0 if wanted == 0 else settings.fn.provisioned
    lowers = wanted is not None and bool(have.provisioned) and wanted < int(have.provisioned or 0)
    if lowers:
        yield from set_provisioned_steps(have, settings, provisioned)
    yield from set_reserved_steps(have, settings)
    if not lowers:
        yield from set_provisioned_steps(have, settings, provisioned)


def set_reserved_steps(have: Facts, settings: Settings) -> Steps:
    name, wanted = {"FunctionName": settings.function_name}, settings.fn.reserved
    if wanted is None and have.reserved is not None:
        yield Change(
            "lambda", "delete_function_concurrency", name, why="remove the reserved concurrency: fn.reserved is null"
        )
    elif wanted is not None and have.reserved != wanted:
        args = {**name, "ReservedConcurrentExecutions": wanted}
        why = f"reserve concurrency {wanted}: at most {wanted} calls run at once" if wanted else "stop all calls"
        yield Change("lambda", "put_function_concurrency", args, why=why)


def set_provisioned_steps(have: Facts, settings: Settings, wanted: int) -> Steps:
    name = {"FunctionName": settings.function_name, "Qualifier": ALIAS}
    if wanted and have.provisioned != wanted:
        yield Change(
            "lambda",
            "put_provisioned_concurrency_config",
            {**name, "ProvisionedConcurrentExecutions": wanted},
            why=f"provisioned concurrency {wanted}: environments that start ahead of calls",
            dollars_per_hour=pricing.price_provisioned_concurrency(wanted, settings.fn.memory_mb),
        )
        yield wait_for_concurrency()
    elif not wanted and have.provisioned:
        yield Change("lambda", "delete_provisioned_concurrency_config", name, why="remove the provisioned concurrency")
    elif wanted and have.provisioned_state == "IN_PROGRESS":
        yield wait_for_concurrency()


def wait_for_concurrency() -> Wait:
    """Return a wait for provisioned concurrency, for which AWS has no waiter."""

    def until(account: Account) -> str | None:
        found = account.call(
            "lambda", "get_provisioned_concurrency_config", FunctionName=account.settings.function_name, Qualifier=ALIAS
        )
        if found["Status"] == "FAILED":
            raise OpsError(
                f"Provisioned concurrency failed: {found.get('StatusReason')}. Go back a version: invoke lambda.rollback. "
                "See runbooks/lambda-provisioned.md"
            )
        return None if found["Status"] == "READY" else found["Status"]

    return Wait("provisioned concurrency", until, why="Lambda starts the environments", timeout_s=600)


def require_function(account: Account) -> Facts:
    have = facts(account)
    if have.config is None:
        raise OpsError(f"There is no function {account.settings.function_name}. Create it: invoke lambda.deploy")
    return have


def remove_function_steps(settings: Settings) -> Steps:
    yield Change(
        "lambda",
        "delete_function",
        {"FunctionName": settings.function_name},
        why=f"delete function {settings.function_name}",
        danger="callers fail from now on",
    )

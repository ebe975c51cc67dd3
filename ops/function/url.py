"""The function URL: an HTTPS address of the alias `live`, for callers that sign their requests with IAM credentials."""

from __future__ import annotations

from typing import Any

from ops.core.aws.account import Account
from ops.core.errors import OpsError
from ops.core.plan import Change, Steps
from ops.core.settings import Settings
from ops.function.plan import ALIAS, MISSING, Facts

# A page on a disk has no origin, so every origin may call; the signature decides who gets an answer.
CORS = {
    "AllowOrigins": ["*"],
    "AllowMethods": ["POST"],
    "AllowHeaders": ["authorization", "content-type", "x-amz-content-sha256", "x-amz-date", "x-amz-security-token"],
    "MaxAge": 3600,
}
CONFIG: dict[str, Any] = {"AuthType": "AWS_IAM", "Cors": CORS, "InvokeMode": "BUFFERED"}


def read_url(account: Account) -> dict[str, Any] | None:
    """Return AWS's description of the alias's URL; None without one."""
    name = account.settings.function_name
    found: dict[str, Any] | None = account.call_or_none(
        "lambda", "get_function_url_config", MISSING, FunctionName=name, Qualifier=ALIAS
    )
    return found


def require_url(account: Account) -> str:
    found = read_url(account)
    if found is None:
        raise OpsError(f"{account.settings.function_name} has no function URL. Create it: invoke lambda.url")
    return str(found["FunctionUrl"])


def steps(have: Facts, url: dict[str, Any] | None, settings: Settings) -> Steps:
    """Yield the change that makes the URL, or takes it back to IAM authentication. Raises OpsError without an alias."""
    if have.alias is None:
        raise OpsError(f"Function {settings.function_name} has no alias {ALIAS} yet. Create it: invoke lambda.deploy")
    args = {"FunctionName": settings.function_name, "Qualifier": ALIAS, **CONFIG}
    if url is None:
        why = f"create a URL of alias {ALIAS}, for callers with IAM credentials"
        yield Change("lambda", "create_function_url_config", args, why)
    elif differing := [key for key in CONFIG if not is_equal(url.get(key), CONFIG[key])]:
        why = f"set {', '.join(differing)} of the URL: only callers with IAM credentials get an answer"
        yield Change("lambda", "update_function_url_config", args, why)


def is_equal(have: Any, want: Any) -> bool:
    """Return whether two values are equal, lists in any order and texts in any case: AWS returns headers as it likes."""
    if isinstance(want, dict):
        return isinstance(have, dict) and all(is_equal(have.get(key), value) for key, value in want.items())
    if isinstance(want, list):
        return isinstance(have, list) and {str(one).lower() for one in have} == {str(one).lower() for one in want}
    return bool(have == want)


def remove_steps(url: dict[str, Any] | None, settings: Settings) -> Steps:
    if url is not None:
        args = {"FunctionName": settings.function_name, "Qualifier": ALIAS}
        danger = "callers of the URL fail from now on"
        yield Change("lambda", "delete_function_url_config", args, f"delete the URL of alias {ALIAS}", danger=danger)

"""CloudWatch log groups and their retention."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ops.core.errors import AwsError
from ops.core.plan import Change, Steps

if TYPE_CHECKING:
    from ops.core.aws.account import Account


def has_retention(account: Account, name: str, days: int | None = None) -> bool:
    """Return whether the log group exists and has a retention: of `days`, or of any length when `days` is None."""
    group = find_log_group(account, name)
    retention = group.get("retentionInDays") if group else None
    return retention is not None and days in (None, retention)


def has_log_group(account: Account, name: str) -> bool:
    return find_log_group(account, name) is not None


def find_log_group(account: Account, name: str) -> dict[str, Any] | None:
    groups = account.list_all("logs", "describe_log_groups", "logGroups", logGroupNamePrefix=name)
    return next((group for group in groups if group["logGroupName"] == name), None)


def log_group_steps(name: str, days: int, why: str) -> Steps:
    """Yield the changes that create the log group, unless it exists, and set its retention to `days`."""
    try:
        yield Change("logs", "create_log_group", {"logGroupName": name}, why=why)
    except AwsError as error:
        if not error.says("ResourceAlreadyExists"):
            raise
    args = {"logGroupName": name, "retentionInDays": days}
    yield Change("logs", "put_retention_policy", args, why=f"keep the logs for {days} days, then delete them")

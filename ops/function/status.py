"""The function's current status: its state, its live version and its concurrency limits."""

from __future__ import annotations

from dataclasses import dataclass

from ops.core.aws.account import Account
from ops.function import plan


@dataclass(frozen=True)
class Status:
    """The status of the function; a limit that is not set is None. `canary`: a part of the calls goes to another version than `live`."""

    function: str
    state: str
    live: str | None
    canary: bool
    memory_mb: int
    timeout_s: int
    reserved: int | None
    provisioned: int | None
    provisioned_state: str
    provisioned_reason: str


def read_status(account: Account) -> Status:
    """Return the function's status. Raises OpsError when there is no function."""
    have = plan.require_function(account)
    assert have.config is not None
    return Status(
        function=have.config["FunctionName"],
        state=have.config["State"],
        live=have.alias,
        canary=have.canary,
        memory_mb=have.config["MemorySize"],
        timeout_s=have.config["Timeout"],
        reserved=have.reserved,
        provisioned=have.provisioned,
        provisioned_state=have.provisioned_state,
        provisioned_reason=have.provisioned_reason,
    )


@dataclass(frozen=True)
class Concurrency:
    """The limits on concurrent calls; `unreserved_of_account` is shared by all functions without reserved concurrency."""

    reserved: int | None
    provisioned: int | None
    provisioned_state: str
    unreserved_of_account: int


def read_concurrency(account: Account) -> Concurrency:
    """Return the function's concurrency limits. Raises OpsError when there is no function."""
    have = plan.require_function(account)
    return Concurrency(have.reserved, have.provisioned, have.provisioned_state, have.unreserved)


def describe_concurrency(account: Account, found: Concurrency) -> str:
    name = account.settings.function_name
    if found.reserved == 0:
        return (
            f"All calls of {name} are stopped: its reserved concurrency is 0, and each call gets 429. "
            "Let them in again: invoke lambda.concurrency --resume"
        )
    limit = (
        f"{name} has no reserved concurrency: it shares the account's unreserved concurrency. "
        if found.reserved is None
        else f"At most {found.reserved} calls of {name} run at once (reserved concurrency); the next gets 429. "
    )
    return (
        f"{limit}Provisioned concurrency of alias {plan.ALIAS}: {found.provisioned or 0} ({found.provisioned_state or 'none'}); "
        f"$LATEST never uses it. The account has {found.unreserved_of_account} unreserved."
    )

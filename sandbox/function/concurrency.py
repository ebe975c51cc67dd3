"""The limits of reserved and provisioned concurrency: refuse what AWS refuses, in its words."""

from __future__ import annotations

from typing import Any

from sandbox.function.validation import build_arn, build_refusal
from sandbox.world import get_world

ACCOUNT_LIMIT = 1000  # concurrent executions of an account; a new one may have 10 or 50
MOST_PROVISIONED = 100  # the sandbox's own: each is a process of this machine
UNRESERVED = 100  # what AWS keeps free for functions without a reservation


def validate_reservation(backend: Any, name: str, wanted: int) -> None:
    """Validate PutFunctionConcurrency. Raises LambdaClientError."""
    functions = list(backend.list_functions())
    if not any(function.function_name == name for function in functions):
        raise build_refusal(404, "ResourceNotFoundException", f"Function not found: {build_arn(name)}:$LATEST")
    others = sum(f.reserved_concurrency or 0 for f in functions if f.function_name != name)
    if wanted + others > ACCOUNT_LIMIT - UNRESERVED:
        raise build_refusal(
            400,
            "InvalidParameterValueException",
            "Specified ReservedConcurrentExecutions for function decreases account's UnreservedConcurrentExecution "
            f"below its minimum value of [{UNRESERVED}].",
        )
    provisioned = sum_provisioned(name)
    if wanted < provisioned:
        raise build_refusal(
            400,
            "InvalidParameterValueException",
            f"ReservedConcurrentExecutions {wanted} should not be lower than function's total provisioned concurrency "
            f"[{provisioned}].",
        )


def sum_provisioned(name: str, without: str = "") -> int:
    """Return the provisioned concurrency of all of a function's qualifiers but `without`."""
    found = get_world().functions.provisioned.items()
    return sum(
        config["RequestedProvisionedConcurrentExecutions"]
        for (function, qualifier), config in found
        if function == name and qualifier != without
    )


def find_qualified_function(backend: Any, name: str, qualifier: str) -> Any:
    """Return the function of an alias or a published version. Raises LambdaClientError for a missing one and for $LATEST."""
    if qualifier in ("", "$LATEST"):
        message = "The function resource provided must be an alias or a published version."
        raise build_refusal(400, "InvalidParameterValueException", message)
    known = next((function for function in backend.list_functions() if function.function_name == name), None)
    versions = {str(f.version) for f in backend.list_versions_by_function(name)} if known else set()
    if known is None or not (qualifier in versions or qualifier in list_aliases(backend, name)):
        raise build_refusal(404, "ResourceNotFoundException", f"Cannot find alias arn: {build_arn(name)}:{qualifier}")
    return backend.get_function(name, qualifier)


def list_aliases(backend: Any, name: str) -> dict[str, str]:
    """Return the version of each alias of a function."""
    return {alias.name: str(alias.function_version) for alias in backend.list_aliases(name)}


def validate_provisioning(backend: Any, name: str, qualifier: str, wanted: int) -> Any:
    """Validate PutProvisionedConcurrencyConfig; return the function of the qualifier. Raises LambdaClientError."""
    if qualifier == "$LATEST":
        raise build_refusal(
            400,
            "InvalidParameterValueException",
            "Provisioned Concurrency Configs cannot be applied to unpublished function versions.",
        )
    function = find_qualified_function(backend, name, qualifier)
    validate_other_qualifier(backend, name, qualifier)
    total = wanted + sum_provisioned(name, without=qualifier)
    validate_total(backend, function, total)
    if total > MOST_PROVISIONED:
        message = f"The sandbox provisions at most {MOST_PROVISIONED} environments of a function, not {total} (sandbox/README.md)"
        raise build_refusal(400, "InvalidParameterValueException", message)
    return function


def validate_total(backend: Any, function: Any, total: int) -> None:
    """Raise LambdaClientError if the function's reserved concurrency, or what the account has left, is less than `total`."""
    if function.reserved_concurrency is not None:
        if total > function.reserved_concurrency:
            raise build_refusal(
                400,
                "InvalidParameterValueException",
                "Requested Provisioned Concurrency should not be greater than the reservedConcurrentExecution for function",
            )
        return
    unreserved = ACCOUNT_LIMIT - sum(f.reserved_concurrency or 0 for f in backend.list_functions())
    if total > unreserved:
        raise build_refusal(
            400,
            "InvalidParameterValueException",
            f"Specified ConcurrentExecutions for function is greater than account's unreserved concurrency [{unreserved}].",
        )
    if total > unreserved - UNRESERVED:
        raise build_refusal(
            400,
            "InvalidParameterValueException",
            "Specified ConcurrentExecutions for function decreases account's UnreservedConcurrentExecution below its "
            f"minimum value of [{UNRESERVED}].",
        )


def validate_other_qualifier(backend: Any, name: str, qualifier: str) -> None:
    """Raise LambdaClientError if the version has provisioned concurrency by another name: an alias, or its number."""
    aliases, provisioned = list_aliases(backend, name), get_world().functions.provisioned
    if qualifier in aliases:
        if (name, aliases[qualifier]) in provisioned:
            raise build_refusal(
                400,
                "InvalidParameterValueException",
                "Alias can't be used for Provisioned Concurrency configuration on an already Provisioned version.",
            )
    elif any(version == qualifier and (name, alias) in provisioned for alias, version in aliases.items()):
        raise build_refusal(409, "ResourceConflictException", "Version is pointed by a Provisioned Concurrency alias")

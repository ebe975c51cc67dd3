"""Lambda's answers."""

from __future__ import annotations

import io
import zipfile

from sandbox.fidelity.case import Case, answered, build_policy, build_trust, prepare, refused

SOURCE = "recorded: localstack tests/aws/services/lambda_/*.snapshot.json at 8b9a79f"
NAME = "score-function"


def pack(code: str) -> bytes:
    """Return a function package whose handler.py has this code."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as file:
        file.writestr(zipfile.ZipInfo("handler.py"), code)
    return packed.getvalue()


NEW = {
    "FunctionName": NAME, "Runtime": "python3.12", "Role": "<role>", "Handler": "handler.handler",
    "Code": {"ZipFile": pack("def handler(event, context):\n    return event\n")}, "Timeout": 30,
}  # fmt: skip
OTHER_CODE = pack("def handler(event, context):\n    return 2\n")
CONFIGURATION = (
    "Architectures CodeSha256 CodeSize Description EphemeralStorage FunctionArn FunctionName Handler LastModified "
    "LoggingConfig MemorySize PackageType RevisionId Role Runtime RuntimeVersionConfig SnapStart State StateReason "
    "StateReasonCode Timeout TracingConfig Version"
)
SETTLED = {"Configuration.State": "Active", "Configuration.LastUpdateStatus": "Successful"}
THIS, LIVE = {"FunctionName": NAME}, {"FunctionName": NAME, "Qualifier": "live"}
INVALID, MISSING = "InvalidParameterValueException", "ResourceNotFoundException"
CONFLICT = "ResourceConflictException"

CASES: list[Case] = [
    prepare(
        "iam.create_role",
        {"RoleName": "score-lambda", "AssumeRolePolicyDocument": build_trust({"Service": "lambda.amazonaws.com"})},
        keep={"role": "Role.Arn"},
    ),
    prepare(
        "iam.put_role_policy",
        {"RoleName": "score-lambda", "PolicyName": "logs", "PolicyDocument": build_policy("logs:*")},
    ),
    answered("lambda.create_function", "a new function", NEW, 201, fields=CONFIGURATION, equals={"State": "Pending"}),
    answered("lambda.get_function", "a function that is ready", THIS, equals=SETTLED),
    refused("lambda.create_function", "a name that is taken", NEW, CONFLICT, "^Function already exist: ", 409),
    refused("lambda.create_function", "an unknown runtime", {**NEW, "FunctionName": "x1", "Runtime": "python9"}, INVALID, "at 'runtime' failed to satisfy constraint"),
    refused("lambda.create_function", "4.2 kB of environment", {**NEW, "FunctionName": "x2", "Environment": {"Variables": {"A": "x" * 4200}}}, INVALID, "exceeded the 4KB limit"),
    refused("lambda.create_function", "a name of 65 characters", {**NEW, "FunctionName": "a" * 65}, INVALID, "length less than or equal to 64"),
    refused("lambda.create_function", "a role that is not there", {**NEW, "FunctionName": "x3", "Role": "arn:aws:iam::123456789012:role/none"}, INVALID, "cannot be assumed by Lambda"),
    refused("lambda.create_function", "a timeout of 901 s", {**NEW, "FunctionName": "x4", "Timeout": 901}, "ValidationException", "at 'timeout' failed to satisfy constraint"),
    refused("lambda.get_function", "a missing function", {"FunctionName": "none"}, MISSING, r"^Function not found: arn:aws:lambda:us-east-1:\d+:function:none$", 404),
    refused("lambda.get_function", "a missing version", {**THIS, "Qualifier": "1221"}, MISSING, f":{NAME}:1221$", 404),
    refused("lambda.get_function_concurrency", "a missing function", {"FunctionName": "none"}, MISSING, ":function:none$", 404),
    refused("lambda.get_alias", "a missing alias", {**THIS, "Name": "noalias"}, MISSING, f"^Cannot find alias arn: .*:{NAME}:noalias", 404),
    refused("lambda.delete_function", "a missing function", {"FunctionName": "none"}, MISSING, "^Function not found: .*:function:none", 404),
    answered("lambda.update_function_configuration", "other memory", {**THIS, "MemorySize": 256}, equals={"LastUpdateStatus": "InProgress"}),
    refused("lambda.update_function_code", "code while an update is in progress", {**THIS, "ZipFile": OTHER_CODE}, CONFLICT, "An update is in progress", 409),
    prepare("lambda.get_function", THIS, until=SETTLED),
    refused("lambda.publish_version", "another CodeSha256", {**THIS, "CodeSha256": "none"}, INVALID, "is different from current CodeSHA256"),
    answered("lambda.publish_version", "the first version", THIS, 201, {"version": "Version"}),
    answered("lambda.publish_version", "a version without a change", THIS, 201, equals={"Version": "<version>"}),
    refused("lambda.create_alias", "of a missing version", {**THIS, "Name": "x", "FunctionVersion": "10"}, MISSING, f":{NAME}:10$", 404),
    refused("lambda.create_alias", "a name of digits", {**THIS, "Name": "2024", "FunctionVersion": "1"}, "ValidationException", "at 'name' failed"),
    answered("lambda.create_alias", "a new alias", {**THIS, "Name": "live", "FunctionVersion": "<version>"}, 201, fields="AliasArn Description FunctionVersion Name RevisionId"),
    refused("lambda.create_alias", "an alias that is there", {**THIS, "Name": "live", "FunctionVersion": "<version>"}, CONFLICT, f"^Alias already exists: .*:{NAME}:live", 409),
    refused("lambda.update_alias", "a missing alias", {**THIS, "Name": "noalias", "FunctionVersion": "<version>"}, MISSING, f"^Alias not found: .*:{NAME}:noalias", 404),
    refused("lambda.put_function_concurrency", "a missing function", {"FunctionName": "none", "ReservedConcurrentExecutions": 1}, MISSING, r":function:none:\$LATEST", 404),
    refused("lambda.put_function_concurrency", "more than the account has", {**THIS, "ReservedConcurrentExecutions": 1000}, INVALID, "decreases account.s UnreservedConcurrentExecution below"),
    refused("lambda.get_provisioned_concurrency_config", "none provisioned", LIVE, "ProvisionedConcurrencyConfigNotFoundException", "^No Provisioned Concurrency Config found", 404),
    refused("lambda.get_provisioned_concurrency_config", "a missing function", {"FunctionName": "none", "Qualifier": "noalias"}, MISSING, "^Cannot find alias arn: .*:none:noalias", 404),
    refused("lambda.get_provisioned_concurrency_config", "a missing alias", {**THIS, "Qualifier": "noalias"}, MISSING, "^Cannot find alias arn", 404),
    refused("lambda.get_provisioned_concurrency_config", "$LATEST", {**THIS, "Qualifier": "$LATEST"}, INVALID, "must be an alias or a published version"),
    refused("lambda.delete_provisioned_concurrency_config", "a missing alias", {**THIS, "Qualifier": "noalias"}, MISSING, "^Cannot find alias arn", 404),
    answered("lambda.delete_provisioned_concurrency_config", "none provisioned", LIVE, 204),
    refused("lambda.put_provisioned_concurrency_config", "0", {**LIVE, "ProvisionedConcurrentExecutions": 0}, "ValidationException", "provisionedConcurrentExecutions. failed"),
    refused("lambda.put_provisioned_concurrency_config", "a missing alias", {**THIS, "Qualifier": "noalias", "ProvisionedConcurrentExecutions": 1}, MISSING, "^Cannot find alias arn", 404),
    refused("lambda.put_provisioned_concurrency_config", "$LATEST", {**THIS, "Qualifier": "$LATEST", "ProvisionedConcurrentExecutions": 1}, INVALID, "cannot be applied to unpublished"),
    refused("lambda.put_provisioned_concurrency_config", "more than the account has", {**LIVE, "ProvisionedConcurrentExecutions": 1001}, INVALID, "greater than account's unreserved concurrency"),
    refused("lambda.put_provisioned_concurrency_config", "more than may be provisioned", {**LIVE, "ProvisionedConcurrentExecutions": 950}, INVALID, "decreases account's UnreservedConcurrentExecution"),
    answered("lambda.put_provisioned_concurrency_config", "two", {**LIVE, "ProvisionedConcurrentExecutions": 2}, 202, equals={"Status": "IN_PROGRESS"}),
    prepare("lambda.get_provisioned_concurrency_config", LIVE, until={"Status": "READY"}),
    refused("lambda.put_function_concurrency", "fewer than are provisioned", {**THIS, "ReservedConcurrentExecutions": 1}, INVALID, "should not be lower than function.s total provisioned concurrency"),
    refused("lambda.put_provisioned_concurrency_config", "a version that a provisioned alias has", {**THIS, "Qualifier": "<version>", "ProvisionedConcurrentExecutions": 1}, CONFLICT, "Version is pointed by a Provisioned Concurrency alias", 409),
    refused("lambda.invoke", "a missing function", {"FunctionName": "none"}, MISSING, "^Function not found: ", 404),
    refused("lambda.invoke", "a missing alias", {**THIS, "Qualifier": "noalias"}, MISSING, f"^Function not found: .*:{NAME}:noalias", 404),
    refused("lambda.invoke", "a payload that is not JSON", {**THIS, "Payload": b"n\x87r"}, "InvalidRequestContentException", "Could not parse request body into json"),
    prepare("lambda.delete_provisioned_concurrency_config", LIVE),
    prepare("lambda.put_function_concurrency", {**THIS, "ReservedConcurrentExecutions": 0}),
    refused("lambda.invoke", "a function with 0 reserved", THIS, "TooManyRequestsException", r"^Rate Exceeded\.", 429),
    answered("lambda.get_account_settings", "the account's limits", {}, fields="TotalCodeSize CodeSizeUnzipped CodeSizeZipped ConcurrentExecutions UnreservedConcurrentExecutions", fields_at="AccountLimit"),
]  # fmt: skip

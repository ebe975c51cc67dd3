"""Lambda's API calls that moto lacks: invocations that run the real package, and enforced concurrency limits."""

from __future__ import annotations

import base64
import json
from typing import Any
from urllib.parse import unquote

from moto.awslambda.responses import LambdaResponse

from sandbox.function import workers
from sandbox.function.workers import ThrottledError
from sandbox.iam.principals import is_service_trusted
from sandbox.world import get_world

ACCOUNT_LIMIT = 1000  # concurrent executions of an account; a new one may have 10 or 50
UNRESERVED = 100  # what AWS keeps free for functions without a reservation
PAYLOAD_BYTES = 6 << 20


class Functions(LambdaResponse):
    use_raw_body = False

    @property
    def name_and_qualifier(self) -> tuple[str, str]:
        """Return (function, qualifier) from the path, as NAME:QUALIFIER or as ?Qualifier=."""
        name = unquote(self.path).split("/functions/")[1].split("/")[0]
        name = name.split(":function:")[-1]
        name, _, inside = name.partition(":")
        return name, self.querystring.get("Qualifier", [inside])[0]

    def invoke(self) -> Any:
        name, qualifier = self.name_and_qualifier
        if len(self.raw_body) > PAYLOAD_BYTES:
            return build_lambda_api_error(
                413,
                "RequestEntityTooLargeException",
                f"{len(self.raw_body)} byte payload is too large for the Invoke operation",
            )
        function = self.backend.get_function(name, qualifier or None)
        invocation_type = self.headers.get("X-Amz-Invocation-Type", "RequestResponse")
        if invocation_type == "DryRun":
            return 204, {"status": 204}, ""
        try:
            result = workers.execute_invocation(
                get_world(), function, qualifier, self.raw_body or b"{}", wait=invocation_type != "Event"
            )
        except ThrottledError as refusal:
            return build_lambda_api_error(429, "TooManyRequestsException", "Rate Exceeded.", Reason=str(refusal))
        if invocation_type == "Event":
            return 202, {"status": 202}, ""
        headers = {"Content-Type": "application/json", "X-Amz-Executed-Version": str(function.version)}
        if result.error:
            headers["X-Amz-Function-Error"] = result.error
        if self.headers.get("X-Amz-Log-Type") == "Tail":
            headers["X-Amz-Log-Result"] = base64.b64encode(result.log[-4096:].encode()).decode()
        return 200, headers, result.payload

    def create_function(self) -> Any:
        role = json.loads(self.body).get("Role", "")
        if not is_service_trusted(get_world(), "lambda.amazonaws.com", role):
            message = "The role defined for the function cannot be assumed by Lambda."
            return build_lambda_api_error(400, "InvalidParameterValueException", message)
        return super().create_function()

    def put_function_concurrency(self) -> Any:
        name, _ = self.name_and_qualifier
        wanted = json.loads(self.body)["ReservedConcurrentExecutions"]
        others = sum(f.reserved_concurrency or 0 for f in self.backend.list_functions() if f.function_name != name)
        if wanted + others > ACCOUNT_LIMIT - UNRESERVED:
            return build_lambda_api_error(
                400,
                "InvalidParameterValueException",
                "Specified ReservedConcurrentExecutions for function decreases account's UnreservedConcurrentExecution "
                f"below its minimum value of [{UNRESERVED}].",
            )
        return super().put_function_concurrency()

    def get_account_settings(self) -> Any:
        reserved = sum(f.reserved_concurrency or 0 for f in self.backend.list_functions())
        limit = {
            "ConcurrentExecutions": ACCOUNT_LIMIT,
            "UnreservedConcurrentExecutions": ACCOUNT_LIMIT - reserved,
            "CodeSizeZipped": 52428800,
        }
        return (
            200,
            {},
            json.dumps(
                {"AccountLimit": limit, "AccountUsage": {"FunctionCount": len(list(self.backend.list_functions()))}}
            ),
        )

    def put_provisioned_concurrency_config(self) -> Any:
        name, qualifier = self.name_and_qualifier
        function = self.backend.get_function(name, qualifier)
        wanted = json.loads(self.body)["ProvisionedConcurrentExecutions"]
        if qualifier in ("", "$LATEST"):
            return build_lambda_api_error(
                400,
                "InvalidParameterValueException",
                "Provisioned Concurrency Configs cannot be applied to unpublished function versions.",
            )
        if function.reserved_concurrency is not None and wanted > function.reserved_concurrency:
            return build_lambda_api_error(
                400,
                "InvalidParameterValueException",
                "Requested Provisioned Concurrency should not be greater than the reservedConcurrentExecution for function",
            )
        return 202, {"status": 202}, json.dumps(workers.provision_workers(get_world(), function, qualifier, wanted))

    def get_provisioned_concurrency_config(self) -> Any:
        found = get_world().functions.provisioned.get(self.name_and_qualifier)
        if found is None:
            return build_lambda_api_error(
                404,
                "ProvisionedConcurrencyConfigNotFoundException",
                "No Provisioned Concurrency Config found for this function",
            )
        return 200, {}, json.dumps(found)

    def delete_provisioned_concurrency_config(self) -> Any:
        get_world().functions.provisioned.pop(self.name_and_qualifier, None)
        return 204, {"status": 204}, ""

    def update_alias(self) -> Any:
        """Move an alias, and provision its workers again for the version it now points to."""
        response = super().update_alias()
        name, alias = self.name_and_qualifier[0], unquote(self.path).rstrip("/").rsplit("/", 1)[-1]
        if config := get_world().functions.provisioned.get((name, alias)):
            workers.provision_workers(
                get_world(),
                self.backend.get_function(name, alias),
                alias,
                config["RequestedProvisionedConcurrentExecutions"],
            )
        return response

    def delete_function(self) -> Any:
        workers.discard_workers(get_world(), self.name_and_qualifier[0])
        return super().delete_function()


def build_lambda_api_error(status: int, code: str, message: str, **more: str) -> Any:
    body = {"Type": "User", "message": message, "Message": message, **more}
    # moto takes the status from the headers, and 200 if they have none.
    return status, {"Content-Type": "application/json", "x-amzn-ErrorType": code, "status": status}, json.dumps(body)

"""Lambda's API calls that moto lacks: invocations that run the real package, and enforced concurrency limits."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

from moto.awslambda.exceptions import ConflictException, UnknownAliasException
from moto.awslambda.responses import LambdaResponse

from sandbox.function import aliases, concurrency, states, urls, validation, workers
from sandbox.function.workers import ThrottledError
from sandbox.world import get_world

PAYLOAD_BYTES = 6 << 20


class Functions(LambdaResponse):
    use_raw_body = True  # the data of an invocation may be anything

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
        function = aliases.choose_function(self.backend, name, qualifier)
        validation.validate_payload(self.raw_body)
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
        validation.validate_new_function(json.loads(self.body))
        status, headers, body = super().create_function()
        return status, headers, json.dumps(states.describe_configuration(json.loads(body), created=True))

    def get_function(self) -> str:
        found = json.loads(super().get_function())
        return json.dumps({**found, "Configuration": states.describe_configuration(found["Configuration"])})

    def get_function_configuration(self) -> str:
        return json.dumps(states.describe_configuration(json.loads(super().get_function_configuration())))

    def update_function_configuration(self) -> Any:
        validation.validate_configuration(json.loads(self.body))
        return self.update(super().update_function_configuration)

    def update_function_code(self) -> Any:
        return self.update(super().update_function_code)

    def update(self, change: Callable[[], Any]) -> Any:
        """Carry out a change of $LATEST, which AWS refuses while another is in progress."""
        name, _ = self.name_and_qualifier
        states.require_settled(name)
        status, headers, body = change()
        states.begin_update(name)
        return status, headers, json.dumps(states.describe_configuration(json.loads(body)))

    def publish_version(self) -> Any:
        name, _ = self.name_and_qualifier
        function = self.backend.get_function(name, None)
        states.require_settled(name)
        validation.validate_published_code(json.loads(self.body or "{}"), function)
        response = super().publish_version()
        function.code_or_config_updated = False  # moto forgets this for the first version
        return response

    def create_alias(self) -> Any:
        try:
            return super().create_alias()
        except ConflictException as conflict:
            raise validation.build_refusal(409, "ResourceConflictException", conflict.message) from None

    def put_function_concurrency(self) -> Any:
        name, _ = self.name_and_qualifier
        concurrency.validate_reservation(self.backend, name, json.loads(self.body)["ReservedConcurrentExecutions"])
        return super().put_function_concurrency()

    def get_account_settings(self) -> Any:
        reserved = sum(f.reserved_concurrency or 0 for f in self.backend.list_functions())
        limit = {
            "ConcurrentExecutions": concurrency.ACCOUNT_LIMIT,
            "UnreservedConcurrentExecutions": concurrency.ACCOUNT_LIMIT - reserved,
            "CodeSizeZipped": 52428800,
            "CodeSizeUnzipped": 262144000,
            "TotalCodeSize": 80530636800,
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
        wanted = json.loads(self.body)["ProvisionedConcurrentExecutions"]
        function = concurrency.validate_provisioning(self.backend, name, qualifier, wanted)
        return 202, {"status": 202}, json.dumps(workers.provision_workers(get_world(), function, qualifier, wanted))

    def get_provisioned_concurrency_config(self) -> Any:
        concurrency.find_qualified_function(self.backend, *self.name_and_qualifier)
        found = get_world().functions.provisioned.get(self.name_and_qualifier)
        if found is None:
            return build_lambda_api_error(
                404,
                "ProvisionedConcurrencyConfigNotFoundException",
                "No Provisioned Concurrency Config found for this function",
            )
        return 200, {}, json.dumps(found)

    def delete_provisioned_concurrency_config(self) -> Any:
        concurrency.find_qualified_function(self.backend, *self.name_and_qualifier)
        get_world().functions.provisioned.pop(self.name_and_qualifier, None)
        return 204, {"status": 204}, ""

    def create_function_url_config(self) -> Any:
        config = urls.put_config(self.backend, *self.name_and_qualifier, json.loads(self.body), create=True)
        return 201, {"status": 201}, json.dumps(config)

    def update_function_url_config(self) -> Any:
        config = urls.put_config(self.backend, *self.name_and_qualifier, json.loads(self.body), create=False)
        return 200, {}, json.dumps(config)

    def get_function_url_config(self) -> Any:
        return 200, {}, json.dumps(urls.describe_config(*self.name_and_qualifier))

    def delete_function_url_config(self) -> Any:
        urls.describe_config(*self.name_and_qualifier)
        del get_world().functions.urls[self.name_and_qualifier]
        return 204, {"status": 204}, ""

    def update_alias(self) -> Any:
        """Move an alias, and provision its workers again for the version it now points to."""
        name, alias = self.name_and_qualifier[0], unquote(self.path).rstrip("/").rsplit("/", 1)[-1]
        try:
            response = super().update_alias()
        except UnknownAliasException:
            message = f"Alias not found: {validation.build_arn(name)}:{alias}"
            raise validation.build_refusal(404, "ResourceNotFoundException", message) from None
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

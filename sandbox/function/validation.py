"""Validation of Lambda's requests: refuse what AWS refuses, in its words, where moto accepts."""

from __future__ import annotations

import json
from typing import Any

from moto.awslambda.exceptions import LambdaClientError

from sandbox.http import parameters
from sandbox.iam.principals import is_service_trusted
from sandbox.state import ACCOUNT, REGION
from sandbox.world import get_world

NAME_CHARACTERS, ENVIRONMENT_BYTES, TIMEOUT_S = 64, 4096, 900


def build_refusal(status: int, code: str, message: str) -> LambdaClientError:
    refusal = LambdaClientError(code, message)
    refusal.code = status
    return refusal


def build_arn(name: str) -> str:
    return f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{name}"


def validate_new_function(request: dict[str, Any]) -> None:
    """Validate CreateFunction. Raises LambdaClientError."""
    name = request["FunctionName"].rsplit(":", 1)[-1]
    if len(name) > NAME_CHARACTERS:
        raise build_refusal(
            400,
            "InvalidParameterValueException",
            f"1 validation error detected: Value '{name}' at 'functionName' failed to satisfy constraint: "
            f"Member must have length less than or equal to {NAME_CHARACTERS}",
        )
    validate_configuration(request)
    if not is_service_trusted(get_world(), "lambda.amazonaws.com", request["Role"]):
        message = "The role defined for the function cannot be assumed by Lambda."
        raise build_refusal(400, "InvalidParameterValueException", message)


def validate_configuration(request: dict[str, Any]) -> None:
    """Validate what CreateFunction and UpdateFunctionConfiguration have in common. Raises LambdaClientError."""
    runtime, runtimes = request.get("Runtime"), find_runtimes()
    if runtime is not None and runtime not in runtimes:
        raise build_refusal(
            400,
            "InvalidParameterValueException",
            f"Value {runtime} at 'runtime' failed to satisfy constraint: Member must satisfy enum value set: "
            f"[{', '.join(runtimes)}] or be a valid ARN",
        )
    if request.get("Timeout", 1) > TIMEOUT_S:
        raise build_refusal(
            400,
            "ValidationException",
            f"1 validation error detected: Value '{request['Timeout']}' at 'timeout' failed to satisfy constraint: "
            f"Member must have value less than or equal to {TIMEOUT_S}",
        )
    variables = (request.get("Environment") or {}).get("Variables") or {}
    if len(json.dumps(variables)) > ENVIRONMENT_BYTES:
        raise build_refusal(
            400,
            "InvalidParameterValueException",
            "Lambda was unable to configure your environment variables because the environment variables you have provided "
            f"exceeded the 4KB limit. String measured: {json.dumps(variables)}",
        )


def find_runtimes() -> list[str]:
    found: list[str] = parameters.find_input_shape("lambda", "CreateFunction").members["Runtime"].enum
    return found


def validate_payload(body: bytes) -> None:
    """Raise LambdaClientError unless an invocation's body is JSON or empty."""
    try:
        json.loads(body or b"{}")
    except (ValueError, RecursionError) as error:
        message = f"Could not parse request body into json: Could not parse payload into json: {error}"
        raise build_refusal(400, "InvalidRequestContentException", message) from None


def validate_published_code(request: dict[str, Any], function: Any) -> None:
    """Raise LambdaClientError unless PublishVersion's CodeSha256, if given, is that of $LATEST."""
    given = request.get("CodeSha256")
    if given and given != function.code_sha_256:
        raise build_refusal(
            400,
            "InvalidParameterValueException",
            f"CodeSHA256 ({given}) is different from current CodeSHA256 in $LATEST ({function.code_sha_256}). "
            "Please try again with the CodeSHA256 in $LATEST.",
        )

"""The constraints of AWS's own service models: a request that breaks one is refused in AWS's words, before any service sees it.

botocore's models state patterns, lengths, ranges, enumerations and required parameters. botocore itself checks few of them,
and moto none, so that without this module a request that AWS refuses would be accepted here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

from sandbox.http import parameters
from sandbox.http.error_responses import RequestRefused, reply_error
from sandbox.http.parsing import Call

# EC2 and S3 have messages of their own for each fault, which their responses know.
UNCHECKED = ("ec2", "s3")
# (error code, HTTP status) by botocore's name of the model; all others answer ValidationException.
CODES = {
    "iam": "ValidationError",
    "sts": "ValidationError",
    "cloudwatch": "ValidationError",
    "sagemaker-runtime": "ValidationError",
    "logs": "InvalidParameterException",
    "ecr": "InvalidParameterException",
    "codebuild": "InvalidInputException",
}
# Shapes that the service's own responses check, with another code or in another order.
CHECKED_BY_SERVICE = {"lambda": ("Runtime", "Environment")}
ROLE_ARN = re.compile(r"arn:aws[\w-]*:iam::\d{12}:role/.+")
MOST_NAMED = 200  # characters of a value in a message


def validate(call: Call, params: dict[str, Any]) -> None:
    """Raise RequestRefused if a parameter breaks a constraint of the operation's model."""
    if call.operation == "AssumeRole" and not ROLE_ARN.fullmatch(str(params.get("RoleArn"))):
        message = f"{params.get('RoleArn')} is invalid"
        raise RequestRefused(reply_error(call.protocol, 400, "ValidationError", message))
    shape = None if call.model in UNCHECKED else parameters.find_input_shape(call.model, call.operation)
    if shape is None:
        return
    checked = {k: v for k, v in params.items() if k not in CHECKED_BY_SERVICE.get(call.model, ())}
    found = list(find_violations(shape, checked, ""))
    if not found:
        return
    count = f"{len(found)} validation error{'s' if len(found) > 1 else ''} detected: "
    code = CODES.get(call.model, "ValidationException")
    raise RequestRefused(reply_error(call.protocol, 400, code, count + "; ".join(found)))


def find_violations(shape: Any, value: Any, path: str) -> Iterator[str]:
    """Yield AWS's sentence for each constraint that `value` breaks. `path` is its name in messages, "" for the request."""
    if shape.type_name == "structure" and isinstance(value, dict):
        for name in shape.required_members:
            if value.get(name) is None and not is_streamed(shape.members[name]):
                yield describe(None, join(path, name), "Member must not be null")
        for name, member in shape.members.items():
            if value.get(name) is not None and not is_streamed(member):
                yield from find_violations(member, value[name], join(path, name))
    elif shape.type_name == "list" and isinstance(value, list):
        yield from find_length_violations(shape, value, path)
        for number, item in enumerate(value, 1):
            yield from find_violations(shape.member, item, f"{path}.{number}.member")
    elif shape.type_name == "map" and isinstance(value, dict):
        yield from find_length_violations(shape, value, path)
        for key, item in value.items():
            yield from find_violations(shape.key, key, f"{path}.{key}.key")
            yield from find_violations(shape.value, item, f"{path}.{key}.member")
    elif isinstance(value, str):
        yield from find_text_violations(shape, value, path)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield from find_range_violations(shape, value, path)


def is_streamed(shape: Any) -> bool:
    """Return whether the parameter is data in the body, which is not read here."""
    return bool(shape.serialization.get("streaming")) or shape.type_name == "blob"


def join(path: str, name: str) -> str:
    name = name[:1].lower() + name[1:]
    return f"{path}.{name}" if path else name


def describe(value: Any, path: str, constraint: str) -> str:
    shown = "null" if value is None else f"'{str(value)[:MOST_NAMED]}'"
    return f"Value {shown} at '{path}' failed to satisfy constraint: {constraint}"


def find_length_violations(shape: Any, value: Any, path: str) -> Iterator[str]:
    least, most = shape.metadata.get("min"), shape.metadata.get("max")
    if most is not None and len(value) > most:
        yield describe(value, path, f"Member must have length less than or equal to {most}")
    if least is not None and len(value) < least:
        yield describe(value, path, f"Member must have length greater than or equal to {least}")


def find_range_violations(shape: Any, value: float, path: str) -> Iterator[str]:
    least, most = shape.metadata.get("min"), shape.metadata.get("max")
    if most is not None and value > float(most):
        yield describe(value, path, f"Member must have value less than or equal to {most}")
    if least is not None and value < float(least):
        yield describe(value, path, f"Member must have value greater than or equal to {least}")


def find_text_violations(shape: Any, value: str, path: str) -> Iterator[str]:
    if shape.type_name != "string":
        return
    yield from find_length_violations(shape, value, path)
    if shape.enum and value not in shape.enum:
        yield describe(value, path, f"Member must satisfy enum value set: [{', '.join(shape.enum)}]")
    pattern = shape.metadata.get("pattern")
    if pattern and (compiled := compile_pattern(pattern)) and not compiled.fullmatch(value):
        yield describe(value, path, f"Member must satisfy regular expression pattern: {pattern}")


@cache
def compile_pattern(pattern: str) -> re.Pattern[str] | None:
    """Return the pattern for Python, or None for the few that use Java's own syntax; those are not checked."""
    try:
        return re.compile(pattern)
    except re.error:
        return None

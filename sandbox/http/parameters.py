"""The parameters of a call by AWS's own names, whichever of its protocols it uses."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from botocore.validate import ParamValidator
from moto.core.parse import PROTOCOL_PARSERS
from moto.core.utils import get_service_model
from werkzeug.datastructures import MultiDict

from sandbox.http import routes
from sandbox.http.error_responses import build_malformed_error
from sandbox.http.parsing import Call


def read(call: Call) -> dict[str, Any]:
    """Return every parameter that the operation has, and no other, without S3's and Lambda's data and S3's documents.

    Raises RequestRefused for a body that cannot be read, or has a value of another type than AWS takes.
    """
    try:
        if call.rest:
            return (
                parse_json_parameters(call, call.route.members) | collect_rest_parameters(call)
                if call.route.members
                else collect_rest_parameters(call)
            )
        return parse_json_parameters(call, None) if call.protocol == "json" else parse_form_parameters(call)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise build_malformed_error(call.protocol, f"The parameters cannot be read: {error}") from None


def parse_form_parameters(call: Call) -> dict[str, Any]:
    model = get_service_model(call.model).operation_model(call.operation)
    params = {
        "values": MultiDict(call.form),
        "headers": {},
        "method": "POST",
        "url_params": {},
        "url_path": "/",
        "body": "",
    }
    return PROTOCOL_PARSERS[call.protocol](model).parse(params)  # type: ignore[arg-type]


def parse_json_parameters(call: Call, members: frozenset[str] | None) -> dict[str, Any]:
    """Return the operation's parameters in a JSON body, only `members` if given. A null counts as missing, as in AWS."""
    text = call.body.decode()
    given = (
        json.loads(text, object_pairs_hook=reject_duplicate_keys, parse_constant=reject_constant)
        if text.strip()
        else {}
    )
    if not isinstance(given, dict):
        raise ValueError("The body is not a JSON object")
    shape = find_input_shape(call.model, call.operation)
    if shape is None:
        return {}
    names = shape.members if members is None else members
    params = {key: value for key, value in given.items() if key in names and value is not None}
    check_types(params, shape)
    return params


def reject_duplicate_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("A name is given more than once in one object")
    return found


def reject_constant(word: str) -> None:
    raise ValueError(f"{word} is not a number")


def check_types(params: dict[str, Any], shape: Any) -> None:
    """Raise ValueError for a value of the wrong type, which could be read in two ways; the service checks the rest."""
    for line in ParamValidator().validate(params, shape).generate_report().splitlines():
        if line.startswith("Invalid type"):
            raise ValueError(line[:300])


@cache
def find_input_shape(model: str, operation: str) -> Any:
    return routes.load_service_model(model).operation_model(operation).input_shape


def collect_rest_parameters(call: Call) -> dict[str, Any]:
    """Return the parameters in path, query and headers, by the model's names."""
    route, params = call.route, dict[str, Any](call.labels)
    for key, name in route.query.items():
        if key in call.query:
            params[name] = call.query[key] if key in route.several else call.query[key][0]
    return params | {name: call.headers[key] for key, name in route.headers.items() if key in call.headers}

"""The REST operations: find the operation by method, path and query, and the location of each parameter.

The matching is moto's own, which reads botocore's models: the sandbox and moto always agree on a call's operation.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any
from urllib.parse import parse_qs, quote, urlencode

import botocore.session
from moto.core.request import Request
from moto.core.routing import RestRouter
from moto.core.utils import get_service_model
from werkzeug.exceptions import NotFound


@dataclass(frozen=True)
class Route:
    operation: str
    labels: dict[str, str]  # label in the path -> parameter
    greedy: frozenset[str]  # labels that may hold slashes
    literal: dict[str, str]  # the fixed part of the query: `policy`, `list-type=2`
    query: dict[str, str]  # key in the query -> parameter
    several: frozenset[str]  # keys in the query that may occur more than once
    headers: dict[str, str]  # lower-case name of a header -> parameter
    prefixes: tuple[str, ...]  # prefixes of headers' names: x-amz-meta-
    members: frozenset[str]  # parameters in a JSON body
    document: bool  # whether the whole body is one parameter, such as a policy
    streams: bool  # whether the body is data, on which no decision depends


def match_operation(
    service: str, method: str, path: str, keys: Iterable[str], headers: Iterable[str]
) -> tuple[str, dict[str, str]]:
    """Return the operation ("?" for none) and the parameters in its decoded path. Query and headers count by name only.

    moto distinguishes `?policy` from `?policy=x`, and would take a DELETE with the second for one of the whole bucket.
    """
    query = urlencode({key: collect_query_literals(service).get(key, "") for key in keys})
    request = Request(
        {"REQUEST_METHOD": method, "PATH_INFO": path, "RAW_URI": quote_path(path), "QUERY_STRING": query}
        | {"SERVER_NAME": "127.0.0.1", "SERVER_PORT": "80", "wsgi.url_scheme": "https"}
        | {f"HTTP_{name.upper().replace('-', '_')}": "" for name in headers}
    )
    try:
        operation, labels = build_router(service).match(request)
    except NotFound:
        return "?", {}
    route = build_routes(service).get(operation.name)
    # moto knows a few operations that botocore lacks, such as S3's upload by an HTML form, and lets the last label of a
    # path hold slashes, at which the code that acts on the call may cut it.
    if route is None or any("/" in value for label, value in labels.items() if label not in route.greedy):
        return "?", {}
    return operation.name, {route.labels[label]: value for label, value in labels.items()}


def quote_path(path: str) -> str:
    return quote(path, safe="/-._~")


@cache
def load_service_model(service: str) -> Any:
    """Return botocore's model of a service, by botocore's name. Raises UnknownServiceError."""
    return botocore.session.get_session().get_service_model(service)


@cache
def build_router(service: str) -> RestRouter:
    return RestRouter(get_service_model(service))


@cache
def build_routes(service: str) -> dict[str, Route]:
    """Return the routes by operation. `service` is botocore's name of the model."""
    model = load_service_model(service)
    return {name: derive_route(model.operation_model(name)) for name in model.operation_names}


@cache
def collect_query_literals(service: str) -> dict[str, str]:
    """Return the fixed parts of the queries of a service's operations, such as `policy` and `list-type=2`."""
    return {key: value for route in build_routes(service).values() for key, value in route.literal.items()}


def derive_route(operation: Any) -> Route:
    members = operation.input_shape.members if operation.input_shape else {}
    payload = operation.input_shape.serialization.get("payload") if operation.input_shape else None
    at: dict[str, dict[str, str]] = {"uri": {}, "querystring": {}, "header": {}, "headers": {}, "": {}}
    for name, shape in members.items():
        at[shape.serialization.get("location", "")][shape.serialization.get("name", name)] = name
    path, _, query = operation.http["requestUri"].partition("?")
    return Route(
        operation.name,
        labels=at["uri"],
        greedy=frozenset(label for label in at["uri"] if f"{{{label}+}}" in path),
        literal={key: values[0] for key, values in parse_qs(query, keep_blank_values=True).items()},
        query=at["querystring"],
        several=frozenset(key for key, name in at["querystring"].items() if members[name].type_name == "list"),
        headers={key.lower(): name for key, name in at["header"].items()},
        prefixes=tuple(prefix.lower() for prefix in at["headers"]),
        members=frozenset() if payload else frozenset(at[""].values()),
        document=payload is not None,
        streams=operation.has_streaming_input,
    )

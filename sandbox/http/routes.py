"""Operations that are told by method, path and query: which one a request is, and where each of its parameters stands."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import Any
from urllib.parse import parse_qs

import botocore.session

# Of operations with the same method and path: the keys that a request must have to be this one.
TOLD_BY = {
    "UploadPart": {"partNumber", "uploadId"},
    "UploadPartCopy": {"partNumber", "uploadId"},
    "CompleteMultipartUpload": {"uploadId"},
    "AbortMultipartUpload": {"uploadId"},
    "ListParts": {"uploadId"},
}
ELSEWHERE = {"ListDirectoryBuckets"}  # GET / too, of another host: s3express-control


@dataclass(frozen=True)
class Route:
    operation: str
    method: str
    pattern: re.Pattern[str]  # of the decoded path, with the parameters' names
    literal: dict[str, str]  # what stands in the query of each such request: `policy`, `list-type=2`
    needed: frozenset[str]  # keys of the query that a request must have to be this one
    query: dict[str, str]  # key in the query -> parameter
    several: frozenset[str]  # keys that may stand there more than once
    headers: dict[str, str]  # a header's name in small letters -> parameter
    prefixes: tuple[str, ...]  # headers by the beginning of their names: x-amz-meta-
    members: frozenset[str]  # parameters in a JSON body
    document: bool  # whether there is a body that is a parameter as a whole, such as a policy
    streams: bool  # whether the body is data, which nobody decides on


def told(service: str, method: str, path: str, keys: set[str], copying: bool) -> str:
    """The operation whose method and path fit, with the most query keys of its own: `?lifecycle` beats none; "?" for none."""
    fitting = [
        (len(one.needed), one.operation.startswith(("Copy", "UploadPartCopy")) == copying, one.operation)
        for one in routes(service).values()
        if one.method == method and one.needed <= keys and one.pattern.fullmatch(path)
    ]
    return max(fitting)[2] if fitting else "?"


@cache
def routes(service: str) -> dict[str, Route]:
    """By operation. `service` is botocore's name of the model."""
    model = botocore.session.get_session().get_service_model(service)
    names = [name for name in model.operation_names if name not in ELSEWHERE]
    return {name: route(model.operation_model(name)) for name in names}


def route(operation: Any) -> Route:
    members = operation.input_shape.members if operation.input_shape else {}
    payload = operation.input_shape.serialization.get("payload") if operation.input_shape else None
    at: dict[str, dict[str, str]] = {"uri": {}, "querystring": {}, "header": {}, "headers": {}, "": {}}
    for name, shape in members.items():
        at[shape.serialization.get("location", "")][shape.serialization.get("name", name)] = name
    path, _, query = operation.http["requestUri"].partition("?")
    literal = {key: values[0] for key, values in parse_qs(query, keep_blank_values=True).items()}
    return Route(
        operation.name,
        operation.http["method"],
        compiled(path, at["uri"]),
        literal,
        frozenset(TOLD_BY.get(operation.name, literal)),
        at["querystring"],
        frozenset(key for key, name in at["querystring"].items() if members[name].type_name == "list"),
        {key.lower(): name for key, name in at["header"].items()},
        tuple(prefix.lower() for prefix in at["headers"]),
        frozenset() if payload else frozenset(at[""].values()),
        payload is not None,
        operation.has_streaming_input,
    )


def compiled(path: str, names: dict[str, str]) -> re.Pattern[str]:
    """`/{Bucket}/{Key+}` as a pattern; a key may hold anything, line ends too."""
    text = re.escape(path.rstrip("/"))
    text = re.sub(r"\\\{(\w+)\\\+\\\}", lambda m: f"(?P<{names.get(m[1], m[1])}>.+)", text)
    text = re.sub(r"\\\{(\w+)\\\}", lambda m: f"(?P<{names.get(m[1], m[1])}>[^/]+)", text)
    return re.compile(text + "/?", re.DOTALL)

"""Helpers for records that pydantic reads from files: null handling, and the first fault as one sentence with its place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import BeforeValidator, ValidationError

SENTENCES = {
    "string_type": "must be a string",
    "int_type": "must be a whole number",
    "bool_type": "must be true or false",
    "list_type": "must be a list",
    "tuple_type": "must be a list",
    "dict_type": "must be an object",
    "dataclass_type": "must be an object",
    "model_type": "must be an object",
    "date_type": "must be a date",
}
UNKNOWN = ("extra_forbidden", "unexpected_keyword_argument")


def first_fault(error: ValidationError) -> str:
    """Return the first fault and its place, for example "RoleDetailList[3].Tags[0] has no Key"."""
    one = error.errors(include_url=False)[0]
    *outer, last = one["loc"] or ("",)
    if one["type"] == "missing":
        return f"{join_place(outer) or 'it'} has no {last}"
    if one["type"] in UNKNOWN:
        return f"{join_place(outer) or 'it'} has the unknown field {last!r}"
    cause = one.get("ctx", {}).get("error")
    where = join_place([part for part in one["loc"] if part != "[key]"]) or "it"
    return f"{where} {cause or SENTENCES.get(one['type']) or one['msg']}"


def join_place(parts: Sequence[int | str]) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts).removeprefix(".")


def drop_nulls(value: Any) -> Any:
    """Return an object without its null entries, and any other value unchanged: in a file, null means absent."""
    return {key: one for key, one in value.items() if one is not None} if isinstance(value, dict) else value


DROP_NULLS = BeforeValidator(drop_nulls)

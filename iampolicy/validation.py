"""Helpers for records that pydantic reads from files: null handling, and the first fault as one sentence with its place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import BeforeValidator, ValidationError

SENTENCES = {
    "string_type": "is no text",
    "int_type": "is no number",
    "bool_type": "is no true or false",
    "list_type": "is no list",
    "tuple_type": "is no list",
    "dict_type": "is no object",
    "dataclass_type": "is no object",
    "model_type": "is no object",
    "date_type": "is no date",
}
UNKNOWN = ("extra_forbidden", "unexpected_keyword_argument")


def first_fault(error: ValidationError) -> str:
    """Return the first fault and its place, for example "RoleDetailList[3].Tags[0] has no Key"."""
    one = error.errors(include_url=False)[0]
    *outer, last = one["loc"] or ("",)
    if one["type"] == "missing":
        return f"{place(outer) or 'it'} has no {last}"
    if one["type"] in UNKNOWN:
        return f"{place(outer) or 'it'} has {last!r} besides"
    cause = one.get("ctx", {}).get("error")
    where = place([part for part in one["loc"] if part != "[key]"]) or "it"
    return f"{where} {cause or SENTENCES.get(one['type']) or one['msg']}"


def place(parts: Sequence[int | str]) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts).removeprefix(".")


def without_nulls(value: Any) -> Any:
    """Return an object without its null entries, and any other value unchanged: in a file, null means absent."""
    return {key: one for key, one in value.items() if one is not None} if isinstance(value, dict) else value


DROP_NULLS = BeforeValidator(without_nulls)

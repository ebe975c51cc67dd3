"""Read policy texts strictly, with the line of each part.

What Python's json accepts beyond that (duplicate keys, NaN, any depth, any size) is rejected with file, line and column.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from iampolicy.errors import InputError

LARGEST = 100_000  # bytes; IAM accepts 6,144 characters, S3 20 KB
DEEPEST = 12  # levels; a condition's list of values is the seventh
TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[][{}:,]|[^][{}:,"\s]+')
LONE = re.compile(r"\\u[dD][89a-fA-F]")

Where = tuple[str | int, ...]  # path of keys and indexes: ("Statement", 0, "Action")


@dataclass(frozen=True)
class Source:
    """The name of a text's source, and the line of each of its keys and list items."""

    name: str
    lines: Mapping[Where, int] = field(default_factory=dict, repr=False)


def read_text(path: Path) -> str:
    """Return the file's text. Raises InputError if it is missing, too large or not UTF-8."""
    name = shorten_policy_path(path)
    try:
        with path.open("rb") as file:
            body = file.read(LARGEST + 1)
    except OSError as error:
        raise InputError(f"{name}: {error.strerror}.") from error
    if len(body) > LARGEST:
        raise InputError(f"{name}: larger than {LARGEST:,} bytes; IAM accepts 6,144 characters.")
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        before = body[: error.start].decode()
        raise_input_error(name, before, len(before), f"byte 0x{body[error.start]:02x} is not UTF-8")


def parse(source: str, name: str) -> tuple[Any, Source]:
    """Return the JSON value of a text, and the lines of its parts.

    Raises InputError with name:line:column for text that is not plain JSON, and for a duplicate key.
    """
    if source.startswith("\ufeff"):
        raise_input_error(name, source, 0, "a byte order mark: save the file as UTF-8 without one")
    try:
        value = json.loads(source, parse_constant=lambda word: refuse_word(name, source, word))
    except InputError:
        raise
    except json.JSONDecodeError as error:
        raise_input_error(name, source, error.pos, explain_fault(error, source))
    except RecursionError:
        raise InputError(f"{name}: nested more than {DEEPEST} levels deep. A policy has seven.") from None
    except ValueError as error:
        raise InputError(f"{name}: a number of thousands of digits.") from error
    found = Source(name, locate_lines(source, name))
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        half = LONE.search(source)
        raise_input_error(name, source, half.start() if half else 0, "half of a surrogate pair is not a character")
    return value, found


def locate_lines(source: str, name: str) -> dict[Where, int]:
    """Return the line of every key and list item of a valid JSON text.

    Raises InputError for a key that occurs twice in one object, and for deeper nesting than a policy can have.
    """
    found: dict[Where, int] = {}
    line, done = 1, 0
    for where, at in walk_json(source):
        if len(where) > DEEPEST:
            raise_input_error(name, source, at, f"nested more than {DEEPEST} levels deep; a policy has seven")
        if where in found:
            raise_input_error(name, source, at, f'duplicate key "{where[-1]}" (first at line {found[where]})')
        line, done = line + source.count("\n", done, at), at
        found[where] = line
    return found


def walk_json(source: str) -> Iterator[tuple[Where, int]]:
    """Yield (path, offset) of every key and list item of a valid JSON text, in order; a duplicate key comes twice."""
    path: list[str | int] = []  # holds the current key of every open object and the current index of every open list
    in_list: list[bool] = []
    key_next = False
    for token in TOKEN.finditer(source):
        sign, at = token[0], token.start()
        if sign in "]}":
            path.pop()
            in_list.pop()
        elif sign == ",":
            key_next = not in_list[-1]
            if in_list[-1]:
                path[-1] = int(path[-1]) + 1
        elif key_next:
            path[-1], key_next = json.loads(sign), False
            yield tuple(path), at
        elif sign != ":":
            if in_list and in_list[-1]:
                yield tuple(path), at
            if sign in "{[":
                path.append(0)
                in_list.append(sign == "[")
                key_next = sign == "{"


def explain_fault(error: json.JSONDecodeError, source: str) -> str:
    """Return the JSON parser's message, with the character that was found instead."""
    words = error.msg[0].lower() + error.msg[1:].removesuffix(" delimiter").removesuffix(" at").removesuffix(
        " starting"
    )
    if not words.startswith("expecting"):
        return words.replace("extra data", "text after the end of the policy")
    there = source[error.pos : error.pos + 1]
    wanted = words.replace("expecting", "expected").replace(" enclosed in double quotes", " in double quotes")
    return f"{wanted}, not {repr(there) if there else 'the end of the file'}"


def refuse_word(name: str, source: str, word: str) -> NoReturn:
    raise_input_error(
        name, source, next(t.start() for t in TOKEN.finditer(source) if t[0] == word), f"{word} is not JSON"
    )


def raise_input_error(name: str, source: str, at: int, what: str) -> NoReturn:
    column = at - source.rfind("\n", 0, at)
    raise InputError(f"{name}:{compute_line_number(source, at)}:{column}: {what}")


def compute_line_number(source: str, at: int) -> int:
    return source.count("\n", 0, at) + 1


def shorten_policy_path(path: Path) -> str:
    """Return a policy file's folder and name, as messages show it: operator/trust.json."""
    return f"{path.parent.name}/{path.name}"


def describe_json_type(value: Any) -> str:
    """Return the JSON name of the value's type, with an article."""
    kinds = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return kinds.get(type(value), "a number")

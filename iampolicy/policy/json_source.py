"""Policy files read strictly: what Python's json lets pass (a key twice, NaN, any depth, any size) is refused by file, line, column."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from iampolicy.errors import InputError

LARGEST = 100_000  # bytes; IAM takes 6,144 characters, S3 20 KB
DEEPEST = 12  # levels; a condition's list of values is the seventh
TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[][{}:,]|[^][{}:,"\s]+')
LONE = re.compile(r"\\u[dD][89a-fA-F]")

Where = tuple[str | int, ...]  # ("Statement", 0, "Action")


def text(path: Path) -> str:
    """The file's text. Raises InputError: no file, too large, not UTF-8."""
    name = shown(path)
    try:
        with path.open("rb") as file:
            body = file.read(LARGEST + 1)
    except OSError as error:
        raise InputError(f"{name}: {error.strerror}.") from error
    if len(body) > LARGEST:
        raise InputError(f"{name}: larger than {LARGEST:,} bytes. No policy is: IAM takes 6,144 characters.")
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        before = body[: error.start].decode()
        refuse(name, before, len(before), f"byte 0x{body[error.start]:02x} is not UTF-8")


def parsed(source: str, name: str) -> Any:
    """The JSON value of a text. Raises InputError with name:line:column for what is no plain JSON, and a key that stands twice."""
    if source.startswith("\ufeff"):
        refuse(name, source, 0, "a byte order mark: save the file as UTF-8 without one")
    try:
        value = json.loads(source, parse_constant=lambda word: wrong_word(name, source, word))
    except InputError:
        raise
    except json.JSONDecodeError as error:
        refuse(name, source, error.pos, fault(error, source))
    except RecursionError:
        raise InputError(f"{name}: nested more than {DEEPEST} levels deep. A policy has seven.") from None
    except ValueError as error:
        raise InputError(f"{name}: a number of thousands of digits.") from error
    doubled(source, name)
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        found = LONE.search(source)
        refuse(name, source, found.start() if found else 0, "half of a surrogate pair is no character")
    return value


def doubled(source: str, name: str) -> None:
    """Raise InputError for a key that stands twice in one object, and for nesting that no policy has."""
    first: dict[Where, int] = {}
    for where, at in places(source):
        if len(where) > DEEPEST:
            refuse(name, source, at, f"nested more than {DEEPEST} levels deep; a policy has seven")
        if where in first:
            refuse(name, source, at, f'duplicate key "{where[-1]}" (first at line {line_of(source, first[where])})')
        first[where] = at


def lines(source: str) -> dict[Where, int]:
    """The line of every key and of every item of a list, in a text that `parsed` has accepted."""
    found: dict[Where, int] = {}
    line, done = 1, 0
    for where, at in places(source):
        line, done = line + source.count("\n", done, at), at
        found.setdefault(where, line)
    return found


def places(source: str) -> Iterator[tuple[Where, int]]:
    """(path, offset) of every key and list item of a valid JSON text, in order; a key that stands twice comes twice."""
    path: list[str | int] = []  # for every open object its key, for every open list its index
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


def fault(error: json.JSONDecodeError, source: str) -> str:
    """json's words, with the sign that stood there instead."""
    words = error.msg[0].lower() + error.msg[1:].removesuffix(" delimiter").removesuffix(" at").removesuffix(
        " starting"
    )
    if not words.startswith("expecting"):
        return words.replace("extra data", "text after the end of the policy")
    there = source[error.pos : error.pos + 1]
    wanted = words.replace("expecting", "expected").replace(" enclosed in double quotes", " in double quotes")
    return f"{wanted}, not {repr(there) if there else 'the end of the file'}"


def wrong_word(name: str, source: str, word: str) -> NoReturn:
    refuse(name, source, next(t.start() for t in TOKEN.finditer(source) if t[0] == word), f"{word} is no JSON")


def refuse(name: str, source: str, at: int, what: str) -> NoReturn:
    column = at - source.rfind("\n", 0, at)
    raise InputError(f"{name}:{line_of(source, at)}:{column}: {what}")


def line_of(source: str, at: int) -> int:
    return source.count("\n", 0, at) + 1


def shown(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"


def kind(value: Any) -> str:
    """What JSON calls it, with its article."""
    kinds = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return kinds.get(type(value), "a number")

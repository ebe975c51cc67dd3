"""The answers to what was typed: the nearest command or flag, the usage of a command, the commands of a namespace."""

from __future__ import annotations

import inspect
from itertools import pairwise
from typing import Any

from invoke.exceptions import ParseError

from ops.core.nearest import find_nearest

FIRST_COMMANDS = (
    "demo", "doctor", "runbook.list", "sandbox.up", "data.push", "sm.train", "sm.deploy", "sm.status", "ec2.up", "iam.audit",
)  # fmt: skip


def describe_parse_error(error: ParseError, collection: Any, words: list[str]) -> str:
    """Return Invoke's error as a sentence with the nearest command or flag, or the command's example, in at most three lines."""
    message = str(error).rstrip(".")
    context = error.context
    unknown = find_unknown_word(message, words)
    if unknown.startswith("-") and context is not None and context.name:
        flags = [flag for flag in context.flag_names() if flag.startswith("--")]
        near = find_nearest(unknown.partition("=")[0], flags)
        hint = f"did you mean {near}?" if near else f"see: invoke --help {context.name}"
        return f"{context.name} has no flag {unknown}; {hint}"
    if unknown:
        near = find_nearest(unknown, sorted(collection.task_names))
        return f"There is no command {unknown}; " + (f"did you mean {near}?" if near else "see: invoke --list")
    if context is None or not context.name:
        return f"{message}. See: invoke --help"
    about = " ".join(f"{one.name}: {one.help}" for one in context.missing_positional_args if one.help)
    return (
        f"{message}. {about}".rstrip(" ")
        + f"\n{find_example(collection, context.name)}\nSee: invoke --help {context.name}"
    )


def describe_wrong_value(error: ValueError, words: list[str]) -> str:
    """Return which flag takes a number; the error of int() or float() ends with the word that was given."""
    given = str(error).rpartition(": ")[2].strip("'\"")
    for before, word in pairwise(["", *words]):
        flag, equals, value = word.partition("=")
        if equals and value == given:
            return f"The flag {flag} takes a number, got {given!r}; see: invoke --help {words[0]}"
        if word == given and before.startswith("-"):
            return f"The flag {before} takes a number, got {given!r}; see: invoke --help {words[0]}"
    return f"A number was expected, got {given!r}; see: invoke --help {words[0]}"


def find_unknown_word(message: str, words: list[str]) -> str:
    return next((word for word in words if message == f"No idea what {word!r} is!"), "")


def find_example(collection: Any, command: str) -> str:
    lines = (inspect.getdoc(collection[command]) or "").splitlines()
    return next((line for line in lines if line.startswith("Example: ")), "")


def list_namespace(collection: Any, namespace: str) -> str:
    names = [name for name in collection.task_names if name.startswith(f"{namespace}.")]
    return f"{list_commands(collection, names)}\n\nThe flags of one: invoke --help COMMAND"


def list_first_commands(collection: Any) -> str:
    names = [name for name in FIRST_COMMANDS if name in collection.task_names]
    return (
        f"Commands to begin with:\n{list_commands(collection, names)}\n\nAll: invoke --list. "
        "The flags of one: invoke --help COMMAND"
    )


def list_commands(collection: Any, names: list[str]) -> str:
    """Return one line a command: its name and the first line of its docstring."""
    width = max(map(len, names))
    firsts = {name: (inspect.getdoc(collection[name]) or "").partition("\n")[0] for name in names}
    return "\n".join(f"  {name:<{width}}  {firsts[name]}" for name in sorted(names, key=names.index))

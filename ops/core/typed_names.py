"""The answers to what was typed: the nearest command or flag, the usage of a command, the commands of a namespace."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

from invoke.exceptions import ParseError

from ops.core.nearest import find_nearest

FIRST_COMMANDS = (
    "demo", "doctor", "runbook.list", "sandbox.up", "data.push", "sm.train", "sm.deploy", "sm.status", "ec2.up", "iam.audit",
)  # fmt: skip

AFTER_A_COMMAND = ("--dry", "--help")  # flags of Invoke's own that people write there
UNKNOWN = re.compile(r"No idea what ['\"](.*)['\"] is!", re.DOTALL)
WITHOUT_VALUE = re.compile(r"Flag <Argument: (\S+).*> needed value and was not given one!")
WITHOUT_WORDS = re.compile(r"'(.+)' did not receive required positional arguments: (.+)")


def describe_parse_error(error: ParseError, collection: Any, words: list[str], core_flags: Iterable[str]) -> str:
    """Return Invoke's error as a sentence with the nearest command or flag, or the command's example, in at most three lines."""
    message = str(error).rstrip(".")
    context = error.context
    command = (context.name or "") if context is not None else ""
    if said := UNKNOWN.fullmatch(message):
        flags = [*context.flag_names(), *AFTER_A_COMMAND] if context is not None and command else list(core_flags)
        return describe_unknown_word(said[1], collection, words, command, flags)
    if said := WITHOUT_VALUE.fullmatch(message):
        message = f"The flag --{said[1]} needs a value"
    elif said := WITHOUT_WORDS.fullmatch(message):
        message = f"{said[1]} needs {said[2].replace(chr(39), '').upper()}"
    missing = context.missing_positional_args if context is not None else ()
    about = " ".join(f"{one.name}: {one.help}" for one in missing if one.help)
    example = find_example(collection, command) if command else ""
    return "\n".join(filter(None, (f"{message}. {about}".rstrip(), example, f"See: invoke --help {command}".rstrip())))


def describe_unknown_word(said: str, collection: Any, words: list[str], command: str, flags: list[str]) -> str:
    """Return what to type instead of a word; Invoke says `--x` for `--x=1`, `-p` for `-spot`, and 1 for the `--yes=1` of a switch."""
    whole = next((word for word in words if is_part(said, word)), said)
    see = f"see: invoke --help {command}" if command else "see: invoke --list"
    if whole.startswith("--") and whole.endswith(f"={said}"):
        return f"The flag {whole.partition('=')[0]} takes no value; write it alone, or {see}"
    name, equals, value = whole.lstrip("-\N{EN DASH}\N{EM DASH}").partition("=")
    near = find_nearest_flag(name, flags) if name != whole or equals else ""
    if near or whole[:1] == "-":
        hint = f"did you mean {near}{equals}{value}?" if near else see
        return f"{command or 'invoke'} has no flag {whole}; {hint}"
    return describe_unknown_command(whole, collection, words, command)


def is_part(said: str, word: str) -> bool:
    flag, equals, value = word.partition("=")
    in_cluster = word[:1] == "-" != word[1:2] and said[:1] == "-" and said[1:] in word[1:]
    return said in (word, flag) or (bool(equals) and said == value) or in_cluster


def describe_unknown_command(unknown: str, collection: Any, words: list[str], command: str) -> str:
    following = words[words.index(unknown) + 1 :][:1] if unknown in words else []
    names = sorted(collection.task_names)
    if unknown == "help":
        of = following[0] if following and following[0] in names else "COMMAND"
        return f"There is no command help; see: invoke --list, or invoke --help {of}"
    several = [word for word in re.split("[,;]+", unknown) if word]
    if several and several != [unknown] and set(several) <= set(names):
        return f"There is no command {unknown}; commands are separated by blanks: invoke {' '.join(several)}"
    group, _, verb = normalise(unknown).strip(".").partition(".")
    if group in collection.collections and not verb:
        near = find_nearest(normalise(".".join([group, *following])), names, cutoff=0.7)
        hint = f"did you mean {near}?" if near else f"they are listed by: invoke {group}"
        return f"{group} is a group of commands; {hint}"
    if near := suggest_command(group, verb, names):
        return f"There is no command {unknown}; did you mean {near}?"
    if group in collection.collections:
        return f"There is no command {unknown}; those of {group} are listed by: invoke {group}"
    if command:
        return f"There is no command {unknown}, and {command} takes no such word; see: invoke --help {command}"
    return f"There is no command {unknown or repr(unknown)}; see: invoke --list"


def suggest_command(group: str, verb: str, names: list[str]) -> str:
    """Return the command that is meant by `group.verb`, or by `group` alone: "ec2.train or sm.train" for train; "" for none."""
    if not verb:
        same = [name for name in names if group and name.partition(".")[2] == group]
        return " or ".join(same[:3]) or find_nearest(group, names)
    verbs = [name.partition(".")[2] for name in names if name.startswith(f"{group}.")]
    if not verbs:
        return find_nearest(f"{group}.{verb}", names)
    if near := find_nearest(verb, verbs):
        return f"{group}.{near}"
    return " or ".join(name for name in names if name.partition(".")[2] == verb)


def find_nearest_flag(name: str, flags: Iterable[str]) -> str:
    """Return the long flag that is most like `name`, which is without hyphens before it; "" if none is."""
    near = find_nearest(normalise(name), [flag[2:] for flag in flags if flag.startswith("--")], cutoff=0.7)
    return f"--{near}" if near else ""


def normalise(name: str) -> str:
    """Return the name as commands and flags are written: small letters, hyphens, and a dot after the group."""
    return name.lower().replace("_", "-").replace(":", ".").replace("/", ".")


def describe_wrong_value(error: ValueError, words: list[str]) -> str:
    """Return which flag takes a number; the error of int() or float() ends with the word that was given."""
    given = str(error).rpartition(": ")[2].strip("'\"")
    see = f"see: invoke --help {next((word for word in words if word[:1] != '-'), '')}"
    for before, word in pairwise(["", *words]):
        flag, equals, value = word.partition("=")
        if equals and value == given:
            return f"The flag {flag} takes a number, got {given!r}; {see}"
        if word == given and before.startswith("-"):
            return f"The flag {before} takes a number, got {given!r}; {see}"
        if word[:1] == "-" != word[1:2] and word[2:] == given:  # -instances, which Invoke takes for -i nstances
            return f"The flag {word[:2]} takes a number, got {given!r}; a long flag has two hyphens: -{word}"
    return f"A number was expected, got {given!r}; {see}"


def find_example(collection: Any, command: str) -> str:
    lines = (inspect.getdoc(collection[command]) or "").splitlines()
    return next((line for line in lines if line.startswith("Example: ")), "")


def describe_unknown_help(name: str, collection: Any) -> str:
    """Return the answer to --help of a name that is not a command, or --list of one that is not a group."""
    if name in collection.task_names:
        return f"{name} is a command; see: invoke --help {name}"
    near = find_nearest(normalise(name), [*collection.task_names, *collection.collections])
    return f"There is no command {name}; " + (f"did you mean {near}?" if near else "see: invoke --list")


def list_namespace(collection: Any, namespace: str) -> str:
    names = [name for name in collection.task_names if name.startswith(f"{namespace}.")]
    return f"{list_commands(collection, names)}\n\nThe flags of one: invoke --help COMMAND"


def list_first_commands(collection: Any) -> str:
    names = [name for name in FIRST_COMMANDS if name in collection.task_names]
    return (
        f"Commands to begin with:\n{list_commands(collection, names)}\n\nAll: invoke --list. "
        "The flags of one: invoke --help COMMAND\n"
        "What one would change: invoke --dry COMMAND. On a real account: invoke -f aws.yaml COMMAND"
    )


def list_commands(collection: Any, names: list[str]) -> str:
    """Return one line a command: its name and the first line of its docstring."""
    width = max(map(len, names))
    firsts = {name: (inspect.getdoc(collection[name]) or "").partition("\n")[0] for name in names}
    return "\n".join(f"  {name:<{width}}  {firsts[name]}" for name in sorted(names, key=names.index))

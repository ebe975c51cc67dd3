"""Read a settings file: each fault is one sentence with file, line and column, before anything is called."""

# mypy: allow-untyped-calls
# Invoke brings its own YAML, which has no types.

from __future__ import annotations

import json
import stat
from collections.abc import Collection
from pathlib import Path
from typing import Any

from invoke.util import yaml

from ops.core.errors import OpsError
from ops.core.nearest import find_nearest
from ops.core.settings_errors import shorten, shorten_name

SUFFIXES = (".yaml", ".yml", ".json")
NOTHING = "Nothing was touched."
MOST_BYTES = 1 << 20  # invoke.yaml, with every setting and its comment, has 15 kB
LONGEST_PATH = 255  # letters that are shown
DEEPEST = 20  # the settings have four levels
NAME_TAGS = ("tag:yaml.org,2002:str", "tag:yaml.org,2002:merge")
MOST_VALUES = (
    20_000  # with aliases counted each time that they are named: a few lines can name each other a billion times
)


class SettingsLoader(yaml.SafeLoader):
    """YAML's safe loader, which says where a value does not fit its type, and stops within more than `DEEPEST` levels."""

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        self.depth += 1
        if self.depth > DEEPEST:
            raise yaml.MarkedYAMLError(None, None, f"more than {DEEPEST} levels", self.peek_event().start_mark)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ValueError, LookupError, AttributeError, TypeError):  # what its constructors raise for a wrong text
            problem = f"{shorten(node.value)} does not fit the type {node.tag.rpartition(':')[2]}"
            raise yaml.MarkedYAMLError(None, None, problem, node.start_mark) from None


def require_settings_file(name: str) -> None:
    """Raise OpsError unless `name`, of -f or INVOKE_RUNTIME_CONFIG, is a file with settings."""
    if not name:
        raise OpsError(
            "The name of the settings file is empty. Name one, such as: invoke -f aws.yaml COMMAND; "
            f"or unset INVOKE_RUNTIME_CONFIG. {NOTHING}"
        )
    shown = show_path(name)
    try:
        path = Path(name).expanduser()
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise OpsError(f"There is no settings file {shown}{suggest_file(path)} {NOTHING}") from None
    except RuntimeError:
        raise OpsError(f"There is no home folder for {shown}; write the whole path of the file. {NOTHING}") from None
    except (OSError, ValueError) as error:  # ValueError: a name with a NUL
        reason = error.strerror if isinstance(error, OSError) else error
        raise OpsError(f"Cannot read the settings file {shown}: {reason}. {NOTHING}") from None
    if not stat.S_ISREG(status.st_mode):
        raise OpsError(f"{shown} is not a file; write a settings file such as aws.yaml. {NOTHING}")
    require_suffix(name)
    if status.st_size > MOST_BYTES:
        raise OpsError(
            f"{shown} has {status.st_size / 1e6:.0f} MB; a settings file has at most {MOST_BYTES >> 20} MB. {NOTHING}"
        )


def require_suffix(name: str) -> None:
    """Raise OpsError unless the name is that of a YAML or JSON file."""
    path, shown = Path(name), show_path(name)
    if path.suffix == ".py":
        raise OpsError(
            f"{shown} is a program, and settings are not run; write them as YAML: invoke -f {path.with_suffix('.yaml').name} COMMAND. {NOTHING}"
        )
    if path.suffix not in SUFFIXES:
        raise OpsError(f"The name of the settings file {shown} must end with .yaml, .yml or .json. {NOTHING}")


def show_path(name: str) -> str:
    """Return the path unchanged, so that it can be pasted, unless no file can have it."""
    return name if name.isprintable() and len(name) <= LONGEST_PATH else shorten(name)


def suggest_file(path: Path) -> str:
    """Return the nearest name of a settings file in the same folder as a question, or "." without one."""
    folder = path.parent
    try:
        names = [one.name for one in folder.iterdir() if one.suffix in SUFFIXES]
    except OSError:  # the folder is missing too, or may not be read
        names = []
    near = find_nearest(path.name, names)
    return f"; did you mean {folder / near}?" if near else "."


def read_settings_file(name: str, known: dict[str, Any], closed: Collection[str] = ()) -> dict[str, Any]:
    """Return the settings in a file. `known` are those of invoke.yaml, whose sections must be sections here too.

    `closed` are the sections that no settings file may have, since they are Invoke's own.
    Raises OpsError for a fault, and FileNotFoundError, which Invoke takes as "no file", for one that is not there.
    """
    text = decode_settings(name)
    try:
        return (
            parse_yaml(name, text, known, closed)
            if Path(name).suffix != ".json"
            else parse_json(name, text, known, closed)
        )
    except json.JSONDecodeError as error:
        where = f"{name}, line {error.lineno}, column {error.colno}"
        raise OpsError(f"{where}: {error.msg[:1].lower()}{error.msg[1:]}. {NOTHING}") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise OpsError(f"{locate(name, mark)}: {describe_problem(text, error, mark)}. {NOTHING}") from None
    except yaml.reader.ReaderError as error:
        line, column = text.count("\n", 0, error.position) + 1, error.position - text.rfind("\n", 0, error.position)
        raise OpsError(
            f"{name}, line {line}, column {column}: {chr(error.character)!a} is not a character of a text. {NOTHING}"
        ) from None


def parse_yaml(name: str, text: str, known: dict[str, Any], closed: Collection[str]) -> dict[str, Any]:
    loader = SettingsLoader(text)
    node = loader.get_single_node()
    if node is None:
        return {}
    NodeCheck(name, closed).check("", node, known)
    settings: dict[str, Any] = loader.construct_document(node)
    return settings


def parse_json(name: str, text: str, known: dict[str, Any], closed: Collection[str]) -> dict[str, Any]:
    """Return the settings in a JSON file: as YAML, which gives places, but for 1e-4, which YAML takes for text, and tabs."""
    try:
        settings: Any = json.loads(text)
    except json.JSONDecodeError:
        raise
    except (ValueError, RecursionError):  # a number of 5,000 digits, or 50,000 brackets: as YAML they have a place
        settings = None
    from_yaml = parse_yaml(name, text.replace("\t", " "), known, closed)
    return from_yaml if settings is None else settings


def decode_settings(name: str) -> str:
    try:
        content = Path(name).read_bytes()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise OpsError(f"Cannot read the settings file {name}: {error.strerror}. {NOTHING}") from None
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        column = error.start - content.rfind(b"\n", 0, error.start)
        raise OpsError(
            f"{name}, line {line}, column {column}: not UTF-8 text; save the file as UTF-8. {NOTHING}"
        ) from None


def locate(name: str, mark: Any) -> str:
    return f"{name}, line {mark.line + 1}, column {mark.column + 1}" if mark else name


def describe_problem(text: str, error: Any, mark: Any) -> str:
    if mark and text[mark.index : mark.index + 1] == "\t":
        return "a tab; YAML is indented with spaces"
    return str(error.problem).removeprefix("but ")


class NodeCheck:
    """The check of the keys of one file, which counts what it visits: an alias is visited each time that it is named."""

    def __init__(self, name: str, closed: Collection[str]) -> None:
        self.name, self.closed, self.visited, self.depth = name, closed, 0, 0

    def check(self, path: str, node: Any, known: Any) -> None:
        """Raise OpsError for a key that stands twice, and for a value where invoke.yaml has a section, or the other way round."""
        where = locate(self.name, node.start_mark)
        self.visited += 1
        self.depth += 1
        if self.visited > MOST_VALUES or self.depth > DEEPEST:
            what = f"more than {MOST_VALUES} values" if self.visited > MOST_VALUES else f"more than {DEEPEST} levels"
            raise OpsError(f"{where}: aliases make {what} of this file. {NOTHING}")
        if isinstance(node, yaml.MappingNode):
            if not isinstance(known, dict) and known is not None:
                raise OpsError(f"{where}: {path} is a value, and not a section. {NOTHING}")
            self.check_keys(path, node, known)
        elif isinstance(known, dict):
            what = f"{path} is a section" if path else "a settings file has sections"
            raise OpsError(f"{where}: {what}, {describe_kind(node)}. {NOTHING}")
        elif isinstance(node, yaml.SequenceNode):
            for number, child in enumerate(node.value):
                self.check(f"{path}.{number}", child, None)
        self.depth -= 1

    def check_keys(self, path: str, node: Any, known: Any) -> None:
        lines: dict[str, int] = {}
        for key, value in node.value:
            where = locate(self.name, key.start_mark)
            if not isinstance(key, yaml.ScalarNode):
                raise OpsError(f"{where}: the name of a setting is text, and not a list or a section. {NOTHING}")
            if key.tag not in NAME_TAGS:
                raise OpsError(
                    f"{where}: the name of a setting is text; write it in quotes: {shorten(key.value)}. {NOTHING}"
                )
            word = str(key.value)
            below = shorten_name(f"{path}.{word}" if path else word)
            if not path and word in self.closed:
                raise OpsError(f"{where}: {word} is a section of Invoke, and no setting; remove it. {NOTHING}")
            if word in lines:
                raise OpsError(f"{where}: {below} stands twice, first in line {lines[word]}; keep one. {NOTHING}")
            lines[word] = key.start_mark.line + 1
            self.check(below, value, known.get(word) if isinstance(known, dict) else None)


def describe_kind(node: Any) -> str:
    if node.tag == "tag:yaml.org,2002:null":
        return "and is empty; write its settings below it, indented, or remove the line"
    kind = "a list" if isinstance(node, yaml.SequenceNode) else "a text or a number"
    return f"such as `stack: {{name: demo}}`, and not {kind}"

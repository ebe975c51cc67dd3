"""Read a settings file: each fault is one sentence with file, line and column, before anything is called."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from invoke.util import yaml

from ops.core.errors import OpsError
from ops.core.nearest import find_nearest

SUFFIXES = (".yaml", ".yml", ".json", ".py")
Loader: Any = yaml.SafeLoader  # without types
NOTHING = "Nothing was touched."


def require_settings_file(name: str) -> None:
    """Raise OpsError unless `name`, of -f or INVOKE_RUNTIME_CONFIG, is a file that Invoke reads."""
    if not name:
        raise OpsError(
            f"INVOKE_RUNTIME_CONFIG, or -f, is empty; name a settings file, or run: unset INVOKE_RUNTIME_CONFIG. {NOTHING}"
        )
    path = Path(name).expanduser()
    if not path.exists():
        raise OpsError(f"There is no settings file {name}{suggest_file(path)} {NOTHING}")
    if not path.is_file():
        raise OpsError(f"{name} is not a file; write a settings file such as aws.yaml. {NOTHING}")
    if path.suffix not in SUFFIXES:
        raise OpsError(f"The name of the settings file {name} must end with .yaml, .yml or .json. {NOTHING}")


def suggest_file(path: Path) -> str:
    """Return the nearest name of a settings file in the same folder as a question, or "." without one."""
    folder = path.parent
    names = [one.name for one in folder.iterdir() if one.suffix in SUFFIXES[:3]] if folder.is_dir() else []
    near = find_nearest(path.name, names)
    return f"; did you mean {folder / near}?" if near else "."


def read_settings_file(name: str, known: dict[str, Any]) -> dict[str, Any]:
    """Return the settings in a file. `known` are those of invoke.yaml, whose sections must be sections here too.

    Raises OpsError for a fault, and FileNotFoundError, which Invoke takes as "no file", for one that is not there.
    """
    text = decode_settings(name)
    try:
        loader = Loader(text)
        node = loader.get_single_node()
        if node is None:
            return {}
        check_node(name, "", node, known)
        settings: dict[str, Any] = loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise OpsError(f"{locate(name, mark)}: {describe_problem(text, error, mark)}. {NOTHING}") from None
    except (yaml.YAMLError, ValueError) as error:
        raise OpsError(f"{name}: {str(error).splitlines()[0]}. {NOTHING}") from None
    return settings


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
    return str(error.problem)


def check_node(name: str, path: str, node: Any, known: Any) -> None:
    """Raise OpsError for a key that stands twice, and for a value where invoke.yaml has a section, or the other way round."""
    if not isinstance(node, yaml.MappingNode):
        if isinstance(known, dict):
            what = f"{path} is a section" if path else "a settings file has sections"
            raise OpsError(f"{locate(name, node.start_mark)}: {what}, {describe_kind(node)}. {NOTHING}")
        return
    if not isinstance(known, dict) and known is not None:
        raise OpsError(f"{locate(name, node.start_mark)}: {path} is a value, and not a section. {NOTHING}")
    lines: dict[str, int] = {}
    for key, value in node.value:
        word = str(key.value)
        below = f"{path}.{word}" if path else word
        if word in lines:
            raise OpsError(
                f"{locate(name, key.start_mark)}: {below} stands twice, first in line {lines[word]}; keep one. {NOTHING}"
            )
        lines[word] = key.start_mark.line + 1
        check_node(name, below, value, known.get(word) if isinstance(known, dict) else None)


def describe_kind(node: Any) -> str:
    if node.tag == "tag:yaml.org,2002:null":
        return "and is empty; write its settings below it, indented, or remove the line"
    kind = "a list" if isinstance(node, yaml.SequenceNode) else "a text or a number"
    return f"such as `stack: {{name: demo}}`, and not {kind}"

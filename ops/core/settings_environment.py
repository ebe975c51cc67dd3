"""Read the settings in the environment: each INVOKE_ variable must name a setting, fit it, and not contradict the settings file."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

from ops.core.errors import OpsError
from ops.core.nearest import find_nearest
from ops.core.settings_errors import shorten, shorten_name

PREFIX = "INVOKE_"
INVOKES_OWN = {"INVOKE_DEBUG", "INVOKE_RUNTIME_CONFIG"}
SUDO = "INVOKE_SUDO_"  # Invoke's own section sudo has a password: no value of it is printed
FALSE, TRUE = ("0", "", "false", "no", "off"), ("1", "true", "yes", "on")
NOTHING = "Nothing was touched."

Path = tuple[str, ...]


def read_environment(settings: Any, from_file: Any, file: str) -> dict[str, Any]:
    """Return the settings that INVOKE_ variables give, as nested dicts.

    `settings` are those without the environment, `from_file` those of the file of -f, which Invoke puts above the environment.
    Raises OpsError for a variable that names no setting, does not fit it, or gives another value than the file.
    """
    paths = {PREFIX + "_".join(path).upper(): path for path in list_paths(settings)}
    found: dict[str, Any] = {}
    for variable in sorted(name for name in os.environ if name.startswith(PREFIX) and name not in INVOKES_OWN):
        if variable not in paths:
            raise OpsError(describe_unknown(variable, list(paths)))
        path, text = paths[variable], os.environ[variable]
        value = convert(variable, text, get_value(settings, path))
        if has_value(from_file, path) and get_value(from_file, path) != value:
            raise OpsError(
                f"{variable}={shorten_name(text)} contradicts {file}, which sets {'.'.join(path)} to {get_value(from_file, path)!r}. "
                f"Remove one of them: unset {variable}, or the line of the file. {NOTHING}"
            )
        section = found
        for name in path[:-1]:
            section = section.setdefault(name, {})
        section[path[-1]] = value
    return found


def list_paths(settings: Any, above: Path = ()) -> Iterator[Path]:
    for name, value in settings.items():
        if isinstance(value, dict):
            yield from list_paths(value, (*above, str(name)))
        else:
            yield (*above, str(name))


def get_value(settings: Any, path: Path) -> Any:
    for name in path:
        settings = settings[name]
    return settings


def has_value(settings: Any, path: Path) -> bool:
    try:
        get_value(settings, path)
    except (KeyError, TypeError):
        return False
    return True


def describe_unknown(variable: str, names: list[str]) -> str:
    near = find_nearest(variable.upper(), names, cutoff=0.7)
    hint = f"did you mean {near}?" if near else "see invoke.yaml."
    return f"The environment variable {shorten_name(variable)} names no setting; {hint} {NOTHING}"


def convert(variable: str, text: str, default: Any) -> Any:
    """Return the text as the type of the default. A list is comma-separated words, or JSON for anything else."""
    if isinstance(default, str):
        return text
    if default is None or text == "null":  # the settings refuse null where it is not allowed
        return None if text in ("", "null") else convert_json(text)
    if isinstance(default, bool):
        if text.lower() in FALSE:
            return False
        return take(variable, text, "true or false") if text.lower() not in TRUE else True
    if isinstance(default, list):
        if text.lstrip().startswith("["):
            value = convert_json(text)
            return value if isinstance(value, list) else take(variable, text, "a list, such as a,b or a JSON list")
        words = [word.strip() for word in text.split(",") if word.strip()]
        numbers = bool(default) and isinstance(default[0], int | float)
        return [convert(variable, word, default[0]) for word in words] if numbers else words
    for kind in (type(default), float):  # a setting whose default is 30 may take 0.5; the settings decide
        try:
            return kind(text)
        except ValueError:
            continue
    return take(variable, text, "a whole number" if isinstance(default, int) else "a number")


def convert_json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def take(variable: str, text: str, what: str) -> Any:
    got = "" if variable.startswith(SUDO) else f", got {shorten(text)}"
    raise OpsError(f"The environment variable {variable} takes {what}{got}. See invoke.yaml. {NOTHING}")

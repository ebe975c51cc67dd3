"""Errors in the settings, one sentence each, and the checks that neither pydantic nor Invoke can make."""

from __future__ import annotations

import difflib
import os
from typing import Any, get_args
from zoneinfo import ZoneInfo

OFF = ("false", "no", "off")


def describe_setting_error(error: Any, settings: Any) -> str:
    """Return the error as a sentence: `endpoint: unknown setting max_instance; did you mean max_instances?`"""
    if not error["loc"]:
        return str(error["msg"]).removeprefix("Value error, ")
    *path, last = (str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        names = list_setting_names(path, settings)
        near = difflib.get_close_matches(last, names, n=1, cutoff=0.5)
        hint = f"; did you mean {near[0]}?" if near else f"; known: {', '.join(names)}"
        return f"{'.'.join(path) or 'settings'}: unknown {'setting' if path else 'section'} {last}{hint}"
    message = str(error["msg"]).removeprefix("Value error, ").lower()
    return f"{'.'.join([*path, last])}: {message}, got {error['input']!r}"


def list_setting_names(path: list[str], settings: Any) -> list[str]:
    model = settings
    for name in path:
        # Below a list or a dict, the name is a number or a key of it.
        model = get_args(model)[-1] if get_args(model) else model.model_fields[name].annotation
    return list(model.model_fields)


def check_time_zone(value: str) -> str:
    """Return the name of a time zone unchanged. Raises ValueError for any other text."""
    try:
        ZoneInfo(value)
    except (KeyError, ValueError, OSError):  # KeyError is ZoneInfoNotFoundError; a folder of zones is an OSError
        raise ValueError("must be the name of a time zone, such as Europe/Berlin or UTC") from None
    return value


def check_instance_bounds(endpoint: Any) -> None:
    """Raise ValueError for a minimum above its maximum, in the endpoint or a scheduled action, and for a name used twice."""
    named = {"endpoint": endpoint} | {f"endpoint.schedule {one.name}": one for one in endpoint.schedule}
    for what, one in named.items():
        if one.min_instances > one.max_instances:
            raise ValueError(f"{what}: min_instances {one.min_instances} is above max_instances {one.max_instances}")
    if len(named) <= len(endpoint.schedule):
        raise ValueError("endpoint.schedule: two actions have the same name")


def fix_environment_booleans(sections: dict[str, Any]) -> None:
    """Set to False each setting whose environment variable is false, no or off: Invoke takes any word but 0 as true."""
    for section, body in sections.items():
        for key, value in body.items() if isinstance(body, dict) else ():
            if value is True and os.environ.get(f"INVOKE_{section}_{key}".upper(), "").lower() in OFF:
                body[key] = False

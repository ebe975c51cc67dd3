"""Errors in the settings, one sentence each, and the checks that neither pydantic nor Invoke can make."""

from __future__ import annotations

import os
import re
from typing import Any, get_args
from zoneinfo import ZoneInfo

from ops.core import registries
from ops.core.nearest import find_nearest

OFF = ("false", "no", "off")
EXPONENT = re.compile(r"[+-]?\d{1,20}(\.\d{0,20})?[eE][+-]?\d{1,3}")
LONGEST_SHOWN = 80


def describe_setting_error(error: Any, settings: Any) -> str:
    """Return the error as a sentence: `endpoint: unknown setting max_instance; did you mean max_instances?`"""
    if not error["loc"]:
        return str(error["msg"]).removeprefix("Value error, ")
    *path, last = (shorten_name(str(part)) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        names = list_setting_names(path, settings)
        near = find_nearest(last[:LONGEST_SHOWN], names, cutoff=0.5)
        hint = f"; did you mean {near}?" if near else f"; known: {', '.join(names)}"
        return f"{'.'.join(path) or 'settings'}: unknown {'setting' if path else 'section'} {last}{hint}"
    name = ".".join(last if last != "[key]" else "its name" for last in [*path, last])
    if hint := suggest_other_spelling(error["type"], error["input"]):
        return f"{name}: {hint}"
    if error["type"] == "missing":
        return f"{name}: field required"
    message = str(error["msg"]).removeprefix("Value error, ")
    return f"{name}: {message[:1].lower()}{message[1:]}, got {shorten(error['input'])}"


def suggest_other_spelling(kind: str, value: Any) -> str:
    """Return what to write when YAML took a value for another type; "" for any other error.

    YAML takes 012345670123 for an octal number, so the number is not shown: it is not the one in the file.
    """
    if kind == "string_type" and isinstance(value, int | float) and not isinstance(value, bool):
        return 'is a number, and must be text: put account numbers, and any text that looks like a number, in quotes: "012345670123"'
    if kind == "float_type" and isinstance(value, str) and EXPONENT.fullmatch(value):
        mantissa, _, power = value.lower().partition("e")
        return f"{value} is text in YAML; write {mantissa if '.' in mantissa else mantissa + '.0'}e{power if power[0] in '+-' else '+' + power}"
    return ""


def shorten_name(name: str) -> str:
    """Return a usual name unchanged, so that it can be searched for; any other as shorten does."""
    return name if name.isprintable() and len(name) <= LONGEST_SHOWN else shorten(name)


def shorten(value: Any) -> str:
    """Return the value as Python writes it, without control characters; of a long one the beginning and the length."""
    text = ascii(value) if isinstance(value, str) and not value.isprintable() else repr(value)
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}... ({len(text)} characters)"


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


def check_region(region: str, zones: list[str], image: str) -> None:
    """Raise ValueError, with one sentence, when the zones or the image of training jobs are not of aws.region."""
    disagreeing, corrections = [], []
    if others := [zone for zone in zones if zone[:-1] != region]:
        disagreeing.append(f"net.zones names {', '.join(others)}")
        corrections.append(f"name zones such as {region}a")
    if (of_image := registries.read_image_region(image)) not in ("", region):
        disagreeing.append(f"train.image is of {of_image}")
        corrections.append("write train.image without a registry, as in invoke.yaml")
    elif not of_image and region not in registries.read_accounts():
        disagreeing.append("ops/core/registries.toml has no registry of AWS's training images there")
        corrections.append(f"write the whole name of train.image, ACCOUNT.dkr.ecr.{region}.amazonaws.com/NAME:TAG")
    if disagreeing:
        raise ValueError(
            f"aws.region is {region}, but {' and '.join(disagreeing)}; {' and '.join(corrections)}, or correct aws.region"
        )


def check_concurrency(function: Any) -> None:
    """Raise ValueError for more provisioned than reserved concurrency, which AWS refuses."""
    if function.reserved and function.provisioned > function.reserved:  # 0 stops all calls and provisions nothing
        raise ValueError(
            f"fn.provisioned {function.provisioned} is above fn.reserved {function.reserved}; "
            "set fn.provisioned to that or less, or fn.reserved to more or null"
        )


def check_search(tune: Any) -> None:
    """Raise ValueError for a range of learning rates without width."""
    if tune.lr_min >= tune.lr_max:
        raise ValueError(f"tune.lr_min {tune.lr_min} must be below tune.lr_max {tune.lr_max}")


def fix_environment_booleans(sections: dict[str, Any]) -> None:
    """Set to False each setting whose environment variable is false, no or off: Invoke takes any word but 0 as true."""
    for section, body in sections.items():
        for key, value in body.items() if isinstance(body, dict) else ():
            if value is True and os.environ.get(f"INVOKE_{section}_{key}".upper(), "").lower() in OFF:
                body[key] = False

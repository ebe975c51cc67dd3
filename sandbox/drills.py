"""The faults that `invoke sandbox.fault` knows: their parameters, and the control request that each becomes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ops.core.errors import OpsError
from ops.core.nearest import find_nearest

REQUIRED = None
Value = str | int | float | bool


@dataclass(frozen=True)
class FaultCommand:
    """A fault as people name it. `parameters` maps each name to (type, default); REQUIRED has to be given.

    A parameter with the default "" is left out of the request unless it is given.
    """

    action: str
    effect: str
    parameters: Mapping[str, tuple[type, Value | None]]


ENDPOINT = {"endpoint": (str, "{endpoint}")}
HOST = {"job": (str, REQUIRED), "host": (int, 1)}
FAULTS = {
    "call": FaultCommand("fault", "fail, delay or lose the next calls of an AWS operation", {
        "operation": (str, REQUIRED), "do": (str, "error"), "times": (int, 1), "code": (str, ""), "message": (str, ""),
        "status": (int, ""), "seconds": (float, ""),
    }),
    "clear": FaultCommand("faults/clear", "end all faults of calls and of capacity", {}),
    "clock": FaultCommand("clock", "run the sandbox's clock `speed` times as fast", {"speed": (float, REQUIRED)}),
    "break": FaultCommand("break", "corrupt the live release and end its instances", ENDPOINT),
    "hang": FaultCommand("hang", "instances that start never answer; hang=false ends it", {**ENDPOINT, "hang": (bool, True)}),
    "slow": FaultCommand("slow", "each request takes `seconds` more; 0 ends it", {**ENDPOINT, "seconds": (float, REQUIRED)}),
    "capacity": FaultCommand("capacity", "EC2 has no capacity of TYPE, TYPE/ZONE or spot:TYPE; short=false ends it", {
        "instance_type": (str, REQUIRED), "short": (bool, True),
    }),
    "box": FaultCommand("box", "break SSH, status checks, the network or the disk of a box; a boot repairs it", {
        "instance": (str, REQUIRED), "sshd": (str, ""), "keys": (bool, ""), "checks": (str, ""), "partition": (bool, ""),
        "cut": (bool, ""), "disk_mib": (int, ""),
    }),
    "interrupt-box": FaultCommand("interrupt", "EC2 takes a spot box back after two minutes", {"instance": (str, REQUIRED)}),
    "interrupt-job": FaultCommand("interrupt", "SageMaker interrupts a spot job", {"job": (str, REQUIRED)}),
    "freeze": FaultCommand("freeze", "stop every process of one host of a job: a stuck rank", HOST),
    "kill": FaultCommand("kill", "kill every process of one host of a job", HOST),
    "age": FaultCommand("age", "a role was created `days` ago", {"role": (str, REQUIRED), "days": (float, REQUIRED)}),
    "expire": FaultCommand("expire", "end the role session of an access key", {"key": (str, REQUIRED)}),
    "logins": FaultCommand("logins", "add the profiles keys, mfa-role and sso, whose sessions have no MFA, to the AWS config", {}),
}  # fmt: skip


def list_faults() -> list[tuple[str, str, str]]:
    """Return (name, parameters, effect) of each fault. A parameter with a default is written as name=DEFAULT."""
    return [(name, describe_parameters(one), one.effect) for name, one in FAULTS.items()]


def describe_parameters(fault: FaultCommand) -> str:
    return " ".join(
        f"{name}=..." if default is REQUIRED else f"[{name}{'' if default == '' else f'={format_value(default)}'}]"
        for name, (_, default) in fault.parameters.items()
    )


def format_value(value: Value | None) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def build_request(name: str, given: Iterable[str], endpoint: str) -> tuple[str, dict[str, Any]]:
    """Return (action of the control API, body) of a fault with NAME=VALUE parameters; `endpoint` is the stack's.

    Raises OpsError for an unknown fault or parameter, with the nearest name, and for a missing or unreadable value.
    """
    if name not in FAULTS:
        raise OpsError(f"There is no fault {name!r}.{suggest_name(name, FAULTS)} List them: invoke sandbox.fault list")
    fault = FAULTS[name]
    body: dict[str, Any] = {
        key: default.format(endpoint=endpoint) if isinstance(default, str) else default
        for key, (_, default) in fault.parameters.items()
        if default not in (REQUIRED, "")
    }
    for word in given:
        key, equals, text = word.partition("=")
        if key not in fault.parameters:
            known = describe_parameters(fault) or "none"
            raise OpsError(
                f"Fault {name} has no parameter {key!r}.{suggest_name(key, fault.parameters)} Parameters: {known}"
            )
        if not equals:
            raise OpsError(f"{key} needs a value: --set {key}=VALUE")
        body[key] = parse_value(key, text, fault.parameters[key][0])
    if missing := [key for key, (_, default) in fault.parameters.items() if default is REQUIRED and key not in body]:
        raise OpsError(f"Fault {name} needs {', '.join(missing)}: invoke sandbox.fault {name} --set {missing[0]}=VALUE")
    return fault.action, body


def suggest_name(name: str, known: Iterable[str]) -> str:
    near = find_nearest(name, list(known))
    return f" Did you mean {near}?" if near else ""


def parse_value(key: str, text: str, kind: type) -> Value:
    """Return the value of a parameter. Raises OpsError for a text that is not of its type."""
    if kind is bool:
        if text.lower() not in ("true", "false"):
            raise OpsError(f"{key} is true or false, not {text!r}.")
        return text.lower() == "true"
    try:
        value: Value = kind(text)
    except ValueError as error:
        raise OpsError(f"{key} is a number, not {text!r}.") from error
    return value

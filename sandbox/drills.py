"""The faults that `invoke sandbox.fault` knows: their parameters, and the control request that each becomes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ops.core.errors import OpsError
from ops.core.nearest import find_nearest

REQUIRED = None
Value = str | int | float | bool
LONGEST_S = 3600.0


@dataclass(frozen=True)
class Parameter:
    """A parameter of a fault: its type, its default, and the values that it takes: a list, or a range with both ends.

    A parameter with the default "" is left out of the request unless it is given.
    """

    kind: type
    default: Value | None = REQUIRED
    values: tuple[str, ...] = ()
    low: float = 0.0
    high: float = 0.0

    def describe_values(self) -> str:
        """Return the values as people write them: true|false, up|down|mute, 1..1000, or "..." for any text."""
        if self.kind is bool:
            return "true|false"
        if self.kind is str:
            return "|".join(self.values) or "..."
        return f"{self.low:g}..{self.high:.9g}"

    def find_error(self, name: str, value: Any) -> str:
        """Return a sentence on a value of the wrong type or out of range, or ""."""
        if self.kind is bool:
            return "" if isinstance(value, bool) else f"{name} is true or false, not {value!r}."
        if self.kind is str:
            if not isinstance(value, str) or not value:
                return f"{name} is a text that is not empty, not {value!r}."
            return (
                ""
                if not self.values or value in self.values
                else f"{name} is {' or '.join(self.values)}, not {value!r}."
            )
        number = "a whole number" if self.kind is int else "a number"
        kinds = (int,) if self.kind is int else (int, float)
        if isinstance(value, bool) or not isinstance(value, kinds) or not self.low <= value <= self.high:
            return f"{name} is {number} from {self.low:g} to {self.high:.9g}, not {value!r}."
        return ""


@dataclass(frozen=True)
class FaultCommand:
    """A fault as people name it: the action of the control API, and its effect. `ends` says how it ends; "" when it is over at once."""

    action: str
    effect: str
    ends: str
    parameters: Mapping[str, Parameter]


ENDPOINT = {"endpoint": Parameter(str, "{endpoint}")}
HOST = {"job": Parameter(str), "host": Parameter(int, 1, low=1, high=100)}
BY_CLEAR = "invoke sandbox.fault clear"
BY_STOP = "invoke sm.stop JOB"
FAULTS = {
    "call": FaultCommand("fault", "fail, delay or lose the next calls of an AWS operation", BY_CLEAR, {
        "operation": Parameter(str), "do": Parameter(str, "error", ("error", "delay", "lost")),
        "times": Parameter(int, 1, low=1, high=1_000_000), "code": Parameter(str, ""), "message": Parameter(str, ""),
        "status": Parameter(int, "", low=400, high=599), "seconds": Parameter(float, "", low=0, high=LONGEST_S),
    }),
    "clear": FaultCommand("faults/clear", "end all faults of calls and of capacity, and the lag", "", {}),
    "lag": FaultCommand(
        "lag", "EC2 and IAM do not know what is new for `seconds`, or for `calls` calls; 0 ends it",
        "invoke sandbox.fault lag --set seconds=0",
        {"seconds": Parameter(float, 0.0, low=0, high=LONGEST_S), "calls": Parameter(int, 0, low=0, high=1000)},
    ),
    "clock": FaultCommand(
        "clock", "run the sandbox's clock `speed` times as fast", "invoke sandbox.fault clock --set speed=1",
        {"speed": Parameter(float, low=0.01, high=10_000)},
    ),
    "break": FaultCommand("break", "corrupt the live release and end its instances", "invoke sm.rollback", ENDPOINT),
    "hang": FaultCommand(
        "hang", "instances that start never answer; hang=false ends it", "invoke sandbox.fault hang --set hang=false",
        {**ENDPOINT, "hang": Parameter(bool, True)},
    ),
    "slow": FaultCommand(
        "slow", "each request takes `seconds` more; 0 ends it", "invoke sandbox.fault slow --set seconds=0",
        {**ENDPOINT, "seconds": Parameter(float, low=0, high=LONGEST_S)},
    ),
    "capacity": FaultCommand(
        "capacity", "EC2 has no capacity of TYPE, TYPE/ZONE or spot:TYPE; short=false ends it", BY_CLEAR,
        {"instance_type": Parameter(str), "short": Parameter(bool, True)},
    ),
    "box": FaultCommand(
        "box", "break SSH, status checks, the network or the disk of a box; a boot repairs it", "invoke ec2.stop ec2.start", {
        "instance": Parameter(str), "sshd": Parameter(str, "", ("up", "down", "mute")), "keys": Parameter(bool, ""),
        "checks": Parameter(str, "", ("ok", "impaired")), "partition": Parameter(bool, ""), "cut": Parameter(bool, ""),
        "disk_mib": Parameter(int, "", low=1, high=64 << 20),
    }),
    "interrupt-box": FaultCommand(
        "interrupt", "EC2 takes a spot box back after two minutes", BY_CLEAR, {"instance": Parameter(str)}
    ),
    "interrupt-job": FaultCommand("interrupt", "SageMaker interrupts a spot job", "", {"job": Parameter(str)}),
    "freeze": FaultCommand("freeze", "stop every process of one host of a job: a stuck rank", BY_STOP, HOST),
    "kill": FaultCommand("kill", "kill every process of one host of a job", "", HOST),
    "age": FaultCommand(
        "age", "a role was created `days` ago", "",
        {"role": Parameter(str), "days": Parameter(float, low=0, high=36_500)},
    ),
    "expire": FaultCommand("expire", "end the role session of an access key", "", {"key": Parameter(str)}),
    "logins": FaultCommand(
        "logins", "add the profiles keys, mfa-role and sso, whose sessions have no MFA, to the AWS config", "", {}
    ),
}  # fmt: skip


def list_faults() -> list[tuple[str, str, str]]:
    """Return (name, parameters, effect) of each fault. A parameter with a default is written as name=DEFAULT."""
    return [(name, describe_parameters(one), one.effect) for name, one in FAULTS.items()]


def describe_parameters(fault: FaultCommand) -> str:
    """Return NAME=VALUES of each parameter, in brackets if it may be left out; its default stands behind a comma."""
    return " ".join(describe_parameter(name, one) for name, one in fault.parameters.items())


def describe_parameter(name: str, one: Parameter) -> str:
    text = f"{name}={one.describe_values()}"
    if one.default is REQUIRED:
        return text
    return f"[{text}]" if one.default == "" else f"[{text}, {format_value(one.default)}]"


def format_value(value: Value | None) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def describe_injected(name: str, reply: dict[str, Any]) -> str:
    """Return the sentences that follow an injected fault: what the sandbox answered, and how the fault ends."""
    if name == "clear":
        ends = "The others end as the sandbox says when they are set, or with: invoke sandbox.down"
        return f"Faults of calls and of capacity have ended: {format_reply(reply)}. {ends}"
    ends = FAULTS[name].ends
    if name == "slow" and reply.get("lag_s") == 0:
        return f"Fault {name} has ended: {format_reply(reply)}."
    return f"Fault {name} is set: {format_reply(reply)}. {f'To end it: {ends}' if ends else 'It is over at once; nothing has to be ended.'}"


def format_reply(reply: dict[str, Any]) -> str:
    """Return a reply as `name value, name value`; a list by its members, and an empty one as none."""
    return ", ".join(
        f"{name} {(', '.join(map(str, value)) or 'none') if isinstance(value, list) else format_value(value)}"
        for name, value in reply.items()
    )


def build_request(name: str, given: Iterable[str], endpoint: str) -> tuple[str, dict[str, Any]]:
    """Return (action of the control API, body) of a fault with NAME=VALUE parameters; `endpoint` is the stack's.

    Raises OpsError for an unknown fault or parameter, with the nearest name, and for a missing, unreadable or excessive value.
    """
    if name not in FAULTS:
        raise OpsError(f"There is no fault {name!r}.{suggest_name(name, FAULTS)} List them: invoke sandbox.fault list")
    fault = FAULTS[name]
    body: dict[str, Any] = {
        key: one.default.format(endpoint=endpoint) if isinstance(one.default, str) else one.default
        for key, one in fault.parameters.items()
        if one.default not in (REQUIRED, "")
    }
    for word in given:
        key, equals, text = word.partition("=")
        if key not in fault.parameters:
            known = describe_parameters(fault) or "none"
            raise OpsError(
                f"Fault {name} has no parameter {key!r}.{suggest_name(key, fault.parameters)} Parameters: {known}"
            )
        if not equals or not text:
            raise OpsError(f"{key} needs a value: --set {key}=VALUE")
        body[key] = parse_value(text, fault.parameters[key].kind)
        if wrong := fault.parameters[key].find_error(key, body[key]):
            raise OpsError(wrong)
    missing = [key for key, one in fault.parameters.items() if one.default is REQUIRED and key not in body]
    if missing:
        raise OpsError(f"Fault {name} needs {', '.join(missing)}: invoke sandbox.fault {name} --set {missing[0]}=VALUE")
    return fault.action, body


def suggest_name(name: str, known: Iterable[str]) -> str:
    near = find_nearest(name, list(known))
    return f" Did you mean {near}?" if near else ""


def parse_value(text: str, kind: type) -> Value:
    """Return the value that the text stands for, or the text itself when it is not of this type."""
    if kind is bool:
        return {"true": True, "false": False}.get(text.lower(), text)
    try:
        value: Value = kind(text)
    except ValueError:
        return text
    return value


def find_body_error(action: str, body: Mapping[str, Any]) -> str:
    """Return a sentence on what is wrong with the parameters of a control request, or ""; other actions than faults have none here."""
    takers = [fault.parameters for fault in FAULTS.values() if fault.action == action]
    known = {key: one for parameters in takers for key, one in parameters.items()}
    if not takers:
        return ""
    for key, value in body.items():
        if key not in known:
            return f"{action} has no parameter {key!r}.{suggest_name(key, known)}"
        if wrong := known[key].find_error(key, value):
            return wrong
    lacking = [[k for k, one in p.items() if one.default in (REQUIRED, "{endpoint}") and k not in body] for p in takers]
    return "" if [] in lacking else f"{action} needs {' or '.join(keys[0] for keys in lacking)}."

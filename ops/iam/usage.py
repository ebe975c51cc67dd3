"""Find unneeded actions: simulate the removal of each action of a role, and decide the recorded requests again."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from iampolicy import actions
from iampolicy.policy.document import Policy, Statement, as_list, is_about_action
from iampolicy.policy.evaluate import Caller, Request, Rights, decide_request
from iampolicy.validation import first_fault
from ops.core.errors import OpsError
from ops.core.output import format_table, say
from ops.core.paths import ROOT
from ops.core.settings import Settings
from ops.iam import expectations, roles


@dataclass(frozen=True)
class RecordedRequest:
    """A request of a run. `step` is the command that made it, `line` is its first line in the record, from 0."""

    role: str
    action: str
    resource: str
    context: dict[str, Any]
    step: str
    allowed: bool
    line: int = 0


@dataclass(frozen=True)
class Use:
    """One action of one statement, and what needs it.

    `requests` counts the different requests that would be denied without it, with step, resource and line in the record of the
    first one; `expected` counts the calls of expect.toml.
    """

    role: str
    policy: str
    statement: str
    action: str
    requests: int = 0
    step: str = ""
    resource: str = ""
    expected: int = 0
    line: int = 0

    @property
    def why(self) -> str:
        return "a run" if self.requests else "expect.toml" if self.expected else "nothing"

    @property
    def data(self) -> dict[str, Any]:
        return asdict(self) | {"why": self.why}


def check_texts(value: Any) -> Any:
    if not all(isinstance(one, str) for one in as_list(value)):
        raise ValueError("must be a string")
    return value


class Line(TypedDict):
    """A line of the record; the value of a condition key is a string or a list of strings."""

    principal: str
    action: str
    resource: str
    context: dict[str, Annotated[Any, AfterValidator(check_texts)]]
    effect: str
    step: str


LINE = TypeAdapter(Line)


def read_request_record(path: Path) -> list[RecordedRequest]:
    """Return the requests of roles that the local AWS recorded, in order, each once. Raises OpsError for a missing or malformed record."""
    seen: dict[str, RecordedRequest] = {}
    for number, line in enumerate(read_whole_lines(path)):
        entry = parse_record_line(line, f"{path}:{number + 1}")
        if ":role/" in entry["principal"]:
            role = entry["principal"].rsplit("/", 1)[-1]
            key = json.dumps(
                [role, entry["action"], entry["resource"], entry["context"], entry["effect"]], sort_keys=True
            )
            allowed = entry["effect"] == "allowed"
            seen.setdefault(
                key,
                RecordedRequest(
                    role, entry["action"], entry["resource"], entry["context"], entry["step"], allowed, number
                ),
            )
    return list(seen.values())


def read_whole_lines(path: Path) -> list[str]:
    """Return the complete lines: the last one may be half written by a local AWS that still runs or was killed."""
    if not path.exists():
        raise OpsError(
            f"There is no request record at {path}. The local AWS writes one while it runs: invoke sandbox.up demo. On AWS, use CloudTrail."
        )
    try:
        *whole, last = path.read_text().split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise OpsError(f"{path} is not a request record of the local AWS: {error}") from error
    try:
        return [*whole, last] if last and json.loads(last) else whole
    except ValueError:
        say(f"{path}:{len(whole) + 1}: the last line is incomplete; it is skipped")
        return whole


def parse_record_line(line: str, place: str) -> Line:
    """Return the request of a line of the record. Raises OpsError for any other line."""
    try:
        return LINE.validate_python(json.loads(line), strict=True)
    except (ValueError, RecursionError) as error:  # pydantic's is a ValueError
        fault = first_fault(error) if isinstance(error, ValidationError) else error
        raise OpsError(f"{place} is not a request that the local AWS recorded: {fault}. Remove that line.") from None


def compute_uses(
    role: str, arn: str, rights: Rights, asked: Iterable[RecordedRequest], expected: Iterable[Request]
) -> Iterator[Use]:
    """Yield every action of the role's policies, with what needs it."""
    caller = Caller(arn)
    requests = [(Request(caller, a.action, a.resource, a.context), a) for a in asked if a.role == role and a.allowed]
    requests = [(request, a) for request, a in requests if decide_request(request, rights).allowed]
    wanted = [request for request in expected if decide_request(request, rights).allowed]
    for policy in rights.identity:
        for one in policy.statements:
            for action in one.actions if one.allow and "action" not in one.negated else ():
                less = replace(rights, identity=drop_action(rights.identity, policy, one, action))
                touched = replace(one, actions=(action,))
                lost = [
                    a
                    for request, a in requests
                    if is_about_action(touched, request.action) and not decide_request(request, less).allowed
                ]
                missed = sum(is_about_action(touched, r.action) and not decide_request(r, less).allowed for r in wanted)
                first = lost[0] if lost else None
                yield Use(
                    role, policy.name.rsplit("/", 1)[-1], one.name, restore_action_case(action), len(lost),
                    first.step if first else "", first.resource if first else "", missed, first.line if first else 0,
                )  # fmt: skip


def restore_action_case(action: str) -> str:
    """Return the action in AWS's spelling; policies are parsed to lower case. A pattern is returned unchanged."""
    found = actions.list_matching_actions(action) if not set("*?") & set(action) else []
    return found[0] if found else action


def drop_action(policies: tuple[Policy, ...], policy: Policy, one: Statement, action: str) -> tuple[Policy, ...]:
    """Return the policies with one action of one statement removed."""
    less = replace(one, actions=tuple(a for a in one.actions if a != action))
    statements = [s if s is not one else less for s in policy.statements]
    left = tuple(s for s in statements if s.actions or "action" in s.negated)
    return tuple(Policy(p.name, left) if p is policy else p for p in policies)


def read_stack_requests(settings: Settings, file: str) -> list[RecordedRequest]:
    """Return the requests of this stack's roles, from `file` or from requests.jsonl one folder above that of the config file."""
    beside = ROOT / settings.aws.config_file
    path = Path(file) if file else beside.parent.parent / "requests.jsonl"
    return [one for one in read_request_record(path) if one.role.startswith(f"{settings.prefix}-")]


def list_uses(settings: Settings, role: str = "", file: str = "") -> list[Use]:
    """Return every action of the role's policies, or of all roles', with what needs it."""
    run = read_stack_requests(settings, file)
    wanted = roles.read_roles(settings, only=role)
    have, found = roles.build_applied_snapshot(wanted, settings), []
    for want in wanted:
        principal = have.roles[settings.build_role_name(want.role)]
        calls = [
            expectations.build_request(one, principal)
            for one in expectations.read_expectations(want.role, settings)
            if one.kind == "allowed"
        ]
        found += list(compute_uses(principal.name, principal.arn, have.rights(principal), run, calls))
    return found


def format_record(found: list[RecordedRequest], settings: Settings) -> str:
    counted = Counter(
        (one.role.removeprefix(f"{settings.prefix}-"), one.step, one.action, one.allowed) for one in found
    )
    rows = [(r, s, a, "" if ok else "denied", n) for (r, s, a, ok), n in sorted(counted.items())]
    return format_table(("role", "step", "action", "", "requests"), rows) if rows else "The record has no such request."


def format_uses(found: list[Use], all: bool) -> str:
    """Return a line for each role, then the actions that nothing or only expect.toml needs; with `all` every action."""
    counts = [
        (r, *(sum(u.role == r and u.why == why for u in found) for why in ("a run", "expect.toml", "nothing")))
        for r in dict.fromkeys(use.role for use in found)
    ]
    rows = [
        (u.role, u.statement, u.action, u.why, u.step, u.resource.rsplit(":", 1)[-1], u.requests or u.expected)
        for u in found
        if all or u.why != "a run"
    ]
    parts = [format_table(("role", "a run needs", "expect.toml only", "nothing"), counts)]
    if rows:
        parts.append(format_table(("role", "statement", "action", "needed by", "step", "for", "times"), rows))
    return "\n\n".join(parts)

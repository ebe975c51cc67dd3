"""The expectations of a role (expect.toml): which calls are allowed and denied, and who may assume it; and whether they hold."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, TypeAdapter, ValidationError

from iampolicy import actions
from iampolicy.account.snapshot import Principal, Snapshot
from iampolicy.errors import InputError
from iampolicy.lint import arns
from iampolicy.policy.conditions import Context
from iampolicy.policy.document import CURRENT, as_list, parse_policy
from iampolicy.policy.evaluate import Caller, Decision, Request, Rights, decide_request
from ops.core.settings import ROLES, Settings
from ops.iam import roles
from ops.iam.roles import Wanted

EVERYTHING = parse_policy(
    "everything", {"Version": CURRENT, "Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}}
)
NAME = re.compile(r"\{(\w+)\}")
SERVICE = re.compile(r"[a-z0-9.-]+\.amazonaws\.com")
PROVIDER = re.compile(r"arn:aws:iam::\d{12}:oidc-provider/.+")
IDENTITY = re.compile(r"arn:aws:iam::\d{12}:((user|role)/.+|root)")


def check_context(value: dict[str, Any]) -> dict[str, Any]:
    if not all(isinstance(text, str) for one in value.values() for text in as_list(one)):
        raise ValueError("values must be strings")
    return value


class Entry(BaseModel):
    """An entry of a list of expect.toml, as it is written."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    context: Annotated[dict[str, Any], AfterValidator(check_context)] = {}
    why: str = ""


class CallEntry(Entry):
    action: str | list[str]
    resource: str


class DeniedEntry(CallEntry):
    capped: bool = False


class AssumeEntry(Entry):
    by: str


LISTS: dict[str, type[Entry]] = {
    "allowed": CallEntry,
    "denied": DeniedEntry,
    "may_assume": AssumeEntry,
    "may_not_assume": AssumeEntry,
}
NAMES = TypeAdapter(dict[str, str])


@dataclass(frozen=True)
class Expectation:
    """An entry of expect.toml: it is the `number`-th of the list `kind`. `by` is the principal that would assume the role.

    `capped` means that neither the permissions nor the permissions boundary by itself may allow the call.
    """

    kind: str
    number: int
    action: str = ""
    resource: str = ""
    by: str = ""
    context: Context = field(default_factory=dict)
    capped: bool = False
    why: str = ""

    @property
    def wants_yes(self) -> bool:
        return self.kind in ("allowed", "may_assume")

    @property
    def is_call(self) -> bool:
        return self.kind in ("allowed", "denied")

    @property
    def label(self) -> str:
        """Return the entry in words: denied 3, s3:DeleteObject on arn:... (a release can be rolled back to)"""
        about = f"{self.action} on {self.resource}" if self.is_call else f"assumed by {self.by}"
        return f"{self.kind} {self.number}, {about}{f' ({self.why})' if self.why else ''}"


@dataclass(frozen=True)
class Failure:
    """An expectation that does not hold, and what was found instead."""

    role: str
    expected: Expectation
    found: str

    @property
    def data(self) -> dict[str, Any]:
        one = self.expected
        about = {"action": one.action, "resource": one.resource} if one.is_call else {"by": one.by}
        place = {"role": self.role, "list": one.kind, "entry": one.number}
        return place | about | {"context": dict(one.context), "why": one.why, "found": self.found}


def read_expectations(role: str, settings: Settings) -> list[Expectation]:
    """Return a role's expectations. Raises InputError where there are none, or one is invalid."""
    path = roles.FOLDER / role / "expect.toml"
    if not path.exists():
        raise InputError(
            f"{role}/expect.toml is missing: write what the role must and must not do; see {ROLES}/README.md"
        )
    name = f"{role}/expect.toml"
    return parse_expectations(roles.expand_text(path.read_text(), name, settings), name)


def find_violations(want: Wanted, settings: Settings) -> list[Failure]:
    """Return the calls and assuming principals that the folder of a role allows although its expect.toml denies them."""
    have = roles.build_applied_snapshot([want], settings)
    found = find_failures(read_expectations(want.role, settings), have.roles[settings.build_role_name(want.role)], have)
    return [one for one in found if not one.expected.wants_yes]


def parse_expectations(text: str, name: str) -> list[Expectation]:
    """Return the entries of an expect.toml. Raises InputError for an impossible entry, and for a file without entries."""
    try:
        lists = tomllib.loads(text)
        lists = substitute_names(lists, read_names(lists.pop("names", {}), name))
    except (tomllib.TOMLDecodeError, KeyError) as error:
        raise InputError(f"{name}: {error}") from error
    if unknown := lists.keys() - LISTS.keys():
        raise InputError(f"{name}: there is no list {min(unknown)!r}; there are {', '.join(LISTS)}.")
    found: list[Expectation] = []
    for kind, entries in lists.items():
        for number, entry in enumerate(entries if isinstance(entries, list) else [entries], 1):
            found += read_entry(kind, number, entry, name)
    if not found:
        raise InputError(
            f"{name} has no entries: write what the role must and must not do; lists are {', '.join(LISTS)}."
        )
    return found


def read_entry(kind: str, number: int, entry: Any, file: str) -> list[Expectation]:
    place = f"{file}, {kind} {number}"
    try:
        found = list(expand_entry(kind, number, LISTS[kind].model_validate(entry)))
    except ValidationError as error:
        raise InputError(f"{place}: {explain_entry(LISTS[kind], error)}") from None
    if not found:
        raise InputError(f"{place}: action is an empty list")
    for one in found:
        if fault := validate_semantics(one):
            raise InputError(f"{place}: {fault}")
    return found


def read_names(names: Any, file: str) -> dict[str, str]:
    try:
        return NAMES.validate_python(names, strict=True)
    except ValidationError:
        raise InputError(
            f"{file}: names must be a table of strings; {{NAME}} in an entry is replaced by its string."
        ) from None


def expand_entry(kind: str, number: int, entry: Entry) -> Iterator[Expectation]:
    """Yield one expectation for each call: an entry may name several actions on one resource."""
    fields = entry.model_dump()
    context = {key.lower(): value for key, value in entry.context.items()}
    for action in as_list(fields.get("action", "")):
        yield Expectation(kind, number, **(fields | {"action": action, "context": context}))


def substitute_names(value: Any, names: dict[str, str]) -> Any:
    """Return the value with each {name} of the table `names` expanded. Raises KeyError that names an unknown one."""

    def look_up(found: re.Match[str]) -> str:
        if found[1] not in names:
            raise KeyError(f"there is no {found[0]} in names")
        return names[found[1]]

    if isinstance(value, dict):
        return {substitute_names(key, names): substitute_names(one, names) for key, one in value.items()}
    if isinstance(value, list):
        return [substitute_names(one, names) for one in value]
    return NAME.sub(look_up, value) if isinstance(value, str) else value


def explain_entry(model: type[Entry], error: ValidationError) -> str:
    """Return what is wrong with an entry's form."""
    errors = error.errors(include_url=False)
    names = [(one["type"], str(one["loc"][0]) if one["loc"] else "") for one in errors]
    needed = sorted(name for name, about in model.model_fields.items() if about.is_required())
    if ("model_type", "") in names:
        return "an entry must be a table in braces"
    if missing := [name for kind, name in names if kind == "missing"]:
        return f"it lacks {min(missing)!r}"
    if unknown := [name for kind, name in names if kind == "extra_forbidden"]:
        return f"unknown field {min(unknown)!r}; known: {', '.join(sorted(model.model_fields))}"
    if any(name in (*needed, "why") for _, name in names):
        return f"{', '.join(needed)} and why must be strings; action may be a list of strings"
    if any(name == "capped" for _, name in names):
        return "capped must be true or false"
    return 'context must be a table of strings or lists of strings: {"s3:prefix" = "shards/"}'


def validate_semantics(one: Expectation) -> str:
    """Return why no request to AWS can be like this entry, or ""."""
    if not one.is_call:
        known = any(form.fullmatch(one.by) for form in (SERVICE, PROVIDER, IDENTITY))
        return (
            "" if known else f"{one.by!r} is neither a service nor the ARN of an OIDC provider, a user, a role or root"
        )
    if not actions.is_known_action(one.action):
        near = actions.find_nearest_action(one.action)
        return f"AWS has no action {one.action!r}." + (f" Did you mean {near}?" if near else "")
    if not can_act_on(one.action, one.resource):
        return f"{one.action} does not act on {one.resource!r}, but on {' or '.join(actions.list_resource_arns(one.action)) or '*'}"
    for key in one.context:
        if not actions.can_carry_key(one.action, key):
            return f"no request for {one.action} has the condition key {key!r}"
    return ""


def can_act_on(action: str, resource: str) -> bool:
    """Return whether a request for the action can name this resource; one that names none has `*`."""
    kinds = (actions.find_details(action) or {}).get("resourceTypes", [])
    if resource == "*":
        return not kinds or (len(kinds) == 1 and not kinds[0]["required"])
    return arns.can_reach(action, resource)


def find_failures(expected: Sequence[Expectation], role: Principal, have: Snapshot) -> Iterator[Failure]:
    """Yield the expectations that do not hold for the role as the snapshot has it."""
    for one in expected:
        found = decide_expectation(one, role, have)
        if found.allowed != one.wants_yes:
            yield Failure(role.name, one, describe_decision(found))
        elif one.capped and (found := decide_by_boundary(one, role, have)).allowed:
            yield Failure(role.name, one, "denied by its permissions, but boundary.json allows it (capped)")


def decide_expectation(one: Expectation, role: Principal, have: Snapshot) -> Decision:
    """Decide an expectation; an allowed call needs permissions and boundary.

    A denied call must be denied by the permissions alone, so that a fault in them is found even while the boundary denies the call.
    """
    rights = have.rights(role)
    if one.kind == "allowed":
        return decide_request(build_request(one, role), rights)
    if one.kind == "denied":
        return decide_request(build_request(one, role), Rights(rights.identity))
    caller, account = parse_caller(one.by), role.arn.split(":")[4]
    action = "sts:AssumeRoleWithWebIdentity" if caller.federated else "sts:AssumeRole"
    request = Request(caller, action, role.arn, one.context)
    return decide_request(request, Rights((EVERYTHING,)), resource=role.trust_policy, owner=account, required=True)


def decide_by_boundary(one: Expectation, role: Principal, have: Snapshot) -> Decision:
    """Decide a call by the boundary alone."""
    return decide_request(build_request(one, role), Rights((EVERYTHING,), have.rights(role).boundary))


def build_request(one: Expectation, role: Principal) -> Request:
    return Request(role.caller, one.action, one.resource, one.context)


def parse_caller(by: str) -> Caller:
    """Return the caller that would assume a role; one with an ARN is assumed to have policies that allow it."""
    if SERVICE.fullmatch(by):
        return Caller(service=by)
    return Caller(federated=by) if PROVIDER.fullmatch(by) else Caller(by)


def describe_decision(found: Decision) -> str:
    named = [d for d in found.deciding if d.policy != EVERYTHING.name]
    by = ", ".join(f"{d.statement.name} of {d.policy.rsplit('/', 1)[-1]}" for d in named)
    if found.allowed:
        return f"allowed by {by}"
    if found.effect == "explicitDeny":
        return f"denied by {by}"
    reasons = {
        "boundary": "its permissions boundary does not allow it",
        "resource": "its trust policy does not allow the caller",
    }
    lacking = f"; the call has no {', '.join(sorted(found.missing))}" if found.missing else ""
    return reasons.get(found.layer, "no statement allows it") + lacking

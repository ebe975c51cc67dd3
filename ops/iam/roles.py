"""The roles of iam_policies/ as data: each is a folder with trust.json and permissions*.json, whose placeholders are expanded."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

from iampolicy.account.snapshot import Managed, Principal, Snapshot
from iampolicy.errors import InputError
from iampolicy.policy.document import Policy, as_list, as_policy, parse_policy
from iampolicy.policy.json_source import describe_json_type, parse, read_text, shorten_policy_path
from ops.core.nearest import find_nearest
from ops.core.paths import ROOT
from ops.core.settings import ROLES, Settings

FOLDER = ROOT / ROLES
POLICY_CHARACTERS = 6144  # a managed policy's quota; white space does not count
TRUST_CHARACTERS = 2048
FILES = re.compile(r"(trust|boundary|permissions(-[a-z0-9-]+)?)\.json")
MFA = "aws:MultiFactorAuthPresent"
SSO_PREFIX = "AWSReservedSSO_"  # of the roles that Identity Center makes of permission sets
IAMS_OWN = re.compile(r"(?<!\$)\$\{[a-z0-9]+:[^}]*\}", re.IGNORECASE)


@dataclass(frozen=True)
class Wanted:
    """A role as its folder describes it; `permissions` maps a file's stem to its policy, `boundary` is None without one."""

    role: str
    trust: Policy
    permissions: dict[str, Policy]
    boundary: Policy | None = None

    def __post_init__(self) -> None:
        """Parse the policies that are given as JSON documents."""
        named = {stem: as_policy(f"{self.role}/{stem}.json", one) for stem, one in self.permissions.items()}
        object.__setattr__(self, "permissions", named)
        object.__setattr__(self, "trust", as_policy(f"{self.role}/trust.json", self.trust))
        if self.boundary is not None:
            object.__setattr__(self, "boundary", as_policy(f"{self.role}/boundary.json", self.boundary))

    @property
    def for_instances(self) -> bool:
        """Return whether EC2 may assume the role, which therefore needs an instance profile."""
        return "ec2.amazonaws.com" in json.dumps(self.trust.document)


def read_roles(settings: Settings, only: str = "", folder: Path = FOLDER) -> list[Wanted]:
    """Return the roles of the folder, by name. Raises InputError for a missing role, bad JSON, an unknown placeholder or an exceeded quota."""
    roles = sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith((".", "_")))
    if only and only not in roles:
        near = find_nearest(only, roles)
        hint = (
            f"did you mean {near}?"
            if near
            else f"there are {', '.join(roles)}. A role is a folder: see {ROLES}/README.md"
        )
        raise InputError(f"There is no role {only!r} in {ROLES}/; {hint}")
    return [read_role(folder / role, settings) for role in roles if only in ("", role)]


def read_role(folder: Path, settings: Settings) -> Wanted:
    stray = [path.name for path in sorted(folder.glob("*.json")) if not FILES.fullmatch(path.name)]
    if stray:
        raise InputError(
            f"{folder.name}/{stray[0]}: unknown file; a role has trust.json, permissions.json, permissions-MORE.json, boundary.json"
        )
    if not (folder / "trust.json").exists():
        raise InputError(f"{folder.name}/trust.json is missing: it says who may assume the role; see {ROLES}/README.md")
    permissions = {path.stem: read_document(path, settings) for path in sorted(folder.glob("permissions*.json"))}
    if not permissions:
        raise InputError(
            f"{folder.name}/permissions.json is missing: it says what the role may do; see {ROLES}/README.md"
        )
    trust = admit_permission_sets(read_document(folder / "trust.json", settings), settings)
    bounds = read_document(folder / "boundary.json", settings) if (folder / "boundary.json").exists() else None
    managed = permissions | ({"boundary": bounds} if bounds else {})
    for name, size, quota in [("trust.json", len(dump_document(trust.document)), TRUST_CHARACTERS)] + [
        (f"{stem}.json", len(dump_document(one.document)), POLICY_CHARACTERS) for stem, one in managed.items()
    ]:
        if size > quota:
            raise InputError(
                f"{folder.name}/{name}: {size} characters; AWS accepts at most {quota}. Split it: permissions-2.json ..."
            )
    return Wanted(folder.name, trust, permissions, bounds)


def read_document(path: Path, settings: Settings) -> Policy:
    """Return the policy with the placeholders of build_placeholders expanded, and the lines of the file.

    IAM's own variables are written $${aws:...}.
    """
    name, text = shorten_policy_path(path), read_text(path)
    written, source = parse(text, name)
    expand_text(text, name, settings)  # for its errors, which name the line
    body = expand_strings(written, name, settings)
    if not isinstance(body, dict):
        raise InputError(
            f"{name}: a policy is a JSON object with Version and Statement, not {describe_json_type(body)}."
        )
    return parse_policy(name, body, source)


def admit_permission_sets(trust: Policy, settings: Settings) -> Policy:
    """Return the trust policy with a statement for the settings' permission sets, if it admits people with MFA.

    A session of Identity Center has no MFA in its context, even if a person logged in with it: Identity Center asks for it, or does not.
    """
    statements = as_list(trust.document.get("Statement", []))
    people = [one for one in statements if one.get("Effect") == "Allow" and MFA in json.dumps(one.get("Condition"))]
    if not settings.iam.permission_sets or not people:
        return trust
    # Its roles end in 16 characters. In us-east-1 they have no folder for the region.
    reserved = f"arn:aws:iam::{settings.aws.account}:role/aws-reserved/sso.amazonaws.com"
    names = [f"{SSO_PREFIX}{name}_{'?' * 16}" for name in settings.iam.permission_sets]
    arns = [f"{reserved}/{folder}{name}" for name in names for folder in ("", "*/")]
    others = {
        name: {key: value for key, value in keys.items() if key != MFA} for name, keys in people[0]["Condition"].items()
    }
    conditions = {name: keys for name, keys in others.items() if keys} | {"ArnLike": {"aws:PrincipalArn": arns}}
    statement = people[0] | {"Condition": conditions}
    return parse_policy(trust.name, trust.document | {"Statement": [*statements, statement]}, trust.source)


def build_placeholders(settings: Settings) -> dict[str, str]:
    return {
        "account": settings.aws.account,
        "region": settings.aws.region,
        "stack": settings.stack.name,
        "bucket": settings.bucket,
        "repository": settings.iam.repository,
        "images_account": settings.training_image.partition(".")[0],
    }


def expand_known(text: str, settings: Settings) -> str:
    """Expand the placeholders in a command line, as the files and iam.explain's output have them; leave all others."""
    return Template(text).safe_substitute(build_placeholders(settings))


def expand_text(text: str, name: str, settings: Settings) -> str:
    """Expand the placeholders in a file of iam_policies/. Raises InputError for an unknown one, and for a stray $."""
    values = build_placeholders(settings)
    if own := IAMS_OWN.search(text):
        line = text.count("\n", 0, own.start()) + 1
        raise InputError(f"{name}:{line}: {own[0]} is a policy variable of IAM: write ${own[0]}")
    try:
        return Template(text).substitute(values)
    except KeyError as error:
        raise InputError(f"{name}: unknown placeholder ${{{error.args[0]}}}; known: {', '.join(values)}") from error
    except ValueError as error:
        raise InputError(f"{name}: {error}") from error


def expand_strings(value: Any, name: str, settings: Settings) -> Any:
    """Expand the placeholders in all strings of a JSON value, so that the file's text is parsed before they are expanded."""
    if isinstance(value, str):
        return expand_text(value, name, settings) if "$" in value else value
    if isinstance(value, list):
        return [expand_strings(one, name, settings) for one in value]
    if not isinstance(value, dict):
        return value
    found = {expand_strings(key, name, settings): expand_strings(one, name, settings) for key, one in value.items()}
    if len(found) < len(value):
        raise InputError(f"{name}: two keys of one object are the same once their placeholders are expanded.")
    return found


def derive_role_policy_name(role: str, stem: str, settings: Settings) -> str:
    """Return kennel-STACK-operator-data for the operator's permissions-data.json, kennel-STACK-operator-boundary for its boundary."""
    return settings.build_role_name(role) + ("-boundary" if stem == "boundary" else stem.removeprefix("permissions"))


def derive_policy_arn(role: str, stem: str, settings: Settings) -> str:
    """Return the ARN of a role's policy.

    Permissions boundaries have their own path: a principal may be allowed to write the policies without the boundaries.
    """
    path = f"/kennel-boundary/{settings.stack.name}/" if stem == "boundary" else settings.role_path
    return f"arn:aws:iam::{settings.aws.account}:policy{path}{derive_role_policy_name(role, stem, settings)}"


def build_applied_snapshot(wanted: list[Wanted], settings: Settings) -> Snapshot:
    """Return an account with just these roles, as iam.apply would create them; --files uses it."""
    roles: dict[str, Principal] = {}
    policies: dict[str, Managed] = {}
    for want in wanted:
        name = settings.build_role_name(want.role)
        documents = {derive_policy_arn(want.role, stem, settings): one for stem, one in want.permissions.items()}
        attached = tuple(documents)
        bounds = derive_policy_arn(want.role, "boundary", settings) if want.boundary else ""
        if want.boundary:
            documents[bounds] = want.boundary
        policies |= {arn: Managed(arn, one, attachments=1) for arn, one in documents.items()}
        profiles = (name,) if want.for_instances else ()
        roles[name] = Principal(name, settings.role_arn(want.role), want.trust, {}, attached, bounds, profiles)
    return Snapshot(roles, policies=policies)


def dump_document(document: dict[str, Any]) -> str:
    return json.dumps(document, separators=(",", ":"))

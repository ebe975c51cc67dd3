"""iam_policies/ as data: one folder a role, with trust.json and permissions*.json, placeholders filled in."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

from iampolicy.account.snapshot import Managed, Principal, Snapshot
from iampolicy.errors import InputError
from iampolicy.policy import json_source
from ops.core.paths import ROOT
from ops.core.settings import ROLES, Settings

FOLDER = ROOT / ROLES
POLICY_CHARACTERS = 6144  # a managed policy's quota; white space does not count
TRUST_CHARACTERS = 2048
FILES = re.compile(r"(trust|boundary|permissions(-[a-z0-9-]+)?)\.json")
IAMS_OWN = re.compile(r"(?<!\$)\$\{[a-z0-9]+:[^}]*\}", re.IGNORECASE)


@dataclass(frozen=True)
class Wanted:
    """A role as its folder describes it; `permissions` maps a file's stem to its document, `boundary` is None without one."""

    role: str
    trust: dict[str, Any]
    permissions: dict[str, dict[str, Any]]
    boundary: dict[str, Any] | None = None

    @property
    def for_instances(self) -> bool:
        """Whether EC2 takes the role, and it so needs an instance profile."""
        return "ec2.amazonaws.com" in json.dumps(self.trust)


def wanted(settings: Settings, only: str = "", folder: Path = FOLDER) -> list[Wanted]:
    """The roles of the folder, by name. Raises InputError: no such role, bad JSON, unknown placeholder, over a quota."""
    roles = sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith((".", "_")))
    if only and only not in roles:
        raise InputError(f"There is no role {only!r} in {ROLES}/. There are: {', '.join(roles)}")
    return [read(folder / role, settings) for role in roles if only in ("", role)]


def read(folder: Path, settings: Settings) -> Wanted:
    stray = [path.name for path in sorted(folder.glob("*.json")) if not FILES.fullmatch(path.name)]
    if stray:
        raise InputError(
            f"{folder.name}/{stray[0]}: a role has trust.json, permissions.json, permissions-MORE.json, boundary.json"
        )
    if not (folder / "trust.json").exists():
        raise InputError(f"{folder.name}/trust.json is missing: who may take the role; see {ROLES}/README.md")
    permissions = {path.stem: document(path, settings) for path in sorted(folder.glob("permissions*.json"))}
    if not permissions:
        raise InputError(f"{folder.name}: there is no permissions.json beside trust.json.")
    trust = document(folder / "trust.json", settings)
    bounds = document(folder / "boundary.json", settings) if (folder / "boundary.json").exists() else None
    managed = permissions | ({"boundary": bounds} if bounds else {})
    for name, size, quota in [("trust.json", len(dumped(trust)), TRUST_CHARACTERS)] + [
        (f"{stem}.json", len(dumped(policy)), POLICY_CHARACTERS) for stem, policy in managed.items()
    ]:
        if size > quota:
            raise InputError(
                f"{folder.name}/{name}: {size} characters, AWS takes {quota}. Split it: permissions-2.json ..."
            )
    return Wanted(folder.name, trust, permissions, bounds)


def document(path: Path, settings: Settings) -> dict[str, Any]:
    """The policy with ${account} ${region} ${stack} ${bucket} ${repository} filled in. IAM's own variables are written $${aws:...}."""
    name = json_source.shown(path)
    json_source.parsed(json_source.text(path), name)  # before anything is filled in, so that columns are the file's own
    body = json_source.parsed(filled(path, settings), name)
    if not isinstance(body, dict):
        raise InputError(f"{name}: a policy is a JSON object with Version and Statement, not {json_source.kind(body)}.")
    return body


def placeholders(settings: Settings) -> dict[str, str]:
    return {
        "account": settings.aws.account,
        "region": settings.aws.region,
        "stack": settings.stack.name,
        "bucket": settings.bucket,
        "repository": settings.iam.repository,
    }


def meant(text: str, settings: Settings) -> str:
    """Of a command line: with the placeholders filled in that the files and iam.explain's answers have; others stay."""
    return Template(text).safe_substitute(placeholders(settings))


def filled(path: Path, settings: Settings) -> str:
    """A file of iam_policies/ with its placeholders filled in. Raises InputError for an unknown one, and for a stray $."""
    values = placeholders(settings)
    text = path.read_text()
    if own := IAMS_OWN.search(text):
        line = text.count("\n", 0, own.start()) + 1
        raise InputError(f"{path.parent.name}/{path.name}:{line}: {own[0]} is a variable of IAM's own: write ${own[0]}")
    try:
        return Template(text).substitute(values)
    except KeyError as error:
        raise InputError(
            f"{path.parent.name}/{path.name}: unknown placeholder ${{{error.args[0]}}}; known: {', '.join(values)}"
        ) from error
    except ValueError as error:
        raise InputError(f"{path.parent.name}/{path.name}: {error}") from error


def policy_name(role: str, stem: str, settings: Settings) -> str:
    """permissions-data.json of the operator is kennel-STACK-operator-data, its boundary kennel-STACK-operator-boundary."""
    return settings.role_name(role) + ("-boundary" if stem == "boundary" else stem.removeprefix("permissions"))


def policy_arn(role: str, stem: str, settings: Settings) -> str:
    """Boundaries have a path of their own, so that who may write the roles' policies need not be able to lift them."""
    path = f"/kennel-boundary/{settings.stack.name}/" if stem == "boundary" else settings.role_path
    return f"arn:aws:iam::{settings.aws.account}:policy{path}{policy_name(role, stem, settings)}"


def applied(wanted: list[Wanted], settings: Settings) -> Snapshot:
    """The account as iam.apply leaves it, as far as these roles go: what --files asks about."""
    roles: dict[str, Principal] = {}
    policies: dict[str, Managed] = {}
    for want in wanted:
        name = settings.role_name(want.role)
        documents = {policy_arn(want.role, stem, settings): text for stem, text in want.permissions.items()}
        attached = tuple(documents)
        bounds = policy_arn(want.role, "boundary", settings) if want.boundary else ""
        if want.boundary:
            documents[bounds] = want.boundary
        policies |= {arn: Managed(arn, text, attachments=1) for arn, text in documents.items()}
        profiles = (name,) if want.for_instances else ()
        roles[name] = Principal(name, settings.role_arn(want.role), want.trust, {}, attached, bounds, profiles)
    return Snapshot(roles, policies=policies)


def dumped(policy: dict[str, Any]) -> str:
    return json.dumps(policy, separators=(",", ":"))

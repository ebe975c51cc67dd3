"""The versions of a managed policy: make room for a new version, and roll back to an old one."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from iampolicy.account.snapshot import Managed, Snapshot
from iampolicy.policy.document import parse_policy
from iampolicy.policy.semantics import list_permissions, subtract_permissions
from ops.core.errors import OpsError
from ops.core.output import say
from ops.core.plan import Change, Steps
from ops.core.settings import Settings
from ops.iam import backups
from ops.iam.backups import Backup, choose_backup_path, derive_backup_path, write_private_json
from ops.iam.diff import find_differences, is_equivalent
from ops.iam.roles import Wanted, build_applied_snapshot, derive_policy_arn, dump_document

VERSIONS_KEPT = 5  # AWS keeps no more of a managed policy
ONE_APPLY = timedelta(minutes=10)  # one iam.apply makes all its versions within that
NEVER = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True)
class Target:
    """The target of a roll-back: a version that AWS has, or (`kept`) a document from our backups."""

    policy: Managed
    version: str
    document: dict[str, Any]
    kept: bool


def parse_version_number(version: str) -> int:
    """Return the number of a version, 12 for v12. AWS keeps counting after a version is deleted."""
    found = re.match(r"v(\d+)", version)
    return int(found[1]) if found else 0


def plan_new_version(policy: Managed, document: dict[str, Any], why: str, settings: Settings) -> Steps:
    """Yield the changes that make the document the default version; at AWS's limit, delete the oldest other version first."""
    if len(policy.versions) >= VERSIONS_KEPT:
        oldest = min((version for version, default, _ in policy.versions if not default), key=parse_version_number)
        yield Change(
            "iam",
            "delete_policy_version",
            {"PolicyArn": policy.arn, "VersionId": oldest},
            why=f"{policy.name}: delete version {oldest}, the oldest: AWS keeps {VERSIONS_KEPT}",
            danger=f"only backup: {choose_backup_path(settings, Backup(policy.arn, oldest, policy.version(oldest)))}",
        )
    args = {"PolicyArn": policy.arn, "PolicyDocument": dump_document(document), "SetAsDefault": True}
    yield Change("iam", "create_policy_version", args, why)


def choose_target(policy: Managed, kept: Sequence[Backup], returned: bool, to: str = "") -> Target | str:
    """Return the target of a roll-back, or the reason why there is none.

    Without `to` it is the newest older version that differs, once: a policy that is rolled back already is not changed, so
    that an interrupted roll-back can be run again. `kept` are our backups, the last saved first, and `returned` says that one of
    them is the default version again.
    """
    others = [version for version, default, _ in policy.versions if not default]
    if to:
        return choose_named_target(policy, others, kept, to)
    if is_back(policy, returned):
        return f"is rolled back already, to {policy.default}; further back: --policy {policy.name} --to VERSION"
    older = sorted(others, key=parse_version_number, reverse=True)
    for version in older:
        if not is_equivalent(policy.version(version), policy.document):
            return Target(policy, version, policy.version(version), kept=False)
    for one in kept:
        if not is_equivalent(one.document, policy.document):
            return Target(policy, one.version, one.document, kept=True)
    return "has no older version that differs, neither in AWS nor in the backups"


def is_back(policy: Managed, returned: bool) -> bool:
    return returned or any(
        parse_version_number(version) > parse_version_number(policy.default) for version, _, _ in policy.versions
    )


def list_last_changed(policies: Sequence[Managed]) -> list[Managed]:
    """Return the policies that got a version when the last changed one did: those that one iam.apply changed."""
    made = {one.arn: max((created or NEVER for _, _, created in one.versions), default=NEVER) for one in policies}
    newest = max(made.values(), default=NEVER)
    return [one for one in policies if newest - made[one.arn] <= ONE_APPLY]


def locate_rollback_note(settings: Settings, arn: str) -> Path:
    return derive_backup_path(settings, Backup(arn, "back", {}))


def write_rollback_note(settings: Settings, target: Target) -> None:
    """Note the roll-back before a saved document is restored: AWS's versions alone would not show it."""
    if target.kept:
        write_private_json(
            locate_rollback_note(settings, target.policy.arn),
            {"from": target.policy.default, "document": target.document},
        )


def has_returned(settings: Settings, policy: Managed) -> bool:
    """Return whether the default version is one that a roll-back restored from our backups."""
    try:
        note = json.loads(locate_rollback_note(settings, policy.arn).read_text())
        return parse_version_number(policy.default) > parse_version_number(note["from"]) and is_equivalent(
            policy.document, note["document"]
        )
    except (OSError, ValueError, KeyError, TypeError):
        return False


def choose_named_target(policy: Managed, others: list[str], kept: Sequence[Backup], to: str) -> Target | str:
    if to == policy.default:
        return f"has {to} as its default version already"
    if to in others:
        return Target(policy, to, policy.version(to), kept=False)
    found = next((one for one in kept if one.version == to), None)
    if found is None:
        there = ", ".join(sorted({policy.default, *others, *(one.version for one in kept)}, key=parse_version_number))
        return f"has no version {to}; it has {there}"
    if is_equivalent(found.document, policy.document):
        return f"is equivalent to {to} already"
    return Target(policy, to, found.document, kept=True)


def steps(targets: Sequence[Target], settings: Settings) -> Steps:
    for target in targets:
        policy, why = target.policy, f"{target.policy.name}: roll back from {target.policy.default} to {target.version}"
        if target.kept:
            yield from plan_new_version(policy, target.document, f"{why}, from its backup", settings)
        else:
            args = {"PolicyArn": policy.arn, "VersionId": target.version}
            yield Change("iam", "set_default_policy_version", args, why)


def choose_targets(have: Snapshot, settings: Settings, want: Wanted, policy: str, to: str) -> list[Target]:
    """Decide what each of the role's policies is rolled back to. Raises OpsError for a missing policy or version."""
    targets = []
    for one in choose_policies(have, settings, want, policy):
        kept = backups.list_saved_versions(settings, one.arn, since=one.created)
        found = choose_target(one, kept, has_returned(settings, one), to)
        if not isinstance(found, str):
            targets.append(found)
        elif to and found.startswith("has no"):
            raise OpsError(f"{one.name} {found}.")
        else:
            say(f"{one.name} {found}")
    return targets


def choose_policies(have: Snapshot, settings: Settings, want: Wanted, policy: str) -> list[Managed]:
    """Return the role's policy of that name; else those that differ from the folder and are not rolled back yet; else those changed last.

    Raises OpsError when the role differs from its folder only in parts that have no versions. Permissions boundaries are not
    rolled back here either: an administrator changes them with iam.apply.
    """
    name = settings.build_role_name(want.role)
    if name not in have.roles:
        raise OpsError(f"There is no role {name}. Create it: invoke iam.apply --role {want.role}")
    own = [
        have.policies[arn]
        for arn in have.roles[name].attached
        if f":policy{settings.role_path}" in arn and arn in have.policies
    ]
    if policy:
        found = [one for one in own if one.name == policy]
        if not found:
            raise OpsError(f"{name} has no policy {policy!r}. It has {', '.join(one.name for one in own) or 'none'}")
        return found
    repo = {derive_policy_arn(want.role, stem, settings): one.document for stem, one in want.permissions.items()}
    differing = [one for one in own if not is_equivalent(one.document, repo.get(one.arn))]
    if left := [one for one in differing if not is_back(one, has_returned(settings, one))]:
        return left
    if not differing and find_differences(have, build_applied_snapshot([want], settings), settings, whole=False):
        raise OpsError(
            f"{name} differs from its folder only in parts without versions: attachments, inline policies, trust policy, boundary or "
            f"tags. See them: invoke iam.diff --role {want.role}. Fix them: invoke iam.apply --role {want.role}"
        )
    return list_last_changed(own)


def describe_target(target: Target) -> str:
    """Return lines on the permissions that a roll-back would add and remove."""
    now, then = (
        list_permissions(target.policy.policy),
        list_permissions(parse_policy(target.policy.arn, target.document)),
    )
    lines = [
        f"{target.policy.name}: {target.policy.default} -> {target.version}{' (from its backup)' if target.kept else ''}"
    ]
    lines += [f"  - {grant.effect.lower()} {grant.text}" for grant in subtract_permissions(now, then)]
    lines += [f"  + {grant.effect.lower()} {grant.text}" for grant in subtract_permissions(then, now)]
    return "\n".join(lines)

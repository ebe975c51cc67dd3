"""The removal of obsolete roles (iam.prune): refuse those that must stay, save the others to a file, and plan the changes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

from iampolicy.account import snapshot
from iampolicy.account.owners import is_of_identity_center, is_service_linked
from iampolicy.account.snapshot import Principal, Snapshot
from iampolicy.audit.account_facts import AccountFacts
from iampolicy.policy.semantics import list_permissions
from ops.core.aws.account import Account
from ops.core.errors import OpsError
from ops.core.output import say
from ops.core.plan import Change, Steps, preview
from ops.core.settings import ROLES, Settings
from ops.iam import backups, collect, pre_apply_check
from ops.iam.apply import save_lost_documents
from ops.iam.backups import annotate_with_backup
from ops.iam.role_archive import SavedPolicy, SavedProfile, SavedRole, read_for_account
from ops.iam.roles import Wanted, derive_policy_arn

GRACE = timedelta(days=7)
ONLY_COPY = "only copy: the saved file"


def explain_removal_refusal(role: Principal, wanted: list[Wanted], settings: Settings, now: datetime) -> str:
    """Return why this role is never removed, or ""."""
    if why := describe_foreign_owner(role.name, role.path, settings):
        return why
    if role.arn in [
        settings.role_arn(want.role) for want in wanted
    ]:  # a role of that name at another path may be removed: it blocks the name
        return f"is in use: it is described in {ROLES}/"
    if role.created is None:
        return "has an unknown age"
    if now - role.created < GRACE:
        return f"is younger than {GRACE.days} days: it was created on {role.created:%Y-%m-%d}"
    return ""


def describe_foreign_owner(name: str, path: str, settings: Settings) -> str:
    """Return who owns this role if this stack does not, or ""."""
    if is_service_linked(path):
        return "is a service-linked role: its service creates and deletes it"
    if is_of_identity_center(name, path):
        return "is managed by IAM Identity Center: change its permission set there"
    if stack := find_other_stack(path, settings):
        return f"belongs to another stack, {stack}: use that stack's settings"
    return ""


def find_other_stack(path: str, settings: Settings) -> str:
    """Return x for /kennel/x/ and /kennel-boundary/x/ when x is not the stack of the settings, else ""."""
    root, _, stack = path.strip("/").partition("/")
    return stack if root in ("kennel", "kennel-boundary") and stack != settings.stack.name else ""


def build_evidence_row(have: Snapshot, role: Principal) -> tuple[str, ...]:
    """Return (role, created, last used, trusted principals, policies, instance profiles): the evidence that it is obsolete."""
    trusted = sorted({one.who for one in list_permissions(role.trust_policy) if one.effect == "Allow"})
    policies = [arn.rsplit("/", 1)[1] for arn in role.attached] + [f"{name} (inline)" for name in role.inline]
    created, used = (f"{one:%Y-%m-%d}" if one else "" for one in (role.created, role.last_used))
    return (
        role.name,
        created,
        used or "never",
        ", ".join(trusted),
        ", ".join(policies),
        ", ".join(role.instance_profiles),
    )


def list_trusting_roles(have: Snapshot, who: str) -> list[str]:
    """Return the roles whose trust policy names a role by its ARN, or by its unique id, with which IAM replaces a deleted role's ARN."""
    return [
        name
        for name, role in sorted(have.roles.items())
        if any(one == who for part in role.trust_policy.statements for _, one in part.principals or ())
    ]


def merge_begun_removal(begun: SavedRole, now: SavedRole, have: Snapshot) -> SavedRole:
    """Resume an interrupted removal: return the remaining parts of the role as they are now, and the removed ones as they were saved.

    A policy that is detached but still exists counts as it is now, too: it may have been narrowed meanwhile.
    """
    attached = list(dict.fromkeys([*begun.attached, *now.attached]))
    detached = {
        arn: kept | ({"document": have.policies[arn].document} if arn in have.policies else {})
        for arn, kept in begun.policies.items()
        if arn in attached or arn == now.boundary
    }
    return replace(
        now,
        saved=begun.saved,
        inline=begun.inline | now.inline,
        attached=attached,
        policies=detached | now.policies,
        profiles=begun.profiles | now.profiles,
    )


def list_disposable_policies(have: Snapshot, saved: SavedRole, wanted: list[Wanted], settings: Settings) -> list[str]:
    """Return the role's policies under the stack's own path that no folder describes and no other principal has."""
    ours = {derive_policy_arn(want.role, stem, settings) for want in wanted for stem in want.permissions}
    others = [p for p in have.principals() if p.name != saved.name or p.trust is None]
    held = {arn for group in have.groups.values() for arn in group.attached} | {p.boundary for p in have.principals()}
    held |= {arn for p in others for arn in p.attached}
    return [
        arn
        for arn in saved.attached
        if f":policy{settings.role_path}" in arn and arn in have.policies and arn not in ours | held
    ]


def plan_removal(have: Snapshot, saved: SavedRole, wanted: list[Wanted], settings: Settings) -> Steps:
    """Yield the changes that remove the role; the role itself is deleted last, so that an interrupted removal can be resumed."""
    name, role = saved.name, have.roles[saved.name]
    for profile in role.instance_profiles:
        args = {"InstanceProfileName": profile, "RoleName": name}
        yield Change(
            "iam",
            "remove_role_from_instance_profile",
            args,
            why=f"{profile}: remove {name}; its instances lose the role",
        )
    for arn in role.attached:
        args = {"RoleName": name, "PolicyArn": arn}
        yield Change("iam", "detach_role_policy", args, why=f"{name}: detach {arn.rsplit('/', 1)[1]}")
    for inline in role.inline:
        args = {"RoleName": name, "PolicyName": inline}
        yield Change("iam", "delete_role_policy", args, why=f"{name}: delete inline policy {inline}", danger=ONLY_COPY)
    for arn in list_disposable_policies(have, saved, wanted, settings):
        policy = have.policies[arn]
        for version, default, _ in policy.versions:
            if not default:
                args = {"PolicyArn": arn, "VersionId": version}
                change = Change("iam", "delete_policy_version", args, why=f"{policy.name}: delete version {version}")
                yield annotate_with_backup(settings, have, change)
        why = f"{policy.name}: delete the policy, which no other principal has"
        yield Change("iam", "delete_policy", {"PolicyArn": arn}, why, danger=ONLY_COPY)
    yield Change("iam", "delete_role", {"RoleName": name}, why=f"{name}: delete the obsolete role", danger=ONLY_COPY)


def expand_role_name(name: str, have: Snapshot, settings: Settings) -> str:
    """Return a role's full name for its folder's name, which other commands accept too."""
    long = settings.build_role_name(name)
    return long if name not in have.roles and long in have.roles else name


def read_obsolete_roles(account: Account, have: Snapshot, now: datetime) -> list[str]:
    functions = None
    if collect.has_console_made_roles(have):
        functions = collect.read_or_skip(
            "the functions' names", lambda: frozenset(collect.list_function_names(account))
        )
    return pre_apply_check.find_obsolete_roles(have, account.settings, AccountFacts(function_names=functions), now)


def select_removable(
    have: Snapshot, wanted: list[Wanted], settings: Settings, names: list[str], now: datetime, named: bool
) -> list[Principal]:
    """Return the roles that may be removed. Raises OpsError for an unknown role, and for a named one that must stay; report the others."""
    if unknown := [name for name in names if name not in have.roles]:
        raise OpsError(f"There is no role {', '.join(unknown)}. Nothing was changed.")
    found = []
    for name in names:
        why = explain_removal_refusal(have.roles[name], wanted, settings, now)
        if why and named:
            raise OpsError(f"{name} {why}. Nothing was changed.")
        if why:
            say(f"{name} {why}; it is not removed")
        else:
            found.append(have.roles[name])
    return found


def is_within_stack(role: Principal | SavedRole, settings: Settings) -> bool:
    """Return whether all of the role is within the stack, so that the role bootstrap may remove it and create it again."""
    bounds, own = f":policy/kennel-boundary/{settings.stack.name}/", f":policy{settings.role_path}"
    return role.path == settings.role_path and bounds in role.boundary and all(own in arn for arn in role.attached)


def find_already_removed(have: Snapshot, settings: Settings, names: list[str], dry: bool) -> dict[str, Path]:
    """Return the removed roles with their files: those named, and those whose removal was interrupted at its end."""
    found: dict[str, Path] = {}
    for path, saved in list_saved_roles(settings):
        if saved.name not in have.roles and saved.name not in found and (saved.name in names or not saved.finished):
            say(f"{saved.name} is removed already. Restore it: invoke iam.restore {path}")
            found[saved.name] = path
            if not saved.finished and not dry:
                backups.write_private_json(path, saved.data | {"finished": True})
    return found


def warn_of_trusting(have: Snapshot, found: list[Principal]) -> None:
    for role in found:
        for name in list_trusting_roles(have, role.arn):
            say(
                f"{name}: its trust policy names {role.name}. IAM replaces a deleted role's ARN by its unique id, and a restored role gets "
                "another id: after iam.restore, replace that id by the role's ARN (for a role of iam_policies/: invoke iam.apply); "
                "until then it does not trust the restored role."
            )


def remove_role(
    account: Account, name: str, wanted: list[Wanted], carry_out: Callable[[Callable[[], Steps]], object]
) -> Path:
    """Save the complete role, then remove it with `carry_out`; return its file.

    Facts are read again: the removal of an earlier role may have changed them.
    """
    have = snapshot.read(account)
    saved = read_whole_role(account, have, have.roles[name])
    begun = find_unfinished_removal(account.settings, saved)
    if begun:
        path, saved = begun[0], merge_begun_removal(begun[1], saved, have)
    else:
        moment = saved.saved.replace(":", "").replace("+0000", "Z")
        path = locate_archive(account.settings) / f"{name}-{moment}.json"
    backups.write_private_json(path, saved.data)
    read_for_account(path, account.settings)  # a role whose file iam.restore could not read is not removed
    say(f"{name} is saved: {path}")
    steps = partial(plan_removal, have, saved, wanted, account.settings)
    versions = [step for step in preview(steps()) if isinstance(step, Change) and step.call == "delete_policy_version"]
    save_lost_documents(have, versions, account.settings)  # everything else of the role is in its file
    carry_out(steps)
    return backups.write_private_json(path, saved.data | {"finished": True})


def locate_archive(settings: Settings) -> Path:
    return backups.locate_backups(settings) / "removed"


def list_saved_roles(settings: Settings) -> list[tuple[Path, SavedRole]]:
    """Return all removed roles of the account, the last saved first."""
    found = []
    for path in locate_archive(settings).glob("*.json"):
        try:
            found.append((path, read_for_account(path, settings)))
        except OpsError:  # skip a file that holds no saved role, or another account's
            continue
    return sorted(found, key=lambda one: one[1].saved, reverse=True)


def find_unfinished_removal(settings: Settings, saved: SavedRole) -> tuple[Path, SavedRole] | None:
    """Return the file of an interrupted removal of this same role, if any. A role created again has another id."""
    same = (one for one in list_saved_roles(settings) if not one[1].finished and one[1].role_id == saved.role_id)
    return next(same, None)


def read_whole_role(account: Account, have: Snapshot, role: Principal) -> SavedRole:
    """Read the role with what GetAccountAuthorizationDetails leaves out: its description, session length and profiles' tags."""
    described = account.call("iam", "get_role", RoleName=role.name)["Role"]
    own = [arn for arn in (*role.attached, role.boundary) if arn and ":iam::aws:" not in arn and arn in have.policies]
    policies = {}
    for arn in own:
        policy = account.call("iam", "get_policy", PolicyArn=arn)["Policy"]
        policies[arn] = SavedPolicy(
            description=policy.get("Description") or "",
            tags=snapshot.parse_tags(policy),
            document=have.policies[arn].document,
        )
    found = {}
    for name in role.instance_profiles:
        profile = account.call("iam", "get_instance_profile", InstanceProfileName=name)["InstanceProfile"]
        found[name] = SavedProfile(path=profile["Path"], tags=snapshot.parse_tags(profile))
    return SavedRole(
        account=account.settings.aws.account,
        saved=backups.format_current_time(),
        finished=False,
        role_id=described["RoleId"],
        name=role.name,
        path=role.path,
        description=described.get("Description") or "",
        session_s=described.get("MaxSessionDuration") or role.session_s,
        trust=role.trust_policy.document,
        boundary=role.boundary,
        tags=role.tags,
        inline={name: one.document for name, one in role.inline.items()},
        attached=list(role.attached),
        policies=policies,
        profiles=found,
    )

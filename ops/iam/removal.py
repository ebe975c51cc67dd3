"""iam.prune: which roles are obsolete, which may not be removed, what is saved of one that is, and the changes that remove it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

from iampolicy.account import snapshot
from iampolicy.account.snapshot import Principal, Snapshot
from iampolicy.audit.account_facts import AccountFacts
from iampolicy.policy.semantics import permissions
from ops.core.aws.account import Account
from ops.core.errors import OpsError
from ops.core.output import say
from ops.core.plan import Change, Steps, preview
from ops.core.settings import ROLES, Settings
from ops.iam import backups, collect, pre_apply_check
from ops.iam.apply import back_up
from ops.iam.backups import telling
from ops.iam.role_archive import Saved, SavedPolicy, SavedProfile, opened
from ops.iam.roles import Wanted, policy_arn

GRACE = timedelta(days=7)


def refusal(role: Principal, wanted: list[Wanted], settings: Settings, now: datetime) -> str:
    """Why this role is never taken away, or ""."""
    if why := belongs(role.name, role.path, settings):
        return why
    if role.arn in [settings.role_arn(want.role) for want in wanted]:  # one at another path is in the way of it
        return f"is wanted: it stands in {ROLES}/"
    if role.created is None:
        return "is of unknown age"
    if now - role.created < GRACE:
        return f"is younger than {GRACE.days} days: it was made on {role.created:%Y-%m-%d}"
    return ""


def belongs(name: str, path: str, settings: Settings) -> str:
    """Whose this role is, if others keep it, or ""."""
    if path.startswith("/aws-service-role/"):
        return "is a service's own: that service makes and deletes it"
    if name.startswith("AWSReservedSSO_") or path.startswith("/aws-reserved/"):
        return "is kept by IAM Identity Center: its permission set is changed there"
    if stack := other_stack(path, settings):
        return f"is of another stack, {stack}: take that stack's settings"
    return ""


def other_stack(path: str, settings: Settings) -> str:
    """Of /kennel/x/ and /kennel-boundary/x/, with another stack's settings: x."""
    root, _, stack = path.strip("/").partition("/")
    return stack if root in ("kennel", "kennel-boundary") and stack != settings.stack.name else ""


def evidence(have: Snapshot, role: Principal) -> tuple[str, ...]:
    """(role, created, last used, who may take it, what it holds, instance profiles): why it may go, and what goes with it."""
    whom = sorted({one.who for one in permissions(role.trust_policy) if one.effect == "Allow"})
    holds = [arn.rsplit("/", 1)[1] for arn in role.attached] + [f"{name} (inline)" for name in role.inline]
    created, used = (f"{one:%Y-%m-%d}" if one else "" for one in (role.created, role.last_used))
    return role.name, created, used or "never", ", ".join(whom), ", ".join(holds), ", ".join(role.instance_profiles)


def trusting(have: Snapshot, who: str) -> list[str]:
    """The roles whose trust names a role: by its ARN, or by its inner id, which IAM puts in the ARN's place once it is gone."""
    return [
        name
        for name, role in sorted(have.roles.items())
        if any(one == who for part in role.trust_policy.statements for _, one in part.principals or ())
    ]


def merged(begun: Saved, now: Saved, have: Snapshot) -> Saved:
    """A removal that was broken off goes on: what is left of the role counts as it is now, and what is gone as it was.

    A policy that the role holds no more, but that is there, counts as it is too: it may have been narrowed meanwhile.
    """
    attached = list(dict.fromkeys([*begun.attached, *now.attached]))
    was = {
        arn: kept | ({"document": have.policies[arn].document} if arn in have.policies else {})
        for arn, kept in begun.policies.items()
        if arn in attached or arn == now.boundary
    }
    return replace(
        now,
        saved=begun.saved,
        inline=begun.inline | now.inline,
        attached=attached,
        policies=was | now.policies,
        profiles=begun.profiles | now.profiles,
    )


def disposable(have: Snapshot, saved: Saved, wanted: list[Wanted], settings: Settings) -> list[str]:
    """Of the role's policies: those of the stack's own path that no folder wants and nobody else holds."""
    ours = {policy_arn(want.role, stem, settings) for want in wanted for stem in want.permissions}
    others = [p for p in have.principals() if p.name != saved.name or p.trust is None]
    held = {arn for group in have.groups.values() for arn in group.attached} | {p.boundary for p in have.principals()}
    held |= {arn for p in others for arn in p.attached}
    return [
        arn
        for arn in saved.attached
        if f":policy{settings.role_path}" in arn and arn in have.policies and arn not in ours | held
    ]


def removal(have: Snapshot, saved: Saved, wanted: list[Wanted], settings: Settings) -> Steps:
    """The role itself goes last, so that what was broken off is found again."""
    name, role = saved.name, have.roles[saved.name]
    for profile in role.instance_profiles:
        args = {"InstanceProfileName": profile, "RoleName": name}
        yield Change("iam", "remove_role_from_instance_profile", args, why=f"{name}: instances of {profile} lose it")
    for arn in role.attached:
        args = {"RoleName": name, "PolicyArn": arn}
        yield Change("iam", "detach_role_policy", args, why=f"{name}: without {arn.rsplit('/', 1)[1]}")
    for inline in role.inline:
        args = {"RoleName": name, "PolicyName": inline}
        yield Change(
            "iam", "delete_role_policy", args, why=f"{name}: without {inline}", danger="stays only in the file"
        )
    for arn in disposable(have, saved, wanted, settings):
        policy = have.policies[arn]
        for version, default, _ in policy.versions:
            if not default:
                args = {"PolicyArn": arn, "VersionId": version}
                change = Change("iam", "delete_policy_version", args, why=f"{policy.name}: {version} goes first")
                yield telling(settings, have, change)
        why = f"{policy.name}: nobody else holds it"
        yield Change("iam", "delete_policy", {"PolicyArn": arn}, why, danger="stays only in the file")
    yield Change(
        "iam", "delete_role", {"RoleName": name}, why=f"{name}: it is obsolete", danger="stays only in the file"
    )


def full_name(name: str, have: Snapshot, settings: Settings) -> str:
    """Other commands take a folder's name for the role's."""
    long = settings.role_name(name)
    return long if name not in have.roles and long in have.roles else name


def obsolete_roles(account: Account, have: Snapshot, now: datetime) -> list[str]:
    functions = None
    if collect.named_for_functions(have):
        functions = collect.ask_or_skip("the functions' names", lambda: frozenset(collect.names(account)))
    return pre_apply_check.obsolete(have, account.settings, AccountFacts(function_names=functions), now)


def removable(
    have: Snapshot, wanted: list[Wanted], settings: Settings, names: list[str], now: datetime, named: bool
) -> list[Principal]:
    """Those that may be removed. Raises OpsError for one that never is and was named; others are left with a word."""
    if unknown := [name for name in names if name not in have.roles]:
        raise OpsError(f"There is no role {', '.join(unknown)}. Nothing was touched.")
    found = []
    for name in names:
        why = refusal(have.roles[name], wanted, settings, now)
        if why and named:
            raise OpsError(f"{name} {why}. Nothing was touched.")
        if why:
            say(f"{name} {why}; it stays")
        else:
            found.append(have.roles[name])
    return found


def is_within_stack(role: Principal | Saved, settings: Settings) -> bool:
    """Whether all of it lies within the stack, so that the role bootstrap may take it apart and make it again."""
    bounds, own = f":policy/kennel-boundary/{settings.stack.name}/", f":policy{settings.role_path}"
    return role.path == settings.role_path and bounds in role.boundary and all(own in arn for arn in role.attached)


def removed_already(have: Snapshot, settings: Settings, names: list[str], dry: bool) -> dict[str, Path]:
    """The roles that are removed already, with their files: those named, and those whose removal was broken off at its end."""
    found: dict[str, Path] = {}
    for path, saved in saved_roles(settings):
        if saved.name not in have.roles and saved.name not in found and (saved.name in names or not saved.finished):
            say(f"{saved.name} is removed already. Back again: invoke iam.restore {path}")
            found[saved.name] = path
            if not saved.finished and not dry:
                backups.written(path, saved.data | {"finished": True})
    return found


def warn_of_trusting(have: Snapshot, found: list[Principal]) -> None:
    for role in found:
        for name in trusting(have, role.arn):
            say(
                f"{name}: its trust names {role.name}, in whose place IAM puts the inner id of a role that is gone. After iam.restore, "
                "whose role has another id, save that trust again: until then it lets nobody in by this name."
            )


def remove(account: Account, name: str, wanted: list[Wanted], carry_out: Callable[[Steps], object]) -> Path:
    """Save the role whole, then take it apart by `carry_out`; return its file.

    Facts are read again: the removal of another role before may have changed them.
    """
    have = snapshot.read(account)
    saved = describe_whole(account, have, have.roles[name])
    begun = unfinished(account.settings, saved)
    if begun:
        path, saved = begun[0], merged(begun[1], saved, have)
    else:
        moment = saved.saved.replace(":", "").replace("+0000", "Z")
        path = archive_folder(account.settings) / f"{name}-{moment}.json"
    backups.written(path, saved.data)
    opened(path, account.settings)  # a role whose file iam.restore would not take stays
    say(f"{name} is saved: {path}")
    planned = preview(removal(have, saved, wanted, account.settings))
    versions = [step for step in planned if isinstance(step, Change) and step.call == "delete_policy_version"]
    back_up(have, versions, account.settings)  # all else of the role is in its file
    carry_out(removal(have, saved, wanted, account.settings))
    return backups.written(path, saved.data | {"finished": True})


def archive_folder(settings: Settings) -> Path:
    return backups.folder(settings) / "removed"


def saved_roles(settings: Settings) -> list[tuple[Path, Saved]]:
    """All removed roles of the account, the last saved first."""
    found = []
    for path in archive_folder(settings).glob("*.json"):
        try:
            found.append((path, opened(path, settings)))
        except OpsError:  # a file that is no saved role, or another account's, is no reason to stop
            continue
    return sorted(found, key=lambda one: one[1].saved, reverse=True)


def unfinished(settings: Settings, saved: Saved) -> tuple[Path, Saved] | None:
    """The file of a removal of this very role that was broken off. A role made anew has another id."""
    same = (one for one in saved_roles(settings) if not one[1].finished and one[1].role_id == saved.role_id)
    return next(same, None)


def describe_whole(account: Account, have: Snapshot, role: Principal) -> Saved:
    """The role with what the account's one description leaves out: its text, its sessions' length, its profiles' tags."""
    told = account.call("iam", "get_role", RoleName=role.name)["Role"]
    own = [arn for arn in (*role.attached, role.boundary) if arn and ":iam::aws:" not in arn and arn in have.policies]
    policies = {}
    for arn in own:
        policy = account.call("iam", "get_policy", PolicyArn=arn)["Policy"]
        policies[arn] = SavedPolicy(
            description=policy.get("Description") or "",
            tags=snapshot.tags(policy),
            document=have.policies[arn].document,
        )
    found = {}
    for name in role.instance_profiles:
        profile = account.call("iam", "get_instance_profile", InstanceProfileName=name)["InstanceProfile"]
        found[name] = SavedProfile(path=profile["Path"], tags=snapshot.tags(profile))
    return Saved(
        account=account.settings.aws.account,
        saved=backups.now(),
        finished=False,
        role_id=told["RoleId"],
        name=role.name,
        path=role.path,
        description=told.get("Description") or "",
        session_s=told.get("MaxSessionDuration") or role.session_s,
        trust=role.trust_policy.document,
        boundary=role.boundary,
        tags=role.tags,
        inline={name: one.document for name, one in role.inline.items()},
        attached=list(role.attached),
        policies=policies,
        profiles=found,
    )

"""The command iam.prune."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ops.core.aws.account import Account
from ops.core.errors import OpsError
from ops.core.output import say, table
from ops.core.task import Result, carry_out, confirm, task

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from iampolicy.account.snapshot import Principal, Snapshot
    from ops.core.plan import Step
    from ops.core.settings import Settings
    from ops.iam.role_archive import Saved
    from ops.iam.roles import Wanted

COLUMNS = ("role", "created", "last used", "taken by", "holds", "instance profiles")


@task(
    iterable=["roles"],
    help={
        "roles": "This role, and no other; may be given more than once.",
        "confirm": "The name of the one role that goes, in place of typing it.",
    },
)
def prune(c, roles=None, confirm=""):
    """Remove obsolete roles, or those named: each is saved whole first, and asked about by its name."""
    from datetime import UTC, datetime

    from iampolicy.account import snapshot
    from ops.iam import removal
    from ops.iam import roles as policies

    account = Account.from_context_or_profile(c, "auditor")
    wanted, have = policies.wanted(account.settings), snapshot.read(account)
    account.guard()
    now = datetime.now(UTC)
    roles = [in_full(name, have, account.settings) for name in dict.fromkeys(roles or [])]
    names = roles or obsolete(account, have, now)
    done = gone(have, account.settings, roles, c.config.run.dry)
    found = allowed(have, wanted, account.settings, [n for n in names if n not in done], now, named=bool(roles))
    if confirm and confirm not in [*done, *(role.name for role in found)]:
        raise OpsError(f"{confirm} is not among the roles to be removed: {', '.join(r.name for r in found) or 'none'}")
    if not found:
        return Result([str(path) for path in done.values()], "" if done else "No role is obsolete. 0 removed")
    tell_trusting(have, found)
    shown = [removal.evidence(have, role) for role in found]
    if c.config.run.dry:
        for role in found:
            saved = complete(able(c, account.settings, role), have, role)
            carry_out(c, account, removal.removal(have, saved, wanted, account.settings))
        return Result([list(row) for row in shown], table(COLUMNS, shown))
    say(table(COLUMNS, shown))
    kept = []
    for role in found:
        if confirm and role.name != confirm:
            say(f"{role.name} stays: --confirm names {confirm}")
            continue
        agree(c, role, confirm)
        kept.append(remove(c, able(c, account.settings, role), role.name, wanted))
    return Result([str(path) for path in kept], "\n".join(f"Back again: invoke iam.restore {path}" for path in kept))


def in_full(name: str, have: Snapshot, settings: Settings) -> str:
    """Other commands take a folder's name for the role's."""
    long = settings.role_name(name)
    return long if name not in have.roles and long in have.roles else name


def obsolete(account: Account, have: Snapshot, now: datetime) -> list[str]:
    from iampolicy.audit.account_facts import Extras
    from ops.iam import collect, pre_apply_check

    functions = None
    if collect.named_for_functions(have):
        functions = collect.looked("the functions' names", lambda: frozenset(collect.names(account)))
    return pre_apply_check.obsolete(have, account.settings, Extras(function_names=functions), now)


def allowed(
    have: Snapshot, wanted: list[Wanted], settings: Settings, names: list[str], now: datetime, named: bool
) -> list[Principal]:
    """Those that may go. Raises OpsError for one that never goes and was named; others are left with a word."""
    from ops.iam import removal

    if unknown := [name for name in names if name not in have.roles]:
        raise OpsError(f"There is no role {', '.join(unknown)}. Nothing was touched.")
    found = []
    for name in names:
        why = removal.refusal(have.roles[name], wanted, settings, now)
        if why and named:
            raise OpsError(f"{name} {why}. Nothing was touched.")
        if why:
            say(f"{name} {why}; it stays")
        else:
            found.append(have.roles[name])
    return found


def able(c: Any, settings: Settings, role: Principal | Saved) -> Account:
    """Who may take this role apart and make it again: bootstrap where all of it lies within the stack, else the profile itself."""
    bounds, own = f":policy/kennel-boundary/{settings.stack.name}/", f":policy{settings.role_path}"
    if role.path == settings.role_path and bounds in role.boundary and all(own in arn for arn in role.attached):
        return Account.from_context_or_profile(c, "bootstrap")
    say(f"{role.name} is not wholly within {settings.role_path} and its boundary: going on as the profile is.")
    return Account.from_context(c, "")


def gone(have: Snapshot, settings: Settings, names: list[str], dry: bool) -> dict[str, Path]:
    """The roles that are removed already, with their files: those named, and those whose removal was broken off at its end."""
    from ops.iam import backups

    found: dict[str, Path] = {}
    for path, saved in files(settings):
        if saved.name not in have.roles and saved.name not in found and (saved.name in names or not saved.finished):
            say(f"{saved.name} is removed already. Back again: invoke iam.restore {path}")
            found[saved.name] = path
            if not saved.finished and not dry:
                backups.written(path, saved.data | {"finished": True})
    return found


def tell_trusting(have: Snapshot, found: list[Principal]) -> None:
    from ops.iam import removal

    for role in found:
        for name in removal.trusting(have, role.arn):
            say(
                f"{name}: its trust names {role.name}, in whose place IAM puts the inner id of a role that is gone. After iam.restore, "
                "whose role has another id, save that trust again: until then it lets nobody in by this name."
            )


def agree(c: Any, role: Principal, given: str) -> None:
    used = f"last used on {role.last_used:%Y-%m-%d}" if role.last_used else "never used, as far as IAM remembers"
    confirm(c, f"The role {role.name} goes; it was {used}.", name=role.name, given=given)


def remove(c: Any, account: Account, name: str, wanted: list[Wanted]) -> Path:
    """Save the role whole, then take it apart; where its file is. Facts are read again: the one before may have changed them."""
    from iampolicy.account import snapshot
    from ops.commands import iam_apply
    from ops.core import plan
    from ops.iam import backups, removal
    from ops.iam.role_archive import opened

    have = snapshot.read(account)
    saved = complete(account, have, have.roles[name])
    begun = unfinished(account.settings, saved)
    if begun:
        path, saved = begun[0], removal.merged(begun[1], saved, have)
    else:
        moment = saved.saved.replace(":", "").replace("+0000", "Z")
        path = folder(account.settings) / f"{name}-{moment}.json"
    backups.written(path, saved.data)
    opened(path, account.settings)  # a role whose file iam.restore would not take stays
    say(f"{name} is saved: {path}")
    planned = plan.preview(removal.removal(have, saved, wanted, account.settings))
    versions: list[Step] = [
        step for step in planned if isinstance(step, plan.Change) and step.call == "delete_policy_version"
    ]
    iam_apply.keep(have, versions, account.settings)  # all else of the role is in its file
    carry_out(c, account, removal.removal(have, saved, wanted, account.settings))
    return backups.written(path, saved.data | {"finished": True})


def folder(settings: Settings) -> Path:
    from ops.iam import backups

    return backups.folder(settings) / "removed"


def files(settings: Settings) -> list[tuple[Path, Saved]]:
    """All removed roles of the account, the last saved first."""
    from ops.iam.role_archive import opened

    found = []
    for path in folder(settings).glob("*.json"):
        try:
            found.append((path, opened(path, settings)))
        except OpsError:  # somebody else's file is no reason to stop
            continue
    return sorted(found, key=lambda one: one[1].saved, reverse=True)


def unfinished(settings: Settings, saved: Saved) -> tuple[Path, Saved] | None:
    """The file of a removal of this very role that was broken off. A role made anew has another id."""
    same = (one for one in files(settings) if not one[1].finished and one[1].role_id == saved.role_id)
    return next(same, None)


def complete(account: Account, have: Snapshot, role: Principal) -> Saved:
    """The role with what the account's one description leaves out: its text, its sessions' length, its profiles' tags."""
    from iampolicy.account.snapshot import tags
    from ops.iam import backups
    from ops.iam.role_archive import Saved

    told = account.call("iam", "get_role", RoleName=role.name)["Role"]
    own = [arn for arn in (*role.attached, role.boundary) if arn and ":iam::aws:" not in arn and arn in have.policies]
    policies = {}
    for arn in own:
        policy = account.call("iam", "get_policy", PolicyArn=arn)["Policy"]
        document = have.policies[arn].document
        policies[arn] = {"description": policy.get("Description") or "", "tags": tags(policy), "document": document}
    found = {}
    for name in role.instance_profiles:
        profile = account.call("iam", "get_instance_profile", InstanceProfileName=name)["InstanceProfile"]
        found[name] = {"path": profile["Path"], "tags": tags(profile)}
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

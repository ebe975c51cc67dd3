"""The commands iam.prune and iam.restore."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ops.aws import Account
from ops.cli import Answer, carry_out, confirm, say, table, task
from ops.errors import OpsError

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from ops.config import Settings
    from ops.iam.change.removal import Saved
    from ops.iam.policies import Wanted
    from ops.iam.snapshot import Principal, Snapshot

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

    from ops.iam import policies, snapshot
    from ops.iam.change import removal

    account = Account.first(c, "auditor")
    wanted, have = policies.wanted(account.settings), snapshot.read(account)
    account.guard()
    now = datetime.now(UTC)
    names = list(dict.fromkeys(roles or [])) or obsolete(account, have, now)
    found = allowed(have, wanted, account.settings, names, now, named=bool(roles))
    if confirm and confirm not in [role.name for role in found]:
        raise OpsError(f"{confirm} is not among the roles to be removed: {', '.join(r.name for r in found) or 'none'}")
    if not found:
        return Answer([], "No role is obsolete. 0 removed")
    shown = [removal.evidence(have, role) for role in found]
    if c.config.run.dry:
        for role in found:
            saved = complete(able(c, account.settings, role), have, role)
            carry_out(c, account, removal.removal(have, saved, wanted, account.settings))
        return Answer([list(row) for row in shown], table(COLUMNS, shown))
    say(table(COLUMNS, shown))
    kept = []
    for role in found:
        if confirm and role.name != confirm:
            say(f"{role.name} stays: --confirm names {confirm}")
            continue
        agree(c, role, confirm)
        kept.append(remove(c, able(c, account.settings, role), role.name, wanted))
    return Answer([str(path) for path in kept], "\n".join(f"Back again: invoke iam.restore {path}" for path in kept))


@task()
def restore(c, file):
    """Bring back a role that iam.prune removed, with all that it had, from its FILE."""
    from pathlib import Path

    from ops import config
    from ops.iam import applying, snapshot
    from ops.iam.change import keeping, removal

    path, settings = Path(file).expanduser(), config.load(c.config)
    saved = opened(path, settings)
    account = able(c, settings, saved)
    have = snapshot.read(account)
    if clash := removal.clash(have, saved):
        raise OpsError(f"{clash}. Rename or remove that one first. Nothing was touched.")
    account.guard()
    for arn in changed(have, saved):
        say(f"{arn} is there and says something else than it did; it stays as it is.")
    done = carry_out(c, account, removal.restoration(have, saved, profiles(account, saved)))
    if done.changes:
        applying.read_back(account, lambda have: removal.restoration(have, saved, profiles(account, saved)))
    if not c.config.run.dry and not saved.finished:
        keeping.written(path, saved.data | {"finished": True})
    return Answer(done.data | {"role": saved.name}, f"{saved.name} is back. {done.text}" if done.text else "")


def obsolete(account: Account, have: Snapshot, now: datetime) -> list[str]:
    from ops.iam.review import gathering, verdicts
    from ops.iam.review.extras import Extras

    functions = None
    if gathering.named_for_functions(have):
        functions = gathering.looked("the functions' names", lambda: frozenset(gathering.names(account)))
    return verdicts.obsolete(have, account.settings, Extras(function_names=functions), now)


def allowed(
    have: Snapshot, wanted: list[Wanted], settings: Settings, names: list[str], now: datetime, named: bool
) -> list[Principal]:
    """Those that may go. Raises OpsError for one that never goes and was named; others are left with a word."""
    from ops.iam.change import removal

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
        return Account.first(c, "bootstrap")
    say(f"{role.name} is not wholly within {settings.role_path} and its boundary: going on as the profile is.")
    return Account.of(c, "")


def agree(c: Any, role: Principal, given: str) -> None:
    used = f"last used on {role.last_used:%Y-%m-%d}" if role.last_used else "never used, as far as IAM remembers"
    confirm(c, f"The role {role.name} goes; it was {used}.", name=role.name, given=given)


def remove(c: Any, account: Account, name: str, wanted: list[Wanted]) -> Path:
    """Save the role whole, then take it apart; where its file is. Facts are read again: the one before may have changed them."""
    from ops.iam import snapshot
    from ops.iam.change import keeping, removal

    have = snapshot.read(account)
    saved = complete(account, have, have.roles[name])
    begun = unfinished(account.settings, saved)
    if begun:
        path, saved = begun[0], removal.merged(begun[1], saved)
    else:
        moment = saved.saved.replace(":", "").replace("+0000", "Z")
        path = folder(account.settings) / f"{name}-{moment}.json"
    keeping.written(path, saved.data)
    say(f"{name} is saved: {path}")
    carry_out(c, account, removal.removal(have, saved, wanted, account.settings))
    return keeping.written(path, saved.data | {"finished": True})


def folder(settings: Settings) -> Path:
    from ops.iam.change import keeping

    return keeping.folder(settings) / "removed"


def unfinished(settings: Settings, saved: Saved) -> tuple[Path, Saved] | None:
    """The file of a removal of this very role that was broken off. A role made anew has another id."""
    for path in sorted(folder(settings).glob("*.json"), reverse=True):
        try:
            found = opened(path, settings)
        except OpsError:  # somebody else's file is no reason to stop
            continue
        if not found.finished and found.role_id == saved.role_id:
            return path, found
    return None


def opened(path: Path, settings: Settings) -> Saved:
    """A role's file. Raises OpsError when it is none, or is of another account."""
    import json

    from ops.iam.change import removal

    try:
        data = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise OpsError(f"{path} cannot be read: {error}. Nothing was touched.") from error
    saved = removal.loaded(data, str(path))
    if saved.account != settings.aws.account:
        raise OpsError(
            f"{path} is of account {saved.account}; the settings are for {settings.aws.account}. Nothing was touched."
        )
    return saved


def complete(account: Account, have: Snapshot, role: Principal) -> Saved:
    """The role with what the account's one description leaves out: its text, its sessions' length, its profiles' tags."""
    from ops.iam.change import keeping, removal
    from ops.iam.snapshot import tags

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
    return removal.Saved(
        account=account.settings.aws.account,
        saved=keeping.now(),
        finished=False,
        role_id=told["RoleId"],
        name=role.name,
        path=role.path,
        description=told.get("Description") or "",
        session_s=told.get("MaxSessionDuration") or role.session_s,
        trust=role.trust or {},
        boundary=role.boundary,
        tags=role.tags,
        inline=role.inline,
        attached=list(role.attached),
        policies=policies,
        profiles=found,
    )


def profiles(account: Account, saved: Saved) -> dict[str, list[str] | None]:
    """The roles in each of the saved instance profiles, None for one that is gone."""
    found: dict[str, list[str] | None] = {}
    for name in saved.profiles:
        answer = account.find("iam", "get_instance_profile", "NoSuchEntity", InstanceProfileName=name)
        found[name] = answer and [role["RoleName"] for role in answer["InstanceProfile"]["Roles"]]
    return found


def changed(have: Snapshot, saved: Saved) -> list[str]:
    from ops.iam.change.difference import same

    return [
        arn
        for arn, kept in saved.policies.items()
        if arn in have.policies and not same(have.policies[arn].document, kept["document"])
    ]

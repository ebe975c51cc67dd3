"""The commands iam.prune and iam.restore."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from invoke import Context

from ops.core import task as dialogue
from ops.core.errors import OpsError
from ops.core.output import format_table, say
from ops.core.task import Result, run_plan, task

if TYPE_CHECKING:
    from iampolicy.account.snapshot import Principal
    from ops.core.aws.account import Account
    from ops.core.settings import Settings
    from ops.iam.role_archive import SavedRole

COLUMNS = ("role", "created", "last used", "taken by", "holds", "instance profiles")


@task(
    iterable=["roles"],
    help={
        "roles": "This role, and no other; may be given more than once.",
        "confirm": "The name of the one role that goes, in place of typing it.",
    },
)
def prune(c: Context, roles: list[str] | None = None, confirm: str = "") -> Result:
    """Remove obsolete roles, or those named: each is saved whole first, and asked about by its name."""
    from datetime import UTC, datetime

    from iampolicy.account import snapshot
    from ops.core.aws.account import Account
    from ops.iam import removal
    from ops.iam.roles import read_roles as wanted_roles

    account = Account.from_context_or_profile(c, "auditor")
    settings = account.settings
    wanted, have = wanted_roles(settings), snapshot.read(account)
    account.guard()
    now = datetime.now(UTC)
    named = [removal.expand_role_name(name, have, settings) for name in dict.fromkeys(roles or [])]
    names = named or removal.read_obsolete_roles(account, have, now)
    done = removal.find_already_removed(have, settings, named, c.config.run.dry)
    found = removal.select_removable(
        have, wanted, settings, [n for n in names if n not in done], now, named=bool(named)
    )
    if confirm and confirm not in [*done, *(role.name for role in found)]:
        raise OpsError(f"{confirm} is not among the roles to be removed: {', '.join(r.name for r in found) or 'none'}")
    if not found:
        return Result([str(path) for path in done.values()], "" if done else "No role is obsolete. 0 removed")
    removal.warn_of_trusting(have, found)
    shown = [removal.build_evidence_row(have, role) for role in found]
    if c.config.run.dry:
        for role in found:
            saved = removal.read_whole_role(_choose_account(c, settings, role), have, role)
            run_plan(c, account, removal.plan_removal(have, saved, wanted, settings))
        return Result([list(row) for row in shown], format_table(COLUMNS, shown))
    say(format_table(COLUMNS, shown))
    kept = []
    for role in found:
        if confirm and role.name != confirm:
            say(f"{role.name} stays: --confirm names {confirm}")
            continue
        used = f"last used on {role.last_used:%Y-%m-%d}" if role.last_used else "never used, as far as IAM remembers"
        dialogue.request_confirmation(c, f"The role {role.name} goes; it was {used}.", name=role.name, given=confirm)
        able = _choose_account(c, settings, role)
        kept.append(removal.remove_role(able, role.name, wanted, partial(run_plan, c, able)))
    return Result([str(path) for path in kept], "\n".join(f"Back again: invoke iam.restore {path}" for path in kept))


@task(help={"confirm": "The role's name, in place of typing it, where it brings what the audit calls high."})
def restore(c: Context, file: str, confirm: str = "") -> Result:
    """Bring back a role that iam.prune removed, with all that it had, from its FILE."""
    from pathlib import Path

    from iampolicy.account import snapshot
    from ops.core.settings import load
    from ops.iam import backups, restoration
    from ops.iam.apply import wait_until_applied
    from ops.iam.role_archive import read_for_account

    path, settings = Path(file).expanduser(), load(c.config)
    saved = read_for_account(path, settings)
    account = _choose_account(c, settings, saved)
    have = snapshot.read(account)
    account.guard()
    restoration.refuse_unfit(account, have, saved)
    if new := restoration.find_new_findings(account, have, saved):
        # A file may have been altered since iam.prune wrote it: rights that are too wide come back only by the role's name.
        say(
            "\n".join(
                ["The role brings what the audit calls high or worse:", *(f"  {one.format_line()}" for one in new)]
            )
        )
        dialogue.request_confirmation(c, f"{saved.name} comes back with that.", name=saved.name, given=confirm)
    for arn in restoration.list_changed_policies(have, saved):
        say(f"{arn} is there and says something else than it did; it stays as it is.")
    done = run_plan(c, account, restoration.steps(account, have, saved))
    if done.changes:
        wait_until_applied(account, lambda have: restoration.steps(account, have, saved))
        restoration.warn_of_trusting(have, saved)
    if not c.config.run.dry and not saved.finished:
        backups.write_private_json(path, saved.data | {"finished": True})
    return Result(done.data | {"role": saved.name}, f"{saved.name} is back. {done.text}" if done.text else "")


def _choose_account(c: Context, settings: Settings, role: Principal | SavedRole) -> Account:
    """Return the account as the role bootstrap when `role` lies wholly within the stack, else as the profile."""
    from ops.core.aws.account import Account
    from ops.iam.removal import is_within_stack

    if is_within_stack(role, settings):
        return Account.from_context_or_profile(c, "bootstrap")
    say(f"{role.name} is not wholly within {settings.role_path} and its boundary: going on as the profile is.")
    return Account.from_context(c, "")

"""The commands iam.prune and iam.restore."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from invoke import Context

from ops.core.errors import OpsError
from ops.core.output import format_table, say
from ops.core.task import Result, request_confirmation, run_plan, task

if TYPE_CHECKING:
    from iampolicy.account.snapshot import Principal
    from ops.core.aws.account import Account
    from ops.core.settings import Settings
    from ops.iam.role_archive import SavedRole

COLUMNS = ("role", "created", "last used", "assumed by", "policies", "instance profiles")


@task(
    iterable=["roles"],
    help={
        "roles": "Role to remove; repeatable (default: the roles that iam.audit reports as obsolete).",
        "confirm": "Name of the role to remove, to confirm without a prompt.",
    },
)
def prune(c: Context, roles: list[str] | None = None, confirm: str = "") -> Result:
    """Remove obsolete IAM roles, each after its name is typed to confirm.

    The complete role is saved to a file first; iam.restore restores it.

    Example: invoke iam.prune --roles ROLE --confirm ROLE
    """
    from datetime import UTC, datetime

    from iampolicy.account import snapshot
    from ops.core.aws.account import Account
    from ops.iam import removal
    from ops.iam.roles import read_roles

    account = Account.from_context_or_profile(c, "auditor")
    settings = account.settings
    wanted, have = read_roles(settings), snapshot.read(account)
    account.guard()
    now = datetime.now(UTC)
    requested = [removal.expand_role_name(name, have, settings) for name in dict.fromkeys(roles or [])]
    names = requested or removal.read_obsolete_roles(account, have, now)
    removed = removal.find_already_removed(have, settings, requested, c.config.run.dry)
    found = removal.select_removable(
        have, wanted, settings, [n for n in names if n not in removed], now, named=bool(requested)
    )
    if confirm and confirm not in [*removed, *(role.name for role in found)]:
        raise OpsError(
            f"--confirm: {confirm} is not among the roles to remove: {', '.join(r.name for r in found) or 'none'}"
        )
    if not found:
        return Result([str(path) for path in removed.values()], "" if removed else "No role is obsolete. 0 removed")
    removal.warn_of_trusting(have, found)
    shown = [removal.build_evidence_row(have, role) for role in found]
    if c.config.run.dry:
        for role in found:
            saved = removal.read_whole_role(choose_account(c, settings, role), have, role)
            run_plan(c, account, removal.plan_removal, have, saved, wanted, settings)
        return Result([list(row) for row in shown], format_table(COLUMNS, shown))
    say(format_table(COLUMNS, shown))
    archives = []
    for role in found:
        if confirm and role.name != confirm:
            say(f"{role.name} is kept: --confirm names {confirm}")
            continue
        request_confirmation(c, account, f"This removes {describe_last_use(role)}.", name=role.name, given=confirm)
        role_account = choose_account(c, settings, role)
        archives.append(removal.remove_role(role_account, role.name, wanted, partial(run_plan, c, role_account)))
    return Result([str(path) for path in archives], "\n".join(f"Undo: invoke iam.restore {path}" for path in archives))


def describe_last_use(role: Principal) -> str:
    if role.last_used is None:
        return f"the role {role.name}, which IAM has no record of being used"
    return f"the role {role.name}, which was last used on {role.last_used:%Y-%m-%d}"


@task(
    help={
        "file": "File that iam.prune wrote.",
        "confirm": "Name of the role, to confirm findings of severity high or above without a prompt.",
    }
)
def restore(c: Context, file: str, confirm: str = "") -> Result:
    """Restore a role that iam.prune removed, with all its policies, from its file.

    Asks for the role's name if the role causes findings of severity high or
    above.

    Example: invoke iam.restore FILE
    """
    from pathlib import Path

    from iampolicy.account import snapshot
    from ops.core.settings import load
    from ops.iam import backups, restoration
    from ops.iam.apply import wait_until_applied
    from ops.iam.role_archive import read_for_account

    path, settings = Path(file).expanduser(), load(c.config)
    saved = read_for_account(path, settings)
    account = choose_account(c, settings, saved)
    have = snapshot.read(account)
    account.guard()
    restoration.refuse_unfit(account, have, saved)
    if new := restoration.find_new_findings(account, have, saved):
        # The file may have been changed since iam.prune wrote it, so excessive permissions need the role's name typed.
        say(
            "\n".join(
                ["The role causes findings of severity high or above:", *(f"  {one.format_line()}" for one in new)]
            )
        )
        request_confirmation(
            c, account, f"This restores {saved.name} with these findings.", name=saved.name, given=confirm
        )
    for arn in restoration.list_changed_policies(have, saved):
        say(f"{arn} exists and has changed since; it is not overwritten.")
    done = run_plan(c, account, restoration.steps, have, saved, restoration.read_profile_roles(account, saved))
    if done.changes:
        wait_until_applied(
            account, lambda have: restoration.steps(have, saved, restoration.read_profile_roles(account, saved))
        )
        restoration.warn_of_trusting(have, saved)
    if not c.config.run.dry and not saved.finished:
        backups.write_private_json(path, saved.data | {"finished": True})
    return Result(done.data | {"role": saved.name}, f"{saved.name} is restored. {done.text}" if done.text else "")


def choose_account(c: Context, settings: Settings, role: Principal | SavedRole) -> Account:
    """Return the account with the role bootstrap if `role` belongs completely to the stack, else with the profile's own credentials."""
    from ops.core.aws.account import Account
    from ops.iam.removal import is_within_stack

    if is_within_stack(role, settings):
        return Account.from_context_or_profile(c, "bootstrap")
    say(
        f"{role.name} is not completely within {settings.role_path} and its boundary; using the profile's own credentials."
    )
    return Account.from_context(c, "")

"""The command iam.restore. Its file may come from anywhere: what it says is held against the account before anything is made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ops.core.aws.account import Account
from ops.core.errors import OpsError
from ops.core.output import say
from ops.core.task import Result, carry_out, task

if TYPE_CHECKING:
    from collections.abc import Mapping

    from iampolicy.account.snapshot import Snapshot
    from iampolicy.finding import Finding
    from ops.core.plan import Steps
    from ops.iam.role_archive import Saved


@task(help={"confirm": "The role's name, in place of typing it, where it brings what the audit calls high."})
def restore(c, file, confirm=""):
    """Bring back a role that iam.prune removed, with all that it had, from its FILE."""
    from pathlib import Path

    from iampolicy.account import snapshot
    from ops.commands import iam_apply
    from ops.commands.iam_prune import able
    from ops.core import settings as config
    from ops.iam import backups
    from ops.iam.role_archive import opened

    path, settings = Path(file).expanduser(), config.load(c.config)
    saved = opened(path, settings)
    account = able(c, settings, saved)
    have = snapshot.read(account)
    account.guard()
    refuse_unfit(account, have, saved)
    if new := new_findings(account, have, saved):
        agree(c, saved, new, confirm)
    for arn in changed(have, saved):
        say(f"{arn} is there and says something else than it did; it stays as it is.")
    done = carry_out(c, account, steps(account, have, saved))
    if done.changes:
        iam_apply.read_back(account, lambda have: steps(account, have, saved))
        tell_trusting(have, saved)
    if not c.config.run.dry and not saved.finished:
        backups.written(path, saved.data | {"finished": True})
    return Result(done.data | {"role": saved.name}, f"{saved.name} is back. {done.text}" if done.text else "")


def steps(account: Account, have: Snapshot, saved: Saved) -> Steps:
    from ops.iam import apply, removal

    return apply.raced(removal.restoration(have, saved, profiles(account, saved)))


def refuse_unfit(account: Account, have: Snapshot, saved: Saved) -> None:
    """Raises OpsError for a role that is not this stack's to make, or whose place is taken."""
    from ops.iam import removal, roles

    if why := removal.unfit(have, saved, roles.wanted(account.settings), account.settings):
        raise OpsError(f"{why}. Nothing was touched.")
    told: Mapping[str, Any] = {}
    if saved.name in have.roles:
        told = account.call("iam", "get_role", RoleName=saved.name)["Role"]
    if clash := removal.clash(have, saved, told, profiles(account, saved)):
        raise OpsError(f"{clash}. Rename or remove that one first. Nothing was touched.")


def agree(c: Any, saved: Saved, new: list[Finding], given: str) -> None:
    """A file may have been altered since iam.prune wrote it: rights that are too wide come back only by the role's name."""
    from ops.core.task import confirm

    lines = [f"  {one.told()}" for one in new]
    say("\n".join(["The role brings what the audit calls high or worse:", *lines]))
    confirm(c, f"{saved.name} comes back with that.", name=saved.name, given=given)


def new_findings(account: Account, have: Snapshot, saved: Saved) -> list[Finding]:
    """What the audit would call high or worse of the role, and does not call so now."""
    from ops.iam import pre_apply_check, removal

    only, settings = frozenset([saved.name]), account.settings
    then = removal.restored(have, saved, texts(account, have, saved))
    there = {
        pre_apply_check.named(one)
        for one in pre_apply_check.serious(pre_apply_check.audited(have, settings, only=only))
    }
    return [
        one
        for one in pre_apply_check.serious(pre_apply_check.audited(then, settings, only=only))
        if pre_apply_check.named(one) not in there
    ]


def texts(account: Account, have: Snapshot, saved: Saved) -> dict[str, dict[str, Any]]:
    """AWS's own policies of the role that nobody else holds: the account's description leaves those out."""
    from iampolicy.account.snapshot import document

    found = {}
    for arn in saved.held:
        if arn in have.policies or arn in saved.policies:
            continue
        policy = account.call_or_none("iam", "get_policy", "NoSuchEntity", PolicyArn=arn)
        if policy is None:
            raise OpsError(f"{saved.name} held {arn}, which AWS does not have. Nothing was touched.")
        version = policy["Policy"]["DefaultVersionId"]
        answer = account.call("iam", "get_policy_version", PolicyArn=arn, VersionId=version)
        found[arn] = document(answer["PolicyVersion"]["Document"])
    return found


def profiles(account: Account, saved: Saved) -> dict[str, list[str] | None]:
    """The roles in each of the saved instance profiles, None for one that is gone. Raises OpsError for one at another path."""
    found: dict[str, list[str] | None] = {}
    for name, kept in saved.profiles.items():
        answer = account.call_or_none("iam", "get_instance_profile", "NoSuchEntity", InstanceProfileName=name)
        if answer and (path := answer["InstanceProfile"]["Path"]) != kept["path"]:
            raise OpsError(f"The instance profile {name} is at {path}, not at {kept['path']}. Nothing was touched.")
        found[name] = answer and [role["RoleName"] for role in answer["InstanceProfile"]["Roles"]]
    return found


def changed(have: Snapshot, saved: Saved) -> list[str]:
    from ops.iam.diff import same

    return [
        arn
        for arn, kept in saved.policies.items()
        if arn in have.policies and not same(have.policies[arn].document, kept["document"])
    ]


def tell_trusting(have: Snapshot, saved: Saved) -> None:
    from ops.iam import removal

    for name in removal.trusting(have, saved.role_id):
        say(f"{name}: its trust holds the inner id that {saved.name} had before. Save that trust again.")

"""The commands iam.apply, iam.diff and iam.rollback."""

from __future__ import annotations

from invoke import Context

from ops.core.errors import FINDINGS
from ops.core.output import say
from ops.core.task import Result, request_confirmation, run_plan, task


@task(help={"role": "Only this role, a folder of iam_policies/ (default: all)."})
def apply(c: Context, role: str = "") -> Result:
    """Create or update the IAM roles and policies of iam_policies/.

    Documents that a change overwrites or deletes are backed up first.

    Example: invoke iam.apply --role ROLE
    """
    from ops.core.aws.account import Account
    from ops.core.plan import preview
    from ops.iam.apply import prepare_apply_plan, save_lost_documents, wait_until_applied

    account = Account.from_context_or_profile(c, "bootstrap")
    plan = prepare_apply_plan(account, role)
    account.guard()
    if not c.config.run.dry:
        save_lost_documents(plan.have, preview(plan.steps()), account.settings)
    done = run_plan(c, account, plan.steps)
    if done.changes:
        wait_until_applied(account, plan.steps)
    text = f"{len(plan.wanted)} {'role' if len(plan.wanted) == 1 else 'roles'}: {done.text}" if done.text else ""
    return Result(done.data | {"roles": [want.role for want in plan.wanted]}, text, changes=done.changes)


@task(help={"role": "Only this role, a folder of iam_policies/ (default: all).", "json": "Print the result as JSON."})
def diff(c: Context, role: str = "", json: bool = False) -> Result:
    """Compare the account's roles and policies with iam_policies/.

    Permissions are compared by meaning, not by text. Exit code 7 if something
    differs.

    Example: invoke iam.diff --role ROLE
    """
    from iampolicy.account import snapshot
    from ops.core.aws.account import Account
    from ops.iam import roles
    from ops.iam.apply import refuse_misplaced, report_revoked_sessions
    from ops.iam.diff import find_differences, format_differences

    account = Account.from_context_or_profile(c, "auditor")
    wanted = roles.read_roles(account.settings, only=role)
    want = roles.build_applied_snapshot(wanted, account.settings)
    have = snapshot.read(account)
    refuse_misplaced(have, wanted, account.settings)
    report_revoked_sessions(have, wanted, account.settings)
    found = find_differences(have, want, account.settings, whole=not role)
    text = format_differences(found) or f"{len(wanted)} {'role' if len(wanted) == 1 else 'roles'}: no differences"
    if found and not json:
        say("- is only in the account, + is only in iam_policies/. Show the changes: invoke --dry iam.apply")
    return Result([one.data for one in found], text, code=FINDINGS if found else 0)


@task(
    help={
        "role": "Role to roll back, a folder of iam_policies/.",
        "policy": "Name of one policy (default: the policies that changed last).",
        "to": "Policy version to restore, such as v3 (default: the last one that differs).",
        "yes": "Skip the confirmation prompt.",
    }
)
def rollback(c: Context, role: str, policy: str = "", to: str = "", yes: bool = False) -> Result:
    """Roll back a role's policies to the version before the last change.

    Prints the permissions that are gained and lost, then asks.

    Example: invoke iam.rollback ROLE --to v3
    """
    from iampolicy.account import snapshot
    from ops.core.aws.account import Account
    from ops.core.plan import preview
    from ops.iam import roles, versions
    from ops.iam.apply import save_lost_documents

    account = Account.from_context(c, "bootstrap")
    (want,) = roles.read_roles(account.settings, only=role)
    have = snapshot.read(account)
    targets = versions.choose_targets(have, account.settings, want, policy, to)
    if not targets:
        return Result({"made": 0}, "No policy to roll back. 0 made")
    for target in targets:
        say(versions.describe_target(target))
    account.guard()
    counted = "1 policy" if len(targets) == 1 else f"{len(targets)} policies"
    name = account.settings.build_role_name(role)
    request_confirmation(c, account, f"This changes {counted} of {name} as shown above.", yes=yes)
    if not c.config.run.dry:
        save_lost_documents(have, preview(versions.steps(targets, account.settings)), account.settings)
        for target in targets:
            versions.write_rollback_note(account.settings, target)
    done = run_plan(c, account, versions.steps, targets, account.settings)
    text = f"{done.text}. Undo: invoke iam.apply --role {role}" if done.text else ""
    return Result(done.data, text, changes=done.changes)

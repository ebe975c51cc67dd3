"""The commands iam.apply, iam.diff and iam.rollback."""

from __future__ import annotations

from invoke import Context

from ops.core.errors import FINDINGS
from ops.core.output import say
from ops.core.task import Result, request_confirmation, run_plan, task


@task(help={"role": "Only this role: a folder of iam_policies/."})
def apply(c: Context, role: str = "") -> Result:
    """Make every role of iam_policies/ what its folder says."""
    from ops.core.aws.account import Account
    from ops.core.plan import preview
    from ops.iam.apply import prepare_apply_plan, save_lost_documents, wait_until_applied

    account = Account.from_context_or_profile(c, "bootstrap")
    plan = prepare_apply_plan(account, role)
    account.guard()
    if not c.config.run.dry:
        save_lost_documents(plan.have, preview(plan.steps()), account.settings)
    done = run_plan(c, account, plan.steps())
    if done.changes:
        wait_until_applied(account, plan.steps)
    text = f"{len(plan.wanted)} roles. {done.text}" if done.text else ""
    return Result(done.data | {"roles": [want.role for want in plan.wanted]}, text, changes=done.changes)


@task(help={"role": "Only this role: a folder of iam_policies/.", "json": "Print the differences as JSON."})
def diff(c: Context, role: str = "", json: bool = False) -> Result:
    """Show in meaning what the account has that iam_policies/ has not, and the reverse."""
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
    text = format_differences(found) or f"{len(wanted)} roles: no difference in meaning"
    if found and not json:
        say("- only the account has it, + only iam_policies/ has it. invoke --dry iam.apply shows the calls.")
    return Result([one.data for one in found], text, code=FINDINGS if found else 0)


@task(
    help={
        "role": "The role: a folder of iam_policies/.",
        "policy": "Only this policy, by its name.",
        "to": "The version to go back to, such as v3; otherwise the last one that says something else.",
        "yes": "Do not ask.",
    }
)
def rollback(c: Context, role: str, policy: str = "", to: str = "", yes: bool = False) -> Result:
    """Let a role's policies be what they were before the last change."""
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
        return Result({"made": 0}, "Nothing to go back to. 0 made")
    for target in targets:
        say(versions.describe_target(target))
    account.guard()
    request_confirmation(
        c, f"{len(targets)} policies of {account.settings.build_role_name(role)} change as told.", yes=yes
    )
    if not c.config.run.dry:
        save_lost_documents(have, preview(versions.steps(targets, account.settings)), account.settings)
        for target in targets:
            versions.write_rollback_note(account.settings, target)
    done = run_plan(c, account, versions.steps(targets, account.settings))
    text = f"{done.text}. Forward again: invoke iam.apply --role {role}" if done.text else ""
    return Result(done.data, text, changes=done.changes)

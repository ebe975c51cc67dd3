"""The command iam.revoke."""

from __future__ import annotations

import time

from invoke import Context

from ops.core.errors import OpsError
from ops.core.output import say
from ops.core.task import Result, request_confirmation, run_plan, task


@task(
    help={
        "name": "A role of iam_policies/ (operator), a role or user of the account, or an ARN.",
        "yes": "Skip the confirmation prompt.",
    }
)
def revoke(c: Context, name: str, yes: bool = False) -> Result:
    """Revoke a user's access keys, or all current sessions of a role.

    Keys are deactivated, not deleted; sessions opened later are not affected.

    Example: invoke iam.revoke NAME --yes
    """
    from ops.core.aws.account import Account
    from ops.core.plan import preview
    from ops.iam import revocation

    account = Account.from_context(c, "")  # no role of the stack may revoke another
    account.guard()
    who = revocation.read_principal(account, name)
    caller, moment = revocation.read_caller_and_time(account)
    if reason := revocation.explain_revoke_refusal(who.principal, caller):
        raise OpsError(f"{who.principal.name} {reason}. Nothing was touched.")
    if not preview(revocation.steps(who, moment)):
        return Result({"made": 0}, f"{revocation.describe_revocation(who)}\n0 made")
    say(revocation.describe_consequences(who.principal))
    request_confirmation(c, account, f"This revokes {who.principal.name}.", yes=yes)
    _, moment = revocation.read_caller_and_time(account)  # sessions opened before this answer are revoked too
    if not c.config.run.dry:
        revocation.save_overwritten_policy(who, preview(revocation.steps(who, moment)), account.settings)
    done = run_plan(c, account, revocation.steps, who, moment)
    if c.config.run.dry:
        return Result(done.data, f"{revocation.describe_revocation(who)}. This was a dry run: nothing was touched.")
    if done.changes:
        who = revocation.wait_until_revoked(account, who.principal.arn, moment)
        time.sleep(1)  # wait out the revoked second, so that the next session of the role is not revoked too
    lines = [
        revocation.describe_revocation(who),
        *([done.text, revocation.describe_next_step(who)] if done.text else []),
    ]
    return Result(done.data, "\n".join(lines), changes=done.changes)

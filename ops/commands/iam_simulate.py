"""The command iam.simulate."""

from __future__ import annotations

from invoke import Context

from ops.core.errors import DENIED, FAILED, FINDINGS, OpsError
from ops.core.task import Result, task


@task(
    iterable=["context"],
    help={
        "principal": "A role of iam_policies/ (operator), a role or user of the account, or an ARN.",
        "action": "IAM action, such as s3:GetObject.",
        "resource": "ARN of the resource, or '*' to ask about no particular one.",
        "context": "Condition key of the request as KEY=VALUE; repeatable.",
        "explain": "Print each policy layer: its statements, near matches and missing condition keys.",
        "remote": "Ask AWS's policy simulator too; exit code 1 if it decides differently.",
        "files": "Use iam_policies/ as if applied, not the account.",
        "snapshot": "Use this file, from aws iam get-account-authorization-details, not the account.",
        "json": "Print the result as JSON.",
    },
)
def simulate(
    c: Context,
    principal: str,
    action: str,
    resource: str,
    context: list[str] | None = None,
    explain: bool = False,
    remote: bool = False,
    files: bool = False,
    snapshot: str = "",
    json: bool = False,
) -> Result:
    """Simulate a request and name the statement that allows or denies it.

    Exit code 4 if the request is denied, 7 if a policy decides that cannot be
    read here, as that of another account.

    Example: invoke iam.simulate operator s3:GetObject 'arn:aws:s3:::BUCKET/*'
    """
    from iampolicy.account.snapshot import read
    from ops.core.aws.account import Account
    from ops.core.settings import load
    from ops.iam.roles import expand_known
    from ops.iam.simulate import (
        compare_with_aws,
        describe_simulation,
        format_decision,
        format_reasons,
        read_offline,
        simulate_request,
    )

    if sum(map(bool, (remote, files, snapshot))) > 1:
        raise OpsError("--remote, --files and --snapshot cannot be combined: give one of them.")
    account = None if files or snapshot else Account.from_context(c, "auditor")
    settings = account.settings if account else load(c.config)
    have = read(account) if account else read_offline(settings, snapshot)
    request = (expand_known(principal, settings), action, expand_known(resource, settings))
    found = simulate_request(settings, have, account, request, [expand_known(one, settings) for one in context or []])
    text = [*format_decision(found), *format_reasons(found, explain)]
    data, code = describe_simulation(found), {"allowed": 0, "unknown": FINDINGS}.get(found.verdict, DENIED)
    if remote and account:
        theirs, line = compare_with_aws(account, found.principal, found.asked, found.keys)
        text, data, code = [*text, line], data | {"remote": theirs}, code if theirs["agree"] else FAILED
    return Result(data, "\n".join(filter(None, text)), code=code)

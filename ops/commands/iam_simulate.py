"""The command iam.simulate: may this principal do this?"""

from __future__ import annotations

from invoke import Context

from ops.core.errors import DENIED, FAILED, OpsError
from ops.core.task import Result, task


@task(
    iterable=["context"],
    help={
        "principal": "A role of iam_policies/ (operator), a role or user of the account, or an ARN.",
        "action": "Such as s3:GetObject.",
        "resource": "An ARN, or *.",
        "context": "A condition key, key=value; again for more keys, or for more values of one.",
        "explain": "Layer by layer: what was looked at, what came near, which keys are missing.",
        "remote": "Ask AWS's own simulator too; exit 1 when it decides otherwise.",
        "files": "Ask iam_policies/ as if applied, not the account.",
        "snapshot": "Ask a file that holds what aws iam get-account-authorization-details printed.",
        "json": "Print the decision as JSON.",
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
    """Say whether a principal may do something, by which statement, or what is lacking."""
    from iampolicy.account.snapshot import read
    from iampolicy.explain.simulation import describe_layers, format_verdict
    from ops.core.aws.account import Account
    from ops.core.settings import load
    from ops.iam.roles import expand_known
    from ops.iam.simulate import compare_with_aws, describe_simulation, format_hint, read_offline, simulate_request

    if sum(map(bool, (remote, files, snapshot))) > 1:
        raise OpsError("--remote, --files and --snapshot are about different accounts: give one of them.")
    account = None if files or snapshot else Account.from_context(c, "auditor")
    settings = account.settings if account else load(c.config)
    have = read(account) if account else read_offline(settings, snapshot)
    words = (expand_known(principal, settings), action, expand_known(resource, settings))
    found = simulate_request(settings, have, account, words, [expand_known(one, settings) for one in context or []])
    text = [format_verdict(found.decision), *found.notes]
    text += (
        ["  " + one for one in describe_layers(found.asked, found.decision, found.keys)]
        if explain
        else [format_hint(found)]
    )
    data, code = describe_simulation(found), 0 if found.decision.allowed else DENIED
    if remote and account:
        theirs, line = compare_with_aws(account, found.principal, found.asked, found.keys)
        text, data, code = [*text, line], data | {"remote": theirs}, code if theirs["agree"] else FAILED
    return Result(data, "\n".join(filter(None, text)), code=code)

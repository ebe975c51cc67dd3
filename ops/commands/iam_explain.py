"""The command iam.explain."""

from __future__ import annotations

from invoke import Context

from ops.core.errors import FINDINGS, OpsError
from ops.core.task import Result, task


@task(
    iterable=["context"],
    help={
        "text": "The complete error message, @FILE, or - for standard input.",
        "principal": "Caller, if the message does not name it: a role of iam_policies/, a name or an ARN.",
        "action": "Action, if the message does not name it, such as s3:GetObject.",
        "resource": "ARN of the resource, if the message does not name it; for Lambda the function's role.",
        "context": "Condition key of the request as KEY=VALUE; repeatable.",
        "json": "Print the result as JSON.",
    },
)
def explain(
    c: Context,
    text: str,
    principal: str = "",
    action: str = "",
    resource: str = "",
    context: list[str] | None = None,
    json: bool = False,
) -> Result:
    """Explain an access-denied error and print the smallest change that fixes it.

    Names the policy that denied the call, or the one that lacks a statement.
    Exit code 7 if the call is still denied, or if the account cannot be read, so
    that iam_policies/ is explained instead.

    Example: invoke iam.explain @FILE
    """
    from iampolicy.explain import diagnosis, error_parser, simulation
    from ops.core.aws.account import Account
    from ops.core.settings import load
    from ops.iam.explain import add_flags, build_explanation_data, format_explanation, gather_evidence, read_error_text
    from ops.iam.roles import expand_known

    settings = load(c.config)
    principal, resource, *pairs = (expand_known(one, settings) for one in (principal, resource, *(context or [])))
    denial = error_parser.parse(expand_known(read_error_text(text), settings))
    if not denial:
        raise OpsError(
            "Not a recognised access-denied error. Paste the whole message, or run: invoke iam.simulate PRINCIPAL ACTION RESOURCE"
        )
    evidence, folders = gather_evidence(Account.from_context(c, "auditor"), settings)
    denial = add_flags(denial, evidence, principal, action, resource, simulation.parse_context_flags(pairs))
    found = diagnosis.explain_denial(denial, evidence)
    data, lines = build_explanation_data(found, evidence, folders), format_explanation(found, evidence, folders)
    return Result(data, lines, code=FINDINGS if found.denied or evidence.by_files else 0)

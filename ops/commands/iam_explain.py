"""The command iam.explain: why was that denied?"""

from __future__ import annotations

from invoke import Context

from ops.core.errors import FINDINGS, OpsError
from ops.core.task import Result, task


@task(
    iterable=["context"],
    help={
        "text": "The error as it was printed; @FILE for a file that holds it, - for standard input.",
        "principal": "Who asked, where the text does not say: a role of iam_policies/, a name, an ARN.",
        "action": "What was asked for, where the text does not say.",
        "resource": "Of what, where the text does not say; for Lambda the function's role.",
        "context": "A condition key of the request, key=value; again for more.",
        "json": "Print the explanation as JSON.",
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
    """Say which hop of a denied call failed, by which policy, and the smallest change that mends it."""
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
            "This is no denial that is known here. Paste all of it, or ask: invoke iam.simulate PRINCIPAL ACTION RESOURCE"
        )
    evidence, folders = gather_evidence(Account.from_context(c, "auditor"), settings)
    denial = add_flags(denial, evidence, principal, action, resource, simulation.parse_context_flags(pairs))
    found = diagnosis.explain_denial(denial, evidence)
    data, lines = build_explanation_data(found, folders), format_explanation(found, evidence, folders)
    return Result(data, lines, code=FINDINGS if found.denied else 0)

"""The command evidence: one page of what the stack is, from the answers of its commands."""

from __future__ import annotations

from contextlib import redirect_stderr
from io import StringIO

from invoke import Context

from ops.core.errors import FINDINGS
from ops.core.output import say
from ops.core.task import Result, read_result, task


@task(
    help={
        "redacted": "Remove account numbers, addresses and keys, for a page that others read.",
        "json": "Print the result as JSON.",
    }
)
def evidence(c: Context, redacted: bool = False, json: bool = False) -> Result:
    """Write one page of evidence: what the stack runs, answers, allows and costs.

    An HTML page and a JSON file, each part with its command, time and digest.
    Sends three test pictures to the function. Exit code 7 if a part is missing.

    Example: invoke evidence --redacted
    """
    from ops.core.aws.account import Account
    from ops.reports import drawing

    if c.config.run.dry:
        commands = drawing.list_evidence_commands()
        return Result(commands, "\n".join(commands))
    account = Account.from_context(c)
    account.guard()

    def read(command: str) -> Result:
        with redirect_stderr(StringIO()):  # the answer is what counts, not the progress
            return read_result(c, command)

    made = drawing.write_evidence(read, account.settings, redacted)
    for record in made.missing:
        say(f"Missing: {record.title}: {record.problem}")
    parts, missing = len(made.records), [record.title for record in made.missing]
    text = f"{made.page}\n{made.json}\n{parts - len(missing)} of {parts} parts have an answer."
    data = {"page": made.page, "json": made.json, "parts": parts, "missing": missing}
    return Result(data, text, code=FINDINGS if missing else 0)

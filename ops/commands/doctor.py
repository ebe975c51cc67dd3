"""The command doctor: check the prerequisites of all other commands."""

from __future__ import annotations

from invoke import Context

from ops.core.errors import FAILED
from ops.core.output import format_table
from ops.core.task import Result, task


@task(help={"json": "Print the result as JSON."})
def doctor(c: Context, json: bool = False) -> Result:
    """Check credentials, account, region, roles, image, logs, limits and disk.

    Prints how to fix each check that fails; exit code 1 if one does. "later" is
    no failure: it does not exist yet, or could not be looked at.

    Example: invoke doctor
    """
    from dataclasses import asdict

    from ops.core.settings import load
    from ops.stack import checks

    found = list(checks.check_prerequisites(load(c.config)))
    rows = [(check.state, check.name, check.found, check.fix if check.state != "ok" else "") for check in found]
    failed = [check for check in found if not check.ok]
    text = format_table(("", "check", "found", "next"), rows) + "\n" + checks.summarise(found)
    return Result([asdict(check) for check in found], text, code=FAILED if failed else 0)

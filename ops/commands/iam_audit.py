"""The command iam.audit."""

from __future__ import annotations

import time

from invoke import Context

from ops.core.errors import FINDINGS, OpsError
from ops.core.output import say
from ops.core.task import Result, task


@task(
    help={
        "snapshot": "A file of --save, or of aws iam get-account-authorization-details, in place of the account.",
        "files": "iam_policies/ as if it were applied, in place of the account.",
        "fail_on": "critical, high, medium, low or info: exit 7 at this severity and above.",
        "json": "Print the findings as JSON.",
        "save": "Keep what was read in this file, without key ids and secrets.",
        "exposure": "Do not look at the stack's bucket, function and network.",
        "usage": "Ask which services the stack's roles used: two calls a role, and seconds.",
    }
)
def audit(
    c: Context,
    snapshot: str = "",
    files: bool = False,
    fail_on: str = "high",
    json: bool = False,
    save: str = "",
    exposure: bool = True,
    usage: bool = False,
) -> Result:
    """Find rights that are too wide, roles that anyone may take, what is unused, and drift."""
    from iampolicy.audit.engine import pause_garbage_collection
    from iampolicy.finding import SEVERITIES
    from ops.core.aws.account import Account
    from ops.core.settings import load
    from ops.iam import waivers
    from ops.iam.audit import audit_with_waivers, count_findings, format_findings, read_account, read_file, read_folder

    began = time.monotonic()
    if fail_on not in SEVERITIES:
        raise OpsError(f"--fail-on takes one of {', '.join(SEVERITIES)}, not {fail_on!r}.")
    if (snapshot or files) and (save or usage or (snapshot and files)):
        raise OpsError("--save and --usage ask the account, --snapshot and --files do not: give one of these alone.")
    with pause_garbage_collection():
        if snapshot:
            source = read_file(load(c.config), snapshot)
        elif files:
            source = read_folder(load(c.config))
        else:
            source = read_account(Account.from_context_or_profile(c, "auditor"), save, exposure, usage)
        accepted = waivers.read_waivers(source.settings)
        found = audit_with_waivers(
            source.snapshot, source.settings, wanted=source.wanted, facts=source.facts, waivers=accepted
        )
    seconds = time.monotonic() - began
    counted, (for_iam, for_rest) = count_findings(source, found), source.calls
    if not json:
        say(
            f"{source.name}: {counted} ({for_iam + for_rest} calls: {for_iam} for IAM, {for_rest} for bucket, "
            f"function and network; {seconds:.1f} s)"
        )
    failing = SEVERITIES[: SEVERITIES.index(fail_on) + 1]
    left = [f for f in found if not f.waived]
    shown = [f for f in left if f.severity != "info" or "info" in failing]
    data = {"findings": [f.data for f in found], "calls": for_iam + for_rest, "seconds": round(seconds, 3)}
    code = FINDINGS if any(f.severity in failing for f in left) else 0
    return Result(data, "" if json else format_findings(shown, counted, source.snapshot), code=code)

"""The command iam.audit."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from invoke import Context

from ops.core.errors import FINDINGS, OpsError
from ops.core.output import say
from ops.core.task import Result, task

if TYPE_CHECKING:
    from ops.iam.audit import AuditSource


@task(
    help={
        "snapshot": "Audit this file, from --save or aws iam get-account-authorization-details, not the account.",
        "files": "Audit iam_policies/ as if applied, not the account.",
        "fail_on": "Lowest severity that fails: critical, high, medium, low or info (default: high).",
        "json": "Print the result as JSON.",
        "save": "File to save the account data to, without key IDs and secrets.",
        "exposure": "Audit the stack's bucket, function and network too (default); --no-exposure skips them.",
        "sarif": "File to write the findings to, as SARIF 2.1.0 for code scanning.",
        "usage": "Also report services that the stack's roles never used; takes two calls per role.",
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
    sarif: str = "",
) -> Result:
    """Audit IAM for excessive permissions, escalation paths, open trust and drift.

    Exit code 7 if a finding has the severity of --fail-on or a higher one.

    Example: invoke iam.audit --fail-on medium
    """
    from iampolicy.audit.engine import pause_garbage_collection
    from iampolicy.finding import SEVERITIES
    from ops.iam import waivers
    from ops.iam.audit import audit_with_waivers, count_findings, format_findings
    from ops.iam.sarif import write_sarif

    began = time.monotonic()
    if fail_on not in SEVERITIES:
        raise OpsError(
            f"--fail-on must be one of {', '.join(SEVERITIES)}, not {fail_on!r}. See: invoke --help iam.audit"
        )
    refuse_conflicting_flags(snapshot, files, bool(save or usage))
    with pause_garbage_collection():
        source = read_source(c, snapshot, files, save, exposure, usage)
        accepted = waivers.read_waivers(source.settings)
        found = audit_with_waivers(
            source.snapshot, source.settings, wanted=source.wanted, facts=source.facts, waivers=accepted
        )
    seconds = time.monotonic() - began
    counted, (for_iam, for_rest) = count_findings(source, found), source.calls
    if not json:
        say(
            f"{source.name}: {counted} ({for_iam + for_rest} calls: {for_iam} to IAM, {for_rest} about bucket, "
            f"function and network; {seconds:.1f} s)"
        )
    if sarif:
        write_sarif(sarif, found, source.snapshot)
    failing = SEVERITIES[: SEVERITIES.index(fail_on) + 1]
    unwaived = [f for f in found if not f.waived]
    shown = [f for f in unwaived if f.severity != "info" or "info" in failing]
    data = {"findings": [f.data for f in found], "calls": for_iam + for_rest, "seconds": round(seconds, 3)}
    code = FINDINGS if any(f.severity in failing for f in unwaived) else 0
    return Result(data, "" if json else format_findings(shown, counted, source.snapshot), code=code)


def refuse_conflicting_flags(snapshot: str, files: bool, needs_account: bool) -> None:
    if (snapshot or files) and (needs_account or (snapshot and files)):
        raise OpsError(
            "--save and --usage need the account: omit --snapshot and --files, which cannot be combined either."
        )


def read_source(c: Context, snapshot: str, files: bool, save: str, exposure: bool, usage: bool) -> AuditSource:
    """Read what is audited: the file `snapshot`, iam_policies/ with `files`, or else the account."""
    from ops.core.aws.account import Account
    from ops.core.settings import load
    from ops.iam.audit import read_account, read_file, read_folder

    if snapshot:
        return read_file(load(c.config), snapshot)
    if files:
        return read_folder(load(c.config))
    return read_account(Account.from_context_or_profile(c, "auditor"), save, exposure, usage)

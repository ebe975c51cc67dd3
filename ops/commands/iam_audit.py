"""The command iam.audit."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ops.core.aws.account import Account
from ops.core.errors import FINDINGS, OpsError
from ops.core.output import say, table
from ops.core.task import Result, task

if TYPE_CHECKING:
    import invoke

    from iampolicy.account.snapshot import Snapshot
    from iampolicy.audit.account_facts import Extras
    from iampolicy.finding import Finding
    from ops.core.settings import Settings
    from ops.iam.roles import Wanted

ADMIN = "IAM-ADMIN-001"
WAY = "IAM-PRIVESC-"
WAYS_SHOWN = 5  # of one principal and severity, one by one
SHOWN = 200  # rows that a person may read; --json has all


@dataclass(frozen=True)
class Source:
    """What is audited, and against what. `calls` are those for IAM, and those for what of the stack the world can reach."""

    name: str
    snapshot: Snapshot
    settings: Settings
    wanted: list[Wanted] | None = None
    extras: Extras | None = None
    calls: tuple[int, int] = (0, 0)


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
def audit(c, snapshot="", files=False, fail_on="high", json=False, save="", exposure=True, usage=False):
    """Find rights that are too wide, roles that anyone may take, what is unused, and drift."""
    from iampolicy.audit import engine
    from iampolicy.finding import SEVERITIES
    from ops.iam import waivers

    began = time.monotonic()
    if fail_on not in SEVERITIES:
        raise OpsError(f"--fail-on takes one of {', '.join(SEVERITIES)}, not {fail_on!r}.")
    if (snapshot or files) and (save or usage or (snapshot and files)):
        raise OpsError("--save and --usage ask the account, --snapshot and --files do not: give one of these alone.")
    with engine.uncollected():
        source = (
            from_file(c, snapshot) if snapshot else from_folder(c) if files else from_account(c, save, exposure, usage)
        )
        accepted = waivers.read(source.settings)
        found = engine.audited(
            source.snapshot, settings=source.settings, wanted=source.wanted, extras=source.extras, waivers=accepted
        )
    return answer(source, found, SEVERITIES[: SEVERITIES.index(fail_on) + 1], time.monotonic() - began, json)


def from_account(c: invoke.Context, save: str, exposure: bool, usage: bool) -> Source:
    from iampolicy.account import snapshot
    from iampolicy.audit import account_facts
    from ops.iam import collect, roles

    account = Account.from_context_or_profile(c, "auditor")
    settings, before = account.settings, Account.sent
    pages = list(snapshot.pages(account))
    have = snapshot.parsed(pages)
    same_account(have, settings)
    raw = collect.gather(account, have, usage)
    for_iam = Account.sent - before
    if exposure:
        raw |= collect.exposed(account)
    if save:
        from pathlib import Path

        from iampolicy.account import snapshot_file

        snapshot_file.save(Path(save), pages, raw, settings.aws.account)
        say(f"Kept in {save}: audit it again with --snapshot {save}")
    calls = (for_iam, Account.sent - before - for_iam)
    return Source("the account", have, settings, roles.wanted(settings), account_facts.parsed(raw), calls)


def same_account(have: Snapshot, settings: Settings) -> None:
    """Raises OpsError when what was read is another account's, whose roles nobody here has described."""
    found = {p.caller.account for p in have.principals()} - {""}
    if found and settings.aws.account not in found:
        raise OpsError(
            f"The settings are for account {settings.aws.account}, but profile {settings.aws.profile!r} reads {', '.join(sorted(found))}. "
            "Take the settings file of that account: invoke -f FILE iam.audit"
        )


def from_file(c: invoke.Context, file: str) -> Source:
    """Held against iam_policies/ only if it is of the settings' account and has roles of the stack."""
    from pathlib import Path

    from iampolicy.account import snapshot_file
    from iampolicy.audit import account_facts
    from ops.core import settings as config
    from ops.iam import roles

    settings = config.load(c.config)
    have, raw = snapshot_file.load(Path(file))
    ours = any(p.caller.account == settings.aws.account and p.path == settings.role_path for p in have.roles.values())
    if not ours:
        say(
            f"{file} has no role of stack {settings.stack.name!r} in account {settings.aws.account}: not held against iam_policies/."
        )
    wanted = roles.wanted(settings) if ours else None
    return Source(file, have, settings, wanted, None if raw is None else account_facts.parsed(raw))


def from_folder(c: invoke.Context) -> Source:
    from ops.core import settings as config
    from ops.core.settings import ROLES
    from ops.iam import roles

    settings = config.load(c.config)
    have = roles.applied(roles.wanted(settings), settings)
    return Source(f"{ROLES}/", have, settings)


def answer(source: Source, found: list[Finding], failing: tuple[str, ...], seconds: float, json: bool) -> Result:
    left = [f for f in found if not f.waived]
    counts = Counter(f.severity for f in left)
    told = ", ".join(f"{n} {severity}" for severity, n in counts.items()) or "nothing found"
    waived = f", {len(found) - len(left)} waived" if len(left) < len(found) else ""
    for_iam, for_rest = source.calls
    have = source.snapshot
    counted = f"{len(have.roles)} roles and {len(have.users)} users: {told}{waived}"
    summary = (
        f"{source.name}: {counted} ({for_iam + for_rest} calls: {for_iam} for IAM, {for_rest} for bucket, "
        f"function and network; {seconds:.1f} s)"
    )
    if not json:
        say(summary)
    told_of = [f for f in left if f.severity != "info" or "info" in failing]
    data = {"findings": [f.data for f in found], "calls": for_iam + for_rest, "seconds": round(seconds, 3)}
    code = FINDINGS if any(f.severity in failing for f in left) else 0
    return Result(data, "" if json else shown(told_of, counted, source.snapshot), code=code)


def folded(found: list[Finding]) -> tuple[list[Finding], dict[Finding, int]]:
    """The findings, of many ways of one principal to more rights the first of each severity alone; and for how many more it stands."""
    ways: dict[tuple[str, str], list[Finding]] = {}
    for f in found:
        if f.rule.startswith(WAY):
            ways.setdefault((f.principal, f.severity), []).append(f)
    alike = {first: len(rest) for first, *rest in ways.values() if len(rest) >= WAYS_SHOWN}
    hidden = {f for first, *rest in ways.values() if first in alike for f in rest}
    return [f for f in found if f not in hidden], alike


def shown(found: list[Finding], counted: str, have: Snapshot) -> str:
    """A row each, and the count; what follows from being an administrator is counted in the administrator's row, not told again."""
    from ops.iam.source_lines import place
    from ops.iam.waivers import FOLLOWS

    everything = {f.principal for f in found if f.rule == ADMIN and f.severity == "critical"}
    left = [f for f in found if f.rule == ADMIN or f.principal not in everything or not f.rule.startswith(FOLLOWS)]
    follows = Counter(f.principal for f in found) - Counter(f.principal for f in left)
    left, alike = folded(left)
    rows: list[tuple[Any, ...]] = []
    for f in left[:SHOWN]:
        more = follows.pop(f.principal, 0) if f.rule == ADMIN else 0
        message = f"{f.message} (and {more} findings that follow: --json)" if more else f.message
        message += f" (and {alike[f]} more ways to more rights: --json)" if f in alike else ""
        where = place(f, have) or " ".join(filter(None, (f.policy.rsplit("/", 1)[-1], f.statement)))
        rows.append((f.severity, f.rule, f.principal, where, message, f.fix))
    lines = [table(("severity", "rule", "principal", "policy", "what", "fix"), rows)] if rows else []
    lines += [f"... and {len(left) - SHOWN} more: --json"] if len(left) > SHOWN else []
    return "\n".join([*lines, counted])

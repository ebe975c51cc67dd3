"""The audit in the context of this repository: drift against iam_policies/, waivers, and the file and line of a finding."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from iampolicy.account import snapshot as account_snapshot
from iampolicy.account import snapshot_file
from iampolicy.account.snapshot import Snapshot
from iampolicy.audit import account_facts, engine
from iampolicy.audit.account_facts import AccountFacts
from iampolicy.audit.context import find_account_number, format_shortlist
from iampolicy.finding import Finding, sort_by_severity
from ops.core.aws.account import Account
from ops.core.errors import OpsError
from ops.core.output import format_table, say
from ops.core.settings import ROLES, Settings
from ops.iam import collect, drift, roles, source_lines
from ops.iam.roles import Wanted
from ops.iam.waivers import FOLLOWS, Waiver, apply_waivers

ADMIN = "IAM-ADMIN-001"
ESCALATION = "IAM-PRIVESC-"
PATHS_SHOWN = 5  # escalation paths of one principal and severity; more are folded into one row
PRINCIPALS_SHOWN = 6  # of equal findings in one row; --json has all
SHOWN = 200  # rows that are printed; --json has all


@dataclass(frozen=True)
class AuditSource:
    """The snapshot that is audited, and what it is compared with. `calls` counts AWS calls: for IAM, and for the stack's exposure."""

    name: str
    snapshot: Snapshot
    settings: Settings
    wanted: list[Wanted] | None = None
    facts: AccountFacts | None = None
    calls: tuple[int, int] = (0, 0)


def audit_with_waivers(
    snapshot: Snapshot,
    settings: Settings,
    *,
    wanted: list[Wanted] | None = None,
    facts: AccountFacts | None = None,
    waivers: Iterable[Waiver] = (),
    now: datetime | None = None,
    only: frozenset[str] | None = None,
) -> list[Finding]:
    """Return all findings, worst first; a waived one has its waiver's reason. Without `wanted`, iam_policies/ is not compared.

    With `only`, examine just these principals: chains that lead through others are then not followed.
    """
    now = now or datetime.now(UTC)
    options = engine.AuditOptions(facts or AccountFacts(), now, only, settings.aws.region)
    found = engine.run_audit(snapshot, options)
    if wanted is not None:
        found += drift.findings(snapshot, wanted, settings)
    skipped: tuple[str, ...] = ("IAM-",)  # without facts and folder no waiver can be called stale
    if facts:
        skipped = facts.rules_without_facts + (("IAM-DRIFT",) if wanted is None else ())
    arns, account = engine.map_arns_by_name(snapshot), find_account_number(snapshot)
    return sort_by_severity(apply_waivers(found, waivers, arns, now.date(), account, skipped))


def read_account(account: Account, save: str, exposure: bool, usage: bool) -> AuditSource:
    """Read the account and the facts that the rules need; with `save`, write them to that file."""
    settings, before = account.settings, Account.sent
    pages = list(account_snapshot.read_detail_pages(account))
    have = account_snapshot.parse_snapshot(pages)
    refuse_other_account(have, settings)
    raw = collect.collect_iam_facts(account, have, usage)
    for_iam = Account.sent - before
    if exposure:
        raw |= collect.collect_exposure(account)
    if save:
        snapshot_file.save_snapshot(Path(save), pages, raw, settings.aws.account)
        say(f"Snapshot saved to {save}. Audit it again: invoke iam.audit --snapshot {save}")
    calls = (for_iam, Account.sent - before - for_iam)
    return AuditSource("the account", have, settings, roles.read_roles(settings), account_facts.parse(raw), calls)


def refuse_other_account(have: Snapshot, settings: Settings) -> None:
    """Raise OpsError when the snapshot is of another account, whose roles iam_policies/ does not describe."""
    found = {p.caller.account for p in have.principals()} - {""}
    if found and settings.aws.account not in found:
        raise OpsError(
            f"The settings are for account {settings.aws.account}, but profile {settings.aws.profile!r} reads {', '.join(sorted(found))}. "
            "Use the settings file of that account: invoke -f FILE iam.audit"
        )


def read_file(settings: Settings, file: str) -> AuditSource:
    """Read a snapshot; it is compared with iam_policies/ only if it is of the settings' account and has roles of the stack."""
    have, raw = snapshot_file.load_snapshot(Path(file))
    ours = any(p.caller.account == settings.aws.account and p.path == settings.role_path for p in have.roles.values())
    if not ours:
        say(
            f"{file} has no role of stack {settings.stack.name!r} in account {settings.aws.account}: it is not compared with iam_policies/."
        )
    wanted = roles.read_roles(settings) if ours else None
    return AuditSource(file, have, settings, wanted, None if raw is None else account_facts.parse(raw))


def read_folder(settings: Settings) -> AuditSource:
    """Return the folder as if it were applied."""
    have = roles.build_applied_snapshot(roles.read_roles(settings), settings)
    return AuditSource(f"{ROLES}/", have, settings)


def count_findings(source: AuditSource, found: list[Finding]) -> str:
    left = [f for f in found if not f.waived]
    counts = Counter(f.severity for f in left)
    by_severity = ", ".join(f"{n} {severity}" for severity, n in counts.items()) or "no findings"
    waived = f", {len(found) - len(left)} waived (with their reasons: --json)" if len(left) < len(found) else ""
    have = source.snapshot
    roles_and_users = " and ".join(
        f"{n} {noun}{'s' * (n != 1)}" for n, noun in ((len(have.roles), "role"), (len(have.users), "user"))
    )
    return f"{roles_and_users}: {by_severity}{waived}"


def fold_paths(found: list[Finding]) -> tuple[list[Finding], dict[Finding, int]]:
    """Return the findings, with many escalation paths of one principal and severity reduced to the first, and how many more it stands for."""
    paths: dict[tuple[str, str], list[Finding]] = {}
    for f in found:
        if f.rule.startswith(ESCALATION):
            paths.setdefault((f.principal, f.severity), []).append(f)
    alike = {first: len(rest) for first, *rest in paths.values() if len(rest) >= PATHS_SHOWN}
    hidden = {f for first, *rest in paths.values() if first in alike for f in rest}
    return [f for f in found if f not in hidden], alike


def group_equal_findings(found: list[Finding]) -> list[list[Finding]]:
    """Return the findings in groups that differ only in principal and policy, in the order of their first ones."""
    groups: dict[tuple[str, str, str, str], list[Finding]] = {}
    for f in found:
        groups.setdefault((f.severity, f.rule, f.message, f.fix), []).append(f)
    return list(groups.values())


def format_findings(found: list[Finding], counted: str, have: Snapshot) -> str:
    """Return a row for each group of equal findings, and the count; an administrator's row counts the findings that follow from it."""
    everything = {f.principal for f in found if f.rule == ADMIN and f.severity == "critical"}
    left = [f for f in found if f.rule == ADMIN or f.principal not in everything or not f.rule.startswith(FOLLOWS)]
    follows = Counter(f.principal for f in found) - Counter(f.principal for f in left)
    left, alike = fold_paths(left)
    rows: list[tuple[Any, ...]] = []
    groups = group_equal_findings(left)
    for f, *others in groups[:SHOWN]:
        more = sum(follows.pop(one.principal, 0) for one in (f, *others) if one.rule == ADMIN)
        message = f"{f.message} (and {more} findings that follow: --json)" if more else f.message
        message += f" (and {alike[f]} more escalation paths: --json)" if f in alike else ""
        who = format_shortlist(list(dict.fromkeys(one.principal for one in (f, *others))), PRINCIPALS_SHOWN)
        where = format_shortlist(list(dict.fromkeys(locate(one, have) for one in (f, *others))), PRINCIPALS_SHOWN)
        rows.append((f.severity, f.rule, who, where, message, f.fix))
    lines = [format_table(("severity", "rule", "principal", "policy", "finding", "fix"), rows)] if rows else []
    lines += [f"... and {len(groups) - SHOWN} more: --json"] if len(groups) > SHOWN else []
    return "\n".join([*lines, counted])


def locate(finding: Finding, have: Snapshot) -> str:
    """Return file and line of a finding about iam_policies/, else the policy and statement."""
    names = (finding.policy.rsplit("/", 1)[-1], finding.statement)
    return source_lines.locate_finding(finding, have) or " ".join(filter(None, names))

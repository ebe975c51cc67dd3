"""The drift findings: where the account differs in meaning from iam_policies/."""

from __future__ import annotations

from collections.abc import Iterator

from iampolicy.account.snapshot import Snapshot
from iampolicy.audit.context import format_shortlist
from iampolicy.finding import Finding
from ops.core.settings import ROLES, Settings
from ops.iam.diff import Difference, find_differences
from ops.iam.roles import Wanted, build_applied_snapshot

APPLY = "see all differences: invoke iam.diff; then what would change: invoke --dry iam.apply"
FIXES = {"leaves": f"delete it, or add it to {ROLES}/", "role": "invoke iam.apply"}


def findings(have: Snapshot, wanted: list[Wanted], settings: Settings) -> Iterator[Finding]:
    """Yield a finding for each role and kind: IAM-DRIFT-001 is about policies' statements, 002 about everything else."""
    kinds: dict[tuple[str, str, str], list[Difference]] = {}
    for one in find_differences(have, build_applied_snapshot(wanted, settings), settings):
        kinds.setdefault((choose_rule(one), one.role, one.kind), []).append(one)
    for (name, role, kind), found in kinds.items():
        leaves = found[0].apply == "leaves"
        message = (
            format_shortlist([one.text for one in found], 2)
            if not leaves
            else f"exists under the stack's path, but not in {ROLES}/"
        )
        who = role or format_shortlist(
            [p.name for p in have.policies.values() if any(f"policy {p.name}," in one.text for one in found)]
        )
        fix = FIXES["leaves"] if leaves else FIXES.get(kind, APPLY)
        yield Finding(name, "high" if name == "IAM-DRIFT-001" else "medium", who, message, fix)


def choose_rule(one: Difference) -> str:
    """Return the rule: 001 when the statements of permissions or boundary differ, 002 for everything else."""
    return "IAM-DRIFT-001" if one.grant and one.kind in ("permissions", "boundary") else "IAM-DRIFT-002"

"""The file and line in iam_policies/ that a finding is about."""

from __future__ import annotations

from iampolicy.account.snapshot import Snapshot
from iampolicy.finding import Finding
from iampolicy.policy.document import Policy


def locate_finding(finding: Finding, have: Snapshot) -> str:
    """Return a place such as operator/permissions.json:12; "" if the policy is missing or does not come from the folder.

    `have` is the account as the folder describes it.
    """
    policy = find_policy(finding, have)
    if policy is None or policy.source is None:
        return ""
    return f"{policy.source.name}:{policy.line(finding.statement, finding.element)}"


def find_policy(finding: Finding, have: Snapshot) -> Policy | None:
    name = finding.policy.rsplit("/", 1)[-1]
    if name == "trust":
        role = have.roles.get(finding.principal)
        return role.trust if role else None
    return next((one.policy for one in have.policies.values() if one.name == name), None)

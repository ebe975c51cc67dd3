"""The finding: what the audit reports about one principal, and its severity."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

SEVERITIES = ("critical", "high", "medium", "low", "info")


@dataclass(frozen=True)
class Finding:
    """A finding: `policy`, `statement` and `element` locate the fault; `path` has the steps of an escalation path.

    `waived` is the reason of the waiver that covers the finding, or "".
    """

    rule: str
    severity: str
    principal: str
    message: str
    fix: str
    policy: str = ""
    statement: str = ""
    path: tuple[str, ...] = ()
    waived: str = ""
    element: str = ""

    def format_line(self, where: str = "") -> str:
        """Return the finding in one line, with the place of its text or else the principal."""
        return f"{self.severity} {self.rule} {where or self.principal}: {self.message}; {self.fix}"

    @property
    def data(self) -> dict[str, Any]:
        """Return the finding as --json prints it."""
        data = asdict(self) | {"waived": self.waived or False, "path": list(self.path)}
        del data["element"]  # It only locates a line in a policy file; an account's policies have no lines.
        return data


def sort_by_severity(found: list[Finding]) -> list[Finding]:
    return sorted(found, key=lambda f: (SEVERITIES.index(f.severity), f.principal, f.rule, f.message))

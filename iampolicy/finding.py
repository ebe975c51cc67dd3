"""What the audit says of one principal, and how bad it is."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

SEVERITIES = ("critical", "high", "medium", "low", "info")


@dataclass(frozen=True)
class Finding:
    """`policy`, `statement` and `element` name the text at fault, `path` the steps from the principal to what it could gain.

    `waived` is the reason of the waiver that covers it, or "".
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

    def told(self, where: str = "") -> str:
        """In a line, by where its text stands or else by whom it is about."""
        return f"{self.severity} {self.rule} {where or self.principal}: {self.message}; {self.fix}"

    @property
    def data(self) -> dict[str, Any]:
        """As --json gives it."""
        told = asdict(self) | {"waived": self.waived or False, "path": list(self.path)}
        del told["element"]  # says where in the folder's file to look; an account has no lines
        return told


def sort_by_severity(found: list[Finding]) -> list[Finding]:
    return sorted(found, key=lambda f: (SEVERITIES.index(f.severity), f.principal, f.rule, f.message))

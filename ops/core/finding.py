"""The finding of a check: its severity, what is wrong, and the fix. iampolicy has a `Finding` of its own, about policies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = get_args(Severity)  # the worst first


@dataclass(frozen=True)
class Finding:
    """A finding. `fix` is the command or step that helps, or ""; `kind` and `where` are for checks of many items."""

    severity: Severity
    message: str
    fix: str = ""
    kind: str = ""
    where: str = ""

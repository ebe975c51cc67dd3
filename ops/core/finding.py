"""What a check reports: how bad it is, what is wrong, and what helps. iampolicy has a `Finding` of its own, about policies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = get_args(Severity)  # the worst first


@dataclass(frozen=True)
class Finding:
    """`fix` is the command or the step that helps, "" where there is none. `kind` and `where` are for checks of many things."""

    severity: Severity
    message: str
    fix: str = ""
    kind: str = ""
    where: str = ""

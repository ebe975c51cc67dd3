"""What changed the stack, from the audit log of this machine: each change with its outcome, by the run of a command that made it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Any

from ops.core.audit_log import Entry

OPEN = "no outcome"  # the command ended between the two lines, or has not ended yet


@dataclass(frozen=True)
class MadeChange:
    """A change. `outcome` is done, "failed: ..." or OPEN; `run` and `caller` are "" for a change that an older Kennel logged."""

    time: str
    run: str
    command: str
    caller: str
    call: str
    why: str
    args: Any
    outcome: str
    request: str = ""
    because: str = ""


def read_changes(entries: Iterable[Entry], stack: str) -> list[MadeChange]:
    """Return the stack's changes in the order in which they began. Entries that are no change are left out."""
    begun: dict[int, Entry] = {}
    ended: dict[int, Entry] = {}
    waiting: dict[str, list[int]] = {}
    for number, entry in enumerate(entries):
        if entry.get("stack") != stack or not {"time", "outcome", "call"} <= entry.keys():
            continue
        same = json.dumps([entry.get(name) for name in ("pid", "run", "call", "why", "args")], default=str)
        if entry["outcome"] == "begin":
            begun[number] = entry
            waiting.setdefault(same, []).append(number)
        elif waiting.get(same):
            ended[waiting[same].pop(0)] = entry
    return [build_change(entry, ended.get(number)) for number, entry in begun.items()]


def build_change(begun: Entry, ended: Entry | None) -> MadeChange:
    texts = {name: str(begun.get(name, "")) for name in ("time", "run", "command", "caller", "call", "why", "because")}
    end = ended or {"outcome": OPEN}
    return MadeChange(**texts, args=begun.get("args"), outcome=str(end["outcome"]), request=str(end.get("request", "")))


def select_changes(
    changes: Iterable[MadeChange], minutes: int = 0, resource: str = "", run: str = ""
) -> list[MadeChange]:
    """Return the changes of the last `minutes` (0: of all time), of runs whose id begins with `run`, that name `resource`."""
    since = (datetime.now(UTC) - timedelta(minutes=minutes)).isoformat() if minutes else ""
    wanted = resource.casefold()
    return [
        one
        for one in changes
        if one.time >= since
        and one.run.startswith(run)
        and wanted in f"{one.call} {one.why} {json.dumps(one.args, default=str, ensure_ascii=False)}".casefold()
    ]


def format_changes(changes: Iterable[MadeChange]) -> str:
    return "\n".join(line for run, made in groupby(changes, key=describe_run) for line in format_run(run, list(made)))


def describe_run(one: MadeChange) -> str:
    """Return what the changes of a run have in common: the command, the run's id, the caller and the reason."""
    parts = [one.command or "an older Kennel", f"run {one.run}" if one.run else "", one.caller.rpartition(":")[2]]
    return ", ".join(filter(None, [*parts, f"because {one.because}" if one.because else ""]))


def format_run(run: str, made: list[MadeChange]) -> Iterator[str]:
    yield f"{made[0].time[:19].replace('T', ' ')} UTC  {run}"
    for one in made:
        mark = {"done": " ", OPEN: "?"}.get(one.outcome, "!")
        yield f"  {mark} {one.call}: {one.why}"
        if mark != " ":
            yield f"      {one.outcome}"

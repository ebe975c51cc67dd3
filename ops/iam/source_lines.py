"""Where in iam_policies/ the text stands that a finding is about: file and line."""

from __future__ import annotations

from pathlib import Path

from iampolicy.finding import Finding
from iampolicy.policy import json_source
from iampolicy.policy.document import listed
from ops.core.settings import Settings
from ops.iam.roles import FOLDER, policy_name


def files(settings: Settings, folder: Path = FOLDER) -> dict[str, Path]:
    """Each file by the name that its policy has in the account; a trust by `ROLE'S NAME trust`."""
    found = {}
    for path in folder.glob("*/*.json"):
        role, stem = path.parent.name, path.stem
        found[f"{settings.role_name(role)} trust" if stem == "trust" else policy_name(role, stem, settings)] = path
    return found


def place(one: Finding, files: dict[str, Path]) -> str:
    """operator/permissions.json:12, or "" where no file of the folder is at fault: a policy of another origin, a missing one."""
    name = one.policy.rsplit("/", 1)[-1]
    path = files.get(f"{one.principal} trust" if name == "trust" else name)
    if path is None:
        return ""
    text = json_source.text(path)
    at = json_source.lines(text)
    number = statement(json_source.parsed(text, json_source.shown(path)), one.statement)
    inside = (("Statement", number, one.element), ("Statement", one.element), ("Statement", number))
    there = (*inside, (one.element,), ("Statement",))
    return f"{json_source.shown(path)}:{next((at[where] for where in there if where in at), 1)}"


def statement(document: object, label: str) -> int:
    """The index of a statement that a finding names by its Sid or its number; -1 without one."""
    raw = listed(document.get("Statement", [])) if isinstance(document, dict) else []
    sids = [one.get("Sid") if isinstance(one, dict) else None for one in raw]
    if label in sids:
        return sids.index(label)
    number = label.removeprefix("statement ")
    return int(number) - 1 if number.isdigit() else -1

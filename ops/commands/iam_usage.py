"""What a run used, what of that a role needs, and the smallest policy that would do."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from ops.core.errors import FINDINGS, OpsError
from ops.core.output import say, table
from ops.core.task import Result, task

if TYPE_CHECKING:
    from ops.core.settings import Settings
    from ops.iam.usage import Asked, Use


@task(
    help={
        "role": "Only this role: a folder of iam_policies/.",
        "step": "Only what this command used, such as sm.deploy.",
        "denied": "Only what was denied.",
        "file": "Another record than that of the local AWS.",
        "json": "Print it as JSON.",
    },
)
def record(c, role="", step="", denied=False, file="", json=False):
    """Show which permissions the stack's roles used, by the local AWS's own record."""
    from ops.iam import roles

    settings = settings_of(c)
    roles.wanted(settings, only=role)  # a role that is no folder is refused
    name = settings.role_name(role) if role else ""
    found = [
        one
        for one in asked(settings, file)
        if name in ("", one.role) and step in ("", one.step) and not (denied and one.allowed)
    ]
    counted = Counter(
        (one.role.removeprefix(f"{settings.prefix}-"), one.step, one.action, one.allowed) for one in found
    )
    rows = [(r, s, a, "" if ok else "denied", n) for (r, s, a, ok), n in sorted(counted.items())]
    text = table(("role", "step", "action", "", "requests"), rows) if rows else "Nothing of that was asked."
    return Result([vars(one) for one in found], text)


@task(
    help={
        "role": "Only this role: a folder of iam_policies/.",
        "file": "Another record than that of the local AWS.",
        "all": "Show the needed ones too, with the command that needs each.",
        "json": "Print every action with what needs it, as JSON.",
    },
)
def needed(c, role="", file="", all=False, json=False):
    """Take each action of each role away in thought: what breaks? Exit 7 for one that nothing needs."""
    found = tally(settings_of(c), role, file)
    idle = [use for use in found if use.why == "nothing"]
    return Result([use.data for use in found], shown(found, all), code=FINDINGS if idle else 0)


@task(help={"file": "Another record than that of the local AWS."})
def suggest(c, role, file=""):
    """Print the smallest policy for what a role did, by the record; compare it with iam_policies/ROLE."""
    import json

    from ops.iam import roles, suggest

    settings = settings_of(c)
    mine = [one for one in asked(settings, file) if one.role == settings.role_name(role) and one.allowed]
    if not mine:
        raise OpsError(f"The record holds nothing of {settings.role_name(role)}. Run what it should do first.")
    policy = suggest.suggested([vars(one) for one in mine])
    if (size := len(roles.dumped(policy))) > roles.POLICY_CHARACTERS:
        say(f"{size:,} characters: AWS takes {roles.POLICY_CHARACTERS:,} a policy. Split it: permissions-2.json ...")
    return Result(policy, json.dumps(policy, indent=2))


def settings_of(c) -> Settings:
    from ops.core import settings

    return settings.load(c.config)


def asked(settings: Settings, file: str) -> list[Asked]:
    """Of this stack's roles. The local AWS keeps its record in the folder in which it keeps the profile."""
    from ops.core.paths import ROOT
    from ops.iam import usage

    beside = ROOT / settings.aws.config_file
    path = Path(file) if file else beside.parent.parent / "requests.jsonl"
    return [one for one in usage.record(path) if one.role.startswith(f"{settings.prefix}-")]


def tally(settings: Settings, role: str = "", file: str = "") -> list[Use]:
    from ops.iam import expectations, roles, usage

    run = asked(settings, file)
    wanted = roles.wanted(settings, only=role)
    have, found = roles.applied(wanted, settings), []
    for want in wanted:
        principal = have.roles[settings.role_name(want.role)]
        calls = [
            expectations.request(one, principal)
            for one in expectations.of(want.role, settings)
            if one.kind == "allowed"
        ]
        found += list(usage.uses(principal.name, principal.arn, have.rights(principal), run, calls))
    return found


def shown(found: list[Use], all: bool) -> str:
    """A line a role, then what nothing or only expect.toml needs; with `all` everything."""
    roles = list(dict.fromkeys(use.role for use in found))
    counts = [
        (r, *(sum(u.role == r and u.why == why for u in found) for why in ("a run", "expect.toml", "nothing")))
        for r in roles
    ]
    listed = [use for use in found if all or use.why != "a run"]
    rows = [
        (u.role, u.statement, u.action, u.why, u.step, u.resource.rsplit(":", 1)[-1], u.requests or u.expected)
        for u in listed
    ]
    parts = [table(("role", "a run needs", "expect.toml only", "nothing"), counts)]
    if rows:
        parts.append(table(("role", "statement", "action", "needed by", "step", "for", "times"), rows))
    return "\n\n".join(parts)

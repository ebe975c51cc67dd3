"""The commands iam.record, iam.needed and iam.suggest: what a run used, what of that a role needs, the smallest policy for it."""

from __future__ import annotations

from invoke import Context

from ops.core.errors import FINDINGS, OpsError
from ops.core.output import say
from ops.core.task import Result, task


@task(
    help={
        "role": "Only this role: a folder of iam_policies/.",
        "step": "Only what this command used, such as sm.deploy.",
        "denied": "Only what was denied.",
        "file": "Another record than that of the local AWS.",
        "json": "Print it as JSON.",
    },
)
def record(
    c: Context, role: str = "", step: str = "", denied: bool = False, file: str = "", json: bool = False
) -> Result:
    """Show which permissions the stack's roles used, by the local AWS's own record."""
    from ops.core.settings import load
    from ops.iam import roles
    from ops.iam.usage import format_record, read_stack_requests

    settings = load(c.config)
    roles.read_roles(settings, only=role)  # raises for a role without a folder
    name = settings.build_role_name(role) if role else ""
    found = [
        one
        for one in read_stack_requests(settings, file)
        if name in ("", one.role) and step in ("", one.step) and not (denied and one.allowed)
    ]
    return Result([vars(one) for one in found], format_record(found, settings))


@task(
    help={
        "role": "Only this role: a folder of iam_policies/.",
        "file": "Another record than that of the local AWS.",
        "all": "Show the needed ones too, with the command that needs each.",
        "json": "Print every action with what needs it, as JSON.",
    },
)
def needed(c: Context, role: str = "", file: str = "", all: bool = False, json: bool = False) -> Result:
    """Take each action of each role away in thought: what breaks? Exit 7 for one that nothing needs."""
    from ops.core.settings import load
    from ops.iam import usage

    found = usage.list_uses(load(c.config), role, file)
    idle = [use for use in found if use.why == "nothing"]
    return Result([use.data for use in found], usage.format_uses(found, all), code=FINDINGS if idle else 0)


@task(help={"file": "Another record than that of the local AWS."})
def suggest(c: Context, role: str, file: str = "") -> Result:
    """Print the smallest policy for what a role did, by the record; compare it with iam_policies/ROLE."""
    import json

    from ops.core.settings import load
    from ops.iam.roles import POLICY_CHARACTERS, dump_document
    from ops.iam.suggest import suggest_policy
    from ops.iam.usage import read_stack_requests

    settings = load(c.config)
    name = settings.build_role_name(role)
    mine = [one for one in read_stack_requests(settings, file) if one.role == name and one.allowed]
    if not mine:
        raise OpsError(f"The record holds nothing of {name}. Run what it should do first.")
    policy = suggest_policy([vars(one) for one in mine])
    if (size := len(dump_document(policy))) > POLICY_CHARACTERS:
        say(f"{size:,} characters: AWS takes {POLICY_CHARACTERS:,} a policy. Split it: permissions-2.json ...")
    return Result(policy, json.dumps(policy, indent=2))

"""The commands iam.record, iam.needed and iam.suggest, which evaluate the requests that the local AWS recorded."""

from __future__ import annotations

from invoke import Context

from ops.core.errors import FINDINGS, OpsError
from ops.core.output import say
from ops.core.task import Result, task


@task(
    help={
        "role": "Only this role, a folder of iam_policies/ (default: all).",
        "step": "Only the requests of this command, such as sm.deploy.",
        "denied": "Only denied requests.",
        "file": "File with recorded requests (default: the record of the local AWS).",
        "json": "Print the result as JSON.",
    },
)
def record(
    c: Context, role: str = "", step: str = "", denied: bool = False, file: str = "", json: bool = False
) -> Result:
    """List the permissions that the stack's roles used on the local AWS.

    Example: invoke iam.record --role ROLE --denied
    """
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
        "role": "Only this role, a folder of iam_policies/ (default: all).",
        "file": "File with recorded requests (default: the record of the local AWS).",
        "all": "List needed actions too, with the command that needs each.",
        "json": "Print the result as JSON.",
    },
)
def needed(c: Context, role: str = "", file: str = "", all: bool = False, json: bool = False) -> Result:
    """Simulate removing each action of each role; report those nothing needs.

    An action is needed by recorded requests or by expect.toml. Exit code 7 if
    there is one that nothing needs.

    Example: invoke iam.needed --role ROLE --all
    """
    from ops.core.settings import load
    from ops.iam import usage

    found = usage.list_uses(load(c.config), role, file)
    idle = [use for use in found if use.why == "nothing"]
    return Result([use.data for use in found], usage.format_uses(found, all), code=FINDINGS if idle else 0)


@task(
    help={
        "role": "Role, a folder of iam_policies/.",
        "file": "File with recorded requests (default: the record of the local AWS).",
    }
)
def suggest(c: Context, role: str, file: str = "") -> Result:
    """Print the smallest policy that allows the recorded requests of a role.

    Example: invoke iam.suggest ROLE
    """
    import json

    from ops.core.settings import load
    from ops.iam.roles import POLICY_CHARACTERS, dump_document
    from ops.iam.suggest import suggest_policy
    from ops.iam.usage import read_stack_requests

    settings = load(c.config)
    name = settings.build_role_name(role)
    requests = [one for one in read_stack_requests(settings, file) if one.role == name and one.allowed]
    if not requests:
        raise OpsError(f"The record has no requests of {name}. First run the commands that the role is for.")
    policy = suggest_policy([vars(one) for one in requests])
    if (size := len(dump_document(policy))) > POLICY_CHARACTERS:
        say(f"The policy has {size:,} characters; AWS allows {POLICY_CHARACTERS:,}. Split it: permissions-2.json ...")
    return Result(policy, json.dumps(policy, indent=2))

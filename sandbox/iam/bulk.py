"""The bulk creation of roles and policies, straight in moto's store.

The tests give a hundred stacks their roles; a signed request for each part would take seconds.
"""

from __future__ import annotations

from typing import Any

from sandbox.world import World


def apply_iam_calls(world: World, calls: list[tuple[str, dict[str, Any]]]) -> dict[str, int]:
    """Carry out IAM calls given as (botocore's name, its arguments): those that iam.apply makes if the account lacks the roles.

    Raises KeyError for a call that is not one of these.
    """
    backend = world.get_global_backend("iam")
    for call, args in calls:
        match call:
            case "create_policy":
                backend.create_policy(None, args["Path"], args["PolicyDocument"], args["PolicyName"], args["Tags"])
            case "create_role":
                trust, bounds = args["AssumeRolePolicyDocument"], args.get("PermissionsBoundary")
                backend.create_role(args["RoleName"], trust, args["Path"], bounds, None, args["Tags"], 3600)
            case "attach_role_policy":
                backend.attach_role_policy(args["PolicyArn"], args["RoleName"])
            case "create_instance_profile":
                backend.create_instance_profile(args["InstanceProfileName"], args["Path"], [], args["Tags"])
            case "add_role_to_instance_profile":
                backend.add_role_to_instance_profile(args["InstanceProfileName"], args["RoleName"])
            case _:
                raise KeyError(call)
    return {"made": len(calls)}


def remove_stack_roles(world: World, stack: str) -> dict[str, int]:
    """Remove a stack's roles, policies and instance profiles, as if they had never been created."""
    backend, prefix = world.get_global_backend("iam"), f"kennel-{stack}-"
    count = 0
    for table in (backend.roles, backend.managed_policies, backend.instance_profiles):
        for key in [key for key, one in table.items() if one.name.startswith(prefix)]:
            del table[key]
            count += 1
    return {"removed": count}

"""The changes that make IAM what iam_policies/ says. Broken off anywhere, the rest is what the next run finds to do."""

from __future__ import annotations

from typing import Any

from ops.change import Change, Steps
from ops.config import ROLES, Settings
from ops.errors import Refused
from ops.iam.change.difference import mended_tags, same
from ops.iam.change.keeping import Kept, place
from ops.iam.change.revocation import aside
from ops.iam.change.versions import new_version
from ops.iam.policies import Wanted, dumped, policy_arn
from ops.iam.snapshot import Principal, Snapshot


def steps(have: Snapshot, wanted: list[Wanted], settings: Settings) -> Steps:
    have = aside(have)
    for want in wanted:
        name = settings.role_name(want.role)
        role = have.roles.get(name)
        if want.boundary:  # before the role, which is never without it
            yield from policy_steps(have, want, "boundary", want.boundary, settings)
        yield from role_steps(role, want, settings)
        for stem, document in want.permissions.items():
            yield from policy_steps(have, want, stem, document, settings)
        yield from attachment_steps(role, want, settings)
        if role and role.boundary and not want.boundary:  # last: until here it still holds in what was too much
            why = f"{name}: {role.boundary.rsplit('/', 1)[1]} bounds it, and there is no {ROLES}/{want.role}/boundary.json"
            yield Change("iam", "delete_role_permissions_boundary", {"RoleName": name}, why)
        if want.for_instances:
            yield from profile_steps(role, name, settings)


def role_steps(have: Principal | None, want: Wanted, settings: Settings) -> Steps:
    name = settings.role_name(want.role)
    bounds = policy_arn(want.role, "boundary", settings) if want.boundary else ""
    if have is None:
        args = {
            "RoleName": name,
            "Path": settings.role_path,
            "AssumeRolePolicyDocument": dumped(want.trust),
            "Tags": settings.tags(name),
        } | ({"PermissionsBoundary": bounds} if bounds else {})
        yield Change("iam", "create_role", args, why=f"{name}: the role is missing")
        return
    if bounds and have.boundary != bounds:
        args = {"RoleName": name, "PermissionsBoundary": bounds}
        yield Change("iam", "put_role_permissions_boundary", args, why=f"{name}: its boundary is not in force")
    if not same(have.trust, want.trust):
        args = {"RoleName": name, "PolicyDocument": dumped(want.trust)}
        why = f"{name}: its trust differs from {ROLES}/{want.role}/trust.json"
        yield Change("iam", "update_assume_role_policy", args, why)
    if tags := mended_tags(have, settings):
        why = f"{name}: {', '.join(tag['Key'] for tag in tags)} is missing or wrong"
        yield Change("iam", "tag_role", {"RoleName": name, "Tags": tags}, why)


def policy_steps(have: Snapshot, want: Wanted, stem: str, document: dict[str, Any], settings: Settings) -> Steps:
    arn = policy_arn(want.role, stem, settings)
    path, _, name = arn.partition(":policy")[2].rpartition("/")
    policy = have.policies.get(arn)
    if policy is None:
        args = {
            "PolicyName": name,
            "Path": f"{path}/",
            "PolicyDocument": dumped(document),
            "Tags": settings.tags(name),
        }
        yield Change("iam", "create_policy", args, why=f"{name}: the policy is missing")
    elif not same(policy.document, document):
        why = f"{name}: it differs from {ROLES}/{want.role}/{stem}.json"
        yield from new_version(policy, document, why, settings)


def attachment_steps(role: Principal | None, want: Wanted, settings: Settings) -> Steps:
    name = settings.role_name(want.role)
    arns = [policy_arn(want.role, stem, settings) for stem in want.permissions]
    attached = role.attached if role else ()
    for arn in arns:
        if arn not in attached:
            args = {"RoleName": name, "PolicyArn": arn}
            yield Change("iam", "attach_role_policy", args, why=f"{name}: {arn.rsplit('/', 1)[1]} is not attached")
    for arn in attached:
        if arn not in arns:
            why = f"{name}: {arn.rsplit('/', 1)[1]} is attached, but not in {ROLES}/{want.role}/"
            yield Change("iam", "detach_role_policy", {"RoleName": name, "PolicyArn": arn}, why)
    for inline in role.inline if role else ():
        why = f"{name}: it holds {inline} itself, which is not in {ROLES}/{want.role}/"
        kept = place(settings, Kept(f"role/{name}", f"inline-{inline}", {}))
        args = {"RoleName": name, "PolicyName": inline}
        yield Change("iam", "delete_role_policy", args, why, danger=f"stays only in {kept}")


def profile_steps(have: Principal | None, name: str, settings: Settings) -> Steps:
    """The instance profile has the role's name; EC2 gives roles to instances only through one."""
    if have is not None and name in have.instance_profiles:
        return
    args = {"InstanceProfileName": name, "Path": settings.role_path, "Tags": settings.tags(name)}
    try:
        yield Change("iam", "create_instance_profile", args, why=f"{name}: the instance profile is missing")
    except Refused as error:  # a crash may have left one that holds no role, which no role's description shows
        if not error.says("EntityAlreadyExists"):
            raise
    args = {"InstanceProfileName": name, "RoleName": name}
    yield Change("iam", "add_role_to_instance_profile", args, why=f"{name}: the profile holds no role")

"""The changes that make IAM what iam_policies/ says."""

from __future__ import annotations

from typing import Any

from ops.change import Change, Steps
from ops.config import Settings
from ops.errors import Refused
from ops.iam.policies import Wanted, canonical, dumped, policy_arn, policy_name
from ops.iam.snapshot import Principal, Snapshot

VERSIONS_KEPT = 5  # AWS keeps no more of a managed policy


def steps(have: Snapshot, wanted: list[Wanted], settings: Settings) -> Steps:
    for want in wanted:
        yield from role_steps(have.roles.get(settings.role_name(want.role)), want, settings)
        for stem in want.permissions:
            yield from policy_steps(have, want, stem, settings)
        yield from attachment_steps(have, want, settings)
        if want.for_instances:
            yield from profile_steps(
                have.roles.get(settings.role_name(want.role)), settings.role_name(want.role), settings
            )


def role_steps(have: Principal | None, want: Wanted, settings: Settings) -> Steps:
    name = settings.role_name(want.role)
    if have is None:
        args = {
            "RoleName": name,
            "Path": settings.role_path,
            "AssumeRolePolicyDocument": dumped(want.trust),
            "Tags": settings.tags(name),
        }
        yield Change("iam", "create_role", args, why=f"{name}: the role is missing")
    elif canonical(have.trust) != canonical(want.trust):
        args = {"RoleName": name, "PolicyDocument": dumped(want.trust)}
        yield Change(
            "iam",
            "update_assume_role_policy",
            args,
            why=f"{name}: its trust differs from iam_policies/{want.role}/trust.json",
        )


def policy_steps(have: Snapshot, want: Wanted, stem: str, settings: Settings) -> Steps:
    arn, document = policy_arn(want.role, stem, settings), want.permissions[stem]
    name = policy_name(want.role, stem, settings)
    policy = have.policies.get(arn)
    if policy is None:
        args: dict[str, Any] = {
            "PolicyName": name,
            "Path": settings.role_path,
            "PolicyDocument": dumped(document),
            "Tags": settings.tags(name),
        }
        yield Change("iam", "create_policy", args, why=f"{name}: the policy is missing")
    elif canonical(policy.document) != canonical(document):
        old = sorted(((created, version) for version, default, created in policy.versions if not default))
        if len(policy.versions) >= VERSIONS_KEPT:
            args = {"PolicyArn": arn, "VersionId": old[0][1]}
            yield Change(
                "iam",
                "delete_policy_version",
                args,
                why=f"{name}: AWS keeps {VERSIONS_KEPT} versions; this is the oldest",
                danger="an old version is lost",
            )
        args = {"PolicyArn": arn, "PolicyDocument": dumped(document), "SetAsDefault": True}
        yield Change(
            "iam", "create_policy_version", args, why=f"{name}: it differs from iam_policies/{want.role}/{stem}.json"
        )


def attachment_steps(have: Snapshot, want: Wanted, settings: Settings) -> Steps:
    name = settings.role_name(want.role)
    role = have.roles.get(name)
    arns = [policy_arn(want.role, stem, settings) for stem in want.permissions]
    attached = role.attached if role else ()
    for arn in arns:
        if arn not in attached:
            yield Change(
                "iam",
                "attach_role_policy",
                {"RoleName": name, "PolicyArn": arn},
                why=f"{name}: {arn.rsplit('/', 1)[1]} is not attached",
            )
    for arn in attached:
        if arn not in arns:
            args = {"RoleName": name, "PolicyArn": arn}
            yield Change(
                "iam",
                "detach_role_policy",
                args,
                why=f"{name}: {arn.rsplit('/', 1)[1]} is attached, but not in iam_policies/{want.role}/",
            )
    for inline in role.inline if role else ():
        args = {"RoleName": name, "PolicyName": inline}
        why = f"{name}: it holds {inline} itself, which is not in iam_policies/{want.role}/"
        yield Change("iam", "delete_role_policy", args, why, danger="the inline policy is lost")


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

"""Which permissions IAM's and STS's calls take, and how IAM names what they act on in a refusal."""

from __future__ import annotations

from sandbox.iam.resource_lookup import Context, More, Params, named, passing, requested, row, same
from sandbox.state import ACCOUNT
from sandbox.world import World

# The beginning of an ARN's last part -> what IAM calls it
NAMES = {"role": "role", "user": "user", "instance-profile": "instance profile"}
NEW = ("CreateRole", "CreateUser", "CreateInstanceProfile")  # what is not there yet has its ARN in a refusal
TAKING = ("sts:AssumeRole", "sts:TagSession", "sts:SetSourceIdentity")  # the role's trust has to allow these too


def role_named(world: World, asked: Params) -> list[str]:
    return [named(world.backend_global("iam").roles.values(), asked.get("RoleName"), "role")]


def profile_named(world: World, asked: Params) -> list[str]:
    profiles = world.backend_global("iam").instance_profiles.values()
    return [named(profiles, asked.get("InstanceProfileName"), "instance-profile")]


def user_named(world: World, asked: Params) -> list[str]:
    return [named(world.backend_global("iam").users.values(), asked.get("UserName", "*"), "user")]


def bounds(world: World, asked: Params, arn: str) -> Context:
    """The boundary that a role or user has now, which a change of its policies is decided by too."""
    iam = world.backend_global("iam")
    holder = next((one for one in (*iam.roles.values(), *iam.users.values()) if one.arn == arn), None)
    bound = getattr(holder, "permissions_boundary_arn", None)
    return {"iam:permissionsboundary": bound} if bound else {}


def profile_role(world: World, asked: Params) -> More:
    yield from passing(str(asked.get("RoleName")), "ec2.amazonaws.com", world)


def session_told(world: World, asked: Params) -> More:
    """Tags and a source identity of a session each take a permission of their own."""
    role, tags = str(asked.get("RoleArn", "*")), requested(asked, "")
    if keys := asked.get("TransitiveTagKeys"):
        tags = tags | {"sts:transitivetagkeys": keys}
    if tags:
        yield "sts:TagSession", role, tags
    if source := asked.get("SourceIdentity"):
        yield "sts:SetSourceIdentity", role, {"sts:sourceidentity": str(source)}


def said(operation: str, arn: str) -> str:
    """IAM names what is there in words (`role NAME`), a new policy by its name, other new things by their ARN."""
    if operation == "CreatePolicy":
        return f"policy {arn.rpartition('/')[2]}"
    kind = arn.partition(f":{ACCOUNT}:")[2].partition("/")[0]
    if operation in NEW or "/" not in arn:
        return arn
    if kind in NAMES:
        return f"{NAMES[kind]} {arn.rpartition('/')[2]}"
    return f"policy {arn}" if ":policy/" in arn else arn


ROLE, POLICY, PROFILE, USER = role_named, "{PolicyArn}", profile_named, user_named
BOUNDARY, ATTACHED = {"iam:PermissionsBoundary": "PermissionsBoundary"}, {"iam:PolicyARN": "PolicyArn"}
IAM = {
    "CreateRole": row("role{Path}{RoleName}", keys=BOUNDARY, tagging="iam:TagRole"),
    "PutRolePermissionsBoundary": row(ROLE, keys=BOUNDARY),
    **same("AttachRolePolicy DetachRolePolicy", ROLE, keys=ATTACHED, context=bounds),
    **same("PutRolePolicy DeleteRolePolicy DeleteRolePermissionsBoundary", ROLE, context=bounds),
    **same(
        "GetRole DeleteRole UpdateAssumeRolePolicy GetRolePolicy TagRole UntagRole ListRolePolicies ListAttachedRolePolicies "
        "ListInstanceProfilesForRole UpdateRole",
        ROLE,
    ),
    "CreatePolicy": row("policy{Path}{PolicyName}", tagging="iam:TagPolicy"),
    **same(
        "CreatePolicyVersion DeletePolicyVersion SetDefaultPolicyVersion GetPolicyVersion GetPolicy DeletePolicy TagPolicy "
        "UntagPolicy ListPolicyVersions ListEntitiesForPolicy",
        POLICY,
    ),
    "CreateInstanceProfile": row("instance-profile{Path}{InstanceProfileName}", tagging="iam:TagInstanceProfile"),
    "AddRoleToInstanceProfile": row(PROFILE, more=profile_role),
    **same("GetInstanceProfile RemoveRoleFromInstanceProfile DeleteInstanceProfile TagInstanceProfile", PROFILE),
    "CreateUser": row("user{Path}{UserName}", keys=BOUNDARY, tagging="iam:TagUser"),
    "PutUserPermissionsBoundary": row(USER, keys=BOUNDARY),
    **same("AttachUserPolicy DetachUserPolicy", USER, keys=ATTACHED, context=bounds),
    **same("PutUserPolicy DeleteUserPolicy DeleteUserPermissionsBoundary", USER, context=bounds),
    **same(
        "DeleteUser GetUser CreateAccessKey DeleteAccessKey UpdateAccessKey ListAccessKeys CreateLoginProfile "
        "GetLoginProfile DeleteLoginProfile ListUserPolicies ListAttachedUserPolicies",
        USER,
    ),
    "SimulatePrincipalPolicy": row("{PolicySourceArn}"),
    **same(
        "GetAccountAuthorizationDetails GetAccountSummary GenerateCredentialReport GetCredentialReport ListRoles ListUsers "
        "ListPolicies SimulateCustomPolicy ListInstanceProfiles"
    ),
}
STS = {
    "AssumeRole": row(
        "{RoleArn}",
        keys={
            "sts:ExternalId": "ExternalId",
            "sts:RoleSessionName": "RoleSessionName",
            "sts:SourceIdentity": "SourceIdentity",
            "sts:TransitiveTagKeys": "TransitiveTagKeys",
        },
        more=session_told,
    ),
    "GetCallerIdentity": row(),
}

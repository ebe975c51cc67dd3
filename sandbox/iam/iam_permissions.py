"""The permissions that IAM's and STS's calls need, and the names of their resources in a denial."""

from __future__ import annotations

from sandbox.iam.resource_lookup import (
    Context,
    More,
    Params,
    build_row,
    build_rows,
    derive_request_tags,
    find_iam_arn,
    list_own_service_role,
    list_pass_role_needs,
)
from sandbox.state import ACCOUNT
from sandbox.world import World

# The beginning of an ARN's last part -> what IAM calls it
NAMES = {"role": "role", "user": "user", "instance-profile": "instance profile"}
NEW = ("CreateRole", "CreateUser", "CreateInstanceProfile")  # a refusal names what does not exist yet by its ARN
TRUST_ACTIONS = (
    "sts:AssumeRole",
    "sts:TagSession",
    "sts:SetSourceIdentity",
)  # the role's trust policy must allow these too


def resolve_role_arn(world: World, params: Params) -> list[str]:
    return [find_iam_arn(world.get_global_backend("iam").roles.values(), params.get("RoleName"), "role")]


def resolve_profile_arn(world: World, params: Params) -> list[str]:
    profiles = world.get_global_backend("iam").instance_profiles.values()
    return [find_iam_arn(profiles, params.get("InstanceProfileName"), "instance-profile")]


def resolve_user_arn(world: World, params: Params) -> list[str]:
    return [find_iam_arn(world.get_global_backend("iam").users.values(), params.get("UserName", "*"), "user")]


def find_boundary_context(world: World, params: Params, arn: str) -> Context:
    """Return the boundary that a role or user has now, on which a change of its policies depends too."""
    iam = world.get_global_backend("iam")
    holder = next((one for one in (*iam.roles.values(), *iam.users.values()) if one.arn == arn), None)
    bound = getattr(holder, "permissions_boundary_arn", None)
    return {"iam:permissionsboundary": bound} if bound else {}


def list_profile_needs(world: World, params: Params) -> More:
    yield from list_pass_role_needs(str(params.get("RoleName")), "ec2.amazonaws.com", world)


def list_session_needs(world: World, params: Params) -> More:
    """Yield the permissions that a session's tags and source identity each need."""
    role, tags = str(params.get("RoleArn", "*")), derive_request_tags(params, "")
    if keys := params.get("TransitiveTagKeys"):
        tags = tags | {"sts:transitivetagkeys": keys}
    if tags:
        yield "sts:TagSession", role, tags
    if source := params.get("SourceIdentity"):
        yield "sts:SetSourceIdentity", role, {"sts:sourceidentity": str(source)}


def describe_denied_resource(operation: str, arn: str) -> str:
    """Return IAM's name of a resource in a denial: `role NAME` if it exists, `policy NAME` for a new policy, else its ARN."""
    if operation == "CreatePolicy":
        return f"policy {arn.rpartition('/')[2]}"
    resource_type = arn.partition(f":{ACCOUNT}:")[2].partition("/")[0]
    if operation in NEW or "/" not in arn:
        return arn
    if resource_type in NAMES:
        return f"{NAMES[resource_type]} {arn.rpartition('/')[2]}"
    return f"policy {arn}" if ":policy/" in arn else arn


ROLE, POLICY, PROFILE, USER = resolve_role_arn, "{PolicyArn}", resolve_profile_arn, resolve_user_arn
BOUNDARY, ATTACHED = {"iam:PermissionsBoundary": "PermissionsBoundary"}, {"iam:PolicyARN": "PolicyArn"}
IAM = {
    "CreateRole": build_row("role{Path}{RoleName}", keys=BOUNDARY, tagging="iam:TagRole"),
    "PutRolePermissionsBoundary": build_row(ROLE, keys=BOUNDARY),
    **build_rows("AttachRolePolicy DetachRolePolicy", ROLE, keys=ATTACHED, context=find_boundary_context),
    **build_rows("PutRolePolicy DeleteRolePolicy DeleteRolePermissionsBoundary", ROLE, context=find_boundary_context),
    **build_rows(
        "GetRole DeleteRole UpdateAssumeRolePolicy GetRolePolicy TagRole UntagRole ListRolePolicies ListAttachedRolePolicies "
        "ListInstanceProfilesForRole UpdateRole",
        ROLE,
    ),
    "CreateServiceLinkedRole": build_row(list_own_service_role, keys={"iam:AWSServiceName": "AWSServiceName"}),
    "CreatePolicy": build_row("policy{Path}{PolicyName}", tagging="iam:TagPolicy"),
    **build_rows(
        "CreatePolicyVersion DeletePolicyVersion SetDefaultPolicyVersion GetPolicyVersion GetPolicy DeletePolicy TagPolicy "
        "UntagPolicy ListPolicyVersions ListEntitiesForPolicy",
        POLICY,
    ),
    "CreateInstanceProfile": build_row("instance-profile{Path}{InstanceProfileName}", tagging="iam:TagInstanceProfile"),
    "AddRoleToInstanceProfile": build_row(PROFILE, more=list_profile_needs),
    **build_rows("GetInstanceProfile RemoveRoleFromInstanceProfile DeleteInstanceProfile TagInstanceProfile", PROFILE),
    "CreateUser": build_row("user{Path}{UserName}", keys=BOUNDARY, tagging="iam:TagUser"),
    "PutUserPermissionsBoundary": build_row(USER, keys=BOUNDARY),
    **build_rows("AttachUserPolicy DetachUserPolicy", USER, keys=ATTACHED, context=find_boundary_context),
    **build_rows("PutUserPolicy DeleteUserPolicy DeleteUserPermissionsBoundary", USER, context=find_boundary_context),
    **build_rows(
        "DeleteUser GetUser CreateAccessKey DeleteAccessKey UpdateAccessKey ListAccessKeys CreateLoginProfile "
        "GetLoginProfile DeleteLoginProfile ListUserPolicies ListAttachedUserPolicies ListMFADevices",
        USER,
    ),
    "SimulatePrincipalPolicy": build_row("{PolicySourceArn}"),
    **build_rows(
        "GetAccountAuthorizationDetails GetAccountSummary GenerateCredentialReport GetCredentialReport ListRoles ListUsers "
        "ListPolicies SimulateCustomPolicy ListInstanceProfiles"
    ),
}
STS = {
    "AssumeRole": build_row(
        "{RoleArn}",
        keys={
            "sts:ExternalId": "ExternalId",
            "sts:RoleSessionName": "RoleSessionName",
            "sts:SourceIdentity": "SourceIdentity",
            "sts:TransitiveTagKeys": "TransitiveTagKeys",
        },
        more=list_session_needs,
    ),
    **build_rows("GetCallerIdentity GetSessionToken"),
}

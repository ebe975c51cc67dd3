"""Rules about what a principal can reach: roles it passes, policies it writes, data and credentials it reads, its own boundary."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import islice

from iampolicy import actions
from iampolicy.account.snapshot import Principal
from iampolicy.audit.context import (  # fmt: skip
    UNUSED_NAME,
    AuditContext,
    Candidate,
    EffectivePrincipal,
    Probe,
    build_probes,
    format_shortlist,
    has_action,
    has_resource,
    is_boundless,
    list_example_resources,
    restore_action_keys,
    select_covered_actions,
)
from iampolicy.finding import Finding
from iampolicy.policy.document import Statement

MAKES = (
    "iam:createrole", "iam:createuser", "iam:createpolicy", "iam:createpolicyversion", "iam:setdefaultpolicyversion", "iam:putrolepolicy",
    "iam:putuserpolicy", "iam:putgrouppolicy", "iam:attachrolepolicy", "iam:attachuserpolicy", "iam:attachgrouppolicy",
    "iam:updateassumerolepolicy",
)  # fmt: skip
READS_DATA = {
    "s3:GetObject": "medium", "s3:GetObjectVersion": "medium", "ssm:GetParameter": "medium", "ssm:GetParameters": "medium",
    "ssm:GetParametersByPath": "medium", "ssm:GetParameterHistory": "medium", "secretsmanager:GetSecretValue": "medium",
    "secretsmanager:BatchGetSecretValue": "medium", "dynamodb:Scan": "medium", "rds:ModifyDBSnapshotAttribute": "high",
    "rds:ModifyDBClusterSnapshotAttribute": "high", "ec2:ModifySnapshotAttribute": "high", "ec2:ModifyImageAttribute": "high",
    "kms:Decrypt": "high",
}  # fmt: skip
HANDS_OUT = (
    "chime:CreateApiKey", "codepipeline:PollForJobs", "cognito-identity:GetCredentialsForIdentity", "cognito-identity:GetOpenIdToken",
    "cognito-identity:GetOpenIdTokenForDeveloperIdentity", "cognito-idp:AssociateSoftwareToken", "connect:GetFederationToken",
    "ec2:GetPasswordData", "ecr:GetAuthorizationToken", "ecr-public:GetAuthorizationToken", "codeartifact:GetAuthorizationToken",
    "gamelift:GetComputeAuthToken", "gamelift:RequestUploadCredentials", "iam:CreateAccessKey", "iam:CreateLoginProfile",
    "iam:CreateServiceSpecificCredential", "iam:ResetServiceSpecificCredential", "iam:UpdateAccessKey", "iam:UpdateLoginProfile",
    "lightsail:DownloadDefaultKeyPair", "lightsail:GetBucketAccessKeys", "lightsail:GetInstanceAccessDetails",
    "lightsail:GetRelationalDatabaseMasterUserPassword", "mediapackage:RotateChannelCredentials",
    "mediapackage:RotateIngestEndpointCredentials", "rds-db:connect", "redshift:GetClusterCredentials",
    "redshift:GetClusterCredentialsWithIAM", "redshift-serverless:GetCredentials", "sagemaker:CreatePresignedDomainUrl",
    "sagemaker:CreatePresignedNotebookInstanceUrl", "snowball:GetJobUnlockCode", "storagegateway:DescribeChapCredentials",
    "sts:AssumeRole", "sts:AssumeRoleWithSAML", "sts:AssumeRoleWithWebIdentity", "sts:GetFederationToken", "sts:GetSessionToken",
    "appsync:CreateApiKey", "datazone:GetEnvironmentCredentials", "emr-containers:CreateManagedEndpoint",
)  # fmt: skip
NO_RESOURCE = ("ecr:GetAuthorizationToken", "ecr-public:GetAuthorizationToken", "sts:GetSessionToken")
PASSING = "iam:passrole"


def find_role_passing(one: Statement, account: str) -> Iterator[Candidate]:
    if not is_about_iam(one) or not has_action(one, PASSING):
        return
    any_role, any_service = (
        f"arn:aws:iam::{account}:role/{UNUSED_NAME}",
        {"iam:passedtoservice": f"{UNUSED_NAME}.amazonaws.com"},
    )
    wide = has_resource(one, any_role)
    roles = [any_role] if wide else list_example_resources(one, "iam:PassRole", account)
    to_any = tuple(Probe("iam:PassRole", role, any_service) for role in roles)
    to_some = tuple(Probe("iam:PassRole", role) for role in roles)
    named = any(key == "iam:passedtoservice" for _, key, _ in one.conditions)
    fix = "name the role in a separate statement, with the condition key iam:PassedToService"
    if "action" in one.negated or "resource" in one.negated or "iam:*" in one.actions or "*" in one.actions:
        how = "NotAction or NotResource" if one.negated else "a wildcard"
        yield Candidate("IAM-PASS-003", "high", one, {how: to_some}, "may pass roles, through {}", fix)
    elif wide:
        what = "may pass {} to a service" if named else "may pass {} to any service"
        yield Candidate("IAM-PASS-001", "medium", one, {"any role": to_some}, what, fix, to_any, "high")
    elif not named:
        subjects = {pattern: (probe,) for pattern, probe in zip(one.resources, to_any, strict=False)}
        yield Candidate("IAM-PASS-002", "medium", one, subjects, "may pass {} to any service", "add a condition on iam:PassedToService")  # fmt: skip


def find_resource_sharing(one: Statement, account: str) -> Iterator[Candidate]:
    """Yield a candidate for a statement that may write the policies of any resource, and so grant access to anyone."""
    if not is_boundless(one):
        return
    found = {a: build_probes(one, a.lower(), account) for a in list_policy_writers(one)}
    if subjects := {a: probing for a, probing in found.items() if probing}:
        yield Candidate(
            "IAM-EXPO-002", "high", one, subjects, "may change the policies of any resource: {}", "name the resources by ARN, or remove these actions"
        )  # fmt: skip


def list_policy_writers(one: Statement) -> Iterable[str]:
    """Return the actions on resource-based policies that the statement covers; for `*` and NotAction, those of data services."""
    if "action" in one.negated or "*" in one.actions:
        return select_covered_actions(one, POLICY_WRITERS)
    return [a for pattern in one.actions for a in list_granting_actions(pattern)]


POLICY_WRITERS = (
    "s3:PutBucketPolicy", "s3:PutBucketAcl", "s3:PutObjectAcl", "s3:PutBucketPublicAccessBlock", "lambda:AddPermission",
    "ecr:SetRepositoryPolicy", "kms:PutKeyPolicy", "kms:CreateGrant", "sns:SetTopicAttributes",
    "sqs:AddPermission", "secretsmanager:PutResourcePolicy", "glacier:SetVaultAccessPolicy", "iam:UpdateAssumeRolePolicy",
)  # fmt: skip


@lru_cache(10_000)
def list_granting_actions(pattern: str) -> tuple[str, ...]:
    return tuple(a for a in actions.list_matching_actions(pattern) if is_granting_action(a))


def is_granting_action(action: str) -> bool:
    """Return whether the action grants permissions on a resource. iam:PassRole has its own rules; service-linked roles need none."""
    if action in ("iam:PassRole", "iam:CreateServiceLinkedRole") or action.startswith("sts:"):
        return False
    return actions.find_access_level(action) == "Permissions management"


def find_data_exfiltration(one: Statement, account: str) -> Iterator[Candidate]:
    if not is_boundless(one):
        return
    for severity in ("high", "medium"):
        reading = [a for a in select_covered_actions(one, tuple(READS_DATA)) if READS_DATA[a] == severity]
        if subjects := {a: probing for a in reading if (probing := build_probes(one, a.lower(), account))}:
            fix = "name the resources by ARN"
            yield Candidate("IAM-EXFIL-001", severity, one, subjects, "may read data of any resource: {}", fix)


def find_credential_access(one: Statement, account: str) -> Iterator[Candidate]:
    """Yield candidates for actions that return credentials; those that take no resource, as ecr:GetAuthorizationToken, are info."""
    if not is_boundless(one):
        return
    handed = select_covered_actions(one, HANDS_OUT)
    for severity, chosen in (
        ("medium", [a for a in handed if a not in NO_RESOURCE]),
        ("info", [a for a in handed if a in NO_RESOURCE]),
    ):
        if subjects := {a: probing for a in chosen if (probing := build_probes(one, a.lower(), account))}:
            fix = "name the resources by ARN" if severity == "medium" else "none: these actions take no resource"
            yield Candidate("IAM-CRED-001", severity, one, subjects, "may obtain credentials by {}", fix)


def find_unbounded_iam_writes(one: Statement, account: str) -> Iterator[Candidate]:
    """Yield a candidate for creating roles and policies; rules_access.findings drops it for a principal with a boundary."""
    if not is_about_iam(one):
        return
    found = {
        a: tuple(Probe(a, r) for r in list_example_resources(one, a, account))
        for a in select_covered_actions(one, MAKES)
    }
    if found:
        yield Candidate(
            "IAM-BOUND-001", "medium", one, restore_action_keys(found),
            "is not limited by a permissions boundary itself, and may use {}", "give it a permissions boundary"
        )  # fmt: skip


def is_about_iam(one: Statement) -> bool:
    """Return whether the statement may be about IAM: a cheap test, since most statements are not."""
    return "action" in one.negated or any(
        pattern.startswith(("iam:", "*", "?", "i*", "ia*", "iam*")) for pattern in one.actions
    )


def find_boundary_gaps(holder: EffectivePrincipal) -> Iterator[Finding]:
    p = holder.principal
    if not p.boundary:
        if p.path.startswith("/kennel/"):
            fix = "add a boundary.json to its folder, then: invoke iam.apply"
            yield Finding("IAM-BOUND-001", "medium", p.name, "has no permissions boundary", fix)
        return
    kind = "Role" if p.trust is not None else "User"
    requests = [(action, p.boundary) for action in ("iam:CreatePolicyVersion", "iam:SetDefaultPolicyVersion")]
    requests += [(f"iam:{verb}{kind}PermissionsBoundary", p.arn) for verb in ("Delete", "Put")]
    # The probe is an arbitrary policy: the escalation rules judge the replacement of one prescribed boundary by another.
    other = {"iam:permissionsboundary": f"arn:aws:iam::{holder.principal.caller.account}:policy/{UNUSED_NAME}"}
    if passing := [action for action, resource in requests if holder.may(Probe(action, resource, other))]:
        message = f"may remove its own permissions boundary: {format_shortlist(passing)}"
        fix = "deny these actions on its boundary and on itself"
        yield Finding("IAM-BOUND-001", "high", p.name, message, fix, p.boundary)


def find_admin_role_passing(
    context: AuditContext, holders: list[EffectivePrincipal], administrators: set[str]
) -> Iterator[Finding]:
    """Yield a finding for each principal that is not an administrator, but may pass a role that is one."""
    strong = {p.arn: p for name, p in context.snapshot.roles.items() if name in administrators}
    place = {arn: number for number, arn in enumerate(strong)}
    passed: dict[int, list[Principal]] = {}
    for holder in holders if strong else ():
        holding = context.model.find_permission_set(holder.principal)
        if holder.principal.name in administrators or PASSING not in holding.actions:
            continue
        if id(holding) not in passed:  # decided once for all principals with the same permissions
            meant = sorted(holding.candidates("iam:PassRole", strong), key=place.__getitem__)
            may = (strong[arn] for arn in meant if holding.may("iam:PassRole", arn))
            passed[id(holding)] = [*islice(may, 2)]
        for role, *others in [passed[id(holding)]] if passed[id(holding)] else ():
            yield Finding(
                "IAM-PASS-002",
                "high",
                holder.principal.name,
                f"may pass {role.name}, which has administrator access" + (", and others" if others else ""),
                "limit iam:PassRole to roles with fewer permissions than its own",
                path=(holder.principal.arn, f"iam:PassRole {role.arn}", role.arn),
            )

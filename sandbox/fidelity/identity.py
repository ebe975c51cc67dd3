"""The answers of IAM and STS."""

from __future__ import annotations

import json

from sandbox.fidelity.case import Case, answered, build_policy, build_trust, prepare, refused

SOURCE = "recorded: localstack tests/aws/services/{iam,sts}/*.snapshot.json at 8b9a79f"
DOCUMENTED = "documented: IAM API reference, errors of the operation"
ROLES, POLICIES = "arn:aws:iam::123456789012:role", "arn:aws:iam::123456789012:policy"
TRUST, READ = build_trust({"Service": "ec2.amazonaws.com"}), build_policy("s3:GetObject")
NO_PRINCIPAL = json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "sts:AssumeRole"}]})
LONG = build_policy("s3:GetObject", [f"arn:aws:s3:::{'a' * 60}{number}" for number in range(90)])
TWIN = {"RoleName": "score-1", "AssumeRolePolicyDocument": TRUST}
MALFORMED, MISSING, TAKEN = "MalformedPolicyDocument", "NoSuchEntity", "EntityAlreadyExists"
QUOTA, IN_USE = "LimitExceeded", "DeleteConflict"
ROLE_DETAIL = (
    "Path RoleName RoleId Arn CreateDate AssumeRolePolicyDocument InstanceProfileList RolePolicyList "
    "AttachedManagedPolicies Tags RoleLastUsed"
)

CASES: list[Case] = [
    prepare("iam.create_role", {**TWIN, "Path": "/score/"}, keep={"role": "Role.Arn"}),
    refused("iam.create_role", "a name that is taken", TWIN, TAKEN, "^Role with name score-1 already exists", 409),
    refused("iam.create_role", "a trust policy that is not JSON", {**TWIN, "RoleName": "score-2", "AssumeRolePolicyDocument": "x"}, MALFORMED, "invalid Json"),
    refused("iam.create_role", "a trust policy without a principal", {**TWIN, "RoleName": "score-3", "AssumeRolePolicyDocument": NO_PRINCIPAL}, MALFORMED, "Missing required field Principal", source=DOCUMENTED),
    refused("iam.create_role", "a trust of a role that is not there", {**TWIN, "RoleName": "score-4", "AssumeRolePolicyDocument": build_trust({"AWS": f"{ROLES}/none"})}, MALFORMED, "^Invalid principal in policy"),
    refused("iam.create_role", "a boundary that is not there", {**TWIN, "RoleName": "score-5", "PermissionsBoundary": f"{POLICIES}/none"}, MISSING, r"^Scope ARN: \S+:policy/none does not exist or is not attachable\.$", 404),
    refused("iam.attach_role_policy", "an ARN that is none", {"RoleName": "score-1", "PolicyArn": "longpolicynamebutnoarn"}, "ValidationError", "^Invalid ARN:  Could not be parsed"),
    refused("iam.attach_role_policy", "a missing policy", {"RoleName": "score-1", "PolicyArn": f"{POLICIES}/none"}, MISSING, "does not exist or is not attachable", 404),
    refused("iam.delete_policy", "a missing policy", {"PolicyArn": f"{POLICIES}/none"}, MISSING, "policy/none was not found|does not exist", 404),
    prepare("iam.create_policy", {"PolicyName": "score-1", "PolicyDocument": READ}, keep={"policy": "Policy.Arn"}),
    refused("iam.create_policy", "a name that is taken", {"PolicyName": "score-1", "PolicyDocument": READ}, TAKEN, "^A policy called score-1 already exists", 409),
    refused("iam.create_policy", "more than 6,144 characters", {"PolicyName": "score-2", "PolicyDocument": LONG}, QUOTA, "^Cannot exceed quota for PolicySize: 6144", 409, source=DOCUMENTED),
    prepare("iam.attach_role_policy", {"RoleName": "score-1", "PolicyArn": "<policy>"}),
    refused("iam.delete_policy", "a policy that is attached", {"PolicyArn": "<policy>"}, IN_USE, "^Cannot delete a policy attached to entities", 409),
    refused("iam.delete_role", "a role with policies", {"RoleName": "score-1"}, IN_USE, "must detach all policies first", 409),
    *(prepare("iam.create_policy_version", {"PolicyArn": "<policy>", "PolicyDocument": READ}) for _ in range(4)),
    refused("iam.create_policy_version", "the sixth", {"PolicyArn": "<policy>", "PolicyDocument": READ}, QUOTA, "^A managed policy can have up to 5 versions", 409),
    refused("iam.delete_policy_version", "the default version", {"PolicyArn": "<policy>", "VersionId": "v1"}, IN_USE, "^Cannot delete the default version", 409),
    refused("iam.get_role", "a missing role", {"RoleName": "none"}, MISSING, "^The role with name none cannot be found", 404),
    refused("iam.get_instance_profile", "a missing profile", {"InstanceProfileName": "none"}, MISSING, "^Instance Profile none cannot be found", 404),
    prepare("iam.create_instance_profile", {"InstanceProfileName": "score-1"}),
    prepare("iam.add_role_to_instance_profile", {"InstanceProfileName": "score-1", "RoleName": "score-1"}),
    prepare("iam.create_role", {**TWIN, "RoleName": "score-6"}),
    refused("iam.add_role_to_instance_profile", "a second role", {"InstanceProfileName": "score-1", "RoleName": "score-6"}, QUOTA, "^Cannot exceed quota for InstanceSessionsPerInstanceProfile: 1", 409),
    refused("iam.delete_role", "a role in an instance profile", {"RoleName": "score-1"}, IN_USE, "must (remove roles from instance profile|detach all policies) first", 409),
    prepare("iam.create_service_linked_role", {"AWSServiceName": "spot.amazonaws.com"}),
    refused("iam.create_service_linked_role", "a second one", {"AWSServiceName": "spot.amazonaws.com"}, "InvalidInput", "has been taken in this account"),
    answered("iam.simulate_principal_policy", "one action of a role", {"PolicySourceArn": "<role>", "ActionNames": ["s3:GetObject"]}),
    answered("iam.get_account_authorization_details", "a role with a profile", {"Filter": ["Role"]}, fields=ROLE_DETAIL, fields_at="RoleDetailList.[RoleName=score-1]"),
    refused("sts.assume_role", "a session name with a colon", {"RoleArn": f"{ROLES}/score-6", "RoleSessionName": "Session1:2"}, "ValidationError", "at 'roleSessionName' failed to satisfy"),
    refused("sts.assume_role", "an ARN that is none", {"RoleArn": "nothing-valid-in-here", "RoleSessionName": "abc"}, "ValidationError", "^nothing-valid-in-here is invalid"),
    refused("sts.assume_role", "a missing role", {"RoleArn": f"{ROLES}/none", "RoleSessionName": "abc"}, "AccessDenied", "is not authorized to perform: sts:AssumeRole on resource", 403),
]  # fmt: skip

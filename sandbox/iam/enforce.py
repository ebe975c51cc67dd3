"""The authorisation of every call: its needed permissions by the table, the caller's rights, and denials in AWS's words."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from iampolicy.policy.document import Policy, as_list
from iampolicy.policy.evaluate import Decision, Request, decide_request
from sandbox.http.parsing import Call
from sandbox.iam import resource_lookup
from sandbox.iam.iam_permissions import TRUST_ACTIONS, describe_denied_resource
from sandbox.iam.permissions import TABLE
from sandbox.iam.principals import Identity, build_request_context, compile_policy, find_identity, find_role
from sandbox.iam.resource_lookup import Context, Row, derive_request_tags
from sandbox.state import ACCOUNT, REGION
from sandbox.world import World

PLACEHOLDER = re.compile(r"\{(\w+)\}")
FUNCTION = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:"
LAYERS = {"identity": "identity-based policy", "boundary": "permissions boundary", "session": "session policy"}


@dataclass(frozen=True)
class Need:
    """One permission that a call needs. `display_name` names the resource in a denial, if that is not its ARN."""

    action: str
    resource: str
    context: Context = field(default_factory=dict)
    display_name: str = ""


class UnlistedOperation(Exception):
    """The operation has no row in the table."""


class Denied(Exception):
    """The caller may not make the call. The message is AWS's."""


def list_needs(world: World, service: str, operation: str, params: dict[str, Any], user: str = "") -> list[Need]:
    """Return every permission that the call needs, its own first. `user` is the calling user's name. Raises UnlistedOperation."""
    try:
        prefix, start, rows = TABLE[service]
        row = rows[operation]
    except KeyError:
        raise UnlistedOperation(f"{service}:{operation}") from None
    params = add_defaults(service, params, user)
    action = row.action or f"{prefix}:{operation}"
    if row.versioned and params.get("VersionId"):
        action = row.versioned
    values = {key.lower(): find_value_at_path(params, path) for key, path in row.keys.items()}
    named = {key: convert_to_text(value) for key, value in values.items() if value != []}
    found = []
    for arn in expand_arns(world, row, start, params):
        context = named | derive_request_tags(params, arn) | resource_lookup.read_resource_tags(world, arn)
        if row.context:
            context |= row.context(world, params, arn)
        found.append(Need(action, arn, context, describe_denied_resource(operation, arn) if service == "iam" else ""))
    return found + list(list_additional_needs(world, row, found, operation, params))


def list_additional_needs(
    world: World, row: Row, found: list[Need], operation: str, params: dict[str, Any]
) -> Iterator[Need]:
    """Yield the further permissions: to tag new resources, to pass the roles that the call names, and the row's `more`."""
    if row.tagging == "ec2:CreateTags":
        for resource_type in dict.fromkeys(
            spec["ResourceType"] for spec in as_list(params.get("TagSpecifications", []))
        ):
            arn = f"{resource_lookup.EC2}{resource_type}/*"
            yield Need(row.tagging, arn, derive_request_tags(params, arn) | {"ec2:createaction": operation})
    elif row.tagging and (tags := derive_request_tags(params, found[0].resource)):
        yield Need(row.tagging, found[0].resource, tags)
    for path, service in row.passes.items():
        for role in as_list(find_value_at_path(params, path)):
            yield from (Need(*item) for item in resource_lookup.list_pass_role_needs(role, service, world))
    if row.more:
        yield from (Need(*item) for item in row.more(world, params))


def add_defaults(service: str, params: dict[str, Any], user: str) -> dict[str, Any]:
    if service == "lambda" and str(params.get("FunctionName", "")).startswith("arn:"):
        params = params | {"FunctionName": params["FunctionName"].split(":", 6)[6]}
    if service == "iam":
        params = {"Path": "/"} | ({"UserName": user} if user else {}) | params  # no user named: the caller is meant
    return params


def expand_arns(world: World, row: Row, start: str, params: dict[str, Any]) -> list[str]:
    """Return the row's templates filled in: one ARN for each value of a list, * for a missing parameter unless optional."""
    found: list[str] = []
    for template in row.arns:
        if callable(template):
            found += template(world, params)
            continue
        arn_template = template if template == "*" or template.startswith(("arn:", "{")) else start + template
        arn_template = arn_template.replace("{region}", REGION).replace("{account}", ACCOUNT)
        values = (
            as_list(params.get(placeholder[1], [])) if (placeholder := PLACEHOLDER.search(arn_template)) else [None]
        )
        if placeholder and not values:
            optional = placeholder[1] in ("SecurityGroupIds", "SubnetIds", "RouteTableIds")
            values = [] if optional else ["*"]
        found += [
            fill_arn_template(arn_template, params | ({placeholder[1]: value} if placeholder else {}))
            for value in values
        ]
    return found


def fill_arn_template(template: str, params: dict[str, Any]) -> str:
    return PLACEHOLDER.sub(lambda m: str(params.get(m[1], "*")), template)


def find_value_at_path(params: Any, path: str) -> Any:
    """Return the value at path A.B, or the list of values if the path goes through a list; [] for a missing value."""
    for name in path.split("."):
        if isinstance(params, list):
            params = [item[name] for item in params if isinstance(item, dict) and item.get(name) is not None]
        else:
            params = params.get(name) if isinstance(params, dict) else None
    return [] if params is None else params


def convert_to_text(value: Any) -> str | list[str]:
    return [str(item) for item in value] if isinstance(value, list) else str(value)


def check(world: World, call: Call, params: dict[str, Any]) -> None:
    """Raise Denied for the first permission that the caller lacks, UnlistedOperation for an operation that has no row."""
    identity = find_identity(world, call.key)
    user = identity.context.get("aws:username", "")
    needs = list_needs(world, call.service, call.operation, params, user)
    enforce_needs(world, identity, needs, call.agent)
    for need in needs[1:]:  # the first is the call's own permission
        if need.action == "iam:CreateServiceLinkedRole":
            resource_lookup.create_service_linked_role(world, need.resource)
    if call.service == "s3" and call.operation in ("GetObject", "HeadObject"):
        check_missing_object(world, identity, params, call.agent)


def explain_tunnel_denial(world: World, key: str, params: dict[str, str]) -> str:
    """Return why the holder of a key may not open an Instance Connect tunnel, in AWS's words; "" if it may."""
    try:
        enforce_needs(world, find_identity(world, key), list_needs(world, "ec2-instance-connect", "OpenTunnel", params))
    except Denied as denied:
        return str(denied)
    return ""


def enforce_needs(world: World, identity: Identity, needs: list[Need], agent: str = "") -> None:
    """Raise Denied for the first permission that the identity lacks. Each decision is recorded."""
    for need in needs:
        decision = decide_need(world, identity, need, agent)
        world.requests.add(identity.caller.arn, need.action, need.resource, need.context, decision.effect, agent)
        if not decision.allowed:
            raise Denied(format_denial(identity, need, decision))


def decide_need(world: World, identity: Identity, need: Need, agent: str) -> Decision:
    if need.action in ("sts:GetCallerIdentity", "sts:GetSessionToken"):  # AWS requires no permission
        return Decision("allowed")
    context = build_request_context(agent) | identity.context | need.context
    request = Request(identity.caller, need.action, need.resource, context)
    if need.action in TRUST_ACTIONS:
        return decide_request(request, identity.rights, compile_trust_policy(world, need.resource), required=True)
    return decide_request(request, identity.rights, compile_resource_policy(world, need.resource))


def compile_trust_policy(world: World, arn: str) -> Policy:
    role = find_role(world, arn)
    return compile_policy("trust", role.assume_role_policy_document if role else "{}")


def compile_resource_policy(world: World, arn: str) -> Policy | None:
    """Return the policy of a bucket, for its objects too, or of a function; None if there is none."""
    if arn.startswith("arn:aws:s3:::"):
        name = arn.removeprefix("arn:aws:s3:::").partition("/")[0]
        bucket = world.get_global_backend("s3").buckets.get(name)
        text = bucket.policy if bucket else None
        return compile_policy(f"policy of {name}", text.decode() if isinstance(text, bytes) else text) if text else None
    if arn.startswith(FUNCTION):
        name = arn.removeprefix(FUNCTION).partition(":")[0]
        statements = resource_lookup.list_function_statements(world, name)
        document = {"Version": "2012-10-17", "Statement": statements}
        return compile_policy(f"policy of {name}", json.dumps(document)) if statements else None
    return None


def check_missing_object(world: World, identity: Identity, params: dict[str, Any], agent: str) -> None:
    """Raise Denied if the object is missing and the caller may not list the bucket, as S3 does instead of reporting a 404.

    AWS does not document whether the key meets a condition on s3:prefix here; it counts as not met.
    """
    bucket = world.get_global_backend("s3").buckets.get(params.get("Bucket"))
    if bucket is not None and params.get("Key") not in bucket.keys:
        enforce_needs(world, identity, [Need("s3:ListBucket", f"arn:aws:s3:::{params['Bucket']}")], agent)


def format_denial(identity: Identity, need: Need, decision: Decision) -> str:
    """Return the denial in AWS's words, which people search for."""
    resource = f'"{need.resource}"' if need.action.startswith("s3:") else need.display_name or need.resource
    message = f"User: {identity.arn} is not authorized to perform: {need.action} on resource: {resource}"
    if decision.effect == "explicitDeny":
        layer = decision.layer
        article = "an" if layer == "identity" else "a"
        return f"{message} with an explicit deny in {article} {LAYERS.get(layer, 'resource-based policy')}"
    if decision.layer == "resource":
        return (
            message
            if need.action in TRUST_ACTIONS
            else f"{message} because no resource-based policy allows the {need.action} action"
        )
    return f"{message} because no {LAYERS[decision.layer]} allows the {need.action} action"

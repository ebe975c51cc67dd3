"""The decision on every call: what it needs by the table, what the caller holds, and a denial in AWS's own words."""

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
from sandbox.iam.iam_permissions import TAKING, describe_denied_resource
from sandbox.iam.permissions import TABLE
from sandbox.iam.principals import Identity, build_request_context, compile_policy, find_identity, find_role
from sandbox.iam.resource_lookup import Context, Row, derive_request_tags
from sandbox.state import ACCOUNT, REGION
from sandbox.world import World

PLACE = re.compile(r"\{(\w+)\}")
FUNCTION = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:"
LAYERS = {"identity": "identity-based policy", "boundary": "permissions boundary", "session": "session policy"}


@dataclass(frozen=True)
class Need:
    """One permission that a call needs. `said` is what a refusal calls the resource, if that is not its ARN."""

    action: str
    resource: str
    context: Context = field(default_factory=dict)
    said: str = ""


class Unlisted(Exception):
    """The operation has no row in the table."""


class Denied(Exception):
    """The caller may not make the call. The message is AWS's."""


def list_needs(world: World, service: str, operation: str, asked: dict[str, Any], user: str = "") -> list[Need]:
    """Return every permission that the call needs, its own first. `user` is the name of the user who calls. Raises Unlisted."""
    try:
        prefix, start, rows = TABLE[service]
        row = rows[operation]
    except KeyError:
        raise Unlisted(f"{service}:{operation}") from None
    asked = with_defaults(service, asked, user)
    action = row.action or f"{prefix}:{operation}"
    if row.versioned and asked.get("VersionId"):
        action = row.versioned
    told = {key.lower(): find_value_at_path(asked, path) for key, path in row.keys.items()}
    named = {key: convert_to_text(value) for key, value in told.items() if value != []}
    found = []
    for arn in expand_arns(world, row, start, asked):
        context = named | derive_request_tags(asked, arn) | resource_lookup.read_resource_tags(world, arn)
        if row.context:
            context |= row.context(world, asked, arn)
        found.append(Need(action, arn, context, describe_denied_resource(operation, arn) if service == "iam" else ""))
    return found + list(list_additional_needs(world, row, found, operation, asked))


def list_additional_needs(
    world: World, row: Row, found: list[Need], operation: str, asked: dict[str, Any]
) -> Iterator[Need]:
    """Yield what else the call needs: to tag what it makes, to pass the roles that it names, and the row's `more`."""
    if row.tagging == "ec2:CreateTags":
        for kind in dict.fromkeys(spec["ResourceType"] for spec in as_list(asked.get("TagSpecifications", []))):
            arn = f"{resource_lookup.EC2}{kind}/*"
            yield Need(row.tagging, arn, derive_request_tags(asked, arn) | {"ec2:createaction": operation})
    elif row.tagging and (tags := derive_request_tags(asked, found[0].resource)):
        yield Need(row.tagging, found[0].resource, tags)
    for path, service in row.passes.items():
        for role in as_list(find_value_at_path(asked, path)):
            yield from (Need(*one) for one in resource_lookup.list_pass_role_needs(role, service, world))
    if row.more:
        yield from (Need(*one) for one in row.more(world, asked))


def with_defaults(service: str, asked: dict[str, Any], user: str) -> dict[str, Any]:
    if service == "lambda" and str(asked.get("FunctionName", "")).startswith("arn:"):
        asked = asked | {"FunctionName": asked["FunctionName"].split(":", 6)[6]}
    if service == "iam":
        asked = {"Path": "/"} | ({"UserName": user} if user else {}) | asked  # no user named: the caller is meant
    return asked


def expand_arns(world: World, row: Row, start: str, asked: dict[str, Any]) -> list[str]:
    """Return the row's templates filled in: one ARN for each value of a list, * for a missing parameter unless optional."""
    found: list[str] = []
    for template in row.arns:
        if callable(template):
            found += template(world, asked)
            continue
        whole = template if template == "*" or template.startswith(("arn:", "{")) else start + template
        whole = whole.replace("{region}", REGION).replace("{account}", ACCOUNT)
        values = as_list(asked.get(place[1], [])) if (place := PLACE.search(whole)) else [None]
        if place and not values:
            optional = place[1] in ("SecurityGroupIds", "SubnetIds", "RouteTableIds")
            values = [] if optional else ["*"]
        found += [fill_arn_template(whole, asked | ({place[1]: value} if place else {})) for value in values]
    return found


def fill_arn_template(template: str, asked: dict[str, Any]) -> str:
    return PLACE.sub(lambda m: str(asked.get(m[1], "*")), template)


def find_value_at_path(asked: Any, path: str) -> Any:
    """Return the value at A.B, or the list of values if a list is on the way; [] if there is none."""
    for name in path.split("."):
        if isinstance(asked, list):
            asked = [one[name] for one in asked if isinstance(one, dict) and one.get(name) is not None]
        else:
            asked = asked.get(name) if isinstance(asked, dict) else None
    return [] if asked is None else asked


def convert_to_text(value: Any) -> str | list[str]:
    return [str(one) for one in value] if isinstance(value, list) else str(value)


def check(world: World, call: Call, asked: dict[str, Any]) -> None:
    """Raise Denied for the first permission that the caller lacks, Unlisted for an operation that has no row."""
    who = find_identity(world, call.key)
    user = who.context.get("aws:username", "")
    enforce_needs(world, who, list_needs(world, call.service, call.operation, asked, user), call.agent)
    if call.service == "s3" and call.operation in ("GetObject", "HeadObject"):
        check_missing_object(world, who, asked, call.agent)


def explain_tunnel_denial(world: World, key: str, asked: dict[str, str]) -> str:
    """Return why the holder of a key may not open an Instance Connect tunnel, in AWS's words; "" if it may."""
    try:
        enforce_needs(world, find_identity(world, key), list_needs(world, "ec2-instance-connect", "OpenTunnel", asked))
    except Denied as denied:
        return str(denied)
    return ""


def enforce_needs(world: World, who: Identity, wanted: list[Need], agent: str = "") -> None:
    """Raise Denied for the first permission that `who` lacks. Each decision is recorded."""
    for need in wanted:
        decision = decide_need(world, who, need, agent)
        world.requests.add(who.caller.arn, need.action, need.resource, need.context, decision.effect, agent)
        if not decision.allowed:
            raise Denied(format_denial(who, need, decision))
        if need.action == "iam:CreateServiceLinkedRole":
            resource_lookup.make_service_role(world, need.resource)


def decide_need(world: World, who: Identity, need: Need, agent: str) -> Decision:
    if need.action == "sts:GetCallerIdentity":  # AWS requires no permission
        return Decision("allowed")
    context = build_request_context(agent) | who.context | need.context
    request = Request(who.caller, need.action, need.resource, context)
    if need.action in TAKING:
        return decide_request(request, who.rights, compile_trust_policy(world, need.resource), required=True)
    return decide_request(request, who.rights, compile_resource_policy(world, need.resource))


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


def check_missing_object(world: World, who: Identity, asked: dict[str, Any], agent: str) -> None:
    """Raise Denied if the object is missing and the caller may not list the bucket, as S3 does instead of reporting a 404.

    AWS does not document whether the key meets a condition on s3:prefix here; it counts as not met.
    """
    bucket = world.get_global_backend("s3").buckets.get(asked.get("Bucket"))
    if bucket is not None and asked.get("Key") not in bucket.keys:
        enforce_needs(world, who, [Need("s3:ListBucket", f"arn:aws:s3:::{asked['Bucket']}")], agent)


def format_denial(who: Identity, need: Need, decision: Decision) -> str:
    """Return the denial in AWS's words; its reason is what people search for."""
    resource = f'"{need.resource}"' if need.action.startswith("s3:") else need.said or need.resource
    said = f"User: {who.arn} is not authorized to perform: {need.action} on resource: {resource}"
    if decision.effect == "explicitDeny":
        layer = decision.layer
        article = "an" if layer == "identity" else "a"
        return f"{said} with an explicit deny in {article} {LAYERS.get(layer, 'resource-based policy')}"
    if decision.layer == "resource":
        return (
            said
            if need.action in TAKING
            else f"{said} because no resource-based policy allows the {need.action} action"
        )
    return f"{said} because no {LAYERS[decision.layer]} allows the {need.action} action"

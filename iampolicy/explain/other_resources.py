"""The other resources of a request: AWS asks for each resource that a call names, and all must be allowed.

sagemaker:UpdateEndpoint names an endpoint and an endpoint-config, ec2:RunInstances five kinds. Which ones a call will name is
unknown here, so a kind counts as allowed if the principal's policies allow the action on some resource of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from iampolicy import actions
from iampolicy.escalation.permission_set import find_common_arn
from iampolicy.explain.simulation import DecisionInput
from iampolicy.policy.document import VARIABLE, Statement, compile_arn_glob, is_about_action


@dataclass(frozen=True)
class OtherResource:
    """A kind of resource that the call needs besides the one asked about; `allowed_on` has the patterns that allow it."""

    kind: str
    arn: str
    allowed_on: tuple[str, ...] = ()


def list_other_resources(asked: DecisionInput) -> list[OtherResource]:
    """Return the kinds of resources that the request needs besides its own; none for a request on `*`."""
    action, resource = asked.request.action, asked.request.resource
    needed = actions.list_required_types(action)
    own = {kind for kind, arn in needed if compile_arn_glob(arn).fullmatch(resource)}
    if not own:
        return []
    account = asked.request.caller.account
    there = [(kind, locate_beside(arn, resource, account)) for kind, arn in needed if kind not in own]
    return [OtherResource(kind, arn, tuple(dict.fromkeys(list_allowed_patterns(asked, arn)))) for kind, arn in there]


def locate_beside(arn: str, resource: str, account: str) -> str:
    """Return the type's ARN with partition, region and account of the resource; an image has no account, so the caller's."""
    theirs, own = arn.split(":", 5), resource.split(":", 5)
    stand_in = {1: own[1], 3: own[3], 4: own[4] or account}
    return ":".join(stand_in.get(at, part) if part == "*" else part for at, part in enumerate(theirs))


def list_allowed_patterns(asked: DecisionInput, arn: str) -> Iterator[str]:
    """Yield the patterns of the principal's statements on which some request of this action is allowed."""
    for policy in asked.rights.identity:
        for one in policy.statements:
            if one.allow and is_about_action(one, asked.request.action):
                yield from (pattern for pattern in list_patterns(one) if is_allowed_on(asked, pattern, arn))


def list_patterns(one: Statement) -> tuple[str, ...]:
    return ("*",) if "resource" in one.negated or not one.resources else one.resources


def is_allowed_on(asked: DecisionInput, pattern: str, arn: str) -> bool:
    found = find_common_arn(VARIABLE.sub("*", pattern), arn)
    if found is None:
        return False
    request = replace(asked.request, resource=found)
    return replace(asked, request=request, resource=None, required=False).decide(possible=True).allowed

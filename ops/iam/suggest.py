"""Suggest the smallest policy for recorded requests: statements with only the actions that were used."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from iampolicy import actions
from iampolicy.policy.document import CURRENT, compile_arn_glob
from ops.iam.roles import POLICY_CHARACTERS, dump_document

Patterns = frozenset[str]

PASS, TO_SERVICE = "iam:PassRole", "iam:PassedToService"
# The parts that change from run to run: a UUID, a time, a digest (letters alone are a word), a run of digits, a version after a colon.
FLEETING = re.compile(
    r"(?<![A-Za-z0-9])(?:[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|\d{4}([-/]?)\d{2}\1\d{2}(?:T\d+Z?)?"
    r"|(?=[a-f]*\d)[0-9a-f]{7,64}|\d{6,})(?![A-Za-z0-9])|(?<=:)\d+$"
)


def suggest_policy(requests: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the policy that allows each request (action, resource, context) and similar ones.

    `training-job/kennel-dev-3f2a91c` stands for `training-job/kennel-dev-*`, an object for its first folder. If that is over the
    quota of a managed policy, the actions of each service share their resources.
    """
    seen: dict[str, set[str]] = defaultdict(set)
    passed: dict[str, set[str]] = defaultdict(set)  # service -> roles
    for request in requests:
        action = next(iter(actions.list_matching_actions(request["action"])), request["action"])
        if action == PASS:
            passed[str(request.get("context", {}).get(TO_SERVICE.lower(), ""))].add(escape_literal(request["resource"]))
        else:
            seen[action].add(derive_pattern(action, request["resource"]))
    narrow = {action: drop_covered_patterns(found) for action, found in seen.items()}
    exact = build_policy_document(group_actions(narrow), passed)
    return (
        exact
        if len(dump_document(exact)) <= POLICY_CHARACTERS
        else build_policy_document(group_by_service(narrow), passed)
    )


def derive_pattern(action: str, resource: str) -> str:
    """Return the pattern that a resource of one request stands for."""
    if actions.is_unscopable(action):
        return "*"
    parts = resource.split(":", 5)
    if len(parts) < 6:
        return escape_literal(resource)
    head, name = ":".join(parts[:5]), parts[5]
    if parts[2] == "s3":
        bucket, slash, key = name.partition("/")
        return escape_literal(f"{head}:{bucket}{slash}{key.partition('/')[0]}") + ("/*" if "/" in key else "")
    if parts[2] in ("kms", "iam"):  # a key's id is its name, and a role's name is chosen
        return escape_literal(resource)
    found = next((one for one in FLEETING.finditer(name) if one[0] != parts[4]), None)
    return escape_literal(f"{head}:{name[: found.start()]}") + "*" if found else escape_literal(resource)


def escape_literal(resource: str) -> str:
    return resource.replace("${", "${$}{")


def drop_covered_patterns(patterns: set[str]) -> Patterns:
    """Return the patterns that no other one covers."""
    wide = [one for one in patterns if one.endswith("*")]
    return frozenset(p for p in patterns if not any(w != p and compile_arn_glob(w).fullmatch(p) for w in wide))


def group_actions(narrow: Mapping[str, Patterns]) -> dict[tuple[str, Patterns], list[str]]:
    """Return, by (service, resources), the actions that have exactly these resources."""
    groups: dict[tuple[str, Patterns], list[str]] = defaultdict(list)
    for action, patterns in narrow.items():
        groups[extract_service(action), patterns].append(action)
    return groups


def group_by_service(narrow: Mapping[str, Patterns]) -> dict[tuple[str, Patterns], list[str]]:
    """Return one group for each service, and one for its actions that take no resource."""
    union: dict[str, Patterns] = defaultdict(frozenset)
    for action, patterns in narrow.items():
        union[extract_service(action)] |= patterns - {"*"}
    return group_actions(
        {
            action: found if "*" in found else drop_covered_patterns(set(union[extract_service(action)]))
            for action, found in narrow.items()
        }
    )


def extract_service(action: str) -> str:
    return action.partition(":")[0]


def build_policy_document(
    groups: Mapping[tuple[str, Patterns], list[str]], passed: Mapping[str, set[str]]
) -> dict[str, Any]:
    found: list[dict[str, Any]] = []
    everywhere: list[str] = []
    for (_, patterns), names in groups.items():
        scopable = [one for one in names if not actions.is_unscopable(one)]
        if "*" in patterns:
            everywhere += [one for one in names if one not in scopable]
            names = scopable
        if names:
            found.append(build_statement(build_sid(extract_service(names[0]), patterns), names, patterns))
    if everywhere:
        found.append(build_statement("TakeNoResource", everywhere, frozenset("*")))
    for to, roles in passed.items():
        one = build_statement(
            f"PassTo{join_capitalised(to.partition('.')[0])}" if to else "PassRole", [PASS], frozenset(roles)
        )
        found.append(one | ({"Condition": {"StringEquals": {TO_SERVICE: to}}} if to else {}))
    return {"Version": CURRENT, "Statement": order_statements(found)}


def build_statement(name: str, names: list[str], patterns: Patterns) -> dict[str, Any]:
    return {"Sid": name, "Effect": "Allow", "Action": sorted(names), "Resource": sorted(patterns)}


def build_sid(service: str, patterns: Patterns) -> str:
    """Return a Sid of the service and what it acts on: S3Objects, SagemakerTrainingJob, LambdaFunction."""
    first = min(patterns)
    name = first.split(":", 5)[-1]
    if first == "*":
        return f"{join_capitalised(service)}Everywhere"
    if service == "s3":
        return "S3Objects" if "/" in name else "S3Bucket"
    kind = re.match(r"([a-z-]+)[:/]", name)
    return join_capitalised(service) + (join_capitalised(kind[1]) if kind else "")


def join_capitalised(text: str) -> str:
    return "".join(part.capitalize() for part in re.split(r"[^A-Za-z0-9]+", text))


def order_statements(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the statements in a fixed order, with each Sid only once: S3Objects, S3Objects2."""
    count: dict[str, int] = defaultdict(int)
    ordered = []
    for one in sorted(found, key=lambda one: (one["Sid"], one["Action"], one["Resource"])):
        count[one["Sid"]] += 1
        number = count[one["Sid"]]
        ordered.append(one | ({"Sid": f"{one['Sid']}{number}"} if number > 1 else {}))
    return ordered

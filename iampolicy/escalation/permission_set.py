"""Permission sets: what principals may do among the relevant actions, decided once for all that have the same documents.

Every check asks whether *some* request could be allowed: unknown context keys are assumed in the principal's favour.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache

from iampolicy import actions
from iampolicy.escalation.missing_keys import drop_absent_keys
from iampolicy.escalation.paths import PASS_ROLE, TAGS, UNKNOWN_ACTION, list_relevant_actions, load_powers
from iampolicy.policy.conditions import Context, evaluate_conditions
from iampolicy.policy.document import Policy, Statement, compile_arn_glob, match_action
from iampolicy.policy.evaluate import (
    Caller,
    DecidingStatement,
    Decision,
    Request,
    Rights,
    decide_request,
    is_about_resource,
)

UNKNOWN_NAME = "q7x-named-nowhere"
ADMINISTRATOR = "arn:aws:iam::aws:policy/AdministratorAccess"
REGION = "us-east-1"  # stands for any region
LONGEST = 2048  # characters of an ARN
# The values of these keys differ between principals that have the same documents.
PERSONAL = ("aws:principal", "aws:userid", "aws:username")
NO_KEYS: frozenset[str] = frozenset()
Tags = Mapping[str, str]  # The names are in lower case: in conditions AWS ignores their case.


@lru_cache(100_000)
def find_common_text(one: str, other: str) -> str | None:
    """Return a text that matches both patterns, or None. Where both patterns allow anything, the text is empty."""
    if max(len(one), len(other)) > LONGEST:
        return None
    states, seen = [(0, 0, "")], set()
    while states:
        i, j, text = states.pop()
        if (i, j) in seen:
            continue
        seen.add((i, j))
        a, b = one[i : i + 1], other[j : j + 1]
        if not a and not b:
            return text
        if a == "*":
            states.append((i + 1, j, text))
            if b and b != "*":
                states.append((i, j + 1, text + b.replace("?", "x")))
        if b == "*":
            states.append((i, j + 1, text))
            if a and a != "*":
                states.append((i + 1, j, text + a.replace("?", "x")))
        if a and b and "*" not in (a, b) and (a == b or "?" in (a, b)):
            states.append((i + 1, j + 1, text + (b if a == "?" else a).replace("?", "x")))
    return None


def find_common_arn(pattern: str, end: str) -> str | None:
    """Return an ARN that matches both patterns, or None. `end` has all its segments, so that its wildcards match no colon."""
    theirs, ours = pattern.split(":", 5), end.split(":", 5)
    if len(ours) < 6 or len(theirs) < 6:
        return find_common_text(pattern, ":".join([part.replace("*", REGION) for part in ours[:5]] + ours[5:]))
    parts = [find_common_text(one, other) for one, other in zip(theirs, ours, strict=True)]
    return None if None in parts else ":".join(part or "" for part in parts)


@lru_cache(20_000)
def list_covered_actions(pattern: str) -> frozenset[str]:
    if pattern in list_relevant_actions():
        return frozenset([pattern])
    if "*" not in pattern and "?" not in pattern:
        return frozenset()
    return frozenset(action for action in list_relevant_actions() if match_action(pattern, action))


@lru_cache(5_000)
def build_sample_arns(action: str, account: str) -> tuple[tuple[str, str], ...]:
    """Return, for each resource type of the action, its ARN with a wildcard as name, and with a name that no policy uses."""
    found = []
    for pattern in actions.list_resource_arns(action) or ["*"]:
        parts = pattern.split(":", 5)
        if len(parts) == 6:
            parts[1] = parts[1].replace("*", "aws")
            parts[4] = parts[4].replace("*", account)
        found.append(
            (":".join(parts), ":".join([*parts[:5], *(part.replace("*", UNKNOWN_NAME) for part in parts[5:])]))
        )
    return tuple(found)


class DocumentIndex:
    """The index of one document's statements by relevant action."""

    def __init__(self, statements: tuple[Statement, ...]) -> None:
        self.statements = statements
        by_action: dict[str, list[Statement]] = {}
        for one in statements:
            named: frozenset[str] = frozenset().union(*map(list_covered_actions, one.actions))
            for action in list_relevant_actions() - named if "action" in one.negated else named:
                by_action.setdefault(action, []).append(one)
        self.by_action = {action: tuple(found) for action, found in by_action.items()}
        self.allows = frozenset(action for action, found in by_action.items() if any(one.allow for one in found))
        self.denies = frozenset(
            action for action, found in by_action.items() if any(is_blanket_deny(one) for one in found)
        )
        self.tagged = any(":resourcetag/" in key for one in statements for _, key, _ in one.conditions)
        self.personal = any(
            "${" in text or key.startswith(PERSONAL)
            for one in statements
            for key, text in [("", text) for text in one.resources]
            + [(key, text) for _, key, values in one.conditions for text in values]
        )


def is_blanket_deny(one: Statement) -> bool:
    """Return whether the statement denies its actions on every resource without conditions."""
    return not one.allow and not one.conditions and "*" in one.resources and "resource" not in one.negated


@dataclass(frozen=True)
class ActionIndex:
    """The statements about one action, and the resources of those that allow it.

    `free` means that no boundary or deny restricts it. `tags` are the condition keys on the resource's tags.
    """

    rights: Rights
    patterns: tuple[str, ...]
    free: bool
    tags: frozenset[str]


class PermissionSet:
    """The permissions of all principals with the same documents. Policies are numbered by position: their names may differ.

    `tags` maps an ARN to the known tags of that resource.
    """

    def __init__(
        self,
        caller: Caller,
        documents: tuple[DocumentIndex, ...],
        bound: DocumentIndex | None,
        context: Context,
        tags: Mapping[str, Tags],
    ) -> None:
        self.caller, self.documents, self.boundary, self.context, self.tags = caller, documents, bound, context, tags
        allowed: frozenset[str] = frozenset().union(*(one.allows for one in documents))
        every = (*documents, bound) if bound else documents
        self.actions = (allowed & bound.allows if bound else allowed).difference(*(one.denies for one in every))
        self.tagged = any(one.tagged for one in every)
        self.indexes: dict[str, ActionIndex] = {}
        self.reachable: dict[tuple[str, str], tuple[str, Decision, bool] | None] = {}

    def index_action(self, action: str) -> ActionIndex:
        if action not in self.indexes:
            low = action.lower()
            index = tuple(Policy(str(n), s.by_action[low]) for n, s in enumerate(self.documents) if low in s.by_action)
            bound = Policy("", self.boundary.by_action.get(low, ())) if self.boundary else None
            every = [one for policy in (*index, *([bound] if bound else [])) for one in policy.statements]
            free = bound is None and all(one.allow for one in every)
            keys = (key for one in every for _, key, _ in one.conditions if ":resourcetag/" in key)
            self.indexes[action] = ActionIndex(
                Rights(index, bound), list_resource_patterns(index), free, frozenset(keys) if self.tagged else NO_KEYS
            )
        return self.indexes[action]

    def may(self, action: str, resource: str, context: Context | None = None) -> Decision | None:
        if action.lower() not in self.actions:
            return None
        index = self.index_action(action)
        if index.free and not index.tags:
            known = {**self.context, **context} if context else self.context
            return find_allow(index.rights.identity, Request(self.caller, action, resource, known))
        for rights, tags in self.list_rights_by_tags(action, resource):
            request = Request(self.caller, action, resource, {**self.context, **(context or {}), **tags})
            if (decision := decide_request(request, rights, possible=True)).allowed:
                return decision
        return None

    def list_rights_by_tags(self, action: str, resource: str) -> list[tuple[Rights, Context]]:
        """Return the statements about the action, with the resource's known tags unless the holder may change them.

        AWS: to control who may pass a role by its tags "does not have reliable results"; so the tags may as well be absent.
        docs.aws.amazon.com/IAM/latest/UserGuide/id_roles_use_passrole.html
        """
        index = self.index_action(action)
        tags = self.tags.get(resource) if index.tags else None
        if tags is None or self.can_change_tags(action, resource):
            return [(index.rights, {})]
        return [apply_tags(index, some) for some in ([tags, {}] if action == PASS_ROLE else [tags])]

    def can_change_tags(self, action: str, resource: str) -> bool:
        kind = resource.split(":", 5)[-1].partition("/")[0]
        return any(action not in both and any(self.may(one, resource) for one in both) for both in [TAGS.get(kind, ())])

    def find_resource(self, action: str, context: Context | None = None) -> tuple[str, Decision, bool] | None:
        """Return (a resource, the decision that allows the action there, whether no policy names that resource), or None."""
        key = (action, repr(context))
        if key not in self.reachable:
            self.reachable[key] = self.find_first_resource(action, True, context) or self.find_first_resource(
                action, False, context
            )
        return self.reachable[key]

    def find_first_resource(
        self, action: str, at_large: bool, context: Context | None = None
    ) -> tuple[str, Decision, bool] | None:
        """Return the first resource that the action is allowed on; with `at_large`, only one that no policy names."""
        return next(((*found, at_large) for found in self.list_allowed_resources(action, (at_large,), context)), None)

    def list_allowed_resources(
        self, action: str, at_large: tuple[bool, ...], context: Context | None = None
    ) -> Iterator[tuple[str, Decision]]:
        """Yield, for each pattern, a resource on which the action is allowed, and the decision.

        `at_large` lists, in order, whether to try resources that no policy names (True) or any (False).
        """
        if action.lower() not in self.actions:
            return
        patterns = [one for one in self.index_action(action).patterns if False in at_large or "*" in one]
        found = build_sample_arns(action, self.caller.account) if patterns else ()
        for pattern in patterns:
            for unnamed, end in ((unnamed, end) for unnamed in at_large for end in found):
                resource = find_common_arn(pattern, end[unnamed])
                if resource is not None and (decision := self.may(action, resource, context)):
                    yield resource, decision
                    break

    def list_foreign_resources(self, action: str) -> Iterator[str]:
        """Yield resources in other accounts that a pattern names and on which the action is allowed."""
        for pattern in self.index_action(action).patterns:
            account = pattern.split(":", 5)[4] if pattern.count(":") >= 5 else ""
            for named, _ in (
                build_sample_arns(action, account) if account.isdigit() and account != self.caller.account else ()
            ):
                resource = find_common_arn(pattern, named)
                if resource is not None and self.may(action, resource):
                    yield resource

    def candidates(self, action: str, arns: Mapping[str, object]) -> Iterable[str]:
        """Return those of the ARNs that a statement which allows the action may cover."""
        patterns = self.index_action(action).patterns
        if any(pattern == "*" or "${" in pattern for pattern in patterns):
            return arns
        if all("*" not in pattern and "?" not in pattern for pattern in patterns):
            return [pattern for pattern in patterns if pattern in arns]
        globs = [compile_arn_glob(pattern).fullmatch for pattern in patterns]
        if len(globs) == 1:
            return [*filter(globs[0], arns)]
        return [arn for arn in arns if any(fits(arn) for fits in globs)]

    @cached_property
    def is_admin(self) -> bool:
        """Return whether the holder may perform an action of no service and write any role's policies."""
        if UNKNOWN_ACTION not in self.actions:
            return False
        role = f"arn:aws:iam::{self.caller.account}:role/{UNKNOWN_NAME}"
        everything = self.may(UNKNOWN_ACTION, f"arn:aws:kennel:::{UNKNOWN_NAME}")
        attach = self.may("iam:AttachRolePolicy", role, {"iam:policyarn": ADMINISTRATOR})
        return bool(everything and attach and self.may("iam:PutRolePolicy", role))

    @cached_property
    def powers(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """Return (action, resources on which it is allowed) for each power of paths.toml that the holder has."""
        found = []
        for action, anywhere in load_powers():
            if action.lower() in self.actions:
                places = [
                    place for place, _ in self.list_allowed_resources(action, (True,) if anywhere else (True, False))
                ]
                places += () if anywhere else self.list_foreign_resources(action)
                found += [(action, tuple(dict.fromkeys(places)))] if places else []
        return tuple(found)

    def list_missing_powers(self, other: PermissionSet) -> tuple[str, ...]:
        """Return the powers of `other` that this set lacks on at least one resource."""
        if other.is_admin and not self.is_admin:
            return ("administrator access",)
        return tuple(action for action, places in other.powers if not all(self.may(action, place) for place in places))


def list_resource_patterns(policies: Iterable[Policy]) -> tuple[str, ...]:
    """Return the resource patterns of the statements that allow."""
    found: list[str] = []
    for policy in policies:
        for one in policy.statements:
            if one.allow:
                found += ["*"] if "resource" in one.negated or not one.resources else one.resources
    return tuple(dict.fromkeys(found))


def apply_tags(index: ActionIndex, tags: Tags) -> tuple[Rights, Context]:
    """Return the statements for a request on a resource with exactly these tags, and the context keys of the tags."""
    has = {key: tags[name] for key in index.tags if (name := key.partition("/")[2]) in tags}
    absent = (index.tags - has.keys()).__contains__
    bound = index.rights.boundary
    identity = tuple(drop_absent_keys(policy, absent) for policy in index.rights.identity)
    return Rights(identity, drop_absent_keys(bound, absent) if bound else None), has


def find_allow(policies: Iterable[Policy], request: Request) -> Decision | None:
    """Return the evaluator's decision for policies whose statements are all about the action and all allow it."""
    for policy in policies:
        for one in policy.statements:
            if is_about_resource(one, request) and (
                not one.conditions or evaluate_conditions(one, request.context, True)[0]
            ):
                return Decision("allowed", "", (DecidingStatement("identity", policy.name, one),))
    return None

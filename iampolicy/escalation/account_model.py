"""The model of a snapshot at a given time: permission sets, known context keys, trust policies, and who may assume which role.

A role's session may have other tags than the role, and a policy whose document is not in the snapshot may allow anything: unknowns
are assumed in the principal's favour.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any, TypeVar

from iampolicy.account.snapshot import Principal, Snapshot
from iampolicy.escalation.missing_keys import drop_absent_keys
from iampolicy.escalation.paths import ASSUME_ROLE, TAGS
from iampolicy.escalation.permission_set import (
    ADMINISTRATOR,
    PERSONAL,
    UNKNOWN_NAME,
    DocumentIndex,
    PermissionSet,
    Tags,
)
from iampolicy.escalation.session_times import ISSUED, drop_impossible_sessions
from iampolicy.policy.conditions import Context, evaluate_conditions
from iampolicy.policy.document import CURRENT, Policy, Statement, is_about_action, parse_policy
from iampolicy.policy.evaluate import Caller, Decision, Request, Rights, decide_request

AWS = "arn:aws:iam::aws:policy/"
TAG = "aws:principaltag/"
NO_TAGS: Tags = {}
REGIONAL = re.compile(r"\.[a-z]{2}(-[a-z]+)+-\d\.")
NEW_SESSION = "the session that the new trust policy names"
WELCOME = Policy("trust", (Statement(1, "", True, ("sts:assumerole",), principals=(("AWS", NEW_SESSION),)),))

Found = TypeVar("Found")


def make_well_known_policy(name: str, **what: object) -> tuple[str, Policy]:
    text = {"Version": CURRENT, "Statement": {"Effect": "Allow", "Resource": "*"} | what}
    return AWS + name, parse_policy(AWS + name, text)


# The permissions of these policies are known without their document. docs.aws.amazon.com/aws-managed-policy/latest/reference/
WELL_KNOWN = dict([
    (ADMINISTRATOR, parse_policy(ADMINISTRATOR, {"Version": CURRENT, "Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}})),
    make_well_known_policy("IAMFullAccess", Action="iam:*"),
    make_well_known_policy("PowerUserAccess", NotAction=["iam:*", "organizations:*", "account:*"]),
])  # fmt: skip


@dataclass(frozen=True)
class RankedPrincipals:
    """Principals by ARN, the strongest first. `rank` is equal for equal strength; `permissions` has one set per rank."""

    members: Mapping[str, Principal]
    rank: Mapping[str, int]
    permissions: tuple[PermissionSet, ...]


class AccountModel:
    """The account's principals with cached results; results that depend only on a permission set are computed once per set.

    `carriers` maps the ARN of a resource, such as a function, to the ARN of its role.
    """

    def __init__(self, snapshot: Snapshot, now: datetime, carriers: Mapping[str, str] | None = None) -> None:
        self.snapshot = snapshot
        self.carriers = carriers or {}
        self.now = now
        self.moment = {"aws:currenttime": now.isoformat(), "aws:epochtime": str(int(now.timestamp()))}
        self.tags = {p.arn: normalise_tag_names(p.tags) for p in snapshot.principals()}
        # GetAccountAuthorizationDetails omits the tags of policies, so a policy without tags here may have some in AWS.
        self.tags |= {
            policy.arn: normalise_tag_names(policy.tags) for policy in snapshot.policies.values() if policy.tags
        }
        self.roles = {role.arn: role for role in snapshot.roles.values()}
        self.users = {user.arn: user for user in snapshot.users.values()}
        # Roles by the principals that their trust policies name (services and providers by name); `named` has a role's principals.
        self.by_service: dict[str, dict[str, Principal]] = {}
        self.open_trust: dict[str, Principal] = {}
        self.personal_trust: dict[str, Principal] = {}
        self.direct: dict[str, dict[str, Principal]] = {}
        self.named: dict[str, list[str]] = {}
        for role in snapshot.roles.values():
            self._index_trust(role)
        # Caches, most of them by the id of a shared object, which the cached value keeps alive.
        self._documents: dict[int, DocumentIndex] = {}
        self._permission_sets: dict[tuple[object, ...], PermissionSet] = {}
        self._by_arn: dict[str, PermissionSet] = {}
        self._rights: dict[str, Rights] = {}
        self._keys_that_may_be_absent: dict[int, tuple[Policy, frozenset[str]]] = {}
        self._applicable: dict[tuple[int, str], tuple[Policy, Policy]] = {}
        self._known_keys: dict[str, dict[str, str]] = {}
        self._ranked: dict[object, RankedPrincipals] = {}
        self._service_assumes: dict[tuple[int, str], tuple[Policy, bool]] = {}
        self._missing_powers: dict[tuple[int, int], tuple[str, ...]] = {}
        self._remembered: dict[tuple[int, object], Any] = {}

    def find_permission_set(self, p: Principal) -> PermissionSet:
        if p.arn not in self._by_arn:
            self._by_arn[p.arn] = self.build_permission_set(self.rights(p), p)
        return self._by_arn[p.arn]

    def build_permission_set(self, rights: Rights, p: Principal) -> PermissionSet:
        """Return the permission set that the principal would have with these rights."""
        documents = tuple(self._index_document(self.applicable(policy, p)) for policy in rights.identity)
        boundary = self._index_document(self.applicable(rights.boundary, p)) if rights.boundary else None
        personal = any(one.personal for one in (*documents, *([boundary] if boundary else [])))
        key = (*map(id, documents), id(boundary), p.arn if personal else p.caller.account)
        if key not in self._permission_sets:
            known = self.build_caller_context(p) if personal else self.moment
            self._permission_sets[key] = PermissionSet(p.caller, documents, boundary, known, self.tags)
        return self._permission_sets[key]

    def _index_document(self, policy: Policy) -> DocumentIndex:
        """Return the index of the statements, found by their id: equal texts share one object, which the index keeps alive."""
        found = self._documents.get(id(policy.statements))
        if found is None:
            found = self._documents[id(policy.statements)] = DocumentIndex(policy.statements)
        return found

    def rights(self, p: Principal) -> Rights:
        """Return the rights of the principal, reduced to what can apply to its own requests."""
        if p.arn not in self._rights:
            held = self.complete_rights(p)
            identity = tuple(self.applicable(policy, p) for policy in held.identity)
            self._rights[p.arn] = Rights(identity, self.applicable(held.boundary, p) if held.boundary else None)
        return self._rights[p.arn]

    def complete_rights(self, p: Principal) -> Rights:
        """Return the rights, with well-known policies for missing documents. An AWS boundary without document restricts nothing."""
        absent = [WELL_KNOWN[arn] for arn in p.attached if arn in WELL_KNOWN and arn not in self.snapshot.policies]
        boundary = self.find_policy_text(p.boundary) if p.boundary else None
        return Rights((*self.snapshot.rights(p).identity, *absent), boundary)

    def find_policy_text(self, arn: str) -> Policy | None:
        """Return the policy; None for an unknown AWS managed policy. A missing policy of the account itself allows nothing."""
        if arn in self.snapshot.policies or not arn.startswith(AWS):
            return self.snapshot.find_policy(arn)
        return WELL_KNOWN.get(arn)

    @cached_property
    def strong_policies(self) -> dict[str, PermissionSet]:
        """The policies of the snapshot each of which gives a principal powers by itself."""
        any_principal = next(self.snapshot.principals())
        held = {
            arn: self.build_permission_set(Rights((self.snapshot.find_policy(arn),)), any_principal)
            for arn in self.snapshot.policies
        }
        return {arn: one for arn, one in held.items() if one.is_admin or one.powers}

    def build_caller_context(self, p: Principal) -> dict[str, str]:
        """Return the known context keys of the caller."""
        if p.arn not in self._known_keys:
            kind = "User" if p.trust is None else "AssumedRole"
            known = {"aws:principalarn": p.arn, "aws:principalaccount": p.caller.account, "aws:principaltype": kind}
            tags = self.tags.get(p.arn, NO_TAGS).items()
            known |= {TAG + name: value for name, value in tags if not self.can_choose_tag(p, name)}
            self._known_keys[p.arn] = self.moment | known | ({} if p.trust is not None else {"aws:username": p.name})
        return self._known_keys[p.arn]

    def applicable(self, policy: Policy, p: Principal) -> Policy:
        """Return the policy as it applies to the principal's requests, which certainly lack some keys, and are made now."""
        key = id(policy.statements)
        if key not in self._keys_that_may_be_absent:
            asked = (key for one in policy.statements for _, key, _ in one.conditions)
            keys = frozenset(one for one in asked if one in ("aws:username", ISSUED) or one.startswith(TAG))
            self._keys_that_may_be_absent[key] = policy, keys
        keys = self._keys_that_may_be_absent[key][1]
        if not keys:
            return policy
        if (key, p.arn) not in self._applicable:
            absent = frozenset(one for one in keys if one != ISSUED and self.is_key_absent(p, one))
            known = drop_absent_keys(policy, absent.__contains__)
            kind = "user" if p.trust is None else "role"
            self._applicable[key, p.arn] = policy, drop_impossible_sessions(known, kind, self.now)
        return Policy(policy.name, self._applicable[key, p.arn][1].statements)

    def is_key_absent(self, p: Principal, key: str) -> bool:
        if key == "aws:username":
            return p.trust is not None
        name = key.removeprefix(TAG)
        return name not in self.tags.get(p.arn, NO_TAGS) and not self.can_choose_tag(p, name)

    def can_choose_tag(self, p: Principal, name: str) -> bool:
        """Return whether the principal can use another value of the tag than its own, by tagging itself or its session.

        AWS: a session's tag overrides the role's. docs.aws.amazon.com/IAM/latest/UserGuide/id_session-tags.html
        """
        own = self.complete_rights(p)
        if self.can_tag_itself(p, own):
            return True
        conditions = (found for policy in own.identity for one in policy.statements for found in one.conditions)
        wanted = [value for _, key, values in conditions if key == TAG + name for value in values]
        return is_session_tag_allowed(p.trust_policy, name, wanted)

    def can_tag_itself(self, p: Principal, own: Rights) -> bool:
        """Return whether the principal may tag itself, given its current tags."""
        actions = TAGS["user" if p.trust is None else "role"]
        if not any(
            action.lower() in self._index_document(policy).allows for policy in own.identity for action in actions
        ):
            return False
        tags = self.tags.get(p.arn, NO_TAGS)
        known = {**self.moment, "aws:principalarn": p.arn, "aws:principalaccount": p.caller.account}
        known |= {TAG + name: value for name, value in tags.items()}
        identity = tuple(
            drop_absent_keys(one, lambda key: key.startswith(TAG) and key not in known) for one in own.identity
        )
        rights = Rights(identity, own.boundary)
        asked = (Request(p.caller, action, p.arn, known) for action in actions)
        return any(decide_request(one, rights, possible=True).allowed for one in asked)

    def _index_trust(self, role: Principal) -> None:
        """Index the principals that the role's trust policy names. Conditions and denies are evaluated later."""
        account = role.caller.account
        for one in role.trust_policy.statements:
            if not one.allow:
                continue
            general = self.personal_trust if has_personal_condition(one) else self.open_trust
            if "principal" in one.negated:
                general[role.arn] = role
            for kind, value in () if "principal" in one.negated else one.principals or ():
                self.named.setdefault(role.arn, []).append(normalise_principal(value))
                if kind in ("Service", "Federated"):
                    self.by_service.setdefault(normalise_principal(value), {})[role.arn] = role
                elif value in ("*", account, f"arn:aws:iam::{account}:root"):
                    general[role.arn] = role
                else:
                    self.direct.setdefault(normalise_principal(value), {})[role.arn] = role

    def find_candidate_roles(self, p: Principal) -> dict[str, Principal]:
        """Return the roles whose trust policy has to be evaluated for this individual principal."""
        by_name = self.direct.get(f"arn:aws:iam::{p.caller.account}:role/{p.name}", {}) if p.trust is not None else {}
        return {**self.direct.get(p.arn, {}), **by_name, **self.personal_trust}

    def can_service_assume(self, role: Principal, service: str) -> bool:
        """Return whether the trust policy allows the service to assume the role; an identity pool counts as a federated provider."""
        policy = role.trust_policy
        key = (id(policy), service)
        if key not in self._service_assumes:
            context = {**self.moment, "aws:sourceaccount": role.caller.account}
            kinds = {
                who
                for one in policy.statements
                for who in one.principals or ()
                if normalise_principal(who[1]) == service
            }
            callers = [
                (Caller(service=value), ASSUME_ROLE)
                if kind == "Service"
                else (Caller(federated=value), "sts:AssumeRoleWithWebIdentity")
                for kind, value in kinds
            ]
            asked = [Request(caller, action, role.arn, context) for caller, action in callers]
            answers = (decide_request(one, Rights(), policy, required=True, possible=True) for one in asked)
            self._service_assumes[key] = policy, any(answer.allowed for answer in answers)
        return self._service_assumes[key][1]

    def decide_assume_role(self, p: Principal, role: Principal) -> Decision | None:
        """Decide sts:AssumeRole by both sides' policies. A trusted caller may choose any session name that the trust names."""
        policy, permissions = self.applicable(role.trust_policy, p), self.find_permission_set(p)
        for session in list_trusted_sessions(policy, p):
            for rights, tags in permissions.list_rights_by_tags(ASSUME_ROLE, role.arn):
                request = Request(
                    Caller(p.arn, session), ASSUME_ROLE, role.arn, {**self.build_caller_context(p), **tags}
                )
                decision = decide_request(request, rights, policy, required=True, possible=True)
                if decision.allowed:
                    return decision
        return None

    def can_assume_rewritten(self, permissions: PermissionSet, arn: str) -> bool:
        """Return whether the holder could assume a role after it has rewritten its trust policy: only a deny prevents it."""
        me = Caller(permissions.caller.arn, NEW_SESSION)
        return any(
            decide_request(
                Request(me, ASSUME_ROLE, arn, {**permissions.context, **tags}), rights, WELCOME, required=True, possible=True
            ).allowed
            for rights, tags in permissions.list_rights_by_tags(ASSUME_ROLE, arn)
        )  # fmt: skip

    def rank(self, key: object, principals: Iterable[Principal]) -> RankedPrincipals:
        """Rank the principals by strength. Each key must always be used for the same principals."""
        if key not in self._ranked:
            groups: dict[object, tuple[PermissionSet, list[Principal]]] = {}
            for p in principals:
                permissions = self.find_permission_set(p)
                groups.setdefault(permissions.is_admin or permissions.powers, (permissions, []))[1].append(p)
            ranks = sorted(groups.values(), key=lambda found: (not found[0].is_admin, -len(found[0].powers)))
            members = {p.arn: p for _, found in ranks for p in found}
            rank = {p.arn: number for number, (_, found) in enumerate(ranks) for p in found}
            self._ranked[key] = RankedPrincipals(members, rank, tuple(permissions for permissions, _ in ranks))
        return self._ranked[key]

    def rank_service_roles(self, services: tuple[str, ...]) -> RankedPrincipals:
        """Return the roles that one of the services may assume, ranked."""
        if services not in self._ranked:
            named = [(role, service) for service in services for role in self.by_service.get(service, {}).values()]
            return self.rank(services, [role for role, service in named if self.can_service_assume(role, service)])
        return self._ranked[services]

    def list_missing_powers(self, permissions: PermissionSet, other: PermissionSet) -> tuple[str, ...]:
        key = (id(permissions), id(other))
        if key not in self._missing_powers:
            self._missing_powers[key] = permissions.list_missing_powers(other)
        return self._missing_powers[key]

    def remember(self, permissions: PermissionSet, key: object, find: Callable[[], Found]) -> Found:
        """Return the result of `find`, computed once per permission set and key. A key must always mean the same question."""
        if (id(permissions), key) not in self._remembered:
            self._remembered[id(permissions), key] = find()
        found: Found = self._remembered[id(permissions), key]
        return found


def has_personal_condition(one: Statement) -> bool:
    return any(key.startswith(PERSONAL) for _, key, _ in one.conditions)


def strip_region(service: str) -> str:
    """Return the service name without its region: states.amazonaws.com for states.us-east-1.amazonaws.com."""
    return REGIONAL.sub(".", service)


def normalise_principal(value: str) -> str:
    """Return the ARN or service that a trust names; for a session, assumed-role/NAME/SESSION, the role's ARN without its path."""
    if ":" not in value:
        return strip_region(value)
    if ":assumed-role/" not in value or value.count(":") < 5:
        return value
    account, name = value.split(":")[4], value.split("/")[1]
    return f"arn:aws:iam::{account}:role/{name}"


def list_trusted_sessions(policy: Policy, p: Principal) -> list[str]:
    """Return "" for no session, and for a role also its sessions that the trust names."""
    start = f"arn:aws:sts::{p.caller.account}:assumed-role/{p.name}/"
    found = [value for one in policy.statements for _, value in one.principals or () if value.startswith(start)]
    return ["", *found] if p.trust is not None else [""]


def is_session_tag_allowed(trust: Policy, name: str, wanted: Iterable[str]) -> bool:
    """Return whether a trust policy allows a caller to set this session tag to one of the values (or any), apart from services."""
    about = [one for one in trust.statements if is_about_action(one, "sts:TagSession")]
    if not any(one.allow for one in about):
        return False
    listed = [value for one in about for _, key, values in one.conditions if key == "aws:tagkeys" for value in values]
    spelled = next((one for one in listed if one.lower() == name), name)
    for value in [one.replace("*", UNKNOWN_NAME) for one in wanted] or [UNKNOWN_NAME]:
        known: Context = {f"aws:requesttag/{name}": value, "aws:tagkeys": [spelled]}
        fit = [one for one in about if evaluate_conditions(one, known, one.allow)[0]]
        people = (one for one in fit if one.allow and any(kind != "Service" for kind, _ in one.principals or ()))
        if any(people) and all(one.allow for one in fit):
            return True
    return False


def normalise_tag_names(tags: Tags) -> Tags:
    return {name.lower(): value for name, value in tags.items()} if tags else NO_TAGS

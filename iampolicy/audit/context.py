"""The context of an audit: decide what a statement allows under denies, permissions boundary, dates and conditions.

A rule yields a candidate finding about one statement, with probes: requests that would confirm it. They are decided here. A probe
uses a name that no account has, so that it passes only where the statement is as wide as the rule says.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache

from iampolicy import actions
from iampolicy.account.snapshot import Principal, Snapshot
from iampolicy.escalation.account_model import AccountModel
from iampolicy.escalation.permission_set import find_common_arn
from iampolicy.finding import Finding
from iampolicy.policy.conditions import split_operator
from iampolicy.policy.document import VARIABLE, Policy, Statement, compile_arn_glob, match_action
from iampolicy.policy.evaluate import Request, Rights, decide_request

UNUSED_NAME = "any-0q7z"  # no account, bucket, role or tag has this name
UNUSED_ACTION = "any0q7z"  # no action has this name
REGION = "us-east-1"
WILD = re.compile(r"[*?]")


@dataclass(frozen=True)
class Probe:
    action: str
    resource: str
    context: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Candidate:
    """A possible finding about a statement; it is confirmed if, for any of its subjects, one of the subject's probes passes.

    `message` has {} where the subjects that passed belong. If one of the probes in `also` passes too, the severity is `severe`.
    `about_resources` means that an action does not count that the principal's statements restrict by another of its resources.
    """

    rule: str
    severity: str
    statement: Statement
    subjects: Mapping[str, tuple[Probe, ...]]
    message: str
    fix: str
    also: tuple[Probe, ...] = ()
    severe: str = ""
    about_resources: bool = False


CandidateRule = Callable[[Statement, str], Iterator[Candidate]]  # (statement that allows, account)
ConfirmedCandidate = tuple[int, Candidate, str, str]  # the policy's number, candidate, severity, message


@dataclass
class EffectivePrincipal:
    """A principal with its parsed policies and the known context keys of its requests."""

    principal: Principal
    rights: Rights
    context: dict[str, str]

    @property
    def uncapped(self) -> bool:
        """Return whether nothing limits what its statements allow."""
        return self.rights.boundary is None and all(one.allow for p in self.rights.identity for one in p.statements)

    def may(self, probe: Probe, because: Statement | None = None) -> bool:
        """Return whether some request like the probe is allowed, and with `because`, allowed by this statement."""
        request = Request(self.principal.caller, probe.action, probe.resource, {**self.context, **probe.context})
        decision = decide_request(request, self.rights, possible=True)
        return decision.allowed and (because is None or any(d.statement is because for d in decision.deciding))

    def is_restricted(self, action: str) -> bool:
        """Return whether the action needs several resources, as ec2:RunInstances does, and one of them is always restricted.

        AWS asks for each resource of a request. So one statement may leave open what another restricts.
        """
        needed = actions.list_required_types(action)
        if len(needed) < 2:
            return False
        allows = [s for policy in self.rights.identity for s in policy.statements if s.allow and has_action(s, action)]
        for _, arn in needed:
            about = [s for s in allows if covers_type(s, arn)]
            if about and all(
                has_restricting_condition(s, action) or not covers_type(s, arn, UNUSED_NAME) for s in about
            ):
                return True
        return False


@dataclass
class AuditContext:
    """The snapshot and time of one audit, and the candidates found so far in each document.

    With `only`, examine just the principals of these names; the account is still modelled as a whole.
    """

    snapshot: Snapshot
    now: datetime
    carriers: Mapping[str, str] = field(default_factory=dict)
    only: frozenset[str] | None = None
    region: str = ""  # of the settings: functions were listed there alone
    trust_findings: dict[int, tuple[Policy, list[tuple[str, str, str, str, str]]]] = field(default_factory=dict)
    _candidates: dict[int, tuple[Policy, list[Candidate]]] = field(default_factory=dict)
    _confirmed: dict[int, list[ConfirmedCandidate]] = field(default_factory=dict)  # by permission set

    def __post_init__(self) -> None:
        self.account = find_account_number(self.snapshot)
        self.model = AccountModel(self.snapshot, self.now, self.carriers)

    def examines(self, p: Principal) -> bool:
        return self.only is None or p.name in self.only

    def build_effective_principal(self, p: Principal) -> EffectivePrincipal:
        return EffectivePrincipal(
            p, self.model.rights(p), {**self.model.build_caller_context(p), "aws:securetransport": "true"}
        )

    def candidates(self, policy: Policy, rules: tuple[CandidateRule, ...]) -> list[Candidate]:
        """Return the candidates of a document, computed once however many principals have it."""
        key = id(policy.statements)  # shared by all principals with the same document
        if key not in self._candidates:
            found = [s for one in policy.statements if one.allow for rule in rules for s in rule(one, self.account)]
            self._candidates[key] = policy, found
        return self._candidates[key][1]

    def list_confirmed_findings(
        self, holder: EffectivePrincipal, rules: tuple[CandidateRule, ...]
    ) -> Iterator[Finding]:
        """Yield the confirmed findings, decided once for all principals with the same permissions; their policies' names may differ."""
        key = id(self.model.find_permission_set(holder.principal))
        if key not in self._confirmed:
            uncapped = holder.uncapped
            self._confirmed[key] = [
                (number, s, *passed)
                for number, policy in enumerate(holder.rights.identity)
                for s in self.candidates(policy, rules)
                if (passed := confirm_candidate(holder, s, uncapped))
            ]
        for number, s, severity, message in self._confirmed[key]:
            policy = holder.rights.identity[number]
            yield Finding(s.rule, severity, holder.principal.name, message, s.fix, policy.name, s.statement.name)


def confirm_candidate(holder: EffectivePrincipal, s: Candidate, uncapped: bool) -> tuple[str, str] | None:
    """Return severity and message if a subject passes, else None.

    Where nothing limits the principal and the statement has no conditions, all subjects pass: they match it by design.
    """
    sure = uncapped and not s.statement.conditions
    passing = [
        name
        for name, probes in s.subjects.items()
        if any(
            (sure or holder.may(one, s.statement))
            and not (s.about_resources and holder.is_restricted(one.action.lower()))
            for one in probes
        )
    ]
    if not passing:
        return None
    severity = s.severe if s.also and any(holder.may(one) for one in s.also) else s.severity
    return severity, s.message.format(format_shortlist(passing))


def has_restricting_condition(one: Statement, action: str) -> bool:
    """Return whether a condition restricts the action's resources: on a tag, or on a key of the service, as ec2:InstanceType.

    A tag that a request may omit, and a region, restrict nothing.
    """
    for operator, key, _ in one.conditions:
        quantifier, base, if_exists = split_operator(operator)
        tag = ":requesttag/" in key or ":resourcetag/" in key
        if (
            base == "null"
            or key in ("aws:tagkeys", "ec2:region")
            or (tag and (if_exists or quantifier == "forallvalues"))
        ):
            continue
        if actions.find_known_key(key, actions.list_service_keys(action)):
            return True
    return False


def covers_type(one: Statement, arn: str, name: str = "*") -> bool:
    """Return whether a statement covers a resource of this type and name, or of any name, in whatever region and account."""
    parts = arn.split(":", 5)
    meant = ":".join(["arn", "aws", *parts[2:5], parts[5].replace("*", name)])
    if "resource" in one.negated or not one.resources:
        return has_resource(one, meant.replace("*", UNUSED_NAME))
    return any(find_common_arn(VARIABLE.sub("*", pattern), meant) is not None for pattern in one.resources)


def find_account_number(snapshot: Snapshot) -> str:
    """Return the number of the account, "" for a snapshot without principals."""
    return next((p.caller.account for p in snapshot.principals()), "")


def format_shortlist(names: list[str], shown: int = 4) -> str:
    more = len(names) - shown
    return ", ".join(names[:shown]) + (f" and {more} more" if more > 0 else "")


def is_boundless(one: Statement) -> bool:
    """Return whether a statement covers any resource: `*`, or an ARN with wildcards for region, account and name."""
    if "resource" in one.negated:
        return True
    return not one.resources or any(is_open_ended(pattern) for pattern in one.resources)


def is_open_ended(pattern: str) -> bool:
    parts = pattern.split(":", 5)
    if len(parts) < 6:
        return pattern.rstrip("*") in ("", "arn:", "arn:aws:") and pattern.endswith("*")
    kind, _, name = parts[5].rpartition("/") if "/" in parts[5] else parts[5].rpartition(":")
    return (
        parts[3] in ("", "*") and parts[4] in ("", "*") and set(name) <= {"*"} and not set(kind) & {"?"} and name != ""
    )


def has_action(one: Statement, action: str) -> bool:
    """Return whether the statement's actions cover this one, which is given in lower case."""
    return any(match_action(pattern, action) for pattern in one.actions) != ("action" in one.negated)


def select_covered_actions(one: Statement, names: tuple[str, ...]) -> tuple[str, ...]:
    """Return those of the actions that the statement covers."""
    return filter_by_patterns(one.actions, "action" in one.negated, names)


@lru_cache(20_000)
def filter_by_patterns(patterns: tuple[str, ...], negated: bool, names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(a for a in names if any(match_action(pattern, a.lower()) for pattern in patterns) != negated)


def has_resource(one: Statement, resource: str) -> bool:
    if not one.resources and "resource" not in one.negated:
        return True
    hit = any(is_pattern_match(pattern, resource) for pattern in one.resources)
    return hit != ("resource" in one.negated)


def is_pattern_match(pattern: str, resource: str) -> bool:
    """Return whether a pattern matches; compile it only if its text up to the first wildcard matches, as most do not."""
    if pattern in ("*", resource):
        return True
    start = WILD.split(pattern, maxsplit=1)[0]
    return start != pattern and resource.startswith(start) and compile_arn_glob(pattern).fullmatch(resource) is not None


def build_liveness_probes(one: Statement, account: str) -> tuple[Probe, ...]:
    """Return probes of whether the statement allows anything at all: its own patterns, filled with names that no account has."""
    actions = (
        [f"{UNUSED_NAME}:{UNUSED_ACTION}"]
        if "action" in one.negated
        else [build_example_action(a) for a in one.actions[:6]]
    )
    return tuple(
        Probe(action, resource) for action in actions for resource in list_example_resources(one, action, account)
    )


def build_example_action(action: str) -> str:
    return f"{UNUSED_NAME}:{UNUSED_ACTION}" if action == "*" else action.replace("*", UNUSED_ACTION).replace("?", "x")


def list_example_resources(one: Statement, action: str, account: str) -> list[str]:
    """Return resources that the statement covers, of a type that the action acts on."""
    if "resource" in one.negated or not one.resources:
        return [r for r in list_typical_resources(action, account) if has_resource(one, r)]
    found: list[str] = []
    for pattern in one.resources[:6]:
        found += list_typical_resources(action, account) if pattern == "*" else (fill_pattern(pattern, account),)
    return found


def fill_pattern(pattern: str, account: str) -> str:
    """Return an ARN that the pattern covers."""
    parts = VARIABLE.sub(UNUSED_NAME, pattern).split(":", 5)
    stand_in = {1: "aws", 3: REGION, 4: account}
    parts = [stand_in.get(at, UNUSED_NAME) if part == "*" else part for at, part in enumerate(parts)]
    return ":".join(parts).replace("*", UNUSED_NAME).replace("?", "x")


@lru_cache(20_000)
def list_typical_resources(action: str, account: str) -> tuple[str, ...]:
    """Return resources that no account has, of the types that the action acts on; `*` where it acts on none."""
    service = action.partition(":")[0].lower()
    if not actions.is_known_action(action):
        return (f"arn:aws:{service}:{REGION}:{account}:{UNUSED_NAME}/{UNUSED_NAME}",)
    return tuple(fill_pattern(arn, account) for arn in actions.list_resource_arns(action)) or ("*",)


def build_probes(one: Statement, action: str, account: str) -> tuple[Probe, ...]:
    """Return probes of an action on resources that no account has, if the statement covers them."""
    if action.endswith(":*"):
        service = action.partition(":")[0]
        places = [
            f"arn:aws:{service}:::{UNUSED_NAME}/{UNUSED_NAME}",
            f"arn:aws:{service}:{REGION}:{account}:{UNUSED_NAME}/{UNUSED_NAME}",
        ]
        asked = f"{service}:{UNUSED_ACTION}"
        return tuple(Probe(asked, place) for place in places if has_resource(one, place)) if is_boundless(one) else ()
    asked = action.replace("*", UNUSED_ACTION).replace("?", "x")
    known = actions.list_matching_actions(action)[:3] if asked != action else [action]
    pairs = [(asked, place) for example in known for place in list_typical_resources(example, account)]
    return tuple(Probe(a, place) for a, place in pairs if has_resource(one, place))


def restore_action_keys(found: dict[str, tuple[Probe, ...]]) -> dict[str, tuple[Probe, ...]]:
    return {(actions.list_matching_actions(action) or [action])[0]: probing for action, probing in found.items()}

"""The audit: every rule over every principal, and what was waived."""

from __future__ import annotations

import gc
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime

from iampolicy.account.snapshot import Snapshot
from iampolicy.audit import rules_access, rules_exposure, rules_reach, rules_trust, rules_use
from iampolicy.audit.account_facts import Extras
from iampolicy.audit.context import Scene
from iampolicy.escalation import detect
from iampolicy.finding import Finding, worst_first
from iampolicy.lint import linter
from iampolicy.policy.document import Policy
from ops.core.settings import Settings
from ops.iam import drift
from ops.iam.roles import Wanted
from ops.iam.waivers import Waiver, marked

LINKED = "/aws-service-role/"  # AWS's own: nobody here can change them


def audited(
    snapshot: Snapshot,
    *,
    settings: Settings,
    wanted: list[Wanted] | None = None,
    extras: Extras | None = None,
    waivers: Iterable[Waiver] = (),
    now: datetime | None = None,
    only: frozenset[str] | None = None,
) -> list[Finding]:
    """All findings, worst first; a waived one has its waiver's reason. Without `wanted` nothing is held against iam_policies/.

    With `only` nobody but these is judged: chains that lead through others are then not followed.
    """
    asked = extras or Extras()
    scene = Scene(snapshot, now or datetime.now(UTC), asked.carriers, only, settings.aws.region)
    found = list(dict.fromkeys(everything(scene, asked)))
    if wanted is not None:
        found += drift.findings(snapshot, wanted, settings)
    unasked = asked.unasked + (("IAM-DRIFT",) if wanted is None else ()) if extras else ("IAM-",)
    return worst_first(marked(found, waivers, arns(scene), scene.now.date(), scene.account, unasked))


@contextmanager
def uncollected() -> Iterator[None]:
    """For an audit in a process of its own: what is read and found stays to its end, and Python's walks over it in search of garbage
    took a fifth of the time."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def everything(scene: Scene, extras: Extras) -> Iterator[Finding]:
    snapshot = scene.snapshot
    holders = [scene.holder(p) for p in snapshot.principals() if LINKED not in p.arn and scene.judged(p)]
    access = [f for holder in holders for f in rules_access.findings(scene, holder)]
    administrators = {f.principal for f in access if f.rule == "IAM-ADMIN-001" and f.severity == "critical"}
    yield from access
    yield from rules_reach.passing_up(scene, holders, administrators)
    yield from detect.findings(scene.reach, scene.judged)
    for holder in holders:
        p = holder.principal
        yield from rules_use.services(scene, p, extras)
        if p.trust is not None:
            yield from rules_trust.findings(scene, p)
            yield from rules_use.unused(scene, p, extras)
            if p.name in administrators:
                yield from rules_trust.long_sessions(p)
    yield from rules_use.orphans(scene)
    yield from rules_use.keys(scene, extras, administrators)
    yield from rules_use.long_lived(snapshot.users.values(), extras)
    yield from rules_use.inline(scene)
    yield from rules_use.quotas(scene)
    yield from rules_exposure.findings(scene, extras)
    yield from linted(scene)


def linted(scene: Scene) -> Iterator[Finding]:
    snapshot = scene.snapshot
    bounds = {p.boundary for p in snapshot.principals()}
    judged = {arn for p in snapshot.principals() if scene.judged(p) for arn in (*p.attached, p.boundary)}
    for arn, policy in snapshot.policies.items():
        if scene.only is not None and arn not in judged:
            continue
        yield from linter.findings(policy.policy, "boundary" if arn in bounds else "identity", policy.name)
    for p in snapshot.principals():
        if LINKED in p.arn or not scene.judged(p):
            continue
        if p.trust is not None:
            yield from linter.findings(p.trust, "trust", p.name)
        yield from inline(p.name, p.inline)
    for group in snapshot.groups.values():
        yield from inline(group.name, group.inline)


def inline(holder: str, policies: Mapping[str, Policy]) -> Iterator[Finding]:
    """Without the quota: it is of all inline policies of a holder together (rules_use.quotas)."""
    for name, policy in policies.items():
        if "/" not in name:  # a group's, under its user
            yield from (f for f in linter.findings(policy, "inline", holder) if f.rule != "IAM-QUOTA-001")


def arns(scene: Scene) -> dict[str, str]:
    """By name. A user and a role of one name have none here, so that no waiver by ARN takes the one for the other."""
    roles, users = scene.snapshot.roles, scene.snapshot.users
    found = {name: p.arn for name, p in (roles | users).items() if not (name in roles and name in users)}
    return found | {"<root_account>": f"arn:aws:iam::{scene.account}:root"}

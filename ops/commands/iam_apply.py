"""The commands iam.apply, iam.diff and iam.rollback."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ops.core.aws.account import Account
from ops.core.errors import DENIED, FINDINGS, OpsError
from ops.core.output import say
from ops.core.task import Result, carry_out, confirm, task

if TYPE_CHECKING:
    from collections.abc import Callable

    from iampolicy.account.snapshot import Managed, Snapshot
    from ops.core.plan import Step, Steps
    from ops.core.settings import Settings
    from ops.iam.roles import Wanted
    from ops.iam.versions import Target

SHOWN = 5  # of what is refused
SPREADING_S = 45.0  # IAM tells at once what it was told, most of the time; AWS promises nothing but "eventually"


@task(help={"role": "Only this role: a folder of iam_policies/."})
def apply(c, role=""):
    """Make every role of iam_policies/ what its folder says."""
    from iampolicy.account import snapshot
    from ops.core import plan as change
    from ops.iam import apply as plan
    from ops.iam import roles

    account = Account.from_context_or_profile(c, "bootstrap")
    wanted = roles.wanted(account.settings, only=role)
    have = snapshot.read(account)
    tell_revoked(have, wanted, account.settings)
    refuse_unexpected(wanted, account.settings)
    refuse_new(have, wanted, account.settings)
    refuse_bounding(account, plan.steps(have, wanted, account.settings))
    account.guard()
    if not c.config.run.dry:
        keep(have, change.preview(plan.steps(have, wanted, account.settings)), account.settings)
    done = carry_out(c, account, plan.steps(have, wanted, account.settings))
    if done.changes:
        read_back(account, lambda have: plan.steps(have, wanted, account.settings))
    text = f"{len(wanted)} roles. {done.text}" if done.text else ""
    return Result(done.data | {"roles": [w.role for w in wanted]}, text, changes=done.changes)


@task(help={"role": "Only this role: a folder of iam_policies/.", "json": "Print the differences as JSON."})
def diff(c, role="", json=False):
    """Show in meaning what the account has that iam_policies/ has not, and the reverse."""
    from iampolicy.account import snapshot
    from ops.iam import apply as plan
    from ops.iam import diff as difference
    from ops.iam import roles

    account = Account.from_context_or_profile(c, "auditor")
    wanted = roles.wanted(account.settings, only=role)
    want = roles.applied(wanted, account.settings)
    have = snapshot.read(account)
    plan.refuse_misplaced(have, wanted, account.settings)
    tell_revoked(have, wanted, account.settings)
    found = difference.differences(have, want, account.settings, whole=not role)
    text = difference.shown(found) or f"{len(wanted)} roles: no difference in meaning"
    if found and not json:
        say("- only the account has it, + only iam_policies/ has it. invoke --dry iam.apply shows the calls.")
    return Result([one.data for one in found], text, code=FINDINGS if found else 0)


@task(
    help={
        "role": "The role: a folder of iam_policies/.",
        "policy": "Only this policy, by its name.",
        "to": "The version to go back to, such as v3; otherwise the last one that says something else.",
        "yes": "Do not ask.",
    }
)
def rollback(c, role, policy="", to="", yes=False):
    """Let a role's policies be what they were before the last change."""
    from iampolicy.account import snapshot
    from ops.core import plan
    from ops.iam import roles, versions

    account = Account.from_context(c, "bootstrap")
    (want,) = roles.wanted(account.settings, only=role)
    have = snapshot.read(account)
    targets = targets_of(have, account.settings, want, policy, to)
    if not targets:
        return Result({"made": 0}, "Nothing to go back to. 0 made")
    for target in targets:
        say(told(target))
    account.guard()
    confirm(c, f"{len(targets)} policies of {account.settings.role_name(role)} change as told.", yes=yes)
    if not c.config.run.dry:
        keep(have, plan.preview(versions.steps(targets, account.settings)), account.settings)
        for target in targets:
            versions.noted(account.settings, target)
    done = carry_out(c, account, versions.steps(targets, account.settings))
    text = f"{done.text}. Forward again: invoke iam.apply --role {role}" if done.text else ""
    return Result(done.data, text, changes=done.changes)


def tell_revoked(have: Snapshot, wanted: list[Wanted], settings: Settings) -> None:
    from ops.iam import revocation

    cut = revocation.standing(have)
    for name in cut.keys() & {settings.role_name(want.role) for want in wanted}:
        until = cut[name] + revocation.LONGEST
        say(
            f"{name}: old sessions are cut off (iam.revoke). iam.apply leaves that, and takes it away after {until:%Y-%m-%d %H:%M} UTC."
        )


def refuse_unexpected(wanted: list[Wanted], settings: Settings) -> None:
    """Raises OpsError with code 7 when a role could do what its expect.toml denies, or be taken by who may not."""
    from ops.iam import expectations

    if broken := [(want.role, one) for want in wanted for one in expectations.broken(want, settings)]:
        lines = [f"  {role}: {one.expected.told}: {one.found}" for role, one in broken[:SHOWN]]
        more = f"\n  and {len(broken) - SHOWN} more" if len(broken) > SHOWN else ""
        raise OpsError(
            f"The roles would do what their expect.toml denies:\n{chr(10).join(lines)}{more}\nNothing was touched. All of it: invoke iam.check",
            FINDINGS,
        )


def refuse_bounding(account: Account, planned: Steps) -> None:
    """Raises OpsError before the first change where one writes a boundary and the stack's own role, which may not, goes on."""
    from ops.core.plan import Change, preview

    bounds = [
        step.why for step in preview(planned)
        if isinstance(step, Change) and "/kennel-boundary/" in f"{step.args.get('Path', '')}{step.args.get('PolicyArn', '')}"
    ]  # fmt: skip
    if bounds and account.role and account.settings.aws.take_roles:
        raise OpsError(
            f"{bounds[0]}. {account.settings.role_name(account.role)} may not write what bounds it. As an administrator: "
            "INVOKE_AWS_TAKE_ROLES=false invoke iam.apply. Nothing was touched.",
            DENIED,
        )


def refuse_new(have: Snapshot, wanted: list[Wanted], settings: Settings) -> None:
    """Raises OpsError with code 7 when these roles would bring something that the audit calls high or worse."""
    from ops.iam import pre_apply_check
    from ops.iam.roles import applied
    from ops.iam.source_lines import place

    new, old = pre_apply_check.new_findings(have, wanted, settings)
    for one in old:
        say(f"Already so: {one.severity} {one.rule} {one.principal}: {one.message}")
    if new:
        folder = applied(wanted, settings)
        lines = "\n".join(f"  {one.told(place(one, folder))}" for one in new)
        raise OpsError(
            f"The roles would bring what the audit calls high or worse:\n{lines}\n"
            "Nothing was touched. Mend the folder, or waive it with a reason in iam_policies/waivers.toml.",
            FINDINGS,
        )


def keep(have: Snapshot, planned: list[Step], settings: Settings) -> None:
    """All that the changes would lose is on disk before the first of them."""
    from ops.iam import backups

    for kept in backups.lost(have, planned):
        backups.keep(settings, kept)


def read_back(account: Account, steps: Callable[[Snapshot], Steps], timeout_s: float = SPREADING_S) -> None:
    """Look whether IAM now says what it was told. Raises OpsError with what still differs."""
    from iampolicy.account import snapshot
    from ops.core.plan import Wait, preview

    def left(account: Account) -> str | None:
        return "; ".join(step.why for step in preview(steps(snapshot.read(account)))) or None

    account.wait(Wait("what IAM reads back", left, why="IAM spreads what it is told", timeout_s=timeout_s))


def targets_of(have: Snapshot, settings: Settings, want: Wanted, policy: str, to: str) -> list[Target]:
    """Where each of the role's policies goes back to. Raises OpsError for a policy or a version that is not there."""
    from ops.iam import backups, versions

    targets = []
    for one in chosen(have, settings, want, policy):
        kept = backups.versions(settings, one.arn, since=one.created)
        found = versions.back(one, kept, versions.returned(settings, one), to)
        if not isinstance(found, str):
            targets.append(found)
        elif to and found.startswith("has no"):
            raise OpsError(f"{one.name} {found}.")
        else:
            say(f"{one.name} {found}")
    return targets


def chosen(have: Snapshot, settings: Settings, want: Wanted, policy: str) -> list[Managed]:
    """The role's policy of that name; else those that are not as the folder has them, or, where all are, those changed last.

    Raises OpsError when the role differs from its folder in what has no versions. A boundary has none here either: who may
    lift what bounds a role does so by iam.apply.
    """
    from ops.iam import diff as difference
    from ops.iam import roles, versions

    name = settings.role_name(want.role)
    if name not in have.roles:
        raise OpsError(f"{name} is not there. Make it: invoke iam.apply --role {want.role}")
    own = [
        have.policies[arn]
        for arn in have.roles[name].attached
        if f":policy{settings.role_path}" in arn and arn in have.policies
    ]
    if policy:
        found = [one for one in own if one.name == policy]
        if not found:
            raise OpsError(f"{name} has no policy {policy!r}. It has {', '.join(one.name for one in own) or 'none'}")
        return found
    repo = {roles.policy_arn(want.role, stem, settings): one.document for stem, one in want.permissions.items()}
    differing = [one for one in own if not difference.same(one.document, repo.get(one.arn))]
    if left := [one for one in differing if not versions.is_back(one, versions.returned(settings, one))]:
        return left
    if not differing and difference.differences(have, roles.applied([want], settings), settings, whole=False):
        raise OpsError(
            f"What {name} has otherwise than its folder has no versions: attachments, inline policies, trust, boundary or tags. "
            f"See it: invoke iam.diff --role {want.role}. Mend it: invoke iam.apply --role {want.role}"
        )
    return versions.changed_last(own)


def told(target: Target) -> str:
    """What a roll-back would give and take."""
    from iampolicy.policy.document import policy
    from iampolicy.policy.semantics import permissions, subtract

    now, then = permissions(target.policy.policy), permissions(policy(target.policy.arn, target.document))
    lines = [
        f"{target.policy.name}: {target.policy.default} -> {target.version}{' (kept here)' if target.kept else ''}"
    ]
    lines += [f"  - {grant.effect.lower()} {grant.text}" for grant in subtract(now, then)]
    lines += [f"  + {grant.effect.lower()} {grant.text}" for grant in subtract(then, now)]
    return "\n".join(lines)

"""A role taken away and brought back: what may not go, what is saved of one that goes, and the changes both ways."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from iampolicy.account.snapshot import Managed, Principal, Snapshot, parse_inline
from iampolicy.policy.document import policy
from iampolicy.policy.semantics import permissions
from ops.core.plan import Change, Steps
from ops.core.settings import ROLES, Settings
from ops.iam.backups import telling
from ops.iam.diff import same
from ops.iam.role_archive import Saved
from ops.iam.roles import Wanted, dumped, policy_arn

GRACE = timedelta(days=7)


def refusal(role: Principal, wanted: list[Wanted], settings: Settings, now: datetime) -> str:
    """Why this role is never taken away, or ""."""
    if why := belongs(role.name, role.path, settings):
        return why
    if role.arn in [settings.role_arn(want.role) for want in wanted]:  # one at another path is in the way of it
        return f"is wanted: it stands in {ROLES}/"
    if role.created is None:
        return "is of unknown age"
    if now - role.created < GRACE:
        return f"is younger than {GRACE.days} days: it was made on {role.created:%Y-%m-%d}"
    return ""


def belongs(name: str, path: str, settings: Settings) -> str:
    """Whose this role is, if others keep it, or ""."""
    if path.startswith("/aws-service-role/"):
        return "is a service's own: that service makes and deletes it"
    if name.startswith("AWSReservedSSO_") or path.startswith("/aws-reserved/"):
        return "is kept by IAM Identity Center: its permission set is changed there"
    if stack := other_stack(path, settings):
        return f"is of another stack, {stack}: take that stack's settings"
    return ""


def other_stack(path: str, settings: Settings) -> str:
    """Of /kennel/x/ and /kennel-boundary/x/, with another stack's settings: x."""
    root, _, stack = path.strip("/").partition("/")
    return stack if root in ("kennel", "kennel-boundary") and stack != settings.stack.name else ""


def evidence(have: Snapshot, role: Principal) -> tuple[str, ...]:
    """(role, created, last used, who may take it, what it holds, instance profiles): why it may go, and what goes with it."""
    whom = sorted({one.who for one in permissions(role.trust_policy) if one.effect == "Allow"})
    holds = [arn.rsplit("/", 1)[1] for arn in role.attached] + [f"{name} (inline)" for name in role.inline]
    created, used = (f"{one:%Y-%m-%d}" if one else "" for one in (role.created, role.last_used))
    return role.name, created, used or "never", ", ".join(whom), ", ".join(holds), ", ".join(role.instance_profiles)


def trusting(have: Snapshot, who: str) -> list[str]:
    """The roles whose trust names a role: by its ARN, or by its inner id, which IAM puts in the ARN's place once it is gone."""
    return [
        name
        for name, role in sorted(have.roles.items())
        if any(one == who for part in role.trust_policy.statements for _, one in part.principals or ())
    ]


def merged(begun: Saved, now: Saved, have: Snapshot) -> Saved:
    """A removal that was broken off goes on: what is left of the role counts as it is now, and what is gone as it was.

    A policy that the role holds no more, but that is there, counts as it is too: it may have been narrowed meanwhile.
    """
    attached = list(dict.fromkeys([*begun.attached, *now.attached]))
    was = {
        arn: kept | ({"document": have.policies[arn].document} if arn in have.policies else {})
        for arn, kept in begun.policies.items()
        if arn in attached or arn == now.boundary
    }
    return replace(
        now,
        saved=begun.saved,
        inline=begun.inline | now.inline,
        attached=attached,
        policies=was | now.policies,
        profiles=begun.profiles | now.profiles,
    )


def disposable(have: Snapshot, saved: Saved, wanted: list[Wanted], settings: Settings) -> list[str]:
    """Of the role's policies: those of the stack's own path that no folder wants and nobody else holds."""
    ours = {policy_arn(want.role, stem, settings) for want in wanted for stem in want.permissions}
    others = [p for p in have.principals() if p.name != saved.name or p.trust is None]
    held = {arn for group in have.groups.values() for arn in group.attached} | {p.boundary for p in have.principals()}
    held |= {arn for p in others for arn in p.attached}
    return [
        arn
        for arn in saved.attached
        if f":policy{settings.role_path}" in arn and arn in have.policies and arn not in ours | held
    ]


def removal(have: Snapshot, saved: Saved, wanted: list[Wanted], settings: Settings) -> Steps:
    """The role itself goes last, so that what was broken off is found again."""
    name, role = saved.name, have.roles[saved.name]
    for profile in role.instance_profiles:
        args = {"InstanceProfileName": profile, "RoleName": name}
        yield Change("iam", "remove_role_from_instance_profile", args, why=f"{name}: instances of {profile} lose it")
    for arn in role.attached:
        args = {"RoleName": name, "PolicyArn": arn}
        yield Change("iam", "detach_role_policy", args, why=f"{name}: without {arn.rsplit('/', 1)[1]}")
    for inline in role.inline:
        args = {"RoleName": name, "PolicyName": inline}
        yield Change(
            "iam", "delete_role_policy", args, why=f"{name}: without {inline}", danger="stays only in the file"
        )
    for arn in disposable(have, saved, wanted, settings):
        policy = have.policies[arn]
        for version, default, _ in policy.versions:
            if not default:
                args = {"PolicyArn": arn, "VersionId": version}
                change = Change("iam", "delete_policy_version", args, why=f"{policy.name}: {version} goes first")
                yield telling(settings, have, change)
        why = f"{policy.name}: nobody else holds it"
        yield Change("iam", "delete_policy", {"PolicyArn": arn}, why, danger="stays only in the file")
    yield Change(
        "iam", "delete_role", {"RoleName": name}, why=f"{name}: it is obsolete", danger="stays only in the file"
    )


def pairs(tags: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def optional(**args: Any) -> dict[str, Any]:
    """AWS takes no empty text and no empty list where it takes none at all."""
    return {key: value for key, value in args.items() if value}


def unfit(have: Snapshot, saved: Saved, wanted: list[Wanted], settings: Settings) -> str:
    """Why what this file says is not to be made, by this stack or at all, or ""."""
    if why := belongs(saved.name, saved.path, settings):
        return f"{saved.name} {why}"
    if saved.name in [settings.role_name(want.role) for want in wanted]:
        return f"{saved.name} is wanted, and stands in {ROLES}/: invoke iam.apply makes it"
    for arn in saved.held:
        if arn.split(":")[4] != saved.account or arn in have.policies:
            continue
        if arn not in saved.policies:
            return f"{saved.name} held {arn}, which is gone, and its text is not in the file"
        if stack := other_stack(arn.partition(":policy")[2].rpartition("/")[0], settings):
            return f"{saved.name} held {arn}, which is gone, and of another stack, {stack}"
    for name, profile in saved.profiles.items():
        if stack := other_stack(profile["path"], settings):
            return f"{saved.name} was in the instance profile {name} of another stack, {stack}"
    return ""


def clash(have: Snapshot, saved: Saved, told: Mapping[str, Any], profiles: Mapping[str, list[str] | None]) -> str:
    """What is there under the role's name and is not the role, or ""; or who has its instance profile.

    `told` is what GetRole has of the one that is there: the account's one description leaves out its text and sessions' length.
    """
    for name, roles in profiles.items():
        if others := [role for role in roles or [] if role != saved.name]:
            return f"the instance profile {name} holds {others[0]}"
    role = have.roles.get(saved.name)
    if role is None:
        return ""
    differs = {
        "path": role.path != saved.path,
        "trust": not same(role.trust_policy.document, saved.trust),
        "boundary": role.boundary != saved.boundary,
        "description": (told.get("Description") or "") != saved.description,
        "MaxSessionDuration": (told.get("MaxSessionDuration") or role.session_s) != saved.session_s,
        "tags": not saved.tags.items() <= role.tags.items(),
    }
    if other := [what for what, unlike in differs.items() if unlike]:
        return f"a role {saved.name} is there, with another {' and '.join(other)}"
    for name in set(role.inline) & set(saved.inline):
        if not same(role.inline[name].document, saved.inline[name]):
            return f"the role {saved.name} is there, and its policy {name} says something else"
    return ""


def restored(have: Snapshot, saved: Saved, texts: Mapping[str, dict[str, Any]]) -> Snapshot:
    """The account once the role is back. `texts` are AWS's own policies that it holds and nobody else does."""
    there = have.roles.get(saved.name)
    role = Principal(
        saved.name,
        saved.arn,
        policy("trust", saved.trust),
        (there.inline if there else {}) | parse_inline(saved.inline),
        tuple(dict.fromkeys([*(there.attached if there else ()), *saved.attached])),
        saved.boundary,
        tuple(saved.profiles),
        there.created if there else datetime.now(UTC),
        session_s=saved.session_s,
        tags=saved.tags,
    )
    made = {arn: kept["document"] for arn, kept in saved.policies.items()} | dict(texts)
    policies = {arn: Managed(arn, policy(arn, text), attachments=1) for arn, text in made.items()} | have.policies
    return replace(have, roles=have.roles | {saved.name: role}, policies=policies)


def restoration(have: Snapshot, saved: Saved, profiles: Mapping[str, list[str] | None]) -> Steps:
    """`profiles` are the roles in each of the saved instance profiles as they are now, None for one that is gone.

    A managed policy that is there is left as it is: others may hold it.
    """
    name, role = saved.name, have.roles.get(saved.name)
    yield from policies_back(have, saved, [saved.boundary])  # the role is never without it
    if role is None:
        args = {"RoleName": name, "Path": saved.path, "AssumeRolePolicyDocument": dumped(saved.trust)}
        args |= optional(
            MaxSessionDuration=saved.session_s,
            Description=saved.description,
            PermissionsBoundary=saved.boundary,
            Tags=pairs(saved.tags),
        )
        yield Change("iam", "create_role", args, why=f"{name}: back as it was on {saved.saved[:10]}")
    yield from policies_back(have, saved, saved.attached)  # after the role, whose trust AWS may no longer take
    for arn in saved.attached:
        if role is None or arn not in role.attached:
            args = {"RoleName": name, "PolicyArn": arn}
            yield Change("iam", "attach_role_policy", args, why=f"{name}: with {arn.rsplit('/', 1)[1]}")
    for inline, document in saved.inline.items():
        if role is None or inline not in role.inline:
            args = {"RoleName": name, "PolicyName": inline, "PolicyDocument": dumped(document)}
            yield Change("iam", "put_role_policy", args, why=f"{name}: with {inline}")
    for profile, kept in saved.profiles.items():
        if profiles[profile] is None:
            args = {"InstanceProfileName": profile, "Path": kept["path"]} | optional(Tags=pairs(kept["tags"]))
            yield Change("iam", "create_instance_profile", args, why=f"{profile}: {name} was in it")
        if name not in (profiles[profile] or []):
            args = {"InstanceProfileName": profile, "RoleName": name}
            yield Change("iam", "add_role_to_instance_profile", args, why=f"{profile}: {name} was in it")


def policies_back(have: Snapshot, saved: Saved, arns: Iterable[str]) -> Steps:
    for arn in arns:
        if arn in saved.policies and arn not in have.policies:
            path, _, name = arn.partition(":policy")[2].rpartition("/")
            policy = saved.policies[arn]
            args = {"PolicyName": name, "Path": f"{path}/", "PolicyDocument": dumped(policy["document"])}
            args |= optional(Description=policy["description"], Tags=pairs(policy["tags"]))
            yield Change("iam", "create_policy", args, why=f"{name}: {saved.name} held it")

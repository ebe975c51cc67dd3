"""A role taken away and brought back: what may not go, what is saved of one that goes, and the changes both ways."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta
from typing import Any

from ops.change import Change, Steps
from ops.config import ROLES, Settings
from ops.errors import OpsError
from ops.iam.change.difference import same
from ops.iam.policies import Wanted, dumped, policy_arn
from ops.iam.snapshot import Principal, Snapshot

GRACE = timedelta(days=7)
KIND = "kennel-removed-role"
TYPES: dict[str, type] = {"str": str, "int": int, "bool": bool, "dict": dict, "list": list}


@dataclass(frozen=True)
class Saved:
    """All that makes a role what it is. `policies` are its customer managed ones by ARN, `profiles` its instance profiles.

    `finished` is False while the role is being taken apart: what is left of it is then not all there was.
    """

    account: str
    saved: str
    finished: bool
    role_id: str
    name: str
    path: str
    description: str
    session_s: int
    trust: dict[str, Any]
    boundary: str
    tags: dict[str, str]
    inline: dict[str, Any]
    attached: list[str]
    policies: dict[str, Any]
    profiles: dict[str, Any]

    @property
    def data(self) -> dict[str, Any]:
        return {"kind": KIND, **vars(self)}


def loaded(data: Any, name: str) -> Saved:
    """What a file holds. Raises OpsError when it is no such save."""
    wrong = OpsError(
        f"{name} is no role that iam.prune saved. They lie in .kennel/iam/STACK/removed/. Nothing was touched."
    )
    if not isinstance(data, dict) or data.get("kind") != KIND:
        raise wrong
    shapes = {one.name: TYPES[str(one.type).split("[")[0]] for one in fields(Saved)}
    if set(data) != {"kind", *shapes} or any(type(data[key]) is not shape for key, shape in shapes.items()):
        raise wrong
    parts = [("policies", {"description", "tags", "document"}), ("profiles", {"path", "tags"}), ("inline", set())]
    for key, needed in parts:
        if any(not isinstance(one, dict) or not needed <= set(one) for one in data[key].values()):
            raise wrong
    return Saved(**{key: data[key] for key in shapes})


def refusal(role: Principal, wanted: list[Wanted], settings: Settings, now: datetime) -> str:
    """Why this role is never taken away, or ""."""
    if "/aws-service-role/" in role.arn:
        return "is a service's own: delete it with that service"
    if role.name.startswith("AWSReservedSSO_") or "/aws-reserved/" in role.arn:
        return "is kept by IAM Identity Center: take its permission set away there"
    if role.name in [settings.role_name(want.role) for want in wanted]:
        return f"is wanted: it stands in {ROLES}/"
    if role.path.startswith("/kennel/") and role.path != settings.role_path:
        return f"is of another stack, {role.path.strip('/').partition('/')[2]}: prune it with that stack's settings"
    if role.created is None:
        return "is of unknown age"
    if now - role.created < GRACE:
        return f"is younger than {GRACE.days} days: it was made on {role.created:%Y-%m-%d}"
    return ""


def evidence(have: Snapshot, role: Principal) -> tuple[str, ...]:
    """(role, created, last used, who may take it, what it holds, instance profiles): why it may go, and what goes with it."""
    from ops.iam.language.meaning import atoms

    whom = sorted({atom.who for atom in atoms(role.trust or {}) if atom.effect == "Allow"})
    holds = [arn.rsplit("/", 1)[1] for arn in role.attached] + [f"{name} (inline)" for name in role.inline]
    created, used = (f"{one:%Y-%m-%d}" if one else "" for one in (role.created, role.last_used))
    return role.name, created, used or "never", ", ".join(whom), ", ".join(holds), ", ".join(role.instance_profiles)


def merged(begun: Saved, now: Saved) -> Saved:
    """A removal that was broken off goes on: what was saved then counts, and what came to the role since is added."""
    return replace(
        begun,
        inline=begun.inline | now.inline,
        attached=list(dict.fromkeys([*begun.attached, *now.attached])),
        policies=now.policies | begun.policies,
        profiles=now.profiles | begun.profiles,
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
                yield Change("iam", "delete_policy_version", args, why=f"{policy.name}: {version} goes first")
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


def clash(have: Snapshot, saved: Saved) -> str:
    """What is there under the role's name and is not the role, or ""."""
    role = have.roles.get(saved.name)
    if role is None:
        return ""
    if (role.path, role.boundary) != (saved.path, saved.boundary) or not same(role.trust, saved.trust):
        return f"a role {saved.name} is there, with another path, trust or boundary"
    for name in set(role.inline) & set(saved.inline):
        if not same(role.inline[name], saved.inline[name]):
            return f"the role {saved.name} is there, and its policy {name} says something else"
    return ""


def restoration(have: Snapshot, saved: Saved, profiles: Mapping[str, list[str] | None]) -> Steps:
    """`profiles` are the roles in each of the saved instance profiles as they are now, None for one that is gone.

    A managed policy that is there is left as it is: others may hold it.
    """
    name, role = saved.name, have.roles.get(saved.name)
    for arn, policy in saved.policies.items():
        if arn not in have.policies:
            path, _, policy_name = arn.partition(":policy")[2].rpartition("/")
            args = {"PolicyName": policy_name, "Path": f"{path}/", "PolicyDocument": dumped(policy["document"])}
            args |= optional(Description=policy["description"], Tags=pairs(policy["tags"]))
            yield Change("iam", "create_policy", args, why=f"{policy_name}: {name} held it")
    if role is None:
        args = {"RoleName": name, "Path": saved.path, "AssumeRolePolicyDocument": dumped(saved.trust)}
        args |= optional(
            MaxSessionDuration=saved.session_s,
            Description=saved.description,
            PermissionsBoundary=saved.boundary,
            Tags=pairs(saved.tags),
        )
        yield Change("iam", "create_role", args, why=f"{name}: back as it was on {saved.saved[:10]}")
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

"""iam.restore creates a removed role again from its file, which is untrusted.

The file is checked against the account before the first change.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from iampolicy.account import snapshot
from iampolicy.account.snapshot import Managed, Principal, Snapshot, parse_inline
from iampolicy.finding import Finding
from iampolicy.policy.document import parse_policy
from ops.core.aws.account import Account
from ops.core.errors import OpsError
from ops.core.output import say
from ops.core.plan import Change, Steps
from ops.core.settings import ROLES, Settings
from ops.iam import apply, pre_apply_check, roles
from ops.iam.diff import is_equivalent
from ops.iam.removal import describe_foreign_owner, find_other_stack, list_trusting_roles
from ops.iam.role_archive import SavedRole
from ops.iam.roles import Wanted, dump_document


def build_tag_list(tags: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def drop_empty(**args: Any) -> dict[str, Any]:
    """Return the arguments without the empty ones: AWS rejects an empty string or list where it takes none at all."""
    return {key: value for key, value in args.items() if value}


def explain_restore_refusal(have: Snapshot, saved: SavedRole, wanted: list[Wanted], settings: Settings) -> str:
    """Return why this stack must not create the role of this file, or ""."""
    if why := describe_foreign_owner(saved.name, saved.path, settings):
        return f"{saved.name} {why}"
    if saved.name in [settings.build_role_name(want.role) for want in wanted]:
        return f"{saved.name} is described in {ROLES}/. Create it: invoke iam.apply"
    for arn in saved.held:
        if arn.split(":")[4] != saved.account or arn in have.policies:
            continue
        if arn not in saved.policies:
            return f"{saved.name} had {arn} attached, which is missing, and the file does not contain it"
        if stack := find_other_stack(arn.partition(":policy")[2].rpartition("/")[0], settings):
            return f"{saved.name} had {arn} attached, which is missing and belongs to another stack, {stack}"
    for name, profile in saved.profiles.items():
        if stack := find_other_stack(profile["path"], settings):
            return f"{saved.name} was in the instance profile {name} of another stack, {stack}"
    return ""


def describe_conflict(
    have: Snapshot, saved: SavedRole, described: Mapping[str, Any], profiles: Mapping[str, list[str] | None]
) -> str:
    """Return what exists under the role's name and differs from it, or which other role has its instance profile, or "".

    `described` is GetRole's response for the existing role: GetAccountAuthorizationDetails leaves out its description and session
    length.
    """
    for name, inside in profiles.items():
        if others := [role for role in inside or [] if role != saved.name]:
            return f"the instance profile {name} contains {others[0]}"
    role = have.roles.get(saved.name)
    if role is None:
        return ""
    differs = {
        "path": role.path != saved.path,
        "trust": not is_equivalent(role.trust_policy.document, saved.trust),
        "boundary": role.boundary != saved.boundary,
        "description": (described.get("Description") or "") != saved.description,
        "MaxSessionDuration": (described.get("MaxSessionDuration") or role.session_s) != saved.session_s,
        "tags": not saved.tags.items() <= role.tags.items(),
    }
    if other := [what for what, unlike in differs.items() if unlike]:
        return f"a role {saved.name} exists, with another {' and '.join(other)}"
    for name in set(role.inline) & set(saved.inline):
        if not is_equivalent(role.inline[name].document, saved.inline[name]):
            return f"the role {saved.name} exists, and its inline policy {name} differs"
    return ""


def build_restored_snapshot(have: Snapshot, saved: SavedRole, texts: Mapping[str, dict[str, Any]]) -> Snapshot:
    """Return the account with the role restored. `texts` are AWS managed policies that only this role has attached."""
    there = have.roles.get(saved.name)
    role = Principal(
        saved.name,
        saved.arn,
        parse_policy("trust", saved.trust),
        (there.inline if there else {}) | parse_inline(saved.inline),
        tuple(dict.fromkeys([*(there.attached if there else ()), *saved.attached])),
        saved.boundary,
        tuple(saved.profiles),
        there.created if there else datetime.now(UTC),
        session_s=saved.session_s,
        tags=saved.tags,
    )
    made = {arn: kept["document"] for arn, kept in saved.policies.items()} | dict(texts)
    policies = {arn: Managed(arn, parse_policy(arn, text), attachments=1) for arn, text in made.items()} | have.policies
    return replace(have, roles=have.roles | {saved.name: role}, policies=policies)


def plan_restoration(have: Snapshot, saved: SavedRole, profiles: Mapping[str, list[str] | None]) -> Steps:
    """Yield the changes that restore the role. `profiles` has the roles now in each saved instance profile, None for a missing one.

    A managed policy that exists is not changed: other principals may have it attached.
    """
    name, role = saved.name, have.roles.get(saved.name)
    yield from plan_restored_policies(have, saved, [saved.boundary])  # the role must never exist without it
    if role is None:
        args = {"RoleName": name, "Path": saved.path, "AssumeRolePolicyDocument": dump_document(saved.trust)}
        args |= drop_empty(
            MaxSessionDuration=saved.session_s,
            Description=saved.description,
            PermissionsBoundary=saved.boundary,
            Tags=build_tag_list(saved.tags),
        )
        yield Change("iam", "create_role", args, why=f"{name}: create the role as it was on {saved.saved[:10]}")
    yield from plan_restored_policies(
        have, saved, saved.attached
    )  # after the role, whose trust AWS may no longer accept
    for arn in saved.attached:
        if role is None or arn not in role.attached:
            args = {"RoleName": name, "PolicyArn": arn}
            yield Change("iam", "attach_role_policy", args, why=f"{name}: attach {arn.rsplit('/', 1)[1]}")
    for inline, document in saved.inline.items():
        if role is None or inline not in role.inline:
            args = {"RoleName": name, "PolicyName": inline, "PolicyDocument": dump_document(document)}
            yield Change("iam", "put_role_policy", args, why=f"{name}: put inline policy {inline}")
    for profile, kept in saved.profiles.items():
        if profiles[profile] is None:
            args = {"InstanceProfileName": profile, "Path": kept["path"]} | drop_empty(
                Tags=build_tag_list(kept["tags"])
            )
            yield Change("iam", "create_instance_profile", args, why=f"{profile}: create the instance profile")
        if name not in (profiles[profile] or []):
            args = {"InstanceProfileName": profile, "RoleName": name}
            yield Change("iam", "add_role_to_instance_profile", args, why=f"{profile}: add {name}")


def plan_restored_policies(have: Snapshot, saved: SavedRole, arns: Iterable[str]) -> Steps:
    for arn in arns:
        if arn in saved.policies and arn not in have.policies:
            path, _, name = arn.partition(":policy")[2].rpartition("/")
            policy = saved.policies[arn]
            args = {"PolicyName": name, "Path": f"{path}/", "PolicyDocument": dump_document(policy["document"])}
            args |= drop_empty(Description=policy["description"], Tags=build_tag_list(policy["tags"]))
            yield Change("iam", "create_policy", args, why=f"{name}: create the policy, which {saved.name} had")


def steps(have: Snapshot, saved: SavedRole, profiles: Mapping[str, list[str] | None]) -> Steps:
    return apply.translate_name_conflict(plan_restoration(have, saved, profiles))


def refuse_unfit(account: Account, have: Snapshot, saved: SavedRole) -> None:
    """Raise OpsError for a role that this stack must not create, or whose name or instance profile is taken."""
    if why := explain_restore_refusal(have, saved, roles.read_roles(account.settings), account.settings):
        raise OpsError(f"{why}. Nothing was changed.")
    described: Mapping[str, Any] = {}
    if saved.name in have.roles:
        described = account.call("iam", "get_role", RoleName=saved.name)["Role"]
    if found := describe_conflict(have, saved, described, read_profile_roles(account, saved)):
        raise OpsError(f"{found}. Rename or remove that one first. Nothing was changed.")


def find_new_findings(account: Account, have: Snapshot, saved: SavedRole) -> list[Finding]:
    """Return what the audit would report as high or worse for the role, and does not report now."""
    only, settings = frozenset([saved.name]), account.settings
    then = build_restored_snapshot(have, saved, read_aws_policies(account, have, saved))
    there = {
        pre_apply_check.derive_finding_key(one)
        for one in pre_apply_check.select_blocking(pre_apply_check.audit_without_drift(have, settings, only=only))
    }
    return [
        one
        for one in pre_apply_check.select_blocking(pre_apply_check.audit_without_drift(then, settings, only=only))
        if pre_apply_check.derive_finding_key(one) not in there
    ]


def read_aws_policies(account: Account, have: Snapshot, saved: SavedRole) -> dict[str, dict[str, Any]]:
    """Return the AWS managed policies that only this role has attached: the snapshot lacks those. Raises OpsError for a missing one."""
    found = {}
    for arn in saved.held:
        if arn in have.policies or arn in saved.policies:
            continue
        policy = account.call_or_none("iam", "get_policy", "NoSuchEntity", PolicyArn=arn)
        if policy is None:
            raise OpsError(f"{saved.name} had {arn} attached, which AWS does not have. Nothing was changed.")
        version = policy["Policy"]["DefaultVersionId"]
        answer = account.call("iam", "get_policy_version", PolicyArn=arn, VersionId=version)
        found[arn] = snapshot.decode_document(answer["PolicyVersion"]["Document"])
    return found


def read_profile_roles(account: Account, saved: SavedRole) -> dict[str, list[str] | None]:
    """Return the roles in each saved instance profile, None for a missing one. Raises OpsError for one at another path."""
    found: dict[str, list[str] | None] = {}
    for name, kept in saved.profiles.items():
        answer = account.call_or_none("iam", "get_instance_profile", "NoSuchEntity", InstanceProfileName=name)
        if answer and (path := answer["InstanceProfile"]["Path"]) != kept["path"]:
            raise OpsError(f"The instance profile {name} is at {path}, not at {kept['path']}. Nothing was changed.")
        found[name] = answer and [role["RoleName"] for role in answer["InstanceProfile"]["Roles"]]
    return found


def list_changed_policies(have: Snapshot, saved: SavedRole) -> list[str]:
    return [
        arn
        for arn, kept in saved.policies.items()
        if arn in have.policies and not is_equivalent(have.policies[arn].document, kept["document"])
    ]


def warn_of_trusting(have: Snapshot, saved: SavedRole) -> None:
    for name in list_trusting_roles(have, saved.role_id):
        say(
            f"{name}: its trust policy still names the deleted role {saved.name} by its unique id. Replace that id by the restored "
            "role's ARN; for a role of iam_policies/: invoke iam.apply"
        )

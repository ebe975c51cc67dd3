"""The changes that make IAM match iam_policies/. After an interruption, the next run makes the remaining ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from iampolicy.account import snapshot
from iampolicy.account.snapshot import Principal, Snapshot
from iampolicy.policy.document import Policy
from iampolicy.revoked_sessions import LONGEST, list_active_revocations
from ops.core.aws.account import Account
from ops.core.errors import AwsError, OpsError
from ops.core.output import say
from ops.core.plan import Change, Step, Steps, Wait, preview
from ops.core.settings import ROLES, Settings
from ops.iam import backups, pre_apply_check, roles
from ops.iam.backups import annotate_with_backup
from ops.iam.diff import is_equivalent, list_tags_to_set
from ops.iam.revocation import SPREADING_S, drop_revocations
from ops.iam.roles import Wanted, derive_policy_arn, dump_document
from ops.iam.versions import plan_new_version

BOOTSTRAP = "bootstrap"


@dataclass(frozen=True)
class ApplyPlan:
    """The roles of iam_policies/ to apply, and the account as it was read."""

    wanted: list[Wanted]
    have: Snapshot
    settings: Settings

    def steps(self, have: Snapshot | None = None) -> Steps:
        return steps(have or self.have, self.wanted, self.settings)


def prepare_apply_plan(account: Account, role: str) -> ApplyPlan:
    """Read the account and the wanted roles. Raises OpsError for roles whose folders must not be applied."""
    settings = account.settings
    plan = ApplyPlan(roles.read_roles(settings, only=role), snapshot.read(account), settings)
    report_revoked_sessions(plan.have, plan.wanted, settings)
    pre_apply_check.refuse_unexpected(plan.wanted, settings)
    pre_apply_check.refuse_new(plan.have, plan.wanted, settings)
    pre_apply_check.refuse_bounding(account, plan.steps())
    return plan


def report_revoked_sessions(have: Snapshot, wanted: list[Wanted], settings: Settings) -> None:
    revoked = list_active_revocations(have)
    for name in revoked.keys() & {settings.build_role_name(want.role) for want in wanted}:
        until = revoked[name] + LONGEST
        say(
            f"{name}: old sessions are revoked (iam.revoke). iam.apply keeps that deny until {until:%Y-%m-%d %H:%M} UTC, then removes it."
        )


def save_lost_documents(have: Snapshot, planned: Iterable[Step], settings: Settings) -> None:
    """Back up all documents that the changes overwrite or delete, before the first of them."""
    for kept in backups.list_lost_documents(have, planned):
        backups.save_backup(settings, kept)


def wait_until_applied(account: Account, steps: Callable[[Snapshot], Steps], timeout_s: float = SPREADING_S) -> None:
    """Wait until IAM reads back what was written. Raises OpsError with what still differs."""

    def find_differences(account: Account) -> str | None:
        return "; ".join(step.why for step in preview(steps(snapshot.read(account)))) or None

    account.wait(Wait("IAM", find_differences, why="until IAM returns what was written", timeout_s=timeout_s))


def steps(have: Snapshot, wanted: list[Wanted], settings: Settings) -> Steps:
    """Return the steps that apply these roles. Raises OpsError, before the first one, if the name of a role or policy is taken."""
    refuse_misplaced(have, wanted, settings)
    return translate_name_conflict(plan_all_roles(drop_revocations(have), wanted, settings))


def refuse_misplaced(have: Snapshot, wanted: list[Wanted], settings: Settings) -> None:
    """Raise OpsError when a wanted name is taken under another ARN: a name is unique in IAM, whatever its path and case."""
    there = {derive_name_key(arn): arn for arn in (*(role.arn for role in have.roles.values()), *have.policies)}
    for want in wanted:
        stems = [*want.permissions, *(["boundary"] if want.boundary else [])]
        for arn in (settings.role_arn(want.role), *(derive_policy_arn(want.role, stem, settings) for stem in stems)):
            found = there.get(derive_name_key(arn), arn)
            if found != arn:
                name = found.rsplit("/", 1)[1]
                prune = f"invoke iam.prune --roles {name}, which saves it to a file; by hand while it is younger than 7 days"
                how = prune if ":role/" in arn else "delete it by hand"
                raise OpsError(
                    f"{found} has the name of {arn}: a name is unique in IAM, and a path cannot be changed. Nothing was changed. "
                    f"Remove it first ({how}), or name another stack in the settings."
                )


def derive_name_key(arn: str) -> tuple[str, str, str]:
    """Return (account, role or policy, name in lower case), which IAM has only once."""
    _, _, _, _, account, resource = arn.split(":", 5)
    return account, resource.partition("/")[0], resource.rpartition("/")[2].lower()


def translate_name_conflict(steps: Steps) -> Steps:
    """Run the steps; raise OpsError with an explanation if a name was taken after the account was read."""
    try:
        return (yield from steps)
    except AwsError as error:
        if not error.says("EntityAlreadyExists"):
            raise
        raise OpsError(
            f"{error}. It did not exist a moment ago: another operator created it, or an earlier attempt of this call did, whose "
            "response was lost. Run the same command again: it continues from the current state."
        ) from error


def plan_all_roles(have: Snapshot, wanted: list[Wanted], settings: Settings) -> Steps:
    """Yield the changes of each role, of bootstrap last: once it is whole, later runs are its own, and it may write no boundary."""
    for want in sorted(wanted, key=lambda want: want.role == BOOTSTRAP):
        name = settings.build_role_name(want.role)
        role = have.roles.get(name)
        if want.boundary:  # before the role, which must never exist without its boundary
            yield from plan_policy(have, want, "boundary", want.boundary, settings)
        yield from plan_role(have, want, settings)
        for stem, wanted_policy in want.permissions.items():
            yield from plan_policy(have, want, stem, wanted_policy, settings)
        yield from plan_attachments(have, want, settings)
        if (
            role and role.boundary and not want.boundary
        ):  # last: until then it limits the policies that are removed above
            why = f"{name}: remove its permissions boundary {role.boundary.rsplit('/', 1)[1]}: no {ROLES}/{want.role}/boundary.json"
            change = Change("iam", "delete_role_permissions_boundary", {"RoleName": name}, why)
            yield annotate_with_backup(settings, have, change)
        if want.for_instances:
            yield from plan_instance_profile(role, name, settings)


def plan_role(have: Snapshot, want: Wanted, settings: Settings) -> Steps:
    name = settings.build_role_name(want.role)
    role = have.roles.get(name)
    bounds = derive_policy_arn(want.role, "boundary", settings) if want.boundary else ""
    if role is None:
        args = {
            "RoleName": name,
            "Path": settings.role_path,
            "AssumeRolePolicyDocument": dump_document(want.trust.document),
            "Tags": settings.tags(name),
        } | ({"PermissionsBoundary": bounds} if bounds else {})
        yield Change("iam", "create_role", args, why=f"{name}: create the role")
        return
    if bounds and role.boundary != bounds:
        args = {"RoleName": name, "PermissionsBoundary": bounds}
        change = Change("iam", "put_role_permissions_boundary", args, why=f"{name}: set its permissions boundary")
        yield annotate_with_backup(settings, have, change)
    if not is_equivalent(role.trust_policy.document, want.trust.document):
        args = {"RoleName": name, "PolicyDocument": dump_document(want.trust.document)}
        why = f"{name}: set its trust policy to {ROLES}/{want.role}/trust.json"
        yield annotate_with_backup(settings, have, Change("iam", "update_assume_role_policy", args, why))
    if tags := list_tags_to_set(role, settings):
        why = f"{name}: set tag {', '.join(tag['Key'] for tag in tags)}"
        yield annotate_with_backup(settings, have, Change("iam", "tag_role", {"RoleName": name, "Tags": tags}, why))


def plan_policy(have: Snapshot, want: Wanted, stem: str, wanted: Policy, settings: Settings) -> Steps:
    arn = derive_policy_arn(want.role, stem, settings)
    path, _, name = arn.partition(":policy")[2].rpartition("/")
    policy = have.policies.get(arn)
    if policy is None:
        args = {
            "PolicyName": name,
            "Path": f"{path}/",
            "PolicyDocument": dump_document(wanted.document),
            "Tags": settings.tags(name),
        }
        yield Change("iam", "create_policy", args, why=f"{name}: create the policy")
    elif not is_equivalent(policy.document, wanted.document):
        why = f"{name}: set it to {ROLES}/{want.role}/{stem}.json"
        yield from plan_new_version(policy, wanted.document, why, settings)


def plan_attachments(have: Snapshot, want: Wanted, settings: Settings) -> Steps:
    name = settings.build_role_name(want.role)
    role = have.roles.get(name)
    arns = [derive_policy_arn(want.role, stem, settings) for stem in want.permissions]
    attached = role.attached if role else ()
    for arn in arns:
        if arn not in attached:
            args = {"RoleName": name, "PolicyArn": arn}
            yield Change("iam", "attach_role_policy", args, why=f"{name}: attach {arn.rsplit('/', 1)[1]}")
    for arn in attached:
        if arn not in arns:
            why = f"{name}: detach {arn.rsplit('/', 1)[1]}, which is not in {ROLES}/{want.role}/"
            yield Change("iam", "detach_role_policy", {"RoleName": name, "PolicyArn": arn}, why)
    for inline in role.inline if role else ():
        why = f"{name}: delete its inline policy {inline}, which is not in {ROLES}/{want.role}/"
        args = {"RoleName": name, "PolicyName": inline}
        yield annotate_with_backup(settings, have, Change("iam", "delete_role_policy", args, why))


def plan_instance_profile(have: Principal | None, name: str, settings: Settings) -> Steps:
    """Yield the changes that put the role into an instance profile of its name; EC2 gives roles to instances only through one."""
    if have is not None and name in have.instance_profiles:
        return
    args = {"InstanceProfileName": name, "Path": settings.role_path, "Tags": settings.tags(name)}
    try:
        yield Change("iam", "create_instance_profile", args, why=f"{name}: create the instance profile")
    except AwsError as error:  # a crash may have left one without a role, which no role's description shows
        if not error.says("EntityAlreadyExists"):
            raise
    args = {"InstanceProfileName": name, "RoleName": name}
    yield Change("iam", "add_role_to_instance_profile", args, why=f"{name}: add the role to its instance profile")

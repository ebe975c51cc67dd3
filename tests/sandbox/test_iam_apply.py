"""Roles are applied once, repaired after changes by hand, and from any point at which a run was interrupted; policies roll back."""

import json
import re
from dataclasses import replace

import pytest

from iampolicy.account import snapshot
from ops.core import plan as change
from ops.core.aws.account import Account
from ops.core.errors import OpsError
from ops.core.paths import WORK
from ops.iam import apply
from ops.iam import roles as policies
from tests.unit.test_iam_apply import BEFORE, SETTINGS, WANTED, doc


def test_boundary_change_needs_an_administrator(make_stack):
    """A boundary is changed by an administrator; the bootstrap role is stopped before the first change."""
    cli = make_stack("boundchange")
    arn = policies.derive_policy_arn("ec2-box", "boundary", cli.settings)
    cli.account.call(
        "iam", "create_policy_version", PolicyArn=arn, PolicyDocument=json.dumps(doc("s3:*")), SetAsDefault=True
    )
    for dry in ((), ("--dry",)):
        ran = cli(*dry, "iam.apply", ok=False)
        assert ran.code == 4
        assert "Run it as an administrator: INVOKE_AWS_TAKE_ROLES=false invoke iam.apply" in ran.err
    assert "1 made" in cli("iam.apply", env={"INVOKE_AWS_TAKE_ROLES": "false"}).out


def one_change(account, steps):
    """Make the first change and be killed; whether there was one."""
    done = []

    def answer(step):
        result = account.make_change(step)
        done.append(step)
        return result

    for _ in change.walk_steps(steps, answer):
        if done:
            break
    return bool(done)


def test_apply_resumes_after_any_change(make_stack):
    cli = make_stack("brokenoff", roles=False)
    account, settings = cli.account, cli.settings
    wanted = policies.read_roles(settings)
    whole = len(change.preview(apply.steps(snapshot.read(account), wanted, settings)))
    made = 0
    while one_change(account, apply.steps(snapshot.read(account), wanted, settings)):
        made += 1
        assert made <= whole
    assert made == whole
    assert "no differences" in cli("iam.diff").out


def test_next_apply_repairs_after_lost_responses(make_stack, inject_fault):
    cli = make_stack("lostanswer", roles=False)
    for operation in ("CreatePolicy", "CreateRole", "CreateInstanceProfile"):
        inject_fault("fault", operation=operation, do="lost")
        cli("iam.apply", ok=False)
        inject_fault("faults/clear")
    cli("iam.apply")
    assert "0 made" in cli("iam.apply").out


def test_concurrent_creation_says_to_run_again(make_stack, inject_fault):
    cli = make_stack("raced", roles=False)
    inject_fault(
        "fault",
        operation="CreatePolicy",
        do="error",
        code="EntityAlreadyExists",
        message="A policy called x exists",
        status=409,
    )
    ran = cli("iam.apply", ok=False)
    assert (ran.code, "Run the same command again: it continues from the current state." in ran.err) == (1, True)


def test_conflicting_role_is_rejected_before_any_change(make_stack):
    """A role of the same name in another place is rejected before anything is made."""
    cli = make_stack("intheway", roles=False)
    name = cli.settings.build_role_name("operator")
    iam = cli.account.client("iam")
    iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(BEFORE))
    for command in (("iam.diff",), ("--dry", "iam.apply"), ("iam.apply",)):
        ran = cli(*command, ok=False)
        assert (ran.code, f"role/{name} has the name of" in ran.err) == (1, True), ran.said
    assert [one for one in snapshot.read(cli.account).policies if "/intheway/" in one] == []
    iam.delete_role(RoleName=name)  # everybody may assume it, which the audits of other tests would report


def test_revoke_backs_up_a_policy_that_it_overwrites(make_stack):
    """A policy of the name that iam.revoke uses is backed up before iam.revoke overwrites it."""
    cli = make_stack("revokekeeps")
    iam, name = cli.account.client("iam"), cli.settings.build_role_name("ec2-box")
    iam.put_role_policy(
        RoleName=name, PolicyName="AWSRevokeOlderSessions", PolicyDocument=json.dumps(doc("s3:ListAllMyBuckets"))
    )
    ran = cli("iam.revoke", "ec2-box", "--yes")
    kept = WORK / "iam" / "revokekeeps" / name / "inline-AWSRevokeOlderSessions.json"
    assert f"backup: {kept}" in ran.err
    assert json.loads(kept.read_text())["document"] == doc("s3:ListAllMyBuckets")
    cli("iam.revoke", "ec2-box", "--yes")
    assert len(list(kept.parent.iterdir())) == 1


def test_planted_roles_equal_applied_ones(make_stack):
    """The roles that the fixture plants are those that iam.apply makes."""
    planted, applied = make_stack("planted1"), make_stack("planted2", roles=False)
    applied("iam.apply")

    def described(cli):
        """All that IAM tells of the stack's roles and policies, but for ids and dates, under one name."""
        found = []
        for page in cli.account.client("iam").get_paginator("get_account_authorization_details").paginate():
            found += [role for role in page["RoleDetailList"] if role["Path"] == cli.settings.role_path]
            found += [policy for policy in page["Policies"] if f"/{cli.settings.stack.name}/" in policy["Path"]]
        text = json.dumps(sorted(found, key=lambda one: one["Arn"]), sort_keys=True, default=lambda date: "a date")
        text = text.replace(cli.settings.stack.name, "stack")
        return re.sub(r'"(RoleId|PolicyId|InstanceProfileId|RoleLastUsed)": ("[^"]*"|\{[^}]*\})', r'"\1": ""', text)

    assert described(planted) == described(applied)
    assert len(json.loads(described(planted))) > 2 * len(WANTED)
    assert planted("iam.diff").code == 0


def test_apply_repeats_without_change_and_reverts_drift(make_stack):
    cli = make_stack("roles", roles=False)
    count = len(WANTED)
    dry = cli("--dry", "iam.apply")
    assert "nothing was touched" in dry.err
    assert not (WORK / "iam" / "roles").exists()
    assert cli("iam.apply").out.startswith(f"{count} roles: ")
    assert cli("iam.apply").out.strip() == f"{count} roles: 0 made"
    iam, name = cli.account.client("iam"), cli.settings.build_role_name("lambda-invoke")
    iam.attach_role_policy(
        RoleName=name, PolicyArn=policies.derive_policy_arn("operator", "permissions-models", cli.settings)
    )
    iam.put_role_policy(RoleName=name, PolicyName="extra", PolicyDocument=json.dumps(doc("s3:GetObject")))
    iam.untag_role(RoleName=name, TagKeys=["kennel:stack"])
    before = iam.get_role(RoleName=name)["Role"]["AssumeRolePolicyDocument"]
    trust = json.loads(json.dumps(WANTED[0].trust.document).replace(SETTINGS.stack.name, "roles"))
    iam.update_assume_role_policy(RoleName=name, PolicyDocument=json.dumps(trust))
    assert cli("iam.diff", ok=False).code == 7
    assert cli("iam.apply").out.strip() == f"{count} roles: 4 made"
    assert cli("iam.diff").code == 0
    kept = WORK / "iam" / "roles" / name / "inline-extra.json"
    assert json.loads(kept.read_text())["document"] == doc("s3:GetObject")
    assert json.loads(kept.with_name("trust.json").read_text())["document"] == trust != before
    assert "There is no role 'absent'" in cli("iam.apply", "--role", "absent", ok=False).err


def test_sixth_version_is_made_and_the_first_is_backed_up(make_stack):
    cli = make_stack("sixth")
    iam, arn = cli.account.client("iam"), policies.derive_policy_arn("auditor", "permissions", cli.settings)
    for n in range(4):
        iam.create_policy_version(PolicyArn=arn, PolicyDocument=json.dumps(doc(f"s3:Get{n}")), SetAsDefault=True)
    first = iam.get_policy_version(PolicyArn=arn, VersionId="v1")["PolicyVersion"]["Document"]
    folder = WORK / "iam" / "sixth" / cli.settings.build_role_name("auditor")
    dry = cli("--dry", "iam.apply", "--role", "auditor").err
    assert f"only backup: {folder / 'v1.json'}" in dry
    assert not folder.exists()
    assert "2 made" in cli("iam.apply", "--role", "auditor").out
    there = {one["VersionId"] for one in iam.list_policy_versions(PolicyArn=arn)["Versions"]}
    assert there == {"v2", "v3", "v4", "v5", "v6"}
    assert json.loads((folder / "v1.json").read_text())["document"] == first
    assert json.loads((folder / "v5.json").read_text())["document"] == doc("s3:Get3")
    assert "0 made" in cli("iam.apply", "--role", "auditor").out
    # And what only this machine has comes back by its number.
    back = (
        "iam.rollback",
        "--role",
        "auditor",
        "--policy",
        cli.settings.build_role_name("auditor"),
        "--to",
        "v1",
        "--yes",
    )
    assert "is equivalent to v1 already" in cli(*back).err  # v1 was the repository's own, and so is v6


def default(cli, arn):
    policy = snapshot.read(cli.account).policies[arn]
    return policy.default, policy.document


def test_rollback_goes_back_and_apply_forward_again(make_stack):
    cli = make_stack("rollback")
    iam, arn = cli.account.client("iam"), policies.derive_policy_arn("auditor", "permissions", cli.settings)
    iam.create_policy_version(PolicyArn=arn, PolicyDocument=json.dumps(doc("s3:ListAllMyBuckets")), SetAsDefault=True)
    assert "1 made" in cli("iam.apply", "--role", "auditor").out
    assert default(cli, arn)[0] == "v3"
    back = ("iam.rollback", "--role", "auditor")
    asked = cli(*back, ok=False)
    assert (asked.code, "pass --yes" in asked.err) == (1, True)
    assert "v3 -> v2" in asked.err
    assert "+ allow s3:ListAllMyBuckets on *" in asked.err
    assert "- allow iam:" in asked.err
    assert "1 to make; nothing was touched" in cli("--dry", *back).err
    assert default(cli, arn)[0] == "v3"
    done = cli(*back, "--yes")
    assert "1 made. Undo: invoke iam.apply --role auditor" in done.out
    assert default(cli, arn) == ("v2", doc("s3:ListAllMyBuckets"))
    assert "is rolled back already, to v2" in cli(*back, "--yes").err
    assert default(cli, arn)[0] == "v2"
    assert "1 made" in cli("iam.apply", "--role", "auditor").out
    for version in ("v1", "v2", "v3"):
        iam.delete_policy_version(PolicyArn=arn, VersionId=version)
    assert "v4 -> v2 (from its backup)" in cli(*back, "--yes").err
    assert default(cli, arn) == ("v5", doc("s3:ListAllMyBuckets"))
    assert "0 made" in cli(*back, "--yes").out
    name = cli.settings.build_role_name("auditor")
    assert "has no version v77" in cli(*back, "--policy", name, "--to", "v77", ok=False).err
    assert "has no policy 'other'" in cli(*back, "--policy", "other", ok=False).err
    assert "There is no role 'absent'" in cli("iam.rollback", "--role", "absent", ok=False).err


def version(cli, stem, document):
    arn = policies.derive_policy_arn("operator", stem, cli.settings)
    cli.account.call(
        "iam", "create_policy_version", PolicyArn=arn, PolicyDocument=json.dumps(document), SetAsDefault=True
    )
    return arn


def test_rollback_keeps_policies_not_changed_last(make_stack):
    """A reviewed change of one policy is not rolled back when another was changed by hand, or detached."""
    cli = make_stack("rollonly")
    want = policies.read_roles(cli.settings, only="operator")[0]
    version(cli, "permissions-models", doc("s3:Get*"))
    cli("iam.apply", "--role", "operator")  # forward again: as if this had been a change that was reviewed
    models = policies.derive_policy_arn("operator", "permissions-models", cli.settings)
    data = version(cli, "permissions-data", doc("s3:ListAllMyBuckets"))
    back = ("iam.rollback", "--role", "operator", "--yes")
    assert "1 made" in cli(*back).out
    assert default(cli, models) == ("v3", want.permissions["permissions-models"].document)
    assert default(cli, data) == ("v1", want.permissions["permissions-data"].document)
    iam = cli.account.client("iam")
    iam.detach_role_policy(RoleName=cli.settings.build_role_name("operator"), PolicyArn=data)
    refused = cli(*back, ok=False)
    assert "parts without versions: attachments, inline policies" in refused.err
    assert "Fix them: invoke iam.apply --role operator" in refused.err
    assert default(cli, models)[0] == "v3"
    cli("iam.apply", "--role", "operator")


def test_same_fault_is_rolled_back_a_second_time(make_stack):
    """What was bad once is kept here, which made the second roll-back say that it was back already."""
    cli = make_stack("rolltwice")
    good = policies.read_roles(cli.settings, only="operator")[0].permissions["permissions-data"].document
    arn = version(cli, "permissions-data", doc("s3:ListAllMyBuckets"))
    cli("iam.apply", "--role", "operator")
    version(cli, "permissions-data", doc("s3:ListAllMyBuckets"))
    assert "1 made" in cli("iam.rollback", "--role", "operator", "--yes").out
    assert default(cli, arn)[1] == good
    assert "0 made" in cli("iam.rollback", "--role", "operator", "--yes").out


def test_boundary_is_not_rolled_back(make_stack):
    cli = make_stack("rollbound")
    arn = policies.derive_policy_arn("ec2-box", "boundary", cli.settings)
    cli.account.call(
        "iam", "create_policy_version", PolicyArn=arn, PolicyDocument=json.dumps(doc("s3:*")), SetAsDefault=True
    )
    assert "parts without versions" in cli("iam.rollback", "--role", "ec2-box", "--yes", ok=False).err
    assert default(cli, arn)[0] == "v2"
    named = ("--policy", "kennel-rollbound-ec2-box-boundary")
    assert "has no policy" in cli("iam.rollback", "--role", "ec2-box", *named, "--yes", ok=False).err


def test_change_not_read_back_is_reported(make_stack):
    cli = make_stack("unread")
    wanted = [
        replace(want, trust=WANTED[0].trust) if want.role == "ec2-box" else want
        for want in policies.read_roles(cli.settings)
    ]
    with pytest.raises(OpsError, match="kennel-unread-ec2-box: set its trust policy") as missed:
        apply.wait_until_applied(cli.account, lambda have: apply.steps(have, wanted, cli.settings), timeout_s=0.3)
    assert missed.value.code == 1


def test_first_apply_resumes_after_a_crash(make_stack, monkeypatch):
    """The first iam.apply of an account continues after a crash at any point, also while its role bootstrap is half made."""
    cli = make_stack("firstapply", roles=False)
    real, made = Account.make_change, 0

    class Crash(BaseException):
        pass

    def crash_after(calls):
        left = calls

        def make_change(self, step):
            nonlocal left, made
            answer = real(self, step)
            left, made = left - 1, made + 1
            if left <= 0:
                raise Crash
            return answer

        monkeypatch.setattr(Account, "make_change", make_change)
        assert "Crash" in cli("iam.apply", ok=False).err

    whole = len(
        change.preview(apply.steps(snapshot.read(cli.account), policies.read_roles(cli.settings), cli.settings))
    )
    for calls in (2, whole - 8, 1, 1, 1, 1, 1):
        crash_after(calls)
    assert made == whole - 1
    monkeypatch.setattr(Account, "make_change", real)
    assert f"{len(WANTED)} roles: 1 made" in cli("iam.apply").out
    assert "no differences" in cli("iam.diff").out

"""Roles applied: once, mended when changed, from any point at which a run was broken off; and policies that go back."""

import json
import re
import stat
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from iampolicy.account import snapshot
from iampolicy.account.snapshot import Managed, Principal, Snapshot
from ops.core import plan as change
from ops.core.errors import FINDINGS, AwsError, OpsError
from ops.core.paths import WORK
from ops.iam import apply, backups, pre_apply_check, versions
from ops.iam import roles as policies
from ops.iam.backups import Kept
from ops.iam.roles import Wanted
from tests.conftest import settings_of

SETTINGS = settings_of()
WANTED = policies.wanted(SETTINGS)
NOW = datetime.now(UTC)
NAME = SETTINGS.role_name("auditor")
OWN, BOUND = (policies.policy_arn("auditor", stem, SETTINGS) for stem in ("permissions", "boundary"))


def doc(action, resource="*"):
    return {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": action, "Resource": resource}]}


def applied():
    """The account as iam.apply leaves it."""
    want = policies.applied(WANTED, SETTINGS)
    roles = {
        name: replace(role, tags={tag["Key"]: tag["Value"] for tag in SETTINGS.tags(name)}, created=NOW)
        for name, role in want.roles.items()
    }
    held = {arn: replace(one, versions=(("v1", True, NOW),)) for arn, one in want.policies.items()}
    return Snapshot(roles, policies=held)


def planned(have, wanted=WANTED):
    return change.preview(apply.steps(have, wanted, SETTINGS))


def calls(have, wanted=WANTED):
    return [(step.call, step.why.split(":")[0]) for step in planned(have, wanted)]


def five(arn=OWN, default="v8"):
    """A policy with all the versions that AWS keeps, each of which says something else."""
    said = {f"v{n}": doc(f"s3:Get{n}") for n in (10, 7, 9, 6, 8)}
    kept = tuple((version, version == default, NOW - timedelta(20) + timedelta(int(version[1:]))) for version in said)
    return Managed(arn, said[default], kept, raw={v: text for v, text in said.items() if v != default})


def test_an_applied_account_is_left_alone():
    assert planned(applied()) == []


def test_a_role_is_never_without_its_boundary():
    made = planned(Snapshot())
    there = set()
    for step in made:
        if step.call == "create_policy":
            there.add(f"arn:aws:iam::{SETTINGS.aws.account}:policy{step.args['Path']}{step.args['PolicyName']}")
        elif step.call == "create_role":
            assert step.args["PermissionsBoundary"] in there
            there.add(step.args["RoleName"])
        elif step.call == "attach_role_policy":
            assert {step.args["RoleName"], step.args["PolicyArn"]} <= there
    assert there >= set(applied().roles) | set(applied().policies)


def test_a_boundary_that_is_missing_or_another_is_put():
    have = applied()
    for boundary in ("", "arn:aws:iam::1:policy/own"):
        have.roles[NAME] = replace(have.roles[NAME], boundary=boundary)
        (step,) = planned(have)
        assert (step.call, step.args) == (
            "put_role_permissions_boundary",
            {"RoleName": NAME, "PermissionsBoundary": BOUND},
        )


def test_a_boundary_that_is_not_wanted_goes_after_what_it_held_in():
    have, wanted = applied(), [replace(w, boundary=None) if w.role == "auditor" else w for w in WANTED]
    have.policies[OWN] = replace(have.policies[OWN], policy=doc("*"))
    assert calls(have, wanted) == [("create_policy_version", NAME), ("delete_role_permissions_boundary", NAME)]


def test_a_boundary_that_says_something_else_gets_a_version():
    have = applied()
    have.policies[BOUND] = replace(have.policies[BOUND], policy=doc("*"))
    assert calls(have) == [("create_policy_version", f"{NAME}-boundary")]


def test_our_tags_are_mended_and_others_left():
    have = applied()
    have.roles[NAME] = replace(have.roles[NAME], tags={"kennel:stack": "other", "kennel:name": NAME, "team": "blue"})
    (step,) = planned(have)
    assert (step.call, step.args["Tags"]) == ("tag_role", [{"Key": "kennel:stack", "Value": SETTINGS.stack.name}])


def test_a_trust_that_only_reads_otherwise_is_left():
    have, trust = applied(), policies.wanted(SETTINGS, only="auditor")[0].trust.document
    bare = {**trust, "Statement": trust["Statement"][0]}
    have.roles[NAME] = replace(have.roles[NAME], trust=bare)
    assert planned(have) == []


def test_the_oldest_of_five_versions_goes_first_but_never_the_one_in_force():
    have = applied()
    for default, oldest in (("v10", "v6"), ("v6", "v7")):
        have.policies[OWN] = five(default=default)
        steps = planned(have)
        assert [(s.call, s.args.get("VersionId")) for s in steps] == [
            ("delete_policy_version", oldest),
            ("create_policy_version", None),
        ]
        assert backups.lost(have, steps) == [
            Kept(OWN, oldest, doc(f"s3:Get{oldest[1:]}")),
            Kept(OWN, default, doc(f"s3:Get{default[1:]}")),
        ]


def test_what_a_role_holds_itself_is_kept_and_taken_away():
    have = applied()
    have.roles[NAME] = replace(have.roles[NAME], inline={"extra": doc("s3:*")}, attached=())
    steps = planned(have)
    assert [step.call for step in steps] == ["attach_role_policy", "delete_role_policy"]
    assert backups.lost(have, steps) == [Kept(f"role/{NAME}", "inline-extra", doc("s3:*"))]


BEFORE = {
    "Version": "2012-10-17",
    "Statement": {"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"},
}


def test_all_that_is_written_over_is_kept_and_each_file_named():
    have, foreign = applied(), "arn:aws:iam::123456789012:policy/own"
    tags = have.roles[NAME].tags | {"kennel:stack": "other"}
    have.roles[NAME] = replace(have.roles[NAME], trust=BEFORE, boundary=foreign, tags=tags)
    steps = planned(have)
    assert backups.lost(have, steps) == [
        Kept(f"role/{NAME}", "boundary", {"PermissionsBoundaryArn": foreign}),
        Kept(f"role/{NAME}", "trust", BEFORE),
        Kept(f"role/{NAME}", "tags", {"kennel:stack": "other"}),
    ]
    files = [WORK / "iam" / SETTINGS.stack.name / NAME / f"{part}.json" for part in ("boundary", "trust", "tags")]
    assert [step.danger for step in steps] == [f"stays only in {path}" for path in files]


def test_somebody_elses_policy_of_the_same_name_is_kept():
    inline = {"AWSRevokeOlderSessions": doc("s3:*")}
    have = Snapshot(
        {"r": Principal("r", "arn:aws:iam::1:role/r", BEFORE, inline)},
        {"u": Principal("u", "arn:aws:iam::1:user/u", None, inline)},
    )
    for kind in ("role", "user"):
        args = {f"{kind.title()}Name": kind[0], "PolicyName": "AWSRevokeOlderSessions", "PolicyDocument": "{}"}
        step = change.Change("iam", f"put_{kind}_policy", args, why="")
        assert backups.lost(have, [step]) == [Kept(f"{kind}/{kind[0]}", "inline-AWSRevokeOlderSessions", doc("s3:*"))]
        assert backups.lost(Snapshot(), [step]) == []


def test_the_file_that_is_named_is_the_one_in_which_it_lies():
    settings, one = kept_settings("naming"), Kept(f"role/{NAME}", "inline-inl", doc("s3:A"))
    assert backups.home(settings, one) == backups.keep(settings, one)
    other = replace(one, document=doc("s3:B"))
    assert backups.home(settings, other) == backups.keep(settings, other) == backups.home(settings, other)
    assert backups.home(settings, one) != backups.home(settings, other)


@pytest.mark.parametrize(
    ("name", "path", "words"),
    [
        (NAME, "/", "invoke iam.prune --roles kennel-demo-auditor keeps all of it in a file"),
        (NAME.upper(), SETTINGS.role_path, "invoke iam.prune --roles KENNEL-DEMO-AUDITOR"),
    ],
)
def test_a_role_of_the_name_at_another_path_is_not_adopted(name, path, words):
    have = applied()
    del have.roles[NAME]
    have.roles[name] = Principal(name, f"arn:aws:iam::{SETTINGS.aws.account}:role{path}{name}", BEFORE)
    with pytest.raises(OpsError, match="is in the way of arn.*Nothing was touched") as refused:
        planned(have)
    assert words in str(refused.value)


def test_a_policy_of_the_name_at_another_path_is_not_adopted():
    there = OWN.replace(SETTINGS.role_path, "/")
    with pytest.raises(OpsError, match=f"{there} is in the way of {OWN}.*delete it"):
        planned(Snapshot(policies={there: Managed(there, doc("*"))}))


def test_an_instance_profile_that_a_crash_left_without_a_role_gets_it():
    made = []

    def answer(step):
        if step.call == "create_instance_profile":
            raise AwsError("CreateInstanceProfile", "EntityAlreadyExists", "it is there")
        made.append(step.call)

    list(change.walk(apply.profile_steps(None, SETTINGS.role_name("ec2-box"), SETTINGS), answer))
    assert made == ["add_role_to_instance_profile"]


def kept_settings(name):
    return settings_of(text=f"stack: {{name: {name}}}")


def test_what_is_kept_is_whole_private_and_never_written_over():
    settings = kept_settings("keeping")
    first = backups.keep(settings, Kept(OWN, "v3", doc("s3:A")))
    assert stat.S_IMODE(first.stat().st_mode) == 0o600
    for folder in list(first.parents)[:3]:
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700, folder
    assert first == WORK / "iam" / "keeping" / NAME / "v3.json"
    before = first.read_bytes()
    assert backups.keep(settings, Kept(OWN, "v3", doc("s3:A"))) == first
    second = backups.keep(settings, Kept(OWN, "v3", doc("s3:B")))  # the policy was made anew, and counts from v1 again
    assert backups.keep(settings, Kept(OWN, "v3", doc("s3:B"))) == second != first
    assert first.read_bytes() == before
    assert sorted(json.dumps(one.document) for one in backups.versions(settings, OWN)) == [
        json.dumps(doc("s3:A")),
        json.dumps(doc("s3:B")),
    ]
    assert backups.versions(settings, OWN.replace(SETTINGS.aws.account, "2" * 12)) == []
    assert [path.name for path in first.parent.iterdir() if not path.name.startswith("v3")] == []


def test_a_disk_that_is_full_leaves_no_half_file(monkeypatch):
    settings = kept_settings("fulldisk")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        backups.keep(settings, Kept(OWN, "v1", doc("s3:A")))
    assert list((WORK / "iam" / "fulldisk" / NAME).iterdir()) == []


ADMIN = Wanted("planted", {"Version": "2012-10-17", "Statement": []}, {"permissions": doc("*")})


def test_a_role_that_brings_a_new_finding_is_refused():
    with pytest.raises(OpsError, match=r"IAM-ADMIN-001 .*planted(.*\n)+Nothing was touched") as refused:
        pre_apply_check.refuse_new(applied(), [ADMIN], SETTINGS)
    assert refused.value.code == FINDINGS


def test_a_finding_that_is_there_already_is_told_and_blocks_nothing(capsys):
    have = pre_apply_check.afterwards(applied(), [ADMIN], SETTINGS)
    pre_apply_check.refuse_new(have, [ADMIN], SETTINGS)
    assert "Already so: critical IAM-ADMIN-001" in capsys.readouterr().err


def test_a_finding_that_is_waived_blocks_nothing(monkeypatch):
    found = pre_apply_check.audited
    waived = lambda *args, **more: [replace(one, waived="agreed") for one in found(*args, **more)]  # noqa: E731
    monkeypatch.setattr(pre_apply_check, "audited", waived)
    pre_apply_check.refuse_new(applied(), [ADMIN], SETTINGS)


def test_a_role_that_may_do_what_its_expectations_deny_is_refused():
    want = next(one for one in WANTED if one.role == "operator")
    pre_apply_check.refuse_unexpected(WANTED, SETTINGS)
    wide = replace(want, permissions=want.permissions | {"permissions-more": doc("s3:*")})
    with pytest.raises(OpsError, match=r"operator: denied \d+, s3:(.*\n)+.*All of it: invoke iam.check") as refused:
        pre_apply_check.refuse_unexpected([wide], SETTINGS)
    assert refused.value.code == FINDINGS
    trusting = replace(
        want,
        trust={
            "Version": "2012-10-17",
            "Statement": [{"Effect": "Allow", "Principal": "*", "Action": "sts:AssumeRole"}],
        },
    )
    with pytest.raises(OpsError, match="operator: may_not_assume 1, taken by "):
        pre_apply_check.refuse_unexpected([trusting], SETTINGS)


def test_a_boundary_is_changed_by_an_administrator_and_bootstrap_is_told_before_it_begins(stacks):
    cli = stacks("boundchange")
    arn = policies.policy_arn("ec2-box", "boundary", cli.settings)
    cli.account.call(
        "iam", "create_policy_version", PolicyArn=arn, PolicyDocument=json.dumps(doc("s3:*")), SetAsDefault=True
    )
    for dry in ((), ("--dry",)):
        told = cli(*dry, "iam.apply", ok=False)
        assert told.code == 4
        assert "As an administrator: INVOKE_AWS_TAKE_ROLES=false invoke iam.apply. Nothing was touched" in told.err
    assert "1 made" in cli("iam.apply", env={"INVOKE_AWS_TAKE_ROLES": "false"}).out


def test_the_shipped_roles_bring_nothing_into_an_empty_account():
    assert pre_apply_check.new_findings(Snapshot(), WANTED, SETTINGS) == ([], [])


POLICY = Managed(
    OWN,
    doc("s3:C"),
    (("v1", False, NOW), ("v2", False, NOW), ("v3", True, NOW)),
    raw={"v1": doc("s3:A"), "v2": doc("s3:B")},
)


@pytest.mark.parametrize(
    ("policy", "kept", "to", "expected"),
    [
        (POLICY, [], "", ("v2", False)),
        (POLICY, [Kept(OWN, "v9", doc("s3:C"))], "", ("v2", False)),  # as bad as it was once before
        (replace(POLICY, raw={"v1": doc("s3:A"), "v2": doc("s3:C")}), [], "", ("v1", False)),  # v2 says the same
        (POLICY, [], "v1", ("v1", False)),
        (POLICY, [Kept(OWN, "v0", doc("s3:0"))], "v0", ("v0", True)),
        (POLICY, [], "v3", "is at v3 already"),
        (POLICY, [Kept(OWN, "v0", doc("s3:0"))], "v9", "has no v9; there are v0, v1, v2, v3"),
        (POLICY, [Kept(OWN, "v0", doc("s3:C"))], "v0", "says what v0 said already"),
        (Managed(OWN, doc("s3:C"), (("v3", True, NOW),)), [], "", "has no older version that says something else, neither at AWS nor kept here"),
        (Managed(OWN, doc("s3:C"), (("v3", True, NOW),)), [Kept(OWN, "v2", doc("s3:B"))], "", ("v2", True)),
    ],
)  # fmt: skip
def test_where_a_roll_back_leads(policy, kept, to, expected):
    found = versions.back(policy, kept, False, to)
    assert (found if isinstance(found, str) else (found.version, found.kept)) == expected


def test_a_policy_that_is_back_stays_when_the_command_runs_again():
    back = replace(POLICY, policy=doc("s3:B"), versions=(("v1", False, NOW), ("v2", True, NOW), ("v3", False, NOW)))
    assert str(versions.back(back, [], False)).startswith("is back already, at v2; further back: --policy")
    kept = Managed(OWN, doc("s3:B"), (("v4", True, NOW),))
    assert str(versions.back(kept, [Kept(OWN, "v2", doc("s3:B"))], True)).startswith("is back already, at v4")


def test_what_one_apply_changed_goes_back_together():
    day = timedelta(days=1)
    old = replace(POLICY, arn=f"{OWN}-old", versions=(("v1", False, NOW - 3 * day), ("v2", True, NOW - day)))
    other = replace(
        POLICY, arn=f"{OWN}-other", versions=(("v1", False, NOW - 3 * day), ("v2", True, NOW - timedelta(seconds=20)))
    )
    assert versions.changed_last([old, POLICY, other]) == [POLICY, other]
    assert versions.changed_last([]) == []


def test_what_was_kept_of_a_policy_that_is_gone_does_not_come_back(tmp_path, monkeypatch):
    """A stack that was torn down and made anew has the same ARNs."""
    monkeypatch.setattr(backups, "WORK", tmp_path)
    kept = backups.keep(SETTINGS, Kept(OWN, "v1", doc("s3:Old")))
    saved = datetime.fromisoformat(json.loads(kept.read_text())["saved"])
    assert [one.document for one in backups.versions(SETTINGS, OWN, since=saved)] == [doc("s3:Old")]
    assert backups.versions(SETTINGS, OWN, since=saved + timedelta(seconds=2)) == []
    kept.write_text(json.dumps(json.loads(kept.read_text()) | {"saved": "soon"}))
    assert backups.versions(SETTINGS, OWN, since=saved) == []


def test_a_kept_document_comes_back_as_a_version_and_makes_room_first():
    target = versions.Target(five(), "v2", doc("s3:Get2"), kept=True)
    steps = change.preview(versions.steps([target], SETTINGS))
    assert [(s.call, s.args.get("VersionId")) for s in steps] == [
        ("delete_policy_version", "v6"),
        ("create_policy_version", None),
    ]
    assert json.loads(steps[1].args["PolicyDocument"]) == doc("s3:Get2")


# From here on against the sandbox.


def one_change(account, steps):
    """Make the first change and be killed; whether there was one."""
    done = []

    def answer(step):
        result = account.make(step)
        done.append(step)
        return result

    for _ in change.walk(steps, answer):
        if done:
            break
    return bool(done)


def test_broken_off_after_any_change_the_next_run_goes_on(stacks):
    cli = stacks("brokenoff", roles=False)
    account, settings = cli.account, cli.settings
    wanted = policies.wanted(settings)
    whole = len(change.preview(apply.steps(snapshot.read(account), wanted, settings)))
    made = 0
    while one_change(account, apply.steps(snapshot.read(account), wanted, settings)):
        made += 1
        assert made <= whole
    assert made == whole
    assert "no difference in meaning" in cli("iam.diff").out


def test_an_answer_that_was_lost_is_mended_by_the_next_run(stacks, drill):
    cli = stacks("lostanswer", roles=False)
    for operation in ("CreatePolicy", "CreateRole", "CreateInstanceProfile"):
        drill("fault", operation=operation, do="lost")
        cli("iam.apply", ok=False)
        drill("faults/clear")
    cli("iam.apply")
    assert "0 made" in cli("iam.apply").out


def test_what_somebody_else_made_meanwhile_says_what_to_do(stacks, drill):
    cli = stacks("raced", roles=False)
    drill(
        "fault",
        operation="CreatePolicy",
        do="error",
        code="EntityAlreadyExists",
        message="A policy called x exists",
        status=409,
    )
    ran = cli("iam.apply", ok=False)
    assert (ran.code, "Run the same command again: it goes on from what is there." in ran.err) == (1, True)


def test_a_role_in_the_way_is_refused_before_anything_is_made(stacks):
    cli = stacks("intheway", roles=False)
    name = cli.settings.role_name("operator")
    iam = cli.account.client("iam")
    iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(BEFORE))
    for command in (("iam.diff",), ("--dry", "iam.apply"), ("iam.apply",)):
        ran = cli(*command, ok=False)
        assert (ran.code, f"role/{name} is in the way of" in ran.err) == (1, True), ran.said
    assert [one for one in snapshot.read(cli.account).policies if "/intheway/" in one] == []
    iam.delete_role(RoleName=name)  # anybody may take it, which other tests' audits would tell


def test_a_policy_of_the_name_of_ours_is_kept_before_iam_revoke_writes_over_it(stacks):
    cli = stacks("revokekeeps")
    iam, name = cli.account.client("iam"), cli.settings.role_name("ec2-box")
    iam.put_role_policy(
        RoleName=name, PolicyName="AWSRevokeOlderSessions", PolicyDocument=json.dumps(doc("s3:ListAllMyBuckets"))
    )
    ran = cli("iam.revoke", "ec2-box", "--yes")
    kept = WORK / "iam" / "revokekeeps" / name / "inline-AWSRevokeOlderSessions.json"
    assert f"stays only in {kept}" in ran.err
    assert json.loads(kept.read_text())["document"] == doc("s3:ListAllMyBuckets")
    cli("iam.revoke", "ec2-box", "--yes")
    assert len(list(kept.parent.iterdir())) == 1


def test_roles_planted_for_tests_are_those_that_apply_makes(stacks):
    planted, applied = stacks("planted1"), stacks("planted2", roles=False)
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


def test_applied_twice_and_mended_when_changed_by_hand(stacks):
    cli = stacks("roles", roles=False)
    count = len(WANTED)
    dry = cli("--dry", "iam.apply")
    assert "nothing was touched" in dry.err
    assert not (WORK / "iam" / "roles").exists()
    assert cli("iam.apply").out.startswith(f"{count} roles. ")
    assert cli("iam.apply").out.strip() == f"{count} roles. 0 made"
    iam, name = cli.account.client("iam"), cli.settings.role_name("lambda-invoke")
    iam.attach_role_policy(RoleName=name, PolicyArn=policies.policy_arn("operator", "permissions-models", cli.settings))
    iam.put_role_policy(RoleName=name, PolicyName="extra", PolicyDocument=json.dumps(doc("s3:GetObject")))
    iam.untag_role(RoleName=name, TagKeys=["kennel:stack"])
    before = iam.get_role(RoleName=name)["Role"]["AssumeRolePolicyDocument"]
    trust = json.loads(json.dumps(WANTED[0].trust.document).replace(SETTINGS.stack.name, "roles"))
    iam.update_assume_role_policy(RoleName=name, PolicyDocument=json.dumps(trust))
    assert cli("iam.diff", ok=False).code == 7
    assert cli("iam.apply").out.strip() == f"{count} roles. 4 made"
    assert cli("iam.diff").code == 0
    kept = WORK / "iam" / "roles" / name / "inline-extra.json"
    assert json.loads(kept.read_text())["document"] == doc("s3:GetObject")
    assert json.loads(kept.with_name("trust.json").read_text())["document"] == trust != before
    assert "There is no role 'nobody'" in cli("iam.apply", "--role", "nobody", ok=False).err


def test_the_sixth_version_is_made_and_the_first_is_kept(stacks):
    cli = stacks("sixth")
    iam, arn = cli.account.client("iam"), policies.policy_arn("auditor", "permissions", cli.settings)
    for n in range(4):
        iam.create_policy_version(PolicyArn=arn, PolicyDocument=json.dumps(doc(f"s3:Get{n}")), SetAsDefault=True)
    first = iam.get_policy_version(PolicyArn=arn, VersionId="v1")["PolicyVersion"]["Document"]
    folder = WORK / "iam" / "sixth" / cli.settings.role_name("auditor")
    dry = cli("--dry", "iam.apply", "--role", "auditor").err
    assert f"stays only in {folder / 'v1.json'}" in dry
    assert not folder.exists()
    assert "2 made" in cli("iam.apply", "--role", "auditor").out
    there = {one["VersionId"] for one in iam.list_policy_versions(PolicyArn=arn)["Versions"]}
    assert there == {"v2", "v3", "v4", "v5", "v6"}
    assert json.loads((folder / "v1.json").read_text())["document"] == first
    assert json.loads((folder / "v5.json").read_text())["document"] == doc("s3:Get3")
    assert "0 made" in cli("iam.apply", "--role", "auditor").out
    # And what only this machine has comes back by its number.
    back = ("iam.rollback", "--role", "auditor", "--policy", cli.settings.role_name("auditor"), "--to", "v1", "--yes")
    assert "says what v1 said already" in cli(*back).err  # v1 was the repository's own, and so is v6


def default(cli, arn):
    policy = snapshot.read(cli.account).policies[arn]
    return policy.default, policy.document


def test_roll_back_and_forward_again(stacks):
    cli = stacks("rollback")
    iam, arn = cli.account.client("iam"), policies.policy_arn("auditor", "permissions", cli.settings)
    iam.create_policy_version(PolicyArn=arn, PolicyDocument=json.dumps(doc("s3:ListAllMyBuckets")), SetAsDefault=True)
    assert "1 made" in cli("iam.apply", "--role", "auditor").out
    assert default(cli, arn)[0] == "v3"
    back = ("iam.rollback", "--role", "auditor")
    asked = cli(*back, ok=False)
    assert (asked.code, "say --yes" in asked.err) == (1, True)
    assert "v3 -> v2" in asked.err
    assert "+ allow s3:ListAllMyBuckets on *" in asked.err
    assert "- allow iam:" in asked.err
    assert "1 to make; nothing was touched" in cli("--dry", *back).err
    assert default(cli, arn)[0] == "v3"
    done = cli(*back, "--yes")
    assert "1 made. Forward again: invoke iam.apply --role auditor" in done.out
    assert default(cli, arn) == ("v2", doc("s3:ListAllMyBuckets"))
    assert "is back already, at v2" in cli(*back, "--yes").err
    assert default(cli, arn)[0] == "v2"
    assert "1 made" in cli("iam.apply", "--role", "auditor").out
    for version in ("v1", "v2", "v3"):
        iam.delete_policy_version(PolicyArn=arn, VersionId=version)
    assert "v4 -> v2 (kept here)" in cli(*back, "--yes").err
    assert default(cli, arn) == ("v5", doc("s3:ListAllMyBuckets"))
    assert "0 made" in cli(*back, "--yes").out
    name = cli.settings.role_name("auditor")
    assert "has no v77" in cli(*back, "--policy", name, "--to", "v77", ok=False).err
    assert "has no policy 'other'" in cli(*back, "--policy", "other", ok=False).err
    assert "There is no role 'nobody'" in cli("iam.rollback", "--role", "nobody", ok=False).err


def version(cli, stem, document):
    arn = policies.policy_arn("operator", stem, cli.settings)
    cli.account.call(
        "iam", "create_policy_version", PolicyArn=arn, PolicyDocument=json.dumps(document), SetAsDefault=True
    )
    return arn


def test_a_roll_back_leaves_alone_what_was_not_changed_last(stacks):
    """A reviewed change of one policy is no part of it when another was changed by hand, or taken off."""
    cli = stacks("rollonly")
    want = policies.wanted(cli.settings, only="operator")[0]
    version(cli, "permissions-models", doc("s3:Get*"))
    cli("iam.apply", "--role", "operator")  # forward again: as if this had been a change that was reviewed
    models = policies.policy_arn("operator", "permissions-models", cli.settings)
    data = version(cli, "permissions-data", doc("s3:ListAllMyBuckets"))
    back = ("iam.rollback", "--role", "operator", "--yes")
    assert "1 made" in cli(*back).out
    assert default(cli, models) == ("v3", want.permissions["permissions-models"].document)
    assert default(cli, data) == ("v1", want.permissions["permissions-data"].document)
    iam = cli.account.client("iam")
    iam.detach_role_policy(RoleName=cli.settings.role_name("operator"), PolicyArn=data)
    refused = cli(*back, ok=False)
    assert "has no versions: attachments, inline policies" in refused.err
    assert "Mend it: invoke iam.apply --role operator" in refused.err
    assert default(cli, models)[0] == "v3"
    cli("iam.apply", "--role", "operator")


def test_the_same_fault_is_rolled_back_a_second_time(stacks):
    """What was bad once is kept here, which made the second roll-back say that it was back already."""
    cli = stacks("rolltwice")
    good = policies.wanted(cli.settings, only="operator")[0].permissions["permissions-data"].document
    arn = version(cli, "permissions-data", doc("s3:ListAllMyBuckets"))
    cli("iam.apply", "--role", "operator")
    version(cli, "permissions-data", doc("s3:ListAllMyBuckets"))
    assert "1 made" in cli("iam.rollback", "--role", "operator", "--yes").out
    assert default(cli, arn)[1] == good
    assert "0 made" in cli("iam.rollback", "--role", "operator", "--yes").out


def test_a_boundary_is_not_rolled_back(stacks):
    cli = stacks("rollbound")
    arn = policies.policy_arn("ec2-box", "boundary", cli.settings)
    cli.account.call(
        "iam", "create_policy_version", PolicyArn=arn, PolicyDocument=json.dumps(doc("s3:*")), SetAsDefault=True
    )
    assert "has no versions" in cli("iam.rollback", "--role", "ec2-box", "--yes", ok=False).err
    assert default(cli, arn)[0] == "v2"
    named = ("--policy", "kennel-rollbound-ec2-box-boundary")
    assert "has no policy" in cli("iam.rollback", "--role", "ec2-box", *named, "--yes", ok=False).err


def test_what_iam_does_not_read_back_is_said(stacks):
    cli = stacks("unread")
    wanted = [
        replace(want, trust=WANTED[0].trust) if want.role == "ec2-box" else want
        for want in policies.wanted(cli.settings)
    ]
    with pytest.raises(OpsError, match="kennel-unread-ec2-box: its trust differs") as missed:
        apply.wait_until_applied(cli.account, lambda have: apply.steps(have, wanted, cli.settings), timeout_s=0.3)
    assert missed.value.code == 1

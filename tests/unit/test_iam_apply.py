"""Roles are applied once, repaired after changes by hand, and from any point at which a run was interrupted; policies roll back."""

import json
import stat
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from iampolicy.account.snapshot import Managed, Principal, Snapshot
from ops.core import plan as change
from ops.core.errors import FINDINGS, AwsError, OpsError
from ops.core.paths import WORK
from ops.iam import apply, backups, pre_apply_check, versions
from ops.iam import roles as policies
from ops.iam.backups import Backup
from ops.iam.roles import Wanted
from tests.conftest import settings_of

SETTINGS = settings_of()
WANTED = policies.read_roles(SETTINGS)
NOW = datetime.now(UTC)
NAME = SETTINGS.build_role_name("auditor")
OWN, BOUND = (policies.derive_policy_arn("auditor", stem, SETTINGS) for stem in ("permissions", "boundary"))


def doc(action, resource="*"):
    return {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": action, "Resource": resource}]}


def applied():
    """The account as iam.apply leaves it."""
    want = policies.build_applied_snapshot(WANTED, SETTINGS)
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


def test_applied_account_is_left_alone():
    assert planned(applied()) == []


def test_role_is_never_without_its_boundary():
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


def test_missing_or_foreign_boundary_is_replaced():
    have = applied()
    for boundary in ("", "arn:aws:iam::1:policy/own"):
        have.roles[NAME] = replace(have.roles[NAME], boundary=boundary)
        (step,) = planned(have)
        assert (step.call, step.args) == (
            "put_role_permissions_boundary",
            {"RoleName": NAME, "PermissionsBoundary": BOUND},
        )


def test_unwanted_boundary_is_removed_after_the_policies():
    """A boundary that is no longer wanted goes after the policies that it held in."""
    have, wanted = applied(), [replace(w, boundary=None) if w.role == "auditor" else w for w in WANTED]
    have.policies[OWN] = replace(have.policies[OWN], policy=doc("*"))
    assert calls(have, wanted) == [("create_policy_version", NAME), ("delete_role_permissions_boundary", NAME)]


def test_changed_boundary_gets_a_new_version():
    have = applied()
    have.policies[BOUND] = replace(have.policies[BOUND], policy=doc("*"))
    assert calls(have) == [("create_policy_version", f"{NAME}-boundary")]


def test_own_tags_are_restored_and_others_kept():
    have = applied()
    have.roles[NAME] = replace(have.roles[NAME], tags={"kennel:stack": "other", "kennel:name": NAME, "team": "blue"})
    (step,) = planned(have)
    assert (step.call, step.args["Tags"]) == ("tag_role", [{"Key": "kennel:stack", "Value": SETTINGS.stack.name}])


def test_equivalent_trust_is_left_alone():
    have, trust = applied(), policies.read_roles(SETTINGS, only="auditor")[0].trust.document
    bare = {**trust, "Statement": trust["Statement"][0]}
    have.roles[NAME] = replace(have.roles[NAME], trust=bare)
    assert planned(have) == []


def test_oldest_of_five_versions_is_deleted_first():
    """The oldest of five versions goes first, but never the default version."""
    have = applied()
    for default, oldest in (("v10", "v6"), ("v6", "v7")):
        have.policies[OWN] = five(default=default)
        steps = planned(have)
        assert [(s.call, s.args.get("VersionId")) for s in steps] == [
            ("delete_policy_version", oldest),
            ("create_policy_version", None),
        ]
        assert backups.list_lost_documents(have, steps) == [
            Backup(OWN, oldest, doc(f"s3:Get{oldest[1:]}")),
            Backup(OWN, default, doc(f"s3:Get{default[1:]}")),
        ]


def test_inline_policies_are_backed_up_and_removed():
    have = applied()
    have.roles[NAME] = replace(have.roles[NAME], inline={"extra": doc("s3:*")}, attached=())
    steps = planned(have)
    assert [step.call for step in steps] == ["attach_role_policy", "delete_role_policy"]
    assert backups.list_lost_documents(have, steps) == [Backup(f"role/{NAME}", "inline-extra", doc("s3:*"))]


BEFORE = {
    "Version": "2012-10-17",
    "Statement": {"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"},
}


def test_overwritten_documents_are_backed_up_and_named():
    have, foreign = applied(), "arn:aws:iam::123456789012:policy/own"
    tags = have.roles[NAME].tags | {"kennel:stack": "other"}
    have.roles[NAME] = replace(have.roles[NAME], trust=BEFORE, boundary=foreign, tags=tags)
    steps = planned(have)
    assert backups.list_lost_documents(have, steps) == [
        Backup(f"role/{NAME}", "boundary", {"PermissionsBoundaryArn": foreign}),
        Backup(f"role/{NAME}", "trust", BEFORE),
        Backup(f"role/{NAME}", "tags", {"kennel:stack": "other"}),
    ]
    files = [WORK / "iam" / SETTINGS.stack.name / NAME / f"{part}.json" for part in ("boundary", "trust", "tags")]
    assert [step.danger for step in steps] == [f"only backup: {path}" for path in files]


def test_foreign_policy_of_the_same_name_is_backed_up():
    inline = {"AWSRevokeOlderSessions": doc("s3:*")}
    have = Snapshot(
        {"r": Principal("r", "arn:aws:iam::1:role/r", BEFORE, inline)},
        {"u": Principal("u", "arn:aws:iam::1:user/u", None, inline)},
    )
    for kind in ("role", "user"):
        args = {f"{kind.title()}Name": kind[0], "PolicyName": "AWSRevokeOlderSessions", "PolicyDocument": "{}"}
        step = change.Change("iam", f"put_{kind}_policy", args, why="")
        assert backups.list_lost_documents(have, [step]) == [
            Backup(f"{kind}/{kind[0]}", "inline-AWSRevokeOlderSessions", doc("s3:*"))
        ]
        assert backups.list_lost_documents(Snapshot(), [step]) == []


def test_announced_backup_path_is_the_one_written():
    settings, one = kept_settings("naming"), Backup(f"role/{NAME}", "inline-inl", doc("s3:A"))
    assert backups.choose_backup_path(settings, one) == backups.save_backup(settings, one)
    other = replace(one, document=doc("s3:B"))
    assert (
        backups.choose_backup_path(settings, other)
        == backups.save_backup(settings, other)
        == backups.choose_backup_path(settings, other)
    )
    assert backups.choose_backup_path(settings, one) != backups.choose_backup_path(settings, other)


@pytest.mark.parametrize(
    ("name", "path", "words"),
    [
        (NAME, "/", "invoke iam.prune --roles kennel-demo-auditor, which saves it to a file"),
        (NAME.upper(), SETTINGS.role_path, "invoke iam.prune --roles KENNEL-DEMO-AUDITOR"),
    ],
)
def test_role_of_the_same_name_elsewhere_is_not_adopted(name, path, words):
    have = applied()
    del have.roles[NAME]
    have.roles[name] = Principal(name, f"arn:aws:iam::{SETTINGS.aws.account}:role{path}{name}", BEFORE)
    with pytest.raises(OpsError, match="has the name of arn.*Nothing was changed") as refused:
        planned(have)
    assert words in str(refused.value)


def test_policy_of_the_same_name_elsewhere_is_not_adopted():
    there = OWN.replace(SETTINGS.role_path, "/")
    with pytest.raises(OpsError, match=f"{there} has the name of {OWN}.*delete it"):
        planned(Snapshot(policies={there: Managed(there, doc("*"))}))


def test_empty_instance_profile_gets_its_role():
    """An instance profile that a crash left without a role gets it."""
    made = []

    def answer(step):
        if step.call == "create_instance_profile":
            raise AwsError("CreateInstanceProfile", "EntityAlreadyExists", "it is there")
        made.append(step.call)

    list(change.walk_steps(apply.plan_instance_profile(None, SETTINGS.build_role_name("ec2-box"), SETTINGS), answer))
    assert made == ["add_role_to_instance_profile"]


def kept_settings(name):
    return settings_of(text=f"stack: {{name: {name}}}")


def test_backups_are_complete_private_and_never_overwritten():
    settings = kept_settings("keeping")
    first = backups.save_backup(settings, Backup(OWN, "v3", doc("s3:A")))
    assert stat.S_IMODE(first.stat().st_mode) == 0o600
    for folder in list(first.parents)[:3]:
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700, folder
    assert first == WORK / "iam" / "keeping" / NAME / "v3.json"
    before = first.read_bytes()
    assert backups.save_backup(settings, Backup(OWN, "v3", doc("s3:A"))) == first
    second = backups.save_backup(
        settings, Backup(OWN, "v3", doc("s3:B"))
    )  # the policy was created again, and counts from v1 again
    assert backups.save_backup(settings, Backup(OWN, "v3", doc("s3:B"))) == second != first
    assert first.read_bytes() == before
    assert sorted(json.dumps(one.document) for one in backups.list_saved_versions(settings, OWN)) == [
        json.dumps(doc("s3:A")),
        json.dumps(doc("s3:B")),
    ]
    assert backups.list_saved_versions(settings, OWN.replace(SETTINGS.aws.account, "2" * 12)) == []
    assert [path.name for path in first.parent.iterdir() if not path.name.startswith("v3")] == []


def test_full_disk_leaves_no_partial_backup(monkeypatch):
    settings = kept_settings("fulldisk")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        backups.save_backup(settings, Backup(OWN, "v1", doc("s3:A")))
    assert list((WORK / "iam" / "fulldisk" / NAME).iterdir()) == []


ADMIN = Wanted("planted", {"Version": "2012-10-17", "Statement": []}, {"permissions": doc("*")})


def test_role_with_a_new_finding_is_rejected():
    with pytest.raises(OpsError, match=r"IAM-ADMIN-001 .*planted(.*\n)+Nothing was changed") as refused:
        pre_apply_check.refuse_new(applied(), [ADMIN], SETTINGS)
    assert refused.value.code == FINDINGS


def test_existing_finding_is_reported_and_does_not_block(capsys):
    """A finding that exists already is reported, and blocks nothing."""
    have = pre_apply_check.merge_applied_roles(applied(), [ADMIN], SETTINGS)
    pre_apply_check.refuse_new(have, [ADMIN], SETTINGS)
    assert "Existing finding: critical IAM-ADMIN-001" in capsys.readouterr().err


def test_waived_finding_does_not_block(monkeypatch):
    found = pre_apply_check.audit_without_drift
    waived = lambda *args, **more: [replace(one, waived="agreed") for one in found(*args, **more)]  # noqa: E731
    monkeypatch.setattr(pre_apply_check, "audit_without_drift", waived)
    pre_apply_check.refuse_new(applied(), [ADMIN], SETTINGS)


def test_role_that_breaks_its_expectations_is_rejected():
    """A role that may do what its expectations deny is rejected."""
    want = next(one for one in WANTED if one.role == "operator")
    pre_apply_check.refuse_unexpected(WANTED, SETTINGS)
    wide = replace(want, permissions=want.permissions | {"permissions-more": doc("s3:*")})
    with pytest.raises(OpsError, match=r"operator: denied \d+, s3:(.*\n)+.*See all: invoke iam.check") as refused:
        pre_apply_check.refuse_unexpected([wide], SETTINGS)
    assert refused.value.code == FINDINGS
    trusting = replace(
        want,
        trust={
            "Version": "2012-10-17",
            "Statement": [{"Effect": "Allow", "Principal": "*", "Action": "sts:AssumeRole"}],
        },
    )
    with pytest.raises(OpsError, match="operator: may_not_assume 1, assumed by "):
        pre_apply_check.refuse_unexpected([trusting], SETTINGS)


def test_shipped_roles_add_no_finding_to_an_empty_account():
    assert pre_apply_check.split_new_findings(Snapshot(), WANTED, SETTINGS) == ([], [])


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
        (POLICY, [Backup(OWN, "v9", doc("s3:C"))], "", ("v2", False)),  # as bad as it was once before
        (replace(POLICY, raw={"v1": doc("s3:A"), "v2": doc("s3:C")}), [], "", ("v1", False)),  # v2 says the same
        (POLICY, [], "v1", ("v1", False)),
        (POLICY, [Backup(OWN, "v0", doc("s3:0"))], "v0", ("v0", True)),
        (POLICY, [], "v3", "has v3 as its default version already"),
        (POLICY, [Backup(OWN, "v0", doc("s3:0"))], "v9", "has no version v9; it has v0, v1, v2, v3"),
        (POLICY, [Backup(OWN, "v0", doc("s3:C"))], "v0", "is equivalent to v0 already"),
        (Managed(OWN, doc("s3:C"), (("v3", True, NOW),)), [], "", "has no older version that differs, neither in AWS nor in the backups"),
        (Managed(OWN, doc("s3:C"), (("v3", True, NOW),)), [Backup(OWN, "v2", doc("s3:B"))], "", ("v2", True)),
    ],
)  # fmt: skip
def test_rollback_target_is_chosen(policy, kept, to, expected):
    found = versions.choose_target(policy, kept, False, to)
    assert (found if isinstance(found, str) else (found.version, found.kept)) == expected


def test_repeated_rollback_changes_nothing():
    """A policy that is rolled back stays so when the command runs again."""
    back = replace(POLICY, policy=doc("s3:B"), versions=(("v1", False, NOW), ("v2", True, NOW), ("v3", False, NOW)))
    assert str(versions.choose_target(back, [], False)).startswith(
        "is rolled back already, to v2; further back: --policy"
    )
    kept = Managed(OWN, doc("s3:B"), (("v4", True, NOW),))
    assert str(versions.choose_target(kept, [Backup(OWN, "v2", doc("s3:B"))], True)).startswith(
        "is rolled back already, to v4"
    )


def test_policies_changed_by_one_apply_roll_back_together():
    day = timedelta(days=1)
    old = replace(POLICY, arn=f"{OWN}-old", versions=(("v1", False, NOW - 3 * day), ("v2", True, NOW - day)))
    other = replace(
        POLICY, arn=f"{OWN}-other", versions=(("v1", False, NOW - 3 * day), ("v2", True, NOW - timedelta(seconds=20)))
    )
    assert versions.list_last_changed([old, POLICY, other]) == [POLICY, other]
    assert versions.list_last_changed([]) == []


def test_backups_of_a_deleted_policy_are_not_restored(tmp_path, monkeypatch):
    """A stack that was deleted and created again has the same ARNs."""
    monkeypatch.setattr(backups, "WORK", tmp_path)
    kept = backups.save_backup(SETTINGS, Backup(OWN, "v1", doc("s3:Old")))
    saved = datetime.fromisoformat(json.loads(kept.read_text())["saved"])
    assert [one.document for one in backups.list_saved_versions(SETTINGS, OWN, since=saved)] == [doc("s3:Old")]
    assert backups.list_saved_versions(SETTINGS, OWN, since=saved + timedelta(seconds=2)) == []
    kept.write_text(json.dumps(json.loads(kept.read_text()) | {"saved": "soon"}))
    assert backups.list_saved_versions(SETTINGS, OWN, since=saved) == []


def test_restored_document_becomes_a_version_and_makes_room():
    """A document from a backup becomes a new version; room is made for it first."""
    target = versions.Target(five(), "v2", doc("s3:Get2"), kept=True)
    steps = change.preview(versions.steps([target], SETTINGS))
    assert [(s.call, s.args.get("VersionId")) for s in steps] == [
        ("delete_policy_version", "v6"),
        ("create_policy_version", None),
    ]
    assert json.loads(steps[1].args["PolicyDocument"]) == doc("s3:Get2")

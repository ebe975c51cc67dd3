"""Obsolete roles: found, saved in full, taken apart and restored; and those that must not be removed."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from iampolicy.account.snapshot import Group, Managed, Principal, Snapshot
from ops.core import plan
from ops.core.errors import OpsError
from ops.iam import backups, pre_apply_check, removal, restoration, roles
from ops.iam.role_archive import SavedRole, parse_saved_role
from tests.conftest import settings_of

SETTINGS = settings_of()
WANTED = roles.read_roles(SETTINGS)
NOW = datetime(2026, 11, 24, tzinfo=UTC)
OLD = NOW - timedelta(days=200)
TRUST = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}],
}
READ = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::b/*"}],
}


def role(name="old", path="/", created=OLD, **more):
    return Principal(name, f"arn:aws:iam::123456789012:role{path}{name}", TRUST, created=created, **more)


@pytest.mark.parametrize(
    ("one", "words"),
    [
        (role(), ""),
        (role(path=SETTINGS.role_path), ""),
        (role(created=NOW - timedelta(days=7)), ""),
        (role(created=NOW - timedelta(days=6, hours=23)), "younger than 7 days: it was created on 2026-11-17"),
        (role(created=None), "unknown age"),
        (role(path="/aws-service-role/sagemaker.amazonaws.com/"), "a service-linked role"),
        (role("AWSReservedSSO_Admin_1"), "Identity Center"),
        (role(path="/aws-reserved/sso.amazonaws.com/"), "Identity Center"),
        (role(SETTINGS.build_role_name("auditor"), SETTINGS.role_path), "is in use: it is described in iam_policies/"),
        (role(SETTINGS.build_role_name("auditor")), ""),  # at another path it is in the way of the one that is wanted
        (role("kennel-x-auditor", "/kennel/x/"), "belongs to another stack, x: use that stack's settings"),
    ],
    ids=lambda value: value.arn.partition(":role")[2] if isinstance(value, Principal) else "",
)
def test_removable_roles_are_decided(one, words):
    why = removal.explain_removal_refusal(one, WANTED, SETTINGS, NOW)
    assert (words in why) if words else why == ""


def test_obsolete_roles_are_those_of_the_audit():
    used = role("used", last_used=NOW - timedelta(days=3))
    have = Snapshot({one.name: one for one in (role(), used, role("new", created=NOW - timedelta(days=30)))})
    assert pre_apply_check.find_obsolete_roles(have, SETTINGS, now=NOW) == ["old"]
    assert pre_apply_check.find_obsolete_roles(have, SETTINGS, now=NOW + timedelta(days=365)) == ["new", "old", "used"]


def test_evidence_row_lists_use_trust_and_policies():
    one = role(
        last_used=OLD,
        inline={"notes": READ},
        attached=("arn:aws:iam::aws:policy/ReadOnlyAccess",),
        instance_profiles=("box",),
    )
    assert removal.build_evidence_row(Snapshot(), one) == (
        "old",
        "2026-05-08",
        "2026-05-08",
        "Service ec2.amazonaws.com",
        "ReadOnlyAccess, notes (inline)",
        "box",
    )
    assert removal.build_evidence_row(Snapshot(), role())[2] == "never"


LOOSE, SHARED, FOREIGN = (
    f"arn:aws:iam::123456789012:policy{path}"
    for path in (f"{SETTINGS.role_path}loose", f"{SETTINGS.role_path}shared", "/foreign")
)


def saved(**more):
    parts = {
        "account": "123456789012",
        "saved": "2026-11-24T00:00:00+00:00",
        "finished": True,
        "role_id": "AROA1",
        "name": "old",
    }
    parts |= {
        "path": "/",
        "description": "what it was",
        "session_s": 7200,
        "trust": TRUST,
        "boundary": "",
        "tags": {"k": "v"},
    }
    parts |= {
        "inline": {"notes": READ},
        "attached": [LOOSE, SHARED, FOREIGN],
        "profiles": {"box": {"path": "/p/", "tags": {}}},
    }
    parts |= {"policies": {LOOSE: {"description": "", "tags": {"k": "v"}, "document": READ}}}
    return SavedRole(**(parts | more))


def have(**more):
    one = role(inline={"notes": READ}, attached=(LOOSE, SHARED, FOREIGN), instance_profiles=("box",), **more)
    other = role("other", attached=(SHARED,))
    versions = (("v2", True, None), ("v1", False, None))
    return Snapshot(
        {"old": one, "other": other}, policies={arn: Managed(arn, READ, versions) for arn in (LOOSE, SHARED, FOREIGN)}
    )


def calls(steps):
    return [
        (step.call, *(str(value) for key, value in step.args.items() if key != "RoleName"))
        for step in plan.preview(steps)
    ]


def test_role_is_taken_apart_before_it_is_deleted():
    assert calls(removal.plan_removal(have(), saved(), WANTED, SETTINGS)) == [
        ("remove_role_from_instance_profile", "box"),
        ("detach_role_policy", LOOSE),
        ("detach_role_policy", SHARED),
        ("detach_role_policy", FOREIGN),
        ("delete_role_policy", "notes"),
        ("delete_policy_version", LOOSE, "v1"),
        ("delete_policy", LOOSE),
        ("delete_role",),
    ]


@pytest.mark.parametrize(
    "holder",
    [
        {"groups": {"g": Group("g", "arn:aws:iam::123456789012:group/g", attached=(LOOSE,))}},
        {
            "users": {"old": Principal("old", "arn:aws:iam::123456789012:user/old", attached=(LOOSE,))}
        },  # of the role's name
        {"users": {"u": Principal("u", "arn:aws:iam::123456789012:user/u", boundary=LOOSE)}},
    ],
    ids=["group", "user", "boundary"],
)
def test_policy_with_another_holder_is_kept(holder):
    assert removal.list_disposable_policies(have(), saved(), WANTED, SETTINGS) == [LOOSE]
    assert removal.list_disposable_policies(replace(have(), **holder), saved(), WANTED, SETTINGS) == []


def test_policy_of_a_role_folder_is_kept():
    arn = roles.derive_policy_arn("auditor", "permissions", SETTINGS)
    there = Snapshot({"old": role(attached=(arn,))}, policies={arn: Managed(arn, READ)})
    assert removal.list_disposable_policies(there, saved(attached=[arn]), WANTED, SETTINGS) == []


def test_saved_role_survives_a_file_round_trip():
    assert parse_saved_role(json.loads(json.dumps(saved().data)), "f") == saved()


@pytest.mark.parametrize(
    "data",
    [
        [],
        "x",
        {},
        {"kind": "other"},
        saved().data | {"kind": "other"},
        saved().data | {"more": 1},
        {key: value for key, value in saved().data.items() if key != "trust"},
        saved().data | {"trust": None},
        saved().data | {"trust": {"Statement": ["x"]}},
        saved().data | {"session_s": "7200"},
        saved().data | {"session_s": 60},
        saved().data | {"finished": 1},
        saved().data | {"saved": "yesterday"},
        saved().data | {"name": ""},
        saved().data | {"name": "a/b"},
        saved().data | {"path": "kennel"},
        saved().data | {"description": "x" * 1001},
        saved().data | {"tags": {"k": 1}},
        saved().data | {"tags": {"": "v"}},
        saved().data | {"boundary": "arn:aws:iam::999999999999:policy/b"},
        saved().data | {"inline": {"notes": "text"}},
        saved().data | {"inline": {"": READ}},
        saved().data | {"attached": [1]},
        saved().data | {"attached": ["x"]},
        saved().data | {"attached": [LOOSE, LOOSE.replace("123456789012", "999999999999")]},
        saved().data | {"policies": {LOOSE: {"document": READ}}},
        saved().data | {"policies": {LOOSE: {"description": 1, "tags": {}, "document": READ}}},
        saved().data | {"policies": {LOOSE: {"description": "", "tags": {"k": 1}, "document": READ}}},
        saved().data | {"attached": [], "boundary": ""},  # a policy's text that the role does not hold
        saved().data | {"profiles": {"box": []}},
        saved().data | {"profiles": {"box": {"path": "x", "tags": {}}}},
    ],
)
def test_invalid_saved_role_is_rejected(data):
    with pytest.raises(OpsError, match="is not a role that iam.prune saved"):
        parse_saved_role(data, "f")


def test_interrupted_removal_keeps_what_was_saved_first():
    """A removal that was interrupted keeps what its first run saved."""
    left = saved(inline={"later": READ}, attached=[FOREIGN], policies={}, profiles={})
    one = removal.merge_begun_removal(saved(), left, Snapshot())
    assert set(one.inline) == {"notes", "later"}
    assert (one.attached, one.policies, one.profiles) == (saved().attached, saved().policies, saved().profiles)


NARROW = {"Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Action": "*", "Resource": "*"}]}


def test_policies_narrowed_meanwhile_stay_narrow():
    """What was narrowed while a removal was interrupted counts as it is now."""
    now = saved(
        trust=NARROW, inline={"notes": NARROW}, attached=[], policies={}, tags={}, saved="2026-11-25T00:00:00+00:00"
    )
    there = Snapshot(policies={LOOSE: Managed(LOOSE, NARROW)})  # detached already, and not deleted yet
    one = removal.merge_begun_removal(saved(), now, there)
    assert (one.trust, one.inline, one.tags, one.saved) == (NARROW, {"notes": NARROW}, {}, saved().saved)
    assert one.policies[LOOSE] == {"description": "", "tags": {"k": "v"}, "document": NARROW}


def test_deleted_policy_version_is_backed_up_and_named():
    """A deleted version of a policy is backed up, and its file is named."""
    one = have()
    one.policies[LOOSE] = replace(one.policies[LOOSE], raw={"v1": NARROW})
    planned = plan.preview(removal.plan_removal(one, saved(), WANTED, SETTINGS))
    (step,) = [step for step in planned if step.call == "delete_policy_version"]
    (kept,) = backups.list_lost_documents(one, [step])
    assert (kept.version, kept.document) == ("v1", NARROW)
    assert step.danger == f"only backup: {backups.choose_backup_path(SETTINGS, kept)}"


def test_roles_that_trust_a_role_are_listed():
    trust = {
        "Statement": [{"Effect": "Allow", "Principal": {"AWS": [role().arn, "AROA1"]}, "Action": "sts:AssumeRole"}]
    }
    there = Snapshot({"old": role(), "b": replace(role("b"), trust=trust), "c": role("c")})
    assert removal.list_trusting_roles(there, role().arn) == removal.list_trusting_roles(there, "AROA1") == ["b"]
    assert removal.list_trusting_roles(there, role("c").arn) == []


DESCRIBED = {"Description": "what it was", "MaxSessionDuration": 7200}


def there(**more):
    return replace(role(tags={"k": "v", "more": "w"}), **more)


@pytest.mark.parametrize(
    ("one", "described", "words"),
    [
        (there(), DESCRIBED, ""),
        (there(inline={"notes": READ}), DESCRIBED, ""),
        (replace(there(), arn=role(path="/x/").arn), DESCRIBED, "another path"),
        (there(boundary="arn:aws:iam::1:policy/b"), DESCRIBED, "another boundary"),
        (there(trust={"Statement": []}), DESCRIBED, "another trust"),
        (there(inline={"notes": {"Statement": []}}), DESCRIBED, "its inline policy notes differs"),
        # Made again by hand: it is not back.
        (there(tags={}), {}, "another description and MaxSessionDuration and tags"),
        (there(tags={"k": "w"}), DESCRIBED, "another tags"),
    ],
)
def test_another_role_of_the_same_name_is_not_overwritten(one, described, words):
    found = restoration.describe_conflict(Snapshot({"old": one}), saved(), described, {"box": ["old"]})
    assert (words in found) if words else found == ""


def test_instance_profile_of_another_role_is_not_taken():
    assert "box contains other" in restoration.describe_conflict(Snapshot(), saved(), {}, {"box": ["other"]})
    assert (
        restoration.describe_conflict(Snapshot(), saved(), {}, {"box": None})
        == restoration.describe_conflict(Snapshot(), saved(), {}, {"box": []})
        == ""
    )


OTHERS = LOOSE.replace(SETTINGS.role_path, "/kennel/prod/")


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({}, ""),
        ({"path": SETTINGS.role_path}, ""),
        ({"path": "/kennel/prod/"}, "belongs to another stack, prod: use that stack's settings"),
        ({"path": "/aws-service-role/x.amazonaws.com/"}, "a service-linked role"),
        ({"name": "AWSReservedSSO_Admin_1"}, "Identity Center"),
        (
            {"name": SETTINGS.build_role_name("auditor")},
            "is described in iam_policies/. Create it: invoke iam.apply",
        ),
        ({"attached": [f"{LOOSE}-gone"], "policies": {}}, "which is missing, and the file does not contain it"),
        (
            {"attached": [OTHERS], "policies": {OTHERS: saved().policies[LOOSE]}},
            "which is missing and belongs to another stack, prod",
        ),
        ({"profiles": {"box": {"path": "/kennel/prod/", "tags": {}}}}, "instance profile box of another stack, prod"),
    ],
)
def test_unsafe_restore_is_refused_whatever_the_file_says(more, words):
    found = restoration.explain_restore_refusal(have(), saved(**more), WANTED, SETTINGS)
    assert (words in found) if words else found == ""


def test_role_is_restored_with_everything_it_had():
    steps = plan.preview(restoration.plan_restoration(Snapshot(), saved(), {"box": None}))
    assert [step.call for step in steps] == [
        "create_role",
        "create_policy",
        "attach_role_policy",
        "attach_role_policy",
        "attach_role_policy",
        "put_role_policy",
        "create_instance_profile",
        "add_role_to_instance_profile",
    ]
    assert steps[0].args == {
        "RoleName": "old",
        "Path": "/",
        "AssumeRolePolicyDocument": roles.dump_document(TRUST),
        "MaxSessionDuration": 7200,
        "Description": "what it was",
        "Tags": [{"Key": "k", "Value": "v"}],
    }
    assert calls(restoration.plan_restoration(have(), saved(), {"box": ["old"]})) == []
    assert calls(restoration.plan_restoration(have(), saved(), {"box": []})) == [
        ("add_role_to_instance_profile", "box")
    ]


ALL = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}


def test_unattached_policy_of_aws_counts_in_the_check():
    """The account's authorization details hold only those of AWS's policies that are attached to something."""
    admin = "arn:aws:iam::aws:policy/AdministratorAccess"
    then = restoration.build_restored_snapshot(Snapshot(), saved(attached=[admin], policies={}), {admin: ALL})
    found = pre_apply_check.select_blocking(
        pre_apply_check.audit_without_drift(then, SETTINGS, only=frozenset(["old"]))
    )
    assert "IAM-ADMIN-001" in {one.rule for one in found}

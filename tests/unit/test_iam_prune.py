"""Obsolete roles: found, saved whole, taken apart and brought back; and those that nobody may take away."""

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
def test_who_may_go(one, words):
    why = removal.explain_removal_refusal(one, WANTED, SETTINGS, NOW)
    assert (words in why) if words else why == ""


def test_what_the_audit_calls_obsolete_is_what_goes():
    used = role("used", last_used=NOW - timedelta(days=3))
    have = Snapshot({one.name: one for one in (role(), used, role("new", created=NOW - timedelta(days=30)))})
    assert pre_apply_check.find_obsolete_roles(have, SETTINGS, now=NOW) == ["old"]
    assert pre_apply_check.find_obsolete_roles(have, SETTINGS, now=NOW + timedelta(days=365)) == ["new", "old", "used"]


def test_the_evidence():
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


def test_a_role_is_taken_apart_and_itself_goes_last():
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
def test_a_policy_that_somebody_else_holds_stays(holder):
    assert removal.list_disposable_policies(have(), saved(), WANTED, SETTINGS) == [LOOSE]
    assert removal.list_disposable_policies(replace(have(), **holder), saved(), WANTED, SETTINGS) == []


def test_a_policy_of_a_folder_stays():
    arn = roles.derive_policy_arn("auditor", "permissions", SETTINGS)
    there = Snapshot({"old": role(attached=(arn,))}, policies={arn: Managed(arn, READ)})
    assert removal.list_disposable_policies(there, saved(attached=[arn]), WANTED, SETTINGS) == []


def test_a_save_is_what_it_was_after_a_trip_through_a_file():
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
def test_what_is_no_save_is_refused(data):
    with pytest.raises(OpsError, match="is not a role that iam.prune saved"):
        parse_saved_role(data, "f")


def test_a_removal_that_was_broken_off_keeps_what_was_saved_first():
    left = saved(inline={"later": READ}, attached=[FOREIGN], policies={}, profiles={})
    one = removal.merge_begun_removal(saved(), left, Snapshot())
    assert set(one.inline) == {"notes", "later"}
    assert (one.attached, one.policies, one.profiles) == (saved().attached, saved().policies, saved().profiles)


NARROW = {"Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Action": "*", "Resource": "*"}]}


def test_what_was_narrowed_while_a_removal_was_broken_off_counts_as_it_is_now():
    now = saved(
        trust=NARROW, inline={"notes": NARROW}, attached=[], policies={}, tags={}, saved="2026-11-25T00:00:00+00:00"
    )
    there = Snapshot(policies={LOOSE: Managed(LOOSE, NARROW)})  # detached already, and not deleted yet
    one = removal.merge_begun_removal(saved(), now, there)
    assert (one.trust, one.inline, one.tags, one.saved) == (NARROW, {"notes": NARROW}, {}, saved().saved)
    assert one.policies[LOOSE] == {"description": "", "tags": {"k": "v"}, "document": NARROW}


def test_a_version_of_a_policy_that_goes_is_kept_with_its_file_named():
    one = have()
    one.policies[LOOSE] = replace(one.policies[LOOSE], raw={"v1": NARROW})
    planned = plan.preview(removal.plan_removal(one, saved(), WANTED, SETTINGS))
    (step,) = [step for step in planned if step.call == "delete_policy_version"]
    (kept,) = backups.list_lost_documents(one, [step])
    assert (kept.version, kept.document) == ("v1", NARROW)
    assert step.danger == f"only backup: {backups.choose_backup_path(SETTINGS, kept)}"


def test_whose_trust_names_a_role():
    trust = {
        "Statement": [{"Effect": "Allow", "Principal": {"AWS": [role().arn, "AROA1"]}, "Action": "sts:AssumeRole"}]
    }
    there = Snapshot({"old": role(), "b": replace(role("b"), trust=trust), "c": role("c")})
    assert removal.list_trusting_roles(there, role().arn) == removal.list_trusting_roles(there, "AROA1") == ["b"]
    assert removal.list_trusting_roles(there, role("c").arn) == []


TOLD = {"Description": "what it was", "MaxSessionDuration": 7200}


def there(**more):
    return replace(role(tags={"k": "v", "more": "w"}), **more)


@pytest.mark.parametrize(
    ("one", "told", "words"),
    [
        (there(), TOLD, ""),
        (there(inline={"notes": READ}), TOLD, ""),
        (replace(there(), arn=role(path="/x/").arn), TOLD, "another path"),
        (there(boundary="arn:aws:iam::1:policy/b"), TOLD, "another boundary"),
        (there(trust={"Statement": []}), TOLD, "another trust"),
        (there(inline={"notes": {"Statement": []}}), TOLD, "its inline policy notes differs"),
        # Made again by hand: it is not back.
        (there(tags={}), {}, "another description and MaxSessionDuration and tags"),
        (there(tags={"k": "w"}), TOLD, "another tags"),
    ],
)
def test_another_role_of_the_name_is_not_written_over(one, told, words):
    found = restoration.describe_conflict(Snapshot({"old": one}), saved(), told, {"box": ["old"]})
    assert (words in found) if words else found == ""


def test_an_instance_profile_that_another_role_has_is_not_taken():
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
def test_what_is_not_made_whatever_a_file_says(more, words):
    found = restoration.explain_restore_refusal(have(), saved(**more), WANTED, SETTINGS)
    assert (words in found) if words else found == ""


def test_a_role_comes_back_with_all_it_had():
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


def test_a_policy_of_aws_that_nobody_else_holds_counts_too():
    """The account's one description has only those of AWS's policies that somebody holds."""
    admin = "arn:aws:iam::aws:policy/AdministratorAccess"
    then = restoration.build_restored_snapshot(Snapshot(), saved(attached=[admin], policies={}), {admin: ALL})
    found = pre_apply_check.select_blocking(
        pre_apply_check.audit_without_drift(then, SETTINGS, only=frozenset(["old"]))
    )
    assert "IAM-ADMIN-001" in {one.rule for one in found}

"""Obsolete roles: found, saved in full, taken apart and restored; and those that must not be removed."""

import json
import stat
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest

from iampolicy.account import snapshot
from ops.core import plan
from ops.core.paths import WORK
from ops.core.task import run_plan
from ops.iam import pre_apply_check, removal, restoration, roles
from ops.iam.role_archive import KIND, parse_saved_role
from tests.unit.test_iam_prune import ALL, NARROW, READ, TRUST, saved

BOUND = "arn:aws:iam::123456789012:policy/own/limit"


def planted(account, name, path="/old/"):
    """A role with one of everything that a role can have."""
    iam, settings = account.client("iam"), account.settings
    tags = [{"Key": "team", "Value": "blue"}]
    own = f"arn:aws:iam::{settings.aws.account}:policy{settings.role_path}{name}-own"
    documents = {BOUND: READ, own: READ}
    for arn, document in documents.items():
        where, _, policy = arn.partition(":policy")[2].rpartition("/")
        if account.call_or_none("iam", "get_policy", "NoSuchEntity", PolicyArn=arn) is None:
            iam.create_policy(
                PolicyName=policy,
                Path=f"{where}/",
                PolicyDocument=json.dumps(document),
                Tags=tags,
                Description="of old",
            )
    iam.create_policy_version(PolicyArn=own, PolicyDocument=json.dumps(READ | {"Id": "two"}), SetAsDefault=True)
    iam.create_role(
        RoleName=name,
        Path=path,
        AssumeRolePolicyDocument=json.dumps(TRUST),
        PermissionsBoundary=BOUND,
        MaxSessionDuration=7200,
        Description="what it was",
        Tags=tags,
    )
    iam.attach_role_policy(RoleName=name, PolicyArn=own)
    iam.attach_role_policy(RoleName=name, PolicyArn=roles.derive_policy_arn("auditor", "permissions", settings))
    iam.put_role_policy(RoleName=name, PolicyName="notes", PolicyDocument=json.dumps(READ))
    iam.create_instance_profile(InstanceProfileName=f"{name}-box", Path="/p/", Tags=tags)
    iam.add_role_to_instance_profile(InstanceProfileName=f"{name}-box", RoleName=name)
    return own


def seen(account, name):
    """All of a role that is not the moment it was made."""
    found = account.call("iam", "get_role", RoleName=name)["Role"]
    one = snapshot.read(account).roles[name]
    tags = sorted((tag["Key"], tag["Value"]) for tag in found.get("Tags", []))
    texts = (found["Path"], found["Description"], found["MaxSessionDuration"], tags, found["AssumeRolePolicyDocument"])
    documents = {policy.name: policy.document for policy in snapshot.read(account).list_policies(one)}
    profiles = {
        p: account.call("iam", "get_instance_profile", InstanceProfileName=p)["InstanceProfile"]["Path"]
        for p in one.instance_profiles
    }
    return texts, one.boundary, sorted(one.attached), sorted(one.inline), documents, profiles


def removing(account, name, wanted):
    """The steps of a removal, as iam.prune takes them; nothing is asked."""

    class Dry:
        config = type("Config", (), {"run": type("Run", (), {"dry": False})})

    return removal.remove_role(account, name, wanted, lambda steps: run_plan(Dry, account, steps))


def test_obsolete_role_is_found_saved_removed_and_restored(make_stack):
    """A planted role is found a year later, saved, removed and restored."""
    cli = make_stack("pruned")
    account, name = cli.account, "pruned-old"
    own = planted(account, name)
    before, wanted = seen(account, name), roles.read_roles(cli.settings)
    there, later = snapshot.read(account), datetime.now(UTC) + timedelta(days=365)
    assert name in pre_apply_check.find_obsolete_roles(there, cli.settings, now=later)
    names = pre_apply_check.find_obsolete_roles(there, cli.settings, now=later)
    found = removal.select_removable(there, wanted, cli.settings, names, later, named=False)
    assert name in [role.name for role in found]
    assert not {cli.settings.build_role_name(want.role) for want in wanted} & {role.name for role in found}
    path = removing(account, name, wanted)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.parent == WORK / "iam" / "pruned" / "removed"
    version = json.loads((WORK / "iam" / "pruned" / f"{name}-own" / "v1.json").read_text())
    assert (version["owner"], version["document"]) == (own, READ)
    gone = snapshot.read(account)
    assert name not in gone.roles
    assert own not in gone.policies
    assert {BOUND, roles.derive_policy_arn("auditor", "permissions", cli.settings)} <= set(gone.policies)
    # The command line brings it back.
    dry = cli("--dry", "iam.restore", str(path))
    assert "iam.create_role" in dry.err
    assert name not in snapshot.read(account).roles
    assert f"{name} is restored. " in cli("iam.restore", str(path)).out
    assert seen(account, name) == before
    assert "0 made" in cli("iam.restore", str(path)).out


def killed(account, monkeypatch, after):
    """Let the account make this many changes, then die."""
    make, made = account.make_change, []

    def dying(change):
        if len(made) == after:
            raise KeyboardInterrupt
        made.append(change)
        return make(change)

    monkeypatch.setattr(account, "make_change", dying)


def test_removal_interrupted_anywhere_resumes_without_loss(make_stack, monkeypatch):
    """A removal that is interrupted anywhere goes on when run again, and loses nothing."""
    cli = make_stack("prunekill")
    wanted, name = roles.read_roles(cli.settings), "prunekill-old"
    planted(cli.account, name)
    before, runs = seen(cli.account, name), 0
    while name in snapshot.read(cli.account).roles:
        account = cli.account
        with monkeypatch.context() as patched:
            killed(account, patched, after=1)
            try:
                removing(account, name, wanted)
            except KeyboardInterrupt:
                runs += 1
    assert runs == 6  # seven changes, each in a run of its own, the last of which was whole
    (path,) = (WORK / "iam" / "prunekill" / "removed").glob("*.json")
    assert json.loads(path.read_text())["finished"] is True
    back = parse_saved_role(json.loads(path.read_text()), "f")
    runs = 0
    while True:
        account = cli.account
        steps = partial(restoration.steps, snapshot.read(account), back, restoration.read_profile_roles(account, back))
        if not plan.preview(steps()):
            break
        with monkeypatch.context() as patched:
            killed(account, patched, after=1)
            try:
                plan.apply(steps, account, lambda line: None)
            except KeyboardInterrupt:
                runs += 1
    assert runs > 3
    assert seen(cli.account, name) == before


def test_role_narrowed_meanwhile_is_restored_narrow(make_stack, monkeypatch):
    cli, name = make_stack("prunenarrow"), "prunenarrow-old"
    own, iam = planted(cli.account, name), cli.account.client("iam")
    account = cli.account
    with monkeypatch.context() as patched:
        killed(account, patched, after=3)  # out of its profile, and of both policies, which are there still
        with pytest.raises(KeyboardInterrupt):
            removing(account, name, roles.read_roles(cli.settings))
    assert snapshot.read(cli.account).roles[name].attached == ()
    iam.create_policy_version(PolicyArn=own, PolicyDocument=json.dumps(NARROW), SetAsDefault=True)
    iam.update_assume_role_policy(RoleName=name, PolicyDocument=json.dumps(TRUST | {"Id": "narrow"}))
    iam.put_role_policy(RoleName=name, PolicyName="notes", PolicyDocument=json.dumps(NARROW))
    path = removing(cli.account, name, roles.read_roles(cli.settings))
    assert name not in snapshot.read(cli.account).roles
    assert f"{name} is restored" in cli("iam.restore", str(path)).out
    back = snapshot.read(cli.account)
    assert back.policies[own].document == back.roles[name].inline["notes"].document == NARROW
    assert back.roles[name].trust.document == TRUST | {"Id": "narrow"}
    assert set(back.roles[name].attached) == {own, roles.derive_policy_arn("auditor", "permissions", cli.settings)}
    versions = [json.loads(one.read_text()) for one in (WORK / "iam" / "prunenarrow" / f"{name}-own").glob("v*.json")]
    assert {one["version"]: one["document"] for one in versions} == {"v1": READ, "v2": READ | {"Id": "two"}}


def test_prune_and_restore_reject_invalid_requests(make_stack, tmp_path):
    cli = make_stack("prunerefuses")
    account, settings = cli.account, cli.settings
    iam = account.client("iam")
    iam.create_role(RoleName="prunerefuses-new", AssumeRolePolicyDocument=json.dumps(TRUST))
    for name, words in (
        (settings.build_role_name("auditor"), "is in use: it is described in iam_policies/"),
        ("prunerefuses-new", "is younger than 7 days"),
        ("absent", "There is no role absent"),
    ):
        ran = cli("iam.prune", "--roles", name, "--confirm", name, ok=False)
        assert (ran.code, words in ran.err, "Nothing was changed" in ran.err) == (1, True, True), ran.said
    assert {settings.build_role_name("auditor"), "prunerefuses-new"} <= set(snapshot.read(account).roles)
    file = tmp_path / "f.json"
    for text, words in (
        ("{", "cannot be read"),
        ("{}", "is not a role that iam.prune saved"),
        (
            json.dumps(saved().data).replace("123456789012", "999999999999"),
            "is of account 999999999999; the settings are for 123456789012",
        ),
        (json.dumps(saved(name=settings.build_role_name("auditor")).data), "is described in iam_policies/"),
        (json.dumps(saved(path="/kennel/prod/").data), "another stack, prod"),
        (json.dumps(saved(attached=["x"]).data), "attached[0] is not a policy ARN"),
        ("[" * 5000 + "]" * 5000, "cannot be read"),
        ('{"a":' * 30 + "1" + "}" * 30, "nested more than 12 levels deep"),
        ('{"kind": 1, "kind": 2}', 'duplicate key "kind"'),
    ):
        file.write_text(text)
        ran = cli("iam.restore", str(file), ok=False)
        assert (ran.code, words in ran.err, "Nothing was changed" in ran.err) == (1, True, True), ran.said
        assert "Traceback" not in ran.said
    assert "cannot be read" in cli("iam.restore", str(tmp_path / "none.json"), ok=False).err


def within(cli, name):
    """A role that lies in the stack as its own do, bounded; nothing of it needs more than `bootstrap` may do."""
    iam, settings = cli.account.client("iam"), cli.settings
    account = f"arn:aws:iam::{settings.aws.account}"
    where = settings.role_path
    bound = roles.derive_policy_arn("ec2-box", "boundary", settings)
    iam.create_role(
        RoleName=name,
        Path=where,
        AssumeRolePolicyDocument=json.dumps(TRUST),
        PermissionsBoundary=bound,
        Description="x",
    )
    iam.create_policy(PolicyName=f"{name}-own", Path=where, PolicyDocument=json.dumps(READ))
    iam.attach_role_policy(RoleName=name, PolicyArn=f"{account}:policy{where}{name}-own")
    iam.put_role_policy(RoleName=name, PolicyName="notes", PolicyDocument=json.dumps(READ))


def test_bootstrap_role_can_prune_a_role_of_the_stack(make_stack, inject_fault):
    cli, name = make_stack("prunewithin"), "kennel-prunewithin-old"
    within(cli, name)
    inject_fault("age", role=name, days=200)
    before = seen(cli.account, name)
    ran = cli("iam.prune", "--roles", name, "--confirm", name)
    assert "the profile's own credentials" not in ran.err
    assert name not in snapshot.read(cli.account).roles
    (path,) = (WORK / "iam" / "prunewithin" / "removed").glob("*.json")
    assert "the profile's own credentials" not in cli("iam.restore", str(path)).err
    assert seen(cli.account, name) == before


@pytest.fixture
def make_aged_role(make_stack, inject_fault):
    def make(stack, name, days=200):
        cli = make_stack(stack)
        planted(cli.account, name)
        inject_fault("age", role=name, days=days)
        return cli

    return make


def test_prune_finds_an_old_role_asks_and_removes_it(make_aged_role):
    cli = make_aged_role("pruneaged", "pruneaged-old")
    dry = cli("--dry", "iam.prune")
    assert "pruneaged-old" in dry.out
    assert "iam.delete_role: pruneaged-old" in dry.err
    assert not (WORK / "iam" / "pruneaged").exists()
    asked = cli("iam.prune", "--roles", "pruneaged-old", ok=False)
    assert (asked.code, "pass --confirm pruneaged-old" in asked.err) == (1, True)
    other = cli("iam.prune", "--roles", "pruneaged-old", "--confirm", "another", ok=False)
    assert (other.code, "another is not among the roles to remove" in other.err) == (1, True)
    assert "pruneaged-old" in snapshot.read(cli.account).roles
    done = cli("iam.prune", "--confirm", "pruneaged-old")
    assert "pruneaged-old" not in snapshot.read(cli.account).roles
    (path,) = (WORK / "iam" / "pruneaged" / "removed").glob("*.json")
    assert f"invoke iam.restore {path}" in done.out
    assert json.loads(path.read_text())["kind"] == KIND
    cli("iam.restore", str(path))
    assert "pruneaged-old" in snapshot.read(cli.account).roles


def test_removal_with_a_lost_response_is_recognised_as_done(make_stack, inject_fault):
    """A removal whose last response was lost is done, and its file is named."""
    cli, name = make_stack("pruneend"), "kennel-pruneend-old"
    within(cli, name)
    inject_fault("age", role=name, days=200)
    inject_fault("fault", operation="DeleteRole", do="lost", times=9)
    assert cli("iam.prune", "--roles", name, "--confirm", name, ok=False).code != 0
    inject_fault("faults/clear")
    assert name not in snapshot.read(cli.account).roles
    (path,) = (WORK / "iam" / "pruneend" / "removed").glob("*.json")
    path.with_name("a.json").write_text("[" * 5000)  # a foreign file does not stop it
    words = f"{name} is removed already. Restore it: invoke iam.restore {path}"
    assert words in cli("--dry", "iam.prune").err
    assert json.loads(path.read_text())["finished"] is False
    assert words in cli("iam.prune").err
    assert json.loads(path.read_text())["finished"] is True
    assert words not in cli("iam.prune").err
    assert words in cli("iam.prune", "--roles", name, "--confirm", name).err
    inject_fault("fault", operation="CreateRole", do="error", code="EntityAlreadyExists", status=409)
    raced = cli("iam.restore", str(path), ok=False)
    assert (raced.code, "Run the same command again" in raced.err) == (1, True)
    inject_fault("faults/clear")
    assert f"{name} is restored" in cli("iam.restore", str(path)).out


OPEN = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": "*", "Action": "sts:AssumeRole"}]}


def test_tampered_file_restores_nothing(make_stack, tmp_path):
    cli = make_stack("prunetampered")
    path, settings = tmp_path / "f.json", cli.settings
    quiet = {
        "name": "kennel-prunetampered-x",
        "path": settings.role_path,
        "attached": [],
        "policies": {},
        "profiles": {},
    }
    own = f"arn:aws:iam::{settings.aws.account}:policy{settings.role_path}x"
    before = snapshot.read(cli.account)
    for more, words, wide in (
        ({"trust": OPEN}, "The role causes findings of severity high or above", True),
        ({"inline": {"a": ALL}}, "IAM-ADMIN-001", True),
        (
            {"attached": [own], "policies": {own: {"description": "", "tags": {}, "document": ALL}}},
            "IAM-ADMIN-001",
            True,
        ),
        ({"attached": ["arn:aws:iam::aws:policy/NoSuch"]}, "which AWS does not have. Nothing was changed", False),
        ({"attached": ["arn:aws:iam::999999999999:policy/x"]}, "which is not of account 123456789012", False),
    ):
        path.write_text(json.dumps(saved(**(quiet | more)).data))
        ran = cli("iam.restore", str(path), ok=False)
        assert (ran.code, words in ran.err) == (1, True), ran.said
        assert (
            "Cannot ask for confirmation without a terminal; pass --confirm kennel-prunetampered-x" in ran.err
        ) is wide
        dry = cli("--dry", "iam.restore", str(path), ok=wide)
        assert words in dry.err
        assert ("to make; nothing was touched" in dry.err) is wide
    after = snapshot.read(cli.account)
    assert (set(after.roles), set(after.policies)) == (set(before.roles), set(before.policies))


def test_too_wide_role_is_restored_only_by_its_name(make_stack, inject_fault):
    """Whatever was pruned can be restored, but a role that is too wide only on purpose."""
    cli, name = make_stack("prunewide"), "prunewide-old"
    iam = cli.account.client("iam")
    iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(TRUST))
    iam.put_role_policy(RoleName=name, PolicyName="all", PolicyDocument=json.dumps(ALL))
    inject_fault("age", role=name, days=200)
    cli("iam.prune", "--roles", name, "--confirm", name)
    (file,) = (WORK / "iam" / "prunewide" / "removed").glob(f"{name}-*.json")
    assert "pass --confirm" in cli("iam.restore", str(file), ok=False).err
    assert name not in snapshot.read(cli.account).roles
    assert f"{name} is restored" in cli("iam.restore", str(file), "--confirm", name).out
    assert snapshot.read(cli.account).roles[name].inline["all"].document == ALL
    iam.delete_role_policy(RoleName=name, PolicyName="all")  # other tests' audits would tell of it
    iam.delete_role(RoleName=name)


def test_prune_reports_trusts_that_name_the_role(make_stack, inject_fault):
    cli, name = make_stack("prunetrusted"), "kennel-prunetrusted-old"
    within(cli, name)
    inject_fault("age", role=name, days=200)
    who = snapshot.read(cli.account).roles[name].arn
    trust = {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Principal": {"AWS": who}, "Action": "sts:AssumeRole"}],
    }
    cli.account.client("iam").create_role(RoleName="prunetrusted-b", AssumeRolePolicyDocument=json.dumps(trust))
    assert f"prunetrusted-b: its trust policy names {name}" in cli("--dry", "iam.prune", "--roles", name).err
    cli.account.client("iam").delete_role(RoleName="prunetrusted-b")

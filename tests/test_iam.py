"""Roles: applied once, mended when changed, pruned; and an audit that finds what was planted."""

import json
import re
from datetime import UTC, date, datetime, timedelta

import pytest
from conftest import settings_of

from ops import ROOT, change
from ops.errors import OpsError
from ops.iam import plan, policies, rules, snapshot
from ops.iam.policies import Waiver
from ops.iam.snapshot import Managed, Principal, Snapshot, group, user

SETTINGS = settings_of()
WANTED = policies.wanted(SETTINGS)


def applied():
    """The account as iam.apply leaves it."""
    roles, found = {}, {}
    for want in WANTED:
        name = SETTINGS.role_name(want.role)
        arns = {policies.policy_arn(want.role, stem, SETTINGS): document for stem, document in want.permissions.items()}
        found |= {arn: Managed(arn, document, (("v1", True, datetime.now(UTC)),)) for arn, document in arns.items()}
        profiles = (name,) if want.for_instances else ()
        roles[name] = Principal(
            name, SETTINGS.role_arn(want.role), want.trust, {}, tuple(arns), "", profiles, datetime.now(UTC)
        )
    return Snapshot(roles, policies=found)


def with_role(name, statements=(), trust=None, **more):
    have = applied()
    document = {"Version": "2012-10-17", "Statement": list(statements)}
    have.roles[name] = Principal(
        name, f"arn:aws:iam::123456789012:role/{name}", trust, {"p": document}, created=datetime.now(UTC), **more
    )
    return have


def found(have):
    return [(f.severity, f.rule, f.principal) for f in rules.findings(have, WANTED, SETTINGS)]


def test_every_shipped_role_has_trust_and_permissions_within_aws_quotas():
    assert [want.role for want in WANTED] == [
        "auditor",
        "bootstrap",
        "ec2-box",
        "image-build",
        "lambda-invoke",
        "operator",
        "operator-infra",
        "sagemaker-execution",
    ]
    assert [want.role for want in WANTED if want.for_instances] == ["ec2-box"]


def test_the_shipped_policies_name_only_actions_that_iam_would_take():
    import re

    for want in WANTED:
        for document in want.permissions.values():
            for statement in document["Statement"]:
                assert all(re.fullmatch(r"[a-z0-9-]+:[A-Z]\w+", action) for action in statement["Action"]), statement[
                    "Sid"
                ]


def test_an_applied_account_is_left_alone_and_audits_clean():
    assert change.preview(plan.steps(applied(), WANTED, SETTINGS)) == []
    assert found(applied()) == []


def test_a_changed_policy_gets_a_new_version_and_the_oldest_of_five_goes_first():
    have, arn = applied(), policies.policy_arn("ec2-box", "permissions", SETTINGS)
    now = datetime.now(UTC)
    versions = tuple((f"v{n}", n == 9, now + timedelta(n)) for n in (9, 7, 5, 6, 8))
    have.policies[arn] = Managed(arn, {"Statement": []}, versions)
    steps = change.preview(plan.steps(have, WANTED, SETTINGS))
    assert [(s.call, s.args.get("VersionId")) for s in steps] == [
        ("delete_policy_version", "v5"),
        ("create_policy_version", None),
    ]


def test_an_instance_profile_that_a_crash_left_without_a_role_gets_it():
    from ops.errors import Refused

    name, made = SETTINGS.role_name("ec2-box"), []

    def answer(step):
        if step.call == "create_instance_profile":
            raise Refused("CreateInstanceProfile", "EntityAlreadyExists", "it is there")
        made.append(step.call)

    list(change.walk(plan.profile_steps(None, name, SETTINGS), answer))
    assert made == ["add_role_to_instance_profile"]


def test_what_a_role_holds_itself_is_taken_away_and_what_was_detached_is_drift():
    have, name = applied(), SETTINGS.role_name("auditor")
    role = have.roles[name]
    have.roles[name] = Principal(role.name, role.arn, role.trust, {"extra": {"Statement": []}}, created=role.created)
    assert {f.rule for f in rules.findings(have, WANTED, SETTINGS)} == {"IAM-DRIFT-001", "IAM-DRIFT-002"}
    assert [s.call for s in change.preview(plan.steps(have, WANTED, SETTINGS))] == [
        "attach_role_policy",
        "delete_role_policy",
    ]


def test_order_and_single_values_do_not_matter():
    one = {"Statement": [{"Sid": "A", "Effect": "Allow", "Action": ["s3:GetObject", "s3:PutObject"], "Resource": "x"}]}
    two = {"Statement": {"Resource": ["x"], "Effect": "Allow", "Sid": "A", "Action": ["s3:PutObject", "s3:GetObject"]}}
    assert policies.canonical(one) == policies.canonical({"Statement": [two["Statement"]]})


def test_an_unknown_placeholder_is_an_error(tmp_path):
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / "trust.json").write_text("{}")
    (tmp_path / "r" / "permissions.json").write_text('{"Resource": "${acount}"}')
    with pytest.raises(
        OpsError, match=r"r/permissions.json: unknown placeholder \$\{acount\}; known: account, region, stack, bucket"
    ):
        policies.wanted(SETTINGS, folder=tmp_path)
    (tmp_path / "r" / "permissions.json").write_text(json.dumps({"Statement": ["x" * 6200]}))
    with pytest.raises(OpsError, match="AWS takes 6144"):
        policies.wanted(SETTINGS, folder=tmp_path)


ALLOW = {"Effect": "Allow", "Resource": "*"}


@pytest.mark.parametrize(
    ("statements", "trust", "more", "expected"),
    [
        ([{**ALLOW, "Action": "*"}], None, {}, ("critical", "IAM-ADMIN-001")),
        ([{**ALLOW, "NotAction": "iam:*"}], None, {}, ("critical", "IAM-ADMIN-001")),
        ([], None, {"attached": ("arn:aws:iam::aws:policy/AdministratorAccess",)}, ("critical", "IAM-ADMIN-001")),
        ([], None, {"attached": ("arn:aws:iam::aws:policy/AmazonSageMakerFullAccess",)}, ("high", "IAM-ADMIN-002")),
        ([{**ALLOW, "Action": ["s3:*"]}], None, {}, ("high", "IAM-WILD-001")),
        ([{**ALLOW, "Action": "iam:PassRole"}], None, {}, ("high", "IAM-PASS-001")),
        ([{**ALLOW, "Action": "iam:Pass*", "Resource": "arn:aws:iam::1:role/x"}], None, {}, ("medium", "IAM-PASS-002")),
        (
            [],
            {"Statement": {"Effect": "Allow", "Principal": "*", "Action": "sts:AssumeRole"}},
            {},
            ("critical", "IAM-TRUST-001"),
        ),
        (
            [],
            {"Statement": [{"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::999999999999:root"}}]},
            {},
            ("high", "IAM-TRUST-002"),
        ),
    ],
)
def test_what_the_audit_finds(statements, trust, more, expected):
    assert found(with_role("planted", statements, trust, **more)) == [(*expected, "planted")]


@pytest.mark.parametrize(
    "statement",
    [
        {"Effect": "Deny", "Action": "*", "Resource": "*"},
        {"Effect": "Allow", "Action": "s3:*", "Resource": "arn:aws:s3:::mine/*"},
        {
            "Effect": "Allow",
            "Action": "iam:PassRole",
            "Resource": "arn:aws:iam::1:role/x",
            "Condition": {"StringEquals": {"iam:PassedToService": "ec2.amazonaws.com"}},
        },
        {"Effect": "Allow", "Action": "iam:GetRole", "Resource": "*"},
    ],
)
def test_what_the_audit_leaves_alone(statement):
    assert found(with_role("fine", [statement])) == []


def test_a_role_nobody_used_for_ninety_days_is_found_and_a_new_one_is_not():
    have = with_role("old")
    have.roles["old"] = Principal(
        "old", "arn:aws:iam::1:role/old", {"Statement": []}, created=datetime.now(UTC) - timedelta(days=200)
    )
    assert found(have) == [("medium", "IAM-USE-001", "old")]


def test_what_a_group_gives_its_user_counts():
    groups = {
        "g": {
            "GroupName": "g",
            "Arn": "arn:aws:iam::1:group/g",
            "GroupPolicyList": [{"PolicyName": "all", "PolicyDocument": {"Statement": {**ALLOW, "Action": "*"}}}],
        }
    }
    member = user(
        {"UserName": "u", "Arn": "arn:aws:iam::1:user/u", "GroupList": ["g"], "CreateDate": datetime.now(UTC)},
        {"g": group(groups["g"])},
    )
    have = applied()
    have.users["u"] = member
    assert found(have) == [("critical", "IAM-ADMIN-001", "u")]


def test_waivers_cover_expire_and_go_stale():
    finding = rules.Finding("high", "R", "role-a", "w", "r")
    tomorrow, yesterday = date.today() + timedelta(1), date.today() - timedelta(1)
    assert rules.waive([finding], [Waiver("R", "role-*", "why", "me", tomorrow)]) == []
    assert [f.rule for f in rules.waive([finding], [Waiver("R", "role-*", "why", "me", yesterday)])] == [
        "R",
        "WAIVER-EXPIRED",
    ]
    assert [f.rule for f in rules.waive([], [Waiver("R", "role-*", "why", "me", tomorrow)])] == ["WAIVER-STALE"]


def test_a_waiver_without_a_reason_is_none(tmp_path):
    (tmp_path / "w.toml").write_text('[[waiver]]\nrule = "R"\nprincipal = "p"\n')
    with pytest.raises(OpsError, match="A waiver has rule, principal, reason, owner and expires"):
        policies.waivers(tmp_path / "w.toml")


def test_apply_twice_and_mend_what_was_changed_by_hand(stacks):
    cli = stacks("roles")
    assert "30 to make" in cli("--dry", "iam.apply").err
    assert cli("iam.apply").out.strip() == "8 roles. 30 made"
    assert cli("iam.apply").out.strip() == "8 roles. 0 made"
    iam, name = cli.account.client("iam"), cli.settings.role_name("lambda-invoke")
    full = "arn:aws:iam::123456789012:policy/kennel/roles/kennel-roles-operator-models"
    iam.attach_role_policy(RoleName=name, PolicyArn=full)
    iam.update_assume_role_policy(
        RoleName=name,
        PolicyDocument=json.dumps(
            {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": "*", "Action": "sts:AssumeRole"}]}
        ),
    )
    audited = cli("iam.audit", "--json", ok=False)
    assert audited.code == 7
    assert {f["rule"] for f in json.loads(audited.out)} >= {"IAM-TRUST-001", "IAM-DRIFT-001", "IAM-DRIFT-002"}
    assert cli("iam.apply").out.strip() == "8 roles. 2 made"
    assert cli("iam.audit").code == 0
    assert "There is no role 'nobody'" in cli("iam.apply", "--role", "nobody", ok=False).err
    assert "--fail-on takes one of" in cli("iam.audit", "--fail-on", "all", ok=False).err


def test_the_audit_reads_the_account_in_one_call(stacks):
    from ops.aws import Account

    account = stacks("onecall").account
    before = Account.sent
    snapshot.read(account)
    assert Account.sent - before == 1


CALLED = re.compile(r'"(sagemaker|cloudwatch|application-autoscaling|codebuild|ecr|logs)",\s*"([a-z_]+)"')


def test_every_call_of_the_endpoints_commands_is_an_action_of_the_operator():
    """By name only; the resources are each policy's own matter."""
    import botocore.session
    from botocore import xform_name

    allowed = {
        action
        for path in (ROOT / "iam_policies" / "operator").glob("permissions-*.json")
        for statement in json.loads(path.read_text())["Statement"]
        for action in ([statement["Action"]] if isinstance(statement["Action"], str) else statement["Action"])
    }
    session, used = botocore.session.Session(), set()
    for path in (ROOT / "ops" / "sm").glob("*.py"):
        text = (
            path.read_text()
            .replace("scaling.SERVICE", '"application-autoscaling"')
            .replace("SERVICE,", '"application-autoscaling",')
        )
        for service, method in CALLED.findall(text):
            names = session.get_service_model(service).operation_names
            operation = next((name for name in names if xform_name(name) == method), None)
            if operation:
                used.add(f"{service}:{operation}")
    assert len(used) > 30
    assert used - allowed == set()

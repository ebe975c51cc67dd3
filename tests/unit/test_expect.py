"""What each role must and must not do holds; and every word of the policies that keeps something out is one that is missed."""

import copy
import shutil
from dataclasses import replace

import invoke
import pytest
from hypothesis import given
from hypothesis import settings as effort
from hypothesis import strategies as st

from iampolicy import actions
from iampolicy.errors import InputError
from iampolicy.policy.document import as_list
from ops.commands import iam_check
from ops.core import settings
from ops.core.errors import FINDINGS, OpsError
from ops.iam import expectations, roles
from ops.iam.check import find_disagreements
from tests.conftest import HOME, Cli, settings_of, write_settings

SETTINGS = settings_of()
WANTED = {want.role: want for want in roles.read_roles(SETTINGS)}
ROLES = sorted(WANTED)
EXPECTED = {role: expectations.read_expectations(role, SETTINGS) for role in ROLES}
# Actions with resources of their own that a statement still allows on all of them.
ON_ALL = {
    "cloudwatch:DescribeAlarms": "SageMaker and the operator list alarms; a list has no resource",
    "cloudwatch:GetMetricData": "of a data set of metrics only where one is named",
    "cloudwatch:PutMetricData": "on no data set of metrics, only on namespaces, which a condition names",
}


def failing(want, only=None):
    """The expectations, by list and entry, that do not hold for a role that is like this."""
    have = roles.build_applied_snapshot([want], SETTINGS)
    chosen = [one for one in EXPECTED[want.role] if only is None or one.kind in only]
    found = expectations.find_failures(chosen, have.roles[SETTINGS.build_role_name(want.role)], have)
    return {(one.expected.kind, one.expected.number, one.expected.action, one.expected.capped) for one in found}


def changed(document, number, change):
    """The document with its statement changed."""
    mutant = copy.deepcopy(document)
    change(mutant["Statement"][number])
    return mutant


def widened(statement):
    statement["Resource"] = "*"


def without(operator, key):
    def change(statement):
        del statement["Condition"][operator][key]
        if not statement["Condition"][operator]:
            del statement["Condition"][operator]

    return change


def harmless(statement):
    """A Deny that denies nothing."""
    statement["Action"] = "s3:ListAllMyBuckets"


def mutations(document):
    """(what, document) for each obvious way to widen each statement."""
    for number, statement in enumerate(document["Statement"]):
        sid = statement.get("Sid", number)
        if statement["Effect"] == "Deny":
            yield f"{sid} gone", changed(document, number, harmless)
            continue
        if statement.get("Resource", "*") != "*":
            yield f"{sid} on *", changed(document, number, widened)
        for operator, block in statement.get("Condition", {}).items():
            for key in block:
                yield f"{sid} without {key}", changed(document, number, without(operator, key))


PERMISSIONS = [
    pytest.param(role, stem, mutant, id=f"{role}-{stem}: {what}")
    for role, want in WANTED.items()
    for stem, policy in want.permissions.items()
    for what, mutant in mutations(policy.document)
]
BOUNDARIES = [
    pytest.param(role, mutant, id=f"{role}: {what}")
    for role, want in WANTED.items()
    for what, mutant in mutations(want.boundary.document)
]
TRUSTS = [
    pytest.param(role, mutant, id=f"{role}: {what}")
    for role, want in WANTED.items()
    for what, mutant in mutations(want.trust.document)
]


@pytest.mark.parametrize("role", ROLES)
def test_every_role_meets_ten_expectations_of_each_kind(role):
    assert failing(WANTED[role]) == set()
    calls = {
        kind: {(one.action, one.resource, str(one.context)) for one in EXPECTED[role] if one.kind == kind}
        for kind in expectations.LISTS
    }
    assert len(calls["allowed"]) >= 10
    assert len(calls["denied"]) >= 10
    assert {one.kind for one in EXPECTED[role]} == set(expectations.LISTS)


@pytest.mark.parametrize(("role", "stem", "mutant"), PERMISSIONS)
def test_widened_permissions_break_a_denied_expectation(role, stem, mutant):
    """Permissions that are widened break an expectation that something is denied."""
    want = WANTED[role]
    assert {kind for kind, *_ in failing(replace(want, permissions=want.permissions | {stem: mutant}))} == {"denied"}


@pytest.mark.parametrize(("role", "mutant"), BOUNDARIES)
def test_widened_boundary_breaks_a_capped_expectation(role, mutant):
    found = failing(replace(WANTED[role], boundary=mutant))
    assert found
    assert all(kind == "denied" and capped for kind, _, _, capped in found)


@pytest.mark.parametrize(("role", "mutant"), TRUSTS)
def test_widened_trust_breaks_a_may_not_assume_expectation(role, mutant):
    assert {kind for kind, *_ in failing(replace(WANTED[role], trust=mutant))} == {"may_not_assume"}


@pytest.mark.parametrize("role", ROLES)
def test_open_trust_breaks_a_may_not_assume_expectation(role):
    """A trust that names everybody breaks an expectation of who may not assume the role."""
    mutant = changed(
        WANTED[role].trust.document, 0, lambda statement: statement.update({"Principal": "*", "Action": "sts:*"})
    )
    mutant["Statement"][0].pop("Condition", None)
    assert {kind for kind, *_ in failing(replace(WANTED[role], trust=mutant))} == {"may_not_assume"}


@pytest.mark.parametrize("role", ROLES)
def test_every_removed_action_breaks_an_expectation(role):
    want, unmissed = WANTED[role], set()
    for stem, policy in want.permissions.items():
        document = policy.document
        for number, statement in enumerate(document["Statement"]):
            for action in as_list(statement["Action"]):
                kept = [one for one in as_list(statement["Action"]) if one != action]
                mutant = changed(document, number, lambda s, kept=kept: s.update({"Action": kept}))
                kinds = {"allowed"} if statement["Effect"] == "Allow" else {"denied"}
                if not failing(replace(want, permissions=want.permissions | {stem: mutant}), kinds):
                    unmissed.add(f"{statement['Sid']}: {action}")
    assert unmissed == set()


@pytest.mark.parametrize("role", ROLES)
def test_boundary_covers_all_that_the_permissions_allow(role):
    """A boundary denies nothing that the permissions allow."""
    want = WANTED[role]
    have = roles.build_applied_snapshot([want], SETTINGS)
    for policy in want.permissions.values():
        for statement in policy.document["Statement"]:
            context = {
                key.lower(): as_list(value)[0].replace("*", "x")
                for block in statement.get("Condition", {}).values()
                for key, value in block.items()
            }
            for action in as_list(statement["Action"]) if statement["Effect"] == "Allow" else []:
                fitting = [
                    arn for arn in as_list(statement["Resource"]) if arn == "*" or expectations.can_act_on(action, arn)
                ]
                for resource in fitting:
                    one = expectations.Expectation(
                        "allowed", 0, action, resource.replace("*", "x") if resource != "*" else "*", context=context
                    )
                    assert expectations.decide_by_boundary(
                        one, have.roles[SETTINGS.build_role_name(role)], have
                    ).allowed, (
                        statement["Sid"],
                        action,
                        resource,
                    )


@pytest.mark.parametrize("role", ROLES)
def test_policies_name_existing_actions_and_resources(role):
    """Policies name existing actions, on resources as narrow as AWS accepts."""
    want = WANTED[role]
    for policy in [*want.permissions.values(), want.boundary]:
        assert len(roles.dump_document(policy.document)) < roles.POLICY_CHARACTERS
        for statement in policy.document["Statement"]:
            for action in as_list(statement["Action"]):
                assert actions.list_matching_actions(action), action
    for policy in want.permissions.values():
        for statement in policy.document["Statement"]:
            if statement["Effect"] == "Allow" and statement["Resource"] == "*":
                loose = {one for one in as_list(statement["Action"]) if not actions.is_unscopable(one)} - ON_ALL.keys()
                assert not loose, f"{statement['Sid']}: name the resources of {loose}"


@pytest.mark.parametrize("role", ROLES)
def test_no_boundary_lets_a_role_escalate(role):
    """Of IAM and STS: reading; for operators passing roles and service-linked ones; for who applies roles, bounded ones."""
    for statement in WANTED[role].boundary.document["Statement"]:
        if statement["Effect"] == "Deny":
            continue
        for pattern in as_list(statement["Action"]):
            for action in actions.list_matching_actions(pattern):
                if action.startswith(("iam:", "sts:")) and actions.find_access_level(action) not in ("Read", "List"):
                    assert (
                        role in ("bootstrap", "ci-apply")
                        or (role.startswith("operator") and action in ("iam:PassRole", "iam:CreateServiceLinkedRole"))
                        or (role in ("auditor", "ci") and action.startswith("iam:Generate"))
                    ), action
                    assert statement["Resource"] != "*" or action.startswith("iam:Generate")


@given(
    st.from_regex(r"[a-z][a-z0-9-]{0,18}", fullmatch=True),
    st.from_regex(r"[a-zA-Z0-9-]{1,9}/[a-zA-Z0-9._-]{1,9}", fullmatch=True),
)
@effort(max_examples=15, deadline=None)
def test_expectations_hold_for_any_stack_and_repository(stack, repository):
    settings = SETTINGS.model_copy(
        update={
            "stack": SETTINGS.stack.model_copy(update={"name": stack}),
            "iam": SETTINGS.iam.model_copy(update={"repository": repository}),
        }
    )
    wanted = roles.read_roles(settings)
    have = roles.build_applied_snapshot(wanted, settings)
    for want in wanted:
        expected = expectations.read_expectations(want.role, settings)
        assert list(expectations.find_failures(expected, have.roles[settings.build_role_name(want.role)], have)) == []


@pytest.mark.parametrize("repository", ["*/*", "a/b:pull_request", "a", "a/b/c", "a/*", "${aws:username}/b"])
def test_repository_setting_names_one_repository(repository):
    with pytest.raises(OpsError, match=r"iam\.repository"):
        settings_of(text=f"iam: {{repository: '{repository}'}}")


GOOD = 'action = "s3:GetObject", resource = "arn:aws:s3:::b/k"'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("allowed = [", "r: "),
        ("allow = []", "r: there is no list 'allow'; there are allowed, denied, may_assume, may_not_assume"),
        ("denied = [7]", "r, denied 1: an entry must be a table in braces"),
        (f"denied = [{{{GOOD}}}, {{action = 's3:GetObject'}}]", "r, denied 2: it lacks 'resource'"),
        (f"allowed = [{{{GOOD}, capped = true}}]", "r, allowed 1: unknown field 'capped'"),
        (f"denied = [{{{GOOD}, capped = 'yes'}}]", "r, denied 1: capped must be true or false"),
        (f"denied = [{{{GOOD}, why = 7}}]", "r, denied 1: .* must be strings"),
        (f"denied = [{{{GOOD}, context = {{'s3:prefix' = true}}}}]", "r, denied 1: context must be a table of strings"),
        (f"denied = [{{{GOOD}, context = 's3:prefix'}}]", "r, denied 1: context must be a table of strings"),
        ("allowed = [{action = 's3:GetObjcet', resource = 'arn:aws:s3:::b/k'}]", "r, allowed 1: AWS has no action 's3:GetObjcet'. Did you mean s3:GetObject"),
        ("allowed = [{action = 's3:GetObject', resource = 'arn:aws:s3:::b'}]", "r, allowed 1: s3:GetObject does not act on 'arn:aws:s3:::b'"),
        ("allowed = [{action = 's3:ListBucket', resource = 'arn:aws:s3:::b/k'}]", "r, allowed 1: s3:ListBucket does not act on"),
        ("allowed = [{action = 's3:GetObject', resource = '*'}]", r"r, allowed 1: s3:GetObject does not act on '\*'"),
        ("allowed = [{action = 'ec2:DescribeVpcs', resource = 'arn:aws:ec2:us-east-1:123456789012:vpc/v'}]", r"but on \*"),
        ("allowed = [{action = ['s3:GetObject', 's3:Nothing'], resource = 'arn:aws:s3:::b/k'}]", "no action 's3:Nothing'"),
        (f"allowed = [{{{GOOD}, context = {{'ec2:osuser' = 'x'}}}}]", "no request for s3:GetObject has the condition key 'ec2:osuser'"),
        ("may_assume = [{by = 'somebody'}]", "r, may_assume 1: 'somebody' is neither a service"),
        ("may_assume = [{by = '{who}'}]", r"r: .*there is no \{who\} in names"),
        ("", "r has no entries: write what the role must and must not do"),
        ("allowed = []", "r has no entries"),
        ("allowed = [{action = [], resource = 'arn:aws:s3:::b/k'}]", "r, allowed 1: action is an empty list"),
        ("may_assume = [{by = '{who}'}]\n[names]\nwho = 7", "r: names must be a table of strings"),
        ("names = 'x'", "r: names must be a table of strings"),
    ],
)  # fmt: skip
def test_invalid_expectation_is_reported_by_place(text, said):
    with pytest.raises(InputError, match=said):
        expectations.parse_expectations(text, "r")


def test_names_and_action_lists_are_expanded():
    text = 'allowed = [{action = ["s3:GetObject", "s3:PutObject"], resource = "{b}/k"}]\n[names]\nb = "arn:aws:s3:::b"'
    found = expectations.parse_expectations(text, "r")
    assert [(one.number, one.action, one.resource) for one in found] == [
        (1, "s3:GetObject", "arn:aws:s3:::b/k"),
        (1, "s3:PutObject", "arn:aws:s3:::b/k"),
    ]


def offline():
    return Cli(write_settings(HOME / "expect.yaml", HOME / "nowhere", "expect"))


def test_check_command_needs_no_aws():
    import json

    rows = json.loads(offline()("iam.check", "--json").out)["roles"]
    assert [row["role"] for row in rows] == ROLES
    assert all(row["failed"] == 0 and row["allowed"] >= 10 and row["denied"] >= 10 for row in rows)
    assert "There is no role 'operatr'" in offline()("iam.check", "--role", "operatr", ok=False).err


@pytest.fixture
def folder(tmp_path, monkeypatch):
    shutil.copytree(roles.FOLDER, tmp_path / "roles")
    monkeypatch.setattr(roles, "FOLDER", tmp_path / "roles")
    monkeypatch.setattr(roles.read_roles, "__defaults__", ("", tmp_path / "roles"))
    return tmp_path / "roles"


def ran(capsys, **words):
    loaded = invoke.Config(project_location=settings.ROOT)
    loaded.load_project()
    code = 0
    try:
        iam_check.check(invoke.Context(loaded), **words)
    except invoke.Exit as stop:
        code = stop.code
    return code, capsys.readouterr().out


def test_widened_policy_is_reported_with_its_statement(folder, capsys):
    file = folder / "lambda-invoke" / "permissions.json"
    file.write_text(file.read_text().replace("/images/*", "/*"))
    code, out = ran(capsys, role="lambda-invoke")
    assert code == FINDINGS
    assert "s3:GetObject arn:aws:s3:::kennel-demo-123456789012-us-east-1/jobs/1/model.tar.gz" in out
    assert "allowed by ReadPictures of kennel-demo-lambda-invoke" in out


def test_role_without_expectations_is_an_error(folder, capsys):
    (folder / "ci" / "expect.toml").unlink()
    with pytest.raises(InputError, match="ci/expect.toml is missing"):
        expectations.read_expectations("ci", SETTINGS)


class Simulator:
    """An account whose simulator answers as we would, but for the actions in `contrary`."""

    settings = SETTINGS

    def __init__(self, contrary=()):
        self.contrary, self.asked = contrary, []

    def list_all(self, service, call, key, **args):
        from iampolicy.policy.evaluate import Request, decide_request

        assert (service, call, key) == ("iam", "simulate_principal_policy", "EvaluationResults")
        self.asked.append(args)
        have = roles.build_applied_snapshot([WANTED["operator-infra"]], SETTINGS)
        role = next(role for role in have.roles.values() if role.arn == args["PolicySourceArn"])
        context = {entry["ContextKeyName"]: entry["ContextKeyValues"][0] for entry in args["ContextEntries"]}
        for action in args["ActionNames"]:
            (resource,) = args["ResourceArns"]
            effect = decide_request(Request(role.caller, action, resource, context), have.rights(role)).effect
            yield {"EvalActionName": action, "EvalDecision": "explicitDeny" if action in self.contrary else effect}


def test_remote_check_groups_requests_and_lists_differences():
    """AWS is asked once per resource and context, and its differing results are listed."""
    have, expected = roles.build_applied_snapshot([WANTED["operator-infra"]], SETTINGS), EXPECTED["operator-infra"]
    agreeing = Simulator()
    assert find_disagreements(agreeing, "operator-infra", expected, have) == []
    calls = [one for one in expected if one.is_call]
    assert len(agreeing.asked) == len({(one.resource, str(sorted(one.context.items()))) for one in calls}) < len(calls)
    ports = [
        e for asked in agreeing.asked for e in asked["ContextEntries"] if e["ContextKeyName"].endswith("remoteport")
    ]
    assert {entry["ContextKeyType"] for entry in ports} == {"numeric"}
    (row,) = find_disagreements(Simulator({"ec2:DeleteKeyPair"}), "operator-infra", expected, have)
    assert (row["action"], row["ours"], row["theirs"]) == ("ec2:DeleteKeyPair", "allowed", "explicitDeny")

"""What a run needs of a role: by the evaluator, by a removal that is played for real, and the page that says so."""

import json
import re
import shlex

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from invoke import Context
from invoke.parser import Parser

import tasks
from iampolicy.policy.document import parse_policy
from iampolicy.policy.evaluate import Caller, Request, Rights, decide_request
from ops.commands import iam_usage
from ops.core.errors import OpsError
from ops.core.paths import ROOT
from ops.iam import roles, usage
from ops.iam.usage import RecordedRequest, Use
from sandbox import request_log
from sandbox.request_log import RequestLog
from tests.conftest import Cli, settings_of, write_settings
from tests.e2e import fault_actions, replays, whole_job

ARN = "arn:aws:iam::123456789012:role/kennel/x/kennel-x-r"
ONE, TWO = "arn:aws:s3:::b/one", "arn:aws:s3:::b/two"


def statement(action, resource="*", **more):
    return {"Sid": "A", "Effect": "Allow", "Action": action, "Resource": resource} | more


def doc(*statements, name="arn:aws:iam::123456789012:policy/kennel/x/kennel-x-r"):
    return parse_policy(name, {"Version": "2012-10-17", "Statement": list(statements)})


def asked(action="s3:GetObject", resource=ONE, step="data.pull", role="r", allowed=True, line=0, **context):
    return RecordedRequest(role, action, resource, context, step, allowed, line)


def request(action="s3:GetObject", resource=ONE, **context):
    return Request(Caller(ARN), action, resource, context)


def uses(*statements, run=(), expected=(), boundary=None):
    return list(usage.compute_uses("r", ARN, Rights((doc(*statements),), boundary), run, expected))


def describe_uses(*statements, **more):
    return [(use.action, use.why, use.requests, use.step) for use in uses(*statements, **more)]


@pytest.mark.parametrize(
    ("statements", "run", "expected"),
    [
        ([statement("s3:GetObject")], [asked()], [("s3:GetObject", "a run", 1, "data.pull")]),
        ([statement("s3:GetObject")], [], [("s3:GetObject", "nothing", 0, "")]),
        ([statement("s3:GetObject")], [asked(allowed=False)], [("s3:GetObject", "nothing", 0, "")]),
        ([statement("s3:GetObject")], [asked(role="other")], [("s3:GetObject", "nothing", 0, "")]),
        ([statement("s3:GetObject", TWO)], [asked()], [("s3:GetObject", "nothing", 0, "")]),
        (
            [statement(["s3:GetObject", "s3:PutObject"])],
            [asked(), asked("s3:putobject", step="data.push"), asked(resource=TWO, step="sm.train")],
            [("s3:GetObject", "a run", 2, "data.pull"), ("s3:PutObject", "a run", 1, "data.push")],
        ),
        # Two that allow the same: without either the other still does.
        (
            [statement("s3:GetObject"), statement("s3:GetObject", ONE)],
            [asked()],
            [("s3:GetObject", "nothing", 0, "")] * 2,
        ),
        (
            [statement("s3:GetObject"), statement("s3:GetObject", ONE)],
            [asked(), asked(resource=TWO, step="sm.train")],
            [("s3:GetObject", "a run", 1, "sm.train"), ("s3:GetObject", "nothing", 0, "")],
        ),
        ([statement(["s3:Get*", "s3:GetObject"])], [asked()], [("s3:get*", "nothing", 0, ""), ("s3:GetObject", "nothing", 0, "")]),
        ([statement("s3:Get*")], [asked()], [("s3:get*", "a run", 1, "data.pull")]),
        # Neither denials nor NotAction give an action.
        ([statement("s3:GetObject") | {"Effect": "Deny"}], [asked()], []),
        ([{"Sid": "A", "Effect": "Allow", "NotAction": "iam:*", "Resource": "*"}], [asked()], []),
        # A condition that the recorded keys meet, or not.
        (
            [statement("s3:ListBucket", Condition={"StringLike": {"s3:prefix": "a/*"}})],
            [asked("s3:ListBucket", **{"s3:prefix": "b/1"}), asked("s3:ListBucket", step="sm.train", **{"s3:prefix": "a/1"})],
            [("s3:ListBucket", "a run", 1, "sm.train")],
        ),
    ],
)  # fmt: skip
def test_need_of_an_action_comes_from_the_record(statements, run, expected):
    assert describe_uses(*statements, run=run) == expected


def test_action_outside_the_boundary_is_not_needed():
    narrow = doc(statement("s3:PutObject"))
    assert describe_uses(statement("s3:GetObject"), run=[asked()], boundary=narrow) == [
        ("s3:GetObject", "nothing", 0, "")
    ]


def test_expectations_are_counted_apart():
    (use,) = uses(statement("s3:GetObject"), expected=[request(), request(resource=TWO), request("s3:PutObject")])
    assert (use.why, use.requests, use.expected) == ("expect.toml", 0, 2)
    (use,) = uses(statement("s3:GetObject"), run=[asked(line=7)], expected=[request()])
    assert (use.why, use.requests, use.expected, use.line, use.resource) == ("a run", 1, 1, 7, ONE)


ACTIONS = ("s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:Get*", "s3:*")
some_actions = st.lists(st.sampled_from(ACTIONS), min_size=1, max_size=3, unique=True)
some_statements = st.lists(
    st.builds(
        lambda effect, action, resource: {"Effect": effect, "Action": action, "Resource": resource},
        st.sampled_from(("Allow", "Allow", "Allow", "Deny")),
        some_actions,
        st.sampled_from((ONE, TWO, "arn:aws:s3:::b/*")),
    ),
    min_size=1,
    max_size=4,
)
some_requests = st.lists(st.tuples(st.sampled_from(ACTIONS[:3]), st.sampled_from((ONE, TWO))), max_size=6)


@given(some_statements, some_requests)
@settings(max_examples=300, deadline=None)
def test_needed_action_is_denied_once_removed(raw, run):
    """Against policies written without the action, and not against the module's own removal."""
    raw = [one | {"Sid": f"S{number}"} for number, one in enumerate(raw)]
    before = Rights((doc(*raw),))
    recorded_ = [asked(action, resource, step=f"{action} {resource}") for action, resource in run]
    found = {(use.statement, use.action.lower()): use for use in uses(*raw, run=recorded_)}
    allows = [(one["Sid"], action.lower()) for one in raw if one["Effect"] == "Allow" for action in one["Action"]]
    assert sorted(found) == sorted(allows)
    for sid, action in allows:
        less = [one | {"Action": [a for a in one["Action"] if (one["Sid"], a.lower()) != (sid, action)]} for one in raw]
        left = [one for one in less if one["Action"]]
        after = Rights((doc(*left),) if left else ())
        lost = [
            f"{a} {r}"
            for a, r in run
            if decide_request(request(a, r), before).allowed and not decide_request(request(a, r), after).allowed
        ]
        use = found[sid, action]
        assert use.requests == len(lost)
        assert use.step == (lost[0] if lost else "")


def line(principal="role/kennel/x/kennel-x-r", action="s3:GetObject", effect="allowed", step="data.pull", **more):
    return json.dumps(
        {"principal": f"arn:aws:iam::123456789012:{principal}", "action": action, "resource": ONE, "context": {}, "effect": effect,
         "step": step, "time": "now"} | more
    )  # fmt: skip


def test_record_is_reduced_to_distinct_requests_of_roles(tmp_path):
    file = tmp_path / "requests.jsonl"
    file.write_text(
        "\n".join(
            (
                line("user/administrator"),
                line(),
                line(step="sm.train"),
                line(effect="implicitDeny"),
                line(action="s3:PutObject"),
            )
        )
    )
    found = usage.read_request_record(file)
    assert [(one.role, one.action, one.step, one.allowed, one.line) for one in found] == [
        ("kennel-x-r", "s3:GetObject", "data.pull", True, 1),
        ("kennel-x-r", "s3:GetObject", "data.pull", False, 3),
        ("kennel-x-r", "s3:PutObject", "data.pull", True, 4),
    ]
    with pytest.raises(OpsError, match=r"no request record .* invoke sandbox\.up demo"):
        usage.read_request_record(tmp_path / "none")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (line() + '\n{"principal": "arn\n' + line() + "\n", ":2 is not a request that the local AWS recorded"),
        ('{"a": 1}\n', ":1 is not a request that the local AWS recorded: it has no principal. Remove that line."),
        (line(context={"k": 7}) + "\n", ":1 is not a request .* context.k must be a string"),
        (line(context=[]) + "\n", ":1 is not a request .* context must be an object"),
        ("7\n", ":1 is not a request .* it must be an object"),
        ("[" * 100_000 + "\n", ":1 is not a request"),
        ("\udcff", "is not a request record of the local AWS"),
    ],
)
def test_invalid_record_is_reported_by_place(tmp_path, text, said):
    file = tmp_path / "requests.jsonl"
    file.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(OpsError, match=said):
        usage.read_request_record(file)
    with pytest.raises(OpsError, match="is not a request record of the local AWS"):
        usage.read_request_record(tmp_path)


def test_unfinished_last_line_is_skipped(tmp_path, capsys):
    """The local AWS may be writing it just now, or was killed."""
    file = tmp_path / "requests.jsonl"
    file.write_text(line() + "\n" + line(action="s3:PutObject")[:-20])
    assert [one.action for one in usage.read_request_record(file)] == ["s3:GetObject"]
    assert f"{file}:2: the last line is incomplete" in capsys.readouterr().err


@pytest.fixture
def cli(tmp_path):
    """A stack without a sandbox: its record is a file."""
    return Cli(write_settings(tmp_path / "x.yaml", tmp_path, "x"))


def test_usage_commands_read_a_record(cli, tmp_path):
    file = tmp_path / "requests.jsonl"
    auditor = "role/kennel/x/kennel-x-auditor"
    who = {"action": "iam:GetAccountSummary", "resource": "*", "step": "iam.audit"}
    file.write_text("\n".join((line(auditor, **who), line(auditor), line(auditor, effect="implicitDeny"), line())))
    rows = cli("iam.record", "--role", "auditor").out
    assert "iam:GetAccountSummary" in rows
    assert "denied" in rows
    denied = json.loads(cli("iam.record", "--denied", "--json").out)
    assert [one["role"] for one in denied] == ["kennel-x-auditor"]
    assert "The record has no such request" in cli("iam.record", "--step", "net.up").out
    assert "There is no role 'nope' in iam_policies/" in cli("iam.record", "--role", "nope", ok=False).err
    found = json.loads(cli("iam.needed", "--role", "auditor", "--json").out)
    by_run = [(use["action"], use["step"], use["resource"]) for use in found if use["why"] == "a run"]
    assert by_run == [("iam:GetAccountSummary", "iam.audit", "*")]
    assert {use["why"] for use in found} == {"a run", "expect.toml"}
    suggested = json.loads(cli("iam.suggest", "auditor").out)
    assert {action for one in suggested["Statement"] for action in one["Action"]} == {
        "iam:GetAccountSummary",
        "s3:GetObject",
    }
    assert "has no requests of kennel-x-operator" in cli("iam.suggest", "operator", ok=False).err
    roles = [
        f"arn:aws:iam::123456789012:role/{'r' * 40}{'abcdefghijklmnopqrstuvwxyz'[n % 26] * (n + 1)}" for n in range(60)
    ]
    file.write_text("\n".join(line(auditor, action="iam:GetRole", resource=one, step="x") for one in roles))
    assert "AWS allows 6,144. Split it" in cli("iam.suggest", "auditor").err


def test_unneeded_action_exits_with_7(monkeypatch):
    idle = Use("kennel-x-r", "p", "A", "s3:GetObject")
    monkeypatch.setattr(
        usage, "list_uses", lambda *args: [idle, Use("kennel-x-r", "p", "A", "s3:PutObject", 2, "data.push", ONE)]
    )
    monkeypatch.setattr("ops.core.settings.load", lambda config: None)
    answer = iam_usage.needed.body.__wrapped__(Context())
    assert answer.code == 7
    assert "s3:GetObject" in answer.text
    assert "s3:PutObject" not in answer.text


STEPS = list(whole_job.steps())


def test_steps_use_every_action_and_existing_commands():
    """Every fault action is used in the job, and every command of it exists."""
    assert sorted({one.does[1:] for one in STEPS if one.does.startswith("*")}) == sorted(fault_actions.FAULT_ACTIONS)
    for one in STEPS:
        if not one.does.startswith("*"):
            words = shlex.split(one.does.format(folder="f", digits="d", bucket="b", job="j", removed="r"))
            assert Parser(contexts=tasks.ns.to_contexts()).parse_argv(words), one


def test_varying_ids_are_not_compared():
    subnet = "arn:aws:ec2:us-east-1:123456789012:subnet/subnet-0a1b2c3d4e5f60718"
    assert replays.alike(subnet) == "arn:aws:ec2:us-east-1:*:subnet/subnet-*"
    assert replays.alike(subnet) != replays.alike(subnet.replace("subnet-0", "vpc-0"))
    assert replays.alike("arn:aws:sagemaker:::model/kennel-rights-5xx") == "arn:aws:sagemaker:::model/kennel-rights-5xx"


@pytest.mark.parametrize(
    ("broke", "denied", "resource", "silent", "right"),
    [
        (3, 3, ONE, "", True),
        (2, 2, ONE, "", False),
        (3, None, "", "", False),
        (None, 3, ONE, "", False),
        (3, 3, TWO, "", False),
        (None, 3, ONE, "goes on", True),
        (3, 3, ONE, "goes on", False),
        (None, None, "", "goes on", False),
    ],
)
def test_replay_matches_its_prediction(broke, denied, resource, silent, right):
    removal = replays.Removal("operator", "permissions.json", "A", "s3:GetObject", 3, ONE, silent)
    assert replays.Outcome(removal, broke, denied, resource).as_predicted is right


def test_excluded_removals_are_still_shipped():
    """A reason for what is gone would be believed for ever."""
    wanted = {want.role: want.permissions for want in roles.read_roles(settings_of())}
    given = [
        (role, one["Sid"], action)
        for role, policies in wanted.items()
        for one_policy in policies.values()
        for one in one_policy.raw_statements
        for action in one["Action"]
    ]
    for role, start in replays.SILENT:
        assert any(r == role and a.startswith(start) for r, _, a in given), (role, start)
    for role, sid, start in replays.UNDRAWN:
        assert any((r, s) == (role, sid) and a.startswith(start) for r, s, a in given), (role, sid, start)
    assert replays.undrawn("ec2-box", Use("r", "p", "KeepCheckpoints", "s3:PutObject", 1))
    assert not replays.undrawn("ec2-box", Use("r", "p", "WriteJobs", "s3:PutObject", 1))


def test_draw_depends_on_its_seed_and_is_in_order():
    possible = [replays.Removal("r", "f", "A", f"s3:{n}", 100 - n, ONE) for n in range(50)]
    chosen = replays.drawn(possible, 5, 1)
    assert chosen == replays.drawn(possible, 5, 1) != replays.drawn(possible, 5, 2)
    assert [one.step for one in chosen] == sorted(one.step for one in chosen)
    assert len(replays.drawn(possible, 99, 0)) == 50


def test_removed_action_leaves_no_empty_statement(tmp_path):
    """An action is taken out of a copy, and a statement without actions goes with it."""
    (tmp_path / "r").mkdir()
    path = tmp_path / "r" / "permissions.json"
    path.write_text(
        json.dumps({"Statement": [statement(["s3:GetObject", "s3:PutObject"]), statement(["s3:GetObject"], Sid="B")]})
    )
    replays.take_away(tmp_path, replays.Removal("r", path.name, "A", "s3:getobject", 0, ONE))
    replays.take_away(tmp_path, replays.Removal("r", path.name, "B", "s3:GetObject", 0, ONE))
    assert [one["Action"] for one in json.loads(path.read_text())["Statement"]] == [["s3:PutObject"]]


def test_page_lists_the_shipped_actions():
    """invoke bench.rights writes it; until then it must not list what is gone, or leave out what is new."""
    page = (ROOT / "docs" / "needed-actions.md").read_text()
    rows = re.findall(r"^\| ([\w-]+) \| (\w+) \| `([\w:*-]+)` \|", page, re.M)
    shipped = [
        (want.role, one["Sid"], action)
        for want in roles.read_roles(settings_of())
        for one_policy in want.permissions.values()
        for one in one_policy.raw_statements
        if one["Effect"] == "Allow"
        for action in one["Action"]
    ]
    assert sorted(rows) == sorted(shipped)
    assert "| nothing |" not in page.partition("| role | statement |")[2]


def test_manual_calls_belong_to_no_command(tmp_path):
    """What roles do meanwhile, in jobs and functions, belongs to the command before; a person's own calls do not."""
    log = RequestLog(tmp_path / "requests.jsonl")
    for principal, agent in (
        ("arn:aws:iam::1:role/r", "Boto3/1 kennel/sm.train"),
        ("arn:aws:iam::1:role/job", "Boto3/1"),
        ("arn:aws:iam::1:user/administrator", "Boto3/1"),
        ("arn:aws:iam::1:user/administrator", "Boto3/1 kennel/iam.apply"),
        ("arn:aws:iam::1:role/job", "Boto3/1"),
    ):
        log.add(principal, "s3:GetObject", "*", {}, "allowed", agent)
    assert [one["step"] for one in request_log.read(log.path)] == ["sm.train", "sm.train", "", "iam.apply", "iam.apply"]

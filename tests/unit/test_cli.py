"""How commands talk: what is asked before something is lost, what goes where, how foreign errors are worded."""

import io
import json
import sys
from types import SimpleNamespace

import invoke
import pytest

from ops.core import output, plan, running, task
from ops.core.errors import OpsError
from tests.conftest import settings_of


def context(dry=False):
    return invoke.Context(invoke.Config(overrides={"run": {"dry": dry}}))


ACCOUNT = SimpleNamespace(settings=settings_of())
NAMED = "Stack demo, account 123456789012, region us-east-1:\n"


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("typed", "given", "goes_on"),
    [("kennel-x\n", "", True), ("kennel-y\n", "", False), ("y\n", "", False), ("", "kennel-x", True)],
)
def test_live_endpoint_needs_its_name_typed(monkeypatch, typed, given, goes_on):
    monkeypatch.setattr(sys, "stdin", Terminal(typed))
    if goes_on:
        task.request_confirmation(context(), ACCOUNT, "This deletes it.", name="kennel-x", given=given)
    else:
        with pytest.raises(OpsError, match="Declined") as declined:
            task.request_confirmation(context(), ACCOUNT, "This deletes it.", name="kennel-x", given=given)
        assert declined.value.code == 3


def test_yes_does_not_confirm_a_named_deletion():
    with pytest.raises(OpsError, match="pass --confirm kennel-x"):
        task.request_confirmation(context(), ACCOUNT, "This deletes it.", yes=True, name="kennel-x")
    with pytest.raises(OpsError, match="--confirm says 'kennel-y', but this would be lost: 'kennel-x'"):
        task.request_confirmation(context(), ACCOUNT, "This deletes it.", name="kennel-x", given="kennel-y")


@pytest.mark.parametrize(("typed", "goes_on"), [("y\n", True), ("yes\n", True), ("\n", False), ("no\n", False)])
def test_other_deletions_need_a_yes(monkeypatch, typed, goes_on):
    monkeypatch.setattr(sys, "stdin", Terminal(typed))
    if goes_on:
        task.request_confirmation(context(), ACCOUNT, "This removes it.")
    else:
        with pytest.raises(OpsError, match="Declined"):
            task.request_confirmation(context(), ACCOUNT, "This removes it.")


@pytest.mark.parametrize(
    ("dry", "how"),
    [(True, {}), (False, {"yes": True}), (False, {"name": "x", "given": "x"})],
    ids=["dry", "yes", "confirm"],
)
def test_deletion_names_its_stack_once_without_a_question(dry, how, capsys, monkeypatch):
    monkeypatch.setattr(running, "announced", "")
    task.request_confirmation(context(dry), ACCOUNT, "This removes it.", **how)
    task.run_plan(context(dry=True), ACCOUNT, lambda: (yield plan.Change("ec2", "delete_vpc", {}, why="why")))
    assert capsys.readouterr().err.startswith(f"{NAMED}- ec2.delete_vpc: why\n")


@pytest.mark.parametrize(
    ("calls", "named"),
    [(["delete_vpc"], True), (["modify_vpc", "delete_vpc"], True), (["create_vpc", "delete_vpc"], False), ([], False)],
    ids=["removes", "changes and removes", "adds and removes", "nothing"],
)
def test_plan_that_only_removes_names_its_stack(calls, named, capsys, monkeypatch):
    monkeypatch.setattr(running, "announced", "")
    task.run_plan(context(dry=True), ACCOUNT, lambda: (plan.Change("ec2", call, {}, why="why") for call in calls))
    assert capsys.readouterr().err.startswith(NAMED) is named


def test_dry_run_asks_nothing():
    task.request_confirmation(context(dry=True), ACCOUNT, "This removes it.", name="x")


def test_results_go_to_stdout_and_json_is_valid(capsys):
    @task.task()
    def look(c, json=False):
        """Look."""
        output.say("looking")
        return task.Result({"a": 1}, "one a")

    look(context())
    look(context(), json=True)
    out, err = capsys.readouterr()
    first, rest = out.split("\n", 1)
    assert (first, json.loads(rest), err) == ("one a", {"a": 1}, "looking\nlooking\n")


def test_result_code_is_the_exit_code():
    @task.task()
    def look(c):
        """Look."""
        return task.Result({}, "bad", code=7)

    with pytest.raises(invoke.Exit) as ended:
        look(context())
    assert ended.value.code == 7


def test_tables_keep_brackets_and_do_not_wrap_in_pipes():
    text = output.format_table(("a", "b"), [("[red]x[/red]", "y" * 300)])
    assert "[red]x[/red]" in text
    assert len(text.splitlines()) == 3


HOSTILE = "a\x1b[31mred\x1b[0m\x07 b\u202ec\x85\r\n\tend"
HARMLESS = "a\\x1b[31mred\\x1b[0m\\x07 b\\u202ec\\x85\n\tend"


def test_control_characters_are_escaped_in_all_output(capsys):
    """A policy, a role's name in an error, a log line: all of it others may have written."""
    task.print_result(task.Result({}, HOSTILE), as_json=False)
    output.say(HOSTILE)
    said = capsys.readouterr()
    assert (said.out, said.err) == (HARMLESS + "\n", HARMLESS + "\n")
    assert str(OpsError(HOSTILE)) == HARMLESS
    assert "\x1b" not in output.format_table(("what",), [(HOSTILE,)])
    assert "a\\x1b[31mred" in output.format_table(("what",), [(HOSTILE,)])


def test_unexpected_errors_keep_their_traceback():
    from botocore.exceptions import ClientError, ConnectTimeoutError, ParamValidationError

    assert isinstance(task.explain_error(ParamValidationError(report="x")), ParamValidationError)
    assert isinstance(task.explain_error(ValueError("x")), ValueError)
    assert "Cannot reach AWS" in str(task.explain_error(ConnectTimeoutError(endpoint_url="u")))
    refused = task.explain_error(
        ClientError({"Error": {"Code": "NoSuchEntity", "Message": "Role zz not found"}}, "PutRolePolicy")
    )
    assert str(refused) == "AWS refused PutRolePolicy: NoSuchEntity: Role zz not found"


def test_dry_demo_and_dry_sandbox_change_nothing(tmp_path, pictures):
    from tests.conftest import Cli, write_settings

    command = Cli(write_settings(tmp_path / "s.yaml", tmp_path / "box", "dry"))
    assert "would start" in command("--dry", "sandbox.up").out
    assert "invoke sm.train --instances 2" in command("--dry", "demo", "--data", str(pictures)).out
    assert not (tmp_path / "box").exists()
